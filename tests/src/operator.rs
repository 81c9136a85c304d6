//! A further operator of a fleet, with a machine of its own: keys that are made there, and added by the first one.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::fleet::{Fleet, HUB, PORT};
use crate::process::Outcome;

/// An operator.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The name that the authority lists.
    pub name: String,
    /// The operator's directory.
    pub dir: PathBuf,
}

/// What `context add` leaves for an admin.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file.
    pub path: PathBuf,
    /// What both compare.
    pub fingerprint: String,
}

impl Operator {
    /// The first operator, whom `init` made.
    #[must_use]
    pub fn first(fleet: &Fleet) -> Self {
        Self {
            name: "admin".to_owned(),
            dir: fleet.operator_dir(),
        }
    }

    /// Begins in the fleet as `name`, with a key in the clear: pins the authority that an admin shows, and asks to be added.
    ///
    /// # Errors
    /// If `context add` does not work.
    pub fn begin(fleet: &Fleet, name: &str) -> Result<(Self, Request)> {
        let pin = fleet.holdfast(&["authority", "show", "--pin"])?.ok()?;
        let place = fleet.world.dir(HUB).join("operators");
        let (dir, path) = (place.join(name), place.join(format!("{name}.request")));
        std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let operator = Self {
            name: name.to_owned(),
            dir,
        };
        let at = format!("{}:{PORT}", fleet.world.v4(HUB));
        let request = path.display().to_string();
        let words = [
            "context",
            "add",
            "lab",
            "--hub",
            &at,
            "--operator",
            name,
            "--authority",
            pin.trim(),
            "--request",
            &request,
            "--kdf",
            "none",
            "-o",
            "json",
        ];
        let told: Value = serde_json::from_str(&operator.run(fleet, &words)?.ok()?)?;
        let fingerprint = told["fingerprint"].as_str().context("no fingerprint")?.to_owned();
        Ok((operator, Request { path, fingerprint }))
    }

    /// Begins in the fleet as `name`, is added by the first operator alone, and logs in.
    ///
    /// # Errors
    /// If any of it does not work.
    pub fn join(fleet: &Fleet, name: &str, role: &str) -> Result<Self> {
        let (operator, request) = Self::begin(fleet, name)?;
        let path = request.path.display().to_string();
        let add = [
            "authority",
            "add",
            &path,
            "--role",
            role,
            "--fingerprint",
            &request.fingerprint,
            "--yes",
        ];
        fleet.holdfast(&add)?.ok()?;
        operator.run(fleet, &["context", "login"])?.ok()?;
        Ok(operator)
    }

    /// Gives a command as this operator.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is for the caller to judge.
    pub fn run<S: AsRef<OsStr>>(&self, fleet: &Fleet, words: &[S]) -> Result<Outcome> {
        fleet.holdfast_as(&self.dir, words)
    }
}
