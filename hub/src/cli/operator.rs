//! `holdfast operator`: who may sign for the fleet, and whose machines are let in now.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use holdfast_proto::v1;
use serde_json::json;

use super::{Ending, Format, Operator, answered, output};

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// List the operators that the authority names, and their access
    List(List),
    /// End all of an operator's API certificates now
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast operator list\n\n\
    Operators are added and removed by signatures: `holdfast authority add`, `holdfast authority remove`.")]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast operator revoke bob\n\n\
    With the signing key an operator may log in again. Who must not, is removed by `holdfast authority remove`,\n\
    which ends access at once as well.")]
pub(super) struct Revoke {
    /// The operator
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl OperatorCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::List(List { operator }) => list(&operator).await,
            Self::Revoke(Revoke { name, operator }) => revoke(name, &operator).await,
        }
    }
}

async fn list(operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let reply = session
        .client
        .list_operators(v1::ListOperatorsRequest {})
        .await?
        .into_inner();
    let access: BTreeMap<_, _> = reply
        .operators
        .into_iter()
        .map(|operator| (operator.name, operator.certificates))
        .collect();
    // Who they are and what they may sign is read from the verified authority; only their access is the hub's word.
    let authority = session.authority.document();
    let now = session.clock.unix_secs();
    match operator.output {
        Format::Json => output::json(json!({
            "operators": authority.keys.iter().map(|key| json!({
                "name": key.name,
                "role": key.role,
                "algorithm": key.algorithm,
                "key_id": key.id,
                "certificates": access.get(key.name.as_str()).into_iter().flatten().map(|held| json!({
                    "fingerprint": held.fingerprint,
                    "issued_secs": held.issued_secs,
                    "expires_secs": held.expires_secs,
                    "address": held.address,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        Format::Table => {
            let rows: Vec<_> = authority
                .keys
                .iter()
                .map(|key| {
                    let held = access
                        .get(key.name.as_str())
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    let until = held.iter().map(|held| held.expires_secs).max();
                    let until =
                        until.map_or_else(|| "-".to_owned(), |until| output::left(until.saturating_sub(now)));
                    let from: BTreeSet<_> = held.iter().map(|held| output::clean(&held.address)).collect();
                    let from = Vec::from_iter(from);
                    vec![
                        key.name.to_string(),
                        key.role.to_string(),
                        key.algorithm.as_str().to_owned(),
                        key.id.short(),
                        until,
                        from.join(","),
                    ]
                })
                .collect();
            output::say(&output::table(
                &["NAME", "ROLE", "KEY", "KEY ID", "ACCESS FOR", "FROM"],
                &rows,
            ));
        }
    }
    Ok(Ending::Done)
}

async fn revoke(name: String, operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let request = v1::RevokeAccessRequest { name: name.clone() };
    let revoked = answered(session.client.revoke_access(request).await)?.revoked;
    match operator.output {
        Format::Json => output::json(json!({ "revoked": { "name": name, "certificates": revoked } })),
        Format::Table => output::say(&format!(
            "operator '{name}' has no access any more: {revoked} certificates ended"
        )),
    }
    Ok(Ending::Done)
}
