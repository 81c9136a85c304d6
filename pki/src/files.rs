//! How durable state reaches the disk: the file layer as an argument.
//!
//! Two shapes are enough: a small file that is replaced whole ([`Files::write_atomic`]), and a log that only grows
//! ([`Files::open_log`]). Nothing else in the workspace writes what must survive a power cut.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

/// Where durable state is kept.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// The whole file; [`io::ErrorKind::NotFound`] if there is none.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Replaces `path` by `bytes` with permissions `mode`: after a crash at any moment the old or the new content is there
    /// whole, and once this returned, the new one is. (Written beside it, fsync, rename, fsync of the directory.)
    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;

    /// Renames within one directory, replacing what was there, and syncs the directory. Of two racing renames of the same
    /// file one wins and the other gets [`io::ErrorKind::NotFound`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file and syncs its directory; a file that is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory that only its owner can enter, and those above it; one that is there is left as it is.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens a log for appending, making it if need be (mode 0600).
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>>;
}

/// An append-only file.
pub trait Log: Send + std::fmt::Debug {
    /// All that it holds.
    fn read_all(&mut self) -> io::Result<Vec<u8>>;
    /// Adds `bytes` at the end. On an error any part of them may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once all that was appended is on the disk (fdatasync(2)). After an error nothing is known of what was
    /// appended since the last success: the caller must not retry the sync, but cut back and write again.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes and syncs.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        // One name per target: what a crash left behind is overwritten by the next write.
        let mut part = name.to_owned();
        part.push(".part");
        let part = path.with_file_name(part);
        let mut file = open_part(&part, mode)?;
        let written = (|| {
            file.set_len(0)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, path)
        })();
        if written.is_err() {
            // On a full disk the part would keep the last free blocks.
            remove_if_there(&part)?;
        }
        written?;
        sync_parent(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        sync_parent(to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        remove_if_there(path)?;
        sync_parent(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        sync_parent(path)?;
        Ok(Box::new(SystemLog(file)))
    }
}

/// Reads a file that somebody else may have put there: a regular one of at most `max` bytes. A pipe or a device in its place
/// neither holds the reader up nor fills its memory.
///
/// # Errors
/// [`io::Error`]: [`io::ErrorKind::InvalidInput`] for what is no regular file, [`io::ErrorKind::FileTooLarge`] for one with
/// more bytes.
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        let told = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let told = format!("it has more than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, told));
    }
    Ok(bytes)
}

/// Opens the file by whose lock (flock(2)) a directory is used by one at a time, making it if need be.
///
/// # Errors
/// What the system says, if the directory is not there or not ours to write.
pub fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The part that is to take a file's place, held by this process alone: two commands at once write one after the other.
fn open_part(part: &Path, mode: u32) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(part)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // Whoever held it before has renamed it meanwhile: then it is no part any more, but the file.
        match std::fs::symlink_metadata(part) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new or renamed entry is durable only once its directory was synced (fsync(2), notes).
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[derive(Debug)]
struct SystemLog(File);

impl Log for SystemLog {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        use std::io::Seek;
        self.0.rewind()?;
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)?;
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_whole_and_keeps_others_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        std::fs::write(dir.path().join("ledger.json.part"), "left by a crash").unwrap();
        SystemFiles.write_atomic(&path, b"one", 0o600).unwrap();
        SystemFiles.write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(SystemFiles.read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_writers_at_once_each_writes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.json");
        std::thread::scope(|scope| {
            for n in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        SystemFiles.write_atomic(path, &[n; 5000], 0o600).unwrap();
                    }
                });
            }
        });
        let left = SystemFiles.read(&path).unwrap();
        assert!(left.len() == 5000 && left.iter().all(|byte| *byte == left[0]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_read_has_a_bound_and_no_device_or_pipe_holds_the_reader_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("four"), "four").unwrap();
        assert_eq!(read_bounded(&path("four"), 4).unwrap(), b"four");
        let kind = |path: &Path, max| read_bounded(path, max).unwrap_err().kind();
        assert_eq!(kind(&path("four"), 3), io::ErrorKind::FileTooLarge);
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(kind(&path("sparse"), 100), io::ErrorKind::FileTooLarge);
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        assert_eq!(kind(&path("zero"), 100), io::ErrorKind::InvalidInput);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert_eq!(kind(&path("pipe"), 100), io::ErrorKind::InvalidInput);
        assert_eq!(kind(dir.path(), 100), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&path("none"), 100), io::ErrorKind::NotFound);
    }

    #[test]
    fn of_two_renames_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (armed, done) = (dir.path().join("armed"), dir.path().join("done"));
        SystemFiles.write_atomic(&armed, b"x", 0o600).unwrap();
        SystemFiles.rename(&armed, &done).unwrap();
        let second = SystemFiles.rename(&armed, &dir.path().join("other"));
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_log_holds_what_was_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = SystemFiles.open_log(&path).unwrap();
        log.append(b"abc").unwrap();
        log.truncate(2).unwrap();
        log.append(b"d").unwrap();
        log.sync().unwrap();
        assert_eq!(SystemFiles.open_log(&path).unwrap().read_all().unwrap(), b"abd");
    }
}
