//! The keeper and what operators sign beside releases, over a real connection to a hub in memory.

use std::path::Path;

use holdfast_pki::authority::AuthorityKey;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files_testing::{Call, Fault, FaultFiles};
use holdfast_pki::labels::LabelChange;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::{Digest, NodeId};

use super::testing::{keeper, keeper_on};
use super::*;
use crate::inbox::Documents;
use crate::testing::hub::FakeHub;
use crate::testing::{Operators, label_change, raise};

/// What a restart would find.
fn on_disk(files: &FaultFiles) -> Ledger {
    Ledger::load(Path::new("/state"), files).unwrap().unwrap()
}

fn full_disk(files: &FaultFiles) {
    files.fail_when(|_, call| (call == Call::WriteAtomic).then(|| Fault::no_space(0)));
}

async fn bring(keeper: &mut Keeper, hub: &FakeHub, raises: &[&Envelope], labels: Option<&Envelope>) {
    let documents = Documents {
        raises: raises.iter().map(|&raise| raise.clone()).collect(),
        labels: labels.cloned().into_iter().collect(),
        ..Documents::none(hub.offering().await)
    };
    keeper.take_documents(documents).await;
}

fn version(keeper: &Keeper) -> u64 {
    keeper.ledger.authority().unwrap().document().version
}

#[tokio::test]
async fn labels_and_a_raise_are_taken_and_told_in_the_next_beat() {
    let (operators, hub, files) = (Operators::new(), FakeHub::new(1), FaultFiles::new());
    let (mut keeper, mut reports) = keeper_on(&files, &operators, &hub);
    let labels = operators.sign(&label_change(2, keeper.ledger.labels.digest));
    let held = keeper.held();
    bring(&mut keeper, &hub, &[&operators.sign(&raise(1, 2))], Some(&labels)).await;
    assert_eq!((held.borrow().labels_version, held.borrow().epoch), (2, 2));
    let written = on_disk(&files);
    assert_eq!(written, keeper.ledger);
    assert_eq!(written.labels.change.as_ref(), Some(&labels));
    bring(&mut keeper, &hub, &[], Some(&labels)).await;
    assert!(reports.try_recv().is_err(), "the same again is no news");
}

#[tokio::test]
async fn a_raise_that_nobody_who_may_has_signed_moves_nothing() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, _reports) = keeper(&operators, &hub);
    let before = keeper.ledger.clone();
    let mut bare = operators.sign(&raise(1, 2));
    bare.signatures.clear();
    let stranger = Operators::new().sign(&raise(1, 2));
    let mut in_her_name = stranger.clone();
    in_her_name.signatures[0].key_id = operators.key.key_id();
    for forged in [&bare, &stranger, &in_her_name] {
        bring(&mut keeper, &hub, &[forged], None).await;
        assert_eq!(keeper.ledger, before);
    }
    bring(&mut keeper, &hub, &[&operators.sign(&raise(1, 2))], None).await;
    assert_eq!(keeper.ledger.epoch, 2);
}

#[tokio::test]
async fn labels_for_another_node_move_nothing_and_are_told_once() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, mut reports) = keeper(&operators, &hub);
    let mut change = label_change(2, keeper.ledger.labels.digest);
    change.node = NodeId::of_public_key(b"another node");
    let before = keeper.ledger.clone();
    for _ in 0..3 {
        bring(&mut keeper, &hub, &[], Some(&operators.sign(&change))).await;
    }
    assert_eq!(keeper.ledger, before);
    let report = reports.try_recv().unwrap();
    assert_eq!(
        (report.outcome.as_str(), report.activation.as_str()),
        ("refused", "labels")
    );
    assert!(report.detail.contains("not for this one"), "{}", report.detail);
    assert!(reports.try_recv().is_err(), "once");
}

