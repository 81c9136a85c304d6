//! The booted node: a real systemd, a real sshd, nft rights, a disk that outlives a power cut.

use anyhow::Result;
use holdfast_tests::lab::BootedNode;
use holdfast_tests::need;
use holdfast_tests::process::run;
use holdfast_tests::socket::Reach;
use holdfast_tests::ssh::Login;
use holdfast_tests::world::{LIMIT, World};

#[test]
fn booted_node_admits_its_operator_filters_and_survives_a_power_cut() -> Result<()> {
    need!(namespaces);
    need!(booted_node);
    let mut world = World::new("booted")?;
    world.add_host("peer", 10)?;
    let mut node = BootedNode::boot(&mut world, "node", 20)?;
    let state = node.run(&["systemctl", "is-system-running"])?;
    assert_eq!(
        state.stdout,
        "running\n",
        "{}",
        node.run(&["systemctl", "--failed"])?.stdout
    );
    assert_eq!(node.run(&["hostname"])?.ok()?, "node\n");

    let login = Login::make(&world.dir("peer"))?;
    node.admit(&login)?;
    let hostname = login.command(&world, "peer", "node", &["hostname"]);
    assert_eq!(run(&hostname, LIMIT, "")?.ok()?, "node\n");

    for rule in [
        "add table inet t",
        "add chain inet t in { type filter hook input priority 0; }",
        "add rule inet t in tcp dport 22 counter drop",
    ] {
        node.run(&["nft", rule])?.ok()?;
    }
    assert_eq!(world.reach("peer", "node", 22)?, Reach::Silent);

    node.run(&["touch", "/root/written"])?.ok()?;
    node.power_cut()?;
    node.switch_on(&mut world)?;
    node.run(&["test", "-e", "/root/written"])?.ok()?;
    assert_eq!(node.run(&["nft", "list", "ruleset"])?.ok()?, "");
    assert_eq!(world.reach("peer", "node", 22)?, Reach::Open);
    Ok(())
}
