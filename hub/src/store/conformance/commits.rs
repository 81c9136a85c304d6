//! Transactions, their conditions and limits, and reading.

use tokio::task::JoinSet;

use super::*;
use crate::store::key::PAGE_MAX;
use crate::store::txn::{BYTES_MAX, InvalidTxn, KEY_BYTES_MAX, OPERATIONS_MAX};

pub(in crate::store) async fn what_was_committed_is_read(engine: &impl Engine) {
    let store = engine.store();
    assert_eq!(read(&*store, "t/a").await, None);
    let first = store.commit(txn().put("t/a", *b"one")).await.unwrap();
    let second = store
        .commit(txn().put("t/a", *b"two").put("t/b", *b""))
        .await
        .unwrap();
    assert!(first < second);
    let found = read(&*store, "t/a").await.unwrap();
    assert_eq!((&*found.value, found.revision), (&b"two"[..], second));
    assert_eq!(&*read(&*store, "t/b").await.unwrap().value, b"");
    store
        .commit(txn().delete("t/a").delete("t/never-there"))
        .await
        .unwrap();
    assert_eq!(read(&*store, "t/a").await, None);
}

pub(in crate::store) async fn keys_are_ordered_as_bytes(engine: &impl Engine) {
    let store = engine.store();
    let keys: [&[u8]; 6] = [b"t/", b"t/\0", b"t/a", b"t/a/b", b"t/b", b"t/\xff\xff"];
    let all = keys.iter().rev().fold(txn(), |txn, key| txn.put(*key, *b""));
    store.commit(all.put("s", *b"").put("t0", *b"")).await.unwrap();
    let listed = list(&*store, &Span::prefix("t/"), 100).await;
    let listed: Vec<_> = listed.iter().map(|entry| entry.key.as_bytes()).collect();
    assert_eq!(listed, keys);
    let between = store.range(&Span::between("t/\0", "t/a/b"), 100).await.unwrap();
    assert_eq!(between.entries.len(), 2);
    let backwards = store.range(&Span::between("t/b", "t/a"), 100).await.unwrap();
    assert!(backwards.entries.is_empty() && backwards.rest.is_none());
}

pub(in crate::store) async fn pages_join_to_the_whole(engine: &impl Engine) {
    let store = engine.store();
    let mut revision = Revision::default();
    for hundred in 0..6 {
        let puts = (0..100).fold(txn(), |txn, at| txn.put(format!("t/{hundred}{at:02}"), *b""));
        revision = store.commit(puts).await.unwrap();
    }
    let span = Span::prefix("t/");
    let wanted: Vec<_> = (0..600).map(|at| Key::from(format!("t/{at:03}"))).collect();
    for limit in [7, 100, 600, 1000] {
        let listed: Vec<_> = list(&*store, &span, limit)
            .await
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        assert_eq!(listed, wanted, "limit {limit}");
    }
    let page = store.range(&span, usize::MAX).await.unwrap();
    assert_eq!(page.entries.len(), PAGE_MAX);
    assert!(page.revision >= revision);
}

pub(in crate::store) async fn each_precondition_holds_where_it_should(engine: &impl Engine) {
    let store = engine.store();
    let old = store.commit(txn().put("t/there", *b"old")).await.unwrap();
    let new = store.commit(txn().put("t/there", *b"new")).await.unwrap();
    store.commit(txn().put("t/gone", *b"")).await.unwrap();
    store.commit(txn().delete("t/gone")).await.unwrap();
    let table = [
        ("t/there", Precondition::Absent, false),
        ("t/there", Precondition::Exists, true),
        ("t/there", Precondition::Revision(old), false),
        ("t/there", Precondition::Revision(new), true),
        ("t/gone", Precondition::Absent, true),
        ("t/gone", Precondition::Exists, false),
        ("t/gone", Precondition::Revision(new), false),
        ("t/never", Precondition::Absent, true),
        ("t/never", Precondition::Exists, false),
        ("t/never", Precondition::Revision(new), false),
    ];
    for (key, wanted, holds) in table {
        let answer = store.commit(txn().require(key, wanted)).await;
        let found = read(&*store, key).await.map(|entry| entry.revision);
        let key = Key::from(key);
        match answer {
            Ok(_) => assert!(holds, "{key} {wanted}"),
            Err(error) => {
                assert!(!holds, "{key} {wanted}: {error}");
                assert_eq!(error, CommitError::Conflict { key, wanted, found });
            }
        }
    }
}

pub(in crate::store) async fn a_conflict_changes_nothing_and_names_the_key(engine: &impl Engine) {
    let store = engine.store();
    store
        .commit(txn().put("t/a", *b"1").put("t/b", *b"1"))
        .await
        .unwrap();
    let before = store.range(&Span::prefix(""), 100).await.unwrap();
    let refused = txn()
        .put("t/a", *b"2")
        .delete("t/b")
        .put("t/c", *b"2")
        .require("t/a", Precondition::Exists)
        .require("t/b", Precondition::Absent)
        .require("t/c", Precondition::Exists);
    let error = store.commit(refused).await.unwrap_err();
    assert!(
        matches!(&error, CommitError::Conflict { key, .. } if *key == "t/b".into()),
        "{error}"
    );
    assert_eq!(store.range(&Span::prefix(""), 100).await.unwrap(), before);
}

