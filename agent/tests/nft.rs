//! The firewall against the real nft and kernel, each test in a network namespace of its own.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start programs of their own, and fail by panicking"
)]

mod namespace;

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use holdfast_agent::firewall::resource::{FirewallTable, Plan};
use holdfast_agent::reconcile::{Outcome, Resource, Steps, converge};
use holdfast_pki::files::SystemFiles;
use holdfast_policy::firewall::{Firewall, Peers, Protocol, Rule, Service, Verdict};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use namespace::{held, inside, sh, table};

fn network() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 0..=32_u8).prop_map(|(bits, len)| Ipv4Net::new(bits.into(), len).unwrap().into()),
        (any::<u128>(), 0..=128_u8).prop_map(|(bits, len)| Ipv6Net::new(bits.into(), len).unwrap().into()),
        // Neighbours and parts of each other, which nft refuses in one set unless they were merged.
        (0..8_u32, 27..=32_u8)
            .prop_map(|(bits, len)| Ipv4Net::new((0x0a4d_0000 | bits).into(), len).unwrap().into()),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    (any::<bool>(), 1..=u16::MAX, 0..20_u16).prop_map(|(tcp, first, more)| Service {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        first,
        last: first.saturating_add(more),
    })
}

fn rule(verdict: Verdict) -> impl Strategy<Value = Rule> {
    let groups = if verdict == Verdict::Allow {
        0..3_usize
    } else {
        0..1
    };
    let group = prop_oneof![
        Just("web".to_owned()),
        Just("db".to_owned()),
        Just("no \"body\"".to_owned())
    ];
    let these = (
        proptest::collection::vec(group, groups),
        proptest::collection::vec(network(), 0..5),
    );
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        4 => these.prop_map(|(groups, networks)| Peers::These { groups, networks }),
    ];
    let origin = prop_oneof![Just("web.yaml:12".to_owned()), "\\PC{0,200}"];
    (peers, proptest::collection::vec(service(), 0..5), origin).prop_map(move |(peers, services, origin)| {
        Rule {
            verdict,
            peers,
            services,
            origin,
        }
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::vec(prop_oneof![rule(Verdict::Allow), rule(Verdict::Deny)], 0..6)
}

fn firewall() -> impl Strategy<Value = Firewall> {
    let members = || proptest::collection::vec(network(), 0..12);
    (members(), members(), rules(), rules(), any::<bool>()).prop_map(|(web, db, inbound, outbound, open)| {
        Firewall {
            groups: BTreeMap::from([
                ("web".to_owned(), IpNet::aggregate(&web)),
                ("db".to_owned(), IpNet::aggregate(&db)),
                ("no \"body\"".to_owned(), vec![]),
            ]),
            inbound,
            outbound,
            outbound_default: if open { Verdict::Allow } else { Verdict::Deny },
        }
    })
}

/// The same `count` firewalls in every run.
fn firewalls(count: usize) -> Vec<Firewall> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count)
        .map(|_| firewall().new_tree(&mut runner).unwrap().current())
        .collect()
}

/// Allows what comes from 10.77.0.2 to tcp 5432, and denies one address.
fn simple() -> Firewall {
    let allow = Rule {
        verdict: Verdict::Allow,
        peers: Peers::These {
            groups: vec!["web".to_owned()],
            networks: vec![],
        },
        services: vec![Service {
            protocol: Protocol::Tcp,
            first: 5432,
            last: 5432,
        }],
        origin: "db.yaml:4".to_owned(),
    };
    let deny = Rule {
        verdict: Verdict::Deny,
        peers: Peers::These {
            groups: vec![],
            networks: vec!["10.77.0.66/32".parse().unwrap()],
        },
        services: vec![],
        origin: "db.yaml:5".to_owned(),
    };
    Firewall {
        groups: BTreeMap::from([("web".to_owned(), vec!["10.77.0.2/32".parse().unwrap()])]),
        inbound: vec![allow, deny],
        outbound: vec![],
        outbound_default: Verdict::Allow,
    }
}

async fn repaired(resource: &mut FirewallTable, desired: &Option<Firewall>) -> Plan {
    match converge(resource, desired).await.unwrap() {
        Outcome::Repaired(plan) => plan,
        other => panic!("repaired wanted, got {other:?} for {desired:?}"),
    }
}

