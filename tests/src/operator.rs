//! A further operator of a fleet, with a machine of its own: keys that are made there, and added by the first one.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::fleet::{Fleet, HUB, PORT};
use crate::process::Outcome;
use crate::token_agent::TokenAgent;

/// An operator.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The name that the authority lists.
    pub name: String,
    /// The operator's directory.
    pub dir: PathBuf,
    /// The socket of the ssh-agent that holds the signing key; none for one in a file.
    ssh_agent: Option<PathBuf>,
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
            ssh_agent: None,
        }
    }

    /// Begins in the fleet as `name`, with a key in the clear: pins the authority that an admin shows, and asks to be added.
    ///
    /// # Errors
    /// If `context add` does not work.
    pub fn begin(fleet: &Fleet, name: &str) -> Result<(Self, Request)> {
        Self::begin_with(fleet, name, ["--kdf", "none"], None)
    }

    fn begin_with(
        fleet: &Fleet,
        name: &str,
        key: [&str; 2],
        ssh_agent: Option<PathBuf>,
    ) -> Result<(Self, Request)> {
        let pin = fleet.holdfast(&["authority", "show", "--pin"])?.ok()?;
        let place = fleet.world.dir(HUB).join("operators");
        let (dir, path) = (place.join(name), place.join(format!("{name}.request")));
        std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let operator = Self {
            name: name.to_owned(),
            dir,
            ssh_agent,
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
            key[0],
            key[1],
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
        operator.be_added(fleet, &request, role)?;
        Ok(operator)
    }

    /// The same with a signing key on a token.
    ///
    /// # Errors
    /// If any of it does not work.
    pub fn join_with_token(fleet: &Fleet, name: &str, role: &str, agent: &TokenAgent) -> Result<Self> {
        let public = agent.public().to_string();
        let key = ["--ssh-key", &public];
        let (operator, request) = Self::begin_with(fleet, name, key, Some(agent.socket.clone()))?;
        operator.be_added(fleet, &request, role)?;
        Ok(operator)
    }

    fn be_added(&self, fleet: &Fleet, request: &Request, role: &str) -> Result<()> {
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
        self.run(fleet, &["context", "login"])?.ok()?;
        Ok(())
    }

    /// Gives a command as this operator.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is for the caller to judge.
    pub fn run<S: AsRef<OsStr>>(&self, fleet: &Fleet, words: &[S]) -> Result<Outcome> {
        fleet.run_as(&self.dir, self.ssh_agent.as_deref(), words)
    }
}
