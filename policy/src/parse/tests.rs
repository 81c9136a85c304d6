//! The parser: what it accepts, and the words with which it refuses.

use proptest::prelude::*;

use super::*;
use crate::firewall::{Peers, Protocol, Rule, Service, Verdict};
use crate::network::shown;
use crate::slice::{Group, GroupOrNetwork, Keep};
use crate::testing::{members_of, net, rule, selector, slices, tcp, these};

fn lab() -> Vec<(&'static str, &'static str)> {
    vec![
        ("all.yaml", include_str!("../../../docs/examples/lab/all.yaml")),
        ("db.yaml", include_str!("../../../docs/examples/lab/db.yaml")),
        (
            "groups.yaml",
            include_str!("../../../docs/examples/lab/groups.yaml"),
        ),
        ("web.yaml", include_str!("../../../docs/examples/lab/web.yaml")),
    ]
}

#[test]
fn the_lab_of_the_readme_loads() {
    let policy = load(&lab()).unwrap();
    let [all, db, web] = policy.slices() else {
        panic!("three slices wanted")
    };
    assert_eq!(*all.selector(), Selector::all());
    assert_eq!(
        all.inbound,
        [rule(
            Verdict::Allow,
            these(&["admins"], &[]),
            &[tcp(22, 22)],
            "all.yaml:5"
        )]
    );
    assert_eq!(
        all.keep,
        [Keep {
            tcp: 22,
            from: vec![GroupOrNetwork::Group("admins".to_owned())]
        }]
    );
    assert_eq!(
        all.groups["admins"],
        Group::Literal {
            addresses: vec![net("10.77.0.1")]
        }
    );
    assert_eq!(*db.selector(), selector("role=db"));
    assert_eq!(
        db.inbound,
        [rule(
            Verdict::Allow,
            these(&["web"], &[]),
            &[tcp(5432, 5432)],
            "db.yaml:5"
        )]
    );
    assert_eq!(
        db.outbound,
        [rule(Verdict::Deny, Peers::Any, &[tcp(25, 25)], "db.yaml:7")]
    );
    let within = vec![net("10.77.0.0/24")];
    assert_eq!(
        db.groups["web"],
        Group::Selected {
            members: members_of("role=web"),
            within
        }
    );
    assert_eq!(*web.selector(), selector("role=web"));
}

#[test]
fn the_example_of_the_reference_means_the_same_as_the_lab() {
    let reference = include_str!("../../../docs/policy.md");
    let (_, example) = reference.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let meaning = |policy: Policy| policy.slices.into_iter().map(without_origins).collect::<Vec<_>>();
    assert_eq!(
        meaning(load(&[("x.yaml", example)]).unwrap()),
        meaning(load(&lab()).unwrap())
    );
}

#[test]
fn the_order_of_files_given_does_not_matter() {
    let mut turned = lab();
    turned.reverse();
    assert_eq!(load(&turned), load(&lab()));
}

/// A policy whose rules are `inbound`, as one file.
fn inbound(rules: &str) -> String {
    format!(
        "groups: {{ admins: {{ addresses: [10.77.0.1] }} }}\npolicies:\n  - select: all\n    inbound:\n{rules}"
    )
}

#[test]
fn ports_and_peers_are_read_in_all_their_spellings() {
    let text = inbound(
        "      - allow: { udp: [53, \"60-61\", 70-71, '80'], tcp: [1], from: [admins, 10.0.0.0/8, fd00::1] }",
    );
    let policy = load(&[("x.yaml", text)]).unwrap();
    let udp = |first, last| Service {
        protocol: Protocol::Udp,
        first,
        last,
    };
    let services = [tcp(1, 1), udp(53, 53), udp(60, 61), udp(70, 71), udp(80, 80)];
    let peers = these(&["admins"], &["10.0.0.0/8", "fd00::1"]);
    assert_eq!(
        policy.slices()[0].inbound,
        [rule(Verdict::Allow, peers, &services, "x.yaml:5")]
    );
}

