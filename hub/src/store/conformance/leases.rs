//! Leases: one holder, rising terms, late writes fenced.

use tokio::task::JoinSet;

use super::*;
use crate::store::lease::{Lease, NAME_BYTES_MAX};

const TTL: Duration = Duration::from_secs(10);

fn lost(lease: &Lease) -> LeaseError {
    LeaseError::Lost {
        name: lease.name.clone(),
        term: lease.term,
    }
}

pub(in crate::store) async fn a_held_lease_is_refused_to_others(engine: &impl Engine) {
    let store = engine.store();
    let held = store.acquire("rollout", "hub-a", TTL).await.unwrap();
    let refused = LeaseError::Held {
        name: "rollout".to_owned(),
        holder: "hub-a".to_owned(),
    };
    for holder in ["hub-a", "hub-b"] {
        assert_eq!(store.acquire("rollout", holder, TTL).await, Err(refused.clone()));
    }
    store.acquire("audit", "hub-b", TTL).await.unwrap();
    store.release(&held).await.unwrap();
    let next = store.acquire("rollout", "hub-b", TTL).await.unwrap();
    assert!(next.term > held.term);
    assert_eq!(store.renew(&held).await, Err(lost(&held)));
    // A late release does not take it from the next holder.
    store.release(&held).await.unwrap();
    store.renew(&next).await.unwrap();
}

pub(in crate::store) async fn a_renewed_lease_lasts(engine: &impl Engine) {
    let store = engine.store();
    let lease = store.acquire("rollout", "hub-a", TTL).await.unwrap();
    for _ in 0..3 {
        engine.pass(TTL / 2).await;
        store.renew(&lease).await.unwrap();
    }
    store.commit(txn().put("t/a", *b"").fenced(&lease)).await.unwrap();
    assert!(store.acquire("rollout", "hub-b", TTL).await.is_err());
}

pub(in crate::store) async fn a_lease_that_ran_out_goes_to_the_next_under_a_higher_term(
    engine: &impl Engine,
) {
    let store = engine.store();
    let mut last = store.acquire("rollout", "hub-a", TTL).await.unwrap();
    for holder in ["hub-b", "hub-a", "hub-a"] {
        engine.pass(TTL).await;
        let next = store.acquire("rollout", holder, TTL).await.unwrap();
        assert!(next.term > last.term);
        assert_eq!(store.renew(&last).await, Err(lost(&last)));
        last = next;
    }
}

pub(in crate::store) async fn a_late_write_is_fenced(engine: &impl Engine) {
    let store = engine.store();
    let old = store.acquire("rollout", "hub-a", TTL).await.unwrap();
    let in_time = store
        .commit(txn().put("t/a", *b"in time").fenced(&old))
        .await
        .unwrap();
    let fenced = CommitError::Fenced {
        lease: "rollout".to_owned(),
        term: old.term,
    };
    let late = || txn().put("t/a", *b"late").fenced(&old);
    engine.pass(TTL).await;
    assert_eq!(store.commit(late()).await, Err(fenced.clone()), "run out");
    let new = store.acquire("rollout", "hub-b", TTL).await.unwrap();
    assert_eq!(store.commit(late()).await, Err(fenced.clone()), "gone to another");
    assert_eq!(read(&*store, "t/a").await.unwrap().revision, in_time);
    store
        .commit(txn().put("t/a", *b"new").fenced(&new))
        .await
        .unwrap();
    store.release(&new).await.unwrap();
    assert_eq!(store.commit(late()).await, Err(fenced), "given back");
    let given_back = store.commit(txn().fenced(&new)).await;
    assert!(matches!(given_back, Err(CommitError::Fenced { .. })));
}

pub(in crate::store) async fn one_of_many_gets_the_lease(engine: &impl Engine) {
    let store = engine.store();
    let mut hubs = JoinSet::new();
    for hub in 0..8 {
        let store = store.clone();
        hubs.spawn(async move { store.acquire("rollout", &format!("hub-{hub}"), TTL).await });
    }
    let answers = hubs.join_all().await;
    let winners: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    store.commit(txn().fenced(winners[0])).await.unwrap();
}

pub(in crate::store) async fn names_are_bounded(engine: &impl Engine) {
    let store = engine.store();
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    for (name, holder, bytes) in [
        ("", "hub-a", 0),
        (&long, "hub-a", long.len()),
        ("rollout", &long, long.len()),
    ] {
        let answer = store.acquire(name, holder, TTL).await;
        assert_eq!(answer, Err(LeaseError::Name { bytes }));
    }
}
