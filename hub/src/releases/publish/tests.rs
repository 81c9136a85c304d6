use super::*;
use crate::testing::{NOW, TestHub, signed};

const fn generation(epoch: u64, number: u64) -> Generation {
    Generation { epoch, number }
}

async fn endorsed(hub: &TestHub, envelope: &Envelope) -> Result<Arc<Release>, ReleaseError> {
    let registry = &hub.hub.registry;
    let authority = hub.hub.authority.look().await.unwrap();
    let (id, entry) = hub.audit();
    endorse(registry, &authority, envelope, NOW, (&id, &entry)).await
}

async fn offered(
    hub: &TestHub,
    at: Generation,
    previous: Option<holdfast_proto::ids::Digest>,
) -> Result<holdfast_proto::ids::Digest, ReleaseError> {
    let manifest = hub.manifest(at, previous).await;
    hub.publish(&signed(&manifest, &[&hub.ann])).await
}

#[tokio::test]
async fn a_release_follows_the_current_one_by_number_and_digest() {
    let hub = TestHub::new().await;
    let first = hub.released(1, 1, None).await;
    for (at, previous) in [
        (generation(1, 1), Some(first)),
        (generation(1, 2), None),
        (generation(1, 0), Some(first)),
        // Whoever may sign releases must not use up the numbers of all to come.
        (generation(1, 3), Some(first)),
        (generation(1, u64::MAX), Some(first)),
    ] {
        let refused = offered(&hub, at, previous).await;
        assert!(
            matches!(refused, Err(ReleaseError::NotNext { .. })),
            "{at}: {refused:?}"
        );
    }
    offered(&hub, generation(1, 2), Some(first)).await.unwrap();
}

#[tokio::test]
async fn under_a_hold_nothing_is_published_and_the_remedy_is_named() {
    let hub = TestHub::new().await;
    let first = hub.released(1, 1, None).await;
    hub.held().await;
    let refused = offered(&hub, generation(1, 2), Some(first)).await.unwrap_err();
    assert!(matches!(refused, ReleaseError::Held(_)));
    let told = tonic::Status::from(refused);
    assert_eq!(told.code(), tonic::Code::FailedPrecondition);
    for part in ["restored from a backup", "holdfast epoch raise"] {
        assert!(told.message().contains(part), "{told}");
    }
    let again = signed(&hub.manifest(generation(1, 1), None).await, &[&hub.ann, &hub.bob]);
    assert!(matches!(endorsed(&hub, &again).await, Err(ReleaseError::Held(_))));
}

#[tokio::test]
async fn a_hold_that_comes_in_the_middle_is_met_by_nothing_published_behind_it() {
    for turns in 0..40 {
        let hub = TestHub::new().await;
        let first = hub.released(1, 1, None).await;
        let next = signed(&hub.manifest(generation(1, 2), Some(first)).await, &[&hub.ann]);
        let holds = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            hub.held().await;
        };
        let (published, ()) = tokio::join!(hub.publish(&next), holds);
        let registry = &hub.hub.registry;
        let hold: Versioned<hold::Hold> = registry.record(&hold::KEY.into()).await.unwrap().unwrap();
        let current = current_record(registry).await.unwrap().unwrap();
        match published {
            Ok(_) => assert!(current.revision < hold.revision, "after {turns} turns"),
            Err(refused) => assert!(matches!(refused, ReleaseError::Held(_)), "{refused:?}"),
        }
    }
}

#[tokio::test]
async fn a_release_that_nobody_who_may_has_signed_uses_up_no_number() {
    let hub = TestHub::new().await;
    let manifest = hub.manifest(generation(1, 1), None).await;
    let stranger = holdfast_pki::signing_key::SigningKey::generate();
    for keys in [&[][..], &[&stranger]] {
        let refused = hub.publish(&signed(&manifest, keys)).await;
        assert!(matches!(refused, Err(ReleaseError::Refused(_))), "{refused:?}");
    }
    hub.publish(&signed(&manifest, &[&hub.ann])).await.unwrap();
}

#[tokio::test]
async fn a_raised_epoch_takes_its_first_release_and_none_of_the_epoch_before() {
    let hub = TestHub::new().await;
    let last = hub.released(1, 7, None).await;
    hub.raised(2).await;
    for at in [generation(1, 8), generation(3, 1)] {
        let refused = offered(&hub, at, Some(last)).await;
        assert!(
            matches!(refused, Err(ReleaseError::Epoch { epoch: 2, .. })),
            "{at}: {refused:?}"
        );
    }
    for (at, previous) in [(generation(2, 0), Some(last)), (generation(2, 1), None)] {
        let refused = offered(&hub, at, previous).await;
        assert!(
            matches!(refused, Err(ReleaseError::NotNext { .. })),
            "{at}: {refused:?}"
        );
    }
    offered(&hub, generation(2, 1), Some(last)).await.unwrap();
}

#[tokio::test]
async fn a_raised_epoch_without_a_release_before_it_takes_a_first_one() {
    let hub = TestHub::new().await;
    hub.raised(2).await;
    assert!(matches!(
        offered(&hub, generation(1, 1), None).await,
        Err(ReleaseError::Epoch { epoch: 2, .. })
    ));
    offered(&hub, generation(2, 1), None).await.unwrap();
}

#[tokio::test]
async fn the_current_manifest_again_adds_its_signatures() {
    let mut hub = TestHub::new().await;
    let manifest = hub.manifest(generation(1, 1), None).await;
    hub.publish(&signed(&manifest, &[&hub.bob])).await.unwrap();
    hub.advance_authority(|next| next.keys.retain(|key| key.name.as_str() != "bob"))
        .await;

    // Bob's own signature is not enough any more, whoever brings it.
    let refused = endorsed(&hub, &signed(&manifest, &[&hub.bob])).await;
    assert!(matches!(refused, Err(ReleaseError::Refused(_))), "{refused:?}");

    let release = endorsed(&hub, &signed(&manifest, &[&hub.ann])).await.unwrap();
    let stored = super::super::manifest(&hub.hub.registry, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored, release.envelope);
    let signers: Vec<_> = stored
        .signatures
        .iter()
        .map(|signature| signature.key_id)
        .collect();
    assert_eq!(
        signers,
        [hub.ann.key_id(), hub.bob.key_id()],
        "nodes that were away still know Bob's"
    );
}

#[tokio::test]
async fn a_bad_signature_takes_no_good_ones_place() {
    let hub = TestHub::new().await;
    let manifest = hub.manifest(generation(1, 1), None).await;
    hub.publish(&signed(&manifest, &[&hub.ann])).await.unwrap();
    let mut bad = signed(&manifest, &[&hub.ann, &hub.bob]);
    bad.signatures[0].signature[0] ^= 1;
    let release = endorsed(&hub, &bad).await.unwrap();
    let good = signed(&manifest, &[&hub.bob, &hub.ann]);
    assert_eq!(release.envelope, good);
}

#[tokio::test]
async fn only_the_current_manifest_is_endorsed() {
    let hub = TestHub::new().await;
    let first = hub.manifest(generation(1, 1), None).await;
    let digest = hub.publish(&signed(&first, &[&hub.ann])).await.unwrap();
    hub.released(1, 2, Some(digest)).await;
    let refused = endorsed(&hub, &signed(&first, &[&hub.bob])).await;
    assert!(
        matches!(refused, Err(ReleaseError::NotNext { .. })),
        "{refused:?}"
    );
}
