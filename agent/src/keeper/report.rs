//! What the keeper tells hubs of what became of a release, or of a look at the host.

use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::v1;

use super::Keeper;
use crate::change::Ended;
use crate::firewall::resource::FirewallTable;
use crate::reconcile::Resource as _;

impl Keeper {
    /// Reports of the release in force.
    pub(super) async fn report_confirmed(&mut self, activation: &'static str, ended: Ended) {
        let (generation, manifest) = self.confirmed();
        self.report(generation, manifest, activation, ended).await;
    }

    fn confirmed(&self) -> (Option<Generation>, Option<Digest>) {
        let held = self.ledger.confirmed.as_ref();
        let manifest = held.and_then(|held| held.manifest().ok());
        (
            manifest.map(|manifest| manifest.generation()),
            held.map(|held| held.manifest.digest()),
        )
    }

    /// Reports how something ended, why it was taken up, and of which release it speaks, if of one.
    pub(super) async fn report(
        &mut self,
        generation: Option<Generation>,
        manifest: Option<Digest>,
        activation: &'static str,
        ended: Ended,
    ) {
        let report = of_release(generation, manifest, report(activation, ended));
        let report = v1::Report {
            resources: vec![v1::ResourceReport {
                resource: FirewallTable::NAME.to_owned(),
                outcome: report.outcome.clone(),
                detail: report.detail.clone(),
            }],
            ..report
        };
        self.last_report = Some(report.clone());
        self.send(report).await;
    }

    /// Reports what is about no release and no part of the host.
    pub(super) async fn report_document(&self, activation: &'static str, ended: Ended) {
        self.send(report(activation, ended)).await;
    }

    /// Says the last report again, with `warning` behind it: hubs keep one report, and none of it must be lost.
    pub(super) async fn report_warning(&self, activation: &'static str, warning: &str) {
        let last = self.last_report.clone().unwrap_or_else(|| {
            let (generation, manifest) = self.confirmed();
            of_release(
                generation,
                manifest,
                report(activation, Ended::new("in-sync", "")),
            )
        });
        let detail = match last.detail.as_str() {
            "" => warning.to_owned(),
            before => format!("{before}; {warning}"),
        };
        self.send(v1::Report {
            detail,
            activation: activation.to_owned(),
            ..last
        })
        .await;
    }

    async fn send(&self, report: v1::Report) {
        // The link's queue is emptied into its bounded outbox at once; it closes only with the process.
        let _ = self.reports.send(report).await;
    }
}

fn of_release(generation: Option<Generation>, manifest: Option<Digest>, report: v1::Report) -> v1::Report {
    v1::Report {
        generation: generation.map(Into::into),
        manifest_digest: manifest.map(|digest| digest.to_string()).unwrap_or_default(),
        ..report
    }
}

/// A report of nothing in particular.
fn report(activation: &'static str, ended: Ended) -> v1::Report {
    v1::Report {
        outcome: ended.outcome.to_owned(),
        // It may quote what a program said: bounded well below the uplink's 64 KiB.
        detail: ended.detail.chars().take(2000).collect(),
        keeps: ended.keeps,
        activation: activation.to_owned(),
        ..v1::Report::default()
    }
}
