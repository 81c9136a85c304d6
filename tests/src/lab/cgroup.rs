//! A control group of a node's own, which nspawn insists on where no systemd of the host makes one.
//!
//! Works on a pure version 2 tree, on version 1, and on both mixed: nspawn wants one in systemd's own hierarchies only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait;

const TREE: &str = "/sys/fs/cgroup";
const PREFIX: &str = "holdfast-lab";

static SWEPT: Once = Once::new();

/// A cgroup is busy until its last process is buried.
const LIMIT: Duration = Duration::from_secs(10);

/// The group's directory in each of systemd's hierarchies. Removed when dropped.
#[derive(Debug)]
pub(super) struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Makes it below our own. It is named by `unique`, a path with a random part.
    pub(super) fn create(unique: &Path) -> Result<Self> {
        let name = format!("{PREFIX}{}", unique.to_string_lossy().replace('/', "-"));
        let own = fs::read_to_string("/proc/self/cgroup").context("cannot read our cgroups")?;
        let parents = hierarchies(&own, Path::new(TREE).join("unified").is_dir());
        // Before the first of our own, which is deserted too until its node has joined it.
        SWEPT.call_once(|| parents.iter().for_each(|parent| sweep(parent)));
        let mut cgroup = Self(Vec::new());
        for parent in parents {
            let path = parent.join(&name);
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
            cgroup.0.push(path);
        }
        if cgroup.0.is_empty() {
            bail!("no cgroup of systemd's in /proc/self/cgroup: {own}");
        }
        Ok(cgroup)
    }

    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in &self.0 {
            let gone = wait::until("the cgroup to be free", LIMIT, || {
                remove(path).map_err(|error| format!("{}: {error}", path.display()))
            });
            if let Err(error) = gone {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Removes what worlds left that were killed: groups, unlike all else of a world, do not end with it.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_deserted(&entry.path()) {
            // Someone else may be sweeping too.
            let _ = remove(&entry.path());
        }
    }
}

/// Whether no process is in a group, nor in those below it.
fn is_deserted(path: &Path) -> bool {
    let no_process = fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty());
    let mut below = fs::read_dir(path).into_iter().flatten().flatten();
    no_process && below.all(|entry| !entry.path().is_dir() || is_deserted(&entry.path()))
}

/// Our own directories in systemd's hierarchies, from the lines of /proc/self/cgroup (cgroups(7)).
fn hierarchies(own: &str, mixed: bool) -> Vec<PathBuf> {
    let below = |dir: &str, path: &str| Path::new(TREE).join(dir).join(path.trim_start_matches('/'));
    own.lines()
        .filter_map(|line| line.split_once(':').map(|(_, rest)| rest))
        .filter_map(|rest| match rest.split_once(':')? {
            ("name=systemd", path) => Some(below("systemd", path)),
            ("", path) if mixed => Some(below("unified", path)),
            ("", path) => Some(below("", path)),
            _ => None,
        })
        .filter(|path| path.is_dir())
        .collect()
}

/// Removes a cgroup and those that the node made in it.
fn remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_version_2_has_one_hierarchy() {
        assert_eq!(hierarchies("0::/\n", false), [PathBuf::from("/sys/fs/cgroup/")]);
    }
}
