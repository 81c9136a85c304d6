//! Releases: the signed manifest of an approved policy, and the proof that a node holds all of it that concerns it.
//!
//! The manifest names every slice by selector and digest; a node fetches only those that its labels select.
//! [`complete`] is where "what was approved is what runs" is decided for the slices: all of them, each once, nothing else.

use std::collections::BTreeMap;

use holdfast_proto::SLICE_BYTES_MAX;
use holdfast_proto::ids::{Digest, Generation, Name, TrustDomain};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Deserializer, Serialize};

use crate::selector::Selector;
use crate::slice::{InvalidSlice, Slice};

/// The most slices in one release; with selectors of [`crate::selector::SELECTOR_BYTES_MAX`] a manifest stays under its limit.
pub const SLICES_MAX: usize = 256;

/// An immutable, numbered policy; what an operator signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`Payload::KIND`].
    pub kind: String,
    /// Always [`Payload::FORMAT`].
    pub format: u32,
    /// The fleet it is for.
    pub trust_domain: TrustDomain,
    /// Raised only by an operator's signature.
    pub epoch: u64,
    /// Counts within the epoch.
    pub number: u64,
    /// The operator who made it.
    pub author: Name,
    /// Unix seconds, by the author's clock: for people.
    pub created_secs: u64,
    /// The authority version that a node must have reached before it accepts.
    pub authority_version: u64,
    /// The manifest before it; none on the first.
    pub previous: Option<Digest>,
    /// One for each selector, sorted by selector.
    #[serde(deserialize_with = "slice_refs")]
    pub slices: Vec<SliceRef>,
    /// The one earlier release to which a fleet may go back from this one.
    pub return_to: Option<ReturnTo>,
}

/// A slice, by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceRef {
    /// Which nodes it is for.
    pub selector: Selector,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Leave to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnTo {
    /// The earlier manifest.
    pub manifest: Digest,
    /// For how long, in the node's own running time since it accepted.
    pub within_secs: u64,
}

/// Why a node refuses the slices it was given. It stays with what it holds.
#[derive(Debug, thiserror::Error)]
pub enum RefuseSlices {
    /// A slice that the node's labels select was not given.
    #[error("slice {selector} ({}) was left out; the hub must send every slice that this node's labels select", .digest.short())]
    Missing {
        /// Which nodes it is for.
        selector: Selector,
        /// Its digest in the manifest.
        digest: Digest,
    },
    /// Bytes that the manifest does not list for this node: altered, of another release, or for other nodes.
    #[error("bytes with digest {} are no slice that the manifest lists for this node; the hub's store or the way to it altered them", .0.short())]
    NotListed(Digest),
    /// The same slice again.
    #[error("slice {0} was given twice")]
    Twice(Selector),
    /// The bytes are those that were signed, but for another selector or length than the manifest says.
    #[error(
        "slice {listed} is listed with {bytes} bytes, but its bytes are {got_bytes} for selector {got}; make the release anew"
    )]
    Mislabelled {
        /// The selector in the manifest.
        listed: Selector,
        /// The length in the manifest.
        bytes: u64,
        /// The selector in the slice.
        got: Selector,
        /// The slice's length.
        got_bytes: usize,
    },
    /// A slice that this program does not understand whole.
    #[error("a slice of the release is not understood, so nothing of it is applied")]
    Invalid(#[from] InvalidSlice),
}

impl Payload for Manifest {
    const KIND: &'static str = "release";
    const FORMAT: u32 = 1;
    // Goes down the link in one message, with its signatures.
    const BYTES_MAX: usize = 256 * 1024;
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

impl Manifest {
    /// Its age: what a node compares before it accepts.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation {
            epoch: self.epoch,
            number: self.number,
        }
    }

    /// The slices for a node with these labels, sorted by selector.
    pub fn select(&self, labels: &Labels) -> impl Iterator<Item = &SliceRef> {
        self.slices.iter().filter(|slice| slice.selector.matches(labels))
    }
}

impl SliceRef {
    /// The entry for `slice`.
    #[must_use]
    pub fn of(slice: &Slice) -> Self {
        let bytes = slice.to_bytes();
        Self {
            selector: slice.selector().clone(),
            digest: Digest::of(&bytes),
            bytes: bytes.len() as u64,
        }
    }
}

/// Checks that `slice_bytes` are exactly the slices that `manifest` lists for a node with `labels`, in any order.
///
/// Returns them sorted by selector.
/// # Errors
/// [`RefuseSlices`] when one is missing, surplus, altered, repeated or not understood.
pub fn complete(
    manifest: &Manifest,
    labels: &Labels,
    slice_bytes: &[Vec<u8>],
) -> Result<Vec<Slice>, RefuseSlices> {
    let listed: BTreeMap<Digest, &SliceRef> = manifest
        .select(labels)
        .map(|slice| (slice.digest, slice))
        .collect();
    let mut slices = BTreeMap::new();
    for bytes in slice_bytes {
        let digest = Digest::of(bytes);
        let entry = *listed.get(&digest).ok_or(RefuseSlices::NotListed(digest))?;
        let slice = Slice::parse(bytes)?;
        if *slice.selector() != entry.selector || bytes.len() as u64 != entry.bytes {
            return Err(RefuseSlices::Mislabelled {
                listed: entry.selector.clone(),
                bytes: entry.bytes,
                got: slice.selector().clone(),
                got_bytes: bytes.len(),
            });
        }
        if slices.insert(&entry.selector, slice).is_some() {
            return Err(RefuseSlices::Twice(entry.selector.clone()));
        }
    }
    if let Some(missing) = manifest
        .select(labels)
        .find(|entry| !slices.contains_key(&entry.selector))
    {
        return Err(RefuseSlices::Missing {
            selector: missing.selector.clone(),
            digest: missing.digest,
        });
    }
    Ok(slices.into_values().collect())
}

/// Reads the list of slices: bounded, sorted, one for each selector, so that a selector cannot mean two things.
fn slice_refs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SliceRef>, D::Error> {
    use serde::de::Error;
    let slices = Vec::<SliceRef>::deserialize(deserializer)?;
    if slices.len() > SLICES_MAX {
        return Err(D::Error::custom(format!(
            "{} slices where at most {SLICES_MAX} fit",
            slices.len()
        )));
    }
    if let Some(pair) = slices
        .windows(2)
        .find(|pair| pair[0].selector >= pair[1].selector)
    {
        let (before, after) = (&pair[0].selector, &pair[1].selector);
        return Err(D::Error::custom(format!(
            "slice {after} after {before}: each once and sorted wanted"
        )));
    }
    if let Some(slice) = slices.iter().find(|slice| slice.bytes > SLICE_BYTES_MAX as u64) {
        return Err(D::Error::custom(format!(
            "slice {} of {} bytes where at most {SLICE_BYTES_MAX} fit",
            slice.selector, slice.bytes
        )));
    }
    Ok(slices)
}

#[cfg(test)]
mod tests;
