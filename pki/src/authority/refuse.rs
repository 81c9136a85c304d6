//! Why authority versions, and documents under one, are refused.

use holdfast_proto::ids::{Digest, Name, TrustDomain};

use crate::envelope::InvalidPayload;

/// Why an authority version is not trusted. What was trusted before stays so.
#[derive(Debug, thiserror::Error)]
pub enum RefuseAuthority {
    /// Other bytes than were pinned.
    #[error("the authority's digest is {got}, pinned is {pinned}: this hub serves another fleet, or lies")]
    Pin {
        /// What was pinned.
        pinned: Digest,
        /// What came.
        got: Digest,
    },
    /// Not the version after the one held.
    #[error(
        "authority version {offered} does not follow version {held} (number, previous digest, domain, revocations)"
    )]
    NotNext {
        /// The version held.
        held: u64,
        /// The version offered.
        offered: u64,
    },
    /// The document contradicts itself.
    #[error("authority version {version} is invalid: {why}")]
    Invalid {
        /// Its number.
        version: u64,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// It is not signed as it must be.
    #[error(transparent)]
    Envelope(#[from] RefuseEnvelope),
}

/// Why a signed document is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RefuseEnvelope {
    /// Nothing new is accepted under an authority past its expiry.
    #[error(
        "authority version {version} expired {expired_secs_ago} s ago: operators must sign a newer version"
    )]
    Expired {
        /// The newest version reached.
        version: u64,
        /// For how long.
        expired_secs_ago: u64,
    },
    /// Too few good signatures.
    #[error(
        "the {kind} carries {good} good of {offered} signatures, authority version {version} asks for {needed} to '{act}'"
    )]
    Signatures {
        /// The document's kind.
        kind: &'static str,
        /// The act it would bring about.
        act: String,
        /// The authority's version.
        version: u64,
        /// How many operators signed validly.
        good: usize,
        /// How many must.
        needed: u32,
        /// How many signatures it carries.
        offered: usize,
    },
    /// It is for another fleet.
    #[error("the {kind} is for the trust domain {got}, this fleet is {own}")]
    TrustDomain {
        /// The document's kind.
        kind: &'static str,
        /// The fleet that it is for.
        got: TrustDomain,
        /// This fleet.
        own: TrustDomain,
    },
    /// Nobody of that name asked for access.
    #[error(
        "the request for access is not signed with the key that authority version {version} lists for '{operator}'"
    )]
    Access {
        /// Who is said to ask.
        operator: Name,
        /// The authority's version.
        version: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
}
