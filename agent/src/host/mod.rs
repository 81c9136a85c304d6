//! The host as an argument: how the agent starts other programs, and how it words what went wrong.

pub mod exec;

use std::error::Error;
use std::fmt;

/// An error with its sources, on one line, for a log field or a report: `what: why: because`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
