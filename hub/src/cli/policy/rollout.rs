//! Following a release: what each node that should take it reports.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_pki::envelope::Verified;
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use serde_json::json;

use super::super::session::Session;
use super::super::{Ending, Format, output};
use super::NodePlan;

/// Between two looks at the nodes' reports.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What is known of a node's way to the release.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    outcome: String,
    detail: String,
}

/// Waits until every connected node has reported on the release, or `wait` has passed; prints a row per node.
pub(super) async fn follow(
    session: &mut Session,
    released: &Verified<Manifest>,
    plans: &[NodePlan],
    wait: Duration,
    format: Format,
) -> Ending {
    let asked: Vec<&NodePlan> = plans.iter().filter(|plan| plan.connected).collect();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let waited = async {
        while seen.len() < asked.len() {
            tokio::time::sleep(LOOK_EVERY).await;
            // The release is published: a hub that goes away now, and perhaps comes back, changes nothing about that.
            let Ok(nodes) = session.nodes().await else {
                continue;
            };
            for node in nodes {
                let Some(now) = judged(&node, released.digest()) else {
                    continue;
                };
                let awaited = asked.iter().any(|plan| plan.id == node.id);
                if awaited && seen.insert(node.id.clone(), now.clone()).is_none() {
                    output::remark(&format!("{}: {}", output::clean(&node.name), now.outcome));
                }
            }
        }
    };
    // Whoever has not reported by then is shown as unknown.
    let _ = tokio::time::timeout(wait, waited).await;
    print(released, plans, &seen, format);
    let bad = seen.values().any(|seen| seen.outcome != "confirmed");
    match (bad, seen.len() < asked.len()) {
        (true, _) => Ending::Failed,
        (false, true) if !wait.is_zero() => Ending::Unknown,
        _ => Ending::Done,
    }
}

/// How the release ended on a node, if it did.
fn judged(node: &v1::Node, manifest: Digest) -> Option<Seen> {
    let report = node.last_report.as_ref()?;
    if report.manifest_digest != manifest.to_string() {
        return None;
    }
    let outcome = match report.outcome.as_str() {
        // A later look at the host: the release itself was confirmed before it.
        "in-sync" | "repaired" => "confirmed",
        other => other,
    };
    Some(Seen {
        outcome: output::clean(outcome),
        detail: output::clean(&report.detail),
    })
}

fn print(released: &Verified<Manifest>, plans: &[NodePlan], seen: &BTreeMap<String, Seen>, format: Format) {
    let outcome = |plan: &NodePlan| match seen.get(&plan.id) {
        Some(seen) => seen.clone(),
        None if plan.connected => Seen {
            outcome: "unknown".to_owned(),
            detail: "it has not reported yet".to_owned(),
        },
        None => Seen {
            outcome: "offline".to_owned(),
            detail: "takes it when it comes back".to_owned(),
        },
    };
    match format {
        Format::Json => output::json(json!({
            "released": released.value().generation(),
            "nodes": plans.iter().map(|plan| {
                let Seen { outcome, detail } = outcome(plan);
                json!({ "id": plan.id, "name": plan.name, "outcome": outcome, "detail": detail })
            }).collect::<Vec<_>>(),
        })),
        Format::Table => {
            let rows: Vec<_> = plans
                .iter()
                .map(|plan| {
                    let Seen { outcome, detail } = outcome(plan);
                    vec![output::clean(&plan.name), outcome, detail]
                })
                .collect();
            output::say(&output::table(&["NAME", "OUTCOME", "DETAIL"], &rows));
        }
    }
}
