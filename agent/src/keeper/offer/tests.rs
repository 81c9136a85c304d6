//! Offers that end before anything of this host is touched; what is applied is tried where nft is real.

use std::collections::BTreeSet;
use std::path::Path;

use holdfast_pki::authority::AuthorityKey;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files_testing::{Call, Fault, FaultFiles};
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::parse;
use holdfast_policy::slice::Slice;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::ceiling::Ceiling;
use crate::keeper::testing::keeper_on;
use crate::ledger::Ledger;
use crate::testing::hub::FakeHub;
use crate::testing::{NOW, Operators};

/// Closes nothing: should a broken guard let it through, it does no harm here.
const OPEN: &str = "policies: [{ select: all, inbound: [{ allow: { from: any } }] }]";

/// A node without a release, and a hub that has one.
struct Scene {
    operators: Operators,
    hub: FakeHub,
    files: FaultFiles,
    keeper: Keeper,
    reports: mpsc::Receiver<v1::Report>,
    manifest: Envelope,
    slices: Vec<Slice>,
    /// Where root writes what is allowed.
    root: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (operators, hub, files) = (Operators::new(), FakeHub::new(1), FaultFiles::new());
        let (mut keeper, reports) = keeper_on(&files, &operators, &hub);
        let root = tempfile::tempdir().unwrap();
        keeper.ceiling = Ceiling::new(root.path().join("agent.toml"));
        let slices = parse::load(&[("open.yaml", OPEN)]).unwrap().slices().to_vec();
        let manifest = operators.manifest(1, 1, &slices);
        for slice in &slices {
            hub.plot()
                .slices
                .insert(slice.digest().to_string(), slice.to_bytes());
        }
        Self {
            operators,
            hub,
            files,
            keeper,
            reports,
            manifest,
            slices,
            root,
        }
    }

    fn allow(&self, words: &str) {
        std::fs::write(self.root.path().join("agent.toml"), format!("allow = [{words}]")).unwrap();
    }

    async fn offer(&mut self) {
        let (manifest, hub) = (self.manifest.clone(), self.hub.offering().await);
        self.keeper.take(Offer { manifest, hub }).await;
    }

    /// Lets the release be in force, as it was confirmed before.
    fn confirm(&mut self) {
        let authority = &self.operators.authority;
        let manifest = VerifiedManifest::verify(&self.manifest, authority, NOW).unwrap();
        let bytes: Vec<_> = self.slices.iter().map(Slice::to_bytes).collect();
        let release = manifest.complete(&self.keeper.ledger.labels.labels, &bytes);
        let ledger = &mut self.keeper.ledger;
        ledger.begin(&release.unwrap(), Judgement::Apply, [9; 16].into());
        ledger.confirm();
    }
}

#[tokio::test]
async fn a_release_above_roots_ceiling_is_refused_and_leaves_no_trace() {
    let mut scene = Scene::new();
    scene.allow("'metrics'");
    let before = scene.keeper.ledger.clone();
    scene.offer().await;
    assert_eq!(scene.keeper.ledger, before);
    let report = scene.reports.try_recv().unwrap();
    assert_eq!(report.outcome, "refused");
    assert!(
        report.detail.contains("agent.toml:1 does not allow 'firewall'"),
        "{}",
        report.detail
    );
    assert_eq!(report.manifest_digest, scene.manifest.digest().to_string());
}

#[tokio::test]
async fn a_release_that_root_allows_later_is_tried_again_and_not_told_before() {
    let mut scene = Scene::new();
    scene.allow("");
    scene.offer().await;
    scene.reports.try_recv().unwrap();
    scene.keeper.try_again().await;
    assert!(scene.keeper.retry.is_some(), "not at every look");
    scene.hub.clock.advance(CEILING_RETRY_AFTER);
    scene.keeper.try_again().await;
    assert!(scene.reports.try_recv().is_err(), "nothing new was to be told");

    scene.allow("'firewall'");
    // The next step is the ledger, which fails here: so far it came.
    scene
        .files
        .fail_when(|_, call| (call == Call::WriteAtomic).then(|| Fault::no_space(0)));
    scene.hub.clock.advance(CEILING_RETRY_AFTER);
    scene.keeper.try_again().await;
    let report = scene.reports.try_recv().unwrap();
    assert!(report.detail.contains("ledger.json"), "{}", report.detail);
}

#[tokio::test]
async fn what_is_in_force_is_left_as_it_is_once_root_takes_the_firewall_out() {
    let mut scene = Scene::new();
    scene.confirm();
    scene.allow("'dns'");
    for _ in 0..3 {
        scene.keeper.look("interval").await;
    }
    let report = scene.reports.try_recv().unwrap();
    assert_eq!(
        (report.outcome.as_str(), report.activation.as_str()),
        ("refused", "interval")
    );
    assert!(report.detail.contains("'firewall'"), "{}", report.detail);
    assert!(scene.reports.try_recv().is_err(), "once, not at every look");
}

#[tokio::test]
async fn a_release_that_cannot_be_written_down_is_not_applied() {
    let mut scene = Scene::new();
    scene.allow("'firewall'");
    let before = scene.keeper.ledger.clone();
    scene
        .files
        .fail_when(|_, call| (call == Call::WriteAtomic).then(|| Fault::no_space(0)));
    scene.offer().await;
    let report = scene.reports.try_recv().unwrap();
    assert_eq!(report.outcome, "failed");
    assert!(
        report
            .detail
            .starts_with("cannot use the ledger /state/ledger.json"),
        "{}",
        report.detail
    );
    let on_disk = Ledger::load(Path::new("/state"), &scene.files).unwrap().unwrap();
    assert_eq!((&scene.keeper.ledger, &on_disk), (&before, &before));
}

#[tokio::test]
async fn a_release_in_force_is_no_news_though_its_signer_was_dropped() {
    let mut scene = Scene::new();
    scene.confirm();
    let bob = SigningKey::generate();
    let first = scene.operators.authority.envelope().clone();
    let mut second = scene.operators.next_version(&first, |next| {
        next.revoked = BTreeSet::from([next.keys[0].id]);
        next.keys = vec![AuthorityKey {
            id: bob.key_id(),
            public: bob.public(),
            name: "bob".parse().unwrap(),
            ..next.keys[0].clone()
        }];
    });
    bob.sign("authority", &mut second);
    scene.hub.plot().authority = vec![first, second];
    scene.offer().await;
    assert!(scene.reports.try_recv().is_err(), "it stays in force");
    assert_eq!(scene.keeper.ledger.authority().unwrap().document().version, 2);

    // For a node on which it is not, it is no release any more.
    scene.keeper.ledger.confirmed = None;
    scene.offer().await;
    let report = scene.reports.try_recv().unwrap();
    assert!(
        report.detail.contains("0 good of 1 signatures"),
        "{}",
        report.detail
    );
}
