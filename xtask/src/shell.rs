//! Starting programs: found as root would find them, ended with us, and never without a limit of time.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a program that was told to end may take before it is killed.
const GRACE: &str = "5";

/// Debian leaves these out of an ordinary user's PATH, and nft lives there.
const ADMIN_DIRS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the binaries of this build profile are: beside our own.
pub(crate) fn bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where xtask itself lies")?;
    Ok(exe.parent().context("xtask has no directory")?.to_owned())
}

/// `program`, started in the repository's root.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where xtask starts processes"
)]
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", search_path());
    command
}

/// `program`, which ends, with all that it started in its process group, after `limit` or when xtask ends.
///
/// A shell's Ctrl-C reaches xtask alone; the parent-death signal passes it on to `timeout`, and that to the group.
pub(crate) fn bounded(limit: Duration, program: &str) -> Command {
    let mut command = command("setpriv");
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after", GRACE]);
    command.arg(limit.as_secs().to_string()).arg(program);
    command
}

/// The cargo that runs us.
pub(crate) fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The same, bounded.
pub(crate) fn cargo(limit: Duration) -> Command {
    bounded(limit, &cargo_path())
}

/// Whether `program` can be found.
pub(crate) fn has(program: &str) -> bool {
    search_path()
        .split(':')
        .any(|dir| Path::new(dir).join(program).is_file())
}

/// Whether we may do what root may.
pub(crate) fn is_root() -> bool {
    command("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n")
}

/// Whether `command` runs and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Our own exit code after `status` of a command made by [`bounded`].
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    if took_too_long(status) {
        eprintln!("xtask: it took too long and was ended");
    }
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Whether a command made by [`bounded`] passed its limit: `timeout` then answers 124, or dies itself of the signal that
/// it sends to those who do not listen.
pub(crate) fn took_too_long(status: ExitStatus) -> bool {
    status.code().is_none_or(|code| code == 124)
}

fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    format!("{path}:{ADMIN_DIRS}")
}
