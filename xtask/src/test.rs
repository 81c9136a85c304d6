//! `cargo xtask test`: the gate.
//!
//! Formatting, lints and documentation; then all tests, from units to booted nodes, in a private world. What this
//! machine cannot run is skipped by name and reason. The last line is `N passed, N failed, N skipped`.
//!
//! Building and testing name the whole workspace: with another choice of packages or targets cargo would choose other
//! features of the dependencies, and build them all again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::packages;
use crate::shell::{bin_dir, bounded, cargo, cargo_path};
use crate::step::Tally;
use crate::world::World;

/// A clean build on two slow cores takes about a third of this.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// The tests themselves; what hangs is ended with its whole world.
const TEST_LIMIT: Duration = Duration::from_secs(900);
/// An image takes half a minute from a near mirror.
const IMAGE_LIMIT: Duration = Duration::from_secs(300);

/// Tests over real processes mostly wait: more of them than cores shortens the gate.
const TEST_THREADS: &str = "--test-threads=4";

/// What was asked for on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    strict: bool,
    only: Option<String>,
}

impl Options {
    /// Reads the arguments behind `test`; nothing if one is unknown.
    pub(crate) fn parse(mut args: &[&str]) -> Option<Self> {
        let mut options = Self {
            strict: std::env::var("CI").as_deref() == Ok("true"),
            only: None,
        };
        loop {
            args = match args {
                [] => return Some(options),
                ["--strict", rest @ ..] => {
                    options.strict = true;
                    rest
                }
                ["--only", name, rest @ ..] => {
                    options.only = Some((*name).to_owned());
                    rest
                }
                _ => return None,
            };
        }
    }
}

/// Runs the gate.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut tally = Tally::default();
    let filter = options.only.as_slice();
    if filter.is_empty() {
        lint(&mut tally)?;
    }
    let all = ["build", "--quiet", "--workspace", "--all-targets"];
    if tally.step("build", cargo(BUILD_LIMIT).args(all))? {
        run_tests(&mut tally, filter)?;
    }
    Ok(close(&tally, options))
}

/// All that needs no test to run.
fn lint(tally: &mut Tally) -> Result<()> {
    const DENY: [&str; 3] = ["--", "-D", "warnings"];
    tally.step("format", cargo(BUILD_LIMIT).args(["fmt", "--all", "--check"]))?;
    let all = ["clippy", "--quiet", "--workspace", "--all-targets"];
    tally.step("lints", cargo(BUILD_LIMIT).args(all).args(DENY))?;
    let client = ["clippy", "--quiet", "-p", "holdfast-hub", "--no-default-features"];
    tally.step(
        "lints of the operator's CLI without the server",
        cargo(BUILD_LIMIT).args(client).args(DENY),
    )?;
    let mut doc = cargo(BUILD_LIMIT);
    doc.args([
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    // Written for those who work on it, it may point at what is private.
    doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    tally.step("documentation", &mut doc)?;
    Ok(())
}

/// All tests at once, in a private world where there can be one.
fn run_tests(tally: &mut Tally, filter: &[String]) -> Result<()> {
    let world = match packages::ensure(packages::NAMESPACES) {
        Ok(()) => World::find(),
        Err(install) => World::Refused(format!("programs are missing; run `{install}`")),
    };
    for (wanted, what) in [
        (packages::OPENSSH, "OpenSSH"),
        (packages::WRONG_CLOCKS, "faketime"),
    ] {
        if let Err(install) = packages::ensure(wanted) {
            println!("without {what} its tests are skipped; run `{install}`");
        }
    }
    let mut tests = world.command(TEST_LIMIT, &cargo_path());
    tests
        .args(["test", "--workspace", "--offline", "--no-fail-fast"])
        .args(filter)
        .args(["--", TEST_THREADS]);
    match node_image(&world) {
        Ok(image) => tests.env("HOLDFAST_LAB_IMAGE", image),
        Err(reason) => tests.env("HOLDFAST_NO_LAB", reason),
    };
    tally.step("tests", &mut tests)?;
    Ok(())
}

/// The image of the booted nodes, made here because a world has no way to a mirror; or why there is none.
fn node_image(world: &World) -> Result<PathBuf, String> {
    if !matches!(world, World::Root) {
        return Err("booted nodes need root".to_owned());
    }
    packages::ensure(packages::BOOTED_NODES)
        .map_err(|install| format!("programs are missing; run `{install}`"))?;
    let maker = bin_dir()
        .map_err(|error| error.to_string())?
        .join("holdfast-lab-image");
    let made = bounded(IMAGE_LIMIT, &maker.to_string_lossy()).output();
    let made = made.map_err(|error| format!("cannot start {}: {error}", maker.display()))?;
    if made.status.success() {
        return Ok(String::from_utf8_lossy(&made.stdout).trim().into());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(format!(
        "no image: {}",
        said.trim().lines().last().unwrap_or("no reason given")
    ))
}

/// Says how it went, the closing line last.
fn close(tally: &Tally, options: &Options) -> ExitCode {
    let mut good = tally.failed == 0;
    println!();
    for skip in &tally.skips {
        println!("SKIP {skip}");
    }
    if options.strict && !tally.skips.is_empty() {
        println!("a skip is a failure here (--strict, or CI=true)");
        good = false;
    }
    if let (Some(name), 0) = (&options.only, tally.tests) {
        println!("no test is named like '{name}'");
        good = false;
    }
    let skipped = tally.skips.len() as u64;
    let passed = tally.passed.saturating_sub(skipped);
    println!("{passed} passed, {} failed, {skipped} skipped", tally.failed);
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
