//! The chain of authority versions, as far as somebody trusts it: from a pin on, version by version.

use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

use super::{Act, Authority, AuthorityKey, Progress, RefuseAuthority, RefuseEnvelope};
use crate::draft::DraftKind;
use crate::envelope::{Envelope, Verified, parse_payload};

/// Which authority is trusted to begin with: given out of band, never by a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityPin {
    /// The version.
    pub version: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// An authority that was reached from a pin. Everything else that is signed is judged by it.
#[derive(Debug, Clone)]
pub struct TrustedAuthority(Verified<Authority>);

impl TrustedAuthority {
    /// Trusts the version whose digest is pinned.
    ///
    /// # Errors
    /// [`RefuseAuthority`] if these are other bytes, or its own signatures do not hold.
    pub fn from_pin(envelope: &Envelope, pin: &AuthorityPin) -> Result<Self, RefuseAuthority> {
        if envelope.digest() != pin.digest {
            return Err(RefuseAuthority::Pin {
                pinned: pin.digest,
                got: envelope.digest(),
            });
        }
        let document: Authority = parse_payload(&envelope.payload)?;
        document.validate()?;
        Self::signed_by_itself(document, envelope)
    }

    /// The next version, if it is signed as this one and as it itself asks.
    ///
    /// # Errors
    /// [`RefuseAuthority`] says what is wrong with it; `self` stays what is trusted.
    pub fn advance(&self, next: &Envelope) -> Result<Self, RefuseAuthority> {
        // Reading before verifying is unavoidable here, as the keys stand in the document: nothing is used before the
        // signatures over these same bytes held.
        let document = self.read_next(next)?;
        self.document().check(Authority::KIND, &Act::Authority, next)?;
        Self::signed_by_itself(document, next)
    }

    /// A version that would follow this one, whoever has signed it: for who composes or signs it.
    ///
    /// # Errors
    /// [`RefuseAuthority`] if it does not follow this version, or could not be used whoever signed it.
    pub fn read_next(&self, next: &Envelope) -> Result<Authority, RefuseAuthority> {
        let document: Authority = parse_payload(&next.payload)?;
        document.validate()?;
        let held = self.document();
        if document.trust_domain != held.trust_domain
            || document.version != held.version + 1
            || document.previous != Some(self.0.digest())
            || !held.revoked.is_subset(&document.revoked)
        {
            return Err(RefuseAuthority::NotNext {
                held: held.version,
                offered: document.version,
            });
        }
        Ok(document)
    }

    /// Follows `versions`, oldest first, as far as they hold; those at or below the present version are passed over.
    #[must_use]
    pub fn follow(&self, versions: &[Envelope]) -> Followed {
        let mut steps: Vec<Self> = Vec::new();
        for envelope in versions {
            match steps.last().unwrap_or(self).step(envelope) {
                Ok(None) => {}
                Ok(Some(next)) => steps.push(next),
                Err(refused) => {
                    return Followed {
                        steps,
                        refused: Some(refused),
                    };
                }
            }
        }
        Followed { steps, refused: None }
    }

    /// Follows all of `versions`.
    ///
    /// # Errors
    /// [`RefuseAuthority`] for the first that does not hold.
    pub fn walk(self, versions: &[Envelope]) -> Result<Self, RefuseAuthority> {
        let Followed { mut steps, refused } = self.follow(versions);
        match refused {
            Some(refused) => Err(refused),
            None => Ok(steps.pop().unwrap_or(self)),
        }
    }

    /// The version after this one in `envelope`; none if it is this one, or one before it.
    fn step(&self, envelope: &Envelope) -> Result<Option<Self>, RefuseAuthority> {
        let claimed: Authority = parse_payload(&envelope.payload)?;
        if claimed.version <= self.document().version {
            return Ok(None);
        }
        self.advance(envelope).map(Some)
    }

    fn signed_by_itself(document: Authority, envelope: &Envelope) -> Result<Self, RefuseAuthority> {
        let signers = document.check(Authority::KIND, &Act::Authority, envelope)?;
        Ok(Self(Verified::new(document, envelope.clone(), signers)))
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &Authority {
        self.0.value()
    }

    /// The envelope it came in, to be kept and handed on.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        self.0.envelope()
    }

    /// The pin that names this version.
    #[must_use]
    pub const fn pin(&self) -> AuthorityPin {
        AuthorityPin {
            version: self.document().version,
            digest: self.0.digest(),
        }
    }

    /// The listed key of an operator; none if nobody of that name is listed, or the key is revoked.
    #[must_use]
    pub fn operator(&self, name: &Name) -> Option<&AuthorityKey> {
        let authority = self.document();
        authority
            .keys
            .iter()
            .find(|key| key.name == *name && !authority.revoked.contains(&key.id))
    }

    /// [`Authority::progress`] by this version.
    #[must_use]
    pub fn progress(&self, kind: DraftKind, envelope: &Envelope) -> Progress {
        self.document().progress(kind, envelope)
    }

    /// A document that this machine verified before, told by its digest: the same bytes, whatever has become of the keys
    /// that signed them.
    #[must_use]
    pub fn recall<T: Payload>(envelope: &Envelope, verified_before: Digest) -> Option<Verified<T>> {
        if envelope.digest() != verified_before {
            return None;
        }
        let value = parse_payload(&envelope.payload).ok()?;
        Some(Verified::new(value, envelope.clone(), Vec::new()))
    }

    /// Verifies a signed document, then parses the same bytes: one of this authority's own fleet.
    ///
    /// # Errors
    /// [`RefuseEnvelope`]: past the authority's expiry, too few good signatures, not a `T`, or for another fleet.
    pub fn verify<T: Payload>(
        &self,
        envelope: &Envelope,
        act: &Act,
        now_secs: u64,
    ) -> Result<Verified<T>, RefuseEnvelope> {
        let authority = self.document();
        if now_secs >= authority.expires_secs {
            return Err(RefuseEnvelope::Expired {
                version: authority.version,
                expired_secs_ago: now_secs - authority.expires_secs,
            });
        }
        let signers = authority.check(T::KIND, act, envelope)?;
        let value: T = self.of_this_fleet(parse_payload(&envelope.payload)?)?;
        Ok(Verified::new(value, envelope.clone(), signers))
    }

    /// One key may sign in two fleets: what it signed in one counts for nothing in the other.
    pub(crate) fn of_this_fleet<T: Payload>(&self, value: T) -> Result<T, RefuseEnvelope> {
        let own = &self.document().trust_domain;
        if value.trust_domain() != own {
            return Err(RefuseEnvelope::TrustDomain {
                kind: T::KIND,
                got: value.trust_domain().clone(),
                own: own.clone(),
            });
        }
        Ok(value)
    }
}

/// How far versions lead from the one that is trusted.
#[derive(Debug)]
pub struct Followed {
    /// Every version that was reached, oldest first.
    pub steps: Vec<TrustedAuthority>,
    /// Why the next one was not; none if all were followed.
    pub refused: Option<RefuseAuthority>,
}
