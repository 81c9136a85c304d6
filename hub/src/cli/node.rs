//! `holdfast node`: the fleet's nodes.

mod json;
mod label;
mod pending;
mod show;

use anyhow::bail;
use clap::{Args, Subcommand};
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use serde_json::json;

use self::json::to_json;
use super::session::Session;
use super::{Ending, Format, Operator, answered, output};

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List all nodes
    List(List),
    /// Show all that is known of one node, and who signed its labels
    Show(Named),
    /// Change a node's labels, by which it selects what concerns it
    Label(label::Label),
    /// List the nodes that wait to be admitted by hand
    Pending(List),
    /// Admit a node that waits
    Admit(pending::Admit),
    /// Turn a node away for good that waits
    Reject(pending::Reject),
    /// End a node's access. On the node itself nothing is changed
    Remove(Named),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast node list -o json\n  holdfast node pending")]
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
            Self::Show(Named { name, operator }) => show::show(&name, &operator).await,
            Self::Label(label) => label.run().await,
            Self::Pending(List { operator }) => pending::list(&operator).await,
            Self::Admit(admit) => admit.run().await,
            Self::Reject(reject) => reject.run().await,
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
        output::clean(&match node.refused_addresses.len() {
            0 => node.address.clone(),
            refused => format!("{} ({refused} refused)", node.address),
        }),
        node.confirmed
            .map_or_else(|| "-".to_owned(), |wire| Generation::from(wire).to_string()),
        node.last_report
            .as_ref()
            .map_or_else(|| "-".to_owned(), |report| output::clean(&report.outcome)),
        output::clean(&labels.join(",")),
    ]
}

async fn find(session: &mut Session, name: &str) -> anyhow::Result<v1::Node> {
    let nodes = session.nodes().await?;
    match nodes.into_iter().find(|node| node.name == name) {
        Some(node) => Ok(node),
        None => bail!("there is no node named '{name}': `holdfast node list` shows those there are"),
    }
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
