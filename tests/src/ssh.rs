//! An operator's ssh: a key, and sessions opened with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, Outcome};
use crate::world::{LIMIT, World};

/// A key to log in with, in a directory of its own.
#[derive(Debug)]
pub struct Login {
    key: PathBuf,
}

impl Login {
    /// Makes a key in `dir`.
    ///
    /// # Errors
    /// If ssh-keygen fails.
    pub fn make(dir: &Path) -> Result<Self> {
        let key = dir.join("ssh-key");
        let mut keygen = process::command("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        process::run(&keygen, LIMIT, "").and_then(Outcome::ok)?;
        Ok(Self { key })
    }

    /// The public half, as in authorized_keys.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn public(&self) -> Result<String> {
        let path = self.key.with_extension("pub");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// `ssh root@TO WORDS`, not yet started, from the host `from`.
    pub fn command(&self, world: &World, from: &str, to: &str, words: &[&str]) -> Command {
        let mut ssh = world.command(from, "ssh");
        // Nobody's configuration and known hosts: a world's machines live for one test.
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]);
        ssh.arg("-i")
            .arg(&self.key)
            .arg(format!("root@{}", world.v4(to)))
            .args(words);
        ssh
    }
}
