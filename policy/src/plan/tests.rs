//! Plans: what they show, and that they show nothing where nothing changes.

use proptest::prelude::*;

use super::*;
use crate::render::render;
use crate::testing::{members, members_of, net, rule, selector, slice, slices, tcp, these};

fn state(inbound: Vec<Rule>) -> DesiredState {
    DesiredState {
        firewall: Some(Firewall {
            groups: [("web".to_owned(), vec![net("10.77.0.2")])].into(),
            inbound,
            outbound: Vec::new(),
            outbound_default: Verdict::Allow,
        }),
        keeps: vec![RenderedKeep {
            tcp: 22,
            from: vec![net("10.77.0.1"), net("10.77.9.0/24")],
        }],
        moving: ["web".to_owned()].into(),
    }
}

fn shown(old: &DesiredState, new: &DesiredState) -> Vec<String> {
    diff(old, new).iter().map(ToString::to_string).collect()
}

fn from_web(origin: &str) -> Rule {
    rule(
        Verdict::Allow,
        these(&["web"], &["10.77.0.9"]),
        &[tcp(5432, 5432), tcp(6000, 6010)],
        origin,
    )
}

#[test]
fn a_first_release_shows_everything_and_the_last_one_takes_it_back() {
    let mut ping = rule(Verdict::Deny, Peers::Any, &[], "x.yaml:9");
    ping.services = vec![Service {
        protocol: Protocol::Udp,
        first: 53,
        last: 53,
    }];
    let new = state(vec![from_web("web.yaml:12"), ping]);
    let added = [
        "+ firewall, inbound denied by default",
        "+ outbound default allow",
        "+ inbound allow tcp 5432,6000-6010 from web, 10.77.0.9  (web.yaml:12)",
        "+ inbound deny udp 53 from any  (x.yaml:9)",
        "+ group web: 10.77.0.2",
        "+ keep tcp 22 from 10.77.0.1, 10.77.9.0/24",
    ];
    assert_eq!(shown(&DesiredState::default(), &new), added);
    let removed = added.map(|line| line.replacen('+', "-", 1));
    assert_eq!(shown(&new, &DesiredState::default()), removed);
}

#[test]
fn a_rule_that_only_moved_is_no_change() {
    let deny = |origin| rule(Verdict::Deny, these(&[], &["10.77.0.66"]), &[], origin);
    let old = state(vec![from_web("web.yaml:12"), deny("web.yaml:13")]);
    let new = state(vec![deny("web.yaml:2"), from_web("web.yaml:3")]);
    assert_eq!(diff(&old, &new), []);
}

#[test]
fn removals_come_before_additions_of_the_same_kind_and_repetitions_count() {
    let any = rule(Verdict::Allow, Peers::Any, &[tcp(80, 80)], "x.yaml:1");
    let old = state(vec![from_web("x.yaml:3"), any.clone(), any.clone()]);
    let mut new = state(vec![
        any,
        rule(Verdict::Allow, Peers::Any, &[tcp(443, 443)], "x.yaml:2"),
    ]);
    new.keeps.clear();
    assert_eq!(
        shown(&old, &new),
        [
            "- inbound allow tcp 5432,6000-6010 from web, 10.77.0.9  (x.yaml:3)",
            "- inbound allow tcp 80 from any  (x.yaml:1)",
            "+ inbound allow tcp 443 from any  (x.yaml:2)",
            "- keep tcp 22 from 10.77.0.1, 10.77.9.0/24",
        ]
    );
}

#[test]
fn a_signer_of_a_slice_sees_whom_its_groups_select_and_their_bounds() {
    let slice = |of: &str, within: &str, rules| {
        let mut slice = Slice::new(selector("role=db"));
        slice.inbound = rules;
        let group = Group::Selected {
            members: members_of(of),
            within: vec![net(within)],
        };
        slice.groups.insert("web".to_owned(), group);
        slice
    };
    let shown = |old: Option<&Slice>, new: Option<&Slice>| {
        diff_slices(old, new)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let narrow = slice("role=web", "10.77.0.0/28", vec![from_web("db.yaml:5")]);
    let wide = slice("role=web", "10.0.0.0/8", vec![from_web("db.yaml:7")]);
    let containers = slice("role=web on docker0", "10.0.0.0/8", vec![from_web("db.yaml:7")]);
    assert_eq!(
        shown(None, Some(&narrow)),
        [
            "+ firewall, inbound denied by default",
            "+ outbound default allow",
            "+ inbound allow tcp 5432,6000-6010 from web, 10.77.0.9  (db.yaml:5)",
            "+ group web: nodes role=web within 10.77.0.0/28",
        ]
    );
    assert_eq!(
        shown(Some(&narrow), Some(&wide)),
        [
            "- group web: nodes role=web within 10.77.0.0/28",
            "+ group web: nodes role=web within 10.0.0.0/8",
        ]
    );
    assert_eq!(
        shown(Some(&wide), Some(&containers)),
        [
            "- group web: nodes role=web within 10.0.0.0/8",
            "+ group web: nodes role=web on docker0 within 10.0.0.0/8",
        ]
    );
}

/// The other state's items, as a plan's reader would work them out.
fn apply(items: &[Item], changes: &[Change]) -> Vec<Item> {
    let mut items: Vec<_> = items.iter().map(Item::meaning).collect();
    for change in changes {
        let item = change.item.meaning();
        match change.sign {
            Sign::Added => items.push(item),
            Sign::Removed => drop(items.remove(items.iter().position(|one| *one == item).unwrap())),
        }
    }
    items.sort();
    items
}

proptest! {
    #[test]
    fn equal_states_have_an_empty_plan(slices in slices(), members in members()) {
        let state = render(&slices, &members).unwrap();
        prop_assert_eq!(diff(&state, &state), []);
    }

    #[test]
    fn a_plan_leads_from_the_old_state_to_the_new_one(old in slices(), new in slices(), members in members()) {
        let (old, new) = (render(&old, &members).unwrap(), render(&new, &members).unwrap());
        let mut wanted: Vec<_> = items(&new).iter().map(Item::meaning).collect();
        wanted.sort();
        prop_assert_eq!(apply(&items(&old), &diff(&old, &new)), wanted);
    }

    #[test]
    fn what_a_signer_reads_leads_from_the_old_slice_to_the_new_one(
        old in slice("role=db"),
        new in slice("role=db"),
    ) {
        let mut wanted: Vec<_> = slice_items(&new).iter().map(Item::meaning).collect();
        wanted.sort();
        prop_assert_eq!(apply(&slice_items(&old), &diff_slices(Some(&old), Some(&new))), wanted);
        prop_assert_eq!(diff_slices(Some(&new), Some(&new)), []);
    }
}
