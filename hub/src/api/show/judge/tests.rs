use holdfast_pki::authority::Authority;
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::payload::Payload as _;
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, TestHub, signed};

const fn generation(epoch: u64, number: u64) -> Generation {
    Generation { epoch, number }
}

async fn has(hub: &TestHub, epoch: u64, current: Option<Generation>) -> Has {
    Has {
        authority: TrustedAuthority::clone(&*hub.hub.authority.look().await.unwrap()),
        epoch,
        current,
    }
}

fn numbers(documents: &[(u64, Envelope)]) -> Vec<u64> {
    documents.iter().map(|(number, _)| *number).collect()
}

fn findings(judged: &Judged) -> Vec<Finding> {
    judged.findings.keys().copied().collect()
}

#[tokio::test]
async fn what_the_hub_has_already_says_nothing() {
    let mut hub = TestHub::new().await;
    let second = hub.advance_authority(|_| {}).await;
    let manifest = signed(&hub.manifest(generation(2, 3), None).await, &[&hub.ann]);
    let first = hub.hub.registry.authority_versions(0, 1).await.unwrap().remove(0);
    let shown = Shown {
        authority: vec![first, second],
        raises: vec![hub.raise(2)],
        manifest: Some(manifest),
    };
    let judged = judge(has(&hub, 2, Some(generation(2, 3))).await, shown, NOW);
    assert!(
        judged.findings.is_empty() && judged.passed_over.is_empty(),
        "{judged:?}"
    );
    assert!(judged.authority.is_empty() && judged.raises.is_empty());
}

#[tokio::test]
async fn a_release_counts_above_the_current_one_in_the_epoch_that_admins_raised() {
    let hub = TestHub::new().await;
    for (at, epoch, current, counts) in [
        (generation(1, 1), 1, None, true),
        (generation(1, 3), 1, Some(generation(1, 2)), true),
        (generation(1, 2), 1, Some(generation(1, 2)), false),
        (generation(1, 1), 1, Some(generation(1, 2)), false),
        (generation(1, 9), 2, Some(generation(1, 2)), false),
        (generation(2, 1), 2, Some(generation(1, 2)), true),
        // Of an epoch that nobody raised: no admin's signature is in it.
        (generation(3, 1), 2, Some(generation(2, 2)), false),
    ] {
        let shown = Shown {
            manifest: Some(signed(&hub.manifest(at, None).await, &[&hub.bob])),
            ..Shown::default()
        };
        let judged = judge(has(&hub, epoch, current).await, shown, NOW);
        assert_eq!(
            findings(&judged) == [Finding::Release],
            counts,
            "{at} at {current:?}: {judged:?}"
        );
    }
}

#[tokio::test]
async fn a_release_that_nobody_may_have_signed_counts_for_nothing() {
    let mut hub = TestHub::new().await;
    let manifest = hub.manifest(generation(1, 9), None).await;
    let elsewhere = Manifest {
        trust_domain: "other.example".parse().unwrap(),
        ..manifest.clone()
    };
    let by_bob = signed(&manifest, &[&hub.bob]);
    // Bob was dropped in a version that is shown with it.
    let second = hub.next_authority(|next| next.keys.retain(|key| key.name.as_str() != "bob"));
    for (forged, authority) in [
        (signed(&manifest, &[]), vec![]),
        (signed(&manifest, &[&SigningKey::generate()]), vec![]),
        (signed(&elsewhere, &[&hub.ann]), vec![]),
        (by_bob, vec![second]),
    ] {
        let shown = Shown {
            authority,
            manifest: Some(forged),
            ..Shown::default()
        };
        let judged = judge(has(&hub, 1, None).await, shown, NOW);
        assert!(!judged.findings.contains_key(&Finding::Release), "{judged:?}");
        assert_eq!(judged.passed_over.len(), 1);
    }
}