async fn assert_in_sync(resource: &mut FirewallTable, desired: &Option<Firewall>) {
    let observed = resource.observe().await.unwrap();
    let plan = FirewallTable::diff(desired, &observed);
    assert!(plan.is_empty(), "{plan}\n{desired:?}");
}

#[test]
fn any_firewall_once_loaded_is_in_sync() {
    inside("any_firewall_once_loaded_is_in_sync", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        for desired in firewalls(50).into_iter().map(Some) {
            repaired(&mut resource, &desired).await;
            assert_in_sync(&mut resource, &desired).await;
        }
    });
}

#[test]
fn any_firewall_is_put_back_from_its_snapshot() {
    inside("any_firewall_is_put_back_from_its_snapshot", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        let firewalls = firewalls(21);
        for pair in firewalls.windows(2) {
            let (old, new) = (Some(pair[0].clone()), Some(pair[1].clone()));
            repaired(&mut resource, &old).await;
            let before = held().await;
            let plan = FirewallTable::diff(&new, &resource.observe().await.unwrap());
            let snapshot = resource.capture(&plan).await.unwrap();
            resource.apply(&plan).await.unwrap();
            assert_ne!(held().await, before);
            for _ in 0..2 {
                snapshot.restore(&SystemFiles, dir.path()).await.unwrap();
                assert_eq!(held().await, before, "{old:?}");
                assert_in_sync(&mut resource, &old).await;
            }
            converge(&mut resource, &None).await.unwrap();
        }
    });
}

#[test]
fn what_was_absent_is_absent_again_after_the_undo() {
    inside("what_was_absent_is_absent_again_after_the_undo", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        let snapshot = resource.capture(&Plan::Keep).await.unwrap();
        repaired(&mut resource, &Some(simple())).await;
        snapshot.restore(&SystemFiles, dir.path()).await.unwrap();
        assert_eq!(held().await, None);
        assert_in_sync(&mut resource, &None).await;
    });
}

#[test]
fn counters_go_on_where_they_were_after_an_undo() {
    inside("counters_go_on_where_they_were_after_an_undo", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        sh("ip link set lo up");
        repaired(&mut resource, &Some(simple())).await;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"counted", socket.local_addr().unwrap()).unwrap();
        let count =
            || sh("nft list chain inet holdfast input | grep -o 'iif \"lo\" counter packets [1-9][0-9]*'");
        let before = count();
        let snapshot = resource.capture(&Plan::Keep).await.unwrap();
        converge(&mut resource, &None).await.unwrap();
        snapshot.restore(&SystemFiles, dir.path()).await.unwrap();
        assert_eq!(count(), before);
    });
}

#[test]
fn a_foreign_table_is_untouched_by_apply_repair_and_undo() {
    inside("a_foreign_table_is_untouched_by_apply_repair_and_undo", async {
        sh("nft add table inet foreign
            nft add set inet foreign s '{ type ipv4_addr; elements = { 192.0.2.1 }; }'
            nft add chain inet foreign c '{ type filter hook input priority 0; policy drop; }'
            nft add rule inet foreign c ip saddr @s counter accept comment '\"theirs\"'");
        let theirs = || sh("nft -a list table inet foreign");
        let before = theirs();
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        let snapshot = resource.capture(&Plan::Keep).await.unwrap();
        let desired = Some(simple());
        repaired(&mut resource, &desired).await;
        assert_eq!(theirs(), before, "after apply");
        sh("nft flush chain inet holdfast input");
        repaired(&mut resource, &desired).await;
        assert_eq!(theirs(), before, "after repair");
        snapshot.restore(&SystemFiles, dir.path()).await.unwrap();
        assert_eq!((theirs(), held().await), (before.clone(), None), "after undo");
        repaired(&mut resource, &desired).await;
        repaired(&mut resource, &None).await;
        assert_eq!(sh("nft list tables"), "table inet foreign\n", "after removal");
        assert_eq!(theirs(), before, "after removal");
    });
}

#[test]
fn what_others_did_to_our_table_is_named_and_mended() {
    inside("what_others_did_to_our_table_is_named_and_mended", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        let desired = Some(simple());
        let absent = repaired(&mut resource, &desired).await.to_string();
        assert!(absent.ends_with("it is absent"), "{absent}");
        let handle =
            "$(nft -a list chain inet holdfast input | sed -n 's/.*db.yaml:4.*handle //p' | head -n1)";
        let edits = [
            (
                format!("nft delete rule inet holdfast input handle {handle}"),
                "missing: input accept db.yaml:4",
            ),
            (
                "nft insert rule inet holdfast input accept comment '\"mine\"'".into(),
                "added: input accept mine",
            ),
            (
                "nft add element inet holdfast g_0_v4 '{ 10.9.9.9 }'".into(),
                "added: set g_0_v4 with 2 elements",
            ),
            ("nft add chain inet holdfast extra".into(), "added: chain extra"),
            (
                "nft add counter inet holdfast extra".into(),
                "added: counter extra",
            ),
        ];
        for (edit, wanted) in edits {
            sh(&edit);
            let plan = repaired(&mut resource, &desired).await.to_string();
            assert!(
                plan.contains("changed by another program") && plan.contains(wanted),
                "{edit}: {plan}"
            );
            assert_in_sync(&mut resource, &desired).await;
        }
        sh("nft delete table inet holdfast");
        repaired(&mut resource, &desired).await;
        assert_in_sync(&mut resource, &desired).await;
    });
}

