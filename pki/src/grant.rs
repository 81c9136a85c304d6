//! Join grants: an operator's signed word that nodes may join, as what, from where and until when.

use holdfast_proto::ids::{Digest, Generation, InvalidId, TrustDomain, UniqueId};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A join grant. Whoever holds the secret of its token may enrol, as often and for as long as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinGrant {
    /// Always `join-grant`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The grant's own id.
    pub id: UniqueId,
    /// How many nodes may join by it.
    pub uses: u32,
    /// Until when, in Unix seconds.
    pub not_after_secs: u64,
    /// The labels of every node that joins by it: the first of the node's signed labels.
    pub labels: Labels,
    /// The names that nodes may take.
    pub name_pattern: NamePattern,
    /// The networks that nodes must enrol from; empty: any.
    pub within: Vec<IpNet>,
    /// The least generation that a node which joins by it accepts: no older release can be served to it.
    pub least_generation: Generation,
    /// Who decides that a node which shows the secret joins.
    pub admission: Admission,
    /// The digest of the token's secret.
    pub secret_digest: Digest,
}

/// Who decides that a node joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Nobody any more: the token is enough.
    Automatic,
    /// An operator, for each node: what the token alone brings is a place in the queue.
    Manual,
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        })
    }
}

impl FromStr for Admission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Automatic, Self::Manual]
            .into_iter()
            .find(|admission| admission.to_string() == text)
            .ok_or_else(|| "automatic or manual wanted".to_owned())
    }
}

impl Payload for JoinGrant {
    const KIND: &'static str = "join-grant";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 16 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

impl JoinGrant {
    /// Whether a node at `address` may enrol.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.within.is_empty() || self.within.iter().any(|network| network.contains(&address))
    }
}

/// A name, or the beginning of one with a `*` behind: `db-1`, `db-*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether a node may take `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0
            .strip_suffix('*')
            .map_or(self.0 == name, |beginning| name.starts_with(beginning))
    }
}

impl FromStr for NamePattern {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let beginning = text.strip_suffix('*').unwrap_or(text);
        let fits = !text.is_empty()
            && text.len() <= 64
            && beginning
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        if !fits {
            return Err(InvalidId::new(
                "name pattern",
                text,
                "a node's name, or its beginning and '*', wanted: db-*",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_does_not_say_who_admits_is_refused() {
        let text = |admission: &str| {
            let digest = Digest::of(b"secret");
            format!(
                r#"{{"kind":"join-grant","format":1,"trust_domain":"lab.example","id":"{}","uses":1,"not_after_secs":9,
                "labels":{{}},"name_pattern":"*","within":[],"least_generation":{{"epoch":1,"number":0}},{admission}
                "secret_digest":"{digest}"}}"#,
                UniqueId::from([7; 16])
            )
        };
        let read = |admission: &str| serde_json::from_str::<JoinGrant>(&text(admission));
        assert_eq!(
            read(r#""admission":"manual","#).unwrap().admission,
            Admission::Manual
        );
        assert!(
            read("").is_err(),
            "no default: an old hub must not admit by itself what an operator wanted to see"
        );
        assert!(read(r#""admission":"whatever","#).is_err());
    }

    #[test]
    fn patterns_match_a_name_or_its_beginning() {
        let pattern = |text: &str| text.parse::<NamePattern>().unwrap();
        assert!(pattern("*").matches("anything"));
        assert!(pattern("db-*").matches("db-1") && !pattern("db-*").matches("web-db-1"));
        assert!(pattern("db-1").matches("db-1") && !pattern("db-1").matches("db-11"));
        assert!("*x".parse::<NamePattern>().is_err() && "".parse::<NamePattern>().is_err());
    }
}
