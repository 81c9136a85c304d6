//! Directories that are made whole or not at all: built beside their place, then renamed into it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use holdfast_pki::files::Files;

/// Refuses a directory that is there and not empty.
///
/// # Errors
/// What it is that stands in the way.
pub(crate) fn must_be_free(dir: &Path, what: &str) -> anyhow::Result<()> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!(
                "the {what} {} is not empty; nothing was changed. If an earlier attempt was cut short, move it away first",
                dir.display()
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look into the {what} {}", dir.display())),
    }
}

/// The path from the root on.
///
/// # Errors
/// An empty path.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

/// Where `dir` is built by the command `by`: this process's own, for the name carries its id.
///
/// # Errors
/// A path that names no directory.
pub(crate) fn beside(dir: &Path, by: &str) -> anyhow::Result<PathBuf> {
    let dir = absolute(dir)?;
    let name = dir
        .file_name()
        .with_context(|| format!("{} cannot be made", dir.display()))?;
    Ok(dir.with_file_name(format!(".{}.{by}-{}", name.to_string_lossy(), std::process::id())))
}

/// Renames what was built into its place.
///
/// # Errors
/// The file system's.
pub(crate) fn put_in_place(part: &Path, place: &Path, files: &dyn Files) -> anyhow::Result<()> {
    // rename(2) takes the place of an empty directory.
    files
        .rename(part, &absolute(place)?)
        .with_context(|| format!("cannot put {} in place", place.display()))
}