pub(in crate::store) async fn one_transaction_has_one_revision(engine: &impl Engine) {
    let store = engine.store();
    let mut last = Revision::default();
    for round in 0..5 {
        let puts = (0..10).fold(txn(), |txn, at| txn.put(format!("t/{round}/{at}"), *b""));
        let revision = store.commit(puts).await.unwrap();
        assert!(revision > last);
        last = revision;
        let written = list(&*store, &Span::prefix(format!("t/{round}/")), 100).await;
        assert_eq!(written.len(), 10);
        assert!(written.iter().all(|entry| entry.revision == revision));
    }
}

pub(in crate::store) async fn the_audit_entry_is_in_the_same_transaction(engine: &impl Engine) {
    let store = engine.store();
    let id = AuditId::new(&SystemClock, &SystemRandom);
    let change = Txn::new(&id, &audit_entry()).put("t/a", *b"");
    let revision = store.commit(change).await.unwrap();
    let pending = store.get(&id.pending_key()).await.unwrap().unwrap();
    assert_eq!(pending.revision, revision);
    assert_eq!(AuditEntry::from_bytes(&pending.value).unwrap(), audit_entry());
}

pub(in crate::store) async fn a_transaction_has_at_most_128_steps(engine: &impl Engine) {
    let store = engine.store();
    // The audit entry is one of them.
    let full = (0..OPERATIONS_MAX / 2).fold(txn(), |txn, at| txn.put(format!("t/{at}"), *b""));
    let full = (1..OPERATIONS_MAX / 2).fold(full, |txn, at| {
        txn.require(format!("t/{at}"), Precondition::Absent)
    });
    let above = full.clone().require("t/one-more", Precondition::Absent);
    let count = OPERATIONS_MAX + 1;
    assert_eq!(
        store.commit(above).await,
        Err(InvalidTxn::Operations { count }.into())
    );
    store.commit(full).await.unwrap();
}

pub(in crate::store) async fn a_transaction_has_at_most_a_mebibyte(engine: &impl Engine) {
    let store = engine.store();
    let audit_bytes = {
        let id = AuditId::new(&SystemClock, &SystemRandom);
        id.pending_key().as_bytes().len() + audit_entry().to_bytes().len()
    };
    let most = BYTES_MAX - audit_bytes - "t/a".len();
    let above = txn().put("t/a", vec![7; most + 1]);
    let bytes = BYTES_MAX + 1;
    assert_eq!(store.commit(above).await, Err(InvalidTxn::Bytes { bytes }.into()));
    assert_eq!(read(&*store, "t/a").await, None);
    store.commit(txn().put("t/a", vec![7; most])).await.unwrap();
    assert_eq!(read(&*store, "t/a").await.unwrap().value.len(), most);
}

pub(in crate::store) async fn no_key_is_named_twice(engine: &impl Engine) {
    let store = engine.store();
    let twice = [
        txn().put("t/a", *b"1").put("t/a", *b"2"),
        txn().put("t/a", *b"1").delete("t/a"),
        txn()
            .require("t/a", Precondition::Absent)
            .require("t/a", Precondition::Exists),
    ];
    for txn in twice {
        let key = Key::from("t/a");
        assert_eq!(store.commit(txn).await, Err(InvalidTxn::Twice { key }.into()));
    }
    // Once as a condition and once as a change is what compare-and-set is.
    store
        .commit(txn().require("t/a", Precondition::Absent).put("t/a", *b""))
        .await
        .unwrap();
    for bytes in [0, KEY_BYTES_MAX + 1] {
        let answer = store.commit(txn().put("k".repeat(bytes), *b"")).await;
        assert_eq!(answer, Err(InvalidTxn::Key { bytes }.into()));
    }
    store
        .commit(txn().put("k".repeat(KEY_BYTES_MAX), *b""))
        .await
        .unwrap();
}

pub(in crate::store) async fn increments_of_many_writers_are_all_counted(engine: &impl Engine) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let store = engine.store();
    store
        .commit(txn().put("t/count", 0u64.to_be_bytes()))
        .await
        .unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..EACH {
                increment(&*store).await;
            }
        });
    }
    writers.join_all().await;
    let count = read(&*store, "t/count").await.unwrap();
    assert_eq!(*count.value, (WRITERS * EACH).to_be_bytes());
}

/// Reads and writes until nobody was faster.
async fn increment(store: &dyn Store) {
    loop {
        let found = read(store, "t/count").await.unwrap();
        let count = u64::from_be_bytes((*found.value).try_into().unwrap());
        let change = txn()
            .put("t/count", (count + 1).to_be_bytes())
            .require("t/count", Precondition::Revision(found.revision));
        match store.commit(change).await {
            Ok(_) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