#[test]
fn without_its_memory_the_table_is_loaded_again() {
    inside("without_its_memory_the_table_is_loaded_again", async {
        let dir = tempfile::tempdir().unwrap();
        let desired = Some(simple());
        repaired(&mut table(dir.path()), &desired).await;
        std::fs::write(dir.path().join("firewall.loaded"), "{").unwrap();
        repaired(&mut table(dir.path()), &desired).await;
        assert_in_sync(&mut table(dir.path()), &desired).await;
    });
}

#[test]
fn a_firewall_that_nft_refuses_leaves_the_old_one_in_force() {
    inside("a_firewall_that_nft_refuses_leaves_the_old_one_in_force", async {
        let dir = tempfile::tempdir().unwrap();
        let mut resource = table(dir.path());
        repaired(&mut resource, &Some(simple())).await;
        let before = held().await;
        let groupless = Firewall {
            groups: BTreeMap::new(),
            ..simple()
        };
        let error = converge(&mut resource, &Some(groupless)).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot load table inet holdfast");
        assert_eq!(held().await, before);
        assert_in_sync(&mut resource, &Some(simple())).await;
    });
}

#[test]
fn allowed_packets_pass_and_others_are_dropped() {
    inside("allowed_packets_pass_and_others_are_dropped", async {
        let mut peer = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = peer.id();
        sh(&format!(
            "until [ \"$(readlink /proc/{pid}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.01; done
             ip link add here type veth peer name there netns {pid}
             ip addr add 10.77.0.1/24 dev here; ip link set here up
             there='nsenter --net=/proc/{pid}/ns/net ip'
             $there addr add 10.77.0.2/24 dev there; $there addr add 10.77.0.66/24 dev there; $there link set there up"
        ));
        let (_db, _other) = (
            TcpListener::bind("10.77.0.1:5432").unwrap(),
            TcpListener::bind("10.77.0.1:5433").unwrap(),
        );
        let reaches = |from: &str, port: u16| {
            let attempt = "import socket,sys; s=socket.create_connection(('10.77.0.1', int(sys.argv[2])), 0.7, (sys.argv[1], 0))";
            let network = format!("--net=/proc/{pid}/ns/net");
            let command = Command::new("nsenter")
                .args([&network, "python3", "-c", attempt, from, &port.to_string()])
                .stderr(Stdio::null())
                .status();
            command.unwrap().success()
        };
        assert!(
            reaches("10.77.0.2", 5432) && reaches("10.77.0.66", 5433),
            "before the firewall everything passes"
        );
        let dir = tempfile::tempdir().unwrap();
        repaired(&mut table(dir.path()), &Some(simple())).await;
        assert!(reaches("10.77.0.2", 5432), "allowed group and port");
        assert!(!reaches("10.77.0.2", 5433), "another port");
        assert!(!reaches("10.77.0.66", 5432), "another address");
        peer.kill().unwrap();
        peer.wait().unwrap();
    });
}
