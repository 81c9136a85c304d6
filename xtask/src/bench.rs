//! `cargo xtask bench`: what the agent costs, measured on the release build.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::shell::{bin_dir, cargo, exit_code};
use crate::world::World;

const BUILD_LIMIT: Duration = Duration::from_secs(1800);
const LIMIT: Duration = Duration::from_secs(300);

/// Builds with optimisation, then measures.
pub(crate) fn run() -> Result<ExitCode> {
    if let Err(install) = packages::ensure(packages::NAMESPACES) {
        bail!("programs are missing, and only root may install them; run `sudo {install}`");
    }
    let build = cargo(BUILD_LIMIT)
        .args(["build", "--workspace", "--bins", "--release"])
        .status();
    if !build.context("cannot start cargo")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let world = World::find();
    if let World::Refused(reason) = &world {
        bail!(
            "an agent with a link is measured in network namespaces, and this machine gives none: {reason}"
        );
    }
    let bench = bin_dir()?.with_file_name("release").join("holdfast-bench");
    let mut bench = world.command(LIMIT, &bench.to_string_lossy());
    Ok(exit_code(bench.status().context("cannot start the bench")?))
}
