//! Programs: short ones with a limit of time, long-lived ones with a log, killed when dropped.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait;

/// How many lines of a log go into an error.
const TAIL: usize = 30;

/// A command, not yet started.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the harness starts processes"
)]
pub fn command(program: impl AsRef<Path>) -> Command {
    Command::new(program.as_ref())
}

/// What a program did that has ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was run, for messages.
    pub line: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// If it did not, with its complaint.
    pub fn ok(self) -> Result<String> {
        self.code_is(0).map(|()| self.stdout)
    }

    /// Whether it exited with `wanted`.
    ///
    /// # Errors
    /// If it did not, with what it printed.
    pub fn code_is(&self, wanted: i32) -> Result<()> {
        if self.code == Some(wanted) {
            return Ok(());
        }
        let got = self
            .code
            .map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        let said = [self.stdout.trim(), self.stderr.trim()].join("\n");
        bail!(
            "`{}` ended with {got}, wanted {wanted}; it said: {}",
            self.line,
            said.trim()
        )
    }
}

/// Runs `command`, which is killed after `limit`, with `input` on its standard input.
///
/// # Errors
/// If it cannot be started or did not end in time. How it ended is for the caller to judge.
pub fn run(command: &Command, limit: Duration, input: &str) -> Result<Outcome> {
    let line = describe(command);
    let mut bounded = self::command("timeout");
    bounded.args(["--kill-after", "2", &limit.as_secs().to_string()]);
    bounded.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(key, value),
            None => bounded.env_remove(key),
        };
    }
    let mut child = bounded
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // A program that ends without reading breaks the pipe; how it ended says more than that.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for `{line}`"))?;
    if output.status.code() == Some(124) {
        bail!("`{line}` did not end within {} s", limit.as_secs());
    }
    Ok(Outcome {
        line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A long-lived program; its output goes to a log. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; `log` is appended to.
    ///
    /// # Errors
    /// If the program or the log cannot be opened.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let line = describe(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once (SIGKILL) and buries it.
    pub fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// If it runs on after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .with_context(|| format!("cannot signal {}", self.name))?;
        self.wait(limit)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it runs on after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || self.exited().ok_or_else(|| "it runs".to_owned()))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("no log: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The last lines of its log, with a heading: for errors.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL)..].join("\n  ");
        format!("the log of {} ends:\n  {last}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn failure_tells_what_was_said() {
        let mut sh = command("sh");
        sh.args(["-c", "cat; echo bad >&2; exit 7"]);
        let outcome = run(&sh, LIMIT, "input").unwrap();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(7), "input"));
        assert!(
            outcome
                .ok()
                .unwrap_err()
                .to_string()
                .ends_with("it said: input\nbad")
        );
    }

    #[test]
    fn what_hangs_is_ended() {
        let mut sleep = command("sleep");
        sleep.arg("60");
        let error = run(&sleep, Duration::from_secs(1), "").unwrap_err();
        assert_eq!(error.to_string(), "`sleep 60` did not end within 1 s");
    }

    #[test]
    fn dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = command("sleep");
        sleep.arg("60");
        let process = Process::spawn("sleep", sleep, &dir.path().join("log")).unwrap();
        let alive = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(alive.exists());
        drop(process);
        assert!(!alive.exists());
    }
}
