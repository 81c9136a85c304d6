//! Questions to whoever sits at the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};

/// Asks until the answer is yes or no. `yes` is the answer given beforehand, by `--yes`.
///
/// # Errors
/// Nobody is there to be asked, or the answer is no: nothing is to be done then.
pub(super) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask on: read what is shown above, then give --yes");
    }
    loop {
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "{question} (yes/no) ").and_then(|()| stderr.flush())?;
        let mut answer = String::new();
        let read = stdin.lock().read_line(&mut answer);
        match (read.context("cannot read the answer")?, answer.trim()) {
            (_, "yes") => return Ok(()),
            // The end of the input is no consent.
            (0, _) | (_, "no") => bail!("the answer was no: nothing was done"),
            _ => {}
        }
    }
}
