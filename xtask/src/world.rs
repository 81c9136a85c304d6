//! The private world that demo and tests run in.
//!
//! Namespaces of its own for mounts, network and processes, with an empty /run: whatever is made there (network
//! namespaces, firewalls, daemons, state below /run) ends with its first process, also when that is killed. As root it
//! is root's; as an ordinary user it is made through a user namespace in which that user is root.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::shell::{bounded, is_root};

/// Set inside a world, to `root` or `user`: the tests then know that they may.
const INSIDE: &str = "HOLDFAST_WORLD";
/// Set where there is no world, to the reason.
const REFUSED: &str = "HOLDFAST_NO_WORLD";

/// Runs as the world's first process, which buries orphans; hence no `exec`.
const FIRST_PROCESS: &str = "\
    mount -t tmpfs -o mode=755 holdfast /run && mkdir /run/netns && ip link set lo up || exit 125
    \"$@\"
    exit $?";

/// All that tests do with a world, in small.
const PROBE: &str = "ip netns add probe && ip netns exec probe nft add table inet probe";

/// What this machine allows.
#[derive(Debug)]
pub(crate) enum World {
    /// Root's own: booted nodes too.
    Root,
    /// Through a user namespace: everything but booted nodes.
    User,
    /// None, for this reason: plain processes on the loopback device.
    Refused(String),
}

impl World {
    /// Finds out by making one.
    pub(crate) fn find() -> Self {
        let mut refusals = Vec::new();
        for (world, name) in [(Self::Root, "as root"), (Self::User, "through a user namespace")] {
            match world.probe() {
                Ok(()) => return world,
                Err(said) => refusals.push(format!("{name}: {said}")),
            }
        }
        Self::Refused(refusals.join("; "))
    }

    /// `program`, to be run in this world, for at most `limit`.
    pub(crate) fn command(&self, limit: Duration, program: &str) -> Command {
        let (name, users): (_, &[&str]) = match self {
            Self::Root => ("root", &[]),
            Self::User => ("user", &["--user", "--map-root-user"]),
            Self::Refused(reason) => {
                let mut command = bounded(limit, program);
                command.env(REFUSED, reason).env_remove(INSIDE);
                return command;
            }
        };
        let mut command = bounded(limit, "unshare");
        command
            .args(users)
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
            ])
            .args(["sh", "-c", FIRST_PROCESS, "world", program])
            .env(INSIDE, name)
            .env_remove(REFUSED);
        command
    }

    fn probe(&self) -> Result<(), String> {
        const LIMIT: Duration = Duration::from_secs(20);
        if matches!(self, Self::Root) && !is_root() {
            return Err("we are not root".to_owned());
        }
        let probe = self
            .command(LIMIT, "sh")
            .args(["-ec", PROBE])
            .stdin(Stdio::null())
            .output();
        match probe {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.trim().lines().last().unwrap_or("no reason given").to_owned())
            }
            Err(error) => Err(format!("cannot start setpriv: {error}")),
        }
    }
}
