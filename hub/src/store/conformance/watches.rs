//! Watches: everything once and in order, or a plain word that the past is gone.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;

use super::*;
use crate::store::key::Value;
use crate::store::watch::{Batch, Watch, WatchError};

/// Far above what any engine needs: a watch that is silent for so long has lost something.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(watch: &mut dyn Watch) -> Result<Batch, WatchError> {
    tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("the watch went silent")
}

/// Commits `t/<writer>/<n>` for each n below `each`, in `writers` tasks at once.
fn write_much(store: &Arc<dyn Store>, writers: usize, each: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            for at in 0..each {
                let change = txn()
                    .put(format!("t/{writer}/{at}"), *b"")
                    .put("t/last", at.to_be_bytes());
                store.commit(change).await.unwrap();
            }
        });
    }
    tasks
}

pub(in crate::store) async fn a_watch_misses_and_repeats_nothing(engine: &impl Engine) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let store = engine.store();
    let start = store.commit(txn().put("s", *b"")).await.unwrap();
    let mut watch = store.watch(start.next(), Span::prefix("t/")).await.unwrap();
    let tasks = write_much(&store, WRITERS, EACH);
    let mut told = Vec::new();
    let mut keys = BTreeSet::new();
    while told.len() < WRITERS * EACH {
        let batch = next(&mut *watch).await.unwrap();
        assert_eq!(batch.changes.len(), 2, "a transaction is told whole: {batch:?}");
        assert!(keys.insert(batch.changes[0].key.clone()), "told twice: {batch:?}");
        told.push(batch);
    }
    assert!(told.is_sorted_by(|a, b| a.revision < b.revision));
    tasks.join_all().await;
    // The same again from the past, from any place in it.
    for skipped in [0, 1, told.len() / 2, told.len() - 1] {
        let mut again = store
            .watch(told[skipped].revision, Span::prefix("t/"))
            .await
            .unwrap();
        for wanted in &told[skipped..] {
            assert_eq!(next(&mut *again).await.as_ref(), Ok(wanted));
        }
    }
}

pub(in crate::store) async fn a_batch_is_what_one_transaction_changed(engine: &impl Engine) {
    let store = engine.store();
    let start = store.commit(txn().put("t/old", *b"x")).await.unwrap();
    // From a revision that is still to come, and with changes elsewhere between.
    let mut watch = store.watch(start.next(), Span::prefix("t/")).await.unwrap();
    store.commit(txn().put("s", *b"")).await.unwrap();
    let change = txn()
        .put("t/new", *b"y")
        .delete("t/old")
        .delete("t/never")
        .put("u", *b"");
    let revision = store.commit(change).await.unwrap();
    let batch = next(&mut *watch).await.unwrap();
    assert_eq!(batch.revision, revision);
    let changes: Vec<_> = batch
        .changes
        .iter()
        .map(|change| (change.key.to_string(), change.value.as_deref()))
        .collect();
    assert_eq!(
        changes,
        [("t/new".to_owned(), Some(&b"y"[..])), ("t/old".to_owned(), None)]
    );
}

pub(in crate::store) async fn listing_and_watching_on_ends_in_the_same_state(engine: &impl Engine) {
    let store = engine.store();
    let span = Span::prefix("t/");
    let tasks = write_much(&store, 4, 25);
    // Pages of three, so that there is writing between them.
    let mut state: BTreeMap<Key, Value> = BTreeMap::new();
    let first = store.range(&span, 3).await.unwrap();
    let from = first.revision.next();
    let mut page = first;
    loop {
        state.extend(page.entries.into_iter().map(|entry| (entry.key, entry.value)));
        match page.rest {
            Some(rest) => page = store.range(&rest, 3).await.unwrap(),
            None => break,
        }
    }
    let mut watch = store.watch(from, span.clone()).await.unwrap();
    tasks.join_all().await;
    let end = store.commit(txn().put("t/end", *b"")).await.unwrap();
    loop {
        let batch = next(&mut *watch).await.unwrap();
        for change in batch.changes {
            match change.value {
                Some(value) => state.insert(change.key, value),
                None => state.remove(&change.key),
            };
        }
        if batch.revision == end {
            break;
        }
    }
    let listed = list(&*store, &span, 100).await;
    assert_eq!(
        state,
        listed.into_iter().map(|entry| (entry.key, entry.value)).collect()
    );
}

pub(in crate::store) async fn a_compacted_past_is_said_to_be_so(engine: &impl Engine) {
    let store = engine.store();
    let mut revisions = Vec::new();
    for at in 0..6u8 {
        revisions.push(store.commit(txn().put("t/a", [at])).await.unwrap());
    }
    let span = Span::prefix("t/");
    let mut slow = store.watch(revisions[0], span.clone()).await.unwrap();
    assert_eq!(next(&mut *slow).await.unwrap().revision, revisions[0]);
    engine.compact(revisions[4]).await;
    let min = revisions[4];
    let late = store.watch(revisions[1], span.clone()).await;
    assert_eq!(late.err(), Some(WatchError::Compacted { min }));
    assert_eq!(next(&mut *slow).await, Err(WatchError::Compacted { min }));
    // The way on: list, and watch from there.
    let mut watch = store.watch(min, span.clone()).await.unwrap();
    assert_eq!(next(&mut *watch).await.unwrap().revision, min);
    assert_eq!(&*list(&*store, &span, 10).await[0].value, [5]);
}
