//! The guard's file: what it says, where it is, and the renames that decide.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;
use holdfast_proto::ids::UniqueId;
use serde::{Deserialize, Serialize};

use crate::reconcile::Snapshot;

/// In the agent's state directory.
const GUARD_DIR: &str = "guard";

const FORMAT: u32 = 1;

/// A pending commit, as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardFile {
    format: u32,
    /// Which commit.
    pub id: UniqueId,
    /// When it is undone, in milliseconds on the boot clock.
    pub deadline_ms: u64,
    /// The boot whose clock that is. Another one is an undo by itself.
    pub boot_id: String,
    /// Which agent wrote this.
    pub agent_version: String,
    /// What is put back, in this order.
    pub snapshots: Vec<Snapshot>,
}

impl GuardFile {
    /// A commit that must be confirmed within `time`.
    #[must_use]
    pub fn new(id: UniqueId, time: Duration, snapshots: Vec<Snapshot>, clock: &dyn Clock) -> Self {
        let deadline = clock.since_boot().saturating_add(time);
        Self {
            format: FORMAT,
            id,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            boot_id: clock.boot_id(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshots,
        }
    }

    /// Whether it is to be undone: its time is over, or the machine was rebooted.
    #[must_use]
    pub fn is_over(&self, clock: &dyn Clock) -> bool {
        clock.boot_id() != self.boot_id || clock.since_boot() >= Duration::from_millis(self.deadline_ms)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`GuardFileError`] if it is not there or makes no sense.
    pub fn read(files: &dyn Files, path: &Path) -> Result<Self, GuardFileError> {
        let bytes = files
            .read(path)
            .map_err(|source| GuardFileError::access(path, source))?;
        let malformed = |detail| GuardFileError::Malformed {
            path: path.to_owned(),
            detail,
        };
        let file: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if file.format != FORMAT {
            return Err(malformed(format!(
                "format {}, this agent knows {FORMAT}",
                file.format
            )));
        }
        Ok(file)
    }

    /// Writes it, durably, as the armed file at `place`.
    ///
    /// # Errors
    /// [`GuardFileError::Access`].
    pub fn write(&self, files: &dyn Files, place: &GuardPath) -> Result<(), GuardFileError> {
        let path = place.at(State::Armed);
        let bytes = serde_json::to_vec(self).expect("text keys only");
        files
            .create_dir(&place.dir)
            .and_then(|()| files.write_atomic(&path, &bytes, 0o600))
            .map_err(|source| GuardFileError::access(&path, source))
    }
}

/// Where a pending commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A change may have been made; nobody has confirmed it.
    Armed,
    /// The change stays.
    Confirmed,
    /// The change is being undone.
    Undoing,
    /// The change was undone.
    Undone,
}

impl State {
    /// Every one, in the order in which a file can go through them.
    pub const ALL: [Self; 4] = [Self::Armed, Self::Confirmed, Self::Undoing, Self::Undone];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Confirmed => "confirmed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }
}

/// The place of one commit's file, whatever its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardPath {
    dir: PathBuf,
    id: UniqueId,
}

impl GuardPath {
    /// The place of `id` under the agent's state directory.
    #[must_use]
    pub fn new(state_dir: &Path, id: UniqueId) -> Self {
        Self {
            dir: state_dir.join(GUARD_DIR),
            id,
        }
    }

    /// The place and state that a path names: `.../guard/<id>.<state>`. `None` for any other path.
    #[must_use]
    pub fn parse(path: &Path) -> Option<(Self, State)> {
        let id = path.file_stem()?.to_str()?.parse().ok()?;
        let suffix = path.extension()?.to_str()?;
        let state = State::ALL.into_iter().find(|state| state.suffix() == suffix)?;
        Some((
            Self {
                dir: path.parent()?.to_owned(),
                id,
            },
            state,
        ))
    }

    /// Every file of a pending or decided commit under the agent's state directory, in order of id.
    ///
    /// # Errors
    /// [`GuardFileError::Access`] if the directory cannot be read. One that is not there has no files.
    pub fn all(state_dir: &Path) -> Result<Vec<(Self, State)>, GuardFileError> {
        let dir = state_dir.join(GUARD_DIR);
        let denied = |source| GuardFileError::access(&dir, source);
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(denied)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(Self::parse(&entry.map_err(denied)?.path()));
        }
        found.sort_by_key(|(place, _)| place.id);
        Ok(found)
    }

    /// Which commit.
    #[must_use]
    pub const fn id(&self) -> UniqueId {
        self.id
    }

    /// The file in that state.
    #[must_use]
    pub fn at(&self, state: State) -> PathBuf {
        self.dir.join(format!("{}.{}", self.id, state.suffix()))
    }

    /// The agent's state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The state it is in; `None` if there is no file.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        // In the order of the renames: a file that moves on while we look is seen in its later state.
        State::ALL.into_iter().find(|&state| self.at(state).exists())
    }

    /// Takes it from one state to another. Of several who try one succeeds.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] inside [`GuardFileError::Access`] if it was no longer in state `from`.
    pub fn advance(&self, files: &dyn Files, from: State, to: State) -> Result<(), GuardFileError> {
        let path = self.at(from);
        files
            .rename(&path, &self.at(to))
            .map_err(|source| GuardFileError::access(&path, source))
    }

    /// Removes what is left of a decided commit.
    ///
    /// # Errors
    /// [`GuardFileError::Access`].
    pub fn forget(&self, files: &dyn Files) -> Result<(), GuardFileError> {
        for state in [State::Confirmed, State::Undone] {
            let path = self.at(state);
            files
                .remove(&path)
                .map_err(|source| GuardFileError::access(&path, source))?;
        }
        Ok(())
    }

    /// Takes the file in `state` into hold as soon as nobody else holds it. Blocks the thread: for the guard's process, which
    /// has nothing else to do, and whom the agent's looks must not turn away.
    ///
    /// # Errors
    /// [`GuardFileError::Access`].
    pub fn wait_and_hold(&self, state: State) -> Result<Hold, GuardFileError> {
        let path = self.at(state);
        File::open(&path)
            .and_then(|file| file.lock().map(|()| Hold { _file: file }))
            .map_err(|source| GuardFileError::access(&path, source))
    }

    /// Takes the file in `state` into hold; `None` if somebody else who lives holds it.
    ///
    /// # Errors
    /// [`GuardFileError::Access`], with [`io::ErrorKind::NotFound`] if the file is not in that state.
    pub fn hold(&self, state: State) -> Result<Option<Hold>, GuardFileError> {
        let path = self.at(state);
        let file = File::open(&path).map_err(|source| GuardFileError::access(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(source)) => Err(GuardFileError::access(&path, source)),
        }
    }
}

