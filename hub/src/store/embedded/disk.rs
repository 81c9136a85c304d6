//! The journal as a file: opened and read through, appended to, and cut back after a failed write.

use std::io;
use std::path::PathBuf;

use holdfast_pki::files::{Files, Log};

use super::OpenError;
use super::replay::replay;
use crate::store::Unavailable;
use crate::store::index::Index;
use crate::store::journal::{self, BadHeader};

/// The journal, open for appending.
#[derive(Debug)]
pub(super) struct Disk {
    log: Box<dyn Log>,
    path: PathBuf,
    /// How much of the file is on the disk for certain, and is all that counts.
    synced: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The last write succeeded.
    Well,
    /// The last write failed; the file ends at `synced`.
    Failing,
    /// The last write failed and so did cutting it off: behind `synced` there may be records that were not acknowledged.
    Uncut,
}

/// Why a batch was not written.
#[derive(Debug, Clone)]
pub(super) enum WriteFailure {
    /// Nothing of it is in the file.
    Refused(Unavailable),
    /// Some or all of it may come back after a crash.
    Unknown(Unavailable),
}

impl Disk {
    /// Opens the journal at `path`, making it if there is none, and carries its records out on `index`.
    pub(super) fn open(files: &dyn Files, path: PathBuf, index: &mut Index) -> Result<Self, OpenError> {
        match Self::read_through(files, &path, index) {
            Ok((log, synced)) => Ok(Self {
                log,
                path,
                synced,
                state: State::Well,
            }),
            Err(Failed::Io(source)) => Err(OpenError::Io { path, source }),
            Err(Failed::Header(BadHeader::Magic)) => Err(OpenError::NotAJournal { path }),
            Err(Failed::Header(BadHeader::Format(found))) => Err(OpenError::Format { path, found }),
            Err(Failed::Damaged { offset, reason }) => Err(OpenError::Damaged { path, offset, reason }),
        }
    }

    fn read_through(
        files: &dyn Files,
        path: &std::path::Path,
        index: &mut Index,
    ) -> Result<(Box<dyn Log>, u64), Failed> {
        let bytes = match files.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Whole or not at all, so that a header is never torn.
                files.write_atomic(path, &journal::header(), 0o600)?;
                journal::header().to_vec()
            }
            read => read?,
        };
        journal::check_header(&bytes).map_err(Failed::Header)?;
        let good = replay(&bytes, index)?;
        let torn = bytes.len() as u64 - good;
        if torn > 0 {
            let path = path.display();
            tracing::warn!(%path, offset = good, torn, "cut an interrupted write off the journal");
        }
        let mut log = files.open_log(path)?;
        // Also where nothing is torn: what was read may have been written but not synced by a process that was killed,
        // and readers are about to see it.
        log.truncate(good)?;
        Ok((log, good))
    }

    /// How much of the file is on the disk for certain.
    pub(super) const fn synced(&self) -> u64 {
        self.synced
    }

    /// Adds `batch` and returns once it is on the disk.
    pub(super) fn write(&mut self, batch: &[u8]) -> Result<(), WriteFailure> {
        match self.try_write(batch) {
            Ok(()) => {
                self.synced += batch.len() as u64;
                if self.state != State::Well {
                    tracing::info!(path = %self.path.display(), "the journal can be written again");
                }
                self.state = State::Well;
                Ok(())
            }
            Err((error, state)) => {
                let path = self.path.display();
                if self.state == State::Well {
                    tracing::error!(%path, %error, "the journal cannot be written; the store refuses changes");
                }
                let before = std::mem::replace(&mut self.state, state);
                let reason = Unavailable {
                    reason: format!(
                        "cannot write {path}: {error}; free space or mend the disk, writing then goes on by itself"
                    ),
                };
                // Left from an earlier batch, the uncut part holds nothing of this one.
                Err(match (before, state) {
                    (State::Well | State::Failing, State::Uncut) => WriteFailure::Unknown(reason),
                    _ => WriteFailure::Refused(reason),
                })
            }
        }
    }

    /// On failure also the state in which the file was left.
    fn try_write(&mut self, batch: &[u8]) -> Result<(), (io::Error, State)> {
        if self.state == State::Uncut {
            self.cut().map_err(|error| (error, State::Uncut))?;
            self.state = State::Failing;
        }
        // A failed sync is not tried again: the kernel may have dropped the pages and would report success.
        let written = self.log.append(batch).and_then(|()| self.log.sync());
        written.map_err(|error| match self.cut() {
            Ok(()) => (error, State::Failing),
            Err(_also) => (error, State::Uncut),
        })
    }

    fn cut(&mut self) -> io::Result<()> {
        self.log.truncate(self.synced)
    }
}

/// As [`OpenError`], before the path is added.
pub(super) enum Failed {
    Io(io::Error),
    Header(BadHeader),
    Damaged { offset: u64, reason: String },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
