//! Whose addresses get into a group: not those of containers unless the policy says so, and not another node's.

use anyhow::Result;
use holdfast_tests::fleet::PATIENCE;
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::socket::Reach;
use holdfast_tests::stage::{DB, SERVICE, Stage};
use holdfast_tests::wait::until;
use serde_json::json;

/// The node whose addresses are in the group.
const WEB: &str = "web";
/// A node that is in no group.
const APP: &str = "app";
/// An address of web's containers, inside the group's bounds.
const OF_CONTAINERS: &str = "10.77.0.200";
/// A second address of web, which it comes by honestly.
const SECOND: &str = "10.77.0.210";

/// `db` lets in whoever is in a group; with `interfaces`, only those on them.
fn group(interfaces: &str) -> String {
    format!(
        "groups:\n  web: {{ select: {{ role: web }}, within: [10.77.0.0/24]{interfaces} }}\n\
         policies:\n  - select: {{ role: db }}\n    inbound:\n      \
         - allow: {{ tcp: [{SERVICE}], from: [web] }}\n      - allow: {{ tcp: [22], from: any }}\n"
    )
}

fn ip(stage: &Stage, host: &str, words: &str) -> Result<()> {
    let words: Vec<_> = ["ip"].into_iter().chain(words.split(' ')).collect();
    stage.world().run(host, &words)?.ok().map(drop)
}

/// A bridge of `host` with an address that leads nowhere.
fn add_bridge(stage: &Stage, host: &str, name: &str, address: &str) -> Result<()> {
    ip(stage, host, &format!("link add {name} up type bridge"))?;
    ip(stage, host, &format!("addr add {address}/32 dev {name}"))
}

/// Has web's connections to db come from `source`.
fn speak_as(stage: &Stage, source: &str) -> Result<()> {
    let db = stage.world().v4(DB);
    ip(
        stage,
        WEB,
        &format!("route replace {db}/32 dev eth0 src {source}"),
    )
}

#[test]
fn a_container_bridge_is_in_no_group_until_the_policy_names_it() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("containers", "10s")?;
    stage.fleet.add_node_host(WEB)?;
    add_bridge(&stage, WEB, "docker0", OF_CONTAINERS)?;
    let token = stage.fleet.token(&["role=web"], &[])?;
    stage.fleet.start_agent(WEB, Some(&token))?;
    let web = stage.fleet.wait_for(WEB, "be connected", Node::is_connected)?;
    let own = stage.world().v4(WEB).to_string();
    let interfaces = web.json()["inventory"]["interfaces"].clone();
    assert_eq!(
        interfaces[0],
        json!({ "name": "docker0", "addresses": [OF_CONTAINERS] }),
        "{interfaces}"
    );

    stage.apply(&group(""))?;
    speak_as(&stage, &own)?;
    stage.wait_reach(WEB, Reach::Open, PATIENCE)?;
    speak_as(&stage, OF_CONTAINERS)?;
    assert_eq!(stage.world().reach(WEB, DB, SERVICE)?, Reach::Silent);

    stage.apply(&group(", interfaces: [\"docker*\"]"))?;
    stage.wait_reach(WEB, Reach::Open, PATIENCE)?;
    speak_as(&stage, &own)?;
    assert_eq!(stage.world().reach(WEB, DB, SERVICE)?, Reach::Silent);
    Ok(())
}

#[test]
fn a_node_that_takes_anothers_address_is_refused_and_told_and_the_group_stays() -> Result<()> {
    need!(namespaces);
    let mut stage = Stage::new("thief", "10s")?;
    stage.fleet.add_node(APP, &["role=app"])?;
    stage.fleet.add_node(WEB, &["role=web"])?;
    stage.apply(&group(""))?;
    stage.wait_reach(WEB, Reach::Open, PATIENCE)?;
    assert_eq!(stage.world().reach(APP, DB, SERVICE)?, Reach::Silent);

    // Quietly: as a thief would, web does not answer for the address, so that app's own connections go on.
    let quiet = ["sysctl", "--quiet", "--write", "net.ipv4.conf.all.arp_ignore=1"];
    stage.world().run(WEB, &quiet)?.ok()?;
    let stolen = stage.world().v4(APP).to_string();
    add_bridge(&stage, WEB, "vmbr1", &stolen)?;
    ip(&stage, WEB, &format!("addr add {SECOND}/24 dev eth0"))?;
    // Said as it comes back, sooner than with its next beat.
    stage.fleet.kill_agent(WEB);
    stage.fleet.start_agent(WEB, None)?;
    let refused = json!([{ "address": stolen, "holder": APP }]);
    let is_refused = |node: &Node| node.json()["refused_addresses"] == refused;
    stage.fleet.wait_for(WEB, "be refused an address", is_refused)?;
    let told = format!("{stolen} (of {APP})");
    until("web to be told", PATIENCE, || {
        let log = stage.fleet.agent(WEB).map_err(|error| error.to_string())?.log();
        log.contains(&told).then_some(()).ok_or(log)
    })?;

    // What web came by honestly, at the same time, is in the group: so the group was made anew, and without app.
    speak_as(&stage, SECOND)?;
    stage.wait_reach(WEB, Reach::Open, PATIENCE)?;
    assert_eq!(stage.world().reach(APP, DB, SERVICE)?, Reach::Silent);
    let app = stage.fleet.node(APP)?;
    assert_eq!(app.json()["refused_addresses"], json!([]), "{app}");
    Ok(())
}
