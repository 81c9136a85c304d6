//! The one place that starts other programs: by name and arguments, never through a shell.
//!
//! A program gets `PATH` and `LANG=C` and nothing else of our environment, a time limit, and room for a bounded answer;
//! whoever stops waiting for it kills it. An error tells the program, its status and the end of what it complained.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// The longest answer taken from a program: a listing of 10,000 rules is about 4 MiB.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// How much of the end of a program's complaint is kept.
const STDERR_BYTES_MAX: usize = 4 << 10;

/// Where programs are looked for if nobody set `PATH`, as systemd does for its services.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It never ran.
    #[error("cannot start {program}; is it installed, and in PATH?")]
    Start {
        /// Its name or path.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It ran and reported a failure.
    #[error("{program} failed with {status}: {stderr}")]
    Failed {
        /// Its name or path.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {} s and was killed", .limit.as_secs())]
    TimedOut {
        /// Its name or path.
        program: String,
        /// How long it was given.
        limit: Duration,
    },
    /// It wrote more than we are ready to hold, and was killed.
    #[error("{program} wrote more than {max} bytes and was killed")]
    TooMuchOutput {
        /// Its name or path.
        program: String,
        /// The limit.
        max: usize,
    },
    /// A pipe to it broke.
    #[error("cannot talk to {program}")]
    Pipe {
        /// Its name or path.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Runs `program` to its end, with `input` on its standard input, and returns what it wrote to its standard output.
///
/// # Errors
/// [`ExecError`], also for every exit status but 0.
pub async fn run<A: AsRef<OsStr>>(
    program: &str,
    args: &[A],
    input: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, ExecError> {
    let mut child = command(program.as_ref(), args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ExecError::Start {
            program: program.to_owned(),
            source,
        })?;
    let pipe = |source| ExecError::Pipe {
        program: program.to_owned(),
        source,
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        tokio::try_join!(
            async { feed(stdin, input).await.map_err(pipe) },
            async { read_bounded(stdout, program).await },
            async { read_tail(stderr).await.map_err(pipe) },
            async { child.wait().await.map_err(pipe) },
        )
    };
    match tokio::time::timeout(limit, work).await {
        Err(_) => Err(ExecError::TimedOut {
            program: program.to_owned(),
            limit,
        }),
        Ok(Err(error)) => Err(error),
        Ok(Ok(((), stdout, _, status))) if status.success() => Ok(stdout),
        Ok(Ok(((), _, stderr, status))) => Err(ExecError::Failed {
            program: program.to_owned(),
            status,
            stderr,
        }),
    }
}

/// A program that was started to live on without us. Dropping this leaves it running.
#[derive(Debug)]
pub struct Background {
    program: String,
    child: Child,
}

/// Starts `program` and does not wait for it. It keeps our standard error, so that its log goes where ours does.
///
/// # Errors
/// [`ExecError::Start`].
pub fn start<A: AsRef<OsStr>>(program: &Path, args: &[A]) -> Result<Background, ExecError> {
    let name = program.display().to_string();
    let child = command(program.as_ref(), args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| ExecError::Start {
            program: name.clone(),
            source,
        })?;
    Ok(Background { program: name, child })
}

impl Background {
    /// Whether it still runs.
    ///
    /// # Errors
    /// [`ExecError::Failed`] if it has ended, however it did: what was to live on did not.
    pub fn still_runs(&mut self) -> Result<(), ExecError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ExecError::Failed {
                program: self.program.clone(),
                status,
                stderr: "see its messages in our own log".to_owned(),
            }),
            Err(source) => Err(ExecError::Pipe {
                program: self.program.clone(),
                source,
            }),
        }
    }
}

fn command<A: AsRef<OsStr>>(program: &OsStr, args: &[A]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
        )
        .env("LANG", "C");
    command
}

async fn feed(stdin: Option<ChildStdin>, input: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(input).await {
        // It ended before it had read everything; its status says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>, program: &str) -> Result<Vec<u8>, ExecError> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(bytes) };
    pipe.take(OUTPUT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|source| ExecError::Pipe {
            program: program.to_owned(),
            source,
        })?;
    if bytes.len() > OUTPUT_BYTES_MAX {
        return Err(ExecError::TooMuchOutput {
            program: program.to_owned(),
            max: OUTPUT_BYTES_MAX,
        });
    }
    Ok(bytes)
}

async fn read_tail(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut tail = Vec::new();
    let Some(mut pipe) = pipe else {
        return Ok(String::new());
    };
    let mut chunk = [0; 1024];
    loop {
        let read = pipe.read(&mut chunk).await?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&tail).trim().to_owned());
        }
        tail.extend_from_slice(&chunk[..read]);
        let excess = tail.len().saturating_sub(STDERR_BYTES_MAX);
        tail.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("cat", &[""; 0], &large, SECOND).await.unwrap(), large);
    }

    #[tokio::test]
    async fn a_failure_tells_program_status_and_complaint() {
        let error = run("ls", &["/nonexistent"], b"unread", SECOND)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("ls failed with exit status: 2: "), "{error}");
        assert!(error.ends_with("No such file or directory"), "{error}");
        let error = run("holdfast-no-such-program", &[""; 0], b"", SECOND)
            .await
            .unwrap_err();
        assert!(matches!(error, ExecError::Start { .. }), "{error}");
    }

    #[tokio::test]
    async fn the_environment_is_not_passed_on() {
        let seen = String::from_utf8(run("env", &[""; 0], b"", SECOND).await.unwrap()).unwrap();
        let names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(names.len(), 2, "{seen}");
        assert!(names.contains(&"PATH") && names.contains(&"LANG"), "{seen}");
    }

    #[tokio::test]
    async fn who_is_slow_or_talks_too_much_is_stopped() {
        let slow = run("sleep", &["60"], b"", Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(slow, ExecError::TimedOut { .. }), "{slow}");
        let loud = run("cat", &["/dev/zero"], b"", SECOND).await.unwrap_err();
        assert!(matches!(loud, ExecError::TooMuchOutput { .. }), "{loud}");
    }

    #[tokio::test]
    async fn a_background_program_that_ended_is_an_error() {
        let mut child = start(Path::new("true"), &[""; 0]).unwrap();
        let ended = tokio::time::timeout(SECOND, async {
            while child.still_runs().is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        ended.await.unwrap();
    }
}
