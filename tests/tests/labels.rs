//! Labels by signature, and admission by hand, over the real hub and agents.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::{Fleet, PATIENCE};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::operator::Operator;
use holdfast_tests::process::Outcome;
use holdfast_tests::socket::Reach;
use holdfast_tests::wait;
use serde_json::Value;

const TWO_ROLES: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
  - select: { role: web }
    inbound:
      - allow: { tcp: [80], from: any }
";
/// A slice that cuts whoever has it off from the hub.
const WITH_A_TRAP: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
  - select: { role: trap }
    outbound:
      - deny: { to: [10.77.0.1] }
";

fn reaches(fleet: &Fleet, port: u16, wanted: Reach) -> Result<()> {
    wait::until(&format!("port {port} to be {wanted:?}"), PATIENCE, || match fleet
        .world
        .reach("web", "db", port)
    {
        Ok(reached) if reached == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn label_that_an_operator_signs_moves_the_slices_of_a_node() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("relabel")?;
    fleet.add_node("db", &["role=db"])?;
    fleet.add_node_host("web")?;
    let _listeners = (fleet.world.listen("db", 5432)?, fleet.world.listen("db", 80)?);
    let policy = fleet.policy_dir("roles", &[("roles.yaml", TWO_ROLES)])?;
    fleet.policy("apply", &policy, &[]).and_then(Outcome::ok)?;
    reaches(&fleet, 5432, Reach::Open)?;
    reaches(&fleet, 80, Reach::Silent)?;

    fleet
        .holdfast(&["node", "label", "db", "role=web", "tier=1", "--yes"])?
        .ok()?;
    fleet.wait_for("db", "hold its new labels", |node| {
        node.json()["labels_version"] == 2
    })?;
    reaches(&fleet, 80, Reach::Open)?;
    reaches(&fleet, 5432, Reach::Silent)?;
    let node = fleet.node("db")?;
    ensure!(
        node.json()["labels"] == serde_json::json!({ "role": "web", "tier": "1" }),
        "{node}"
    );

    // A node that is away when it happens takes it when it comes back; two changes meanwhile, the last one counts.
    fleet.kill_agent("db");
    fleet
        .holdfast(&["node", "label", "db", "role=none", "--yes"])?
        .ok()?;
    fleet
        .holdfast(&["node", "label", "db", "role=db", "tier-", "--yes"])?
        .ok()?;
    fleet.start_agent("db", None)?;
    fleet.wait_for("db", "hold its labels", |node| node.json()["labels_version"] == 4)?;
    reaches(&fleet, 5432, Reach::Open)?;
    reaches(&fleet, 80, Reach::Silent)
}

#[test]
fn label_whose_slice_cuts_the_node_off_is_undone_and_the_next_label_mends_it() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("trap")?;
    fleet.add_node("db", &["role=db"])?;
    fleet.add_node_host("web")?;
    let _database = fleet.world.listen("db", 5432)?;
    let policy = fleet.policy_dir("trap", &[("trap.yaml", WITH_A_TRAP)])?;
    fleet.policy("apply", &policy, &[]).and_then(Outcome::ok)?;
    fleet
        .holdfast(&["node", "label", "db", "role=trap", "--yes"])?
        .ok()?;
    fleet.wait_for("db", "have undone it", |node| node.outcome() == Some("undone"))?;
    reaches(&fleet, 5432, Reach::Open)?;
    // The release is not at fault for the old labels.
    fleet
        .holdfast(&["node", "label", "db", "role=db", "--yes"])?
        .ok()?;
    fleet.wait_for("db", "be in force", |node| {
        node.json()["labels_version"] == 3 && node.is_connected() && node.confirmed() == Some((1, 1))
    })?;
    reaches(&fleet, 5432, Reach::Open)
}

fn pending(fleet: &Fleet) -> Result<Vec<Value>> {
    let told = fleet.holdfast(&["node", "pending", "-o", "json"])?.ok()?;
    let told: Value = serde_json::from_str(&told)?;
    Ok(told["pending"].as_array().context("no list")?.clone())
}

fn only_pending(fleet: &Fleet) -> Result<Value> {
    wait::until("one node to wait", PATIENCE, || match pending(fleet) {
        Ok(waiting) if waiting.len() == 1 => Ok(waiting[0].clone()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn node_waits_for_admission_by_hand_and_its_log_shows_what_to_compare() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("manual")?;
    for host in ["db", "thief"] {
        fleet.add_node_host(host)?;
    }
    let token = fleet.token(&["role=db"], &["--admit", "manual", "--uses", "1"])?;
    // A thief of the token comes first and claims the name.
    fleet.start_agent("thief", Some(&token))?;
    let waiting = only_pending(&fleet)?;
    ensure!(
        waiting["name"] == "thief"
            && waiting["address"] == fleet.world.v4("thief").to_string()
            && waiting["labels"]["role"] == "db",
        "{waiting}"
    );
    ensure!(fleet.nodes()?.is_empty(), "it is in before anybody admitted it");
    fleet.holdfast(&["node", "reject", "thief"])?.ok()?;
    wait::until("the thief to be told", PATIENCE, || {
        let log = fleet
            .agent("thief")
            .map(|agent| agent.log())
            .map_err(|error| error.to_string())?;
        log.contains("rejected").then_some(()).ok_or(log)
    })?;

    // The rejected one's place is free for the right one.
    fleet.start_agent("db", Some(&token))?;
    let waiting = only_pending(&fleet)?;
    let fingerprint = waiting["id"].as_str().context("no fingerprint")?.to_owned();
    wait::until("the agent to show its fingerprint", PATIENCE, || {
        let log = fleet
            .agent("db")
            .map(|agent| agent.log())
            .map_err(|error| error.to_string())?;
        log.contains(&fingerprint).then_some(()).ok_or(log)
    })?;
    let wrong = "0".repeat(64);
    let refused = fleet.holdfast(&["node", "admit", "db", "--fingerprint", &wrong])?;
    ensure!(refused.code == Some(1), "another fingerprint admits: {refused:?}");
    fleet
        .holdfast(&["node", "admit", "db", "--fingerprint", &fingerprint])?
        .ok()?;
    let node = fleet.wait_for("db", "be connected", Node::is_connected)?;
    ensure!(node.id() == fingerprint && pending(&fleet)?.is_empty());
    Ok(())
}

#[test]
fn labels_that_two_must_sign_wait_for_the_second() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("twolabels")?;
    fleet.add_node("db", &["role=db"])?;
    let bob = Operator::join(&fleet, "bob", "operator")?;
    fleet
        .holdfast(&["authority", "threshold", "label", "2", "--yes"])?
        .ok()?;
    fleet
        .holdfast(&["authority", "threshold", "join", "2", "--yes"])?
        .ok()?;
    // The join grant, which one signed, says no more what the node is: all of it is said anew.
    let relabel = ["node", "label", "db", "tier=1", "--yes"];
    let refused = fleet.holdfast(&relabel)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("--set"),
        "{refused:?}"
    );
    fleet
        .holdfast(&["node", "label", "db", "--set", "role=db", "tier=1", "--yes"])?
        .code_is(4)?;
    let drafts = bob.run(&fleet, &["draft", "list", "-o", "json"])?.ok()?;
    let drafts: Value = serde_json::from_str(&drafts)?;
    let digest = drafts["drafts"][0]["digest"]
        .as_str()
        .context("no draft")?
        .to_owned();
    // What is shown comes from the bytes that are signed.
    let shown = bob.run(&fleet, &["draft", "show", &digest])?.ok()?;
    ensure!(shown.contains("tier=1"), "{shown}");
    let unasked = bob.run(&fleet, &["draft", "sign", &digest])?;
    ensure!(unasked.code == Some(1), "signed without being asked: {unasked:?}");
    bob.run(&fleet, &["draft", "sign", &digest, "--yes"])?.ok()?;
    fleet.wait_for("db", "hold its new labels", |node| {
        node.json()["labels_version"] == 2
    })?;

    // A join token, too: half-made it admits nobody, and shows no secret.
    let made = fleet.holdfast(&["token", "create", "--label", "role=web", "-o", "json"])?;
    made.code_is(4)?;
    let drafts = bob.run(&fleet, &["draft", "list", "-o", "json"])?.ok()?;
    let drafts: Value = serde_json::from_str(&drafts)?;
    let digest = drafts["drafts"][0]["digest"]
        .as_str()
        .context("no draft")?
        .to_owned();
    bob.run(&fleet, &["draft", "sign", &digest, "--yes"])?.ok()?;
    let told: Value = serde_json::from_str(&made.stdout).context("no JSON on the way")?;
    let grant = told["grant_id"].as_str().context("no grant id")?.to_owned();
    let token = fleet.holdfast(&["token", "finish", &grant])?.ok()?;
    fleet.add_node_host("web")?;
    fleet.start_agent("web", Some(token.trim()))?;
    fleet
        .wait_for("web", "be connected", Node::is_connected)
        .map(drop)
}

#[test]
fn root_on_a_node_allows_less_than_a_release_asks() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("ceiling")?;
    let config = fleet.world.dir("hub").join("agent.toml");
    write(&config, "allow = [\"metrics\"]\n")?;
    fleet
        .agent_options
        .extend(["--config".to_owned(), config.display().to_string()]);
    fleet.add_node("db", &["role=db"])?;
    fleet.add_node_host("web")?;
    let _listeners = (fleet.world.listen("db", 5432)?, fleet.world.listen("db", 80)?);
    let policy = fleet.policy_dir("roles", &[("roles.yaml", TWO_ROLES)])?;
    fleet.policy("apply", &policy, &[])?.code_is(1)?;
    let node = fleet.wait_for("db", "have refused it", |node| node.outcome() == Some("refused"))?;
    ensure!(
        node.detail().contains("agent.toml") && node.detail().contains("firewall"),
        "{node}"
    );
    ensure!(
        !fleet
            .world
            .run("db", &["nft", "list", "tables"])?
            .ok()?
            .contains("holdfast"),
        "a table was made against the ceiling"
    );
    reaches(&fleet, 80, Reach::Open)?;

    // Root lifts it: the same release is taken at the next offer.
    write(&config, "allow = [\"metrics\", \"firewall\"]\n")?;
    fleet.kill_agent("db");
    fleet.start_agent("db", None)?;
    fleet.wait_for("db", "have confirmed it", |node| node.confirmed() == Some((1, 1)))?;
    reaches(&fleet, 80, Reach::Silent)?;

    // And takes it away again: what is there stays, and nobody mends it any more.
    write(&config, "allow = []\n")?;
    fleet.wait_for("db", "have told so", |node| {
        node.outcome() == Some("refused") && node.detail().contains("firewall")
    })?;
    fleet
        .world
        .run("db", &["nft", "delete", "table", "inet", "holdfast"])?
        .ok()?;
    reaches(&fleet, 80, Reach::Open)?;

    // A file that anybody may write is no word of root's.
    write(&config, "allow = [\"firewall\"]\n")?;
    make_writable_by_all(&config)?;
    fleet.kill_agent("db");
    fleet.start_agent("db", None)?;
    fleet.wait_for("db", "say whose file it is", |node| {
        node.detail().contains("writable")
    })?;
    ensure!(
        !fleet
            .world
            .run("db", &["nft", "list", "tables"])?
            .ok()?
            .contains("holdfast"),
        "a ceiling that anybody may lift was believed"
    );
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "test input, which need not survive a crash"
    )]
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn make_writable_by_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(0o666),
    )?)
}
