//! Many operators: one authority becomes another, step by step, signed together; and the way out when nobody can sign.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::operator::Operator;
use holdfast_tests::process::Outcome;
use holdfast_tests::socket::Reach;
use holdfast_tests::wait;
use serde_json::Value;

/// `holdfast` where more signatures are needed.
const WAITING: i32 = 4;
/// `holdfast` whom the hub does not let do it.
const DENIED: i32 = 5;
const NODES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];
/// A third of them.
const AWAY: [&str; 2] = ["n5", "n6"];

const CLOSED: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [10.77.0.1] }
";
const OPEN: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
";

/// The digests of the drafts that wait on the hub.
fn drafts(fleet: &Fleet, operator: &Operator) -> Result<Vec<String>> {
    let told = operator.run(fleet, &["draft", "list", "-o", "json"])?.ok()?;
    let told: Value = serde_json::from_str(&told)?;
    let drafts = told["drafts"].as_array().context("no drafts in it")?;
    Ok(drafts
        .iter()
        .filter_map(|draft| Some(draft["digest"].as_str()?.to_owned()))
        .collect())
}

/// The only draft that waits.
fn draft(fleet: &Fleet, operator: &Operator) -> Result<String> {
    let waiting = drafts(fleet, operator)?;
    let [only] = waiting.as_slice() else {
        anyhow::bail!("one draft wanted, got {waiting:?}")
    };
    Ok(only.clone())
}

/// `first` begins something that all of `crew` must sign.
fn together(fleet: &Fleet, first: &Operator, words: &[&str], crew: &[&Operator]) -> Result<()> {
    first.run(fleet, words)?.code_is(WAITING)?;
    let digest = draft(fleet, first)?;
    for (n, operator) in crew.iter().enumerate() {
        let signed = operator.run(fleet, &["draft", "sign", &digest[..12], "--yes"])?;
        if n + 1 < crew.len() {
            signed.code_is(WAITING)?;
        } else {
            signed.ok().context("the last signature")?;
        }
    }
    ensure!(
        drafts(fleet, first)?.is_empty(),
        "the draft was published and is still there"
    );
    Ok(())
}

fn version(fleet: &Fleet, operator: &Operator) -> Result<u64> {
    let shown = operator.run(fleet, &["authority", "show", "-o", "json"])?.ok()?;
    let shown: Value = serde_json::from_str(&shown)?;
    shown["version"].as_u64().context("no version in it")
}

#[test]
fn one_becomes_three_of_five_step_by_step_while_a_third_of_the_nodes_is_away() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("crew")?;
    for node in NODES {
        fleet.add_node(node, &["role=db"])?;
    }
    let _databases: Vec<_> = NODES
        .iter()
        .map(|node| fleet.world.listen(node, 5432))
        .collect::<Result<_, _>>()?;
    let closed = fleet.policy_dir("closed", &[("db.yaml", CLOSED)])?;
    fleet.policy("apply", &closed, &[]).and_then(Outcome::ok)?;
    for node in AWAY {
        fleet.kill_agent(node);
    }

    // Five more admins, one version each; then three of them decide; then the first one goes.
    let first = Operator::first(&fleet);
    let crew: Vec<Operator> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| Operator::join(&fleet, name, "admin"))
        .collect::<Result<_>>()?;
    let [a, b, c, d, e] = crew.as_slice() else {
        anyhow::bail!("five wanted")
    };
    for act in ["release", "join", "label", "epoch", "stop", "action"] {
        first
            .run(&fleet, &["authority", "threshold", act, "3", "--yes"])?
            .ok()?;
    }
    // What is left to one key last is the authority itself; and a version that asks for three is signed by three.
    let three = ["authority", "threshold", "authority", "3", "--yes"];
    together(&fleet, &first, &three, &[a, b])?;
    first
        .run(&fleet, &["authority", "threshold", "release", "1", "--yes"])?
        .code_is(WAITING)
        .context("the first operator alone still changes the authority")?;
    let lonely = draft(&fleet, &first)?;
    first.run(&fleet, &["draft", "discard", &lonely])?.ok()?;
    together(&fleet, a, &["authority", "remove", "admin", "--yes"], &[b, c])?;
    let reached = version(&fleet, e)?;
    ensure!(
        reached == 14,
        "five added, seven thresholds, one removed: 14 wanted, got {reached}"
    );

    // Who was dropped has no access any more, whatever certificate is left; and the rest decide.
    first.run(&fleet, &["node", "list"])?.code_is(DENIED)?;
    let open = fleet.policy_dir("open", &[("db.yaml", OPEN)])?;
    let apply = ["policy", "apply", path(&open)?];
    let refused = d.run(&fleet, &apply)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("policy endorse"),
        "built on a release that nobody who signs now has signed: {refused:?}"
    );
    // None of them ever verified it: each reads all of it, and says yes.
    let unasked = a.run(&fleet, &["policy", "endorse"])?;
    ensure!(
        unasked.code == Some(1) && unasked.stderr.contains("never verified"),
        "{unasked:?}"
    );
    together(&fleet, a, &["policy", "endorse", "--yes"], &[b, c])?;
    d.run(&fleet, &apply)?.code_is(WAITING)?;
    let digest = draft(&fleet, d)?;
    e.run(&fleet, &["draft", "sign", &digest, "--yes"])?
        .code_is(WAITING)?;
    a.run(&fleet, &["draft", "sign", &digest, "--yes"])?.ok()?;
    for node in &NODES[..4] {
        confirms_second_release(&fleet, a, node, reached)?;
    }
    for node in AWAY {
        ensure!(
            fleet.world.reach("n1", node, 5432)? == Reach::Silent,
            "{node} opened while its agent was away"
        );
    }

    // Those who were away walk through every version, though nobody of the first is left to vouch for the last.
    for node in AWAY {
        fleet.start_agent(node, None)?;
    }
    for node in AWAY {
        confirms_second_release(&fleet, a, node, reached)?;
    }
    Ok(())
}

