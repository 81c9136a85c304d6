//! What the keeper tells hubs of what became of a release, or of a look at the host.

use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::v1;

use super::Keeper;
use crate::change::Ended;
use crate::firewall::resource::FirewallTable;
use crate::reconcile::Resource as _;

impl Keeper {
    /// Reports of the release in force.
    pub(super) async fn report_confirmed(&self, activation: &'static str, ended: Ended) {
        let held = self.ledger.confirmed.as_ref();
        let generation = held
            .and_then(|held| held.manifest().ok())
            .map(|manifest| manifest.generation());
        self.report(
            generation,
            held.map(|held| held.manifest.digest()),
            activation,
            ended,
        )
        .await;
    }

    /// Reports how something ended, why it was taken up, and of which release it speaks, if of one.
    pub(super) async fn report(
        &self,
        generation: Option<Generation>,
        manifest: Option<Digest>,
        activation: &'static str,
        ended: Ended,
    ) {
        let Ended {
            outcome,
            detail,
            keeps,
        } = ended;
        // A detail may quote what a program said: bounded well below the uplink's 64 KiB.
        let detail: String = detail.chars().take(2000).collect();
        let report = v1::Report {
            generation: generation.map(Into::into),
            manifest_digest: manifest.map(|digest| digest.to_string()).unwrap_or_default(),
            outcome: outcome.to_owned(),
            resources: vec![v1::ResourceReport {
                resource: FirewallTable::NAME.to_owned(),
                outcome: outcome.to_owned(),
                detail: detail.clone(),
            }],
            detail,
            keeps,
            activation: activation.to_owned(),
        };
        // The link's queue is emptied into its bounded outbox at once; it closes only with the process.
        let _ = self.reports.send(report).await;
    }
}
