//! Judging: against an independent reading of the module's first paragraph.

use proptest::prelude::*;

use super::*;
use crate::render::{DesiredState, render};
use crate::testing::{address, flows, members, rule, slices, tcp, these};

fn inbound(peer: &str, port: u16) -> Flow {
    Flow {
        direction: Direction::Inbound,
        peer: address(peer),
        protocol: Protocol::Tcp,
        port,
    }
}

fn web_to_db() -> Firewall {
    Firewall {
        groups: [("web".to_owned(), vec!["10.77.0.2/31".parse().unwrap()])].into(),
        inbound: vec![
            rule(
                Verdict::Allow,
                these(&["web"], &[]),
                &[tcp(5432, 5433)],
                "db.yaml:4",
            ),
            rule(Verdict::Deny, these(&[], &["10.77.0.3"]), &[], "db.yaml:5"),
        ],
        outbound: vec![rule(Verdict::Deny, Peers::Any, &[tcp(25, 25)], "db.yaml:7")],
        outbound_default: Verdict::Allow,
    }
}

#[test]
fn a_judgement_names_the_rule_that_decided() {
    let firewall = web_to_db();
    let allowed = firewall.judge(&inbound("10.77.0.2", 5433));
    assert_eq!(
        allowed,
        Judgement {
            verdict: Verdict::Allow,
            by: Some("db.yaml:4")
        }
    );
    let denied = firewall.judge(&inbound("10.77.0.3", 5432));
    assert_eq!(
        denied,
        Judgement {
            verdict: Verdict::Deny,
            by: Some("db.yaml:5")
        }
    );
    let default = firewall.judge(&inbound("10.77.0.2", 5434));
    assert_eq!(
        default,
        Judgement {
            verdict: Verdict::Deny,
            by: None
        }
    );
}

#[test]
fn directions_have_rules_and_defaults_of_their_own() {
    let firewall = web_to_db();
    let out = |port| Flow {
        direction: Direction::Outbound,
        ..inbound("203.0.113.1", port)
    };
    assert_eq!(firewall.judge(&out(25)).verdict, Verdict::Deny);
    assert_eq!(firewall.judge(&out(443)).verdict, Verdict::Allow);
    let strict = Firewall {
        outbound_default: Verdict::Deny,
        ..firewall
    };
    assert_eq!(
        strict.judge(&out(443)),
        Judgement {
            verdict: Verdict::Deny,
            by: None
        }
    );
}

#[test]
fn loopback_passes_and_a_mapped_peer_is_ipv4() {
    let firewall = web_to_db();
    for peer in ["127.0.0.1", "127.9.9.9", "::1"] {
        assert_eq!(
            firewall.judge(&inbound(peer, 1)).verdict,
            Verdict::Allow,
            "{peer}"
        );
    }
    assert_eq!(
        firewall.judge(&inbound("::ffff:10.77.0.2", 5432)).verdict,
        Verdict::Allow
    );
    assert_eq!(
        firewall.judge(&inbound("::ffff:10.77.0.3", 5432)).verdict,
        Verdict::Deny
    );
}

/// The reference: counts who speaks for and against, over numbers instead of networks.
fn reference(firewall: &Firewall, flow: &Flow) -> Verdict {
    let inside = |network: &IpNet| match (network, flow.peer) {
        (IpNet::V4(net), IpAddr::V4(ip)) => {
            (u32::from(net.network())..=u32::from(net.broadcast())).contains(&ip.into())
        }
        (IpNet::V6(net), IpAddr::V6(ip)) => {
            (u128::from(net.network())..=u128::from(net.broadcast())).contains(&ip.into())
        }
        _ => false,
    };
    let (mut pro, mut contra) = (0, 0);
    let inbound = flow.direction == Direction::Inbound;
    for rule in if inbound {
        &firewall.inbound
    } else {
        &firewall.outbound
    } {
        let mut port = rule.services.is_empty();
        for service in &rule.services {
            port |=
                service.protocol == flow.protocol && service.first <= flow.port && flow.port <= service.last;
        }
        let peer = match &rule.peers {
            Peers::Any => true,
            Peers::These { groups, networks } => {
                networks.iter().any(inside)
                    || groups.iter().any(|name| firewall.groups[name].iter().any(inside))
            }
        };
        match rule.verdict {
            Verdict::Allow => pro += usize::from(port && peer),
            Verdict::Deny => contra += usize::from(port && peer),
        }
    }
    if contra > 0 || (pro == 0 && (inbound || firewall.outbound_default == Verdict::Deny)) {
        Verdict::Deny
    } else {
        Verdict::Allow
    }
}

proptest! {
    #[test]
    fn judge_agrees_with_the_reference(slices in slices(), members in members(), flow in flows()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        prop_assert_eq!(firewall.judge(&flow).verdict, reference(&firewall, &flow));
    }

    #[test]
    fn a_deny_wins_wherever_it_stands(slices in slices(), members in members(), flow in flows(), at: prop::sample::Index) {
        let DesiredState { firewall, .. } = render(&slices, &members).unwrap();
        let mut firewall = firewall.unwrap();
        let peers = Peers::These { groups: Vec::new(), networks: vec![flow.peer.into()] };
        let deny = rule(Verdict::Deny, peers, &[], "deny.yaml:1");
        let rules = match flow.direction {
            Direction::Inbound => &mut firewall.inbound,
            Direction::Outbound => &mut firewall.outbound,
        };
        rules.insert(at.index(rules.len() + 1), deny);
        prop_assert_eq!(firewall.judge(&flow).verdict, Verdict::Deny);
    }

    #[test]
    fn the_order_of_rules_decides_nothing_but_the_name(slices in slices(), members in members(), flow in flows()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        let mut reversed = firewall.clone();
        reversed.inbound.reverse();
        reversed.outbound.reverse();
        prop_assert_eq!(firewall.judge(&flow).verdict, reversed.judge(&flow).verdict);
    }
}