/// The right to work on a commit's file, until this is dropped or its process ends.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// Why a guard's file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum GuardFileError {
    /// The file layer refused.
    #[error("cannot use {}", .path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It says something else than it should.
    #[error("{} is no guard file: {detail}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl GuardFileError {
    fn access(path: &Path, source: io::Error) -> Self {
        Self::Access {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file was not where it was looked for.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Access { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::clock::TestClock;
    use holdfast_pki::files::SystemFiles;

    fn armed(time: Duration, clock: &dyn Clock) -> (tempfile::TempDir, GuardPath, GuardFile) {
        let dir = tempfile::tempdir().unwrap();
        let place = GuardPath::new(dir.path(), [3; 16].into());
        let file = GuardFile::new(place.id(), time, vec![], clock);
        file.write(&SystemFiles, &place).unwrap();
        (dir, place, file)
    }

    #[test]
    fn it_is_over_at_its_deadline_or_in_another_boot() {
        let clock = TestClock::at(1_000);
        let (_dir, place, written) = armed(Duration::from_secs(60), &clock);
        let file = GuardFile::read(&SystemFiles, &place.at(State::Armed)).unwrap();
        assert_eq!(file, written);
        clock.advance(Duration::from_millis(59_999));
        assert!(!file.is_over(&clock));
        clock.set_wall(0);
        assert!(!file.is_over(&clock), "the wall clock does not matter");
        clock.advance(Duration::from_millis(1));
        assert!(file.is_over(&clock));
        let clock = TestClock::at(1_000);
        clock.reboot("boot-2");
        assert!(
            file.is_over(&clock),
            "although less time has passed since that boot"
        );
    }

    #[test]
    fn of_confirm_and_undo_one_wins() {
        let (_dir, place, _) = armed(Duration::ZERO, &TestClock::at(0));
        place
            .advance(&SystemFiles, State::Armed, State::Confirmed)
            .unwrap();
        let late = place
            .advance(&SystemFiles, State::Armed, State::Undoing)
            .unwrap_err();
        assert!(late.is_not_found());
        assert_eq!(place.state(), Some(State::Confirmed));
        place.forget(&SystemFiles).unwrap();
        assert_eq!(place.state(), None);
    }

    #[test]
    fn a_file_is_held_by_one_and_through_renames() {
        let (_dir, place, _) = armed(Duration::ZERO, &TestClock::at(0));
        let hold = place.hold(State::Armed).unwrap();
        assert!(hold.is_some() && place.hold(State::Armed).unwrap().is_none());
        place.advance(&SystemFiles, State::Armed, State::Undoing).unwrap();
        assert!(place.hold(State::Undoing).unwrap().is_none());
        drop(hold);
        assert!(place.hold(State::Undoing).unwrap().is_some());
    }

    #[test]
    fn files_are_found_by_name_and_others_passed_over() {
        let (dir, place, _) = armed(Duration::ZERO, &TestClock::at(0));
        std::fs::write(dir.path().join("guard/notes.txt"), "").unwrap();
        std::fs::write(place.at(State::Armed).with_extension("armed.part"), "").unwrap();
        assert_eq!(GuardPath::all(dir.path()).unwrap(), [(place, State::Armed)]);
        assert_eq!(GuardPath::all(&dir.path().join("elsewhere")).unwrap(), []);
    }

    #[test]
    fn another_format_and_unknown_fields_are_refused() {
        let (_dir, place, written) = armed(Duration::ZERO, &TestClock::at(0));
        let path = place.at(State::Armed);
        let text = serde_json::to_string(&written).unwrap();
        for wrong in [
            text.replace("\"format\":1", "\"format\":2"),
            text.replacen('{', "{\"more\":1,", 1),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = GuardFile::read(&SystemFiles, &path).unwrap_err();
            assert!(matches!(error, GuardFileError::Malformed { .. }), "{error}");
        }
    }
}
