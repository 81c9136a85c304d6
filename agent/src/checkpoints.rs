//! Checkpoints that hubs gave this node: the newest of each, kept and shown to that hub again, so that one whose store
//! went back learns of it.
//!
//! They are signed with the hub's own key, which no node can verify: so a checkpoint is taken only from the hub that it
//! names, by the certificate of the link that it came over, and only in the place of an older one. Nothing here steers
//! this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::checkpoint::Checkpoint;
use holdfast_pki::envelope::{Envelope, InvalidPayload, parse_payload};
use holdfast_pki::files::Files;
use holdfast_proto::ids::UniqueId;
use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

const FILE: &str = "checkpoint.json";
/// The most hubs whose checkpoints are kept. Those that are known stay: a taken hub that takes ever new names must not
/// crowd them out.
const HUBS_MAX: usize = 8;
/// The most bytes of a checkpoint's signatures: the hub's is one of 64 bytes.
const SIGNATURE_BYTES_MAX: usize = 1024;
/// The file is not written more often than this: a hub that makes checkpoints without end must not wear out the disk.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// The newest checkpoint of each hub.
#[derive(Debug)]
pub struct Checkpoints {
    newest: BTreeMap<UniqueId, Envelope>,
    path: PathBuf,
    files: Arc<dyn Files>,
    /// Whether something is not on disk yet.
    is_unsaved: bool,
    /// When the file was last written, since boot.
    saved: Option<Duration>,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "format_1")]
    format: u32,
    hubs: BTreeMap<UniqueId, Envelope>,
}

/// Why a checkpoint is not kept.
#[derive(Debug, thiserror::Error)]
pub enum RefuseCheckpoint {
    /// It is none.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// It speaks of another hub than the one that gave it.
    #[error("hub {from} gave a checkpoint of hub {named}")]
    Hub {
        /// Who gave it.
        from: UniqueId,
        /// Of whom it speaks.
        named: UniqueId,
    },
    /// Its signatures are larger than any of a hub's.
    #[error("the checkpoint's signatures have {0} bytes, more than the {SIGNATURE_BYTES_MAX} that are kept")]
    Signatures(usize),
    /// Others have the places.
    #[error(
        "checkpoints of {HUBS_MAX} hubs are kept already; if hubs were replaced, remove {FILE} from the state directory"
    )]
    Hubs,
}

impl Checkpoints {
    /// Those in the state directory; none, if they cannot be read: hubs give them again.
    #[must_use]
    pub fn load(state_dir: &Path, files: Arc<dyn Files>) -> Self {
        let path = state_dir.join(FILE);
        let bytes = files.read(&path).unwrap_or_default();
        let written = serde_json::from_slice(&bytes);
        Self {
            newest: written.map(|written: Written| written.hubs).unwrap_or_default(),
            path,
            files,
            is_unsaved: false,
            saved: None,
        }
    }

    /// The newest of `hub`.
    #[must_use]
    pub fn of(&self, hub: UniqueId) -> Option<&Envelope> {
        self.newest.get(&hub)
    }

    /// Takes what the hub `from` gave, if it is newer than what is held, on a node in `epoch`.
    ///
    /// # Errors
    /// [`RefuseCheckpoint`].
    pub fn take(
        &mut self,
        from: UniqueId,
        offered: Envelope,
        epoch: u64,
        now: Duration,
    ) -> Result<(), RefuseCheckpoint> {
        let checkpoint: Checkpoint = parse_payload(&offered.payload)?;
        if checkpoint.hub != from {
            let named = checkpoint.hub;
            return Err(RefuseCheckpoint::Hub { from, named });
        }
        let bytes = offered
            .signatures
            .iter()
            .map(|signature| signature.signature.len());
        let bytes = bytes.sum();
        if bytes > SIGNATURE_BYTES_MAX {
            return Err(RefuseCheckpoint::Signatures(bytes));
        }
        // One of an epoch that no operator raised gives way to any other: whoever once had a hub's key must not keep the
        // hub's own checkpoints out for ever.
        let known = |checkpoint: &Checkpoint| (checkpoint.epoch <= epoch).then(|| checkpoint.age());
        let held = self
            .newest
            .get(&from)
            .map(|held| read(held).and_then(|held| known(&held)));
        if held.is_none() && self.newest.len() >= HUBS_MAX {
            return Err(RefuseCheckpoint::Hubs);
        }
        if held.flatten().is_none_or(|held| known(&checkpoint) > Some(held)) {
            self.newest.insert(from, offered);
            self.is_unsaved = true;
            self.save_if_due(now);
        }
        Ok(())
    }

