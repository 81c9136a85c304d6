//! What the link brings to the keeper: the newest offer, and who is in the groups.
//!
//! Nothing queues here: a newer offer takes the place of one that was not taken up yet, and members merge. So a long
//! change never holds the link's beats and probes up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_pki::envelope::Envelope;
use holdfast_policy::render::AddressSets;
use tokio::sync::Notify;

use crate::change::Offering;
use crate::members;

/// A release as a hub offers it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The manifest, as operators are said to have signed it.
    pub manifest: Envelope,
    /// Who offers it, and where its slices can be had.
    pub hub: Offering,
}

/// The place between link and keeper.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Arrived>,
    arrived: Notify,
}

/// What has arrived since the last look.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Members of groups that a hub named; to be taken before the offer, which may need them.
    pub members: AddressSets,
    /// The newest offer.
    pub offer: Option<Box<Offer>>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings an offer.
    pub fn offer(&self, offer: Offer) {
        self.lock().offer = Some(Box::new(offer));
        self.arrived.notify_one();
    }

    /// Brings members.
    pub fn members(&self, members: AddressSets) {
        let mut waiting = self.lock();
        waiting.members.extend(members);
        members::bound(&mut waiting.members);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits until something has arrived, and takes all of it.
    pub async fn next(&self) -> Arrived {
        self.arrived.notified().await;
        std::mem::take(&mut *self.lock())
    }
}
