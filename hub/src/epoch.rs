//! The fleet's epoch: how many times operators said that its history begins anew.
//!
//! Keys: `epoch/<new>` holds the envelope of the raise that began the epoch `new`. The current epoch is the highest there;
//! a fleet begins with the first, which no document raised.

use holdfast_pki::authority::{Act, RefuseEnvelope, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::ids::{Digest, InvalidId};

use crate::registry::{Registry, RegistryError, Versioned, read_record};
use crate::store::key::{Entry, Key};

const PREFIX: &str = "epoch/";
/// The epoch of a fleet whose history never began anew.
pub const FIRST: u64 = 1;

/// The key of the raise to the epoch `new`.
#[must_use]
pub fn key(new: u64) -> Key {
    format!("{PREFIX}{new:020}").into()
}

/// The current epoch.
///
/// # Errors
/// [`RegistryError`] from the store, or for a key that cannot be read.
pub async fn current(registry: &Registry) -> Result<u64, RegistryError> {
    let raises = registry.all(PREFIX).await?;
    raises.last().map_or(Ok(FIRST), number)
}

/// Every raise above `held`, in the order in which a node follows them.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn raises_above(registry: &Registry, held: u64) -> Result<Vec<(u64, Envelope)>, RegistryError> {
    let mut raises = Vec::new();
    // A handful in a fleet's life: each is a hub that was restored.
    for entry in registry.all(PREFIX).await? {
        let new = number(&entry)?;
        if new > held {
            raises.push((new, read_record(&entry)?));
        }
    }
    Ok(raises)
}

/// The raise of this digest, with the revision that wrote it, if the fleet has followed it: one more operator may sign it,
/// for nodes that have yet to follow it when those who signed it first are listed no more.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn followed(
    registry: &Registry,
    digest: Digest,
) -> Result<Option<(Key, Versioned<Envelope>)>, RegistryError> {
    for entry in registry.all(PREFIX).await? {
        let envelope: Envelope = read_record(&entry)?;
        if envelope.digest() == digest {
            let (key, revision) = (entry.key, entry.revision);
            return Ok(Some((
                key,
                Versioned {
                    value: envelope,
                    revision,
                },
            )));
        }
    }
    Ok(None)
}

fn number(entry: &Entry) -> Result<u64, RegistryError> {
    let digits = entry.key.strip_prefix(PREFIX).unwrap_or_default();
    digits.parse().map_err(|_| RegistryError::Key {
        key: entry.key.clone(),
        source: InvalidId::new("epoch", digits, "20 digits wanted"),
    })
}

/// Why an epoch is not raised.
#[derive(Debug, thiserror::Error)]
pub enum RefuseRaise {
    /// Its signatures do not hold.
    #[error(transparent)]
    Envelope(#[from] RefuseEnvelope),
    /// It does not lead from the current epoch to the next.
    #[error(
        "the raise leads from epoch {old} to {new}, the fleet is at {current}: look at `holdfast epoch show`, then sign anew"
    )]
    NotNext {
        /// The epoch that it ends.
        old: u64,
        /// The epoch that it begins.
        new: u64,
        /// The fleet's epoch.
        current: u64,
    },
}

/// Reads a raise that operators signed, if it is the one after `current` in the authority's own fleet.
///
/// # Errors
/// [`RefuseRaise`] says what is wrong with it.
pub fn verify(
    authority: &TrustedAuthority,
    envelope: &Envelope,
    current: u64,
    now_secs: u64,
) -> Result<Verified<EpochRaise>, RefuseRaise> {
    let verified: Verified<EpochRaise> = authority.verify(envelope, &Act::Epoch, now_secs)?;
    let (raise, fleet) = (verified.value(), &authority.document().trust_domain);
    if raise.follows(fleet, current) {
        return Ok(verified);
    }
    Err(RefuseRaise::NotNext {
        old: raise.old,
        new: raise.new,
        current,
    })
}
