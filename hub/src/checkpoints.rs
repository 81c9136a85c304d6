//! Checkpoints of this hub's own history: given to nodes, and judged when nodes show them again.
//!
//! Keys: `start/<n>` holds the id of the n-th start of a hub on this store, committed before it serves. A checkpoint names
//! a start and a revision. So a store that went back is told apart from one that only restarted, however far it has
//! counted since: the start is unknown, or has another id, or had not come that far when the next one began.

use std::path::PathBuf;

use holdfast_pki::checkpoint::{Checkpoint, RefuseCheckpoint};
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files::Files;
use holdfast_pki::signing_key::{OpenSigningKey, SigningKey};
use holdfast_proto::ids::{InvalidId, UniqueId};
use holdfast_proto::payload::{Payload as _, format_1};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Config, HubDir};
use crate::epoch;
use crate::registry::{Registry, RegistryError, to_record};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::key::{Key, Revision};
use crate::store::txn::{Precondition, Txn};

const PREFIX: &str = "start/";

/// The key of the n-th start.
#[must_use]
pub fn key(start: u64) -> Key {
    format!("{PREFIX}{start:020}").into()
}

/// A start of a hub on this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartRecord {
    #[serde(deserialize_with = "format_1")]
    format: u32,
    instance: UniqueId,
}

/// Why there is no key to sign checkpoints with.
#[derive(Debug, thiserror::Error)]
pub enum LoadKey {
    /// The file cannot be read.
    #[error("cannot read {}, the key of this hub's checkpoints; put it back from a copy of the hub's directory", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no such key.
    #[error("{} holds no key of ours", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: OpenSigningKey,
    },
}

/// Reads the key that signs this hub's checkpoints.
///
/// # Errors
/// [`LoadKey`] names the file.
pub fn load_key(dir: &HubDir, files: &dyn Files) -> Result<SigningKey, LoadKey> {
    let path = dir.checkpoint_key();
    let bytes = match files.read(&path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(source) => return Err(LoadKey::Read { path, source }),
    };
    SigningKey::from_file(&bytes, None).map_err(|source| LoadKey::Content { path, source })
}

/// What this store knows of the start that a checkpoint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The store's epoch.
    pub epoch: u64,
    /// The start's own id and the last revision of its run, if there was such a start.
    pub start: Option<(UniqueId, Revision)>,
}

/// Whether `shown`, a checkpoint under this hub's own key, tells of something that this history does not know.
///
/// Another epoch says nothing: one that was raised since is an operator's word that what was lost before it does not count
/// any more, and one that this hub has not reached is told by the raise itself, under operators' signatures. This hub's
/// key alone must not hold it for ever: whoever once had the key could name an epoch that nobody ever raises.
#[must_use]
pub fn is_above(history: &History, shown: &Checkpoint) -> bool {
    if shown.epoch != history.epoch {
        return false;
    }
    history
        .start
        .is_none_or(|(instance, last)| instance != shown.instance || shown.revision > last.get())
}

/// This run of the hub as a part of its history.
#[derive(Debug)]
pub struct Checkpoints {
    registry: Registry,
    key: SigningKey,
    newest: watch::Sender<(Checkpoint, Envelope)>,
}

impl Checkpoints {
    /// Writes down that a new run begins: from here on its checkpoints can be judged.
    ///
    /// # Errors
    /// [`RegistryError`] from the store.
    pub async fn begin(
        registry: Registry,
        config: &Config,
        key: SigningKey,
        instance: UniqueId,
        audit: (&AuditId, &AuditEntry),
    ) -> Result<Self, RegistryError> {
        let start = last_start(&registry).await?.saturating_add(1);
        let record = StartRecord { format: 1, instance };
        let txn = Txn::new(audit.0, audit.1)
            .require(self::key(start), Precondition::Absent)
            .put(self::key(start), to_record(&record));
        let revision = registry.store().commit(txn).await?;
        let checkpoint = Checkpoint {
            kind: Checkpoint::KIND.to_owned(),
            format: Checkpoint::FORMAT,
            trust_domain: config.trust_domain.clone(),
            hub: config.hub_id,
            epoch: epoch::current(&registry).await?,
            start,
            instance,
            revision: revision.get(),
        };
        let envelope = checkpoint.sign(&key);
        Ok(Self {
            registry,
            key,
            newest: watch::Sender::new((checkpoint, envelope)),
        })
    }

    /// Signs a checkpoint of the store as it is now. Called once a change that operators made is durable, for that is
    /// what a fleet must not lose; not for what nodes say.
    ///
    /// # Errors
    /// [`RegistryError`] from the store. The next checkpoint tells of the change as well.
    pub async fn advance(&self) -> Result<(), RegistryError> {
        let (epoch, revision) = (
            epoch::current(&self.registry).await?,
            self.registry.revision().await?,
        );
        let checkpoint = Checkpoint {
            epoch,
            revision: revision.get(),
            ..self.newest.borrow().0.clone()
        };
        let envelope = checkpoint.sign(&self.key);
        self.newest.send_if_modified(|held| {
            // Of two changes at once the later may have come here first.
            let newer = held.0.age() < checkpoint.age();
            if newer {
                *held = (checkpoint, envelope);
            }
            newer
        });
        Ok(())
    }

    /// The newest checkpoint, now and whenever there is another.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<(Checkpoint, Envelope)> {
        self.newest.subscribe()
    }

    /// Reads a checkpoint that a node shows, if it tells of something that this store does not know.
    ///
    /// # Errors
    /// [`JudgeCheckpoint`] if it is not under this hub's key, or the store does not answer.
    pub async fn above(&self, envelope: &Envelope) -> Result<Option<Checkpoint>, JudgeCheckpoint> {
        let shown = Checkpoint::verify(envelope, &self.key)?;
        let record = self.registry.record::<StartRecord>(&key(shown.start)).await?;
        let start = match record {
            None => None,
            Some(record) => {
                let next = self
                    .registry
                    .record::<StartRecord>(&key(shown.start.saturating_add(1)))
                    .await?;
                let last = match next {
                    // The next run's first transaction is not of this one.
                    Some(next) => Revision::new(next.revision.get().saturating_sub(1)),
                    None => self.registry.revision().await?,
                };
                Some((record.value.instance, last))
            }
        };
        let history = History {
            epoch: epoch::current(&self.registry).await?,
            start,
        };
        Ok(is_above(&history, &shown).then_some(shown))
    }
}

/// Why a checkpoint says nothing.
#[derive(Debug, thiserror::Error)]
pub enum JudgeCheckpoint {
    /// It is not this hub's.
    #[error(transparent)]
    Refused(#[from] RefuseCheckpoint),
    /// The store does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

async fn last_start(registry: &Registry) -> Result<u64, RegistryError> {
    let starts = registry.all(PREFIX).await?;
    let Some(last) = starts.last() else {
        return Ok(0);
    };
    let digits = last.key.strip_prefix(PREFIX).unwrap_or_default();
    digits.parse().map_err(|_| RegistryError::Key {
        key: last.key.clone(),
        source: InvalidId::new("start", digits, "20 digits wanted"),
    })
}

#[cfg(test)]
mod tests;
