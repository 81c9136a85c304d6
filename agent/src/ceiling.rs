//! The node's ceiling: what root on this machine allows to be applied here, whatever operators sign and hubs say.
//!
//! Root writes it in `agent.toml`: `allow = ["metrics", "firewall"]`. It is read before every application, so that what
//! root takes out counts at once; a file that is wrong in any way allows nothing. [`Permitted`] is the proof that the
//! ceiling was asked: only what is permitted can be applied or repaired.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use holdfast_policy::parse::nearest::nearest;
use holdfast_policy::render::DesiredState;
use rustix::fs::{FileType, Mode, OFlags};
use serde::Deserialize;
use toml::Spanned;

/// Where the ceiling is, unless the agent is told otherwise.
pub const FILE: &str = "/etc/holdfast/agent.toml";
/// Far more than a list of six words and its comments.
const BYTES_MAX: u64 = 64 * 1024;

/// Something that root can allow or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Our table of rules.
    Firewall,
    /// Name resolution.
    Dns,
    /// Settings of sshd, the kernel and the like.
    Hardening,
    /// Certificates for services on this node.
    Certificate,
    /// Sending measurements.
    Metrics,
    /// Relayed actions.
    Actions,
}

impl Word {
    /// Every word there is.
    pub const ALL: [Self; 6] = [
        Self::Firewall,
        Self::Dns,
        Self::Hardening,
        Self::Certificate,
        Self::Metrics,
        Self::Actions,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Dns => "dns",
            Self::Hardening => "hardening",
            Self::Certificate => "certificate",
            Self::Metrics => "metrics",
            Self::Actions => "actions",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The file in which root says what is allowed here.
#[derive(Debug, Clone)]
pub struct Ceiling {
    path: PathBuf,
}

/// What root allows, as it was just read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    words: BTreeSet<Word>,
    /// The line of `allow`; none without a file.
    line: Option<usize>,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|word| word.as_str()).collect();
        f.write_str(&words.join(", "))
    }
}

/// A desired state that root allows to be applied here. Only [`Ceiling::permit`] makes one.
#[derive(Debug, Clone)]
pub struct Permitted(DesiredState);

impl Permitted {
    /// The state.
    #[must_use]
    pub const fn state(&self) -> &DesiredState {
        &self.0
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    allow: Spanned<Vec<Spanned<String>>>,
}

/// Why a state is not applied. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RefuseCeiling {
    /// Root does not allow a part of it.
    #[error(
        "{place} does not allow '{word}', which this release asks for; only root on this node can add it there"
    )]
    Forbidden {
        /// The file, and the line of `allow` in it.
        place: String,
        /// What is not allowed.
        word: Word,
    },
    /// What root allows cannot be known.
    #[error("nothing is applied here until root mends what it allows")]
    File(#[from] CeilingError),
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum CeilingError {
    /// It cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a directory, a device or the like.
    #[error("{} is no regular file", .path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// It is a link.
    #[error("{} is a symbolic link, which is not followed: put the file itself there", .path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("{} belongs to user {uid}, where user {wanted} must own it: chown {wanted} {}", .path.display(), .path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Whose it must be.
        wanted: u32,
    },
    /// Others than its owner may write it.
    #[error("{} is writable by others than its owner (mode {mode:04o}): chmod go-w {}", .path.display(), .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is far larger than such a file is.
    #[error("{} has more than {BYTES_MAX} bytes", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
    /// It does not say `allow = [..]`.
    #[error("{}:{line}: {detail}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where, counting from 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// It allows something that there is not.
    #[error("{}:{line}: there is no '{word}' to allow; {help}", .path.display())]
    Word {
        /// The file.
        path: PathBuf,
        /// Where, counting from 1.
        line: usize,
        /// What is written there.
        word: String,
        /// What may have been meant.
        help: String,
    },
}

