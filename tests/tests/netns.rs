//! The harness's own promises: hosts that are apart, wires that can be cut, nothing left behind.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use holdfast_tests::need;
use holdfast_tests::socket::Reach;
use holdfast_tests::wait::until;
use holdfast_tests::world::World;

fn pair(label: &str) -> Result<World> {
    let mut world = World::new(label)?;
    world.add_host("one", 11)?;
    world.add_host("two", 12)?;
    Ok(world)
}

#[test]
fn hosts_reach_each_other_and_nothing_else() -> Result<()> {
    need!(namespaces);
    let world = pair("apart")?;
    let listener = world.listen("two", 5432)?;
    assert_eq!(world.reach("one", "two", 5432)?, Reach::Open);
    assert_eq!(world.reach_v6("one", "two", 5432)?, Reach::Open);
    until("two connections", Duration::from_secs(5), || {
        match listener.accepted() {
            2 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    })?;
    assert_eq!(world.reach("two", "one", 5432)?, Reach::Refused);
    let outside = world.connect("one", "192.0.2.1:80".parse()?).unwrap_err();
    assert_eq!(outside.kind(), std::io::ErrorKind::NetworkUnreachable);
    Ok(())
}

#[test]
fn programs_on_a_host_find_its_interfaces_and_no_others_in_sys() -> Result<()> {
    need!(namespaces);
    let world = pair("sys")?;
    let found = world.run("one", &["ls", "/sys/class/net"])?.ok()?;
    let found: Vec<_> = found.split_whitespace().collect();
    assert_eq!(found, ["eth0", "lo"]);
    Ok(())
}

#[test]
fn firewall_of_one_host_is_its_own() -> Result<()> {
    need!(namespaces);
    let world = pair("firewall")?;
    let _listeners = [world.listen("one", 80)?, world.listen("two", 80)?];
    for rule in [
        "add table inet t",
        "add chain inet t in { type filter hook input priority 0; }",
        "add rule inet t in tcp dport 80 drop",
        "add chain inet t out { type filter hook output priority 0; }",
        "add rule inet t out tcp dport 81 drop",
    ] {
        world.run("two", &["nft", rule])?.ok()?;
    }
    assert_eq!(world.reach("one", "two", 80)?, Reach::Silent);
    assert_eq!(world.reach("two", "one", 80)?, Reach::Open);
    assert_eq!(world.reach("two", "one", 81)?, Reach::Silent);
    Ok(())
}

#[test]
fn cut_wire_is_silent_until_healed() -> Result<()> {
    need!(namespaces);
    let mut world = pair("cut")?;
    world.add_host("three", 13)?;
    let _listener = world.listen("two", 80)?;
    world.cut("two")?;
    assert_eq!(world.reach("one", "two", 80)?, Reach::Silent);
    world.heal("two")?;
    assert_eq!(world.reach("one", "two", 80)?, Reach::Open);
    world.cut_pair("one", "two")?;
    assert_eq!(world.reach("one", "two", 80)?, Reach::Silent);
    assert_eq!(world.reach("three", "two", 80)?, Reach::Open);
    world.heal_pair("one", "two")?;
    assert_eq!(world.reach("one", "two", 80)?, Reach::Open);
    Ok(())
}

#[test]
fn dropped_world_leaves_no_process_and_no_network() -> Result<()> {
    need!(namespaces);
    let world = pair("dropped")?;
    // In a session of its own, as a guard is: killing the process we started would not end it.
    let pid = world
        .run("one", &["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"])?
        .ok()?;
    let (process, network) = (Path::new("/proc").join(pid.trim()), world.network("one")?);
    let files = world.dir("one");
    assert!(process.exists() && network.exists() && files.exists());
    drop(world);
    assert!(!process.exists() && !network.exists() && !files.exists());
    Ok(())
}
