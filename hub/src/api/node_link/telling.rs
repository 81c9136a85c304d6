//! What a node is told over its link: each thing once, and in the order in which it can use them.

use holdfast_proto::ids::Digest;
use holdfast_proto::v1::{self, hub_message};
use tonic::Status;

use super::Link;
use crate::director::{Directions, sets_for};

/// What a node was told over this link.
#[derive(Debug, Default)]
pub(super) struct Told {
    release: Option<Digest>,
    sets: Option<v1::AddressSets>,
}

impl Link {
    /// Tells the node what it should have, as far as it was not told: members first, so that the release that needs them
    /// finds them there.
    pub(super) async fn direct(&self, directions: Directions, told: &mut Told) -> Result<(), Status> {
        let Some(release) = directions.release else {
            return Ok(());
        };
        let sets = sets_for(&release, &self.node.labels, &directions.members);
        if told.sets.as_ref() != Some(&sets) {
            self.say(0, hub_message::Kind::AddressSets(sets.clone())).await?;
            told.sets = Some(sets);
        }
        if self
            .accepted
            .is_some_and(|accepted| accepted > release.manifest.generation())
        {
            // A release may be returned from, but a hub that merely forgot the newer one must not bring it about.
            if told.release.replace(release.digest).is_none() {
                tracing::error!(
                    node.id = %self.node.id,
                    accepted = self.accepted.map(|accepted| accepted.to_string()),
                    current = %release.manifest.generation(),
                    "the node has accepted a newer release than this hub knows: was an old backup restored? nothing is offered"
                );
            }
        } else if told.release != Some(release.digest) {
            let offer = v1::ReleaseOffer {
                manifest: Some((&release.envelope).into()),
            };
            self.say(0, hub_message::Kind::ReleaseOffer(offer)).await?;
            told.release = Some(release.digest);
        }
        Ok(())
    }
}
