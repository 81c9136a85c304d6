//! What `holdfast node list -o json` says of a node.

use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One node, as the hub sees it.
#[derive(Debug, Clone)]
pub struct Node(Value);

impl Node {
    /// Reads the list.
    ///
    /// # Errors
    /// If it is not in format 1.
    pub fn read_list(json: &str) -> Result<Vec<Self>> {
        let mut list: Value = serde_json::from_str(json).context("the list of nodes is no JSON")?;
        anyhow::ensure!(
            list["format"] == 1,
            "the list of nodes is not in format 1: {json}"
        );
        let nodes = list["nodes"].as_array_mut().context("the list has no nodes")?;
        Ok(nodes.drain(..).map(Self).collect())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap_or_default()
    }

    /// Its id, made of its enrolment key.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0["id"].as_str().unwrap_or_default()
    }

    /// Whether its link is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0["connected"] == true
    }

    /// The generation it accepted last, as (epoch, number).
    #[must_use]
    pub fn accepted(&self) -> Option<(u64, u64)> {
        generation(&self.0["accepted"])
    }

    /// The generation it confirmed last.
    #[must_use]
    pub fn confirmed(&self) -> Option<(u64, u64)> {
        generation(&self.0["confirmed"])
    }

    /// The outcome in its last report: `confirmed`, `undone`, `refused`, `repaired` ..
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.0["last_report"]["outcome"].as_str()
    }

    /// What its last report says beside the outcome.
    #[must_use]
    pub fn detail(&self) -> &str {
        self.0["last_report"]["detail"].as_str().unwrap_or_default()
    }

    /// All of it, for what has no method here.
    #[must_use]
    pub const fn json(&self) -> &Value {
        &self.0
    }
}

/// The state that matters when a wait ends in vain.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = if self.is_connected() {
            "connected"
        } else {
            "not connected"
        };
        write!(f, "{} {connected}, accepted {}", self.name(), self.0["accepted"])?;
        write!(
            f,
            ", confirmed {}, last report {}",
            self.0["confirmed"], self.0["last_report"]
        )
    }
}

fn generation(value: &Value) -> Option<(u64, u64)> {
    Some((value["epoch"].as_u64()?, value["number"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read() {
        let json = r#"{"format":1,"nodes":[{"id":"n-1","name":"db","connected":true,
            "accepted":{"epoch":1,"number":2},"confirmed":null,
            "last_report":{"outcome":"undone","detail":"the hub was out of reach"}}]}"#;
        let nodes = Node::read_list(json).unwrap();
        let node = &nodes[0];
        assert_eq!((node.name(), node.id(), node.is_connected()), ("db", "n-1", true));
        assert_eq!((node.accepted(), node.confirmed()), (Some((1, 2)), None));
        assert_eq!(
            (node.outcome(), node.detail()),
            (Some("undone"), "the hub was out of reach")
        );
    }

    #[test]
    fn list_of_another_format_is_refused() {
        assert!(Node::read_list(r#"{"format":2,"nodes":[]}"#).is_err());
    }
}
