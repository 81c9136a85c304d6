//! Agents that die, and disks that fill, at the worst moment: what is in force is always something that was confirmed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_proto::ids::Digest;
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE};
use holdfast_tests::need;
use holdfast_tests::process;
use holdfast_tests::socket::{Listener, Reach};
use holdfast_tests::stage::{DB, FILE, NEW, OLD, SERVICE, STRANGER, Stage, cut_off};
use holdfast_tests::wait::{pause, until};
use holdfast_tests::world::{LIMIT, World};

#[test]
fn sigkill_between_apply_and_confirm_is_undone() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("sigkill", "6s")?;
    stage.apply(OLD)?;
    stage.force(&cut_off(NEW))?;
    until("the new rules to be loaded", PATIENCE, || {
        let chain = stage.world().nft(DB, "list chain inet holdfast output");
        match chain {
            Ok(chain) if chain.contains("drop") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    stage.fleet.kill_agent(DB);
    stage.new_holds()?;
    // No agent is there any more: the guard is alone with the deadline.
    stage.wait_reach(STRANGER, Reach::Silent, Duration::from_secs(12))?;
    stage.old_holds()
}

#[test]
fn an_agent_that_died_in_a_change_undoes_it_when_it_starts() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("restarted", "60s")?;
    stage.apply(OLD)?;
    // Nothing can be confirmed while it stands, and no new link comes about that could bring the release again.
    stage.set_blockade(true)?;
    stage.force(NEW)?;
    stage.wait_new()?;
    stage.fleet.kill_agent(DB);
    stage.new_holds()?;
    stage.fleet.start_agent(DB, None)?;
    // Long before the guard's deadline.
    stage.wait_reach(STRANGER, Reach::Silent, Duration::from_secs(15))?;
    stage.wait_reach(HUB, Reach::Open, PATIENCE)?;
    assert_eq!(stage.ledger()?["pending"], serde_json::Value::Null);

    stage.set_blockade(false)?;
    stage.wait_confirmed(2)?;
    let log = stage.fleet.hub()?.log();
    assert!(
        log.contains("outcome=\"undone\""),
        "the undo was never reported: {log}"
    );
    stage.new_holds()
}

/// Nodes that are killed side by side, and how often each.
const NODES: [&str; 3] = ["one", "two", "three"];
const ROUNDS: u64 = 5;
/// From the operator's command to the confirmed release it takes about a second.
const RELEASE_MILLIS: u64 = 1500;
/// Of that, the change itself.
const CHANGE_MILLIS: u64 = 300;

#[test]
fn sigkill_at_any_moment_of_a_release_leaves_a_confirmed_state() -> Result<()> {
    need!(namespaces);
    let seed = match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => seed.parse().context("HOLDFAST_SEED is no number")?,
        Err(_) => SystemRandom.below(1 << 32),
    };
    eprintln!("HOLDFAST_SEED={seed}");
    let mut fleet = Fleet::new("moments")?;
    fleet.world.add_host(STRANGER, 9)?;
    for name in NODES {
        fleet.add_node(name, &["role=db"])?;
    }
    let _services: Vec<Listener> = NODES
        .iter()
        .map(|name| fleet.world.listen(name, SERVICE))
        .collect::<Result<_>>()?;
    let old = fleet.policy_dir("old", &[(FILE, OLD)])?;
    let new = fleet.policy_dir("new", &[(FILE, NEW)])?;
    fleet.policy("apply", &old, &["--wait", "60s"])?.ok()?;

    let mut in_change = 0;
    for round in 1..=ROUNDS {
        let (policy, wanted) = if round.is_multiple_of(2) {
            (&old, "old")
        } else {
            (&new, "new")
        };
        kill_in_release(&mut fleet, policy, |name| moment(seed, round, name))?;
        in_force(&fleet.world)?;
        for name in NODES {
            in_change += usize::from(is_in_change(&fleet, name)?);
            fleet.start_agent(name, None)?;
        }
        for name in NODES {
            fleet.wait_for(name, "converge", |node| node.confirmed() == Some((1, round + 1)))?;
            assert!(!is_in_change(&fleet, name)?, "{name} in round {round}");
        }
        assert_eq!(in_force(&fleet.world)?, [wanted; 3], "in round {round}");
    }
    eprintln!("{in_change} of the agents died in a change");
    Ok(())
}

/// A number that follows from the seed.
fn moment(seed: u64, round: u64, name: &str) -> u64 {
    let digest = Digest::of(format!("{seed} {round} {name}").as_bytes()).to_string();
    u64::from_str_radix(&digest[..8], 16).expect("a digest is hexadecimal")
}

