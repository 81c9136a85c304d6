use super::*;
use crate::testing::{NOW, TestHub, caller, fleet, listed, signed};
use holdfast_pki::authority::Act;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::spiffe::Identity;
use holdfast_proto::ids::Generation;
use holdfast_proto::payload::Payload as _;
use tonic::Code;

fn operator(name: &str) -> Caller {
    caller(Some(Identity::Operator(name.parse().unwrap())))
}

/// A raise of the epoch that nobody has signed. Each of another checkpoint is another document.
fn raise(checkpoint: Option<&[u8]>) -> EpochRaise {
    EpochRaise {
        kind: EpochRaise::KIND.to_owned(),
        format: EpochRaise::FORMAT,
        trust_domain: fleet(),
        old: 1,
        new: 2,
        checkpoint: checkpoint.map(Digest::of),
    }
}

async fn put_as(hub: &TestHub, who: &str, kind: &str, draft: &Envelope) -> Result<v1::Draft, Status> {
    let request = v1::PutDraftRequest {
        kind: kind.to_owned(),
        draft: Some(draft.into()),
    };
    let reply = hub.hub.put_draft(&operator(who), request).await?;
    Ok(reply.draft.unwrap())
}

async fn put(hub: &TestHub, draft: &Envelope) -> v1::Draft {
    put_as(hub, "ann", "epoch", draft).await.unwrap()
}

/// Who signed a draft as it is listed.
async fn signers(hub: &TestHub, digest: Digest) -> Vec<String> {
    let reply = hub
        .hub
        .list_drafts(&operator("ann"), v1::ListDraftsRequest {})
        .await;
    let drafts = reply.unwrap().drafts;
    let draft = drafts
        .into_iter()
        .find(|draft| draft.digest == digest.to_string());
    let signatures = draft.unwrap().envelope.unwrap().signatures;
    signatures.into_iter().map(|signature| signature.key_id).collect()
}

async fn waiting(hub: &TestHub) -> usize {
    drafts::all(&hub.hub.registry).await.unwrap().len()
}

/// A hub where two of three admins must sign to raise the epoch.
async fn two_of_three() -> (TestHub, SigningKey, SigningKey) {
    let mut hub = TestHub::new().await;
    let (eve, kim) = (SigningKey::generate(), SigningKey::generate());
    hub.advance_authority(|next| {
        next.keys.push(listed("eve", &eve, Role::Admin));
        next.keys.push(listed("kim", &kim, Role::Admin));
        next.thresholds.insert(Act::Epoch, 2);
    })
    .await;
    (hub, eve, kim)
}

#[tokio::test]
async fn a_draft_gathers_one_signature_of_each_who_counts() {
    let (hub, eve, kim) = two_of_three().await;
    let document = raise(None);
    // A proposer's comes without any.
    let first = put(&hub, &signed(&document, &[])).await;
    assert_eq!((first.put_by.as_str(), first.at_secs), ("ann", NOW));
    let digest = signed(&document, &[]).digest();
    assert!(signers(&hub, digest).await.is_empty());

    put_as(&hub, "eve", "epoch", &signed(&document, &[&eve]))
        .await
        .unwrap();
    let again = put_as(&hub, "kim", "epoch", &signed(&document, &[&kim, &eve, &kim]))
        .await
        .unwrap();
    assert_eq!(again.put_by, "ann", "the one who put it first");
    let mut wanted = [eve.key_id().to_string(), kim.key_id().to_string()];
    let mut held = signers(&hub, digest).await;
    wanted.sort();
    held.sort();
    assert_eq!(held, wanted);
    let progress = hub
        .hub
        .authority()
        .await
        .unwrap()
        .progress(DraftKind::Epoch, &again.envelope.try_into().unwrap());
    assert!(progress.is_complete());
}

#[tokio::test]
async fn signatures_that_do_not_count_are_dropped_and_displace_none_that_does() {
    let (hub, eve, _) = two_of_three().await;
    let document = raise(None);
    let mut forged = signed(&document, &[&SigningKey::generate()]);
    forged.signatures[0].key_id = eve.key_id();
    let mut garbage = forged.clone();
    // A stranger's, an operator's who may not sign this, one for another kind of document, a false one in Eve's name.
    garbage
        .signatures
        .extend(signed(&document, &[&SigningKey::generate(), &hub.bob]).signatures);
    hub.ann.sign(JoinGrant::KIND, &mut garbage);
    let digest = garbage.digest();
    put(&hub, &garbage).await;
    assert!(signers(&hub, digest).await.is_empty());

    let mut both = forged.clone();
    eve.sign(EpochRaise::KIND, &mut both);
    put(&hub, &both).await;
    assert_eq!(signers(&hub, digest).await, [eve.key_id().to_string()]);
    put(&hub, &forged).await;
    assert_eq!(signers(&hub, digest).await, [eve.key_id().to_string()]);
}

#[tokio::test]
async fn signatures_that_come_at_once_are_all_kept() {
    let (hub, eve, kim) = two_of_three().await;
    let document = raise(None);
    let (one, two) = (signed(&document, &[&eve]), signed(&document, &[&kim]));
    tokio::join!(put(&hub, &one), put(&hub, &two));
    assert_eq!(signers(&hub, one.digest()).await.len(), 2);
    assert_eq!(waiting(&hub).await, 1);
}

