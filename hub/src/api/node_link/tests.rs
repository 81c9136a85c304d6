mod claims;

use holdfast_pki::checkpoint::Checkpoint;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use tonic::Code;

use super::*;
use crate::testing::{TestHub, backup, caller, signed};

fn hello(epoch: u64) -> v1::NodeHello {
    v1::NodeHello {
        epoch,
        labels_version: 1,
        authority_version: 1,
        ..v1::NodeHello::default()
    }
}

#[tokio::test]
async fn the_hubs_hello_says_what_it_has() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, empty) = hub.link(node.id, hello(1)).await;
    assert_eq!(
        (empty.current, empty.epoch, empty.authority_version),
        (None, 1, 1)
    );
    let last = hub.released(1, 4, None).await;
    hub.raised(2).await;
    hub.advance_authority(|_| {}).await;
    let (_, shown) = hub.link(node.id, hello(1)).await;
    let current = Some(v1::Generation { epoch: 1, number: 4 });
    assert_eq!(
        (shown.current, shown.epoch, shown.authority_version),
        (current, 2, 2)
    );
    hub.released(2, 1, Some(last)).await;
    let (_, shown) = hub.link(node.id, hello(2)).await;
    assert_eq!(shown.current, Some(v1::Generation { epoch: 2, number: 1 }));
}

#[tokio::test]
async fn a_node_is_told_every_raise_that_it_missed_in_order_before_a_release() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let last = hub.released(1, 4, None).await;
    for epoch in 2..=4 {
        hub.raised(epoch).await;
    }
    hub.released(4, 1, Some(last)).await;
    let (mut end, _) = hub.link(node.id, hello(2)).await;
    end.hears(&["epoch 3", "epoch 4", "release 4.1"]).await;
}

#[tokio::test]
async fn a_raise_on_a_living_link_comes_before_the_first_release_of_its_epoch() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let last = hub.released(1, 4, None).await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    end.hears(&["release 1.4"]).await;
    hub.raised(2).await;
    hub.released(2, 1, Some(last)).await;
    end.hears(&["epoch 2", "release 2.1"]).await;
}

#[tokio::test]
async fn a_release_of_the_epoch_before_is_not_offered_any_more() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 4, None).await;
    hub.raised(2).await;
    let (mut end, _) = hub.link(node.id, hello(2)).await;
    end.hears(&[]).await;
}

#[tokio::test]
async fn under_a_hold_nothing_is_offered_and_no_slice_is_served() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    let manifest = releases::current(&hub.hub.registry).await.unwrap().unwrap();
    let slice = async || {
        let mut client =
            NodeLinkClient::new(hub.door(caller(Some(holdfast_pki::spiffe::Identity::Node(node.id)))));
        let digest = manifest.manifest.slices[0].digest.to_string();
        client.get_slice(v1::GetSliceRequest { digest }).await.map(|_| ())
    };
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    end.hears(&["release 1.1"]).await;
    slice().await.unwrap();

    hub.held().await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    end.hears(&[]).await;
    let refused = slice().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("holdfast epoch raise"), "{refused}");
}

#[tokio::test]
async fn a_nodes_unsigned_word_offers_nothing_older_and_holds_nothing() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    let claims = v1::NodeHello {
        accepted: Some(v1::Generation { epoch: 9, number: 9 }),
        ..hello(9)
    };
    let (mut end, _) = hub.link(node.id, claims).await;
    end.hears(&[]).await;
    assert_eq!(hold::read(&hub.hub.registry).await.unwrap(), None);
}

#[tokio::test]
async fn a_node_with_old_labels_is_told_the_newest_before_anything_else() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    hub.relabelled(&node.id, "web").await;
    hub.relabelled(&node.id, "cache").await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    end.hears(&["labels 2", "labels 3", "release 1.1"]).await;
    let knows = v1::NodeHello {
        labels_version: 3,
        ..hello(1)
    };
    let (mut end, _) = hub.link(node.id, knows).await;
    end.hears(&["release 1.1"]).await;
}

#[tokio::test]
async fn labels_that_change_on_a_living_link_bring_the_same_release_again() {
    let hub = TestHub::new().await;
    let (node, other) = (hub.enrolled("db-1").await, hub.enrolled("db-2").await);
    hub.released(1, 1, None).await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    let (mut other_end, _) = hub.link(other.id, hello(1)).await;
    end.hears(&["release 1.1"]).await;
    other_end.hears(&["release 1.1"]).await;
    hub.relabelled(&node.id, "web").await;
    end.hears(&["labels 2", "release 1.1"]).await;
    other_end.hears(&[]).await;
}

