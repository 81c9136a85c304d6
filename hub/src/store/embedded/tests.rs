//! The contract over a real disk, and what an engine with a disk owes beyond it.

use holdfast_pki::clock::TestClock;
use holdfast_pki::files::SystemFiles;

use super::*;
use crate::store::conformance::{Engine, conformance};

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
