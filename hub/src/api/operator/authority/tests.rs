use super::*;
use crate::testing::{NOW, TestHub, caller, listed, signed};
use holdfast_pki::authority::Role;
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::spiffe::Identity;
use std::time::Duration;
use tonic::Code;

async fn publish(hub: &TestHub, envelope: &Envelope) -> Result<v1::PublishAuthorityReply, Status> {
    let ann = caller(Some(Identity::Operator("ann".parse().unwrap())));
    let request = v1::PublishAuthorityRequest {
        authority: Some(envelope.into()),
    };
    hub.hub.publish_authority(&ann, request).await
}

async fn refused(hub: &TestHub, envelope: &Envelope) -> (Code, String) {
    let status = publish(hub, envelope).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

async fn newest(hub: &TestHub) -> u64 {
    hub.hub.authority().await.unwrap().document().version
}

/// A version 2 of `hub`, made by `change` and signed by Ann; the fixture stays at version 1.
fn second(hub: &mut TestHub, change: impl FnOnce(&mut Authority)) -> Envelope {
    let first = hub.authority.clone();
    let envelope = hub.next_authority(change);
    hub.authority = first;
    envelope
}

#[tokio::test]
async fn the_next_version_judges_from_the_moment_it_is_published() {
    let mut hub = TestHub::new().await;
    let kim = SigningKey::generate();
    let mut told = hub.hub.authority.version();
    let next = hub.next_authority(|next| next.keys.push(listed("kim", &kim, Role::Viewer)));
    let reply = publish(&hub, &next).await.unwrap();
    assert!(!reply.release_needs_endorsement);
    assert!(told.has_changed().unwrap() && *told.borrow_and_update() == 2);
    let caller = hub.logged_in("kim", &kim).await;
    hub.may(&caller, "GetStatus").await.unwrap();
}

#[tokio::test]
async fn a_version_is_published_once_and_in_order() {
    let mut hub = TestHub::new().await;
    let next = hub.next_authority(|_| {});
    let after = hub.next_authority(|_| {});
    let (code, told) = refused(&hub, &after).await;
    assert_eq!(code, Code::FailedPrecondition, "skips a version");
    assert!(told.contains("the newest is 1"), "{told}");
    publish(&hub, &next).await.unwrap();
    let (code, told) = refused(&hub, &next).await;
    assert_eq!(
        (code, told.as_str()),
        (Code::AlreadyExists, "authority version 2 is published already")
    );
    publish(&hub, &after).await.unwrap();
    assert_eq!(refused(&hub, &next).await.0, Code::AlreadyExists, "replayed");
    assert_eq!(newest(&hub).await, 3);
}

#[tokio::test]
async fn who_comes_second_hears_what_the_first_changed() {
    let mut hub = TestHub::new().await;
    let zoe = SigningKey::generate();
    let late = second(&mut hub, |next| next.expires_secs += 1);
    let first = hub.next_authority(|next| {
        next.keys.push(listed("zoe", &zoe, Role::Admin));
        next.keys[1].role = Role::Viewer;
        next.thresholds.insert(holdfast_pki::authority::Act::Stop, 2);
    });
    publish(&hub, &first).await.unwrap();
    let (code, told) = refused(&hub, &late).await;
    assert_eq!(code, Code::Aborted);
    assert!(
        told.contains("it changed operators: bob, zoe; thresholds: stop"),
        "{told}"
    );
    assert!(told.contains("upon version 2"), "{told}");
}

#[tokio::test]
async fn of_two_at_once_exactly_one_is_published() {
    let mut hub = TestHub::new().await;
    let one = second(&mut hub, |next| next.expires_secs += 1);
    let two = second(&mut hub, |next| next.keys[1].role = Role::Viewer);
    let (first, other) = tokio::join!(publish(&hub, &one), publish(&hub, &two));
    let (published, lost) = match (first, other) {
        (Ok(_), Err(lost)) => (&one, lost),
        (Err(lost), Ok(_)) => (&two, lost),
        both => panic!("{both:?}"),
    };
    assert_eq!(lost.code(), Code::Aborted, "{lost}");
    let held = hub.hub.authority_version(2).await.unwrap().unwrap();
    assert_eq!(held.digest(), published.digest());
    assert_eq!(
        hub.hub.authority().await.unwrap().pin().digest,
        published.digest()
    );
}

#[tokio::test]
async fn only_the_signatures_that_the_newest_version_asks_for_publish_the_next() {
    let mut hub = TestHub::new().await;
    let next = second(&mut hub, |_| {});
    let document: Authority = parse_payload(&next.payload).unwrap();
    for (who, keys) in [
        ("nobody", &[][..]),
        ("an operator who is no admin", &[&hub.bob]),
        ("a stranger", &[&SigningKey::generate()]),
    ] {
        let (code, told) = refused(&hub, &signed(&document, keys)).await;
        assert_eq!(code, Code::PermissionDenied, "{who}: {told}");
    }
    let stuck = second(&mut hub, |next| next.keys[0].role = Role::Viewer);
    let (code, told) = refused(&hub, &stuck).await;
    assert_eq!(
        code,
        Code::InvalidArgument,
        "nobody could sign the one after: {told}"
    );
    let elsewhere = second(&mut hub, |next| {
        next.trust_domain = "other.example".parse().unwrap()
    });
    let (code, told) = refused(&hub, &elsewhere).await;
    assert_eq!(code, Code::FailedPrecondition, "another fleet's: {told}");
    assert_eq!(newest(&hub).await, 1);
}

#[tokio::test]
async fn an_expired_authority_is_followed_by_one_that_is_not() {
    let mut hub = TestHub::new().await;
    let end = hub.authority.expires_secs;
    hub.clock.advance(Duration::from_secs(end - NOW + 86_400));
    let late = second(&mut hub, |_| {});
    let (code, told) = refused(&hub, &late).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(told.contains("expired already"), "{told}");
    let next = hub.next_authority(|next| next.expires_secs = end + 365 * 86_400);
    publish(&hub, &next).await.unwrap();
    assert_eq!(newest(&hub).await, 2);
}

#[tokio::test]
async fn a_version_without_this_hubs_own_root_is_refused() {
    let mut hub = TestHub::new().await;
    let dropped = second(&mut hub, |next| next.node_roots = [Digest::of(b"another")].into());
    let (code, told) = refused(&hub, &dropped).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(told.contains("drops the node root"), "{told}");
    let both = hub.next_authority(|next| {
        next.node_roots.insert(Digest::of(b"another"));
    });
    publish(&hub, &both).await.unwrap();
}

#[tokio::test]
async fn a_release_whose_signer_was_dropped_needs_endorsement() {
    let mut hub = TestHub::new().await;
    let manifest = hub
        .manifest(holdfast_proto::ids::Generation { epoch: 1, number: 1 }, None)
        .await;
    hub.publish(&signed(&manifest, &[&hub.bob])).await.unwrap();
    let kept = hub.next_authority(|next| next.expires_secs += 1);
    assert!(!publish(&hub, &kept).await.unwrap().release_needs_endorsement);
    let dropped = hub.next_authority(|next| {
        next.keys.pop();
    });
    assert!(publish(&hub, &dropped).await.unwrap().release_needs_endorsement);
}