#[tokio::test]
async fn versions_count_up_to_the_first_that_the_one_before_did_not_sign() {
    let mut hub = TestHub::new().await;
    let second = hub.next_authority(|_| {});
    let third = hub.next_authority(|_| {});
    let mut forged = Envelope::unsigned(third.payload.clone());
    hub.bob.sign(Authority::KIND, &mut forged);
    let shown = |authority: &[&Envelope]| Shown {
        authority: authority.iter().map(|version| (*version).clone()).collect(),
        ..Shown::default()
    };
    for (versions, adopted) in [
        (shown(&[&second, &third]), vec![2, 3]),
        (shown(&[&second, &forged, &third]), vec![2]),
        (shown(&[&third, &second]), vec![]),
        (shown(&[&forged]), vec![]),
    ] {
        let judged = judge(has(&hub, 1, None).await, versions, NOW);
        assert_eq!(numbers(&judged.authority), adopted, "{judged:?}");
        assert_eq!(
            judged.findings.contains_key(&Finding::Authority),
            !adopted.is_empty()
        );
    }
}

#[tokio::test]
async fn raises_count_in_an_unbroken_row_from_the_hubs_epoch() {
    let hub = TestHub::new().await;
    let by_bob = {
        let mut raise = Envelope::unsigned(hub.raise(3).payload);
        hub.bob.sign(EpochRaise::KIND, &mut raise);
        raise
    };
    for (raises, adopted) in [
        (vec![hub.raise(2), hub.raise(3), hub.raise(4)], vec![3, 4]),
        (vec![hub.raise(4)], vec![]),
        (vec![hub.raise(3), hub.raise(5)], vec![3]),
        (vec![by_bob, hub.raise(3)], vec![]),
    ] {
        let shown = Shown {
            raises,
            ..Shown::default()
        };
        let judged = judge(has(&hub, 2, None).await, shown, NOW);
        assert_eq!(numbers(&judged.raises), adopted, "{judged:?}");
        assert_eq!(judged.findings.contains_key(&Finding::Epoch), !adopted.is_empty());
    }
}

#[tokio::test]
async fn a_raise_by_an_admin_who_was_dropped_in_what_is_shown_does_not_count() {
    let mut hub = TestHub::new().await;
    let carol = SigningKey::generate();
    let raise = hub.raise(2);
    let mut second = hub.next_authority(|next| {
        next.keys[0].id = carol.key_id();
        next.keys[0].public = carol.public();
    });
    carol.sign(Authority::KIND, &mut second);
    let shown = Shown {
        authority: vec![second],
        raises: vec![raise],
        ..Shown::default()
    };
    let judged = judge(has(&hub, 1, None).await, shown, NOW);
    assert_eq!(
        (numbers(&judged.authority), numbers(&judged.raises)),
        (vec![2], vec![])
    );
}

#[tokio::test]
async fn whatever_is_shown_only_unbroken_rows_of_signed_documents_are_taken() {
    let mut hub = TestHub::new().await;
    let mut pool: Vec<(bool, Envelope)> = Vec::new();
    for _ in 0..3 {
        pool.push((true, hub.next_authority(|_| {})));
    }
    for new in 2..5 {
        pool.push((true, hub.raise(new)));
    }
    for n in 0..pool.len() {
        let mut forged = pool[n].1.clone();
        let last = forged.payload.len() - 2;
        forged.payload[last] ^= 1;
        pool.push((false, forged));
        pool.push((false, Envelope::unsigned(pool[n].1.payload.clone())));
    }
    let held = TrustedAuthority::clone(&*hub.hub.authority.look().await.unwrap());
    let good = |envelope: &Envelope| pool.iter().any(|(good, known)| *good && known == envelope);
    let picks = proptest::collection::vec(0..pool.len(), 0..12);
    proptest!(|(authority in picks.clone(), raises in picks)| {
        let pick = |picked: Vec<usize>| picked.into_iter().map(|n| pool[n].1.clone()).collect();
        let has = Has { authority: held.clone(), epoch: 1, current: None };
        let shown = Shown { authority: pick(authority), raises: pick(raises), manifest: None };
        let judged = judge(has, shown, NOW);
        for taken in [&judged.authority, &judged.raises] {
            let row: Vec<u64> = (2..).take(taken.len()).collect();
            prop_assert_eq!(numbers(taken), row);
            prop_assert!(taken.iter().all(|(_, envelope)| good(envelope)));
        }
        let both = judged.authority.len() + judged.raises.len();
        prop_assert_eq!(judged.findings.is_empty(), both == 0);
    });
}
