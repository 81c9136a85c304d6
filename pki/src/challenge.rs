//! Challenges: what a hub gives to be signed, so that a request can be seen to be new.
//!
//! A challenge is the time since boot, a random number and a MAC over both under a secret that lives as long as the
//! process: nothing is kept for those that are only asked for, and no other hub, nor this one after a restart, takes one
//! for its own. Those that were used are remembered until they have ended, so that each serves once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use holdfast_proto::ids::Name;

use crate::clock::Clock;
use crate::random::Random;

/// How long a challenge is good: time for a passphrase, or for the touch of a security key.
pub const LIFETIME_SECS: u64 = 120;
/// How often one operator may use challenges within their lifetime: it bounds what is remembered.
const USES_MAX: usize = 16;

const TIME_BYTES: usize = 8;
const CHANCE_BYTES: usize = 16;

/// Makes challenges and knows its own.
pub struct Challenges {
    secret: hmac::Key,
    used: Mutex<BTreeMap<Vec<u8>, Name>>,
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges")
    }
}

/// Why a challenge is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefuseChallenge {
    /// It is not one of ours.
    #[error("the challenge is not one that this hub gave since it started: ask it for another")]
    Unknown,
    /// It has ended.
    #[error("the challenge is older than {LIFETIME_SECS} s: ask for another and sign it at once")]
    Old,
    /// It was used.
    #[error("the challenge was used already: ask for another")]
    Used,
    /// Too many were used.
    #[error("more than {USES_MAX} logins within {LIFETIME_SECS} s: wait a little")]
    TooMany,
}

impl Challenges {
    /// With a new secret.
    #[must_use]
    pub fn new(random: &dyn Random) -> Self {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        random.fill(secret.as_mut());
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()),
            used: Mutex::default(),
        }
    }

    /// A challenge, good from now on.
    #[must_use]
    pub fn give(&self, clock: &dyn Clock, random: &dyn Random) -> Vec<u8> {
        let mut challenge = clock.since_boot().as_secs().to_be_bytes().to_vec();
        challenge.resize(TIME_BYTES + CHANCE_BYTES, 0);
        random.fill(&mut challenge[TIME_BYTES..]);
        let tag = hmac::sign(&self.secret, &challenge);
        challenge.extend_from_slice(tag.as_ref());
        challenge
    }

    /// Uses up a challenge that `by` has answered: to be asked last, when all else about the request was found right.
    ///
    /// # Errors
    /// [`RefuseChallenge`] if it is not ours, has ended, or was used.
    pub fn spend(&self, challenge: &[u8], by: &Name, clock: &dyn Clock) -> Result<(), RefuseChallenge> {
        let (given, tag) = challenge
            .split_at_checked(TIME_BYTES + CHANCE_BYTES)
            .ok_or(RefuseChallenge::Unknown)?;
        hmac::verify(&self.secret, given, tag).map_err(|_| RefuseChallenge::Unknown)?;
        let now_secs = clock.since_boot().as_secs();
        let is_old = |given: &[u8]| {
            let at = given.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            now_secs.saturating_sub(at) >= LIFETIME_SECS
        };
        if is_old(given) {
            return Err(RefuseChallenge::Old);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|given, _| !is_old(given));
        if used.contains_key(given) {
            return Err(RefuseChallenge::Used);
        }
        if used.values().filter(|name| *name == by).count() >= USES_MAX {
            return Err(RefuseChallenge::TooMany);
        }
        used.insert(given.to_vec(), by.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;
    use crate::random::SystemRandom;
    use std::time::Duration;

    fn ann() -> Name {
        "ann".parse().unwrap()
    }

    #[test]
    fn a_challenge_serves_once_and_for_two_minutes() {
        let (ours, clock) = (Challenges::new(&SystemRandom), TestClock::at(1_800_000_000));
        let (first, second) = (ours.give(&clock, &SystemRandom), ours.give(&clock, &SystemRandom));
        assert!(first.len() >= 32 && first != second);
        clock.advance(Duration::from_secs(LIFETIME_SECS - 1));
        assert_eq!(ours.spend(&first, &ann(), &clock), Ok(()));
        assert_eq!(ours.spend(&first, &ann(), &clock), Err(RefuseChallenge::Used));
        clock.advance(Duration::from_secs(1));
        assert_eq!(ours.spend(&second, &ann(), &clock), Err(RefuseChallenge::Old));
        assert_eq!(
            ours.spend(&first, &ann(), &clock),
            Err(RefuseChallenge::Old),
            "forgotten, and useless"
        );
    }

    #[test]
    fn only_its_own_challenges_are_taken_unchanged() {
        let (ours, other) = (Challenges::new(&SystemRandom), Challenges::new(&SystemRandom));
        let clock = TestClock::at(1_800_000_000);
        let refused =
            |challenge: &[u8]| ours.spend(challenge, &ann(), &clock) == Err(RefuseChallenge::Unknown);
        assert!(refused(&other.give(&clock, &SystemRandom)), "another hub's");
        let good = ours.give(&clock, &SystemRandom);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(refused(&changed), "byte {at} changed");
            assert!(refused(&good[..at]), "the first {at} bytes");
        }
        assert_eq!(ours.spend(&good, &ann(), &clock), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded_for_each_operator_and_ends() {
        let (ours, clock) = (Challenges::new(&SystemRandom), TestClock::at(1_800_000_000));
        let spend = |by: &Name| ours.spend(&ours.give(&clock, &SystemRandom), by, &clock);
        for _ in 0..USES_MAX {
            assert_eq!(spend(&ann()), Ok(()));
        }
        assert_eq!(spend(&ann()), Err(RefuseChallenge::TooMany));
        assert_eq!(spend(&"bob".parse().unwrap()), Ok(()), "others are not held up");
        clock.advance(Duration::from_secs(LIFETIME_SECS));
        assert_eq!(spend(&ann()), Ok(()));
        assert_eq!(
            ours.used.lock().unwrap().len(),
            1,
            "those that have ended are forgotten"
        );
    }
}
