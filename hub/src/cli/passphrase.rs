//! Where the signing key's passphrase comes from: a file, a command of the operator's choice, or the terminal.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::{Signing, output};

/// The longest output of a passphrase command that is read: a passphrase, and what password stores write below it.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024;

/// The passphrase, from where `signing` says; from the terminal twice, if it is new.
pub(super) fn ask(signing: &Signing, new: bool) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = &signing.passphrase_file {
        return from_file(path);
    }
    if let Some(command) = &signing.passphrase_command {
        return Ok(from_command(command)?);
    }
    from_terminal(new)
}

fn from_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        output::remark(&format!(
            "warning: others than its owner may read the passphrase in {0}: chmod 600 {0}",
            path.display()
        ));
    }
    let text = Zeroizing::new(
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the passphrase from {}", path.display()))?,
    );
    match first_line(&text) {
        Some(line) => Ok(line),
        None => bail!(
            "the first line of {} is empty: it should be the passphrase",
            path.display()
        ),
    }
}

fn from_terminal(new: bool) -> anyhow::Result<Zeroizing<String>> {
    let prompt_for = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).context(
            "there is no terminal to ask for the passphrase on: give --passphrase-file or --passphrase-command",
        )
    };
    let passphrase = prompt_for(if new {
        "New passphrase for the signing key: "
    } else {
        "Passphrase of the signing key: "
    })?;
    if new {
        if passphrase.is_empty() {
            bail!("the passphrase is empty; to keep the key in the clear say so with --kdf none");
        }
        if *prompt_for("Again: ")? != *passphrase {
            bail!("the two passphrases differ; nothing was made");
        }
    }
    Ok(passphrase)
}

/// Why a passphrase command gave none. Never what it wrote: that may be the passphrase.
#[derive(Debug, thiserror::Error)]
enum PassphraseCommandError {
    /// It is no command.
    #[error("the passphrase command is empty, or a quote in it is not closed")]
    Words,
    /// It never ran.
    #[error("cannot start the passphrase command '{program}'; is it installed, and in PATH?")]
    Start {
        /// Its name or path.
        program: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Its answer cannot be read.
    #[error("cannot read what the passphrase command '{program}' writes, or it is no text")]
    Read {
        /// Its name or path.
        program: String,
    },
    /// It failed.
    #[error("the passphrase command '{program}' failed with {status}")]
    Failed {
        /// Its name or path.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It wrote too much.
    #[error(
        "the passphrase command '{program}' writes more than {OUTPUT_BYTES_MAX} bytes; a passphrase is one line"
    )]
    TooMuch {
        /// Its name or path.
        program: String,
    },
    /// It wrote nothing.
    #[error(
        "the first line that the passphrase command '{program}' writes is empty: it should be the passphrase"
    )]
    Empty {
        /// Its name or path.
        program: String,
    },
}

/// Runs `command` and takes the first line that it writes. Terminal and environment stay its own: it may ask there.
fn from_command(command: &str) -> Result<Zeroizing<String>, PassphraseCommandError> {
    let mut words = shlex::split(command)
        .ok_or(PassphraseCommandError::Words)?
        .into_iter();
    let program = words.next().ok_or(PassphraseCommandError::Words)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator's own helper, chosen and started on the operator's machine; agent::host::exec is for nodes"
    )]
    let mut command = std::process::Command::new(&program);
    let started = command.args(words).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|source| PassphraseCommandError::Start {
        program: program.clone(),
        source,
    })?;
    // All of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(OUTPUT_BYTES_MAX as usize + 1));
    let stdout = child.stdout.take().expect("it was asked for");
    let read = stdout.take(OUTPUT_BYTES_MAX + 1).read_to_string(&mut text);
    // The pipe is closed by now: a command that goes on writing ends, and is not waited for in vain.
    let ended = child.wait();
    let status = match (read, ended) {
        (Ok(_), Ok(status)) => status,
        _ => return Err(PassphraseCommandError::Read { program }),
    };
    if text.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(PassphraseCommandError::TooMuch { program });
    }
    if !status.success() {
        return Err(PassphraseCommandError::Failed { program, status });
    }
    first_line(&text).ok_or(PassphraseCommandError::Empty { program })
}

/// The first line, unless it is empty.
fn first_line(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(command: &str) -> String {
        from_command(command).unwrap_err().to_string()
    }

    #[test]
    fn the_first_line_that_a_command_writes_is_the_passphrase() {
        let said = from_command(r"printf '%s\n' 'correct horse' 'user: ann'").unwrap();
        assert_eq!(*said, "correct horse");
    }

    #[test]
    fn a_command_is_split_like_a_shell_would_and_run_without_one() {
        let said = from_command(r#"printf '%s\n' "$HOME; `id`" "#).unwrap();
        assert_eq!(*said, "$HOME; `id`");
    }

    #[test]
    fn a_failed_command_is_told_by_its_status_and_never_by_what_it_wrote() {
        let said = refused("sh -c 'echo correct horse; exit 3'");
        assert!(said.contains("'sh'") && said.contains("exit status: 3"), "{said}");
        assert!(!said.contains("horse"), "{said}");
    }

    #[test]
    fn commands_that_give_no_passphrase_are_refused() {
        assert!(refused("").contains("empty"));
        assert!(refused("echo 'open").contains("quote"));
        assert!(refused("true").contains("first line"));
        assert!(refused("/no/such/program").contains("cannot start"));
        assert!(refused(r"printf '\377'").contains("no text"));
        assert!(refused("yes").contains("more than"));
    }

    #[test]
    fn a_file_is_asked_before_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, "from the file\n").unwrap();
        let mut signing = Signing {
            passphrase_file: Some(file),
            passphrase_command: Some("echo from the command".to_owned()),
        };
        assert_eq!(*ask(&signing, false).unwrap(), "from the file");
        signing.passphrase_file = None;
        assert_eq!(*ask(&signing, false).unwrap(), "from the command");
    }
}
