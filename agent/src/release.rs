//! A release that this node may act on: signed by operators, and complete for this node's labels.

use holdfast_pki::authority::{Act, RefuseEnvelope, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_policy::release::{self, Manifest, RefuseSlices};
use holdfast_policy::slice::Slice;
use holdfast_proto::labels::Labels;

/// A manifest whose signatures hold. Which slices it needs is known; they are not here yet.
#[derive(Debug)]
pub struct VerifiedManifest(Verified<Manifest>);

impl VerifiedManifest {
    /// Verifies an offered manifest.
    ///
    /// # Errors
    /// [`RefuseOffer`]: too few good signatures, past the authority's expiry, or an authority that was not reached yet.
    pub fn verify(
        envelope: &Envelope,
        authority: &TrustedAuthority,
        now_secs: u64,
    ) -> Result<Self, RefuseOffer> {
        let verified: Verified<Manifest> = authority.verify(envelope, &Act::Release, now_secs)?;
        let (named, reached) = (verified.value().authority_version, authority.document().version);
        if named > reached {
            return Err(RefuseOffer::AuthorityVersion { named, reached });
        }
        Ok(Self(verified))
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Verified<Manifest> {
        &self.0
    }

    /// Joins the manifest with its slices for a node with `labels`.
    ///
    /// # Errors
    /// [`RefuseSlices`]: one is missing, another one than named, or not understood. The whole release is refused then.
    pub fn complete(self, labels: &Labels, slices: &[Vec<u8>]) -> Result<VerifiedRelease, RefuseSlices> {
        let slices = release::complete(self.0.value(), labels, slices)?;
        Ok(VerifiedRelease {
            manifest: self.0,
            slices,
        })
    }
}

/// A release whose signatures hold and whose slices for this node are all here. Only [`VerifiedManifest::complete`] makes it.
#[derive(Debug)]
pub struct VerifiedRelease {
    manifest: Verified<Manifest>,
    slices: Vec<Slice>,
}

impl VerifiedRelease {
    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// The slices that are for this node.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }
}

/// Why an offered manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum RefuseOffer {
    /// Its signatures do not hold.
    #[error(transparent)]
    Envelope(#[from] RefuseEnvelope),
    /// It names an authority that this node has not reached.
    #[error(
        "the release names authority version {named}, this node has reached {reached}; the hub did not hand on the versions between"
    )]
    AuthorityVersion {
        /// Named in the manifest.
        named: u64,
        /// Reached here.
        reached: u64,
    },
}
