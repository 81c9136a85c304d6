//! `cargo xtask bench`: what the agent costs, measured on the release build, beside a bare client where there is one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::shell::{bin_dir, bounded, cargo, exit_code, root};
use crate::world::World;

const BUILD_LIMIT: Duration = Duration::from_secs(1800);
const LIMIT: Duration = Duration::from_secs(300);

/// Builds with optimisation, then measures.
pub(crate) fn run() -> Result<ExitCode> {
    if let Err(install) = packages::ensure(packages::NAMESPACES) {
        bail!("programs are missing, and only root may install them; run `sudo {install}`");
    }
    // Not with the tests' own needs of the same crates, which would add features that no agent on a node has.
    for packages in [
        &["-p", "holdfast-agent", "-p", "holdfast-hub"][..],
        &["-p", "holdfast-tests"],
    ] {
        let mut build = cargo(BUILD_LIMIT);
        build.args(["build", "--release", "--bins"]).args(packages);
        if !build.status().context("cannot start cargo")?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    let world = World::find();
    if let World::Refused(reason) = &world {
        bail!(
            "an agent with a link is measured in network namespaces, and this machine gives none: {reason}"
        );
    }
    let limits = build_limits()?;
    let bench = bin_dir()?.with_file_name("release").join("holdfast-bench");
    let mut bench = world.command(LIMIT, &bench.to_string_lossy());
    if let Some(program) = limits {
        bench.env("HOLDFAST_LIMITS_BIN", program);
    }
    Ok(exit_code(bench.status().context("cannot start the bench")?))
}

/// The frozen program that holds a bare tonic stream, built from a copy outside this repository; none where it is not
/// on this machine.
fn build_limits() -> Result<Option<PathBuf>> {
    let source = root().join("../shared/limits");
    if !source.is_dir() {
        return Ok(None);
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let copy = PathBuf::from(home).join(".cache/holdfast-limits");
    let mut take = bounded(LIMIT, "cp");
    take.args([
        "--recursive",
        "--preserve=timestamps",
        "--no-preserve=mode",
        "--no-target-directory",
    ]);
    std::fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
    let taken = take.arg(&source).arg(&copy).status();
    if !taken.context("cannot start cp")?.success() {
        bail!("cannot copy {} to {}", source.display(), copy.display());
    }
    let mut build = cargo(BUILD_LIMIT);
    build
        .args(["build", "--release"])
        .current_dir(&copy)
        .env_remove("CARGO_TARGET_DIR");
    if !build.status().context("cannot start cargo")?.success() {
        bail!("the limits' own program does not build in {}", copy.display());
    }
    Ok(Some(copy.join("target/release/mtls")))
}
