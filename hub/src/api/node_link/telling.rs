//! What a node is told over its link: each thing once, and in the order in which it can use them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::ids::Name;
use holdfast_proto::v1::{self, hub_message};
use tonic::Status;

use super::Link;
use crate::director::{self, Directions, Refusals, sets_for};
use crate::releases::{self, Release};
use crate::{epoch, hold, labels};

/// What a node was told over this link, or said that it knows.
#[derive(Debug, Default)]
pub(super) struct Told {
    authority: u64,
    labels: u64,
    epoch: u64,
    release: Option<Arc<Release>>,
    sets: Option<v1::AddressSets>,
    refused: BTreeMap<IpAddr, Name>,
}

impl Told {
    /// What the node knows before it is told anything.
    pub(super) fn at_hello(hello: &v1::NodeHello) -> Self {
        Self {
            authority: hello.authority_version,
            // What a join grant gave needs no telling: a node has it from its token.
            labels: hello.labels_version.max(labels::FIRST),
            epoch: hello.epoch,
            ..Self::default()
        }
    }
}

impl Link {
    /// What this hub has: a node that holds more shows it.
    pub(super) async fn hub_hello(&self) -> Result<v1::HubHello, Status> {
        let registry = &self.hub.registry;
        let current = releases::named_current(registry).await?;
        Ok(v1::HubHello {
            hub_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: PROTOCOL_VERSION,
            instance_id: self.hub.instance.to_string(),
            serving_since_secs: self.hub.serving_since_secs,
            features: Vec::new(),
            current: current.map(|(generation, _)| generation.into()),
            authority_version: self.hub.authority().await?.document().version,
            epoch: epoch::current(registry).await?,
        })
    }

    /// Tells the node what it should have, as far as it was not told: the raises that led to the fleet's epoch, then
    /// members, so that the release that needs them finds them there, then the release.
    pub(super) async fn direct(&self, directions: Directions, told: &mut Told) -> Result<(), Status> {
        self.tell_epoch(directions.epoch, told).await?;
        self.tell_refused(&directions.refusals, told).await?;
        let Some(release) = directions.release else {
            return Ok(());
        };
        // Looked up each time: a hold counts from the moment in which it is on disk.
        if hold::read(&self.hub.registry).await?.is_some() {
            return Ok(());
        }
        let sets = sets_for(&release, &self.node.labels, &directions.members);
        if told.sets.as_ref() != Some(&sets) {
            self.say(0, hub_message::Kind::AddressSets(sets.clone())).await?;
            told.sets = Some(sets);
        }
        // The same manifest with more signatures is offered anew: a node that refused it for them may take it now.
        if told
            .release
            .as_ref()
            .is_some_and(|told| Arc::ptr_eq(told, &release))
        {
            return Ok(());
        }
        let current = release.manifest.generation();
        if self.accepted.is_some_and(|accepted| accepted > current) {
            // A release may be returned from, but a hub that merely forgot the newer one must not bring it about.
            tracing::error!(
                node.id = %self.node.id,
                accepted = self.accepted.map(|accepted| accepted.to_string()),
                %current,
                "the node has accepted a newer release than this hub knows: was an old backup restored? nothing is offered"
            );
        } else {
            let offer = v1::ReleaseOffer {
                manifest: Some((&release.envelope).into()),
            };
            self.say(0, hub_message::Kind::ReleaseOffer(offer)).await?;
        }
        told.release = Some(release);
        Ok(())
    }

    /// Tells the node what leads to its newest labels, and the release anew if they changed: other slices of it may be for
    /// the node.
    pub(super) async fn tell_labels(&self, told: &mut Told) -> Result<(), Status> {
        if self.node.labels_version <= told.labels {
            return Ok(());
        }
        for change in labels::changes_after(&self.hub.registry, &self.node.id, told.labels).await? {
            let document = Some((&change).into());
            self.say(0, hub_message::Kind::LabelChange(v1::LabelChange { document }))
                .await?;
        }
        told.labels = self.node.labels_version;
        told.release = None;
        told.sets = None;
        Ok(())
    }

    async fn tell_epoch(&self, epoch: u64, told: &mut Told) -> Result<(), Status> {
        if epoch <= told.epoch {
            return Ok(());
        }
        for (new, raise) in epoch::raises_above(&self.hub.registry, told.epoch).await? {
            let raise = v1::EpochRaise {
                document: Some((&raise).into()),
            };
            self.say(0, hub_message::Kind::EpochRaise(raise)).await?;
            told.epoch = new;
        }
        Ok(())
    }

    /// Tells the node which of its addresses are refused, whenever that changes.
    async fn tell_refused(&self, refusals: &Refusals, told: &mut Told) -> Result<(), Status> {
        let refused = refusals.get(&self.node.id).cloned().unwrap_or_default();
        if refused != told.refused {
            let addresses = v1::AddressesRefused {
                addresses: director::refused_on_the_wire(&refused),
            };
            self.say(0, hub_message::Kind::AddressesRefused(addresses))
                .await?;
            told.refused = refused;
        }
        Ok(())
    }

    /// Tells the node that there is a newer authority to be walked to.
    pub(super) async fn tell_authority(&self, version: u64, told: &mut Told) -> Result<(), Status> {
        if version > told.authority {
            let advanced = v1::AuthorityAdvanced { version };
            self.say(0, hub_message::Kind::AuthorityAdvanced(advanced))
                .await?;
            told.authority = version;
        }
        Ok(())
    }
}