/// The revision of a checkpoint.
fn revision(kind: hub_message::Kind) -> Option<u64> {
    let hub_message::Kind::Checkpoint(checkpoint) = kind else {
        return None;
    };
    let envelope = Envelope::try_from(checkpoint.document).unwrap();
    let checkpoint: Checkpoint = serde_json::from_slice(&envelope.payload).unwrap();
    Some(checkpoint.revision)
}

#[tokio::test]
async fn a_node_is_given_a_checkpoint_as_its_link_begins_and_after_operators_changes_only() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    assert_eq!(end.due(revision).await, 2, "the start of this run");
    hub.enrolled("db-2").await;
    let next = end.undue(revision).await;
    assert_eq!(next, None, "a node that enrols is no operator's change");
}

#[tokio::test(start_paused = true)]
async fn a_busy_operator_makes_a_node_keep_one_checkpoint_every_ten_seconds() {
    let (change, newest) = {
        let hub = TestHub::new().await;
        let newest = hub.hub.checkpoints.newest();
        let held = newest.borrow().clone();
        (watch::Sender::new(held.clone()), held)
    };
    let mut given = checkpoints::Given::none(change.subscribe());
    let began = tokio::time::Instant::now();
    assert!(given.next().await.is_some());
    assert_eq!(began.elapsed(), Duration::ZERO, "the first at once");
    for n in 1..=3 {
        let mut next = newest.clone();
        next.1.payload.push(n);
        change.send_replace(next);
    }
    let last = given.next().await.unwrap().document.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(last.payload.last(), Some(&3), "of several the newest");
}

#[tokio::test]
async fn a_checkpoint_of_a_lost_history_holds_the_hub_before_it_offers_anything() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    let copied_at = hub.hub.registry.revision().await.unwrap();
    let copy = backup(&hub.store, &hub.clock, copied_at).await;
    hub.relabelled(&node.id, "web").await;
    let lost = hub.hub.checkpoints.newest().borrow().1.clone();

    hub.restart(copy).await;
    let shows = v1::NodeHello {
        checkpoint: Some((&lost).into()),
        ..hello(1)
    };
    let (mut end, _) = hub.link(node.id, shows.clone()).await;
    end.hears(&[]).await;
    let held = hold::read(&hub.hub.registry).await.unwrap().unwrap();
    assert!(
        held.reason().contains("node 'db-1' showed a checkpoint"),
        "{held}"
    );

    // An operator said that history begins anew: the same checkpoint is not held against it.
    hub.raised(2).await;
    let (_end, _) = hub.link(node.id, shows).await;
    assert_eq!(hold::read(&hub.hub.registry).await.unwrap(), None);
}

#[tokio::test]
async fn garbage_and_another_hubs_checkpoint_hold_nothing_and_end_no_link() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    let mut others = hub.hub.checkpoints.newest().borrow().0.clone();
    others.revision = 1_000_000;
    let others = others.sign(&holdfast_pki::signing_key::SigningKey::generate());
    let garbage = v1::Envelope {
        payload: vec![0xff; 5000].into(),
        signatures: vec![v1::Signature::default(); 20],
    };
    for checkpoint in [(&others).into(), garbage] {
        let shows = v1::NodeHello {
            checkpoint: Some(checkpoint),
            ..hello(1)
        };
        let (mut end, _) = hub.link(node.id, shows).await;
        end.hears(&["release 1.1"]).await;
    }
    assert_eq!(hold::read(&hub.hub.registry).await.unwrap(), None);
}

#[tokio::test]
async fn an_endorsed_release_is_offered_again_for_who_refused_it_before() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let manifest = hub.manifest(Generation { epoch: 1, number: 1 }, None).await;
    hub.publish(&signed(&manifest, &[&hub.bob])).await.unwrap();
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    end.hears(&["release 1.1"]).await;
    hub.advance_authority(|next| next.keys.retain(|key| key.name.as_str() != "bob"))
        .await;
    let request = v1::PublishReleaseRequest {
        manifest: Some((&signed(&manifest, &[&hub.ann])).into()),
    };
    hub.hub
        .publish_release(&hub.operator("ann"), request)
        .await
        .unwrap();
    end.hears(&["release 1.1"]).await;
}
