//! No change locks its operator out: what would is refused where it can be known, and undone where it cannot.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, PORT};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::socket::Reach;
use holdfast_tests::sshd::FakeSshd;
use holdfast_tests::stage::{DB, FILE, NEW, OLD, STRANGER, Stage, cut_off, wait_reach};
use holdfast_tests::wait::until;

/// Short, so that an undo is seen soon: tries to confirm end after four fifths of it.
const GUARD_TIME: &str = "6s";

#[test]
fn a_policy_that_cuts_the_hub_is_undone() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("cut-hub", GUARD_TIME)?;
    stage.apply(OLD)?;
    stage.force(&cut_off(NEW))?;
    stage.wait_new()?;
    wait_reach(stage.world(), (DB, HUB, PORT), Reach::Silent, PATIENCE)?;

    let node = stage.wait_outcome("undone")?;
    assert!(node.detail().contains("fresh connection"), "{node}");
    stage.old_holds()?;
    assert_eq!(stage.wait_confirmed(1)?.confirmed(), Some((1, 1)));

    // The hub was up all the time: the same release must not cut the node off a second time.
    let table = stage.world().own_table(DB)?;
    stage.fleet.kill_agent(DB);
    stage.fleet.start_agent(DB, None)?;
    let node = stage.wait_outcome("refused")?;
    assert!(node.detail().contains("it is not tried again"), "{node}");
    stage.old_holds()?;
    assert_eq!(stage.world().own_table(DB)?, table, "something was loaded");

    stage.apply(NEW)?;
    stage.wait_confirmed(3)?;
    stage.new_holds()
}

#[test]
fn an_established_flow_alone_does_not_confirm() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("stale-flow", GUARD_TIME)?;
    stage.apply(OLD)?;
    let listener = stage.world().bind(HUB, 9000)?;
    let mut near = stage.world().connect(DB, (stage.world().v4(HUB), 9000).into())?;
    let mut far = listener.accept()?.0;
    near.set_read_timeout(Some(PATIENCE))?;
    far.set_read_timeout(Some(PATIENCE))?;

    stage.force(&format!("{NEW}    outbound_default: deny\n"))?;
    stage.wait_new()?;
    wait_reach(stage.world(), (DB, HUB, PORT), Reach::Silent, PATIENCE)?;
    // The link is such a flow too.
    let mut heard = [0];
    near.write_all(b"!")?;
    far.read_exact(&mut heard)?;
    far.write_all(b"!")?;
    near.read_exact(&mut heard)?;
    assert_eq!(
        stage.world().reach(STRANGER, DB, 5432)?,
        Reach::Open,
        "undone too early to tell"
    );

    let node = stage.wait_outcome("undone")?;
    assert!(node.detail().contains("fresh connection"), "{node}");
    stage.old_holds()
}

#[test]
fn a_hub_that_was_down_at_the_deadline_undoes_but_does_not_pin_out() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("hub-down", GUARD_TIME)?;
    stage.apply(OLD)?;
    stage.set_blockade(true)?;
    stage.force(NEW)?;
    stage.wait_new()?;
    stage.fleet.kill_hub();
    stage.wait_reach(STRANGER, Reach::Silent, PATIENCE)?;

    stage.fleet.start_hub()?;
    stage.set_blockade(false)?;
    stage.wait_confirmed(2)?;
    stage.new_holds()?;
    let log = stage.fleet.agent(DB)?.log();
    assert!(
        log.contains("it may be tried again"),
        "it was never undone: {log}"
    );
    Ok(())
}

#[test]
fn a_hub_that_was_cut_off_at_the_deadline_undoes_but_does_not_pin_out() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("hub-cut", GUARD_TIME)?;
    stage.apply(OLD)?;
    stage.set_blockade(true)?;
    stage.force(NEW)?;
    stage.wait_new()?;
    stage.world().cut(HUB)?;
    stage.set_blockade(false)?;
    let agent = stage.fleet.agent(DB)?;
    until("the agent to give the hub up", PATIENCE, || match agent.log() {
        log if log.contains("it may be tried again") => Ok(()),
        _ => Err(agent.tail()),
    })?;
    stage.wait_reach(STRANGER, Reach::Silent, PATIENCE)?;

    stage.world().heal(HUB)?;
    stage.wait_confirmed(2)?;
    stage.new_holds()
}

#[test]
fn check_refuses_a_policy_that_cuts_the_hub_or_the_ssh_in_use() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("check")?;
    fleet.world.add_host("admin", 9)?;
    fleet.add_node_host(DB)?;
    let _sshd = FakeSshd::serve(fleet.world.bind(DB, 22)?, &fleet.world.dir(DB))?;
    let _session = fleet.world.connect("admin", (fleet.world.v4(DB), 22).into())?;
    let token = fleet.token(&["role=db"], &[])?;
    fleet.start_agent(DB, Some(&token))?;
    let node = fleet.wait_for(DB, "be connected", Node::is_connected)?;
    let inventory = &node.json()["inventory"];
    assert!(inventory.to_string().contains("10.77.0.9"), "{inventory}");

    let told = |text: &str, wanted: &[&str]| -> Result<()> {
        let dir = fleet.policy_dir("policy", &[(FILE, text)])?;
        for verb in ["check", "apply"] {
            let refused = fleet.policy(verb, &dir, &[])?;
            refused.code_is(1)?;
            for words in wanted {
                ensure!(
                    refused.stderr.contains(words),
                    "{verb}: no '{words}' in: {}",
                    refused.stderr
                );
            }
        }
        Ok(())
    };
    told(&cut_off(OLD), &["the hub at 10.77.0.1 port 8443", "lab.yaml:7"])?;
    let denied = format!("{OLD}      - deny: {{ tcp: [22], from: [10.77.0.0/28] }}\n");
    told(&denied, &["ssh from 10.77.0.9 to port 22", "lab.yaml:6"])?;
    let (nobody, _) = OLD
        .split_once("      - allow: { tcp: [22]")
        .context("OLD allows ssh")?;
    told(
        nobody,
        &[
            "ssh from 10.77.0.9 to port 22",
            "no rule allows it",
            "nobody could reach it",
        ],
    )?;

    assert_eq!(fleet.node(DB)?.accepted(), None, "a refused policy was released");
    assert_eq!(fleet.world.reach("admin", DB, 22)?, Reach::Open);
    let dir = fleet.policy_dir("policy", &[(FILE, OLD)])?;
    fleet.policy("check", &dir, &[])?.ok()?;
    fleet.policy("apply", &dir, &["--wait", "60s"])?.ok().map(drop)
}