    /// Writes what is not on disk yet, unless the file was written just now.
    pub fn save_if_due(&mut self, now: Duration) {
        if self
            .saved
            .is_none_or(|saved| now.saturating_sub(saved) >= WRITE_EVERY)
        {
            self.save(now);
        }
    }

    /// Writes what is not on disk yet.
    pub fn save(&mut self, now: Duration) {
        if !self.is_unsaved {
            return;
        }
        let written = Written {
            format: 1,
            hubs: self.newest.clone(),
        };
        let bytes = serde_json::to_vec(&written).expect("texts and numbers");
        match self.files.write_atomic(&self.path, &bytes, 0o600) {
            Ok(()) => self.is_unsaved = false,
            Err(error) => tracing::warn!(%error, file = FILE, "a hub's checkpoint is not saved yet"),
        }
        self.saved = Some(now);
    }
}

/// A checkpoint that is held; none if this version cannot read it.
fn read(held: &Envelope) -> Option<Checkpoint> {
    parse_payload(&held.payload).ok()
}

#[cfg(test)]
mod tests {
    use holdfast_pki::files_testing::FaultFiles;
    use holdfast_pki::signing_key::SigningKey;
    use holdfast_proto::payload::Payload as _;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::fleet;

    const NOW: Duration = Duration::from_secs(100);
    /// Which operators have raised.
    const EPOCH: u64 = 2;

    fn hub(n: u8) -> UniqueId {
        [n; 16].into()
    }

    fn checkpoint(of: UniqueId, (epoch, start, revision): (u64, u64, u64)) -> Envelope {
        let checkpoint = Checkpoint {
            kind: Checkpoint::KIND.to_owned(),
            format: 1,
            trust_domain: fleet(),
            hub: of,
            epoch,
            start,
            instance: [start as u8; 16].into(),
            revision,
        };
        checkpoint.sign(&SigningKey::generate())
    }

    fn age(held: &Envelope) -> Option<(u64, u64, u64)> {
        read(held).map(|held| held.age())
    }

    fn empty(files: &FaultFiles) -> Checkpoints {
        Checkpoints::load(Path::new("/state"), Arc::new(files.clone()))
    }

    #[test]
    fn an_older_checkpoint_does_not_take_the_place_of_a_newer_one() {
        let mut kept = empty(&FaultFiles::new());
        let newest = checkpoint(hub(1), (1, 3, 50));
        kept.take(hub(1), newest.clone(), EPOCH, NOW).unwrap();
        for older in [(1, 3, 49), (1, 3, 50), (1, 2, 900), (0, 9, 900)] {
            kept.take(hub(1), checkpoint(hub(1), older), EPOCH, NOW).unwrap();
            assert_eq!(kept.of(hub(1)), Some(&newest), "{older:?}");
        }
        for newer in [(1, 3, 51), (1, 4, 1), (2, 1, 1)] {
            let newer = checkpoint(hub(1), newer);
            kept.take(hub(1), newer.clone(), EPOCH, NOW).unwrap();
            assert_eq!(kept.of(hub(1)), Some(&newer));
        }
    }

