//! `holdfast node show`: one node, with the signatures behind its labels.

use holdfast_pki::authority::RefuseEnvelope;
use holdfast_proto::ids::{Generation, Name};
use holdfast_proto::v1;
use serde_json::json;

use super::json::to_json;
use crate::cli::labels::{self, Held};
use crate::cli::{Ending, Format, Operator, output};

/// Shows a node. Its labels are held against what operators signed: the hub's own list of them is only repeated.
pub(super) async fn show(name: &str, operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let node = super::find(&mut session, name).await?;
    let held = labels::held(&mut session, name).await;
    if operator.output == Format::Json {
        let mut shape = to_json(&node);
        let signers = held.as_ref().ok().and_then(|held| held.signers.as_ref().ok());
        shape["labels_signed_by"] = json!(signers);
        output::json(json!({ "node": shape }));
        return Ok(Ending::Done);
    }
    let mut lines = described(&node);
    lines.extend(signed_labels(&node, &held));
    lines.extend(reported(&node));
    for (what, value) in lines {
        output::say(&format!("{what:12} {}", output::clean(&value)));
    }
    Ok(Ending::Done)
}

type Line = (&'static str, String);

fn generation(wire: Option<v1::Generation>) -> String {
    wire.map_or_else(|| "none".to_owned(), |wire| Generation::from(wire).to_string())
}

fn described(node: &v1::Node) -> Vec<Line> {
    let inventory = node.inventory.clone().unwrap_or_default();
    let link = if node.connected { "up" } else { "down" };
    let ports = inventory.listening_ssh_ports.iter();
    let ports: Vec<_> = ports.map(ToString::to_string).collect();
    let mut lines = vec![
        ("name", node.name.clone()),
        ("id", node.id.clone()),
        ("link", link.to_owned()),
        ("address", node.address.clone()),
        ("addresses", addresses(&inventory)),
        ("machine", machine(&inventory)),
        ("ssh ports", ports.join(", ")),
        ("agent", node.agent_version.clone()),
        ("grant", node.grant_id.clone()),
        ("authority", format!("version {}", node.authority_version)),
        ("epoch", node.epoch.to_string()),
        ("accepted", generation(node.accepted)),
        ("in force", generation(node.confirmed)),
    ];
    lines.extend(node.refused_addresses.iter().map(|refused| {
        let told = format!(
            "{} belongs to {}: it counts for no group here",
            refused.address, refused.holder
        );
        ("refused", told)
    }));
    lines
}

/// A machine's addresses, with their interfaces.
pub(super) fn addresses(inventory: &v1::Inventory) -> String {
    let interfaces = inventory.interfaces.iter();
    let told = interfaces.map(|interface| format!("{} ({})", interface.addresses.join(", "), interface.name));
    told.collect::<Vec<_>>().join(", ")
}

/// What a machine is.
pub(super) fn machine(inventory: &v1::Inventory) -> String {
    format!(
        "{} ({}), Linux {}",
        inventory.os, inventory.kind, inventory.kernel
    )
}

/// The labels as they were signed, who signed them, and whether the node has them yet.
fn signed_labels(node: &v1::Node, held: &anyhow::Result<Held>) -> Vec<Line> {
    let held = match held {
        Ok(held) => held,
        Err(error) => return vec![("labels", format!("not known: {error:#}"))],
    };
    let labels = match held.labels.is_empty() {
        true => "none".to_owned(),
        false => held.labels.to_string(),
    };
    let reached = match node.labels_version >= held.version {
        true => String::new(),
        false => format!("; the node still holds version {}", node.labels_version),
    };
    vec![
        ("labels", labels),
        (
            "  signed by",
            format!("{}, version {}{reached}", signers(&held.signers), held.version),
        ),
    ]
}

fn signers(signers: &Result<Vec<Name>, RefuseEnvelope>) -> String {
    match signers {
        Ok(signers) => signers.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
        Err(refused) => format!("too few of those who may sign today ({refused})"),
    }
}

fn reported(node: &v1::Node) -> Vec<Line> {
    let Some(report) = &node.last_report else {
        return Vec::new();
    };
    let told = format!(
        "{} {}: {}",
        report.outcome,
        generation(report.generation),
        report.detail
    );
    let keeps = report.keeps.iter().map(|keep| {
        let witness = match keep.witness.as_str() {
            "" => "unwitnessed",
            witness => witness,
        };
        let told = format!(
            "{}: before {}, after {} ({witness})",
            keep.keep, keep.before, keep.after
        );
        ("  keep", told)
    });
    [("last report", told)].into_iter().chain(keeps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::name;
    use holdfast_proto::ids::{Digest, NodeId};
    use holdfast_proto::labels::Labels;

    #[test]
    fn labels_are_shown_with_their_signers_and_what_the_node_has_of_them() {
        let held = |signers| {
            Ok(Held {
                node: NodeId::of_public_key(b"db-1"),
                version: 2,
                version_on_node: 2,
                digest: Digest::of(b"change"),
                labels: Labels::default(),
                signers,
            })
        };
        let node = |labels_version| v1::Node {
            labels_version,
            ..v1::Node::default()
        };
        let told = |node, held| signed_labels(&node, &held)[1].1.clone();
        let both = || held(Ok(vec![name("ann"), name("bob")]));
        assert_eq!(told(node(2), both()), "ann, bob, version 2");
        assert_eq!(
            told(node(1), both()),
            "ann, bob, version 2; the node still holds version 1"
        );
        let expired = RefuseEnvelope::Expired {
            version: 1,
            expired_secs_ago: 5,
        };
        assert!(
            told(node(2), held(Err(expired))).starts_with("too few of those who may sign today (authority")
        );
        let unknown = signed_labels(&node(2), &Err(anyhow::anyhow!("no answer")));
        assert_eq!(unknown, [("labels", "not known: no answer".to_owned())]);
    }
}
