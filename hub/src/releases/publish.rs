//! How a signed manifest becomes the current release, and how the current one gets further signatures.
//!
//! What the hub checks here every agent checks again. Both happen only while there is no hold, in the fleet's own epoch,
//! and their transactions require that this is still so.

use std::sync::Arc;

use holdfast_pki::authority::{Act, TrustedAuthority};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::{Digest, Generation};

use super::{CURRENT, Current, Release, ReleaseError, current_record, read_slices, release_key};
use crate::registry::{Registry, Versioned, to_record};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::txn::{CommitError, Precondition, Txn};
use crate::{drafts, endorsement, epoch, hold};

/// Makes a signed manifest the current release.
///
/// # Errors
/// [`ReleaseError`] says why it was not taken. Nothing was changed then.
pub async fn publish(
    registry: &Registry,
    authority: &TrustedAuthority,
    envelope: &Envelope,
    now_secs: u64,
    audit: (&AuditId, &AuditEntry),
) -> Result<Arc<Release>, ReleaseError> {
    let verified: Verified<Manifest> = authority.verify(envelope, &Act::Release, now_secs)?;
    let (manifest, newest) = (verified.value(), authority.document());
    if manifest.authority_version != newest.version {
        return Err(ReleaseError::AuthorityVersion {
            named: manifest.authority_version,
            newest: newest.version,
        });
    }
    let offered = manifest.generation();
    must_be_taken_now(registry, offered).await?;
    let current = current_record(registry).await?;
    let precondition = match &current {
        None if manifest.previous.is_none() && offered.number >= 1 => Precondition::Absent,
        None => return Err(ReleaseError::Beginning(offered)),
        // Numbers count anew in an epoch that was raised since; a manifest of that epoch is above every one before.
        Some(Versioned {
            value: held,
            revision,
        }) if manifest.previous == Some(held.manifest) && may_follow(held.generation, offered) => {
            Precondition::Revision(*revision)
        }
        Some(held) => {
            return Err(ReleaseError::NotNext {
                offered,
                current: held.value.generation,
            });
        }
    };
    let slices = read_slices(registry, manifest).await?;
    let named = Current {
        format: 1,
        generation: offered,
        manifest: verified.digest(),
    };
    let txn = begin(audit, offered, verified.digest())
        .require(CURRENT, precondition)
        .put(CURRENT, to_record(&named))
        .put(release_key(offered), to_record(envelope));
    commit(registry, txn, offered).await?;
    Ok(Arc::new(Release {
        envelope: envelope.clone(),
        digest: verified.digest(),
        manifest: manifest.clone(),
        slices,
    }))
}

/// Adds signatures to the current release, so that it holds again by an authority that dropped who signed it first.
///
/// # Errors
/// [`ReleaseError`] if `envelope` is not around the current manifest, or too few operators of the newest authority have
/// signed it even with these.
pub async fn endorse(
    registry: &Registry,
    authority: &TrustedAuthority,
    envelope: &Envelope,
    now_secs: u64,
    audit: (&AuditId, &AuditEntry),
) -> Result<Arc<Release>, ReleaseError> {
    let current = current_record(registry).await?;
    let offered = current
        .as_ref()
        .map_or_else(Generation::default, |c| c.value.generation);
    must_be_taken_now(registry, offered).await?;
    let held: Option<Versioned<Envelope>> = registry.record(&release_key(offered)).await?;
    let Some(held) = held.filter(|held| held.value.digest() == envelope.digest()) else {
        return Err(ReleaseError::NotNext {
            offered,
            current: offered,
        });
    };
    let verified: Verified<Manifest> =
        endorsement::endorse(authority, DraftKind::Release, &held.value, envelope, now_secs)?;
    let manifest = verified.value().clone();
    let slices = read_slices(registry, &manifest).await?;
    if *verified.envelope() != held.value {
        let key = release_key(offered);
        let txn = begin(audit, offered, verified.digest())
            .require(key.clone(), Precondition::Revision(held.revision))
            .put(key, to_record(verified.envelope()));
        commit(registry, txn, offered).await?;
    }
    Ok(Arc::new(Release {
        digest: verified.digest(),
        envelope: verified.envelope().clone(),
        manifest,
        slices,
    }))
}

/// Whether a release may come after another: by one within an epoch, so that no one signature uses up the numbers of all;
/// with any number in a later one.
fn may_follow(held: Generation, offered: Generation) -> bool {
    match offered.epoch == held.epoch {
        true => held.number.checked_add(1) == Some(offered.number),
        false => offered.epoch > held.epoch && offered.number >= 1,
    }
}

/// Refuses while there is a hold, and what is not of the fleet's epoch.
async fn must_be_taken_now(registry: &Registry, offered: Generation) -> Result<(), ReleaseError> {
    if let Some(hold) = hold::read(registry).await? {
        return Err(ReleaseError::Held(hold));
    }
    let epoch = epoch::current(registry).await?;
    if offered.epoch != epoch {
        return Err(ReleaseError::Epoch { offered, epoch });
    }
    Ok(())
}

/// A transaction that happens only if [`must_be_taken_now`] still holds by then.
fn begin(audit: (&AuditId, &AuditEntry), offered: Generation, manifest: Digest) -> Txn {
    Txn::new(audit.0, audit.1)
        .delete(drafts::key(manifest))
        .require(hold::KEY, Precondition::Absent)
        .require(epoch::key(offered.epoch.saturating_add(1)), Precondition::Absent)
}

async fn commit(registry: &Registry, txn: Txn, offered: Generation) -> Result<(), ReleaseError> {
    match registry.store().commit(txn).await {
        Ok(_) => Ok(()),
        // Somebody was faster: what they did says why this one is not taken.
        Err(CommitError::Conflict { .. }) => {
            must_be_taken_now(registry, offered).await?;
            let current = current_record(registry).await?;
            Err(ReleaseError::NotNext {
                offered,
                current: current.map_or_else(Generation::default, |held| held.value.generation),
            })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
