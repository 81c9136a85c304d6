//! `cargo xtask soak`: strangers' bytes for as long as one likes, and the property tests over many more cases.
//!
//! The fuzz targets run under libFuzzer, by cargo-fuzz, on the pinned toolchain: without a sanitizer, which only nightly
//! Rust has, and which would find little where no line of ours is unsafe. What libFuzzer finds on its way stays below
//! `target/fuzz`, so the next soak goes on from there; a crash lies in `fuzz/artifacts` and belongs among the seeds.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::shell::{bin_dir, bounded, cargo, root};
use crate::step::Tally;

/// Of crates.io; the newest when this was written.
const CARGO_FUZZ: &str = "0.13.2";
/// A clean build on two slow cores takes about a third of this.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// Some derive keys and sign in each case.
const PROPERTIES_LIMIT: Duration = Duration::from_secs(3600);
/// Where each takes 256 otherwise.
const PROPERTY_CASES: u32 = 4096;
/// What comes after a target's time: the input that it is at, and a word of farewell.
const GRACE_SECS: u64 = 60;
/// A body that takes this long for one input hangs; they take a millisecond.
const INPUT_LIMIT_SECS: u32 = 10;

/// What was asked for on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    seconds: u64,
    only: Option<String>,
    seed: u32,
}

impl Options {
    /// Reads the arguments behind `soak`; nothing if one is unknown.
    pub(crate) fn parse(mut args: &[&str]) -> Option<Self> {
        let mut options = Self {
            seconds: 60,
            only: None,
            seed: seed_of_today(),
        };
        loop {
            args = match args {
                [] => return Some(options),
                ["--seconds", seconds, rest @ ..] => {
                    options.seconds = seconds.parse().ok()?;
                    rest
                }
                ["--only", name, rest @ ..] => {
                    options.only = Some((*name).to_owned());
                    rest
                }
                ["--seed", seed, rest @ ..] => {
                    options.seed = seed.parse().ok().filter(|seed| *seed > 0)?;
                    rest
                }
                _ => return None,
            };
        }
    }

    fn asks_for(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }
}

/// Runs the fuzz targets, one after another, and then the property tests.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    const PROPERTIES: &str = "properties";
    let targets: Vec<String> = targets()?
        .into_iter()
        .filter(|name| options.asks_for(name))
        .collect();
    if targets.is_empty() && !options.asks_for(PROPERTIES) {
        bail!("there is no such target; `--only` takes a name of fuzz/fuzz_targets, or {PROPERTIES}");
    }
    if let Err(install) = packages::ensure(packages::CPP_COMPILER) {
        bail!("libFuzzer is written in C++, and only root may install a compiler; run `sudo {install}`");
    }
    println!("seed {0}: repeat it with --seed {0}", options.seed);
    let mut tally = Tally::default();
    if !targets.is_empty() && tally.step("build the fuzz targets", &mut build()?)? {
        for target in targets {
            let name = format!("fuzz {target} for {} s", options.seconds);
            tally.step(&name, &mut fuzz(&target, options)?)?;
        }
    }
    if options.asks_for(PROPERTIES) {
        let name = format!("properties, {PROPERTY_CASES} cases each");
        tally.step(&name, &mut properties(options.seed))?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(root().join("fuzz/fuzz_targets")).context("fuzz/fuzz_targets is missing")?
    {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// cargo-fuzz, which is installed below `target` if it is not there yet.
fn cargo_fuzz(limit: Duration) -> Result<Command> {
    let tools = target_dir()?.join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        println!("installing cargo-fuzz {CARGO_FUZZ}");
        let mut install = cargo(BUILD_LIMIT);
        install.args([
            "install",
            "--quiet",
            "--locked",
            "--version",
            CARGO_FUZZ,
            "cargo-fuzz",
        ]);
        install.arg("--root").arg(&tools);
        if !install.status().context("cannot start cargo")?.success() {
            bail!("cargo-fuzz cannot be installed from crates.io");
        }
    }
    Ok(bounded(limit, &program.to_string_lossy()))
}

/// What `build` and `run` must agree on, or all is built twice.
fn options_of_build() -> Result<[OsString; 4]> {
    let dir = target_dir()?.join("fuzz").into_os_string();
    Ok(["--sanitizer".into(), "none".into(), "--target-dir".into(), dir])
}

fn build() -> Result<Command> {
    let mut build = cargo_fuzz(BUILD_LIMIT)?;
    build.arg("build").args(options_of_build()?);
    Ok(build)
}

fn fuzz(target: &str, options: &Options) -> Result<Command> {
    let found = target_dir()?.join("fuzz/found").join(target);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let mut fuzz = cargo_fuzz(Duration::from_secs(options.seconds + GRACE_SECS))?;
    fuzz.arg("run").args(options_of_build()?).arg(target);
    // New inputs go to the first; the second is only read.
    fuzz.args([found, root().join("fuzz/seeds").join(target)])
        .arg("--");
    fuzz.arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-timeout={INPUT_LIMIT_SECS}"));
    Ok(fuzz)
}

fn properties(seed: u32) -> Command {
    let mut properties = cargo(PROPERTIES_LIMIT);
    properties
        .args(["test", "--quiet", "--workspace", "--lib", "--no-fail-fast"])
        .env("PROPTEST_CASES", PROPERTY_CASES.to_string())
        .env("PROPTEST_RNG_SEED", seed.to_string());
    properties
}

/// Where cargo builds: our own binary lies two below it.
fn target_dir() -> Result<PathBuf> {
    let profile = bin_dir()?;
    let dir = profile.parent().context("xtask lies at the root")?;
    Ok(dir.to_owned())
}

/// Another one for each soak, so that no two look at the same.
#[expect(
    clippy::disallowed_methods,
    reason = "chance enough to begin with, and told to whoever repeats it"
)]
fn seed_of_today() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.subsec_nanos().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let options = Options::parse(&["--seconds", "5", "--seed", "7", "--only", "token"]).unwrap();
        assert_eq!((options.seconds, options.seed), (5, 7));
        assert!(options.asks_for("token") && !options.asks_for("csr"));
        for bad in [&["--seed", "0"][..], &["--seconds", "x"], &["--only"], &["token"]] {
            assert!(Options::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn every_target_is_found() {
        let targets = targets().unwrap();
        assert!(
            targets.len() >= 8 && targets.iter().any(|name| name == "authority"),
            "{targets:?}"
        );
    }
}
