use serde_json::Value;

use holdfast_policy::firewall::{Peers, Protocol, Rule, Service};

use super::*;

fn service(protocol: Protocol, first: u16, last: u16) -> Service {
    Service {
        protocol,
        first,
        last,
    }
}

fn these(groups: &[&str], networks: &[&str]) -> Peers {
    Peers::These {
        groups: groups.iter().map(ToString::to_string).collect(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
    }
}

fn rule(verdict: Verdict, peers: Peers, services: &[Service]) -> Rule {
    Rule {
        verdict,
        peers,
        services: services.to_vec(),
        origin: "web.yaml:12".to_owned(),
    }
}

fn firewall(inbound: Vec<Rule>) -> Firewall {
    Firewall {
        groups: BTreeMap::from([(
            "web".to_owned(),
            vec!["10.77.0.0/24".parse().unwrap(), "fd00::1/128".parse().unwrap()],
        )]),
        inbound,
        outbound: vec![],
        outbound_default: Verdict::Allow,
    }
}

/// The rendered rules of a chain, as (comment, the rest on one line).
fn rules_of(firewall: &Firewall, chain: &str) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(Ruleset::replace(firewall).json()).unwrap();
    let rules = json["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| &command["add"]["rule"]);
    rules
        .filter(|rule| rule["chain"] == chain)
        .map(|rule| {
            (
                rule["comment"].as_str().unwrap().to_owned(),
                rule["expr"].to_string(),
            )
        })
        .collect()
}

#[test]
fn the_order_is_loopback_deny_established_essentials_allow_default() {
    let allow = rule(Verdict::Allow, Peers::Any, &[service(Protocol::Tcp, 22, 22)]);
    let deny = rule(Verdict::Deny, these(&[], &["10.77.0.66/32"]), &[]);
    let firewall = firewall(vec![
        Rule {
            origin: "allow".into(),
            ..allow
        },
        Rule {
            origin: "deny".into(),
            ..deny
        },
    ]);
    let order: Vec<_> = rules_of(&firewall, "input")
        .into_iter()
        .map(|(comment, _)| comment)
        .collect();
    let essentials = ["icmp", "icmpv6", "igmp", "dhcp", "dhcpv6"];
    assert_eq!(order[..3], ["loopback", "deny", "established"]);
    assert_eq!(order[3..8], essentials);
    assert_eq!(order[8..], ["allow", "default"]);
}

#[test]
fn only_a_denied_default_ends_in_a_drop() {
    let mut firewall = firewall(vec![]);
    assert_ne!(rules_of(&firewall, "output").last().unwrap().0, "default");
    firewall.outbound_default = Verdict::Deny;
    let (comment, last) = rules_of(&firewall, "output").pop().unwrap();
    assert_eq!(
        (comment.as_str(), last.as_str()),
        ("default", r#"[{"counter":null},{"drop":null}]"#)
    );
}

#[test]
fn a_rule_becomes_one_per_peer_family_and_protocol() {
    let services = [
        service(Protocol::Tcp, 80, 80),
        service(Protocol::Udp, 53, 60),
        service(Protocol::Tcp, 70, 79),
    ];
    let peers = these(&["web"], &["10.1.0.0/16", "10.1.2.3/32", "fd01::/64"]);
    let rules = rules_of(&firewall(vec![rule(Verdict::Allow, peers, &services)]), "input");
    let own: Vec<_> = rules
        .iter()
        .filter(|(comment, _)| comment == "web.yaml:12")
        .map(|(_, text)| text)
        .collect();
    assert_eq!(own.len(), 8, "(2 sets + 2 literal families) x 2 protocols");
    assert!(own[0].contains(r#""right":"@g_0_v4""#) && own[2].contains(r#""right":"@g_0_v6""#));
    assert!(
        own[0].contains(r#""set":[{"range":[70,80]}]"#),
        "ranges that touch are one: {}",
        own[0]
    );
    assert!(
        own[4].contains(r#""set":[{"prefix":{"addr":"10.1.0.0","len":16}}]"#),
        "10.1.2.3 lies in it: {}",
        own[4]
    );
}

#[test]
fn nobody_is_nobody_and_an_unknown_group_is_refused_by_nft() {
    let to_nobody = rule(Verdict::Allow, these(&[], &[]), &[]);
    assert_eq!(
        rules_of(&firewall(vec![to_nobody]), "input"),
        rules_of(&firewall(vec![]), "input")
    );
    let unknown = rules_of(
        &firewall(vec![rule(Verdict::Allow, these(&["gone"], &[]), &[])]),
        "input",
    );
    assert!(unknown.iter().any(|(_, text)| text.contains("@no_such_group")));
}

#[test]
fn comments_fit_the_kernel_and_need_no_escapes() {
    assert_eq!(comment("däta\"base\\ \u{7}.yaml:1"), "d_ta_base_ _.yaml:1");
    assert_eq!(comment(&"x".repeat(300)).len(), 120);
}

#[test]
fn the_transaction_begins_by_clearing_our_table_and_names_no_other() {
    let json: Value = serde_json::from_str(Ruleset::replace(&firewall(vec![])).json()).unwrap();
    let commands = json["nftables"].as_array().unwrap();
    let kinds: Vec<_> = commands
        .iter()
        .take(3)
        .map(|c| c.as_object().unwrap().keys().next().unwrap())
        .collect();
    assert_eq!(kinds, ["add", "delete", "add"]);
    for command in commands {
        let object = command.as_object().unwrap().values().next().unwrap();
        let (kind, object) = object.as_object().unwrap().iter().next().unwrap();
        let table = if kind == "table" {
            &object["name"]
        } else {
            &object["table"]
        };
        assert_eq!(
            (&object["family"], table),
            (&Value::from("inet"), &Value::from("holdfast"))
        );
    }
}