#[tokio::test]
async fn a_node_that_was_away_follows_every_change_or_a_set_that_was_stated_outright() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, mut reports) = keeper(&operators, &hub);
    let mut chain = vec![operators.sign(&label_change(2, keeper.ledger.labels.digest))];
    for version in 3..6 {
        chain.push(operators.sign(&label_change(version, chain.last().unwrap().digest())));
    }
    let bring = async |keeper: &mut Keeper, labels: &[Envelope]| {
        let documents = Documents {
            labels: labels.to_vec(),
            ..Documents::none(hub.offering().await)
        };
        keeper.take_documents(documents).await;
        keeper.ledger.labels.version
    };
    assert_eq!(bring(&mut keeper, &chain[..2]).await, 3);
    assert_eq!(bring(&mut keeper, &chain[3..]).await, 3, "one between is missing");
    let report = reports.try_recv().unwrap();
    assert!(
        report.outcome == "refused" && report.detail.contains("--set"),
        "{report:?}"
    );
    let outright = operators.sign(&LabelChange {
        previous: None,
        ..label_change(6, Digest::of(b"not looked at"))
    });
    assert_eq!(bring(&mut keeper, &[chain[3].clone(), outright]).await, 6);
    assert!(
        reports.try_recv().is_err(),
        "the last one stands: nothing to mend"
    );
}

#[tokio::test]
async fn what_cannot_be_written_down_does_not_count_until_it_can() {
    let (operators, hub, files) = (Operators::new(), FakeHub::new(1), FaultFiles::new());
    let (mut keeper, mut reports) = keeper_on(&files, &operators, &hub);
    hub.plot().authority = operators.versions(2);
    let (held, before) = (keeper.held(), keeper.ledger.clone());
    let labels = operators.sign(&label_change(2, keeper.ledger.labels.digest));
    full_disk(&files);
    let raises = [&operators.sign(&raise(1, 2)), &operators.sign(&raise(2, 3))];
    bring(&mut keeper, &hub, &raises, Some(&labels)).await;
    assert_eq!((&keeper.ledger, &on_disk(&files)), (&before, &before));
    assert!(
        !held.has_changed().unwrap(),
        "a hub was told of what a power cut takes back"
    );
    let report = reports.try_recv().unwrap();
    assert!(
        report.outcome == "failed" && report.detail.contains("free space"),
        "{report:?}"
    );

    files.heal();
    keeper.save_again().await;
    let written = on_disk(&files);
    assert_eq!((written.epoch, written.labels.version), (3, 2));
    assert_eq!((version(&keeper), written), (2, keeper.ledger.clone()));
}

#[tokio::test]
async fn documents_are_judged_by_the_newest_authority_that_the_hub_has() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, mut reports) = keeper(&operators, &hub);
    let bob = SigningKey::generate();
    // Bob takes Ann's place.
    let second = operators.next_version(operators.authority.envelope(), |next| {
        next.keys = vec![AuthorityKey {
            id: bob.key_id(),
            public: bob.public(),
            name: "bob".parse().unwrap(),
            ..next.keys[0].clone()
        }];
    });
    let mut both_signed = second.clone();
    bob.sign("authority", &mut both_signed);
    hub.plot().authority = vec![operators.authority.envelope().clone(), both_signed];

    let change = label_change(2, keeper.ledger.labels.digest);
    bring(&mut keeper, &hub, &[], Some(&operators.sign(&change))).await;
    assert_eq!((version(&keeper), keeper.ledger.labels.version), (2, 1));
    assert!(
        reports
            .try_recv()
            .unwrap()
            .detail
            .contains("0 good of 1 signatures")
    );
    let mut by_bob = Envelope::unsigned(serde_json::to_vec(&change).unwrap());
    bob.sign("labels", &mut by_bob);
    bring(&mut keeper, &hub, &[], Some(&by_bob)).await;
    assert_eq!(keeper.ledger.labels.version, 2);
}

