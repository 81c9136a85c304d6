//! The contract over a real disk, and what an engine with a disk owes beyond it.

use std::path::Path;

use holdfast_pki::clock::TestClock;
use holdfast_pki::files::SystemFiles;

use super::*;
use crate::store::conformance::{Engine, conformance, txn};
use crate::store::lock::LockError;

mod damage;
mod faults;
mod power;

struct Embedded {
    clock: Arc<TestClock>,
    store: Arc<JournalStore>,
    _dir: tempfile::TempDir,
}

fn embedded() -> Embedded {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(1_700_000_000));
    let lock = DirLock::acquire(dir.path()).unwrap();
    let store = Arc::new(JournalStore::open(lock, &SystemFiles, clock.clone()).unwrap());
    Embedded {
        clock,
        store,
        _dir: dir,
    }
}

impl Engine for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(time);
        Box::pin(ready(()))
    }
    fn compact(&self, min: Revision) -> BoxFuture<'_, ()> {
        self.store.compact(min);
        Box::pin(ready(()))
    }
}

conformance!(contract, embedded());

/// Opens the store whose journal `files` has in `dir`, right after a boot. The lock is a real one in any case.
fn open(dir: &Path, files: &dyn Files) -> Result<JournalStore, OpenError> {
    let lock = DirLock::acquire(dir).unwrap();
    let clock = TestClock::at(1_700_000_000);
    clock.reboot("boot-2");
    JournalStore::open(lock, files, Arc::new(clock))
}

/// The values under `t/`, in the order of their keys.
async fn values(store: &JournalStore) -> Vec<String> {
    let page = store.range(&Span::prefix("t/"), 512).await.unwrap();
    let text = |entry: Entry| String::from_utf8(entry.value.to_vec()).unwrap();
    page.entries.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_reopened_store_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &SystemFiles).unwrap();
    let first = store
        .commit(txn().put("t/a", *b"1").put("t/b", *b"1"))
        .await
        .unwrap();
    let lease = store
        .acquire("rollout", "hub-a", Duration::from_secs(10))
        .await
        .unwrap();
    let last = store
        .commit(txn().put("t/a", *b"2").delete("t/b").fenced(&lease))
        .await
        .unwrap();
    let before = store.range(&Span::prefix(""), 100).await.unwrap();
    drop(store);

    let store = open(dir.path(), &SystemFiles).unwrap();
    assert_eq!(store.range(&Span::prefix(""), 100).await.unwrap(), before);
    let mut watch = store.watch(first, Span::prefix("t/")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, first);
    assert_eq!(watch.next().await.unwrap().revision, last);
    // The holder lived in the process that is gone.
    let late = store.commit(txn().fenced(&lease)).await;
    assert!(matches!(late, Err(CommitError::Fenced { .. })), "{late:?}");
    let next = store
        .acquire("rollout", "hub-a", Duration::from_secs(10))
        .await
        .unwrap();
    assert!(next.term > lease.term);
}

#[tokio::test]
async fn a_second_store_on_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &SystemFiles).unwrap();
    let second = DirLock::acquire(dir.path());
    assert!(matches!(second, Err(LockError::Held { .. })));
    drop(store);
    open(dir.path(), &SystemFiles).unwrap();
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &SystemFiles).unwrap();
    let mut watch = store.watch(Revision::new(1), Span::prefix("")).await.unwrap();
    drop(store);
    assert_eq!(watch.next().await, Err(stopped().into()));
}
