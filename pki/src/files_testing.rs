//! A file layer in memory that fails where a test says so, and remembers what a power cut would leave.
//!
//! Every call that changes something has a number, from 0. [`FaultFiles::fail_when`] makes chosen calls fail as a full or
//! broken disk does; [`FaultFiles::crash_after`] gives the disk as a machine that lost power after some call finds it:
//! all that was synced, and of what was only appended whatever the test lets through.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::files::{Files, Log};

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Files::write_atomic`]
    WriteAtomic,
    /// [`Files::rename`]
    Rename,
    /// [`Files::remove`]
    Remove,
    /// [`Files::open_log`] of a file that is not there yet.
    Create,
    /// [`Log::append`]
    Append,
    /// [`Log::sync`]
    Sync,
    /// [`Log::truncate`]
    Truncate,
}

/// How a call fails. Its change is not made, but for what an append had already written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What the system says: [`Errno::NOSPC`], [`Errno::IO`].
    pub errno: Errno,
    /// The bytes of an append that were written before it failed.
    pub kept: usize,
}

impl Fault {
    /// The disk is full; of an append `kept` bytes found room.
    #[must_use]
    pub const fn no_space(kept: usize) -> Self {
        Self {
            errno: Errno::NOSPC,
            kept,
        }
    }

    /// The disk fails; of an append nothing is written.
    #[must_use]
    pub const fn io() -> Self {
        Self {
            errno: Errno::IO,
            kept: 0,
        }
    }
}

type Judge = Box<dyn Fn(usize, Call) -> Option<Fault> + Send>;
type Contents = BTreeMap<PathBuf, Content>;

/// A [`Files`] in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    files: Contents,
    /// The files before each call so far.
    past: Vec<Contents>,
    judge: Option<Judge>,
}

/// Logs only grow between syncs, so what is not synced is always an end.
#[derive(Debug, Clone, Default)]
struct Content {
    synced: Vec<u8>,
    unsynced: Vec<u8>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, calls) = (self.files.keys(), self.past.len());
        write!(f, "Disk({files:?}, {calls} calls)")
    }
}

impl FaultFiles {
    /// An empty disk that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls changed something or failed to: the number of the next one.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.disk().past.len()
    }

    /// From now on a call fails for which `judge`, given its number and kind, returns a fault.
    pub fn fail_when(&self, judge: impl Fn(usize, Call) -> Option<Fault> + Send + 'static) {
        self.disk().judge = Some(Box::new(judge));
    }

    /// From now on every call succeeds.
    pub fn heal(&self) {
        self.disk().judge = None;
    }

    /// The disk after a power cut that came when `calls` calls had been made: of each log's unsynced end what
    /// `survives` makes of it. This disk stays as it is.
    #[must_use]
    pub fn crash_after(&self, calls: usize, survives: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let disk = self.disk();
        let files = disk.past.get(calls).unwrap_or(&disk.files);
        let found = files.iter().map(|(path, content)| {
            let synced = [&*content.synced, &survives(&content.unsynced)].concat();
            let unsynced = Vec::new();
            (path.clone(), Content { synced, unsynced })
        });
        Self(Arc::new(Mutex::new(Disk {
            files: found.collect(),
            ..Disk::default()
        })))
    }

    /// The bytes that a power cut after `calls` calls may keep or lose.
    #[must_use]
    pub fn unsynced_after(&self, calls: usize) -> usize {
        let disk = self.disk();
        let files = disk.past.get(calls).unwrap_or(&disk.files);
        files.values().map(|content| content.unsynced.len()).sum()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Counts a call, and says whether it fails.
    fn begin(&mut self, call: Call) -> Result<(), Fault> {
        let number = self.past.len();
        self.past.push(self.files.clone());
        self.judge
            .as_ref()
            .and_then(|judge| judge(number, call))
            .map_or(Ok(()), Err)
    }

    fn content(&mut self, path: &Path) -> io::Result<&mut Content> {
        self.files
            .get_mut(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.errno.into()
    }
}

impl Files for FaultFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        let content = disk.content(path)?;
        Ok([&*content.synced, &content.unsynced].concat())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin(Call::WriteAtomic)?;
        let content = Content {
            synced: bytes.to_vec(),
            unsynced: Vec::new(),
        };
        disk.files.insert(path.to_owned(), content);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin(Call::Rename)?;
        let content = disk.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin(Call::Remove)?;
        disk.files.remove(path);
        Ok(())
    }

    // Directories are no part of the model: a path's file is there or not.
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let mut disk = self.disk();
        if !disk.files.contains_key(path) {
            disk.begin(Call::Create)?;
            disk.files.insert(path.to_owned(), Content::default());
        }
        Ok(Box::new(FaultLog {
            files: self.clone(),
            path: path.to_owned(),
        }))
    }
}

#[derive(Debug)]
struct FaultLog {
    files: FaultFiles,
    path: PathBuf,
}

impl Log for FaultLog {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        self.files.read(&self.path)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.files.disk();
        let begun = disk.begin(Call::Append);
        let kept = begun.map_or_else(|fault| fault.kept.min(bytes.len()), |()| bytes.len());
        disk.content(&self.path)?
            .unsynced
            .extend_from_slice(&bytes[..kept]);
        Ok(begun?)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.begin(Call::Sync)?;
        let content = disk.content(&self.path)?;
        content.synced.append(&mut content.unsynced);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.begin(Call::Truncate)?;
        let content = disk.content(&self.path)?;
        content.synced.append(&mut content.unsynced);
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        content.synced.resize(len, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SystemFiles;

    /// What both layers do alike.
    fn behaves_as_a_file_layer(files: &dyn Files, dir: &Path) {
        let (armed, done) = (dir.join("armed"), dir.join("done"));
        let missing = files.read(&armed).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        files.write_atomic(&armed, b"one", 0o600).unwrap();
        files.write_atomic(&armed, b"two", 0o600).unwrap();
        files.rename(&armed, &done).unwrap();
        let second = files.rename(&armed, &done).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::NotFound);
        assert_eq!(files.read(&done).unwrap(), b"two");
        files.remove(&done).unwrap();
        files.remove(&done).unwrap();

        let mut log = files.open_log(&dir.join("log")).unwrap();
        log.append(b"abc").unwrap();
        log.truncate(2).unwrap();
        log.append(b"d").unwrap();
        log.sync().unwrap();
        assert_eq!(log.read_all().unwrap(), b"abd");
        assert_eq!(files.read(&dir.join("log")).unwrap(), b"abd");
    }

    #[test]
    fn the_twin_behaves_as_the_real_thing() {
        let dir = tempfile::tempdir().unwrap();
        behaves_as_a_file_layer(&SystemFiles, dir.path());
        behaves_as_a_file_layer(&FaultFiles::new(), dir.path());
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_what_the_test_lets_through() {
        let files = FaultFiles::new();
        let path = Path::new("log");
        let mut log = files.open_log(path).unwrap();
        log.append(b"safe").unwrap();
        log.sync().unwrap();
        log.append(b"lost").unwrap();
        let at = |calls, kept: usize| {
            let crashed = files.crash_after(calls, |unsynced| unsynced[..kept.min(unsynced.len())].to_vec());
            crashed.read(path).unwrap()
        };
        assert_eq!((at(2, 0), at(2, 3)), (b"".to_vec(), b"saf".to_vec()));
        assert_eq!((at(4, 0), at(4, 1)), (b"safe".to_vec(), b"safel".to_vec()));
        assert_eq!((files.unsynced_after(3), files.unsynced_after(4)), (0, 4));
        assert!(files.crash_after(0, <[u8]>::to_vec).read(path).is_err());
    }

    #[test]
    fn a_chosen_call_fails_until_healed() {
        let files = FaultFiles::new();
        let mut log = files.open_log(Path::new("log")).unwrap();
        files.fail_when(|number, call| match call {
            Call::Append if number >= 1 => Some(Fault::no_space(1)),
            _ => None,
        });
        let full = log.append(b"abc").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(log.read_all().unwrap(), b"a");
        log.truncate(0).unwrap();
        files.heal();
        log.append(b"abc").unwrap();
        assert_eq!((log.read_all().unwrap(), files.calls()), (b"abc".to_vec(), 4));
    }
}
