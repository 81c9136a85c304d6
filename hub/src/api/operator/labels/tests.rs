use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;

use super::*;
use crate::registry::NodeRecord;
use crate::testing::{TestHub, fleet, labels, signed};

fn change(node: &NodeRecord, version: u64, previous: Digest, role: &str) -> LabelChange {
    LabelChange {
        kind: LabelChange::KIND.to_owned(),
        format: LabelChange::FORMAT,
        trust_domain: fleet(),
        node: node.id,
        version,
        previous: Some(previous),
        labels: labels(&[("role", role)]),
    }
}

async fn publish(hub: &TestHub, envelope: &Envelope) -> Result<v1::PublishLabelsReply, Status> {
    let request = v1::PublishLabelsRequest {
        document: Some(envelope.into()),
    };
    hub.hub.publish_labels(&hub.operator("bob"), request).await
}

async fn held(hub: &TestHub, name: &str) -> (u64, Envelope) {
    let request = v1::GetLabelsRequest {
        name: name.to_owned(),
    };
    let reply = hub.hub.get_labels(&hub.operator("bob"), request).await.unwrap();
    (reply.version, reply.document.try_into().unwrap())
}

#[tokio::test]
async fn labels_go_from_the_join_grant_through_every_signed_change() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (version, grant) = held(&hub, "db-1").await;
    let read: JoinGrant = serde_json::from_slice(&grant.payload).unwrap();
    assert_eq!((version, read.id), (1, node.grant));

    let second = signed(&change(&node, 2, grant.digest(), "web"), &[&hub.bob]);
    publish(&hub, &second).await.unwrap();
    assert_eq!(held(&hub, "db-1").await, (2, second.clone()));
    let third = signed(&change(&node, 3, second.digest(), "cache"), &[&hub.ann]);
    publish(&hub, &third).await.unwrap();
    assert_eq!(held(&hub, "db-1").await, (3, third));
    let record = hub.hub.registry.node(&node.id).await.unwrap().unwrap().value;
    assert_eq!(
        (record.labels, record.labels_version),
        (labels(&[("role", "cache")]), 3)
    );
}

#[tokio::test]
async fn a_change_that_does_not_follow_the_held_document_is_told_what_there_is() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, grant) = held(&hub, "db-1").await;
    let second = signed(&change(&node, 2, grant.digest(), "web"), &[&hub.bob]);
    publish(&hub, &second).await.unwrap();
    for wrong in [
        change(&node, 2, grant.digest(), "other"),
        change(&node, 3, grant.digest(), "other"),
        change(&node, 4, second.digest(), "other"),
        change(&node, 2, second.digest(), "other"),
    ] {
        let refused = publish(&hub, &signed(&wrong, &[&hub.bob])).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(
            refused.message().contains("does not follow version 2"),
            "{refused}"
        );
    }
    assert_eq!(held(&hub, "db-1").await, (2, second));
}

#[tokio::test]
async fn a_whole_set_counts_above_what_is_held_and_leaves_those_before_it_out() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, grant) = held(&hub, "db-1").await;
    let second = signed(&change(&node, 2, grant.digest(), "web"), &[&hub.bob]);
    publish(&hub, &second).await.unwrap();
    let outright = |version| {
        let change = LabelChange {
            previous: None,
            ..change(&node, version, grant.digest(), "cache")
        };
        signed(&change, &[&hub.bob])
    };
    let refused = publish(&hub, &outright(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    let (fifth, sixth) = (outright(5), change(&node, 6, outright(5).digest(), "web"));
    publish(&hub, &fifth).await.unwrap();
    let sixth = signed(&sixth, &[&hub.bob]);
    publish(&hub, &sixth).await.unwrap();
    for (on_node, led) in [(1, &[&fifth, &sixth][..]), (5, &[&sixth]), (6, &[])] {
        let changes = crate::labels::changes_after(&hub.hub.registry, &node.id, on_node).await;
        assert_eq!(changes.unwrap().iter().collect::<Vec<_>>(), led, "from {on_node}");
    }
}

#[tokio::test]
async fn a_change_that_nobody_may_have_signed_changes_nothing() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, grant) = held(&hub, "db-1").await;
    let right = change(&node, 2, grant.digest(), "web");
    let elsewhere = LabelChange {
        trust_domain: "other.example".parse().unwrap(),
        ..right.clone()
    };
    for forged in [
        signed(&right, &[]),
        signed(&right, &[&SigningKey::generate()]),
        signed(&elsewhere, &[&hub.ann]),
    ] {
        let refused = publish(&hub, &forged).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    assert_eq!(held(&hub, "db-1").await, (1, grant));
}

#[tokio::test]
async fn a_node_that_is_not_known_or_was_removed_gets_no_labels() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, grant) = held(&hub, "db-1").await;
    let stranger = NodeRecord {
        id: holdfast_proto::ids::NodeId::of_public_key(b"stranger"),
        ..node.clone()
    };
    let request = v1::RemoveNodeRequest {
        name: "db-1".to_owned(),
    };
    hub.hub.remove_node(&hub.operator("bob"), request).await.unwrap();
    for gone in [&node, &stranger] {
        let envelope = signed(&change(gone, 2, grant.digest(), "web"), &[&hub.bob]);
        let refused = publish(&hub, &envelope).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
}

#[tokio::test]
async fn of_two_changes_at_once_one_counts() {
    let hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let (_, grant) = held(&hub, "db-1").await;
    let envelopes = ["web", "cache"].map(|role| signed(&change(&node, 2, grant.digest(), role), &[&hub.bob]));
    let (one, other) = tokio::join!(publish(&hub, &envelopes[0]), publish(&hub, &envelopes[1]));
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(one.and(other).unwrap_err().code(), Code::Aborted);
}
