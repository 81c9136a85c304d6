//! Lockouts: each way that can be cut, what is said of it, and what is left alone.

use proptest::prelude::*;

use super::*;
use crate::firewall::Peers;
use crate::render::{RenderedKeep, render};
use crate::testing::{address, addresses, members, net, rule, slices, tcp, these};

fn state(inbound: Vec<Rule>, outbound: Vec<Rule>) -> DesiredState {
    DesiredState {
        firewall: Some(Firewall {
            groups: [("nobody".to_owned(), Vec::new())].into(),
            inbound,
            outbound,
            outbound_default: Verdict::Allow,
        }),
        keeps: Vec::new(),
        moving: BTreeSet::new(),
    }
}

fn ssh_from(peers: Peers) -> Rule {
    rule(Verdict::Allow, peers, &[tcp(22, 22)], "all.yaml:5")
}

fn facts() -> NodeFacts {
    NodeFacts {
        ssh_ports: vec![22],
        ssh_peers: vec![(address("10.77.0.1"), 22)],
        hubs: vec![(address("10.77.0.10"), 7443)],
    }
}

fn shown(state: &DesiredState) -> Vec<String> {
    find(state, &facts()).iter().map(ToString::to_string).collect()
}

#[test]
fn what_stays_open_is_no_lockout() {
    assert!(find(&DesiredState::default(), &facts()).is_empty());
    let open = state(vec![ssh_from(these(&[], &["10.77.0.0/24"]))], Vec::new());
    assert_eq!(find(&open, &facts()), []);
}

#[test]
fn a_policy_without_ssh_cuts_the_session_and_the_port() {
    assert_eq!(
        shown(&state(Vec::new(), Vec::new())),
        [
            "ssh from 10.77.0.1 to port 22, open now, could not be opened again: no rule allows it and the default denies; \
             add `allow: { tcp: [22], from: [10.77.0.1] }` under `inbound`",
            "sshd listens on port 22 and nobody could reach it; \
             add `allow: { tcp: [22], from: [<your network>] }` under `inbound`",
        ]
    );
}

#[test]
fn a_deny_that_hits_the_operator_is_named() {
    let deny = rule(Verdict::Deny, these(&[], &["10.77.0.0/30"]), &[], "x.yaml:3");
    let found = shown(&state(vec![ssh_from(Peers::Any), deny], Vec::new()));
    assert_eq!(
        found,
        [
            "ssh from 10.77.0.1 to port 22, open now, could not be opened again: denied by the rule at x.yaml:3; \
          narrow or remove that rule (x.yaml:3); a deny always wins"
        ]
    );
}

#[test]
fn a_port_is_closed_when_denies_eat_all_that_allows_open() {
    let deny = |network: &str| rule(Verdict::Deny, these(&[], &[network]), &[], "x.yaml:3");
    let closed = |inbound| is_closed(state(inbound, Vec::new()).firewall.as_ref().unwrap(), 22);
    let from = these(&[], &["10.77.0.0/24"]);
    assert!(closed(vec![ssh_from(these(&["nobody"], &[]))]));
    assert!(closed(vec![
        ssh_from(from.clone()),
        deny("10.77.0.0/25"),
        deny("10.77.0.128/25")
    ]));
    assert!(!closed(vec![ssh_from(from), deny("10.77.0.0/25")]));
}

#[test]
fn an_outbound_deny_that_hits_the_hub_is_named() {
    let deny = rule(Verdict::Deny, Peers::Any, &[tcp(7000, 8000)], "cut.yaml:4");
    let found = shown(&state(vec![ssh_from(Peers::Any)], vec![deny]));
    assert_eq!(
        found,
        [
            "the way to the hub at 10.77.0.10 port 7443 would be cut: denied by the rule at cut.yaml:4; \
          narrow or remove that rule (cut.yaml:4); a deny always wins"
        ]
    );
    let mut strict = state(vec![ssh_from(Peers::Any)], Vec::new());
    strict.firewall.as_mut().unwrap().outbound_default = Verdict::Deny;
    assert_eq!(
        shown(&strict),
        [
            "the way to the hub at 10.77.0.10 port 7443 would be cut: no rule allows it and the default denies; \
          add `allow: { tcp: [7443], to: [10.77.0.10] }` under `outbound`"
        ]
    );
}

