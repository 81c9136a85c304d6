//! The store's contract as tests, for every engine the same: [`conformance!`] turns an [`Engine`] into one test each.
//!
//! Written for the common ground: no test knows a revision's number or how an engine keeps its state, and none looks at
//! keys outside its own span, so that a store that other things write to passes as well.

use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::SystemClock;
use holdfast_pki::random::SystemRandom;

use super::audit::{AuditEntry, AuditId, Outcome};
use super::key::{Entry, Key, Revision, Span};
use super::lease::LeaseError;
use super::txn::{CommitError, Precondition, Txn};
use super::{BoxFuture, Store};

pub(super) mod commits;
pub(super) mod leases;
pub(super) mod watches;

/// A store under test, fresh and empty, and what a test does to the world around it.
pub(super) trait Engine {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Lets time pass for leases.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;
    /// Makes the store forget the past before `min`.
    fn compact(&self, min: Revision) -> BoxFuture<'_, ()>;
}

/// Makes a module of tests out of an expression that gives a fresh [`Engine`].
macro_rules! conformance {
    ($module:ident, $engine:expr) => {
        mod $module {
            use super::*;
            use crate::store::conformance::{commits, leases, watches};

            conformance! { @tests $engine;
                commits::what_was_committed_is_read,
                commits::keys_are_ordered_as_bytes,
                commits::pages_join_to_the_whole,
                commits::each_precondition_holds_where_it_should,
                commits::a_conflict_changes_nothing_and_names_the_key,
                commits::one_transaction_has_one_revision,
                commits::the_audit_entry_is_in_the_same_transaction,
                commits::a_transaction_has_at_most_128_steps,
                commits::a_transaction_has_at_most_a_mebibyte,
                commits::no_key_is_named_twice,
                commits::increments_of_many_writers_are_all_counted,
                watches::a_watch_misses_and_repeats_nothing,
                watches::a_batch_is_what_one_transaction_changed,
                watches::listing_and_watching_on_ends_in_the_same_state,
                watches::a_compacted_past_is_said_to_be_so,
                leases::a_held_lease_is_refused_to_others,
                leases::a_renewed_lease_lasts,
                leases::a_lease_that_ran_out_goes_to_the_next_under_a_higher_term,
                leases::a_late_write_is_fenced,
                leases::one_of_many_gets_the_lease,
                leases::names_are_bounded,
            }
        }
    };
    (@tests $engine:expr; $($group:ident::$test:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $group::$test(&$engine).await;
            }
        )+
    };
}
pub(super) use conformance;

/// A transaction that so far changes nothing but the audit.
pub(super) fn txn() -> Txn {
    let id = AuditId::new(&SystemClock, &SystemRandom);
    Txn::new(&id, &audit_entry())
}

pub(super) fn audit_entry() -> AuditEntry {
    AuditEntry {
        at_secs: 1_700_000_000,
        who: "spiffe://lab.example/operator/admin".to_owned(),
        what: "test store".to_owned(),
        on: "store".to_owned(),
        from: "127.0.0.1".to_owned(),
        digest: None,
        outcome: Outcome::Done,
        correlation_id: [7; 16].into(),
    }
}

/// What is stored at `key`.
async fn read(store: &dyn Store, key: &str) -> Option<Entry> {
    store.get(&key.into()).await.unwrap()
}

/// All of a span, page by page.
async fn list(store: &dyn Store, span: &Span, limit: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = Some(span.clone());
    while let Some(span) = rest {
        let page = store.range(&span, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        entries.extend(page.entries);
        rest = page.rest;
    }
    entries
}