impl Ceiling {
    /// The ceiling that root writes at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Lets `desired` through if root allows all that applying it would touch. `firewall_is_there`: whether our table is
    /// in the kernel, so that a state without a firewall would remove it.
    ///
    /// # Errors
    /// [`RefuseCeiling`] names the file, the line and the word.
    pub fn permit(&self, desired: DesiredState, firewall_is_there: bool) -> Result<Permitted, RefuseCeiling> {
        let allowed = self.read()?;
        let touches_firewall = desired.firewall.is_some() || firewall_is_there;
        let word = Word::Firewall;
        if !touches_firewall || allowed.words.contains(&word) {
            return Ok(Permitted(desired));
        }
        let place = match allowed.line {
            Some(line) => format!("{}:{line}", self.path.display()),
            None => format!("{}, which is not there,", self.path.display()),
        };
        Err(RefuseCeiling::Forbidden { place, word })
    }

    /// What root allows now. Where there is no file: all but actions, which run programs.
    ///
    /// # Errors
    /// [`CeilingError`].
    pub fn read(&self) -> Result<Allowed, CeilingError> {
        let text = match read(&self.path) {
            Err(CeilingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let words = Word::ALL.into_iter().filter(|word| *word != Word::Actions);
                return Ok(Allowed {
                    words: words.collect(),
                    line: None,
                });
            }
            other => other?,
        };
        parse(&self.path, &text)
    }
}

/// The text of a file that is root's alone to write. All is judged on the open file, so that none can be put in its
/// place in between; a link at its end is not followed, and a pipe does not hold the agent up.
fn read(path: &Path) -> Result<String, CeilingError> {
    let path = path.to_owned();
    let io = |source: io::Error| CeilingError::Io {
        path: path.clone(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| match error {
        // What O_NOFOLLOW says of a link (open(2)).
        rustix::io::Errno::LOOP => CeilingError::Link { path: path.clone() },
        error => io(error.into()),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|error| io(error.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(CeilingError::NoFile { path });
    }
    let (uid, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let wanted = rustix::process::geteuid().as_raw();
    if !may_own(uid, wanted) {
        return Err(CeilingError::Owner { path, uid, wanted });
    }
    if mode & 0o022 != 0 {
        return Err(CeilingError::Writable { path, mode });
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(CeilingError::Size { path });
    }
    String::from_utf8(bytes).map_err(|error| CeilingError::Content {
        line: line_of(error.as_bytes(), error.utf8_error().valid_up_to()),
        detail: "no text in UTF-8".to_owned(),
        path,
    })
}

/// Whether user `uid` may write the ceiling of an agent that runs as `agent`: root; and, where an agent runs without
/// root, whoever started it, since they could give it another file as well.
const fn may_own(uid: u32, agent: u32) -> bool {
    uid == 0 || uid == agent
}

fn parse(path: &Path, text: &str) -> Result<Allowed, CeilingError> {
    let line = |at: usize| line_of(text.as_bytes(), at);
    let written: Written = toml::from_str(text).map_err(|error| CeilingError::Content {
        path: path.to_owned(),
        line: line(error.span().map_or(0, |span| span.start)),
        detail: format!("{}; allow = [\"firewall\", ..] wanted", error.message()),
    })?;
    let mut words = BTreeSet::new();
    for spanned in written.allow.get_ref() {
        let found = Word::ALL
            .into_iter()
            .find(|word| word.as_str() == spanned.get_ref());
        words.insert(found.ok_or_else(|| CeilingError::Word {
            path: path.to_owned(),
            line: line(spanned.span().start),
            word: spanned.get_ref().chars().take(40).collect(),
            help: help(spanned.get_ref()),
        })?);
    }
    Ok(Allowed {
        words,
        line: Some(line(written.allow.span().start)),
    })
}

fn help(word: &str) -> String {
    let known = Word::ALL.map(Word::as_str);
    match nearest(word, known) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("one of {} wanted", known.join(", ")),
    }
}

/// The line of the byte `at`, counting from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
