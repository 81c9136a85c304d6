//! The next release: composed here, from the files and from the release before it that this machine verified.

use std::time::Duration;

use anyhow::Context as _;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_policy::release::{Manifest, ReturnTo, SliceRef};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Name, TrustDomain};
use holdfast_proto::payload::Payload as _;

use super::Considered;
use crate::cli::cosign::Proposal;
use crate::cli::document::next_generation;
use crate::cli::session::Session;

/// A release may be left for the one before it within a day.
const RETURN_WITHIN: Duration = Duration::from_secs(86_400);

/// The release that makes a policy so, for the operators to sign.
///
/// # Errors
/// If there is no number left in the epoch.
pub(super) fn propose(session: &Session, considered: &Considered) -> anyhow::Result<Proposal> {
    let maker = Maker {
        fleet: session.context.trust_domain.clone(),
        author: session.context.operator.clone(),
        authority_version: session.authority.document().version,
        epoch: considered.epoch,
        now_secs: session.clock.unix_secs(),
    };
    let slices = considered.policy.slices();
    let before = considered.current.as_ref().map(|release| &release.manifest);
    let manifest = maker.compose(before, slices)?;
    Ok(Proposal {
        kind: DraftKind::Release,
        envelope: Envelope::unsigned(serde_json::to_vec(&manifest).expect("a struct of texts and numbers")),
        slices: slices.to_vec(),
    })
}

/// Who makes a release, and when.
struct Maker {
    fleet: TrustDomain,
    author: Name,
    authority_version: u64,
    epoch: u64,
    now_secs: u64,
}

impl Maker {
    /// The release after `before`.
    fn compose(self, before: Option<&Verified<Manifest>>, slices: &[Slice]) -> anyhow::Result<Manifest> {
        let generation = next_generation(before, self.epoch).context(
            "the current release has the last number of its epoch: begin another (`holdfast epoch raise`)",
        )?;
        Ok(Manifest {
            kind: Manifest::KIND.to_owned(),
            format: Manifest::FORMAT,
            trust_domain: self.fleet,
            epoch: self.epoch,
            number: generation.number,
            author: self.author,
            created_secs: self.now_secs,
            authority_version: self.authority_version,
            previous: before.map(Verified::digest),
            slices: slices.iter().map(SliceRef::of).collect(),
            return_to: before.map(|before| ReturnTo {
                manifest: before.digest(),
                within_secs: RETURN_WITHIN.as_secs(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{NOW, Operators, fleet, name};
    use holdfast_pki::authority::{Act, Role};
    use holdfast_proto::ids::Generation;

    #[test]
    fn the_first_release_of_an_epoch_follows_the_last_of_the_one_before() {
        let operators = Operators::new(&[("ann", Role::Admin)]);
        let authority = operators.authority(&[]);
        let maker = |epoch| Maker {
            fleet: fleet(),
            author: name("ann"),
            authority_version: 1,
            epoch,
            now_secs: NOW,
        };
        let first = maker(1).compose(None, &[]).unwrap();
        assert_eq!((first.epoch, first.number, first.previous), (1, 1, None));
        assert_eq!(first.return_to, None);
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&first).unwrap());
        operators.sign("ann", DraftKind::Release, &mut envelope);
        let first = authority.verify(&envelope, &Act::Release, NOW).unwrap();
        let second = maker(2).compose(Some(&first), &[]).unwrap();
        assert_eq!(second.generation(), Generation { epoch: 2, number: 2 });
        assert_eq!(second.previous, Some(first.digest()));
        assert_eq!(second.return_to.unwrap().manifest, first.digest());

        // Somebody used up the numbers: the next epoch counts anew.
        let mut last = maker(1).compose(None, &[]).unwrap();
        last.number = u64::MAX;
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&last).unwrap());
        operators.sign("ann", DraftKind::Release, &mut envelope);
        let last = authority.verify(&envelope, &Act::Release, NOW).unwrap();
        let told = maker(1).compose(Some(&last), &[]).unwrap_err().to_string();
        assert!(told.contains("holdfast epoch raise"), "{told}");
        assert_eq!(maker(2).compose(Some(&last), &[]).unwrap().number, 1);
    }
}
