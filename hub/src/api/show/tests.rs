use holdfast_pki::spiffe::Identity;
use holdfast_proto::ids::{Generation, NodeId};
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use tonic::Code;

use super::*;
use crate::testing::{TestHub, caller, signed};

async fn show(hub: &TestHub, node: NodeId, chunks: Vec<Vec<u8>>) -> Result<bool, Status> {
    let mut client = NodeLinkClient::new(hub.door(caller(Some(Identity::Node(node)))));
    let chunks = chunks
        .into_iter()
        .map(|chunk| v1::ShowRequest { chunk: chunk.into() });
    let chunks: Vec<_> = chunks.collect();
    let reply = client.show(tokio_stream::iter(chunks)).await?;
    Ok(reply.into_inner().holds)
}

fn chunked(state: &v1::HigherState) -> Vec<Vec<u8>> {
    state
        .encode_to_vec()
        .chunks(SHOW_CHUNK_BYTES_MAX)
        .map(<[u8]>::to_vec)
        .collect()
}

/// What a fleet went on to after the hub's backup: two versions, two raises, and a release of the last epoch.
async fn ahead(hub: &mut TestHub) -> v1::HigherState {
    let versions = [hub.next_authority(|_| {}), hub.next_authority(|_| {})];
    let manifest = hub.manifest(Generation { epoch: 3, number: 2 }, None).await;
    v1::HigherState {
        authority: versions.iter().map(Into::into).collect(),
        epochs: [hub.raise(2), hub.raise(3)].iter().map(Into::into).collect(),
        manifest: Some((&signed(&manifest, &[&hub.bob])).into()),
    }
}

#[tokio::test]
async fn a_restored_hub_learns_from_a_node_what_it_forgot_and_holds() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.released(1, 1, None).await;
    let shown = ahead(&mut hub).await;
    assert!(show(&hub, node.id, chunked(&shown)).await.unwrap());

    let held = hold::read(&hub.hub.registry).await.unwrap().unwrap();
    for part in [
        "node 'db-1' showed release 3.2, the hub had 1.1",
        "node 'db-1' showed authority version 3, the hub had 1",
        "node 'db-1' showed epoch 3, the hub was at 1",
    ] {
        assert!(held.reason().contains(part), "{held}");
    }
    assert_eq!(hub.hub.authority().await.unwrap().document().version, 3);
    assert_eq!(epoch::current(&hub.hub.registry).await.unwrap(), 3);
    let current = releases::named_current(&hub.hub.registry).await.unwrap().unwrap();
    assert_eq!(
        current.0,
        Generation { epoch: 1, number: 1 },
        "its slices are not here"
    );
    let whats: Vec<String> = hub.audited().await;
    for what in ["hold releases", "adopt authority", "adopt epoch"] {
        let times = whats.iter().filter(|audited| *audited == what).count();
        assert_eq!(
            times,
            if what == "hold releases" { 1 } else { 2 },
            "{what}: {whats:?}"
        );
    }
}

#[tokio::test]
async fn what_was_shown_before_writes_nothing() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let shown = chunked(&ahead(&mut hub).await);
    show(&hub, node.id, shown.clone()).await.unwrap();
    let before = hub.hub.registry.revision().await.unwrap();
    assert!(show(&hub, node.id, shown).await.unwrap());
    assert_eq!(hub.hub.registry.revision().await.unwrap(), before);
}

#[tokio::test]
async fn an_operator_shows_as_a_node_does_and_is_named() {
    let mut hub = TestHub::new().await;
    let shown = ahead(&mut hub).await.try_into().unwrap();
    assert!(hub.hub.learn(&hub.operator("ann"), shown).await.unwrap().holds);
    let held = hold::read(&hub.hub.registry).await.unwrap().unwrap();
    assert!(
        held.reason().contains("/operator/ann showed release 3.2"),
        "{held}"
    );
}

#[tokio::test]
async fn what_no_operator_signed_changes_nothing() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let mut shown = ahead(&mut hub).await;
    let documents = shown
        .authority
        .iter_mut()
        .chain(&mut shown.epochs)
        .chain(&mut shown.manifest);
    for document in documents {
        document.signatures.clear();
    }
    let before = hub.hub.registry.revision().await.unwrap();
    assert!(!show(&hub, node.id, chunked(&shown)).await.unwrap());
    assert_eq!(hub.hub.registry.revision().await.unwrap(), before);
    assert_eq!(hold::read(&hub.hub.registry).await.unwrap(), None);
}

#[tokio::test]
async fn more_than_the_bounds_is_not_looked_at() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    let shown = ahead(&mut hub).await;
    let many = |documents: &[v1::Envelope]| vec![documents[0].clone(); SHOWN_MAX + 1];
    let versions = v1::HigherState {
        authority: many(&shown.authority),
        ..v1::HigherState::default()
    };
    let raises = v1::HigherState {
        epochs: many(&shown.epochs),
        ..v1::HigherState::default()
    };
    for chunks in [
        vec![vec![0; SHOW_CHUNK_BYTES_MAX + 1]],
        vec![vec![0; SHOW_CHUNK_BYTES_MAX]; SHOW_BYTES_MAX / SHOW_CHUNK_BYTES_MAX + 1],
        vec![vec![0xff; 1000]],
        chunked(&versions),
        chunked(&raises),
    ] {
        let refused = show(&hub, node.id, chunks).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert_eq!(hold::read(&hub.hub.registry).await.unwrap(), None);
}
