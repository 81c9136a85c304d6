use holdfast_pki::envelope::Envelope;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use tonic::Code;

use super::*;
use crate::testing::{NodeEnd, TestHub, caller};

fn hello(epoch: u64) -> v1::NodeHello {
    v1::NodeHello {
        epoch,
        labels_version: 1,
        authority_version: 1,
        ..v1::NodeHello::default()
    }
}

/// The epochs, offers and labels that the hub tells, in order, until it is silent; members left out.
async fn told(end: &mut NodeEnd) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(kind) = end.next().await {
        let (what, document) = match kind {
            hub_message::Kind::EpochRaise(raise) => ("epoch", raise.document),
            hub_message::Kind::ReleaseOffer(offer) => ("release", offer.manifest),
            hub_message::Kind::LabelChange(change) => ("labels", change.document),
            _ => continue,
        };
        let envelope: Envelope = document.try_into().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&envelope.payload).unwrap();
        let number = match what {
            "epoch" => document["new"].to_string(),
            "labels" => document["version"].to_string(),
            _ => format!("{}.{}", document["epoch"], document["number"]),
        };
        told.push(format!("{what} {number}"));
    }
    told
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
    assert_eq!(told(&mut end).await, ["epoch 3", "epoch 4", "release 4.1"]);
}

#[tokio::test]
async fn a_raise_on_a_living_link_comes_before_the_first_release_of_its_epoch() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let last = hub.released(1, 4, None).await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    assert_eq!(told(&mut end).await, ["release 1.4"]);
    hub.raised(2).await;
    hub.released(2, 1, Some(last)).await;
    assert_eq!(told(&mut end).await, ["epoch 2", "release 2.1"]);
}

#[tokio::test]
async fn a_release_of_the_epoch_before_is_not_offered_any_more() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 4, None).await;
    hub.raised(2).await;
    let (mut end, _) = hub.link(node.id, hello(2)).await;
    assert_eq!(told(&mut end).await, [""; 0]);
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
    assert_eq!(told(&mut end).await, ["release 1.1"]);
    slice().await.unwrap();

    hub.held().await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    assert_eq!(told(&mut end).await, [""; 0]);
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
    assert_eq!(told(&mut end).await, [""; 0]);
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
    assert_eq!(told(&mut end).await, ["labels 3", "release 1.1"]);
    let knows = v1::NodeHello {
        labels_version: 3,
        ..hello(1)
    };
    let (mut end, _) = hub.link(node.id, knows).await;
    assert_eq!(told(&mut end).await, ["release 1.1"]);
}

#[tokio::test]
async fn labels_that_change_on_a_living_link_bring_the_same_release_again() {
    let hub = TestHub::new().await;
    let (node, other) = (hub.enrolled("db-1").await, hub.enrolled("db-2").await);
    hub.released(1, 1, None).await;
    let (mut end, _) = hub.link(node.id, hello(1)).await;
    let (mut other_end, _) = hub.link(other.id, hello(1)).await;
    assert_eq!(told(&mut end).await, ["release 1.1"]);
    assert_eq!(told(&mut other_end).await, ["release 1.1"]);
    hub.relabelled(&node.id, "web").await;
    assert_eq!(told(&mut end).await, ["labels 2", "release 1.1"]);
    assert_eq!(told(&mut other_end).await, [""; 0]);
}