fn confirms_second_release(fleet: &Fleet, operator: &Operator, name: &str, authority: u64) -> Result<()> {
    wait::until(&format!("{name} to confirm what three signed"), PATIENCE, || {
        let seen = operator
            .run(fleet, &["node", "list", "-o", "json"])
            .and_then(Outcome::ok)
            .and_then(|list| Node::read_list(&list))
            .map_err(|error| format!("{error:#}"))?;
        let seen = seen.into_iter().find(|node| node.name() == name);
        let seen = seen.ok_or_else(|| "the hub does not know it".to_owned())?;
        let as_wanted = seen.confirmed() == Some((1, 2)) && seen.json()["authority_version"] == authority;
        as_wanted.then_some(()).ok_or_else(|| seen.to_string())
    })?;
    ensure!(
        fleet.world.reach(HUB, name, 5432)? == Reach::Open,
        "{name} is not open"
    );
    Ok(())
}

#[test]
fn authority_is_signed_on_machines_that_no_hub_reaches() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("byfile")?;
    let (first, bob) = (Operator::first(&fleet), Operator::join(&fleet, "bob", "admin")?);
    let two = ["authority", "threshold", "authority", "2", "--yes"];
    together(&fleet, &first, &two, &[&bob])?;
    // Bob's machine has seen the newest version once; from here on it needs no hub.
    bob.run(&fleet, &["status"])?.ok()?;
    let file = fleet.world.dir(HUB).join("next.draft");
    let threshold = [
        "authority",
        "threshold",
        "release",
        "2",
        "--yes",
        "--draft-file",
        path(&file)?,
    ];
    first.run(&fleet, &threshold)?.code_is(WAITING)?;
    let unplugged = fleet.world.dir(HUB).join("unplugged.draft");
    std::fs::copy(&file, &unplugged).context("cannot copy the draft")?;
    first
        .run(&fleet, &["authority", "publish", path(&file)?])?
        .code_is(1)
        .context("one signature is not enough")?;
    ensure!(version(&fleet, &first)? == 3);

    // No hub anywhere: what is signed is read from the file, against what bob's machine has verified.
    fleet.kill_hub();
    let shown = bob.run(&fleet, &["draft", "show", path(&unplugged)?])?.ok()?;
    ensure!(shown.contains("release") && shown.contains("bob"), "{shown}");
    let sign = ["authority", "sign", path(&unplugged)?];
    bob.run(&fleet, &sign)?
        .code_is(1)
        .context("signed without being asked")?;
    bob.run(&fleet, &[&sign[..], &["--yes"]].concat())?.ok()?;
    fleet.start_hub()?;
    first
        .run(&fleet, &["authority", "publish", path(&unplugged)?])?
        .ok()?;
    ensure!(version(&fleet, &first)? == 4);
    Ok(())
}

#[test]
fn last_admin_is_lost_and_the_documented_way_out_leads_to_a_new_fleet() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("lastadmin")?;
    fleet.add_node("db", &["role=db"])?;
    let _database = fleet.world.listen("db", 5432)?;
    let closed = fleet.policy_dir("closed", &[("db.yaml", CLOSED)])?;
    fleet.policy("apply", &closed, &[]).and_then(Outcome::ok)?;
    fleet.add_node_host("web")?;

    // docs/trust.md, The last admin is lost: a new authority on the hub ..
    fleet.kill_hub();
    std::fs::rename(fleet.operator_dir(), fleet.operator_dir().with_file_name("lost"))?;
    std::fs::rename(fleet.hub_dir(), fleet.hub_dir().with_file_name("old"))?;
    fleet.init()?.ok()?;
    fleet.start_hub()?;
    // .. a token, and root on each node. The table stays in force meanwhile.
    let token = fleet.token(&["role=db"], &[])?;
    fleet.kill_agent("db");
    let state = fleet.agent_dir("db");
    std::fs::rename(&state, state.with_file_name("old"))?;
    ensure!(
        fleet.world.reach("web", "db", 5432)? == Reach::Silent,
        "opened on the way"
    );
    fleet.start_agent("db", Some(&token))?;
    fleet.wait_for("db", "be connected", Node::is_connected)?;
    ensure!(
        fleet.world.reach("web", "db", 5432)? == Reach::Silent,
        "opened on the way"
    );
    let open = fleet.policy_dir("open", &[("db.yaml", OPEN)])?;
    fleet.policy("apply", &open, &[]).and_then(Outcome::ok)?;
    ensure!(fleet.world.reach("web", "db", 5432)? == Reach::Open);
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}
