//! Turns at calls that cost much: so many callers at once, and each of them one call at a time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_pki::spiffe::SpiffeId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;

use crate::acceptor::Caller;

/// The turns at one kind of call, in the order of asking. A caller has one at a time, so that none keeps the others waiting
/// for long.
#[derive(Debug)]
pub struct Turns {
    places: Semaphore,
    callers: Arc<Mutex<BTreeSet<SpiffeId>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _caller: Entered,
    _place: SemaphorePermit<'a>,
}

impl Turns {
    /// Turns for `at_once` callers.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self {
            places: Semaphore::new(at_once),
            callers: Arc::default(),
        }
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, caller: &Caller) -> Result<Turn<'_>, Status> {
        let id = caller.id.clone();
        let id = id.ok_or_else(|| Status::unauthenticated("this call needs a client certificate"))?;
        let caller = Entered::new(&self.callers, id)?;
        let place = self.places.acquire().await;
        let place = place.map_err(|_| Status::unavailable("the hub stops"))?;
        Ok(Turn {
            _caller: caller,
            _place: place,
        })
    }
}

/// A caller's entry among those that wait or have their turn, until it is dropped.
#[derive(Debug)]
struct Entered {
    callers: Arc<Mutex<BTreeSet<SpiffeId>>>,
    id: SpiffeId,
}

impl Entered {
    fn new(callers: &Arc<Mutex<BTreeSet<SpiffeId>>>, id: SpiffeId) -> Result<Self, Status> {
        if !lock(callers).insert(id.clone()) {
            return Err(Status::resource_exhausted(
                "this caller has such a call under way already",
            ));
        }
        Ok(Self {
            callers: callers.clone(),
            id,
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.callers).remove(&self.id);
    }
}

fn lock(callers: &Mutex<BTreeSet<SpiffeId>>) -> MutexGuard<'_, BTreeSet<SpiffeId>> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdfast_pki::spiffe::Identity;

    use super::*;
    use crate::testing::caller;

    fn node(n: u8) -> Caller {
        let id = holdfast_proto::ids::NodeId::of_public_key(&[n]);
        caller(Some(Identity::Node(id)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_one_turn_and_only_so_many_callers_have_one_at_once() {
        let turns = Turns::new(3);
        let mut taken = Vec::new();
        for n in 0..3 {
            taken.push(turns.take(&node(n)).await.unwrap());
        }
        let another = tokio::time::timeout(Duration::from_secs(1), turns.take(&node(0))).await;
        let refused = another.expect("refused at once").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let waits = tokio::time::timeout(Duration::from_secs(1), turns.take(&node(99))).await;
        assert!(waits.is_err(), "one more waits");
        taken.pop();
        turns.take(&node(99)).await.unwrap();
        turns.take(&node(99)).await.unwrap();
    }
}
