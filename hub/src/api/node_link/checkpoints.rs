//! Checkpoints on a link: the one that the node shows is judged, and it is given the newest of this run.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_pki::checkpoint::Checkpoint;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Digest;
use holdfast_proto::v1::{self, hub_message};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::Link;
use crate::api::told;
use crate::checkpoints::JudgeCheckpoint;
use crate::hold::Finding;

/// A busy operator makes a change a second; a node's disk need not follow each.
const EVERY: Duration = Duration::from_secs(10);

/// Which checkpoint the node was given, and when it may have the next.
#[derive(Debug)]
pub(super) struct Given {
    newest: watch::Receiver<(Checkpoint, Envelope)>,
    digest: Option<Digest>,
    not_before: Instant,
}

impl Given {
    /// None yet: the first is due at once.
    pub(super) fn none(newest: watch::Receiver<(Checkpoint, Envelope)>) -> Self {
        Self {
            newest,
            digest: None,
            not_before: Instant::now(),
        }
    }

    /// The next checkpoint once it is due; none if there will be no other. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> Option<v1::Checkpoint> {
        let given = self.digest;
        let is_new = |(_, newest): &(Checkpoint, Envelope)| Some(newest.digest()) != given;
        self.newest.wait_for(is_new).await.ok()?;
        tokio::time::sleep_until(self.not_before).await;
        let newest = self.newest.borrow();
        self.digest = Some(newest.1.digest());
        self.not_before = Instant::now() + EVERY;
        Some(v1::Checkpoint {
            document: Some((&newest.1).into()),
        })
    }
}

impl Link {
    /// Holds if the node shows a checkpoint of a history that this store does not know.
    pub(super) async fn judge_checkpoint(&self, shown: v1::Envelope) -> Result<(), Status> {
        // What is no checkpoint of this hub, or none at all, says nothing of its history.
        let ignored = |reason: String| {
            tracing::warn!(node.id = %self.node.id, reason, "the node's checkpoint is not this hub's");
            Ok(())
        };
        let shown = match Envelope::try_from(shown) {
            Ok(shown) => shown,
            Err(error) => return ignored(told(&error)),
        };
        match self.hub.checkpoints.above(&shown).await {
            Ok(None) => Ok(()),
            Ok(Some(shown)) => {
                let finding = format!(
                    "node '{}' showed a checkpoint under this hub's own key (start {}, revision {}) of which its store knows nothing",
                    self.node.name, shown.start, shown.revision
                );
                let findings = BTreeMap::from([(Finding::Checkpoint, finding)]);
                self.hub.hold_for(&self.caller, findings).await
            }
            Err(error @ JudgeCheckpoint::Refused(_)) => ignored(told(&error)),
            Err(JudgeCheckpoint::Registry(error)) => Err(error.into()),
        }
    }

    /// Gives the node a checkpoint to keep.
    pub(super) async fn give_checkpoint(&self, checkpoint: v1::Checkpoint) -> Result<(), Status> {
        self.say(0, hub_message::Kind::Checkpoint(checkpoint)).await
    }
}
