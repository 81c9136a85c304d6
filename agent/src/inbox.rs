//! What the link brings to the keeper: the newest offer, who is in the groups, and documents that operators signed.
//!
//! Nothing queues here: a newer offer takes the place of one that was not taken up yet, members and documents merge. So a
//! long change never holds the link's beats and probes up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_pki::envelope::Envelope;
use holdfast_policy::render::AddressSets;
use tokio::sync::Notify;

use crate::change::Offering;
use crate::keeper::HubHas;
use crate::ledger::RAISES_MAX;
use crate::members;

/// The most changes of labels that wait, of 16 KiB at most each: more than operators make while one release is applied.
const LABELS_MAX: usize = 32;

/// A release as a hub offers it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The manifest, as operators are said to have signed it.
    pub manifest: Envelope,
    /// Who offers it, and where its slices can be had.
    pub hub: Offering,
}

/// What a hub brings beside releases: documents that operators are said to have signed. They are judged by the newest
/// authority that it has; a hub that says no more than that there is a newer one brings none.
#[derive(Debug, Clone)]
pub struct Documents {
    /// Who brings them.
    pub hub: Offering,
    /// What that hub has, where it is less than this node holds: it is to be shown the rest.
    pub lacking: Option<HubHas>,
    /// Raises of the epoch, in the order in which they came: each is a step of its own.
    pub raises: Vec<Envelope>,
    /// Changes of this node's labels, in the order in which they came: each follows the one before.
    pub labels: Vec<Envelope>,
}

impl Documents {
    /// No document yet: only somebody from whom a newer authority can be had.
    #[must_use]
    pub const fn none(hub: Offering) -> Self {
        Self {
            hub,
            lacking: None,
            raises: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raises.is_empty() && self.labels.is_empty()
    }

    /// These, and then `newer` ones.
    #[must_use]
    pub fn and(mut self, newer: Self) -> Self {
        self.raises.extend(newer.raises);
        self.labels.extend(newer.labels);
        // Those beyond are dropped, and a hub sends them again over the next link.
        self.raises.truncate(RAISES_MAX);
        self.labels.truncate(LABELS_MAX);
        Self {
            lacking: newer.lacking.or(self.lacking),
            hub: newer.hub,
            raises: self.raises,
            labels: self.labels,
        }
    }
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
    /// Signed documents; to be taken before the offer, which may be judged by them.
    pub documents: Option<Documents>,
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

    /// Brings documents.
    pub fn documents(&self, newer: Documents) {
        let mut waiting = self.lock();
        let earlier = waiting.documents.take();
        waiting.documents = Some(match earlier {
            Some(earlier) => earlier.and(newer),
            None => newer,
        });
        drop(waiting);
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

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::node_link_client::NodeLinkClient;
    use tonic::transport::Endpoint;

    fn hub() -> Offering {
        let channel = Endpoint::from_static("http://nowhere").connect_lazy();
        let client = NodeLinkClient::new(channel.clone());
        let instance = String::new();
        Offering {
            client,
            channel,
            instance,
            on_this_machine: false,
        }
    }

    fn offer(payload: &[u8]) -> Offer {
        Offer {
            manifest: Envelope::unsigned(payload.to_vec()),
            hub: hub(),
        }
    }

    #[tokio::test]
    async fn a_newer_offer_takes_the_place_of_the_old_and_members_merge() {
        let inbox = Inbox::default();
        let members = |selector: &str, address: &str| {
            AddressSets::from([(selector.parse().unwrap(), [address.parse().unwrap()].into())])
        };
        inbox.members(members("role=web", "10.0.0.1"));
        inbox.offer(offer(b"old"));
        inbox.members(members("role=db", "10.0.0.2"));
        inbox.members(members("role=web", "10.0.0.3"));
        inbox.offer(offer(b"new"));
        let Arrived { members, offer, .. } = inbox.next().await;
        assert_eq!(offer.unwrap().manifest.payload, b"new");
        let web = &members[&"role=web".parse().unwrap()];
        assert!(members.len() == 2 && web.contains(&"10.0.0.3".parse().unwrap()) && web.len() == 1);
    }
    #[tokio::test]
    async fn raises_and_labels_keep_their_order_and_have_a_bound() {
        let inbox = Inbox::default();
        let document = |n: usize| Envelope::unsigned(n.to_string().into_bytes());
        inbox.documents(Documents::none(hub()));
        for n in 0..RAISES_MAX + 3 {
            inbox.documents(Documents {
                raises: vec![document(n)],
                labels: vec![document(n)],
                ..Documents::none(hub())
            });
        }
        let found = inbox.next().await.documents.unwrap();
        assert_eq!(found.raises, (0..RAISES_MAX).map(document).collect::<Vec<_>>());
        assert_eq!(found.labels, (0..LABELS_MAX).map(document).collect::<Vec<_>>());
    }
}