#[test]
fn words_that_other_yaml_readers_take_for_something_else_are_words() {
    let text = "policies: [{ select: { role: no, on: off } }]";
    assert_eq!(
        *load(&[("x.yaml", text)]).unwrap().slices()[0].selector(),
        selector("on=off,role=no")
    );
    let said = refusals(&inbound("      - allow: { tcp: [010, 1_0], from: any }"));
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn entries_with_one_selector_merge_in_the_order_of_files_then_lines() {
    let one = "policies:\n- { select: { a: b, c: d }, inbound: [{ allow: { from: any } }] }\n- { select: { c: d, a: b }, outbound_default: deny }";
    let other =
        "policies: [{ select: { a: b, c: d }, outbound_default: allow, inbound: [{ deny: { from: any } }] }]";
    let policy = load(&[("2.yaml", one), ("1.yaml", other)]).unwrap();
    let [slice] = policy.slices() else {
        panic!("one slice wanted")
    };
    let origins: Vec<_> = slice.inbound.iter().map(|rule| rule.origin.as_str()).collect();
    assert_eq!(origins, ["1.yaml:1", "2.yaml:2"]);
    assert_eq!(slice.outbound_default, Verdict::Deny);
}

#[test]
fn a_slice_holds_the_groups_it_names_and_no_others() {
    let slices = load(&lab()).unwrap().slices;
    let names: Vec<Vec<_>> = slices
        .iter()
        .map(|slice| slice.groups.keys().map(String::as_str).collect())
        .collect();
    assert_eq!(names, [vec!["admins"], vec!["web"], vec!["gateway"]]);
}

#[test]
fn anchors_may_be_used_and_files_may_hold_comments_only() {
    let text =
        "groups: { a: { addresses: &ips [10.0.0.1] }, b: { addresses: *ips } }\npolicies: [{ select: all }]";
    assert!(load(&[("x.yaml", text), ("y.yaml", "# nothing yet\n")]).is_ok());
}

/// What is said of one file `x.yaml`.
fn refusals(text: &str) -> Vec<String> {
    load(&[("x.yaml", text)])
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn every_mistake_is_reported_with_place_and_help() {
    let text = "\
groups:
  web: { select: { role: web } }
  gateway: { select: { role: gateway }, within: [10.77.0.9/24] }
  Any: { addresses: [10.0.0.1] }
  admins: { addresses: [] }
  none: {}
  port: { select: { tier: 1 }, within: [::/0] }
  typo: { adresses: [10.0.0.1] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [0, 70000, \"20-10\", 2.5], form: [web] }
      - allow: { tcp: [], from: [gatway, 10.0.0, any] }
      - deny: { from: [admins, web] }
      - { allow: { from: any }, deny: { from: any } }
      - allow
    outbound:
      - allow: { from: [10.0.0.1] }
    outbound_default: maybe
    keep:
      - { tcp: 22, from: [web2, gateway, any] }
      - { tcp: ssh, from: any }
  - inbound: []
  - select: {}
";
    let said = refusals(text);
    let wanted = [
        "x.yaml:2:18: a group with `select` needs `within`\n  help: write `within: [10.77.0.0/24]`",
        "x.yaml:3:50: network '10.77.0.9/24' has host bits set\n  help: write 10.77.0.0/24 for the network, or 10.77.0.9",
        "x.yaml:4:3: 'Any' cannot name a group\n  help: write a lower-case letter",
        "x.yaml:5:24: addresses is an empty list\n  help: write at least one network",
        "x.yaml:6:9: a group is either selected by labels or a list of addresses\n  help: write either",
        "x.yaml:7:27: a label's value is a text, but YAML reads the number 1\n  help: put it in quotes",
        "x.yaml:8:9: a group is either selected",
        "x.yaml:8:11: a group has no key 'adresses'\n  help: did you mean 'addresses'?",
        "x.yaml:12:16: an inbound rule does not say `from`\n  help: add `from: [..]`",
        "x.yaml:12:24: the number 0 is no port and no range of ports\n  help: write a number from 1 to 65535",
        "x.yaml:12:27: the number 70000 is no port",
        "x.yaml:12:34: the range 20-10 runs backwards\n  help: write \"10-20\"",
        "x.yaml:12:43: a number with a fraction is no port",
        "x.yaml:12:49: an inbound rule has no key 'form'\n  help: did you mean 'from'?",
        "x.yaml:13:23: tcp is an empty list\n  help: name ports, or remove `tcp`",
        "x.yaml:13:34: there is no group 'gatway'\n  help: did you mean 'gateway'?",
        "x.yaml:13:42: '10.0.0' is no address and no network\n  help: write an address such as",
        "x.yaml:13:50: 'any' stands in a list\n  help: write `from: any` without brackets",
        "x.yaml:14:24: a deny rule names the group 'admins'\n  help: write",
        "x.yaml:14:32: a deny rule names the group 'web'\n  help: write addresses or networks themselves",
        "x.yaml:15:9: a rule is exactly one of `allow` and `deny`\n  help: write one",
        "x.yaml:16:9: a rule is a mapping, but here is 'allow'\n  help: write `key: value`",
        "x.yaml:18:16: an outbound rule does not say `to`\n  help: add `to: [..]`",
        "x.yaml:18:18: an outbound rule has no key 'from'\n  help: an outbound rule has the keys tcp, udp, to",
        "x.yaml:19:23: outbound_default is allow or deny, but here is 'maybe'\n  help: write",
        "x.yaml:21:27: there is no group 'web2'\n  help: did you mean 'web'?",
        "x.yaml:21:33: a keep names the selector group 'gateway'\n  help: name addresses, or a group with `addresses:`",
        "x.yaml:21:42: a keep cannot be from 'any'\n  help: name the addresses",
        "x.yaml:22:16: a keep names one TCP port from 1 to 65535\n  help: write one port",
        "x.yaml:22:27: from is a list, but here is 'any'\n  help: write [one, two]",
        "x.yaml:23:5: the policy does not say for whom it is\n  help: add `select",
        "x.yaml:24:13: a selector is `all` or a mapping of labels, but here is a mapping\n  help: write `select",
    ];
    for (said, wanted) in said.iter().zip(wanted) {
        assert!(said.starts_with(wanted), "wanted {wanted}\ngot {said}");
    }
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
}

#[test]
fn a_keep_of_a_selector_group_is_refused() {
    let text = "groups: { web: { select: all, within: [10.0.0.0/8] } }\npolicies: [{ select: all, keep: [{ tcp: 22, from: [web] }] }]";
    let said = refusals(text);
    assert!(
        said[0].starts_with("x.yaml:2:52: a keep names the selector group 'web'\n  help: name addresses"),
        "{said:?}"
    );
}

#[test]
fn a_group_counts_the_interfaces_that_it_names_once_and_sorted() {
    let group = |interfaces: &str| {
        let text = format!(
            "groups: {{ web: {{ select: {{ role: web }}, within: [10.0.0.0/8]{interfaces} }} }}\n\
             policies: [{{ select: all, inbound: [{{ allow: {{ from: [web] }} }}] }}]"
        );
        load(&[("x.yaml", text)]).unwrap().slices()[0]
            .members()
            .next()
            .unwrap()
            .to_string()
    };
    assert_eq!(group(""), "role=web");
    assert_eq!(group(", interfaces: [eth0, ens*, eth0]"), "role=web on ens*,eth0");
    assert_eq!(group(", interfaces: [docker0, \"*\"]"), "role=web on *,docker0");
}

#[test]
fn interfaces_that_cannot_be_are_reported_where_they_stand() {
    let said = refusals(
        "groups:\n  web:\n    select: all\n    within: [10.0.0.0/8]\n    interfaces: [eth0@if5, 7, wlan-in-the-attic]\n  \
         db: { select: all, within: [10.0.0.0/8], interfaces: [] }\n  \
         app: { select: all, within: [10.0.0.0/8], interface: [eth0] }\n  \
         admins: { addresses: [10.0.0.1], interfaces: [eth0] }\n\
         policies: [{ select: all }]",
    );
    let wanted = [
        "x.yaml:5:18: 'eth0@if5' is no interface: up to 15 letters, digits, '.', '-' and '_' wanted, at the end '*' for any\n  \
         help: write names as `ip link` shows them, without what follows an '@'",
        "x.yaml:5:28: an interface is a text, but YAML reads the number 7\n  help: put it in quotes",
        "x.yaml:5:31: 'wlan-in-the-attic' is no interface",
        "x.yaml:6:56: interfaces is an empty list\n  help: name at least one interface, or remove `interfaces`",
        "x.yaml:7:45: a group has no key 'interface'\n  help: did you mean 'interfaces'?",
        "x.yaml:8:11: a group is either selected by labels or a list of addresses\n  help: write either",
    ];
    for (said, wanted) in said.iter().zip(wanted) {
        assert!(said.starts_with(wanted), "wanted {wanted}\ngot {said}");
    }
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
}

#[test]
fn a_deny_of_a_literal_group_is_answered_with_its_addresses() {
    let said = refusals(&inbound("      - deny: { from: [admins] }"));
    assert_eq!(
        said,
        [
            "x.yaml:5:24: a deny rule names the group 'admins'\n  help: write its addresses themselves, such as 10.77.0.1"
        ]
    );
}

#[test]
fn a_group_defined_in_two_files_is_refused_in_the_second() {
    let text = "groups: { web: { addresses: [10.0.0.1] } }\npolicies: [{ select: all }]";
    let found = load(&[("b.yaml", text), ("a.yaml", text)]).unwrap_err();
    let said: Vec<_> = found.iter().map(ToString::to_string).collect();
    let wanted = "b.yaml:1:11: group 'web' is already defined at a.yaml:1\n  help: give one of the two another name, or join them";
    assert_eq!(said, [wanted]);
}

#[test]
fn broken_yaml_is_reported_once_for_each_file() {
    for (text, wanted) in [
        (
            "a: [",
            "x.yaml:1:4: this is no YAML: unclosed bracket '['\n  help: mend the syntax",
        ),
        (
            "groups: {}\ngroups: {}",
            "x.yaml:2:1: 'groups' is written twice in one mapping\n  help: join the two",
        ),
        (
            "<<: { a: 1 }",
            "x.yaml:1:1: merge keys (<<) are not part of the language\n  help: write the keys out",
        ),
        (
            "policies: []\n---\ngroups: {}",
            "x.yaml:3:1: a second document begins\n  help: remove the '---' line",
        ),
        ("policies: &a [*a]", "x.yaml:1:15: this is no YAML: "),
        (
            "policies: !shell ls",
            "x.yaml:1:18: this is no YAML: unsupported tag",
        ),
        (
            "[policies]",
            "x.yaml:1:1: a policy file is a mapping, but here is a list\n  help: write `key: value` pairs of groups, policies",
        ),
        (
            "form: 1",
            "x.yaml:1:1: a policy file has no key 'form'\n  help: a policy file has the keys groups, policies",
        ),
    ] {
        let said = refusals(text);
        assert!(said[0].starts_with(wanted), "wanted {wanted}\ngot {said:#?}");
    }
    let found = load(&[("a.yaml", "a: ["), ("b.yaml", "policies: 1")]).unwrap_err();
    let files: Vec<_> = found.iter().map(|diagnostic| diagnostic.file.as_str()).collect();
    assert_eq!(files, ["a.yaml", "b.yaml"]);
}

#[test]
fn a_broken_file_does_not_make_its_groups_unknown() {
    let mut files = lab();
    files[2].1 = "groups: {";
    let found = load(&files).unwrap_err();
    assert!(
        matches!(&found[..], [one] if one.file == "groups.yaml"),
        "{found:?}"
    );
}

#[test]
fn sets_of_files_without_policies_are_refused() {
    let none: [(&str, &str); 0] = [];
    for (files, wanted) in [
        (
            &none[..],
            "policy: there are no policy files\n  help: name a directory",
        ),
        (&[("x.yaml", "")], "policy: the files hold no policies"),
        (
            &[("x.yaml", "groups: { a: { addresses: [10.0.0.1] } }")],
            "policy: the files hold no policies",
        ),
        (
            &[("x y.yaml", "")],
            "x y.yaml: the file's name cannot be used\n  help: rename it",
        ),
        (
            &[("x.yaml", ""), ("x.yaml", "")],
            "x.yaml: the file is given twice",
        ),
    ] {
        let found = load(files).unwrap_err();
        assert!(
            found.iter().any(|one| one.to_string().starts_with(wanted)),
            "wanted {wanted}, got {found:?}"
        );
    }
}

#[test]
fn everything_is_bounded() {
    let said = |text: &str| refusals(text).remove(0);
    assert!(said(&" ".repeat(FILE_BYTES_MAX + 1)).starts_with("x.yaml: the file has 1048577 bytes"));
    assert!(said(&"[".repeat(100)).contains("recursion limit"));
    let groups: String = (0..513)
        .map(|n| format!("  g{n}: {{ addresses: [10.0.0.1] }}\n"))
        .collect();
    assert!(said(&format!("groups:\n{groups}")).starts_with("x.yaml:514:3: more than 512 groups"));
    let rules = "      - allow: { from: any }\n".repeat(2_001);
    let many_rules = said(&inbound(&rules));
    assert!(
        many_rules.starts_with("x.yaml:3:5: all rules for 'all' cannot be sent: rules: 2001 rules where"),
        "{many_rules}"
    );
    let addresses = ["10.0.0.1"; 1_000].join(", ");
    let rules = format!("      - allow: {{ from: [{addresses}] }}\n").repeat(90);
    let large = said(&inbound(&rules));
    assert!(
        large.starts_with("x.yaml:3:5: all rules for 'all' come to "),
        "{large}"
    );
    let many = said(&inbound(&format!(
        "      - allow: {{ from: [{addresses}, 10.0.0.1] }}\n"
    )));
    assert!(
        many.starts_with("x.yaml:5:24: from has 1001 entries where at most 1000 fit"),
        "{many}"
    );
    let policies: String = (0..257).map(|n| format!("  - select: {{ n: n{n} }}\n")).collect();
    assert!(said(&format!("policies:\n{policies}")).starts_with("policy: 257 different selectors"));
    assert_eq!(
        refusals(&inbound(&"      - x: 1\n".repeat(200))).len(),
        DIAGNOSTICS_MAX
    );
    let files: Vec<_> = (0..257).map(|n| (format!("{n:03}.yaml"), "")).collect();
    assert!(
        load(&files).unwrap_err()[0]
            .to_string()
            .starts_with("policy: 257 policy files")
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let before = format!("*a{}", n - 1);
        text += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 8].join(", "));
    }
    assert!(
        refusals(&text)[0].contains("larger or deeper than any policy"),
        "{:?}",
        refusals(&text)
    );
}

/// Writes slices as an operator would.
fn written(slices: &[Slice]) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let networks = |networks: &[ipnet::IpNet]| {
        list(
            networks
                .iter()
                .map(|network| format!("\"{}\"", shown(network)))
                .collect(),
        )
    };
    let select = |of: &Selector| match of.labels().is_empty() {
        true => "all".to_owned(),
        false => format!("{{ {} }}", of.to_string().replace('=', ": ")),
    };
    let mut text = "groups:\n".to_owned();
    for (name, group) in crate::testing::groups() {
        text += &match group {
            Group::Literal { addresses } => format!("  {name}: {{ addresses: {} }}\n", networks(&addresses)),
            Group::Selected { members, within } => {
                let members_text = members.to_string();
                let interfaces = members_text
                    .split_once(" on ")
                    .map_or_else(String::new, |(_, names)| format!(", interfaces: [{names}]"));
                format!(
                    "  {name}: {{ select: {}, within: {}{interfaces} }}\n",
                    select(members.selector()),
                    networks(&within)
                )
            }
        };
    }
    text += "policies:\n";
    let write_rule = |rule: &Rule, key: &str| {
        let mut fields = Vec::new();
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let of_it = rule
                .services
                .iter()
                .filter(|service| service.protocol == protocol);
            let ports: Vec<_> = of_it
                .map(|service| format!("{}-{}", service.first, service.last))
                .collect();
            fields.extend((!ports.is_empty()).then(|| format!("{name}: {}", list(ports))));
        }
        fields.push(match &rule.peers {
            Peers::Any => format!("{key}: any"),
            Peers::These { groups, networks } => {
                let networks = networks.iter().map(|network| format!("\"{}\"", shown(network)));
                format!(
                    "{key}: {}",
                    list(groups.iter().cloned().chain(networks).collect())
                )
            }
        });
        let verdict = if rule.verdict == Verdict::Allow {
            "allow"
        } else {
            "deny"
        };
        format!("{{ {verdict}: {{ {} }} }}", fields.join(", "))
    };
    for slice in slices {
        let inbound = list(
            slice
                .inbound
                .iter()
                .map(|rule| write_rule(rule, "from"))
                .collect(),
        );
        let outbound = list(slice.outbound.iter().map(|rule| write_rule(rule, "to")).collect());
        let keep = list(
            slice
                .keep
                .iter()
                .map(|keep| {
                    let from = keep.from.iter().map(|entry| match entry {
                        GroupOrNetwork::Group(name) => name.clone(),
                        GroupOrNetwork::Network(network) => format!("\"{}\"", shown(network)),
                    });
                    format!("{{ tcp: {}, from: {} }}", keep.tcp, list(from.collect()))
                })
                .collect(),
        );
        let default = if slice.outbound_default == Verdict::Allow {
            "allow"
        } else {
            "deny"
        };
        text += &format!(
            "  - select: {}\n    inbound: {inbound}\n    outbound: {outbound}\n    outbound_default: {default}\n    keep: {keep}\n",
            select(slice.selector())
        );
    }
    text
}

