//! Checkpoints: how far a hub's store had come, under the hub's own key. Nodes keep the newest, so that a hub whose store
//! went back learns of it from any of them.
//!
//! A revision alone would not do: a restored store soon counts past it again. So each start of a hub has a number and an
//! id of chance in the store, and a checkpoint names both. And it names the epoch: once operators raised it, they have
//! said that the history begins anew, and what was lost before that is not held against the hub any more.

use holdfast_proto::ids::{TrustDomain, UniqueId};
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, InvalidPayload, parse_payload, signed_bytes};
use crate::signing_key::SigningKey;

/// A place in the history of a hub's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Always `checkpoint`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The hub.
    pub hub: UniqueId,
    /// The hub's epoch.
    pub epoch: u64,
    /// Counts the starts of this hub on its store, from 1.
    pub start: u64,
    /// That start's own id.
    pub instance: UniqueId,
    /// The store's revision.
    pub revision: u64,
}

impl Payload for Checkpoint {
    const KIND: &'static str = "checkpoint";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 4 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// Why an envelope is no checkpoint of this hub.
#[derive(Debug, thiserror::Error)]
pub enum RefuseCheckpoint {
    /// Its signature is not by the hub's key.
    #[error("the checkpoint is not signed with this hub's key")]
    Signature,
    /// It cannot be read.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
}

impl Checkpoint {
    /// What orders the checkpoints of one hub: a node keeps the one with the highest.
    ///
    /// The epoch comes first, so that a restored hub's checkpoints take the place of those that it lost.
    #[must_use]
    pub const fn age(&self) -> (u64, u64, u64) {
        (self.epoch, self.start, self.revision)
    }

    /// The checkpoint in an envelope, signed with the hub's key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Envelope {
        let mut envelope =
            Envelope::unsigned(serde_json::to_vec(self).expect("a struct of texts and numbers"));
        key.sign(Self::KIND, &mut envelope);
        envelope
    }

    /// Verifies a checkpoint against the hub's own key, then parses the same bytes.
    ///
    /// # Errors
    /// [`RefuseCheckpoint`].
    pub fn verify(envelope: &Envelope, key: &SigningKey) -> Result<Self, RefuseCheckpoint> {
        let message = signed_bytes(Self::KIND, &envelope.payload);
        let good = envelope
            .signatures
            .iter()
            .take(crate::envelope::SIGNATURES_MAX)
            .any(|signature| {
                signature.key_id == key.key_id()
                    && signature
                        .algorithm
                        .verify(&key.public(), &message, &signature.signature)
            });
        if !good {
            return Err(RefuseCheckpoint::Signature);
        }
        Ok(parse_payload(&envelope.payload)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            kind: Checkpoint::KIND.to_owned(),
            format: Checkpoint::FORMAT,
            trust_domain: "lab.example".parse().unwrap(),
            hub: [1; 16].into(),
            epoch: 1,
            start: 2,
            instance: [2; 16].into(),
            revision: 300,
        }
    }

    #[test]
    fn a_checkpoint_counts_only_under_the_hubs_own_key() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let envelope = checkpoint().sign(&key);
        assert_eq!(Checkpoint::verify(&envelope, &key).unwrap(), checkpoint());
        let foreign = Checkpoint::verify(&checkpoint().sign(&other), &key);
        assert!(matches!(foreign, Err(RefuseCheckpoint::Signature)));
        let mut changed = envelope.clone();
        let at = changed.payload.len() - 3;
        changed.payload[at] ^= 1;
        assert!(matches!(
            Checkpoint::verify(&changed, &key),
            Err(RefuseCheckpoint::Signature)
        ));
        let mut other_kind = Envelope::unsigned(envelope.payload.clone());
        key.sign("release", &mut other_kind);
        assert!(matches!(
            Checkpoint::verify(&other_kind, &key),
            Err(RefuseCheckpoint::Signature)
        ));
    }

    #[test]
    fn a_raised_epoch_makes_every_checkpoint_before_it_older() {
        let lost = Checkpoint {
            start: 9,
            revision: 900,
            ..checkpoint()
        };
        let raised = Checkpoint {
            epoch: 2,
            start: 1,
            revision: 5,
            ..checkpoint()
        };
        assert!(raised.age() > lost.age() && lost.age() > checkpoint().age());
    }
}