#[test]
fn a_keep_that_the_rules_close_is_named() {
    let mut state = state(vec![ssh_from(these(&[], &["10.77.0.0/24"]))], Vec::new());
    let keep = |network: &str| RenderedKeep {
        tcp: 22,
        from: vec![net(network)],
    };
    state.keeps = vec![keep("10.77.0.0/25")];
    assert_eq!(find(&state, &facts()), []);
    state.keeps = vec![keep("10.77.0.0/16")];
    assert_eq!(
        find(&state, &facts()),
        [Lockout::Keep {
            port: 22,
            from: net("10.77.0.0/16"),
            by: Cause::Default
        }]
    );
    let exception = rule(Verdict::Deny, these(&[], &["10.77.0.66"]), &[], "x.yaml:3");
    state.firewall.as_mut().unwrap().inbound.push(exception);
    state.keeps = vec![keep("10.77.0.0/25"), keep("10.77.0.66")];
    let by = Cause::Rule("x.yaml:3".to_owned());
    assert_eq!(
        find(&state, &facts()),
        [Lockout::Keep {
            port: 22,
            from: net("10.77.0.66"),
            by
        }]
    );
}

#[test]
fn a_keep_and_the_way_to_the_hub_that_only_a_moving_group_opens_are_lockouts() {
    let mut open = state(
        vec![ssh_from(these(&["web"], &[]))],
        vec![rule(
            Verdict::Allow,
            these(&["web"], &[]),
            &[tcp(7443, 7443)],
            "all.yaml:9",
        )],
    );
    let firewall = open.firewall.as_mut().unwrap();
    firewall.outbound_default = Verdict::Deny;
    firewall
        .groups
        .insert("web".to_owned(), vec![net("10.77.0.0/28")]);
    open.keeps = vec![RenderedKeep {
        tcp: 22,
        from: vec![net("10.77.0.1")],
    }];
    assert_eq!(find(&open, &facts()), [], "a literal group may carry them");

    open.moving = ["web".to_owned()].into();
    let by = |shown: &str, allow: &str| {
        format!(
            "{shown}: no rule allows it but one for a group whose members change without a release; add {allow}"
        )
    };
    assert_eq!(
        shown(&open),
        [
            by(
                "the way to the hub at 10.77.0.10 port 7443 would be cut",
                "`allow: { tcp: [7443], to: [10.77.0.10] }` under `outbound`"
            ),
            by(
                "the policy keeps tcp 22 from 10.77.0.1, but its own rules close it",
                "`allow: { tcp: [22], from: [10.77.0.1] }` under `inbound`"
            ),
        ]
    );
}

proptest! {
    #[test]
    fn without_a_lockout_no_members_close_a_keep_or_the_way_to_the_hub(
        slices in slices(),
        members in members(),
        later in members(),
        hub in addresses(),
        port in 1..6_u16,
    ) {
        let facts = NodeFacts { hubs: vec![(hub, port)], ..NodeFacts::default() };
        let now = find(&render(&slices, &members).unwrap(), &facts);
        // What is said of it may change with the members; that it is one does not.
        let which = |lockouts: &[Lockout]| -> Vec<_> {
            let way = |lockout: &Lockout| match lockout {
                Lockout::Keep { port, from, .. } => (*port, *from),
                Lockout::Hub { address, port, .. } => (*port, IpNet::from(*address)),
                Lockout::SshPeer { .. } | Lockout::SshPort { .. } => unreachable!("no ssh in the facts"),
            };
            lockouts.iter().map(way).collect()
        };
        let then = find(&render(&slices, &later).unwrap(), &facts);
        prop_assert_eq!(which(&now), which(&then));
    }

    #[test]
    fn a_port_is_closed_only_if_no_address_passes(slices in slices(), members in members(), port in 1..6_u16, peer in addresses()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        let passes = cut(&firewall, Direction::Inbound, peer, port).is_none();
        prop_assert!(!(passes && is_closed(&firewall, port)));
    }

    #[test]
    fn a_keep_without_lockout_or_exception_passes(slices in slices(), members in members(), port in 1..6_u16, peer in addresses()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        let passes = cut(&firewall, Direction::Inbound, peer, port).is_none();
        prop_assert_eq!(passes, cut_off(&firewall, port, peer.into()).is_none());
    }
}
