//! Leases: a bounded right to act, whose term fences writes that come too late.

use std::fmt;
use std::time::Duration;

use super::Unavailable;

/// The longest name of a lease or of its holder, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// The serial number of a holding. It rises with every new holder and never falls, through restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u64);

impl Term {
    /// The term with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lease as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// The holding's serial number.
    pub term: Term,
    /// How long it is held from each renewal on.
    pub ttl: Duration,
}

/// Why a lease is not held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Somebody holds it, perhaps the same holder in a call whose answer was lost.
    #[error(
        "the lease {name} is held by {holder}; it can be had once that one releases it or lets it run out"
    )]
    Held {
        /// The lease.
        name: String,
        /// Who holds it.
        holder: String,
    },
    /// It ran out, was released or went to another: whoever acted under it stops.
    #[error("term {term} of the lease {name} has ended; stop, and acquire it anew")]
    Lost {
        /// The lease.
        name: String,
        /// The term that ended.
        term: Term,
    },
    /// A name that cannot be stored.
    #[error("names of a lease and its holder have 1 to {NAME_BYTES_MAX} bytes, this one has {bytes}")]
    Name {
        /// The offending length.
        bytes: usize,
    },
    /// The store cannot answer. After a failed acquire the lease is not held by the caller.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
