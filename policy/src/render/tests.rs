//! Rendering: order, bounds of groups, and what two slices of one node must agree on.

use proptest::prelude::*;

use super::*;
use crate::firewall::Peers;
use crate::selector::Selector;
use crate::testing::{address, groups, members, members_of, net, rule, selector, slices, these};

fn with_group(of: &str, group: &str) -> Slice {
    let mut slice = Slice::new(selector(of));
    slice.groups = groups().into_iter().filter(|(name, _)| name == group).collect();
    slice.inbound = vec![rule(Verdict::Allow, these(&[group], &[]), &[], "x.yaml:1")];
    slice
}

fn sets(of: &str, addresses: &[&str]) -> AddressSets {
    [(
        members_of(of),
        addresses.iter().map(|text| address(text)).collect(),
    )]
    .into()
}

#[test]
fn a_node_without_slices_has_no_table() {
    assert_eq!(render(&[], &AddressSets::new()).unwrap(), DesiredState::default());
}

#[test]
fn a_slice_without_rules_denies_what_comes_in() {
    let state = render(&[Slice::new(Selector::all())], &AddressSets::new()).unwrap();
    let firewall = state.firewall.unwrap();
    assert!(firewall.inbound.is_empty() && firewall.outbound.is_empty());
    assert_eq!(firewall.outbound_default, Verdict::Allow);
}

#[test]
fn members_outside_within_are_left_out_and_the_rest_is_aggregated() {
    let members = sets(
        "role=web",
        &[
            "10.77.0.2",
            "10.77.0.3",
            "10.77.0.16",
            "192.0.2.1",
            "::ffff:10.77.0.5",
            "fd00::2",
        ],
    );
    let firewall = render(&[with_group("all", "web")], &members)
        .unwrap()
        .firewall
        .unwrap();
    assert_eq!(
        firewall.groups["web"],
        [net("10.77.0.2/31"), net("10.77.0.5"), net("fd00::2")]
    );
}

#[test]
fn a_group_without_members_is_there_and_empty() {
    let firewall = render(&[with_group("all", "web")], &AddressSets::new())
        .unwrap()
        .firewall
        .unwrap();
    assert!(firewall.groups["web"].is_empty());
}

#[test]
fn slices_merge_in_the_order_of_their_selectors_and_any_deny_of_the_default_counts() {
    let mut all = with_group("all", "web");
    all.outbound_default = Verdict::Deny;
    let mut db = with_group("role=db", "db");
    db.inbound[0].origin = "y.yaml:1".to_owned();
    let one = render(&[db.clone(), all.clone()], &AddressSets::new()).unwrap();
    assert_eq!(one, render(&[all, db], &AddressSets::new()).unwrap());
    let firewall = one.firewall.unwrap();
    let origins: Vec<_> = firewall.inbound.iter().map(|rule| rule.origin.as_str()).collect();
    assert_eq!(origins, ["x.yaml:1", "y.yaml:1"]);
    assert_eq!(firewall.outbound_default, Verdict::Deny);
    assert!(firewall.groups.keys().eq(["db", "web"]));
}

#[test]
fn slices_that_disagree_about_a_group_or_repeat_a_selector_are_refused() {
    let mut other = with_group("role=db", "web");
    other.groups.insert(
        "web".to_owned(),
        Group::Literal {
            addresses: vec![net("10.9.9.9")],
        },
    );
    let refused = render(&[with_group("all", "web"), other], &AddressSets::new()).unwrap_err();
    assert!(matches!(refused, InvalidSlice::GroupDiffers { .. }), "{refused}");
    let refused = render(
        &[with_group("all", "web"), with_group("all", "db")],
        &AddressSets::new(),
    )
    .unwrap_err();
    assert!(matches!(refused, InvalidSlice::Twice(_)), "{refused}");
}

#[test]
fn keeps_are_resolved_and_each_is_there_once() {
    let mut all = with_group("all", "admins");
    all.keep = vec![crate::slice::Keep {
        tcp: 22,
        from: vec![
            GroupOrNetwork::Group("admins".to_owned()),
            GroupOrNetwork::Network(net("10.77.0.0")),
        ],
    }];
    let mut db = all.clone();
    db.selector = selector("role=db");
    let keeps = render(&[all, db], &AddressSets::new()).unwrap().keeps;
    assert_eq!(
        keeps,
        [RenderedKeep {
            tcp: 22,
            from: vec![net("10.77.0.0/31"), net("fd00::1")]
        }]
    );
}

proptest! {
    #[test]
    fn nobody_outside_within_gets_into_a_group(slices in slices(), members in members()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        let signed = groups();
        for (name, networks) in &firewall.groups {
            let (bounds, of) = match &signed[name] {
                Group::Literal { addresses } => (addresses, None),
                Group::Selected { members, within } => (within, Some(members)),
            };
            for address in networks.iter().flat_map(|network| network.hosts()) {
                prop_assert!(bounds.iter().any(|bound| bound.contains(&address)), "{address} in {name}");
                prop_assert!(of.is_none_or(|of| members[of].contains(&address)), "{address} in {name}");
            }
        }
    }

    #[test]
    fn every_group_that_a_rule_names_is_there(slices in slices(), members in members()) {
        let firewall = render(&slices, &members).unwrap().firewall.unwrap();
        for rule in firewall.inbound.iter().chain(&firewall.outbound) {
            if let Peers::These { groups, .. } = &rule.peers {
                prop_assert!(groups.iter().all(|name| firewall.groups.contains_key(name)));
            }
        }
    }

    #[test]
    fn the_same_input_in_another_order_renders_the_same(slices in slices(), members in members(), turn in 0..3_usize) {
        let mut turned = slices.clone();
        turned.rotate_left(turn);
        prop_assert_eq!(render(&slices, &members).unwrap(), render(&turned, &members).unwrap());
    }
}
