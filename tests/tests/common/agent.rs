//! Agents beside the fleet's own: on any host, in a state directory of their own, with a token that a test has altered.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use holdfast_pki::token::JoinToken;
use holdfast_tests::fleet::{Fleet, PATIENCE};
use holdfast_tests::process::{self, Outcome, Process};
use holdfast_tests::wait;

/// Starts an agent that enrols under `name` by `token`; its state is [`state_dir`].
pub(crate) fn start(fleet: &Fleet, host: &str, name: &str, token: &JoinToken) -> Result<Process> {
    let state = state_dir(fleet, host, name);
    let mut run = fleet.agent_command(host, name, &state)?;
    run.arg("--token-file").arg(write_token(&state, token)?);
    fleet.world.spawn(host, &format!("agent-{name}"), run)
}

/// Runs an agent that is expected to end by itself, since it cannot enrol under `name` by `token`.
pub(crate) fn run(fleet: &Fleet, host: &str, name: &str, state: &Path, token: &JoinToken) -> Result<Outcome> {
    let mut run = fleet.agent_command(host, name, state)?;
    run.arg("--token-file").arg(write_token(state, token)?);
    process::run(&run, PATIENCE, "")
}

/// Where such an agent keeps its state.
pub(crate) fn state_dir(fleet: &Fleet, host: &str, name: &str) -> PathBuf {
    fleet.world.dir(host).join(format!("state-{name}"))
}

/// Waits until `process` has logged `text`.
pub(crate) fn logged(process: &Process, text: &str) -> Result<()> {
    let what = format!("'{text}' in the log");
    let said = wait::until(&what, PATIENCE, || {
        if process.log().contains(text) {
            Ok(())
        } else {
            Err("nothing of it".to_owned())
        }
    });
    said.map_err(|error| anyhow!("{error:#}\n{}", process.tail()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "test input, which need not survive a crash"
)]
fn write_token(state: &Path, token: &JoinToken) -> Result<PathBuf> {
    let path = state.with_extension("token");
    std::fs::write(&path, token.to_text().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
