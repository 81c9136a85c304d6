//! `holdfast node`: the fleet's nodes.

use anyhow::bail;
use clap::{Args, Subcommand};
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use serde_json::{Value, json};

use super::{Ending, Format, Operator, answered, output};

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List all nodes
    List(List),
    /// Show all that is known of one node
    Show(Named),
    /// End a node's access. On the node itself nothing is changed
    Remove(Named),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast node list -o json")]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast node show db-1\n  holdfast node remove db-1")]
pub(super) struct Named {
    /// The node's name
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl Node {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::List(List { operator }) => list(&operator).await,
            Self::Show(Named { name, operator }) => show(&name, &operator).await,
            Self::Remove(Named { name, operator }) => remove(name, &operator).await,
        }
    }
}

async fn list(operator: &Operator) -> anyhow::Result<Ending> {
    let nodes = operator.session().await?.nodes().await?;
    match operator.output {
        Format::Json => output::json(json!({ "nodes": nodes.iter().map(to_json).collect::<Vec<_>>() })),
        Format::Table if nodes.is_empty() => {
            output::remark("no node has enrolled yet: make a join token with `holdfast token create`");
        }
        Format::Table => {
            let rows: Vec<_> = nodes.iter().map(row).collect();
            output::say(&output::table(
                &["NAME", "LINK", "ADDRESS", "IN FORCE", "LAST", "LABELS"],
                &rows,
            ));
        }
    }
    Ok(Ending::Done)
}

fn row(node: &v1::Node) -> Vec<String> {
    let labels: Vec<_> = node
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    vec![
        output::clean(&node.name),
        if node.connected { "up" } else { "down" }.to_owned(),
        output::clean(&node.address),
        node.confirmed
            .map_or_else(|| "-".to_owned(), |wire| Generation::from(wire).to_string()),
        node.last_report
            .as_ref()
            .map_or_else(|| "-".to_owned(), |report| output::clean(&report.outcome)),
        output::clean(&labels.join(",")),
    ]
}

async fn find(name: &str, operator: &Operator) -> anyhow::Result<v1::Node> {
    let nodes = operator.session().await?.nodes().await?;
    match nodes.into_iter().find(|node| node.name == name) {
        Some(node) => Ok(node),
        None => bail!("there is no node named '{name}': `holdfast node list` shows those there are"),
    }
}

async fn show(name: &str, operator: &Operator) -> anyhow::Result<Ending> {
    let node = find(name, operator).await?;
    if operator.output == Format::Json {
        output::json(json!({ "node": to_json(&node) }));
        return Ok(Ending::Done);
    }
    let generation = |wire: Option<v1::Generation>| {
        wire.map_or_else(|| "none".to_owned(), |wire| Generation::from(wire).to_string())
    };
    let inventory = node.inventory.clone().unwrap_or_default();
    let ports: Vec<_> = inventory
        .listening_ssh_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut lines = vec![
        ("name", node.name.clone()),
        ("id", node.id.clone()),
        (
            "link",
            if node.connected {
                "up".to_owned()
            } else {
                "down".to_owned()
            },
        ),
        ("address", node.address.clone()),
        (
            "addresses",
            inventory
                .interfaces
                .iter()
                .map(|interface| format!("{} ({})", interface.addresses.join(", "), interface.name))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        (
            "labels",
            node.labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        (
            "machine",
            format!(
                "{} ({}), Linux {}",
                inventory.os, inventory.kind, inventory.kernel
            ),
        ),
        ("ssh ports", ports.join(", ")),
        ("agent", node.agent_version.clone()),
        ("grant", node.grant_id.clone()),
        ("accepted", generation(node.accepted)),
        ("in force", generation(node.confirmed)),
    ];
    if let Some(report) = &node.last_report {
        lines.push((
            "last report",
            format!(
                "{} {}: {}",
                report.outcome,
                generation(report.generation),
                report.detail
            ),
        ));
        for keep in &report.keeps {
            let witness = if keep.witness.is_empty() {
                "unwitnessed"
            } else {
                &keep.witness
            };
            lines.push((
                "  keep",
                format!(
                    "{}: before {}, after {} ({witness})",
                    keep.keep, keep.before, keep.after
                ),
            ));
        }
    }
    for (what, value) in lines {
        output::say(&format!("{what:12} {}", output::clean(&value)));
    }
    Ok(Ending::Done)
}

async fn remove(name: String, operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let request = v1::RemoveNodeRequest { name: name.clone() };
    let reply = answered(session.client.remove_node(request).await)?;
    match operator.output {
        Format::Json => output::json(json!({ "removed": { "name": name, "id": reply.node_id } })),
        Format::Table => {
            output::say(&format!(
                "node '{name}' removed: its certificate admits nothing any more"
            ));
            output::say(
                "on the node the last confirmed state stays in force until root there uninstalls the agent",
            );
        }
    }
    Ok(Ending::Done)
}

/// A node in the shape that docs/json.md describes.
pub(super) fn to_json(node: &v1::Node) -> Value {
    let generation = |wire: Option<v1::Generation>| wire.map(Generation::from);
    let inventory = node.inventory.as_ref().map(|inventory| {
        json!({
            "os": inventory.os,
            "kernel": inventory.kernel,
            "kind": inventory.kind,
            "hostname": inventory.hostname,
            "interfaces": inventory.interfaces.iter()
                .map(|interface| json!({ "name": interface.name, "addresses": interface.addresses }))
                .collect::<Vec<_>>(),
            "listening_ssh_ports": inventory.listening_ssh_ports,
            "ssh_peers": inventory.ssh_peers.iter()
                .map(|peer| json!({ "address": peer.address, "local_port": peer.local_port }))
                .collect::<Vec<_>>(),
        })
    });
    let report = node.last_report.as_ref().map(|report| {
        json!({
            "generation": generation(report.generation),
            "manifest": report.manifest_digest,
            "outcome": report.outcome,
            "detail": report.detail,
            "activation": report.activation,
            "resources": report.resources.iter()
                .map(|r| json!({ "resource": r.resource, "outcome": r.outcome, "detail": r.detail }))
                .collect::<Vec<_>>(),
            "keeps": report.keeps.iter()
                .map(|k| json!({ "keep": k.keep, "witness": k.witness, "before": k.before, "after": k.after }))
                .collect::<Vec<_>>(),
        })
    });
    json!({
        "id": node.id,
        "name": node.name,
        "labels": node.labels,
        "connected": node.connected,
        "address": node.address,
        "last_seen_secs": node.last_seen_secs,
        "enrolled_secs": node.enrolled_secs,
        "grant_id": node.grant_id,
        "agent_version": node.agent_version,
        "boot_id": node.boot_id,
        "authority_version": node.authority_version,
        "labels_version": node.labels_version,
        "labels_version_wanted": node.labels_version_wanted,
        "epoch": node.epoch,
        "accepted": generation(node.accepted),
        "confirmed": generation(node.confirmed),
        "inventory": inventory,
        "last_report": report,
    })
}
