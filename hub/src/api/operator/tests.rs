//! What holds for every change that an operator makes.

use holdfast_pki::grant::Admission;
use holdfast_proto::ids::Generation;

use super::*;
use crate::testing::{TestHub, signed};

/// Whether the newest checkpoint tells of everything that the store holds.
async fn tells_of_all(hub: &TestHub) -> bool {
    let newest = hub.hub.checkpoints.newest().borrow().0.clone();
    newest.revision == hub.hub.registry.revision().await.unwrap().get()
}

#[tokio::test]
async fn every_change_that_an_operator_makes_is_in_the_next_checkpoint() {
    let hub = TestHub::new().await;
    let (core, ann) = (&hub.hub, hub.operator("ann"));
    let node = hub.enrolled("db-1").await;
    assert!(!tells_of_all(&hub).await, "what nodes do is not");
    hub.relabelled(&node.id, "web").await;
    assert!(tells_of_all(&hub).await, "labels");

    let manifest = hub.manifest(Generation { epoch: 1, number: 1 }, None).await;
    for (keys, what) in [(&[&hub.ann][..], "a release"), (&[&hub.bob], "an endorsement")] {
        let request = v1::PublishReleaseRequest {
            manifest: Some((&signed(&manifest, keys)).into()),
        };
        core.publish_release(&ann, request).await.unwrap();
        assert!(tells_of_all(&hub).await, "{what}");
    }

    let grant = hub.grant(2, Admission::Manual).await;
    for name in ["db-2", "db-3"] {
        let request = TestHub::enroll_request(&grant, name);
        core.enroll(&crate::testing::caller(None), request)
            .await
            .unwrap_err();
    }
    let listed = core.list_pending(&ann, v1::ListPendingRequest {}).await.unwrap();
    let [one, other] = &listed.pending[..] else {
        panic!("two machines wait: {listed:?}");
    };
    core.admit_node(&ann, v1::AdmitNodeRequest { id: one.id.clone() })
        .await
        .unwrap();
    assert!(tells_of_all(&hub).await, "an admission");
    core.reject_node(&ann, v1::RejectNodeRequest { id: other.id.clone() })
        .await
        .unwrap();
    assert!(tells_of_all(&hub).await, "a rejection");

    let request = v1::RemoveNodeRequest {
        name: "db-1".to_owned(),
    };
    core.remove_node(&ann, request).await.unwrap();
    assert!(tells_of_all(&hub).await, "a removal");
    let request = v1::RaiseEpochRequest {
        raise: Some((&hub.raise(2)).into()),
    };
    core.raise_epoch(&ann, request).await.unwrap();
    assert!(tells_of_all(&hub).await, "an epoch");
    assert_eq!(core.checkpoints.newest().borrow().0.epoch, 2);
}