    #[test]
    fn a_checkpoint_of_an_epoch_that_no_operator_raised_keeps_no_honest_one_out() {
        let mut kept = empty(&FaultFiles::new());
        let planted = checkpoint(hub(1), (u64::MAX, u64::MAX, u64::MAX));
        kept.take(hub(1), planted.clone(), EPOCH, NOW).unwrap();
        let honest = checkpoint(hub(1), (1, 1, 1));
        kept.take(hub(1), honest.clone(), EPOCH, NOW).unwrap();
        assert_eq!(kept.of(hub(1)), Some(&honest));
        kept.take(hub(1), planted, EPOCH, NOW).unwrap();
        assert_eq!(kept.of(hub(1)), Some(&honest));
    }

    #[test]
    fn a_hub_speaks_for_itself_alone_and_cannot_crowd_others_out() {
        let mut kept = empty(&FaultFiles::new());
        let of_one = checkpoint(hub(1), (1, 1, 1));
        kept.take(hub(1), of_one.clone(), EPOCH, NOW).unwrap();
        let forged = checkpoint(hub(1), (9, 9, 9));
        assert!(matches!(
            kept.take(hub(2), forged, EPOCH, NOW),
            Err(RefuseCheckpoint::Hub { .. })
        ));
        for n in 2..=40 {
            let taken = kept.take(hub(n), checkpoint(hub(n), (1, 1, 1)), EPOCH, NOW);
            assert_eq!(taken.is_ok(), usize::from(n) <= HUBS_MAX, "hub {n}");
        }
        assert_eq!(kept.of(hub(1)), Some(&of_one));
        assert_eq!(kept.newest.len(), HUBS_MAX);
    }

    #[test]
    fn a_checkpoint_that_is_none_or_far_too_large_is_refused() {
        let mut kept = empty(&FaultFiles::new());
        let mut large = checkpoint(hub(1), (1, 1, 1));
        large.signatures[0].signature = vec![0; SIGNATURE_BYTES_MAX + 1];
        assert!(matches!(
            kept.take(hub(1), large, EPOCH, NOW),
            Err(RefuseCheckpoint::Signatures(_))
        ));
        for payload in [Vec::new(), b"{}".to_vec(), vec![b' '; 100_000]] {
            let none = Envelope::unsigned(payload);
            assert!(matches!(
                kept.take(hub(1), none, EPOCH, NOW),
                Err(RefuseCheckpoint::Payload(_))
            ));
        }
        assert_eq!(kept.of(hub(1)), None);
    }

    #[test]
    fn the_newest_are_there_after_a_restart_and_a_flood_hardly_writes() {
        let files = FaultFiles::new();
        let mut kept = empty(&files);
        for revision in 1..=1000 {
            kept.take(hub(1), checkpoint(hub(1), (1, 1, revision)), EPOCH, NOW)
                .unwrap();
        }
        assert_eq!(files.calls(), 1, "a thousand within a moment");
        kept.save_if_due(NOW + WRITE_EVERY);
        kept.save_if_due(NOW + WRITE_EVERY * 2);
        assert_eq!(files.calls(), 2, "what did not change is not written");
        let newest = kept.of(hub(1)).unwrap();
        assert_eq!(age(newest), Some((1, 1, 1000)));
        assert_eq!(empty(&files).of(hub(1)), Some(newest));
        files
            .write_atomic(Path::new("/state/checkpoint.json"), b"{", 0o600)
            .unwrap();
        assert_eq!(empty(&files).of(hub(1)), None, "a damaged file stops nothing");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_the_newest_is_kept(
            ages in prop::collection::vec((0_u64..3, 0_u64..3, 0_u64..3), 1..20)
        ) {
            let mut kept = empty(&FaultFiles::new());
            for age in &ages {
                kept.take(hub(1), checkpoint(hub(1), *age), EPOCH, NOW).unwrap();
            }
            prop_assert_eq!(kept.of(hub(1)).and_then(age), ages.into_iter().max());
        }
    }
}