#[tokio::test]
async fn a_next_authority_keeps_the_signatures_of_those_whom_it_adds() {
    let mut hub = TestHub::new().await;
    let zoe = SigningKey::generate();
    let mut next = hub.next_authority(|next| {
        next.keys.push(listed("zoe", &zoe, Role::Admin));
        next.thresholds.insert(Act::Authority, 2);
    });
    zoe.sign("authority", &mut next);
    SigningKey::generate().sign("authority", &mut next);
    put_as(&hub, "ann", "authority", &next).await.unwrap();
    let wanted = [hub.ann.key_id().to_string(), zoe.key_id().to_string()];
    assert_eq!(signers(&hub, next.digest()).await, wanted);
}

#[tokio::test]
async fn what_is_no_draft_of_this_fleet_is_refused() {
    let hub = TestHub::new().await;
    let good = signed(&raise(None), &[]);
    let elsewhere = EpochRaise {
        trust_domain: "other.example".parse().unwrap(),
        ..raise(None)
    };
    let mut odd = good.clone();
    odd.payload.push(b' ');
    odd.payload.push(b'x');
    for (why, kind, draft) in [
        ("no such kind", "letter", good.clone()),
        ("another kind than it says", "join-grant", good),
        ("another fleet's", "epoch", signed(&elsewhere, &[])),
        ("no document", "epoch", odd),
        (
            "too large",
            "epoch",
            Envelope::unsigned(vec![b' '; EpochRaise::BYTES_MAX + 1]),
        ),
    ] {
        let refused = put_as(&hub, "ann", kind, &draft).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{why}: {refused}");
    }
    assert_eq!(waiting(&hub).await, 0);
}

#[tokio::test]
async fn no_more_drafts_wait_than_operators_can_look_through() {
    let hub = TestHub::new().await;
    let one_more = signed(&raise(None), &[]);
    for n in 0..DRAFTS_MAX {
        // No one operator takes all places: each of these has its own share.
        let by = ["ann", "bob", "pat", "zoe"][n / DRAFTS_OF_ONE_MAX];
        let draft = signed(&raise(Some(&n.to_be_bytes())), &[]);
        put_as(&hub, by, "epoch", &draft).await.unwrap();
        if (n + 1) % DRAFTS_OF_ONE_MAX == 0 {
            let refused = put_as(&hub, by, "epoch", &one_more).await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted, "{by}");
        }
    }
    let refused = put_as(&hub, "eve", "epoch", &one_more).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let held = signed(&raise(Some(&0_usize.to_be_bytes())), &[&hub.ann]);
    put(&hub, &held).await;
    assert_eq!(
        signers(&hub, held.digest()).await.len(),
        1,
        "those that wait can be signed"
    );
}

#[tokio::test]
async fn a_draft_is_discarded_by_who_put_it_or_an_admin() {
    let hub = TestHub::new().await;
    let draft = signed(&raise(None), &[]);
    let request = v1::DiscardDraftRequest {
        digest: draft.digest().to_string(),
    };
    put_as(&hub, "ann", "epoch", &draft).await.unwrap();
    let refused = hub.hub.discard_draft(&operator("bob"), request.clone()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    hub.hub
        .discard_draft(&operator("ann"), request.clone())
        .await
        .unwrap();
    let gone = hub.hub.discard_draft(&operator("ann"), request.clone()).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    for who in ["bob", "ann"] {
        put_as(&hub, "bob", "epoch", &draft).await.unwrap();
        hub.hub
            .discard_draft(&operator(who), request.clone())
            .await
            .unwrap();
    }
    assert_eq!(waiting(&hub).await, 0);
}

#[tokio::test]
async fn whoever_publishes_a_document_takes_its_draft_away() {
    let mut hub = TestHub::new().await;
    let ann = operator("ann");

    let raise = signed(&raise(None), &[&hub.ann]);
    put(&hub, &raise).await;
    let request = v1::RaiseEpochRequest {
        raise: Some((&raise).into()),
    };
    hub.hub.raise_epoch(&ann, request).await.unwrap();
    assert_eq!(waiting(&hub).await, 0, "epoch");

    let manifest = hub.manifest(Generation { epoch: 2, number: 1 }, None).await;
    let manifest = signed(&manifest, &[&hub.ann]);
    put_as(&hub, "ann", "release", &manifest).await.unwrap();
    let request = v1::PublishReleaseRequest {
        manifest: Some((&manifest).into()),
    };
    hub.hub.publish_release(&ann, request.clone()).await.unwrap();
    assert_eq!(waiting(&hub).await, 0, "release");
    let mut endorsed = manifest.clone();
    hub.bob.sign("release", &mut endorsed);
    put_as(&hub, "ann", "release", &endorsed).await.unwrap();
    let request = v1::PublishReleaseRequest {
        manifest: Some((&endorsed).into()),
    };
    hub.hub.publish_release(&ann, request).await.unwrap();
    assert_eq!(waiting(&hub).await, 0, "endorsement");

    let grant = JoinGrant {
        id: [9; 16].into(),
        ..hub.grant(1, Admission::Automatic).await
    };
    let grant = signed(&grant, &[&hub.bob]);
    put_as(&hub, "bob", "join-grant", &grant).await.unwrap();
    let request = v1::CreateTokenRequest {
        grant: Some((&grant).into()),
    };
    hub.hub.create_token(&operator("bob"), request).await.unwrap();
    assert_eq!(waiting(&hub).await, 0, "join grant");

    let next = hub.next_authority(|_| {});
    put_as(&hub, "ann", "authority", &next).await.unwrap();
    let request = v1::PublishAuthorityRequest {
        authority: Some((&next).into()),
    };
    hub.hub.publish_authority(&ann, request).await.unwrap();
    assert_eq!(waiting(&hub).await, 0, "authority");
}
