//! `cargo xtask demo`: the whole path from a policy file to a dropped packet, on this machine.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::packages;
use crate::shell::{bin_dir, cargo, exit_code};
use crate::world::World;

const BUILD_LIMIT: Duration = Duration::from_secs(1800);
/// It takes one minute; a machine that needs three has something to say that nobody waits for.
const SHOW_LIMIT: Duration = Duration::from_secs(180);
/// Someone who plays with it gets a working day.
const KEEP_LIMIT: Duration = Duration::from_secs(12 * 3600);

/// Builds and shows it; with `keep` it goes on running until Ctrl-C.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    if let Err(install) = packages::ensure(packages::NAMESPACES) {
        eprintln!("xtask: programs are missing, and only root may install them; run\n  sudo {install}");
        return Ok(ExitCode::FAILURE);
    }
    println!("Building the hub, the agent and the demo (minutes the first time) ..");
    let build = cargo(BUILD_LIMIT)
        .args(["build", "--workspace", "--bins"])
        .status();
    let build = build.context("cannot start cargo")?;
    if !build.success() {
        return Ok(exit_code(build));
    }
    let demo = bin_dir()?.join("holdfast-demo");
    let mut demo = World::find().command(
        if keep { KEEP_LIMIT } else { SHOW_LIMIT },
        &demo.to_string_lossy(),
    );
    if keep {
        demo.arg("--keep");
    }
    Ok(exit_code(demo.status().context("cannot start the demo")?))
}