/// A policy that keeps ssh open from `admins`, and lets it in by `rule`.
fn keeping(admins: &str, rule: &str) -> String {
    format!(
        "groups:\n  admins: {{ addresses: [{admins}] }}\npolicies:\n  - select: {{ role: db }}\n    \
         inbound:\n      - {rule}\n      - allow: {{ tcp: [22, 5432], from: any }}\n    \
         keep:\n      - {{ tcp: 22, from: [admins] }}\n"
    )
}

/// The one keep in the last report.
fn keep(node: &Node) -> &serde_json::Value {
    &node.json()["last_report"]["keeps"][0]
}

/// Has the policy that keeps ssh from `admin` deny it, and sees that undone on the word of `witness`.
fn the_keep_undoes(stage: &Stage, admin: &str, witness: &str) -> Result<()> {
    let address = stage.world().v4(admin).to_string();
    let denied = format!("deny: {{ tcp: [22], from: [{address}] }}");
    stage.apply(&keeping(&address, "allow: { udp: [53], from: any }"))?;
    let node = stage.wait_outcome("confirmed")?;
    assert_eq!(
        (&keep(&node)["before"], &keep(&node)["after"]),
        (&"passed".into(), &"passed".into())
    );

    stage.force(&keeping(&address, &denied))?;
    wait_reach(stage.world(), (admin, DB, 22), Reach::Silent, PATIENCE)?;
    let node = stage.wait_outcome("undone")?;
    assert!(node.detail().contains("keep lost: tcp 22"), "{node}");
    assert_eq!(keep(&node)["witness"], witness, "{node}");
    assert_eq!(
        (&keep(&node)["before"], &keep(&node)["after"]),
        (&"passed".into(), &"failed".into())
    );
    assert_eq!(stage.world().reach(admin, DB, 22)?, Reach::Open);
    assert_eq!(stage.wait_confirmed(1)?.confirmed(), Some((1, 1)));
    Ok(())
}

#[test]
fn a_policy_that_cuts_the_operators_ssh_is_undone_by_its_keep() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("keep-hub", "10s")?;
    the_keep_undoes(&stage, HUB, "hub")
}

#[test]
fn a_node_witnesses_a_keep_that_the_hub_cannot() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("keep-node", "10s")?;
    stage.fleet.add_node("bastion", &["role=bastion"])?;
    let witness = stage.fleet.node("bastion")?.id().to_owned();
    the_keep_undoes(&stage, "bastion", &witness)
}

#[test]
fn a_keep_that_failed_before_does_not_undo() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("keep-failed", GUARD_TIME)?;
    let text = format!(
        "{OLD}      - allow: {{ tcp: [2222], from: any }}\n    keep:\n      - {{ tcp: 2222, from: [10.77.0.1] }}\n"
    );
    stage.apply(&text)?;
    let node = stage.wait_outcome("confirmed")?;
    assert_eq!(
        (&keep(&node)["before"], &keep(&node)["after"]),
        (&"failed".into(), &"unwitnessed".into()),
        "{node}"
    );
    stage.old_holds()
}

#[test]
fn an_unwitnessed_keep_that_the_rules_close_is_refused_untouched() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("keep-none", GUARD_TIME)?;
    stage.apply(OLD)?;
    let table = stage.world().own_table(DB)?;
    stage.force(&keeping(
        "10.77.9.0/24",
        "deny: { tcp: [22], from: [10.77.9.0/24] }",
    ))?;
    let node = stage.wait_outcome("refused")?;
    for words in [
        "tcp 22 from 10.77.9.0/24",
        "lab.yaml:6",
        "nobody is there to witness it",
    ] {
        assert!(node.detail().contains(words), "no '{words}' in: {node}");
    }
    assert_eq!(stage.world().own_table(DB)?, table, "something was loaded");
    assert_eq!(stage.ledger()?["pending"], serde_json::Value::Null);
    stage.old_holds()
}

#[test]
fn an_unwitnessed_keep_that_the_rules_leave_open_is_reported_so() -> Result<()> {
    need!(namespaces);
    let stage = Stage::new("keep-far", GUARD_TIME)?;
    stage.apply(&keeping("10.77.9.0/24", "allow: { udp: [53], from: any }"))?;
    let node = stage.wait_outcome("confirmed")?;
    assert_eq!(keep(&node)["before"], "unwitnessed", "{node}");
    wait_reach(stage.world(), (STRANGER, DB, 22), Reach::Open, Duration::ZERO)
}
