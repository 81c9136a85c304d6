//! What the agent costs: its resident memory, idle with a link. Fails where a limit is passed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::wait::pause;

/// The limit of the design, in KiB.
const RESIDENT_MAX_KIB: u64 = 12 * 1024;

/// After this long, what enrolment and the first heartbeats needed has been given back or will not be.
const SETTLE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let mut fleet = Fleet::new("bench")?;
    // As in life: the tests' haste would keep it from idling.
    fleet.agent_options.clear();
    fleet.add_node("node", &["role=bench"])?;
    pause(SETTLE);
    fleet.wait_for("node", "be connected", holdfast_tests::node::Node::is_connected)?;
    let resident = resident_kib(fleet.agent("node")?.pid())?;
    println!(
        "agent, resident memory, idle with a link: {:.1} MiB (limit {} MiB)",
        mib(resident),
        RESIDENT_MAX_KIB / 1024
    );
    ensure!(
        resident <= RESIDENT_MAX_KIB,
        "the agent's resident memory passes its limit"
    );
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the agent is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    number.trim().parse().context("VmRSS is no number")
}

#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
