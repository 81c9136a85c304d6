//! The agent as a service of a whole Debian: its guard is a unit that outlives it, and sshd is the real one.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE};
use holdfast_tests::lab::{BINARIES, BootedNode};
use holdfast_tests::need;
use holdfast_tests::nft::{FOREIGN, FOREIGN_TABLES};
use holdfast_tests::node::Node;
use holdfast_tests::process;
use holdfast_tests::socket::Reach;
use holdfast_tests::ssh::Login;
use holdfast_tests::stage::{FILE, NEW, OLD, SERVICE, STRANGER, cut_off, wait_reach};
use holdfast_tests::wait::until;
use holdfast_tests::world::LIMIT;

const NAME: &str = "node";
const UNIT: &str = "holdfast-agent.service";

/// The least that runs the agent. It is not restarted: what happens then is the guard's doing.
fn unit() -> String {
    format!(
        "[Service]\nType=exec\nExecStart={BINARIES}/holdfast-agent run --name {NAME} --token-file /root/token \
         --state-dir /var/lib/holdfast-agent --guard-time 12s --look-every 3s\n"
    )
}

/// The guards that run, as systemd lists them.
fn guards(node: &BootedNode) -> Result<Vec<String>> {
    let list = [
        "systemctl",
        "list-units",
        "holdfast-guard-*",
        "--no-legend",
        "--plain",
        "--state=running",
    ];
    Ok(node.run(&list)?.ok()?.lines().map(str::to_owned).collect())
}

fn foreign_tables(node: &BootedNode) -> Result<String> {
    let lists = FOREIGN_TABLES.map(|table| {
        let words = format!("nft --stateless --handle list table {table}");
        node.run(&words.split(' ').collect::<Vec<_>>())?.ok()
    });
    lists.into_iter().collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the node's disk lives in memory and need not survive a crash"
)]
fn write(node: &BootedNode, path: &str, text: &str) -> Result<()> {
    std::fs::write(node.root().join(path), text).with_context(|| format!("cannot write {path} of the node"))
}

fn reaches(fleet: &Fleet, hub: Reach, stranger: Reach) -> Result<()> {
    for (from, wanted) in [(HUB, hub), (STRANGER, stranger)] {
        let found = fleet.world.reach(from, NAME, SERVICE)?;
        ensure!(
            found == wanted,
            "{from} finds the node {found:?}, wanted {wanted:?}"
        );
    }
    Ok(())
}

#[test]
fn a_guard_is_a_unit_that_outlives_the_agents() -> Result<()> {
    need!(namespaces);
    need!(booted_node);
    let mut fleet = Fleet::new("service")?;
    fleet.world.add_host(STRANGER, 9)?;
    let node = BootedNode::boot(&mut fleet.world, NAME, 20)?;
    a_change_dies_with_its_agent(&fleet, &node).map_err(|error| {
        let journal = node.run(&["journalctl", "--no-pager", "--lines=40", "--unit=holdfast-*"]);
        anyhow!(
            "{error:#}\n{}",
            journal.map_or_else(|error| error.to_string(), |said| said.stdout)
        )
    })
}

fn a_change_dies_with_its_agent(fleet: &Fleet, node: &BootedNode) -> Result<()> {
    let world = &fleet.world;
    let _service = world.listen(NAME, SERVICE)?;
    write(node, "root/foreign.nft", FOREIGN)?;
    node.run(&["nft", "-f", "/root/foreign.nft"])?.ok()?;
    let theirs = foreign_tables(node)?;

    let login = Login::make(&world.dir(HUB))?;
    node.admit(&login)?;
    let _session = world.spawn(HUB, "ssh", login.command(world, HUB, NAME, &["sleep", "600"]))?;
    until("the operator to be logged in", PATIENCE, || {
        let asleep = node.run(&["pgrep", "--exact", "sleep"]);
        asleep
            .and_then(process::Outcome::ok)
            .map_err(|error| format!("{error:#}"))
    })?;
    write(node, "root/token", &fleet.token(&["role=db"], &[])?)?;
    write(node, &format!("etc/systemd/system/{UNIT}"), &unit())?;
    node.run(&["systemctl", "daemon-reload"])?.ok()?;
    node.run(&["systemctl", "start", UNIT])?.ok()?;
    let enrolled = fleet.wait_for(NAME, "be connected", Node::is_connected)?;
    let inventory = &enrolled.json()["inventory"];
    assert_eq!(inventory["os"], "Debian GNU/Linux 12 (bookworm)", "{inventory}");
    for (list, wanted) in [
        ("listening_ssh_ports", "22"),
        ("ssh_peers", "10.77.0.1"),
        ("interfaces", "eth0"),
    ] {
        assert!(
            inventory[list].to_string().contains(wanted),
            "no {wanted} in {inventory}"
        );
    }

    let dir = fleet.policy_dir(
        "closed",
        &[(
            FILE,
            OLD.split_once("      - allow: { tcp: [22]").context("OLD")?.0,
        )],
    )?;
    let refused = fleet.policy("check", &dir, &[])?;
    refused.code_is(1)?;
    assert!(
        refused.stderr.contains("ssh from 10.77.0.1 to port 22, open now"),
        "{}",
        refused.stderr
    );

    let dir = fleet.policy_dir("old", &[(FILE, OLD)])?;
    fleet.policy("apply", &dir, &["--wait", "60s"])?.ok()?;
    reaches(fleet, Reach::Open, Reach::Silent)?;
    until(
        "the guard of the confirmed change to end",
        PATIENCE,
        || match guards(node) {
            Ok(units) if units.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;

    let dir = fleet.policy_dir("cut", &[(FILE, &cut_off(NEW))])?;
    fleet.policy("apply", &dir, &["--force", "--wait", "0s"])?.ok()?;
    wait_reach(world, (STRANGER, NAME, SERVICE), Reach::Open, PATIENCE)?;
    let armed = guards(node)?;
    assert_eq!(armed.len(), 1, "{armed:?}");
    node.run(&["systemctl", "kill", "--signal=KILL", UNIT])?.ok()?;
    until("the agent to be dead", PATIENCE, || {
        let state = node.run(&["systemctl", "is-active", UNIT]);
        match state {
            Ok(state) if state.stdout.trim() == "failed" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    assert_eq!(guards(node)?, armed, "the guard died with the agent");
    reaches(fleet, Reach::Silent, Reach::Open)?;

    wait_reach(
        world,
        (STRANGER, NAME, SERVICE),
        Reach::Silent,
        Duration::from_secs(20),
    )?;
    reaches(fleet, Reach::Open, Reach::Silent)?;
    assert_eq!(foreign_tables(node)?, theirs);
    let again = login.command(world, HUB, NAME, &["hostname"]);
    assert_eq!(process::run(&again, LIMIT, "")?.ok()?, "node\n");
    assert_eq!(guards(node)?, Vec::<String>::new());
    Ok(())
}
