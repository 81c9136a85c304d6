//! Starting the guard where it outlives the agent: in a unit of its own under systemd, else in a session of its own.

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{GuardPath, State};
use crate::host::exec::{self, Background, ExecError};

/// A started guard, as far as its launcher can tell.
#[derive(Debug)]
pub enum Launched {
    /// The service manager runs it and tells nobody.
    Unit,
    /// It is a child of ours.
    Child(Box<Background>),
}

impl Launched {
    /// # Errors
    /// [`ExecError`] if it is known to have ended.
    pub(super) fn still_runs(&mut self) -> Result<(), ExecError> {
        match self {
            Self::Unit => Ok(()),
            Self::Child(child) => child.still_runs(),
        }
    }
}

/// Starts guards.
pub trait Launcher: Send + Sync {
    /// Starts the guard of the armed file at `place`. It may not be armed yet when this returns.
    fn launch(&self, place: &GuardPath) -> impl Future<Output = Result<Launched, ExecError>> + Send;
}

/// How this host starts guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostLauncher {
    /// `systemd-run` starts this program as a transient unit: stopping the agent's own unit leaves it alone.
    Unit(PathBuf),
    /// This program is started in a session of its own: no terminal and no signal to our group reaches it.
    Session(PathBuf),
}

/// Starting a unit takes a moment on a busy machine; more, and the change had better not begin.
const UNIT_LIMIT: Duration = Duration::from_secs(15);

impl HostLauncher {
    /// The launcher for this host: a unit if systemd runs here and would start it in our own network namespace. In
    /// another one it would restore the rules of the wrong network.
    ///
    /// # Errors
    /// [`ExecError::Start`] if our own program cannot be found.
    pub fn detect() -> Result<Self, ExecError> {
        let booted_by_systemd = Path::new("/run/systemd/system").is_dir();
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        if !booted_by_systemd || network("self").is_none() || network("self") != network("1") {
            // By this name it is found even if an upgrade has replaced the file meanwhile.
            return Ok(Self::Session("/proc/self/exe".into()));
        }
        let program = std::env::current_exe().map_err(|source| ExecError::Start {
            program: "holdfast-agent".to_owned(),
            source,
        })?;
        // The kernel's mark on a file that an upgrade has replaced; its successor can guard as well.
        let name = program.to_string_lossy();
        Ok(Self::Unit(
            name.strip_suffix(" (deleted)").unwrap_or(&name).into(),
        ))
    }
}

impl Launcher for HostLauncher {
    async fn launch(&self, place: &GuardPath) -> Result<Launched, ExecError> {
        let file = place.at(State::Armed);
        match self {
            Self::Unit(program) => {
                exec::run("systemd-run", &unit_args(program, place), b"", UNIT_LIMIT).await?;
                Ok(Launched::Unit)
            }
            Self::Session(program) => {
                let args = ["guard".as_ref(), "--own-session".as_ref(), file.as_os_str()];
                exec::start(program, &args).map(|child| Launched::Child(Box::new(child)))
            }
        }
    }
}

fn unit_args(program: &Path, place: &GuardPath) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        format!("--unit=holdfast-guard-{}", place.id()).into(),
        format!(
            "--description=Holdfast guard: undoes change {} unless confirmed",
            place.id()
        )
        .into(),
        "--collect".into(),
        "--quiet".into(),
        // systemd-run then fails if the program cannot be started.
        "--service-type=exec".into(),
    ];
    args.extend([program.into(), "guard".into(), place.at(State::Armed).into()]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_named_for_its_commit_and_runs_the_guard() {
        let place = GuardPath::new(Path::new("/var/lib/holdfast"), [7; 16].into());
        let args = unit_args(Path::new("/usr/bin/holdfast-agent"), &place);
        let id = "07".repeat(16);
        assert_eq!(args[0], OsString::from(format!("--unit=holdfast-guard-{id}")));
        let command: Vec<_> = args.iter().rev().take(3).rev().collect();
        let file = format!("/var/lib/holdfast/guard/{id}.armed");
        assert_eq!(command, ["/usr/bin/holdfast-agent", "guard", file.as_str()]);
    }
}
