//! `holdfast node pending | admit | reject`: nodes that came with a token, and whom an operator lets in by hand.
//!
//! What the node says of itself proves nothing. Its fingerprint is its key: whoever compares it with what the machine's own
//! log shows knows which machine is let in.

use anyhow::bail;
use clap::Args;
use holdfast_proto::ids::NodeId;
use holdfast_proto::v1;
use serde_json::{Value, json};

use super::json::inventory;
use super::show::{addresses, machine};
use crate::cli::session::Session;
use crate::cli::{Ending, Format, Operator, answered, ask, output};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast node admit db-1 --fingerprint 166c4a16f993d3f4a673c051f4c41845151df4d87a0b260de5514af1ed46cd04\n  \
    holdfast node admit db-1        # shows the fingerprint, and asks\n\n\
    Read the fingerprint from the node's own log: `journalctl -u holdfast-agent` at its console.")]
pub(in crate::cli) struct Admit {
    /// The name that the node claims, or its fingerprint
    #[arg(value_name = "NAME|FINGERPRINT")]
    node: String,
    /// The fingerprint in the node's own log; without it you are asked to compare
    #[arg(long, value_name = "HEX", conflicts_with = "yes")]
    fingerprint: Option<NodeId>,
    /// Do not ask to compare the fingerprint
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast node reject db-1\n\n\
    Its key is refused for good; its place in the token is free again.")]
pub(in crate::cli) struct Reject {
    /// The name that the node claims, or its fingerprint
    #[arg(value_name = "NAME|FINGERPRINT")]
    node: String,
    #[command(flatten)]
    operator: Operator,
}

/// Lists the nodes that wait.
pub(super) async fn list(operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let now_secs = session.clock.unix_secs();
    let waiting = waiting(&mut session).await?;
    match operator.output {
        Format::Json => {
            output::json(json!({ "pending": waiting.iter().map(to_json).collect::<Vec<_>>() }));
        }
        Format::Table if waiting.is_empty() => output::remark("no node waits to be admitted"),
        Format::Table => {
            let told: Vec<_> = waiting.iter().map(|node| text(node, now_secs)).collect();
            output::say(&told.join("\n\n"));
        }
    }
    Ok(Ending::Done)
}

async fn waiting(session: &mut Session) -> anyhow::Result<Vec<v1::PendingNode>> {
    let reply = session.client.list_pending(v1::ListPendingRequest {}).await?;
    Ok(reply.into_inner().pending)
}

impl Admit {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let now_secs = session.clock.unix_secs();
        let node = find(waiting(&mut session).await?, &self.node)?;
        if let Some(told) = self.fingerprint
            && told.to_string() != node.id
        {
            bail!(
                "the node that waits as '{}' has the fingerprint {}, not {told}: it is another machine. Nothing was done",
                output::clean(&node.name),
                output::clean(&node.id)
            );
        }
        output::remark(&text(&node, now_secs));
        let compared = self.fingerprint.is_some() || self.node == node.id;
        ask::confirm(
            "Does the node's own log show this fingerprint?",
            compared || self.yes,
        )?;
        let request = v1::AdmitNodeRequest { id: node.id.clone() };
        let name = answered(session.client.admit_node(request).await)?.name;
        match self.operator.output {
            Format::Json => output::json(json!({ "admitted": { "name": name, "id": node.id } })),
            Format::Table => output::say(&format!(
                "node '{}' admitted: it gets its certificate when it asks next, within seconds",
                output::clean(&name)
            )),
        }
        Ok(Ending::Done)
    }
}

impl Reject {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let node = find(waiting(&mut session).await?, &self.node)?;
        let request = v1::RejectNodeRequest { id: node.id.clone() };
        let name = answered(session.client.reject_node(request).await)?.name;
        match self.operator.output {
            Format::Json => output::json(json!({ "rejected": { "name": name, "id": node.id } })),
            Format::Table => output::say(&format!(
                "node '{}' turned away: its key is refused for good",
                output::clean(&name)
            )),
        }
        Ok(Ending::Done)
    }
}

fn find(waiting: Vec<v1::PendingNode>, what: &str) -> anyhow::Result<v1::PendingNode> {
    let mut meant: Vec<_> = waiting
        .into_iter()
        .filter(|node| node.name == what || node.id == what)
        .collect();
    match (meant.pop(), meant.len()) {
        (Some(node), 0) => Ok(node),
        (Some(_), more) => bail!(
            "{} nodes wait under the name '{what}': give the fingerprint",
            more + 1
        ),
        (None, _) => bail!("no node waits as '{what}': `holdfast node pending` shows those that do"),
    }
}

fn text(node: &v1::PendingNode, now_secs: u64) -> String {
    let inventory = node.inventory.clone().unwrap_or_default();
    let labels: Vec<_> = node
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let waits = output::left(now_secs.saturating_sub(node.since_secs));
    let lines = [
        ("name", format!("{} (its own word), waits for {waits}", node.name)),
        ("fingerprint", node.id.clone()),
        ("from", node.address.clone()),
        (
            "labels",
            format!("{} (by grant {})", labels.join(","), node.grant_id),
        ),
        (
            "machine",
            format!("{}, calls itself {}", machine(&inventory), inventory.hostname),
        ),
        ("addresses", addresses(&inventory)),
    ];
    let lines = lines.map(|(what, value)| format!("{what:12} {}", output::clean(&value)));
    lines.join("\n")
}

fn to_json(node: &v1::PendingNode) -> Value {
    json!({
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "grant_id": node.grant_id,
        "labels": node.labels,
        "inventory": node.inventory.as_ref().map(inventory),
        "since_secs": node.since_secs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, id: &str) -> v1::PendingNode {
        v1::PendingNode {
            id: id.to_owned(),
            name: name.to_owned(),
            address: "10.77.0.12".to_owned(),
            grant_id: "e1f4".to_owned(),
            labels: [("role".to_owned(), "db".to_owned())].into(),
            inventory: Some(v1::Inventory {
                os: "Debian 12".to_owned(),
                kind: "vm".to_owned(),
                kernel: "6.1.0".to_owned(),
                hostname: "db-1\x1b[2J".to_owned(),
                interfaces: vec![v1::Interface {
                    name: "eth0".to_owned(),
                    addresses: vec!["10.77.0.12".to_owned()],
                }],
                ..v1::Inventory::default()
            }),
            since_secs: 1_000,
        }
    }

    #[test]
    fn a_node_that_waits_is_told_with_its_fingerprint_first_of_all() {
        assert_eq!(
            text(&node("db-1", "166c"), 1_030),
            "name         db-1 (its own word), waits for 30 s\n\
             fingerprint  166c\n\
             from         10.77.0.12\n\
             labels       role=db (by grant e1f4)\n\
             machine      Debian 12 (vm), Linux 6.1.0, calls itself db-1\u{fffd}[2J\n\
             addresses    10.77.0.12 (eth0)"
        );
    }

    #[test]
    fn of_two_that_claim_a_name_only_the_fingerprint_tells_which_is_meant() {
        let waiting = || vec![node("db-1", "166c"), node("db-1", "5b03"), node("web-1", "77aa")];
        assert_eq!(find(waiting(), "web-1").unwrap().id, "77aa");
        assert_eq!(find(waiting(), "5b03").unwrap().id, "5b03");
        assert!(
            find(waiting(), "db-1")
                .unwrap_err()
                .to_string()
                .starts_with("2 nodes wait")
        );
        assert!(find(waiting(), "db-9").is_err());
        assert!(find(waiting(), "5b0").is_err(), "a fingerprint is given whole");
    }
}
