//! The join token: all that a new machine needs to trust the right fleet, in one string.
//!
//! `hft1.` and base64url of: JSON, then the first four bytes of its SHA-256, so that a cut-off paste is told apart from a
//! wrong one. The operator's CLI makes it; the hub never sees it, nor the secret in it before a node enrols.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use holdfast_proto::ids::{Digest, TrustDomain};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::{AuthorityPin, KEYS_MAX};
use crate::envelope::{Envelope, base64_text};
use crate::grant::JoinGrant;

const PREFIX: &str = "hft1.";
/// The longest token that is read.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// A join token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The hubs' addresses, `host:port`.
    pub hubs: Vec<String>,
    /// The fingerprints of the node roots: nothing is sent to a hub that is not below one of them.
    pub node_roots: BTreeSet<Digest>,
    /// The authority, from the operator's own pin.
    pub authority: AuthorityPin,
    /// The signed join grant.
    pub grant: Envelope,
    /// The secret whose digest the grant holds.
    #[serde(with = "base64_text")]
    pub secret: Vec<u8>,
}

/// The secret never shows.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("trust_domain", &self.trust_domain)
            .field("hubs", &self.hubs)
            .field("grant", &self.grant.digest())
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// The token's text, which holds the secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(self).expect("a struct of texts and bytes"));
        let check = Digest::of(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..4]);
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&*bytes)))
    }

    /// The grant as it stands in the token. Its signatures are checked once the authority is known
    /// ([`crate::authority::TrustedAuthority::verify`]); until then only the token's bearer vouches for it.
    ///
    /// # Errors
    /// [`InvalidToken`] if it is no grant.
    pub fn claimed_grant(&self) -> Result<JoinGrant, InvalidToken> {
        crate::envelope::parse_payload(&self.grant.payload).map_err(InvalidToken::Grant)
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::NoToken);
        }
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidToken::NoToken)?;
        let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| InvalidToken::Damaged)?);
        let (json, check) = bytes.split_last_chunk::<4>().ok_or(InvalidToken::Damaged)?;
        if Digest::of(json).as_bytes()[..4] != check[..] {
            return Err(InvalidToken::Damaged);
        }
        // The error of serde_json may quote the text, so it is dropped: the text holds the secret.
        let token: Self = serde_json::from_slice(json).map_err(|_| InvalidToken::Damaged)?;
        if token.hubs.is_empty()
            || token.hubs.len() > 16
            || token.node_roots.len() > KEYS_MAX
            || token.secret.len() != 32
        {
            return Err(InvalidToken::Damaged);
        }
        Ok(token)
    }
}

/// Why a text is no join token. It never quotes the text.
#[derive(Debug, thiserror::Error)]
pub enum InvalidToken {
    /// It does not begin like one.
    #[error(
        "this is no join token: one begins with '{PREFIX}' and is one line; make it with `holdfast token create`"
    )]
    NoToken,
    /// It does.
    #[error(
        "the join token is damaged or cut off: copy the whole line, or make a new one with `holdfast token create`"
    )]
    Damaged,
    /// Its grant is none.
    #[error("the join token's grant cannot be read")]
    Grant(#[source] crate::envelope::InvalidPayload),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            trust_domain: "lab.example".parse().unwrap(),
            hubs: vec!["hub.lab.example:8443".to_owned()],
            node_roots: BTreeSet::from([Digest::of(b"root")]),
            authority: AuthorityPin {
                version: 1,
                digest: Digest::of(b"authority"),
            },
            grant: Envelope::unsigned(b"{}".to_vec()),
            secret: vec![7; 32],
        }
    }

    #[test]
    fn a_token_reads_back_and_never_shows_its_secret() {
        let read: JoinToken = format!("{}\n", *token().to_text()).parse().unwrap();
        assert_eq!(read.secret, token().secret);
        assert!(!format!("{read:?}").contains("7, 7"));
    }

    #[test]
    fn a_cut_off_token_says_so() {
        let text = token().to_text();
        for len in PREFIX.len()..text.len() {
            assert!(
                matches!(text[..len].parse::<JoinToken>(), Err(InvalidToken::Damaged)),
                "{len}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text: String) {
            prop_assert!(text.parse::<JoinToken>().is_err());
            let prefixed = format!("{PREFIX}{text}").parse::<JoinToken>();
            prop_assert!(prefixed.is_err());
        }
    }
}
