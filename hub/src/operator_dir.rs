//! The operator's directory: a context for each fleet, and which one is meant when none is named.
//!
//! `contexts/<name>/` holds what lets a person into one fleet, what signs for them there, and what their machine has
//! verified of it ([`ContextDir`]); `current` names a context.

mod context;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_pki::authority::RefuseAuthority;
use holdfast_pki::files::Files;
use holdfast_proto::ids::Name;

pub use context::{Context, ContextDir, SeenRelease};

const CURRENT_FILE: &str = "current";

/// An operator's directory.
#[derive(Debug, Clone)]
pub struct OperatorDir {
    path: PathBuf,
    files: Arc<dyn Files>,
}

/// Why the operator's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorDirError {
    /// It holds no context.
    #[error(
        "there is no context in {}: give --operator-dir, make a hub with `holdfast init`, or join one with `holdfast context add`",
        .dir.display()
    )]
    NoContext {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds several, and none is chosen.
    #[error("{} holds several contexts ({names}): give --context, or choose one with `holdfast context use`", .dir.display())]
    WhichContext {
        /// The directory.
        dir: PathBuf,
        /// Their names.
        names: String,
    },
    /// It holds none of this name.
    #[error("there is no context '{name}' in {}: `holdfast context list` shows those there are", .dir.display())]
    UnknownContext {
        /// The directory.
        dir: PathBuf,
        /// The name.
        name: Name,
    },
    /// A file that should be there is not.
    #[error("{} is missing: restore it from a copy, or make the context anew with `holdfast context add`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// `read`, `write`, `lock` or `remove`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not ours.
    #[error("{} cannot be understood", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The authority that is kept does not hold together.
    #[error("the authority in {} is not the one that was verified here", .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RefuseAuthority,
    },
    /// A credential is not PEM.
    #[error("{} holds no PEM of the expected kind: `holdfast context login` makes it anew", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
}

impl OperatorDir {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, files: Arc<dyn Files>) -> Self {
        Self {
            path: path.into(),
            files,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of the context `name`, whether it is there or not.
    #[must_use]
    pub fn context(&self, name: &Name) -> ContextDir {
        let path = self.path.join("contexts").join(name.as_str());
        ContextDir::new(name.clone(), path, self.files.clone())
    }

    /// The names of the contexts, sorted.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the directory is there and cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, OperatorDirError> {
        let path = self.path.join("contexts");
        let unreadable = |source| OperatorDirError::Io {
            doing: "read",
            path: path.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // What cannot name a context (a context in the making begins with a dot) is none.
            if let Ok(name) = entry.map_err(unreadable)?.file_name().to_string_lossy().parse() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The context that is used when none is named.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if it cannot be read.
    pub fn current(&self) -> Result<Option<Name>, OperatorDirError> {
        let path = self.path.join(CURRENT_FILE);
        match self.files.read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().parse().ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OperatorDirError::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    /// Uses `name` when no context is named.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if it cannot be written.
    pub fn set_current(&self, name: &Name) -> Result<(), OperatorDirError> {
        let path = self.path.join(CURRENT_FILE);
        let written = self
            .files
            .write_atomic(&path, format!("{name}\n").as_bytes(), 0o600);
        written.map_err(|source| OperatorDirError::Io {
            doing: "write",
            path,
            source,
        })
    }

    /// The context that is meant: the one named, the current one, or the only one.
    ///
    /// # Errors
    /// [`OperatorDirError`] if there is none, or nobody can tell which.
    pub fn choose(&self, named: Option<&Name>) -> Result<ContextDir, OperatorDirError> {
        let names = self.names()?;
        let dir = self.path.clone();
        let chosen = match named {
            Some(name) => Some(name.clone()),
            None => self.current()?.filter(|current| names.contains(current)),
        };
        match (chosen, names.as_slice()) {
            (Some(name), _) if names.contains(&name) => Ok(self.context(&name)),
            (Some(name), _) => Err(OperatorDirError::UnknownContext { dir, name }),
            (None, []) => Err(OperatorDirError::NoContext { dir }),
            (None, [only]) => Ok(self.context(only)),
            (None, several) => {
                let names: Vec<_> = several.iter().map(Name::as_str).collect();
                let names = names.join(", ");
                Err(OperatorDirError::WhichContext { dir, names })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::files::SystemFiles;

    #[test]
    fn a_context_is_chosen_by_name_then_by_choice_then_as_the_only_one() {
        let temp = tempfile::tempdir().unwrap();
        let dir = OperatorDir::new(temp.path(), Arc::new(SystemFiles));
        let (home, work): (Name, Name) = ("home".parse().unwrap(), "work".parse().unwrap());
        assert!(matches!(
            dir.choose(None),
            Err(OperatorDirError::NoContext { .. })
        ));
        std::fs::create_dir_all(temp.path().join("contexts/home")).unwrap();
        assert_eq!(*dir.choose(None).unwrap().name(), home);
        std::fs::create_dir_all(temp.path().join("contexts/work")).unwrap();
        std::fs::create_dir_all(temp.path().join("contexts/.half")).unwrap();
        assert!(matches!(
            dir.choose(None),
            Err(OperatorDirError::WhichContext { .. })
        ));
        dir.set_current(&work).unwrap();
        assert_eq!(*dir.choose(None).unwrap().name(), work);
        assert_eq!(*dir.choose(Some(&home)).unwrap().name(), home);
        let unknown = dir.choose(Some(&"far".parse().unwrap()));
        assert!(matches!(unknown, Err(OperatorDirError::UnknownContext { .. })));
    }
}
