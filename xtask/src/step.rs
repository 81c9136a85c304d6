//! The steps of the gate: each gets a line with its outcome and duration, and its tests are counted.
//!
//! A step's output is kept back and shown only if the step fails, but for the lines that say that a test failed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::shell::took_too_long;

/// What the steps have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Tests, and steps without tests, that passed.
    pub(crate) passed: u64,
    /// The same that failed.
    pub(crate) failed: u64,
    /// How many of both were tests.
    pub(crate) tests: u64,
    /// `name: reason` of each test that skipped itself. To libtest, which knows no skipping, it has passed.
    pub(crate) skips: Vec<String>,
}

impl Tally {
    /// Runs one step, and tells whether it was good; without tests it is one check itself.
    ///
    /// # Errors
    /// If the step could not be started.
    pub(crate) fn step(&mut self, name: &str, command: &mut Command) -> Result<bool> {
        print!("{name:<48} ");
        std::io::stdout().flush()?;
        let start = now();
        let (reader, writer) = std::io::pipe()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        // The command still holds the pipe's writing ends; the reader would wait for them for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut output = Vec::new();
        let mut seen: Option<Counts> = None;
        for line in BufReader::new(reader).lines() {
            let line = line?;
            if let Some(counts) = Counts::parse(&line) {
                seen = Some(seen.unwrap_or_default().plus(&counts));
            } else if let Some(skip) = line.strip_prefix("SKIP ") {
                self.skips.push(skip.to_owned());
            } else if line.starts_with("test ") && line.ends_with("FAILED") {
                print!("\n  {line}");
                std::io::stdout().flush()?;
            }
            output.push(line);
        }
        let status = child.wait()?;
        let ok = status.success();
        println!(
            "{:<6} {:6.1} s",
            if ok { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
        if !ok {
            for line in output.iter().filter(|line| !line.ends_with("... ok")) {
                println!("    {line}");
            }
        }
        if took_too_long(status) {
            println!("    it took too long and was ended");
        }
        self.add(ok, seen);
        Ok(ok)
    }

    fn add(&mut self, ok: bool, seen: Option<Counts>) {
        let mut counts = seen.unwrap_or_default();
        self.tests += counts.passed + counts.failed;
        if !ok {
            // It may have broken off before a test could fail: nothing was compiled, or time ran out.
            counts.failed = counts.failed.max(1);
        } else if seen.is_none() {
            counts.passed = 1;
        }
        self.passed += counts.passed;
        self.failed += counts.failed;
    }
}

/// A summary of libtest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Reads `test result: ok. 7 passed; 0 failed; ..`; nothing from any other line.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word| {
            counts
                .split(';')
                .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
        })
    }

    const fn plus(self, other: &Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask measures its own steps, and steers nothing by it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_of_libtest_are_counted() {
        let line = "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.1s";
        assert_eq!(Counts::parse(line), Some(Counts { passed: 7, failed: 2 }));
        assert_eq!(Counts::parse("test netns::cut ... ok"), None);
    }

    #[test]
    fn step_without_tests_is_one_check() {
        let mut tally = Tally::default();
        tally.add(true, None);
        tally.add(false, None);
        assert_eq!((tally.passed, tally.failed, tally.tests), (1, 1, 0));
    }

    #[test]
    fn step_that_matched_no_test_checked_nothing() {
        let mut tally = Tally::default();
        tally.add(true, Some(Counts::default()));
        assert_eq!((tally.passed, tally.failed, tally.tests), (0, 0, 0));
    }
}
