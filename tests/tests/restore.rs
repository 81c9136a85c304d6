//! A hub that comes back from an old backup: it holds until an operator raises the epoch, whoever notices first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, binary};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::operator::Operator;
use holdfast_tests::process::{self, Outcome};
use holdfast_tests::socket::Reach;
use holdfast_tests::wait;
use serde_json::Value;

/// `holdfast` whom the hub does not let do it.
const DENIED: i32 = 5;

const CLOSED: &str = "policies: [{ select: { role: db } }]";
const OPEN: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
";

fn copy(from: &Path, to: &Path) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a test's own copy of a directory")]
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    Ok(())
}

/// A fleet with one node under a first release, and a copy of its hub from then.
fn fleet_and_backup(label: &str) -> Result<(Fleet, PathBuf)> {
    let mut fleet = Fleet::new(label)?;
    fleet.add_node("db", &["role=db"])?;
    fleet.add_node_host("web")?;
    apply(&fleet, "first", OPEN)?;
    fleet.kill_hub();
    let backup = fleet.hub_dir().with_file_name("backup");
    copy(&fleet.hub_dir(), &backup)?;
    fleet.start_hub()?;
    fleet.wait_for("db", "be connected", Node::is_connected)?;
    Ok((fleet, backup))
}

fn apply(fleet: &Fleet, name: &str, policy: &str) -> Result<()> {
    let dir = fleet.policy_dir(name, &[("db.yaml", policy)])?;
    fleet.policy("apply", &dir, &[]).and_then(Outcome::ok).map(drop)
}

/// Puts the backup in the hub's place, past every command.
fn roll_back(fleet: &mut Fleet, backup: &Path) -> Result<()> {
    fleet.kill_hub();
    std::fs::rename(fleet.hub_dir(), fleet.hub_dir().with_file_name("ahead"))?;
    copy(backup, &fleet.hub_dir())?;
    fleet.start_hub()
}

/// What the hub says of its hold. The first operator's own memory is put aside: a new laptop would know no better.
fn hold(fleet: &Fleet) -> Result<Option<String>> {
    let told = fleet.holdfast(&["epoch", "show", "-o", "json"])?.ok()?;
    let told: Value = serde_json::from_str(&told)?;
    Ok(told["hold"].as_str().map(str::to_owned))
}

fn until_held(fleet: &Fleet) -> Result<String> {
    wait::until("the hub to hold", PATIENCE, || match hold(fleet) {
        Ok(Some(reason)) => Ok(reason),
        other => Err(format!("{other:?}")),
    })
}

/// The operators' memory of releases, as it was when the backup was made.
fn forget(fleet: &Fleet, kept: &Path) -> Result<()> {
    std::fs::remove_dir_all(fleet.operator_dir())?;
    copy(kept, &fleet.operator_dir())
}

fn raise_and_go_on(fleet: &Fleet) -> Result<()> {
    let dir = fleet.policy_dir("next", &[("db.yaml", CLOSED)])?;
    let refused = fleet.policy("apply", &dir, &[])?;
    ensure!(
        refused.code != Some(0) && refused.stderr.contains("epoch"),
        "a hub that holds published: {refused:?}"
    );
    ensure!(
        fleet.holdfast(&["status"])?.code == Some(3),
        "status does not tell of the hold"
    );
    fleet.holdfast(&["epoch", "raise", "--yes"])?.ok()?;
    ensure!(hold(fleet)?.is_none(), "the hold is not over");
    fleet.policy("apply", &dir, &[]).and_then(Outcome::ok)?;
    let node = fleet.node("db")?;
    ensure!(node.confirmed().is_some_and(|(epoch, _)| epoch == 2), "{node}");
    ensure!(fleet.world.reach("web", "db", 5432)? == Reach::Silent);
    Ok(())
}

