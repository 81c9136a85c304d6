//! Releases at rest: signed manifests by generation, slices by digest, and which release is the current one.
//!
//! Keys: `release/<epoch>/<number>` holds the manifest's envelope, `current` names the newest; `slice/<digest>/<n>` holds
//! the n-th chunk of a slice. A slice is written before the manifest that names it, in one transaction.

pub mod publish;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_pki::authority::RefuseEnvelope;
use holdfast_pki::envelope::{Envelope, InvalidPayload};
use holdfast_policy::release::Manifest;
use holdfast_policy::slice::{InvalidSlice, Slice};
use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::payload::format_1;
use holdfast_proto::{SLICE_BYTES_MAX, SLICE_CHUNK_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::hold::Hold;
use crate::registry::{Registry, RegistryError, Versioned};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::key::{Key, Span};
use crate::store::txn::{CommitError, Txn};

const CURRENT: &str = "current";

/// Which release is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    #[serde(deserialize_with = "format_1")]
    format: u32,
    generation: Generation,
    manifest: Digest,
}

/// A release as nodes are offered it.
#[derive(Debug)]
pub struct Release {
    /// The manifest, as operators signed it.
    pub envelope: Envelope,
    /// Its digest.
    pub digest: Digest,
    /// The same, read.
    pub manifest: Manifest,
    /// Its slices, read, by digest.
    pub slices: BTreeMap<Digest, Slice>,
}