fn without_origins(mut slice: Slice) -> Slice {
    for rule in slice.inbound.iter_mut().chain(&mut slice.outbound) {
        rule.origin.clear();
    }
    slice
}

proptest! {
    #[test]
    fn what_is_written_comes_through_as_bytes_and_back(slices in slices()) {
        let policy = load(&[("p.yaml", written(&slices))]).unwrap();
        for (read, meant) in policy.slices().iter().zip(&slices) {
            prop_assert_eq!(&Slice::parse(&read.to_bytes()).unwrap(), read);
            prop_assert_eq!(without_origins(read.clone()), without_origins(meant.clone()));
        }
        prop_assert_eq!(policy.slices().len(), slices.len());
    }

    #[test]
    fn any_text_is_answered(text: String, more in "[a-z:{}\\[\\],&*!#'\"\\-\n 0-9.|>%@?]{0,60}") {
        let _ = load(&[("x.yaml", text), ("y.yaml", more)]);
    }

    #[test]
    fn any_damage_is_answered_with_sound_slices_or_places(at: prop::sample::Index, with in "[\\PC\n]{0,3}", cut in 0..4_usize) {
        let (_, text) = lab()[1];
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let damaged: String = chars[..at].iter().copied().chain(with.chars()).chain(chars.iter().skip(at + cut).copied()).collect();
        let mut files = lab();
        files[1].1 = &damaged;
        match load(&files) {
            Ok(policy) => for slice in policy.slices() {
                prop_assert!(Slice::parse(&slice.to_bytes()).is_ok());
            },
            Err(found) => for one in found {
                let placed = one.line > 0 && one.column > 0;
                prop_assert!((placed || one.file == "policy") && !one.message.is_empty() && !one.help.is_empty(), "{one}");
            },
        }
    }
}