#[test]
fn hub_restored_by_command_serves_no_release_until_the_epoch_is_raised() -> Result<()> {
    need!(namespaces);
    let (mut fleet, backup) = fleet_and_backup("bycommand")?;
    let _database = fleet.world.listen("db", 5432)?;
    fleet.kill_hub();
    std::fs::rename(fleet.hub_dir(), fleet.hub_dir().with_file_name("gone"))?;
    let mut restore = fleet.world.command(HUB, binary("holdfast")?);
    restore
        .arg("restore")
        .arg("--dir")
        .arg(fleet.hub_dir())
        .arg("--from")
        .arg(&backup);
    process::run(&restore, PATIENCE, "")?.ok()?;
    fleet.start_hub()?;
    // An API certificate of before could be one that was revoked since.
    fleet.holdfast(&["status"])?.code_is(DENIED)?;
    fleet.holdfast(&["context", "login"])?.ok()?;
    let reason = hold(&fleet)?.context("the restored hub does not hold")?;
    ensure!(reason.contains("restored"), "{reason}");
    // A node that enrols meanwhile gets no release.
    fleet.add_node("new", &["role=db"])?;
    ensure!(fleet.node("new")?.confirmed().is_none());
    fleet.holdfast(&["node", "remove", "new"])?.ok()?;
    ensure!(
        fleet.world.reach("web", "db", 5432)? == Reach::Open,
        "the node changed what it holds"
    );
    raise_and_go_on(&fleet)
}

#[test]
fn node_shows_a_restored_hub_the_release_that_it_forgot() -> Result<()> {
    need!(namespaces);
    let (mut fleet, backup) = fleet_and_backup("bynode")?;
    let _database = fleet.world.listen("db", 5432)?;
    let operator = fleet.operator_dir().with_file_name("operator-before");
    copy(&fleet.operator_dir(), &operator)?;
    apply(&fleet, "second", CLOSED)?;
    // Without the checkpoint, which would tell as well.
    fleet.kill_agent("db");
    std::fs::remove_file(fleet.agent_dir("db").join("checkpoint.json")).context("no checkpoint")?;
    roll_back(&mut fleet, &backup)?;
    forget(&fleet, &operator)?;
    fleet.start_agent("db", None)?;
    let reason = until_held(&fleet)?;
    ensure!(reason.contains("1.2"), "{reason}");
    raise_and_go_on(&fleet)
}

#[test]
fn operator_shows_a_restored_hub_the_release_that_it_forgot() -> Result<()> {
    need!(namespaces);
    let (mut fleet, backup) = fleet_and_backup("byoperator")?;
    let _database = fleet.world.listen("db", 5432)?;
    apply(&fleet, "second", CLOSED)?;
    fleet.kill_agent("db");
    roll_back(&mut fleet, &backup)?;
    let refused = fleet.policy("plan", &fleet.policy_dir("next", &[("db.yaml", CLOSED)])?, &[])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("this machine has seen 1.2"),
        "{refused:?}"
    );
    ensure!(hold(&fleet)?.context("it does not hold")?.contains("1.2"));
    fleet.start_agent("db", None)?;
    raise_and_go_on(&fleet)
}

#[test]
fn checkpoint_tells_a_restored_hub_that_it_forgot_something_though_no_release_changed() -> Result<()> {
    need!(namespaces);
    let (mut fleet, backup) = fleet_and_backup("bycheckpoint")?;
    let _database = fleet.world.listen("db", 5432)?;
    // Somebody is removed after the backup: with the old store the removed node would be a member again.
    fleet.add_node("gone", &["role=db"])?;
    fleet.holdfast(&["node", "remove", "gone"])?.ok()?;
    fleet.kill_agent("gone");
    let checkpoint = fleet.agent_dir("db").join("checkpoint.json");
    wait::until("the node to keep a checkpoint", PATIENCE, || {
        std::fs::read(&checkpoint)
            .map(drop)
            .map_err(|error| error.to_string())
    })?;
    roll_back(&mut fleet, &backup)?;
    let reason = until_held(&fleet)?;
    ensure!(reason.contains("checkpoint"), "{reason}");
    raise_and_go_on(&fleet)
}

