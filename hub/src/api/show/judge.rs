//! What of a shown state counts: [`judge`]. Pure, so that every claim about it can be tested without a hub.

use std::collections::BTreeMap;

use holdfast_pki::authority::{Act, Followed, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, InvalidEnvelope, Verified};
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;

use crate::api::told;
use crate::epoch::{self, RefuseRaise};
use crate::hold::Finding;

/// What was shown, unwrapped; nothing is known of it yet.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Versions of the authority, oldest first.
    pub(super) authority: Vec<Envelope>,
    /// Raises of the epoch, oldest first.
    pub(super) raises: Vec<Envelope>,
    /// The highest release.
    pub(super) manifest: Option<Envelope>,
}

impl TryFrom<v1::HigherState> for Shown {
    type Error = InvalidEnvelope;
    fn try_from(wire: v1::HigherState) -> Result<Self, InvalidEnvelope> {
        let unwrap =
            |wire: Vec<v1::Envelope>| wire.into_iter().map(Envelope::try_from).collect::<Result<_, _>>();
        Ok(Self {
            authority: unwrap(wire.authority)?,
            raises: unwrap(wire.epochs)?,
            manifest: wire.manifest.map(Envelope::try_from).transpose()?,
        })
    }
}

/// What the hub has.
#[derive(Debug)]
pub(super) struct Has {
    /// The newest authority.
    pub(super) authority: TrustedAuthority,
    /// The epoch.
    pub(super) epoch: u64,
    /// The generation of the current release.
    pub(super) current: Option<Generation>,
}

/// What of the shown state is validly signed and above what the hub has.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Versions of the authority that follow the hub's, each with its number.
    pub(super) authority: Vec<(u64, Envelope)>,
    /// Raises that follow the hub's epoch, each with the epoch that it begins.
    pub(super) raises: Vec<(u64, Envelope)>,
    /// What holds the hub, for people.
    pub(super) findings: BTreeMap<Finding, String>,
    /// Why the rest does not count.
    pub(super) passed_over: Vec<String>,
}

/// Sorts out what of `shown` counts for a hub that `has` this much.
///
/// Of versions and raises it is the unbroken row that follows what the hub has. All else is judged by the newest version
/// in that row: an operator who was dropped there proves nothing any more.
pub(super) fn judge(has: Has, shown: Shown, now_secs: u64) -> Judged {
    let mut judged = Judged::default();
    let authority = judged.follow_authority(has.authority, shown.authority);
    let epoch = judged.follow_raises(&authority, has.epoch, shown.raises, now_secs);
    if let Some(manifest) = shown.manifest {
        match release(&authority, &manifest, now_secs) {
            Ok(shown) if is_above(shown, has.current, epoch) => {
                let had = has
                    .current
                    .map_or_else(|| "none".to_owned(), |current| current.to_string());
                judged
                    .findings
                    .insert(Finding::Release, format!("release {shown}, the hub had {had}"));
            }
            Ok(_) => {}
            Err(why) => judged.passed_over.push(why),
        }
    }
    judged
}

impl Judged {
    fn follow_authority(&mut self, held: TrustedAuthority, versions: Vec<Envelope>) -> TrustedAuthority {
        let had = held.document().version;
        let Followed { mut steps, refused } = held.follow(&versions);
        self.passed_over.extend(refused.map(|refused| told(&refused)));
        let numbered = |step: &TrustedAuthority| (step.document().version, step.envelope().clone());
        self.authority = steps.iter().map(numbered).collect();
        let newest = steps.pop().unwrap_or(held);
        let version = newest.document().version;
        if version > had {
            let what = format!("authority version {version}, the hub had {had}");
            self.findings.insert(Finding::Authority, what);
        }
        newest
    }

    fn follow_raises(
        &mut self,
        authority: &TrustedAuthority,
        held: u64,
        raises: Vec<Envelope>,
        now_secs: u64,
    ) -> u64 {
        let mut epoch = held;
        for envelope in raises {
            match epoch::verify(authority, &envelope, epoch, now_secs) {
                Ok(raise) => {
                    epoch = raise.value().new;
                    self.raises.push((epoch, envelope));
                }
                Err(RefuseRaise::NotNext { new, .. }) if new <= epoch => {}
                Err(error) => {
                    self.passed_over.push(told(&error));
                    break;
                }
            }
        }
        if epoch > held {
            let what = format!("epoch {epoch}, the hub was at {held}");
            self.findings.insert(Finding::Epoch, what);
        }
        epoch
    }
}

/// The generation of a release that operators signed for the authority's fleet.
fn release(authority: &TrustedAuthority, manifest: &Envelope, now_secs: u64) -> Result<Generation, String> {
    let verified: Verified<Manifest> = authority
        .verify(manifest, &Act::Release, now_secs)
        .map_err(|error| told(&error))?;
    Ok(verified.value().generation())
}

/// Whether a release tells that the hub's store is behind. One of an epoch that operators ended is history that they gave
/// up, not history that was lost; and one of an epoch that nobody raised is none that any node would take: whoever may
/// sign releases must not hold the hub whatever admins raise.
fn is_above(shown: Generation, current: Option<Generation>, epoch: u64) -> bool {
    shown.epoch == epoch && Some(shown) > current
}

#[cfg(test)]
mod tests;
