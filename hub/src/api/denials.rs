//! What was refused, in the audit log: as much of it as a flood cannot fill the disk with.
//!
//! Each RPC has a pace of its own, so that a node that was removed and keeps on dialling does not hide a stranger who tries
//! to log in. What comes faster is counted, and one entry tells how many were not written; the log has them all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use tonic::{Code, Status};

use super::Hub;
use crate::acceptor::Caller;
use crate::pace::Paces;
use crate::store::audit::{AuditEntry, AuditId, Outcome};
use crate::store::txn::Txn;

/// For each RPC: twenty refusals at once, then one in five minutes. With 33 RPCs and half a kilobyte each, a flood of all
/// kinds at once writes 5 MB a day.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(300);
/// How often what was not written is told.
pub const TOLD_EVERY: Duration = Duration::from_secs(300);

/// How many refusals may be written.
#[derive(Debug)]
pub struct Denials {
    paces: Paces<&'static str>,
    unwritten: AtomicU64,
}

impl Default for Denials {
    fn default() -> Self {
        Self {
            paces: Paces::new(BURST, EVERY),
            unwritten: AtomicU64::new(0),
        }
    }
}

impl Denials {
    /// Whether a refusal of `rpc` may be written now; if not, it is counted.
    fn admit(&self, rpc: &'static str, clock: &dyn Clock) -> bool {
        let admitted = self.paces.take(&rpc, clock);
        if !admitted {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

/// Whether `status` says that the caller may not, rather than that something failed.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

impl Hub {
    /// Notes that `caller` was refused the call `rpc`.
    pub(super) async fn call_denied(&self, rpc: &'static str, caller: &Caller, status: &Status) {
        let id = caller.id.as_ref().map(ToString::to_string);
        let reason = status.message();
        tracing::warn!(rpc, id, peer.addr = %caller.address, reason, "call denied");
        let on = rpc.trim_start_matches("/holdfast.v1.").to_owned();
        self.denied(rpc, caller, "call", on).await;
    }

    /// Notes that `caller` was refused `rpc`, in which they wanted to do `what` on `on`.
    pub(super) async fn denied(&self, rpc: &'static str, caller: &Caller, what: &str, on: String) {
        if self.denials.admit(rpc, &*self.clock) {
            let (id, entry) = self.audit(caller, what, on, None);
            self.write_denial(&id, entry).await;
        }
    }

    /// Notes how many refusals were not written since it was told last.
    pub(crate) async fn tell_unwritten_denials(&self) {
        let unwritten = self.denials.unwritten.swap(0, Ordering::Relaxed);
        if unwritten > 0 {
            let entry = AuditEntry {
                at_secs: self.clock.unix_secs(),
                who: self.ca.hub_id().to_string(),
                what: "refuse calls".to_owned(),
                on: format!("{unwritten} that are not written one by one"),
                from: "local".to_owned(),
                digest: None,
                outcome: Outcome::Denied,
                correlation_id: self.random.unique_id(),
            };
            self.write_denial(&AuditId::new(&*self.clock, &*self.random), entry)
                .await;
        }
    }

    async fn write_denial(&self, id: &AuditId, entry: AuditEntry) {
        let entry = AuditEntry {
            outcome: Outcome::Denied,
            ..entry
        };
        // The call is refused whether this is written or not.
        if let Err(error) = self.registry.store().commit(Txn::new(id, &entry)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot note a refusal");
        }
    }
}

#[cfg(test)]
mod tests;
