//! What was confirmed stays in force: against hands on the node, without the hub, and beside other programs' tables.

use anyhow::{Context as _, Result};
use holdfast_tests::fleet::{HUB, PATIENCE};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::socket::Reach;
use holdfast_tests::stage::{DB, NEW, OLD, SERVICE, STRANGER, Stage, cut_off, wait_reach};
use holdfast_tests::wait::until;

/// `db` lets in whoever is in a group that follows the inventory.
const GROUP: &str = "\
groups:
  web: { select: { role: web }, within: [10.77.0.0/24] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [web] }
";

/// Does `words` to the nftables of `db` so that the stranger gets in, and waits until it is kept out again.
fn tear_and_see_it_mended(stage: &Stage, words: impl Fn() -> Result<String>) -> Result<()> {
    // An agent that looked at this very moment has mended it before anyone could get in.
    until("the stranger to get in", PATIENCE, || {
        let torn = words().and_then(|words| stage.world().nft(DB, &words));
        torn.map_err(|error| format!("{error:#}"))?;
        match stage.world().reach(STRANGER, DB, SERVICE) {
            Ok(Reach::Open) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    stage.wait_reach(STRANGER, Reach::Silent, PATIENCE)
}

/// The handle of the rule that drops what no other one allows.
fn last_rule(stage: &Stage) -> Result<String> {
    let chain = stage.world().nft(DB, "--handle list chain inet holdfast input")?;
    let rules = chain
        .lines()
        .filter_map(|line| Some(line.rsplit_once(" # handle ")?.1));
    let last = rules.map(str::trim).next_back();
    last.map(str::to_owned).context("the chain has no rule")
}

#[test]
fn what_is_torn_out_or_slipped_in_by_hand_is_put_right() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("torn", "10s")?;
    stage.apply(OLD)?;
    let fixed = |words: &'static str| move || Ok(words.to_owned());
    tear_and_see_it_mended(&stage, || {
        Ok(format!(
            "delete rule inet holdfast input handle {}",
            last_rule(&stage)?
        ))
    })?;
    let node = stage.wait_outcome("repaired")?;
    assert!(node.detail().contains("changed by another program"), "{node}");
    tear_and_see_it_mended(
        &stage,
        fixed("insert rule inet holdfast input ip saddr 10.77.0.9 accept"),
    )?;
    tear_and_see_it_mended(&stage, fixed("flush chain inet holdfast input"))?;
    tear_and_see_it_mended(&stage, fixed("flush table inet holdfast"))?;
    tear_and_see_it_mended(&stage, fixed("delete table inet holdfast"))?;
    tear_and_see_it_mended(&stage, fixed("flush ruleset"))?;
    stage.old_holds()
}

#[test]
fn foreign_tables_are_untouched_by_apply_repair_undo_and_restart() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("foreign", "6s")?;
    stage.world().nft_load(DB, holdfast_tests::nft::FOREIGN)?;
    let theirs = stage.world().foreign_tables(DB)?;
    let untouched = |stage: &Stage, by: &str| -> Result<()> {
        assert_eq!(
            stage.world().foreign_tables(DB)?,
            theirs,
            "{by} touched a foreign table"
        );
        Ok(())
    };
    stage.apply(OLD)?;
    untouched(&stage, "apply")?;
    tear_and_see_it_mended(&stage, || Ok("delete table inet holdfast".to_owned()))?;
    untouched(&stage, "repair")?;
    stage.force(&cut_off(NEW))?;
    stage.wait_new()?;
    untouched(&stage, "a change")?;
    stage.wait_outcome("undone")?;
    stage.old_holds()?;
    untouched(&stage, "undo")?;
    stage.fleet.kill_agent(DB);
    stage.fleet.start_agent(DB, None)?;
    stage.wait_outcome("refused")?;
    untouched(&stage, "the agent's restart")?;

    // And it works on beside ours: what it bans is banned, and what it counts is counted.
    let seen = stage.world().nft(DB, "list counter inet foreign seen")?;
    assert!(!seen.contains("packets 0 "), "{seen}");
    stage
        .world()
        .nft(DB, "add element inet foreign banned { 10.77.0.1 }")?;
    assert_eq!(stage.world().reach(HUB, DB, SERVICE)?, Reach::Silent);
    Ok(())
}

#[test]
fn agents_enforce_and_repair_while_the_hub_is_dead() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("dead-hub", "10s")?;
    stage.fleet.add_node("web", &["role=web"])?;
    stage.apply(GROUP)?;
    stage.fleet.kill_hub();
    let group_holds = |stage: &Stage| -> Result<()> {
        assert_eq!(stage.world().reach("web", DB, SERVICE)?, Reach::Open);
        assert_eq!(stage.world().reach(STRANGER, DB, SERVICE)?, Reach::Silent);
        Ok(())
    };
    group_holds(&stage)?;
    tear_and_see_it_mended(&stage, || Ok("delete table inet holdfast".to_owned()))?;
    group_holds(&stage)?;

    // As after a reboot: nothing is loaded, and nobody is there to ask who is in the group.
    stage.fleet.kill_agent(DB);
    stage.world().nft(DB, "delete table inet holdfast")?;
    assert_eq!(stage.world().reach(STRANGER, DB, SERVICE)?, Reach::Open);
    stage.fleet.start_agent(DB, None)?;
    stage.wait_reach(STRANGER, Reach::Silent, PATIENCE)?;
    group_holds(&stage)
}

#[test]
fn a_group_follows_nodes_that_join_and_that_are_removed() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("group", "10s")?;
    stage.apply(GROUP)?;
    stage.fleet.add_node_host("web")?;
    assert_eq!(stage.world().reach("web", DB, SERVICE)?, Reach::Silent);
    let token = stage.fleet.token(&["role=web"], &[])?;
    stage.fleet.start_agent("web", Some(&token))?;
    stage.fleet.wait_for("web", "be connected", Node::is_connected)?;
    stage.wait_reach("web", Reach::Open, PATIENCE)?;
    wait_reach(stage.world(), (STRANGER, DB, SERVICE), Reach::Silent, PATIENCE)?;

    stage.fleet.holdfast(&["node", "remove", "web"])?.ok()?;
    stage.wait_reach("web", Reach::Silent, PATIENCE)
}