#[tokio::test]
async fn a_node_that_was_away_walks_the_whole_chain_and_keeps_its_steps() {
    let (operators, hub, files) = (Operators::new(), FakeHub::new(1), FaultFiles::new());
    let (mut keeper, _reports) = keeper_on(&files, &operators, &hub);
    let chain = operators.versions(70);
    hub.plot().authority = chain.clone();
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    assert_eq!(hub.plot().asked, [1, 33, 65, 70]);
    assert_eq!(on_disk(&files).authority, chain[69]);
    let shown = crate::authority_chain::above(10, &chain[69], Path::new("/state"), &files);
    assert_eq!(shown, chain[10..]);
}

#[tokio::test]
async fn what_was_reached_of_the_authority_is_held_though_the_next_step_does_not_hold() {
    let (operators, hub, files) = (Operators::new(), FakeHub::new(1), FaultFiles::new());
    let (mut keeper, mut reports) = keeper_on(&files, &operators, &hub);
    let mut chain = operators.versions(5);
    chain[3].signatures[0].signature[0] ^= 1;
    hub.plot().authority = chain.clone();
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    assert_eq!(on_disk(&files).authority, chain[2]);
    let report = reports.try_recv().unwrap();
    assert_eq!(
        (report.outcome.as_str(), report.activation.as_str()),
        ("refused", "authority")
    );
    assert!(
        report.detail.contains("0 good of 1 signatures"),
        "{}",
        report.detail
    );
}

#[tokio::test]
async fn a_hub_that_repeats_itself_is_not_asked_for_ever() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, _reports) = keeper(&operators, &hub);
    {
        let mut plot = hub.plot();
        plot.authority = operators.versions(3);
        plot.repeats_itself = true;
    }
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    assert_eq!(hub.plot().asked, [1, 3]);
    assert_eq!(version(&keeper), 3);
}

#[tokio::test]
async fn hubs_are_trusted_by_the_roots_that_the_newest_authority_lists() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, _reports) = keeper(&operators, &hub);
    let (root, other) = (hub.root, Digest::of(b"another root"));
    let both = operators.next_version(operators.authority.envelope(), |next| {
        next.node_roots = [root, other].into();
    });
    let dropped = operators.next_version(&both, |next| next.node_roots = [other].into());
    let chain = [operators.authority.envelope().clone(), both, dropped];

    let link = keeper.dialer.dial(0).await.unwrap();
    hub.plot().authority = chain[..2].to_vec();
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    assert!(
        keeper.dialer.still_trusts(&link),
        "a root more takes nothing away"
    );
    assert_eq!(keeper.dialer.dial(0).await.unwrap().hub, hub.id);

    hub.plot().authority = chain.to_vec();
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    assert!(!keeper.dialer.still_trusts(&link));
    let error = keeper.dialer.dial(0).await.unwrap_err();
    assert!(
        error.to_string().contains("not below a pinned node root"),
        "{error}"
    );
}

#[tokio::test]
async fn a_hub_that_lost_the_authority_is_shown_the_steps_to_it() {
    let (operators, hub) = (Operators::new(), FakeHub::new(1));
    let (mut keeper, _reports) = keeper(&operators, &hub);
    let chain = operators.versions(4);
    hub.plot().authority = chain.clone();
    keeper.take_documents(Documents::none(hub.offering().await)).await;
    // As an old backup has it.
    hub.plot().authority.truncate(2);
    let has = HubHas {
        current: None,
        authority_version: 2,
        epoch: 1,
    };
    assert!(has.is_less_than(&Held::of(&keeper.ledger)));
    let documents = Documents {
        lacking: Some(has),
        ..Documents::none(hub.offering().await)
    };
    keeper.take_documents(documents).await;
    let shown = hub.plot().shown.clone();
    let steps: Vec<_> = chain[2..].iter().map(Into::into).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].authority, steps);
    assert_eq!(version(&keeper), 4, "what a hub forgot is not forgotten here");
}
