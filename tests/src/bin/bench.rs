//! What the agent costs: its resident memory, idle with a link and a release in force. Fails where the limit is passed.
//!
//! Beside it, where `HOLDFAST_LIMITS_BIN` names the frozen program of the limits, what a bare tonic client costs that
//! holds one stream over the same TLS: what no agent of this make can be below.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::Fleet;
use holdfast_tests::node::Node;
use holdfast_tests::process;
use holdfast_tests::wait::pause;

/// The limit of the design.
const RESIDENT_MAX_MIB: f64 = 12.0;

/// As many agents, and bare clients one after the other: they differ by less than a tenth of a MiB.
const SAMPLES: usize = 5;
/// After this long, what enrolment, the release and the first heartbeats needed has been given back or will not be.
const SETTLE: Duration = Duration::from_secs(30);
/// A bare client has nothing to give back but its handshake.
const BARE_SETTLE: Duration = Duration::from_secs(3);

/// One process's memory, in MiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// All that is resident, pages of the program's own file included.
    resident: f64,
    /// The part that no other process could share.
    anonymous: f64,
}

fn main() -> Result<()> {
    let agents = agents()?;
    print("agent, idle with a link and a release in force", &agents);
    match std::env::var_os("HOLDFAST_LIMITS_BIN") {
        Some(program) => {
            let bare = bare_clients(Path::new(&program))?;
            print("bare tonic client, idle with a stream", &bare);
            println!(
                "ratio of the medians: VmRSS {:.2}, RssAnon {:.2}",
                median(&agents, |m| m.resident) / median(&bare, |m| m.resident),
                median(&agents, |m| m.anonymous) / median(&bare, |m| m.anonymous)
            );
        }
        None => {
            println!("the bare tonic client is not here (../shared/limits): no ratio, absolute figures only")
        }
    }
    let most = sorted(&agents, |m| m.resident)[SAMPLES - 1];
    ensure!(
        most <= RESIDENT_MAX_MIB,
        "the agent's resident memory, {most:.1} MiB, passes its limit of {RESIDENT_MAX_MIB:.0} MiB"
    );
    println!("limit {RESIDENT_MAX_MIB:.0} MiB VmRSS: kept");
    Ok(())
}

/// Agents as in life: with the demo's policy, and none of the tests' haste, which would keep them from idling.
fn agents() -> Result<Vec<Memory>> {
    const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/lab");
    let mut fleet = Fleet::new("bench")?;
    fleet.agent_options.clear();
    let names: Vec<String> = (1..=SAMPLES).map(|n| format!("node-{n}")).collect();
    for name in &names {
        fleet.add_node(name, &["role=db"])?;
    }
    fleet.policy("apply", Path::new(POLICY), &[])?.ok()?;
    pause(SETTLE);
    let mut found = Vec::new();
    for name in &names {
        fleet.wait_for(name, "be linked and hold the release", |node: &Node| {
            node.is_connected() && node.confirmed().is_some()
        })?;
        found.push(memory(fleet.agent(name)?.pid())?);
    }
    Ok(found)
}

/// Bare clients: each a process of its own with one stream, as an agent has.
fn bare_clients(program: &Path) -> Result<Vec<Memory>> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let keys = dir.path().to_string_lossy().into_owned();
    process::run(process::command(program).args(["gen", &keys]), SETTLE, "")?.ok()?;
    // Keys as ours, no session tickets, rustls' own choice of key exchange; one thread, HTTP/2 windows as they come.
    let what = ["tonic", &keys, "ed25519", "no", "default", "17321", "1"];
    let _server = Held::start(program, "server", &[&what[..], &["0", "8192"]].concat())?;
    pause(BARE_SETTLE);
    (0..SAMPLES)
        .map(|_| {
            let client = Held::start(program, "agents", &[&what[..], &["1", "1", "hold"]].concat())?;
            pause(BARE_SETTLE);
            memory(client.0.id())
        })
        .collect()
}

/// A process that ends when its standard input does, or when this is dropped.
struct Held(Child);

impl Held {
    fn start(program: &Path, mode: &str, args: &[&str]) -> Result<Self> {
        let mut command = process::command(program);
        command.arg(mode).args(args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| {
            format!("cannot start {}", program.display())
        })?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn memory(pid: u32) -> Result<Memory> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = std::fs::read_to_string(&path).with_context(|| format!("{} is gone", path.display()))?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u32 = kib
            .with_context(|| format!("no {key} in {}", path.display()))?
            .parse()?;
        Ok(f64::from(kib) / 1024.0)
    };
    Ok(Memory {
        resident: mib("VmRSS:")?,
        anonymous: mib("RssAnon:")?,
    })
}

fn sorted(found: &[Memory], what: impl Fn(&Memory) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = found.iter().map(what).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(found: &[Memory], what: impl Fn(&Memory) -> f64) -> f64 {
    sorted(found, what)[found.len() / 2]
}

fn print(title: &str, found: &[Memory]) {
    println!("{title} ({} processes), MiB min/median/max:", found.len());
    for (name, values) in [
        ("VmRSS", sorted(found, |m| m.resident)),
        ("RssAnon", sorted(found, |m| m.anonymous)),
    ] {
        println!(
            "  {name:8} {:.1} / {:.1} / {:.1}",
            values[0],
            values[values.len() / 2],
            values[values.len() - 1]
        );
    }
}
