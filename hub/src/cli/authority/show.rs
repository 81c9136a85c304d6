//! `holdfast authority show`: the newest version that this machine verified.

use clap::Args;
use holdfast_pki::authority::{Act, Authority, TrustedAuthority};
use holdfast_proto::v1;
use serde_json::{Value, json};

use crate::cli::time::until;
use crate::cli::{Ending, Format, Operator, output};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast authority show\n  \
    holdfast authority show --pin      # VERSION:DIGEST, for `holdfast context add --authority`")]
pub(in crate::cli) struct Show {
    /// Print VERSION:DIGEST alone, to be told to a new operator by another way than the hub
    #[arg(long)]
    pin: bool,
    #[command(flatten)]
    operator: Operator,
}

impl Show {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let pin = session.authority.pin();
        if self.pin {
            match self.operator.output {
                Format::Json => output::json(json!({ "pin": pin })),
                Format::Table => output::say(&format!("{}:{}", pin.version, pin.digest)),
            }
            return Ok(Ending::Done);
        }
        let reach = Reach::of(&session.nodes().await?, pin.version);
        match self.operator.output {
            Format::Json => output::json(to_json(&session.authority, reach)),
            Format::Table => output::say(&text(&session.authority, reach, session.clock.unix_secs())),
        }
        Ok(Ending::Done)
    }
}

/// How many nodes say that they have reached the newest version.
#[derive(Debug, Clone, Copy)]
struct Reach {
    nodes: usize,
    reached: usize,
}

impl Reach {
    fn of(nodes: &[v1::Node], version: u64) -> Self {
        let reached = nodes.iter().filter(|node| node.authority_version >= version);
        Self {
            nodes: nodes.len(),
            reached: reached.count(),
        }
    }
}

fn text(authority: &TrustedAuthority, reach: Reach, now_secs: u64) -> String {
    let document = authority.document();
    let pin = authority.pin();
    let mut lines = vec![
        format!("{:12} {}", "fleet", document.trust_domain),
        format!("{:12} {}", "version", pin.version),
        format!("{:12} {}", "digest", pin.digest),
        format!("{:12} {}", "expires", until(document.expires_secs, now_secs)),
    ];
    lines.extend(
        document
            .node_roots
            .iter()
            .map(|root| format!("{:12} {root}", "node root")),
    );
    lines.push(format!("{:12} {} keys", "revoked", document.revoked.len()));
    lines.push(format!(
        "{:12} {} of {} nodes, as the hub says",
        "reached by", reach.reached, reach.nodes
    ));
    let operators: Vec<_> = document
        .keys
        .iter()
        .map(|key| {
            let algorithm = key.algorithm.as_str().to_owned();
            vec![
                key.name.to_string(),
                key.role.to_string(),
                algorithm,
                key.id.to_string(),
            ]
        })
        .collect();
    lines.push(String::new());
    lines.push(output::table(&["NAME", "ROLE", "ALGORITHM", "KEY"], &operators));
    let acts: Vec<_> = document
        .thresholds
        .iter()
        .map(|(act, needed)| {
            vec![
                act.to_string(),
                needed.to_string(),
                able(document, act).join(", "),
            ]
        })
        .collect();
    lines.push(String::new());
    lines.push(output::table(&["ACT", "NEEDS", "OF"], &acts));
    lines.join("\n")
}

fn able(document: &Authority, act: &Act) -> Vec<String> {
    document
        .able_to_sign(act)
        .map(|key| key.name.to_string())
        .collect()
}

fn to_json(authority: &TrustedAuthority, reach: Reach) -> Value {
    let document = authority.document();
    let pin = authority.pin();
    let operators = document.keys.iter().map(|key| {
        json!({
            "name": key.name,
            "role": key.role,
            "algorithm": key.algorithm,
            "key_id": key.id,
        })
    });
    json!({
        "trust_domain": document.trust_domain,
        "version": pin.version,
        "digest": pin.digest,
        "issued_secs": document.issued_secs,
        "expires_secs": document.expires_secs,
        "operators": operators.collect::<Vec<_>>(),
        "thresholds": document.thresholds,
        "revoked": document.revoked,
        "node_roots": document.node_roots,
        "nodes": reach.nodes,
        "nodes_reached": reach.reached,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{NOW, Operators};
    use holdfast_pki::authority::Role;
    use holdfast_proto::ids::Digest;

    #[test]
    fn the_authority_is_shown_within_a_hundred_columns() {
        let operators = Operators::new(&[("ann", Role::Admin), ("bob", Role::Operator)]);
        let authority = operators.authority(&[(Act::Release, 2)]);
        let node = |authority_version| v1::Node {
            authority_version,
            ..v1::Node::default()
        };
        let shown = text(&authority, Reach::of(&[node(0), node(1)], 1), NOW);
        let id = |name: &str| operators.key(name).key_id();
        assert_eq!(
            shown,
            format!(
                "fleet        lab.example\n\
                 version      1\n\
                 digest       {}\n\
                 expires      2027-04-25T08:00:00Z, in 100 d\n\
                 node root    {}\n\
                 revoked      0 keys\n\
                 reached by   1 of 2 nodes, as the hub says\n\
                 \n\
                 NAME  ROLE      ALGORITHM  KEY\n\
                 ann   admin     ed25519    {}\n\
                 bob   operator  ed25519    {}\n\
                 \n\
                 ACT        NEEDS  OF\n\
                 authority  1      ann\n\
                 epoch      1      ann\n\
                 release    2      ann, bob\n\
                 join       1      ann, bob\n\
                 label      1      ann, bob\n\
                 stop       1      ann, bob\n\
                 action     1      ann, bob",
                authority.pin().digest,
                Digest::of(b"root"),
                id("ann"),
                id("bob")
            )
        );
        assert!(shown.lines().all(|line| line.chars().count() <= 100));
    }
}
