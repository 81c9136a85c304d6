//! What becomes of each message that a hub sends down its link: most goes into the keeper's inbox.

use holdfast_pki::envelope::Envelope;
use holdfast_proto::v1::{self, hub_message};

use super::outbox::Outbox;
use super::serving::Serving;
use super::{Link, refused};
use crate::host::Chain;
use crate::inbox::{Documents, Offer};
use crate::members;

impl Link {
    /// Takes one message.
    ///
    /// # Errors
    /// Why the link ends with it.
    pub(super) async fn take(
        &mut self,
        message: v1::HubMessage,
        serving: &mut Serving,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        let id = message.request_id;
        match message.kind {
            Some(hub_message::Kind::ReleaseOffer(offer)) => {
                if let Some(manifest) = readable(offer.manifest, "a release") {
                    let hub = serving.offering();
                    self.inbox.offer(Offer { manifest, hub });
                }
            }
            Some(hub_message::Kind::AddressSets(sets)) => self.inbox.members(members::from_wire(sets)),
            Some(hub_message::Kind::Probe(probe)) => serving.probe(id, probe).await?,
            Some(hub_message::Kind::Acknowledged(_)) => outbox.acknowledged(id),
            Some(hub_message::Kind::Removed(removed)) => {
                let reason: String = removed.reason.chars().take(200).collect();
                return Err(format!("the hub removed this node: {reason}"));
            }
            Some(hub_message::Kind::Hello(_)) => return Err("the hub said hello twice".to_owned()),
            Some(hub_message::Kind::Unsupported(unsupported)) => {
                tracing::info!(detail = unsupported.detail, "the hub does not know a message");
                outbox.acknowledged(id);
            }
            Some(hub_message::Kind::LabelChange(change)) => {
                let labels = readable(change.document, "a change of labels")
                    .into_iter()
                    .collect();
                self.inbox.documents(Documents {
                    labels,
                    ..Documents::none(serving.offering())
                });
            }
            Some(hub_message::Kind::EpochRaise(raise)) => {
                let raises = readable(raise.document, "a raise of the epoch")
                    .into_iter()
                    .collect();
                self.inbox.documents(Documents {
                    raises,
                    ..Documents::none(serving.offering())
                });
            }
            Some(hub_message::Kind::AuthorityAdvanced(_)) => {
                // Which version it says is of no use: what can be walked to counts.
                self.inbox.documents(Documents::none(serving.offering()));
            }
            Some(hub_message::Kind::Checkpoint(checkpoint)) => {
                if let Some(document) = readable(checkpoint.document, "a checkpoint") {
                    self.keep_checkpoint(serving, document);
                }
            }
            Some(hub_message::Kind::AddressesRefused(refused)) => refused::tell(&refused),
            None => {
                let detail = "this agent does not know this kind of message";
                serving.up.unsupported(id, detail).await?;
            }
        }
        Ok(())
    }

    fn keep_checkpoint(&mut self, serving: &Serving, document: Envelope) {
        let (from, now) = (serving.connection.hub, self.clock.since_boot());
        let epoch = self.held.borrow().epoch;
        if let Err(error) = self.checkpoints.take(from, document, epoch, now) {
            tracing::warn!(error = %Chain(&error), "a checkpoint is not kept");
        }
    }
}

/// A signed document off the wire. One that cannot even be read is told in the log and passed over: the link goes on.
fn readable(envelope: Option<v1::Envelope>, what: &'static str) -> Option<Envelope> {
    Envelope::try_from(envelope)
        .inspect_err(|error| tracing::warn!(error = %Chain(error), what, "the hub sent a document that cannot be read"))
        .ok()
}
