//! Reading a change of labels: what the node is now, and what it would be.

use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::TrustDomain;
use holdfast_proto::labels::Labels;

use super::{Reading, RefuseDocument, of_fleet};
use crate::cli::labels::Held;
use crate::cli::output;

/// Reads a change of the labels that a node holds. `name` is what the hub calls the node.
pub(in crate::cli) fn read(
    fleet: &TrustDomain,
    held: &Held,
    name: &str,
    change: &LabelChange,
) -> Result<Reading, RefuseDocument> {
    of_fleet(&change.trust_domain, fleet)?;
    let is_stated_outright = change.previous.is_none();
    let follows = change.node == held.node
        && held.next(is_stated_outright) == Some(change.version)
        && change.previous.is_none_or(|previous| previous == held.digest);
    if !follows {
        return Err(RefuseDocument::Labels {
            from: change.version.saturating_sub(1),
            held: held.version.max(held.version_on_node),
        });
    }
    let mut lines = vec![format!("node {}", change.node)];
    if let Err(refused) = &held.signers {
        lines.push(format!("! what it is now is the hub's word alone: {refused}"));
    }
    lines.extend(differences(&held.labels, &change.labels));
    lines.push(match change.labels.is_empty() {
        true => "no label is left".to_owned(),
        false => format!("all labels then: {}", change.labels),
    });
    if is_stated_outright {
        lines.push("this is the whole set, and counts whatever the node is now".to_owned());
    }
    Ok(Reading {
        title: format!(
            "labels of the node that the hub calls {}: version {} -> {}",
            output::clean(name),
            held.version,
            change.version
        ),
        lines,
    })
}

fn differences(held: &Labels, wanted: &Labels) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in held.iter() {
        match wanted.get(key) {
            None => lines.push(format!("- {key}={value}")),
            Some(new) if new != value => lines.push(format!("~ {key}={value} -> {key}={new}")),
            Some(_) => {}
        }
    }
    let added = wanted.iter().filter(|(key, _)| held.get(key).is_none());
    lines.extend(added.map(|(key, value)| format!("+ {key}={value}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{fleet, name};
    use holdfast_pki::authority::RefuseEnvelope;
    use holdfast_proto::ids::{Digest, NodeId};
    use holdfast_proto::payload::Payload as _;

    fn labels(text: &str) -> Labels {
        text.parse::<holdfast_policy::selector::Selector>()
            .unwrap()
            .labels()
            .clone()
    }

    fn held() -> Held {
        Held {
            node: NodeId::of_public_key(b"db-1"),
            version: 1,
            version_on_node: 1,
            digest: Digest::of(b"grant"),
            labels: labels("role=db,site=home,tier=2"),
            signers: Ok(vec![name("ann")]),
        }
    }

    fn change(to: &str) -> LabelChange {
        LabelChange {
            kind: LabelChange::KIND.to_owned(),
            format: 1,
            trust_domain: fleet(),
            node: held().node,
            version: 2,
            previous: Some(held().digest),
            labels: labels(to),
        }
    }

    #[test]
    fn a_change_tells_what_goes_what_comes_and_the_whole_set() {
        let reading = read(&fleet(), &held(), "db-1", &change("role=web,tier=2,zone=a")).unwrap();
        let node = held().node;
        assert_eq!(
            reading.text(),
            format!(
                "labels of the node that the hub calls db-1: version 1 -> 2\n  node {node}\n  \
                 ~ role=db -> role=web\n  - site=home\n  + zone=a\n  all labels then: role=web,tier=2,zone=a"
            )
        );
    }

    #[test]
    fn a_whole_set_goes_above_what_the_node_holds_and_says_so() {
        let ahead = Held {
            version_on_node: 4,
            ..held()
        };
        let outright = |version| LabelChange {
            version,
            previous: None,
            ..change("role=web")
        };
        let reading = read(&fleet(), &ahead, "db-1", &outright(5)).unwrap();
        assert!(reading.lines.last().unwrap().contains("whole set"), "{reading:?}");
        for version in [2, 4, 6, u64::MAX] {
            assert!(
                read(&fleet(), &ahead, "db-1", &outright(version)).is_err(),
                "{version}"
            );
        }
    }

    #[test]
    fn a_name_that_the_hub_made_up_adds_no_line() {
        let name = "db-1\n  all labels then: role=db";
        let reading = read(&fleet(), &held(), name, &change("role=web")).unwrap();
        assert_eq!(reading.text().lines().count(), 1 + reading.lines.len());
    }

    #[test]
    fn labels_that_nobody_listed_signed_are_told_as_the_hubs_word() {
        let unsigned = Held {
            signers: Err(RefuseEnvelope::Expired {
                version: 1,
                expired_secs_ago: 5,
            }),
            ..held()
        };
        let reading = read(&fleet(), &unsigned, "db-1", &change("all")).unwrap();
        assert!(
            reading.lines[1].starts_with("! what it is now is the hub's word alone: authority version 1")
        );
        assert_eq!(reading.lines.last().unwrap(), "no label is left");
    }

    #[test]
    fn a_change_of_other_labels_than_those_in_force_is_not_to_be_signed() {
        let good = change("role=db");
        for (what, bad) in [
            (
                "skips a version",
                LabelChange {
                    version: 3,
                    ..good.clone()
                },
            ),
            (
                "another base",
                LabelChange {
                    previous: Some(Digest::of(b"other")),
                    ..good.clone()
                },
            ),
            (
                "another node",
                LabelChange {
                    node: NodeId::of_public_key(b"web-1"),
                    ..good.clone()
                },
            ),
        ] {
            let refused = read(&fleet(), &held(), "db-1", &bad);
            assert!(matches!(refused, Err(RefuseDocument::Labels { .. })), "{what}");
        }
        let elsewhere = LabelChange {
            trust_domain: "other.example".parse().unwrap(),
            ..good
        };
        let refused = read(&fleet(), &held(), "db-1", &elsewhere);
        assert!(matches!(refused, Err(RefuseDocument::TrustDomain { .. })));
    }
}
