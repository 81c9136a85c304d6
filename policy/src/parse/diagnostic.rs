//! Diagnostics: what is wrong, where, and what to do about it.

use std::fmt;

/// One mistake in a policy. Sorted by file, line and column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file's name; `policy` when the set of files as a whole is meant.
    pub file: String,
    /// The line, from 1; 0 when no single line is meant.
    pub line: u64,
    /// The column in characters, from 1; 0 when no single line is meant.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    /// The file as a whole.
    pub(super) const FILE: Self = Self { line: 0, column: 0 };
}

impl Diagnostic {
    /// One about the set of files.
    pub(super) fn of_set(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            file: "policy".to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            help,
        } = self;
        match line {
            0 => write!(f, "{file}: {message}\n  help: {help}"),
            _ => write!(f, "{file}:{line}:{column}: {message}\n  help: {help}"),
        }
    }
}