#[test]
fn hub_that_only_restarts_holds_nothing() -> Result<()> {
    need!(namespaces);
    let (mut fleet, _) = fleet_and_backup("restarts")?;
    for _ in 0..3 {
        fleet.kill_hub();
        fleet.start_hub()?;
        fleet.wait_for("db", "be connected", Node::is_connected)?;
    }
    ensure!(hold(&fleet)?.is_none(), "a mere restart made the hub hold");
    apply(&fleet, "second", CLOSED)
}

#[test]
fn node_that_was_away_follows_every_raise_to_the_release_of_the_newest_epoch() -> Result<()> {
    need!(namespaces);
    let (mut fleet, _) = fleet_and_backup("oldepoch")?;
    let _database = fleet.world.listen("db", 5432)?;
    fleet.kill_agent("db");
    fleet.holdfast(&["epoch", "raise", "--yes"])?.ok()?;
    fleet.holdfast(&["epoch", "raise", "--yes"])?.ok()?;
    let dir = fleet.policy_dir("third", &[("db.yaml", CLOSED)])?;
    fleet.policy("apply", &dir, &[]).and_then(Outcome::ok)?;
    fleet.start_agent("db", None)?;
    let node = fleet.wait_for("db", "be in the third epoch", |node| {
        node.confirmed().is_some_and(|(epoch, _)| epoch == 3)
    })?;
    ensure!(node.json()["epoch"] == 3, "{node}");
    ensure!(fleet.world.reach("web", "db", 5432)? == Reach::Silent);
    Ok(())
}

#[test]
fn operator_is_not_led_to_another_authority_than_the_one_that_was_verified() -> Result<()> {
    need!(namespaces);
    let (mut fleet, backup) = fleet_and_backup("forked")?;
    fleet.kill_agent("db");
    let (dir, before, after) = (
        fleet.operator_dir(),
        fleet.operator_dir().with_file_name("before"),
        fleet.operator_dir().with_file_name("after"),
    );
    // Version 2 is verified here; then the hub forgets it, and an operator's machine that never knew makes another.
    copy(&dir, &before)?;
    fleet
        .holdfast(&["authority", "renew", "--for", "700d", "--yes"])?
        .ok()?;
    std::fs::rename(&dir, &after)?;
    std::fs::rename(&before, &dir)?;
    roll_back(&mut fleet, &backup)?;
    fleet
        .holdfast(&["authority", "renew", "--for", "600d", "--yes"])?
        .ok()?;
    std::fs::rename(&dir, &before)?;
    std::fs::rename(&after, &dir)?;
    for words in [
        &["status"][..],
        &["policy", "endorse"],
        &["epoch", "raise", "--yes"],
    ] {
        let refused = fleet.holdfast(words)?;
        ensure!(
            refused.code == Some(1) && refused.stderr.contains("another authority version 2"),
            "{words:?}: {refused:?}"
        );
    }
    Ok(())
}

#[test]
fn raise_is_endorsed_for_a_node_that_was_away_when_its_signer_was_dropped() -> Result<()> {
    need!(namespaces);
    let (mut fleet, _) = fleet_and_backup("endorsed")?;
    let bob = Operator::join(&fleet, "bob", "admin")?;
    fleet.kill_agent("db");
    bob.run(&fleet, &["epoch", "raise", "--yes"])?.ok()?;
    fleet.holdfast(&["status"])?.ok()?;
    fleet.holdfast(&["epoch", "show"])?.ok()?;
    fleet.holdfast(&["authority", "remove", "bob", "--yes"])?.ok()?;
    fleet.holdfast(&["epoch", "endorse"])?.ok()?;
    let dir = fleet.policy_dir("second", &[("db.yaml", CLOSED)])?;
    fleet.policy("apply", &dir, &[]).and_then(Outcome::ok)?;
    fleet.start_agent("db", None)?;
    fleet.wait_for("db", "be in the second epoch", |node| {
        node.confirmed().is_some_and(|(epoch, _)| epoch == 2)
    })?;
    Ok(())
}
