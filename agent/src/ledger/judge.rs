//! The one decision over an offered release: [`Ledger::judge`]. Pure: the ledger, the manifest, no clock and no host.

use holdfast_policy::release::Manifest;
use holdfast_proto::ids::{Digest, Generation};

use super::Ledger;

/// What is to be done with an offered release that is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is to be applied: newer than anything accepted, or accepted before and never confirmed.
    Apply,
    /// It is in force with the slices of older labels: to be applied again, with those that the labels of now select.
    Reselect,
    /// It is older, and the highest accepted release allows to return to it.
    Return,
}

/// Why an offered release is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefuseRelease {
    /// It belongs to another epoch.
    #[error(
        "release {offered} is of another epoch than this node's ({held}); an epoch is raised only by an operator's signature"
    )]
    Epoch {
        /// What was offered.
        offered: Generation,
        /// The epoch held.
        held: u64,
    },
    /// It is older than what was accepted.
    #[error(
        "release {offered} is older than {highest}, which was accepted here: was the hub restored from an old backup?"
    )]
    Outdated {
        /// What was offered.
        offered: Generation,
        /// The highest accepted.
        highest: Generation,
    },
    /// It is below the floor of the join grant.
    #[error("release {offered} is below {least}, the least that this node's join grant allows")]
    BelowFloor {
        /// What was offered.
        offered: Generation,
        /// The floor.
        least: Generation,
    },
    /// Same number, other bytes.
    #[error(
        "release {offered} differs from the {offered} that was accepted here: operators signed two under one number, or a hub serves both"
    )]
    Equivocation {
        /// What was offered.
        offered: Generation,
    },
    /// It was undone here before.
    #[error(
        "release {offered} cut this node off and was undone; it is not tried again: publish a higher number"
    )]
    PinnedOut {
        /// What was offered.
        offered: Generation,
    },
}

impl Ledger {
    /// Whether this very release is in force, with the slices that the labels of now select: then there is nothing to do,
    /// whatever has become of the keys that signed it.
    #[must_use]
    pub fn is_in_force(&self, digest: Digest) -> bool {
        self.confirmed.as_ref().is_some_and(|held| {
            held.manifest.digest() == digest && held.labels_version == self.labels.version
        })
    }

    /// Whether a release cut this node off under the labels of now, or was returned from.
    #[must_use]
    pub fn is_pinned_out(&self, digest: Digest) -> bool {
        self.pinned_out.iter().any(|out| {
            out.manifest == digest
                && out
                    .labels_version
                    .is_none_or(|version| version == self.labels.version)
        })
    }

    /// What is to be done with a release whose signatures hold, and which is not in force.
    ///
    /// # Errors
    /// [`RefuseRelease`].
    pub fn judge(&self, manifest: &Manifest, digest: Digest) -> Result<Judgement, RefuseRelease> {
        let offered = manifest.generation();
        if offered < self.least {
            return Err(RefuseRelease::BelowFloor {
                offered,
                least: self.least,
            });
        }
        if offered.epoch != self.epoch {
            return Err(RefuseRelease::Epoch {
                offered,
                held: self.epoch,
            });
        }
        if self.is_pinned_out(digest) {
            return Err(RefuseRelease::PinnedOut { offered });
        }
        if self
            .confirmed
            .as_ref()
            .is_some_and(|held| held.manifest.digest() == digest)
        {
            return Ok(Judgement::Reselect);
        }
        match &self.highest {
            None => Ok(Judgement::Apply),
            Some(highest) if offered > highest.generation => Ok(Judgement::Apply),
            Some(highest) if offered == highest.generation && digest == highest.manifest.digest() => {
                Ok(Judgement::Apply)
            }
            Some(highest) if offered == highest.generation => Err(RefuseRelease::Equivocation { offered }),
            Some(_) if self.may_return_to(digest) => Ok(Judgement::Return),
            Some(highest) => Err(RefuseRelease::Outdated {
                offered,
                highest: highest.generation,
            }),
        }
    }

    /// Whether the release in force names `digest` as its return, in time, and none was taken yet.
    fn may_return_to(&self, digest: Digest) -> bool {
        let in_force = self
            .confirmed
            .as_ref()
            .and_then(|held| Some((held.manifest.digest(), held.manifest().ok()?)));
        let (Some((in_force, manifest)), Some(highest)) = (in_force, &self.highest) else {
            return false;
        };
        in_force == highest.manifest.digest()
            && !self.return_spent
            && manifest
                .return_to
                .is_some_and(|to| to.manifest == digest && self.running_secs < to.within_secs)
    }
}