/// Applies `policy`, and kills each agent at the moment that a number stands for: the first one within its change, which
/// is too short for the others to be sure to hit.
fn kill_in_release(fleet: &mut Fleet, policy: &Path, number: impl Fn(&str) -> u64) -> Result<()> {
    let within = |name: &str, millis: u64| Duration::from_millis(number(name) % millis);
    let mut apply = fleet.operator_command()?;
    apply.args(["policy", "apply"]).arg(policy).args(["--wait", "0s"]);
    let start = SystemClock.since_boot();
    let mut apply = fleet.world.spawn(HUB, "apply", apply)?;
    let [first, others @ ..] = NODES;
    let mut due = BTreeMap::from(others.map(|name| (name, start + within(name, RELEASE_MILLIS))));
    while !due.is_empty() || fleet.agent(first).is_ok() {
        let now = SystemClock.since_boot();
        if fleet.agent(first).is_ok() && !due.contains_key(first) && is_in_change(fleet, first)? {
            due.insert(first, now + within(first, CHANGE_MILLIS));
        }
        for (name, _) in due.extract_if(.., |_, moment| *moment <= now) {
            fleet.kill_agent(name);
        }
        anyhow::ensure!(
            now < start + PATIENCE,
            "{first} begins no change: {}",
            apply.tail()
        );
        pause(Duration::from_millis(2));
    }
    let status = apply.wait(PATIENCE)?;
    anyhow::ensure!(status.success(), "{}", apply.tail());
    Ok(())
}

/// Which policy the packets that each node lets in tell of.
fn in_force(world: &World) -> Result<Vec<&'static str>> {
    // All at once: each silence lasts.
    let reaches = std::thread::scope(|scope| {
        let threads = NODES
            .map(|node| [HUB, STRANGER].map(|from| scope.spawn(move || world.reach(from, node, SERVICE))));
        threads.map(|pair| pair.map(|thread| thread.join().expect("it does not panic")))
    });
    let told = reaches.into_iter().zip(NODES).map(|([hub, stranger], node)| {
        Ok(match (hub?, stranger?) {
            (Reach::Open, Reach::Silent) => "old",
            (Reach::Silent, Reach::Open) => "new",
            other => anyhow::bail!("{node} holds neither policy: hub and stranger find it {other:?}"),
        })
    });
    told.collect()
}

/// Whether the ledger, which must be readable, knows of a change that is neither confirmed nor undone.
fn is_in_change(fleet: &Fleet, node: &str) -> Result<bool> {
    let bytes = std::fs::read(fleet.agent_dir(node).join("ledger.json"))?;
    let ledger: serde_json::Value =
        serde_json::from_slice(&bytes).with_context(|| format!("the ledger of {node} cannot be read"))?;
    Ok(!ledger["pending"].is_null())
}

#[test]
fn a_full_disk_fails_the_release_plainly_and_heals() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("full-disk", "10s")?;
    stage.fleet.kill_agent(DB);
    let disk = SmallDisk::under(&stage.fleet.agent_dir(DB))?;
    stage.fleet.start_agent(DB, None)?;
    stage.apply(OLD)?;
    // An apply does not wait for a node whose link is not up again yet.
    stage.wait_confirmed(1)?;
    let (table, held) = (stage.world().own_table(DB)?, stage.ledger()?);

    disk.fill()?;
    stage.force(NEW)?;
    let node = stage.wait_outcome("failed")?;
    for words in ["ledger.json", "free space", "No space left"] {
        assert!(node.detail().contains(words), "no '{words}' in: {node}");
    }
    stage.old_holds()?;
    assert_eq!(stage.world().own_table(DB)?, table, "something was loaded");
    assert_eq!(stage.ledger()?, held);

    disk.free()?;
    stage.wait_confirmed(2)?;
    stage.new_holds()
}

/// A disk of half a mebibyte. Unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one over `dir`, and copies what is there onto it.
    fn under(dir: &Path) -> Result<Self> {
        let script = "cp -a \"$1\" \"$1.saved\" && mount -t tmpfs -o size=512k,mode=700 small \"$1\" && cp -a \"$1.saved/.\" \"$1/\"";
        shell(script, dir)?;
        Ok(Self(dir.to_owned()))
    }

    fn fill(&self) -> Result<()> {
        // dd fails once the disk is full, which is the point.
        shell(
            "dd if=/dev/zero of=\"$1/ballast\" bs=4k status=none 2>/dev/null; df --output=avail \"$1\" | grep -qx ' *0'",
            &self.0,
        )
    }

    fn free(&self) -> Result<()> {
        shell("rm \"$1/ballast\"", &self.0)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = shell("umount --lazy \"$1\"", &self.0) {
            eprintln!("cannot unmount {}: {error:#}", self.0.display());
        }
    }
}

fn shell(script: &str, dir: &Path) -> Result<()> {
    let mut sh = process::command("sh");
    sh.args(["-c", script, "sh"]).arg(dir);
    process::run(&sh, LIMIT, "")?.ok().map(drop)
}

#[test]
fn a_second_agent_on_one_state_directory_is_refused() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("second", "10s")?;
    let second = stage.fleet.agent_command(DB, DB, &stage.fleet.agent_dir(DB))?;
    let refused = process::run(&second, Duration::from_secs(10), "")?;
    refused.code_is(1)?;
    assert!(
        refused.stderr.contains("another agent runs on"),
        "{}",
        refused.stderr
    );
    assert_eq!(stage.fleet.agent(DB)?.exited(), None);
    stage.apply(OLD)
}
