use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::payload::Payload as _;

use super::*;
use crate::testing::{TestHub, fleet, signed};

async fn raise(hub: &TestHub, envelope: &Envelope) -> Result<v1::RaiseEpochReply, Status> {
    let request = v1::RaiseEpochRequest {
        raise: Some(envelope.into()),
    };
    hub.hub.raise_epoch(&hub.operator("ann"), request).await
}

async fn shown(hub: &TestHub) -> v1::GetEpochReply {
    let shown = hub
        .hub
        .get_epoch(&hub.operator("ann"), v1::GetEpochRequest {})
        .await;
    shown.unwrap()
}

#[tokio::test]
async fn an_epoch_rises_by_one_with_an_admins_signature_and_ends_the_hold() {
    let hub = TestHub::new().await;
    hub.held().await;
    let before = shown(&hub).await;
    assert_eq!(
        (before.epoch, before.hold.as_str()),
        (1, "restored from a backup")
    );
    raise(&hub, &hub.raise(2)).await.unwrap();
    raise(&hub, &hub.raise(3)).await.unwrap();
    let after = shown(&hub).await;
    assert_eq!((after.epoch, after.hold.as_str()), (3, ""));
    let raises: Vec<Envelope> = after
        .raises
        .into_iter()
        .map(|raise| raise.try_into().unwrap())
        .collect();
    assert_eq!(raises, [hub.raise(2), hub.raise(3)]);
}

#[tokio::test]
async fn a_raise_that_does_not_follow_changes_nothing() {
    let hub = TestHub::new().await;
    hub.held().await;
    let other = |trust_domain: &str, old, new| EpochRaise {
        kind: EpochRaise::KIND.to_owned(),
        format: 1,
        trust_domain: trust_domain.parse().unwrap(),
        old,
        new,
        checkpoint: None,
    };
    for (document, code) in [
        (other("lab.example", 1, 3), Code::Aborted),
        (other("lab.example", 2, 3), Code::Aborted),
        (other("lab.example", 0, 1), Code::Aborted),
        (other("other.example", 1, 2), Code::PermissionDenied),
    ] {
        let refused = raise(&hub, &signed(&document, &[&hub.ann])).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let after = shown(&hub).await;
    assert_eq!((after.epoch, after.hold.as_str()), (1, "restored from a backup"));
}

#[tokio::test]
async fn an_operator_who_is_no_admin_raises_no_epoch() {
    let hub = TestHub::new().await;
    let mut by_bob = Envelope::unsigned(hub.raise(2).payload);
    hub.bob.sign(EpochRaise::KIND, &mut by_bob);
    let refused = raise(&hub, &by_bob).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!((shown(&hub).await.epoch, fleet().as_str()), (1, "lab.example"));
}

#[tokio::test]
async fn a_raise_that_was_made_already_changes_nothing_more() {
    let hub = TestHub::new().await;
    raise(&hub, &hub.raise(2)).await.unwrap();
    hub.held_in(2).await;
    let before = hub.hub.registry.revision().await.unwrap();
    raise(&hub, &hub.raise(2)).await.unwrap();
    assert_eq!(hub.hub.registry.revision().await.unwrap(), before);
    let after = shown(&hub).await;
    assert_eq!((after.epoch, after.hold.as_str()), (2, "restored from a backup"));
}

#[tokio::test]
async fn a_raise_is_endorsed_once_its_signer_is_listed_no_more() {
    let mut hub = TestHub::new().await;
    raise(&hub, &hub.raise(2)).await.unwrap();
    let carol = SigningKey::generate();
    hub.replace_ann(&carol).await;
    let by_carol = {
        let mut raise = Envelope::unsigned(hub.raise(2).payload);
        carol.sign(EpochRaise::KIND, &mut raise);
        raise
    };
    let refused = raise(&hub, &hub.raise(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let mut junk = by_carol.clone();
    SigningKey::generate().sign(EpochRaise::KIND, &mut junk);
    junk.signatures.reverse();
    raise(&hub, &junk).await.unwrap();

    let after = shown(&hub).await;
    let held: Envelope = after.raises[0].clone().try_into().unwrap();
    let signers: Vec<_> = held.signatures.iter().map(|signature| signature.key_id).collect();
    assert_eq!(
        signers,
        [carol.key_id(), hub.ann.key_id()],
        "no junk, today's operators first"
    );
    assert_eq!(after.epoch, 2);
}
