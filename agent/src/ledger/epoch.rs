//! The one decision over a raise of the epoch: [`Ledger::judge_raise`]. Pure, as `judge` is.
//!
//! Only an operator's signature raises the epoch, and each raise by exactly one: so nobody who holds one raise, or many,
//! can skip a history that operators did not end.

use holdfast_pki::envelope::Verified;
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::ids::{Digest, TrustDomain};

use super::Ledger;

/// The most raises that are kept, to be shown to a hub that lost them, and that wait to be taken: more than a fleet sees
/// in its life.
pub const RAISES_MAX: usize = 64;

/// What is to be done with a raise whose signatures hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaiseJudgement {
    /// Nothing: it was taken before.
    Held,
    /// Its epoch begins.
    Take,
}

/// A raise that does not lead from the epoch held to the next one of this fleet. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a raise of {trust_domain} from epoch {old} to {new} does not follow epoch {held} of this node; each is a step of one"
)]
pub struct RefuseRaise {
    /// The fleet that it is for.
    pub trust_domain: TrustDomain,
    /// The epoch that it ends.
    pub old: u64,
    /// The epoch that it begins.
    pub new: u64,
    /// The epoch held.
    pub held: u64,
}

impl Ledger {
    /// What is to be done with a raise whose signatures hold, in the fleet `trust_domain`.
    ///
    /// # Errors
    /// [`RefuseRaise`].
    pub fn judge_raise(
        &self,
        raise: &EpochRaise,
        digest: Digest,
        trust_domain: &TrustDomain,
    ) -> Result<RaiseJudgement, RefuseRaise> {
        if raise.follows(trust_domain, self.epoch) {
            return Ok(RaiseJudgement::Take);
        }
        // A hub sends what it does not know to be here.
        if self.raises.iter().any(|taken| taken.digest() == digest) {
            return Ok(RaiseJudgement::Held);
        }
        Err(RefuseRaise {
            trust_domain: raise.trust_domain.clone(),
            old: raise.old,
            new: raise.new,
            held: self.epoch,
        })
    }

    /// Notes that an epoch begins.
    pub fn take_raise(&mut self, raise: &Verified<EpochRaise>) {
        self.epoch = raise.value().new;
        if self.raises.len() >= RAISES_MAX {
            self.raises.remove(0);
        }
        self.raises.push(raise.envelope().clone());
    }
}

#[cfg(test)]
mod tests {
    use holdfast_pki::authority::Act;
    use holdfast_proto::ids::Generation;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{NOW, Operators, fleet, raise};

    fn judge(ledger: &Ledger, raise: &EpochRaise) -> Result<RaiseJudgement, RefuseRaise> {
        let digest = Digest::of(&serde_json::to_vec(raise).unwrap());
        ledger.judge_raise(raise, digest, &fleet())
    }

    fn take(operators: &Operators, ledger: &mut Ledger, raise: &EpochRaise) {
        let signed = operators.sign(raise);
        ledger.take_raise(&operators.authority.verify(&signed, &Act::Epoch, NOW).unwrap());
    }

    #[test]
    fn a_raise_by_two_from_another_epoch_or_of_another_fleet_is_refused() {
        let ledger = Operators::new().ledger(Generation { epoch: 3, number: 1 });
        assert_eq!(judge(&ledger, &raise(3, 4)), Ok(RaiseJudgement::Take));
        for (old, new) in [(3, 5), (2, 3), (4, 5), (3, 3), (4, 3), (1, 2)] {
            let refused = judge(&ledger, &raise(old, new)).unwrap_err();
            assert_eq!((refused.old, refused.new, refused.held), (old, new, 3));
        }
        let foreign = EpochRaise {
            trust_domain: "other.example".parse().unwrap(),
            ..raise(3, 4)
        };
        assert!(judge(&ledger, &foreign).is_err());
    }

    #[test]
    fn a_raise_that_was_taken_is_no_news_and_one_beside_it_is_refused() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        take(&operators, &mut ledger, &raise(1, 2));
        assert_eq!(judge(&ledger, &raise(1, 2)), Ok(RaiseJudgement::Held));
        let beside = EpochRaise {
            checkpoint: Some(Digest::of(b"another history")),
            ..raise(1, 2)
        };
        assert!(judge(&ledger, &beside).is_err());
    }

    #[test]
    fn the_newest_raises_are_kept_to_be_shown() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        let last = RAISES_MAX as u64 + 3;
        for old in 1..last {
            take(&operators, &mut ledger, &raise(old, old + 1));
        }
        assert_eq!((ledger.epoch, ledger.raises.len()), (last, RAISES_MAX));
        assert_eq!(
            ledger.raises.last(),
            Some(&operators.sign(&raise(last - 1, last)))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_offered_the_epoch_rises_by_one_step_at_a_time(
            offers in prop::collection::vec((0_u64..6, 0_u64..6), 1..16)
        ) {
            let operators = Operators::new();
            let mut ledger = operators.ledger(Generation::default());
            for (old, new) in offers {
                let before = ledger.epoch;
                let offered = raise(old, new);
                if judge(&ledger, &offered) == Ok(RaiseJudgement::Take) {
                    take(&operators, &mut ledger, &offered);
                }
                let follows = old == before && new == before + 1;
                prop_assert_eq!(ledger.epoch, if follows { before + 1 } else { before });
                prop_assert_eq!(ledger.raises.len() as u64, ledger.epoch - 1);
            }
        }
    }
}
