//! Slices as bytes: one spelling, and everything unsound refused.

use proptest::prelude::*;

use super::*;
use crate::firewall::{Protocol, Service};
use crate::testing::{net, rule, selector, slice, tcp, these};

fn sound() -> Slice {
    let mut slice = Slice::new(selector("role=db"));
    slice.groups = crate::testing::groups();
    slice.inbound = vec![rule(
        Verdict::Allow,
        these(&["web"], &["10.77.0.9"]),
        &[tcp(5432, 5432)],
        "db.yaml:5",
    )];
    slice.outbound = vec![rule(
        Verdict::Deny,
        these(&[], &["203.0.113.0/24"]),
        &[],
        "db.yaml:7",
    )];
    slice.keep = vec![Keep {
        tcp: 22,
        from: vec![GroupOrNetwork::Group("admins".to_owned())],
    }];
    slice
}

/// What a node says of a slice that was changed like this.
fn flaw(change: impl FnOnce(&mut Slice)) -> Flaw {
    let mut slice = sound();
    change(&mut slice);
    match Slice::parse(&slice.to_bytes()) {
        Err(InvalidSlice::Unsound { flaw, .. }) => flaw,
        other => panic!("unsound wanted, got {other:?}"),
    }
}

#[test]
fn a_sound_slice_reads_back() {
    let slice = sound();
    assert_eq!(Slice::parse(&slice.to_bytes()).unwrap(), slice);
    assert_eq!(slice.digest(), Digest::of(&slice.to_bytes()));
    assert!(
        slice
            .to_bytes()
            .starts_with(br#"{"kind":"slice","format":1,"selector":"role=db","#)
    );
    let members: Vec<_> = slice.members().map(ToString::to_string).collect();
    assert_eq!(members, ["role=db on ens*,eth0", "role=web"]);
}

#[test]
fn the_language_is_checked_again() {
    let deny_of_group = flaw(|slice| slice.outbound[0].peers = these(&["web"], &["10.0.0.1"]));
    assert_eq!(deny_of_group, Flaw::DenyOfGroup("web".to_owned()));
    let without_within = flaw(|slice| {
        let Some(Group::Selected { within, .. }) = slice.groups.get_mut("web") else {
            unreachable!()
        };
        within.clear();
    });
    assert_eq!(without_within, Flaw::Empty("networks under 'within'"));
    let moving = flaw(|slice| slice.keep[0].from = vec![GroupOrNetwork::Group("web".to_owned())]);
    assert_eq!(moving, Flaw::MovingKeep("web".to_owned()));
    let unknown = flaw(|slice| slice.inbound[0].peers = these(&["wbe"], &[]));
    assert_eq!(unknown, Flaw::UnknownGroup("wbe".to_owned()));
    assert_eq!(
        flaw(|slice| slice.keep[0].from.clear()),
        Flaw::Empty("places to reach it from")
    );
    assert_eq!(
        flaw(|slice| slice.inbound[0].peers = these(&[], &[])),
        Flaw::Empty("peers")
    );
}

#[test]
fn ports_networks_and_names_are_checked_again() {
    for (first, last) in [(0, 1), (2, 1), (0, 0)] {
        let service = Service {
            protocol: Protocol::Udp,
            first,
            last,
        };
        assert_eq!(
            flaw(|slice| slice.inbound[0].services = vec![service]),
            Flaw::Ports { first, last }
        );
    }
    assert!(matches!(flaw(|slice| slice.keep[0].tcp = 0), Flaw::Ports { .. }));
    let host_bits = "10.0.0.1/8".parse().unwrap();
    let peers = Peers::These {
        groups: Vec::new(),
        networks: vec![host_bits],
    };
    assert!(matches!(
        flaw(|slice| slice.inbound[0].peers = peers),
        Flaw::Network(_)
    ));
    for name in ["", "any", "Web", "1", "a b", "web;drop", &"x".repeat(49)] {
        let group = Group::Literal {
            addresses: vec![net("10.0.0.1")],
        };
        assert_eq!(
            flaw(|slice| drop(slice.groups.insert(name.to_owned(), group))),
            Flaw::GroupName,
            "{name}"
        );
    }
    for origin in [
        "",
        "web.yaml",
        "web.yaml:",
        "web.yaml:1x",
        "a\"b:1",
        "../x:1",
        &format!("{}:1", "x".repeat(65)),
    ] {
        assert_eq!(
            flaw(|slice| slice.inbound[0].origin = origin.to_owned()),
            Flaw::Origin,
            "{origin}"
        );
    }
}

#[test]
fn every_list_is_bounded() {
    let one = rule(Verdict::Allow, Peers::Any, &[], "x.yaml:1");
    let too_many = |flaw| matches!(flaw, Flaw::TooMany { got, max, .. } if got == max + 1);
    assert!(too_many(flaw(
        |slice| slice.outbound = vec![one.clone(); RULES_MAX]
    )));
    assert!(too_many(flaw(
        |slice| slice.keep = vec![slice.keep[0].clone(); KEEPS_MAX + 1]
    )));
    assert!(too_many(flaw(
        |slice| slice.inbound[0].services = vec![tcp(1, 1); SERVICES_MAX + 1]
    )));
    let peers = Peers::These {
        groups: Vec::new(),
        networks: vec![net("10.0.0.1"); NETWORKS_MAX + 1],
    };
    assert!(too_many(flaw(|slice| slice.inbound[0].peers = peers)));
    let group = Group::Literal {
        addresses: vec![net("10.0.0.1")],
    };
    let groups = (0..=GROUPS_MAX)
        .map(|n| (format!("g{n}"), group.clone()))
        .collect();
    assert!(too_many(flaw(|slice| slice.groups = groups)));
    let spaces = vec![b' '; SLICE_BYTES_MAX + 1];
    assert!(matches!(Slice::parse(&spaces), Err(InvalidSlice::TooLarge(_))));
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    let text = String::from_utf8(sound().to_bytes()).unwrap();
    for (at, _) in text.match_indices('{') {
        let mut changed = text.clone();
        changed.insert_str(at + 1, r#""surprise":1,"#);
        assert!(Slice::parse(changed.as_bytes()).is_err(), "{changed}");
    }
}

#[test]
fn another_spelling_is_another_slice() {
    let text = String::from_utf8(sound().to_bytes()).unwrap();
    let twice = r#""admins":{"literal":{"addresses":["10.9.9.9/32"]}},"admins":"#;
    for changed in [
        format!("{text}\n"),
        text.replacen(':', ": ", 1),
        text.replacen(r#""admins":"#, twice, 1),
        text.replacen("fd00::1/128", "FD00::1/128", 1),
    ] {
        assert_ne!(changed, text);
        let refused = Slice::parse(changed.as_bytes());
        assert!(
            matches!(refused, Err(InvalidSlice::Spelling(_))),
            "{changed} {refused:?}"
        );
    }
}

#[test]
fn members_in_another_spelling_or_beyond_their_bounds_are_refused() {
    let text = String::from_utf8(sound().to_bytes()).unwrap();
    let many: Vec<_> = (10..=10 + INTERFACES_MAX).map(|n| format!("eth{n}")).collect();
    for other in [
        "role=db on eth0,ens*".to_owned(),
        "role=db on eth0,eth0".to_owned(),
        "role=db on ".to_owned(),
        "role=db on sixteen-bytes-xx".to_owned(),
        format!("role=db on {}", many.join(",")),
    ] {
        let changed = text.replace("role=db on ens*,eth0", &other);
        assert_ne!(changed, text);
        let refused = Slice::parse(changed.as_bytes());
        assert!(
            matches!(refused, Err(InvalidSlice::Syntax(_))),
            "{other} {refused:?}"
        );
    }
}

#[test]
fn a_newer_format_is_named_as_such() {
    let text = String::from_utf8(sound().to_bytes()).unwrap();
    let newer = text.replace(r#""format":1"#, r#""format":2,"new":true"#);
    assert!(matches!(
        Slice::parse(newer.as_bytes()),
        Err(InvalidSlice::Unknown { format: 2, .. })
    ));
    let other = text.replace(r#""kind":"slice""#, r#""kind":"release""#);
    assert!(matches!(
        Slice::parse(other.as_bytes()),
        Err(InvalidSlice::Unknown { .. })
    ));
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>) {
        prop_assert!(Slice::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_slice(slice in slice("role=db"), at: prop::sample::Index, byte: u8) {
        let bytes = slice.to_bytes();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = byte;
        if let Ok(read) = Slice::parse(&changed) {
            prop_assert_eq!(read == slice, changed == bytes);
            prop_assert_eq!(read.to_bytes(), changed);
        }
    }
}
