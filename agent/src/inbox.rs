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

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::v1::node_link_client::NodeLinkClient;
    use tonic::transport::Endpoint;

    fn offer(payload: &[u8]) -> Offer {
        let channel = Endpoint::from_static("http://nowhere").connect_lazy();
        let client = NodeLinkClient::new(channel.clone());
        let instance = String::new();
        let hub = Offering {
            client,
            channel,
            instance,
            on_this_machine: false,
        };
        Offer {
            manifest: Envelope::unsigned(payload.to_vec()),
            hub,
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
        let Arrived { members, offer } = inbox.next().await;
        assert_eq!(offer.unwrap().manifest.payload, b"new");
        let web = &members[&"role=web".parse().unwrap()];
        assert!(members.len() == 2 && web.contains(&"10.0.0.3".parse().unwrap()) && web.len() == 1);
    }
}
