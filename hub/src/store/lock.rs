//! One hub on one directory: an advisory lock that ends with its process, however that ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use holdfast_pki::files::open_lock;
use rustix::fs::{FlockOperation, flock};

/// The lock file's name.
const FILE: &str = "lock";

/// The proof that nobody else works in a directory. Dropping it gives the directory free.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    /// flock(2) is bound to the open file; closing it unlocks.
    _file: File,
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works in it.
    #[error("another hub already serves from {}; stop it first", .dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("cannot lock {}; the directory must exist and belong to the hub's user", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DirLock {
    /// Locks `dir`, which exists, through a file `lock` in it. Does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process, or another part of this one, holds it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(FILE);
        let file = open_lock(&path).map_err(|source| LockError::Io {
            path: path.clone(),
            source,
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _file: file,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { dir: dir.to_owned() }),
            Err(errno) => Err(LockError::Io {
                path,
                source: errno.into(),
            }),
        }
    }

    /// Whether another process works in `dir`. Leaves no trace there: it may be a backup that nobody should write to.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(FILE)) else {
            return false;
        };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// The locked directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hub_on_the_directory_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DirLock::is_held(dir.path()));
        let first = DirLock::acquire(dir.path()).unwrap();
        assert!(DirLock::is_held(dir.path()));
        let refused = DirLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another hub already serves from"), "{refused}");
        drop(first);
        assert!(!DirLock::is_held(dir.path()));
        DirLock::acquire(dir.path()).unwrap();
    }
}
