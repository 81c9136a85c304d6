//! Nodes in the shape that docs/json.md describes.

use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use serde_json::{Value, json};

/// A node in the shape that docs/json.md describes.
pub(super) fn to_json(node: &v1::Node) -> Value {
    let generation = |wire: Option<v1::Generation>| wire.map(Generation::from);
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
        "refused_addresses": node.refused_addresses.iter()
            .map(|refused| json!({ "address": refused.address, "holder": refused.holder }))
            .collect::<Vec<_>>(),
        "accepted": generation(node.accepted),
        "confirmed": generation(node.confirmed),
        "inventory": node.inventory.as_ref().map(inventory),
        "last_report": report,
    })
}

/// What a node says of its machine, in the shape that docs/json.md describes.
pub(super) fn inventory(inventory: &v1::Inventory) -> Value {
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
}
