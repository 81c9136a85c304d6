//! Who has a hub's store has operators shown what he likes: what SECURITY.md says that a taken hub can.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start real processes and wait for them"
)]
#![allow(clippy::unwrap_used, reason = "a panic fails the test, and says where")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::Hub;
use holdfast_hub::registry::{NodeRecord, Registry, to_record};
use holdfast_hub::store::audit::{AuditEntry, AuditId, Outcome};
use holdfast_hub::store::embedded::JournalStore;
use holdfast_hub::store::lock::DirLock;
use holdfast_hub::store::txn::Txn;
use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_proto::ids::NodeId;
use holdfast_proto::labels::Labels;

/// Writes a node that never was into the store of a hub that does not run.
async fn invent_node(store: &Path) {
    let lock = DirLock::acquire(store).unwrap();
    let store = JournalStore::open(lock, &SystemFiles, Arc::new(SystemClock)).unwrap();
    let registry = Registry::new(Arc::new(store));
    let id = NodeId::of_public_key(b"nobody's");
    let role = ("role".to_owned(), "db".to_owned());
    let node = NodeRecord {
        format: 1,
        id,
        name: "db-9".parse().unwrap(),
        labels: Labels::try_from([role].into_iter().collect::<BTreeMap<_, _>>()).unwrap(),
        labels_version: 1,
        grant: SystemRandom.unique_id(),
        within: Vec::new(),
        enrolled_secs: 1,
        removed_secs: None,
    };
    let audit = AuditEntry {
        at_secs: 1,
        who: "spiffe://lab.example/operator/admin".to_owned(),
        what: "enroll node".to_owned(),
        on: format!("node/{id}"),
        from: "10.0.0.9".to_owned(),
        digest: None,
        outcome: Outcome::Done,
        correlation_id: SystemRandom.unique_id(),
    };
    let txn = Txn::new(&AuditId::new(&SystemClock, &SystemRandom), &audit)
        .put(Registry::name_key(&node.name), to_record(&id))
        .put(Registry::node_key(&id), to_record(&node));
    registry.store().commit(txn).await.unwrap();
}

#[tokio::test]
async fn whoever_has_the_store_shows_operators_a_node_that_never_was_and_plans_count_it() {
    let hub = Hub::new();
    assert!(hub.init(&[]).status.success());
    invent_node(&hub.path("hub/store")).await;
    let policy =
        "policies:\n  - select: { role: db }\n    inbound:\n      - allow: { tcp: [22], from: any }\n";
    std::fs::create_dir(hub.path("policies")).unwrap();
    std::fs::write(hub.path("policies/db.yaml"), policy).unwrap();
    let _serving = hub.serve();
    let policies = hub.path("policies");
    for words in [
        ["node", "list"].as_slice(),
        &["policy", "plan", policies.to_str().unwrap()],
        &["audit", "list"],
    ] {
        let shown = hub.holdfast(words).output().unwrap();
        let shown = String::from_utf8([shown.stdout, shown.stderr].concat()).unwrap();
        let told = ["db-9", "enroll node"].iter().any(|lie| shown.contains(lie));
        assert!(told, "{words:?}: {shown}");
    }
}