/// Why a release is not taken or not found.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The registry or the store failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its signatures do not hold.
    #[error(transparent)]
    Refused(#[from] RefuseEnvelope),
    /// It does not follow the current release.
    #[error("release {offered} does not follow {current}: somebody else published meanwhile; plan again")]
    NotNext {
        /// What was offered.
        offered: Generation,
        /// What is current.
        current: Generation,
    },
    /// It names an authority version that is not the newest.
    #[error("the release names authority version {named}, newest is {newest}: sign it anew")]
    AuthorityVersion {
        /// Named in the manifest.
        named: u64,
        /// The newest.
        newest: u64,
    },
    /// This hub's store is known to be behind.
    #[error("{0}")]
    Held(Hold),
    /// It is not of the epoch in which the fleet is.
    #[error("release {offered} is not of the fleet's epoch, {epoch}: plan again")]
    Epoch {
        /// What was offered.
        offered: Generation,
        /// The fleet's epoch.
        epoch: u64,
    },
    /// It is not the first and there is none before it, or the other way round.
    #[error("the release's number and its predecessor do not fit: {0}")]
    Beginning(Generation),
    /// It names a slice that was not written.
    #[error("the slice {0} was not uploaded")]
    NoSlice(Digest),
    /// A slice is not what its digest says.
    #[error("the slice's digest is {got}, announced was {announced}")]
    SliceDigest {
        /// What the upload said.
        announced: Digest,
        /// What it is.
        got: Digest,
    },
    /// A slice is larger than is stored.
    #[error("the slice has more than {SLICE_BYTES_MAX} bytes")]
    SliceSize,
    /// A slice cannot be understood.
    #[error("the slice {digest} is not valid")]
    Slice {
        /// Which.
        digest: Digest,
        /// Why.
        source: InvalidSlice,
    },
    /// A stored manifest cannot be read.
    #[error("the stored manifest cannot be read")]
    Manifest(#[from] InvalidPayload),
}

impl From<CommitError> for ReleaseError {
    fn from(error: CommitError) -> Self {
        Self::Registry(error.into())
    }
}

fn release_key(generation: Generation) -> Key {
    format!("release/{:020}/{:020}", generation.epoch, generation.number).into()
}

fn slice_prefix(digest: Digest) -> String {
    format!("slice/{digest}/")
}

/// The bytes of a slice, if it was written.
///
/// # Errors
/// [`ReleaseError::Registry`] from the store.
pub async fn read_slice(registry: &Registry, digest: Digest) -> Result<Option<Vec<u8>>, ReleaseError> {
    // At most three chunks (SLICE_BYTES_MAX): always one page.
    let page = registry
        .store()
        .range(&Span::prefix(slice_prefix(digest)), 16)
        .await
        .map_err(RegistryError::from)?;
    let bytes: Vec<u8> = page
        .entries
        .iter()
        .flat_map(|entry| entry.value.iter().copied())
        .collect();
    Ok((!page.entries.is_empty()).then_some(bytes))
}

/// Stores a slice under its digest. Storing it again changes nothing.
///
/// # Errors
/// [`ReleaseError`] if it is too large, another one than announced, or no slice.
pub async fn write_slice(
    registry: &Registry,
    announced: Digest,
    bytes: &[u8],
    audit: (&AuditId, &AuditEntry),
) -> Result<(), ReleaseError> {
    if bytes.len() > SLICE_BYTES_MAX {
        return Err(ReleaseError::SliceSize);
    }
    let got = Digest::of(bytes);
    if got != announced {
        return Err(ReleaseError::SliceDigest { announced, got });
    }
    Slice::parse(bytes).map_err(|source| ReleaseError::Slice { digest: got, source })?;
    if read_slice(registry, got).await?.is_some() {
        return Ok(());
    }
    let mut txn = Txn::new(audit.0, audit.1);
    for (n, chunk) in bytes.chunks(SLICE_CHUNK_BYTES_MAX).enumerate() {
        txn = txn.put(format!("{}{n:04}", slice_prefix(got)), chunk.to_vec());
    }
    registry.store().commit(txn).await?;
    Ok(())
}

/// The generation and the manifest's digest of the current release.
///
/// # Errors
/// [`ReleaseError::Registry`] from the store.
pub async fn named_current(registry: &Registry) -> Result<Option<(Generation, Digest)>, ReleaseError> {
    let current = current_record(registry).await?;
    Ok(current.map(|current| (current.value.generation, current.value.manifest)))
}

async fn current_record(registry: &Registry) -> Result<Option<Versioned<Current>>, ReleaseError> {
    Ok(registry.record(&CURRENT.into()).await?)
}

/// The signed manifest of `generation`, or of the current release.
///
/// # Errors
/// [`ReleaseError::Registry`] from the store.
pub async fn manifest(
    registry: &Registry,
    generation: Option<Generation>,
) -> Result<Option<Envelope>, ReleaseError> {
    let generation = match generation {
        Some(named) => named,
        None => match current_record(registry).await? {
            Some(current) => current.value.generation,
            None => return Ok(None),
        },
    };
    let found = registry.record(&release_key(generation)).await?;
    Ok(found.map(|found| found.value))
}

/// The current release with its slices.
///
/// # Errors
/// [`ReleaseError`] if the store fails or what it holds does not hold together.
pub async fn current(registry: &Registry) -> Result<Option<Arc<Release>>, ReleaseError> {
    let Some(envelope) = manifest(registry, None).await? else {
        return Ok(None);
    };
    let manifest: Manifest = holdfast_pki::envelope::parse_payload(&envelope.payload)?;
    let slices = read_slices(registry, &manifest).await?;
    Ok(Some(Arc::new(Release {
        digest: envelope.digest(),
        envelope,
        manifest,
        slices,
    })))
}

async fn read_slices(
    registry: &Registry,
    manifest: &Manifest,
) -> Result<BTreeMap<Digest, Slice>, ReleaseError> {
    let mut slices = BTreeMap::new();
    for wanted in &manifest.slices {
        let bytes = read_slice(registry, wanted.digest)
            .await?
            .ok_or(ReleaseError::NoSlice(wanted.digest))?;
        let slice = Slice::parse(&bytes).map_err(|source| ReleaseError::Slice {
            digest: wanted.digest,
            source,
        })?;
        slices.insert(wanted.digest, slice);
    }
    Ok(slices)
}
