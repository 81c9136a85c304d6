//! What the demo prints: numbered steps, commands, what was seen. Colours only for a terminal that wants them.

use std::fmt::Display;
use std::io::IsTerminal as _;

use anyhow::{Result, bail};

/// Commands print tables: more than this of one is not read.
const OUTPUT_LINES: usize = 24;

/// Prints to standard output.
#[derive(Debug)]
pub(crate) struct Show {
    coloured: bool,
    step: usize,
}

impl Show {
    /// Coloured on a terminal, unless NO_COLOR is set to anything (no-color.org).
    pub(crate) fn on_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            coloured: std::io::stdout().is_terminal() && !refused,
            step: 0,
        }
    }

    /// The first and the last line.
    pub(crate) fn title(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// Begins a step: what is shown, and why.
    pub(crate) fn step(&mut self, title: &str, why: &str) {
        self.step += 1;
        println!(
            "\n{} {}",
            self.paint("1;36", format!("{}.", self.step)),
            self.paint("1", title)
        );
        println!("   {why}");
    }

    /// A command, as one would type it.
    pub(crate) fn command(&self, line: &str) {
        println!("   {}", self.paint("2", format!("$ {line}")));
    }

    /// What a command printed.
    pub(crate) fn output(&self, text: &str) {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for line in lines.iter().take(OUTPUT_LINES) {
            println!("     {line}");
        }
        if lines.len() > OUTPUT_LINES {
            println!("     .. and {} lines more", lines.len() - OUTPUT_LINES);
        }
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        println!("   {text}");
    }

    /// Something that was promised, and whether it was seen.
    ///
    /// # Errors
    /// If it was not.
    pub(crate) fn seen(&self, as_promised: bool, what: impl Display) -> Result<()> {
        if as_promised {
            println!("   {} {what}", self.paint("32", "ok"));
            return Ok(());
        }
        bail!("step {}: {what}, which is not what was promised", self.step)
    }

    /// The demo has failed.
    pub(crate) fn broken(&self, error: &anyhow::Error) {
        println!("\n   {} {error:#}", self.paint("1;31", "NOT AS PROMISED:"));
    }

    fn paint(&self, colour: &str, text: impl Display) -> String {
        if self.coloured {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}
