//! Identifiers and digests. Each is checked where it is parsed; a value of the type is a valid one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {what}: {want}")]
pub struct InvalidId {
    /// What was being parsed.
    pub what: &'static str,
    /// What we got, cut to 80 characters.
    pub text: String,
    /// What we wanted.
    pub want: &'static str,
}

impl InvalidId {
    /// An error that quotes at most 80 characters of `text`.
    #[must_use]
    pub fn new(what: &'static str, text: &str, want: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(80).collect(),
            want,
        }
    }
}

/// A SHA-256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The raw 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hex digits: for people, never for a decision.
    #[must_use]
    pub fn short(&self) -> String {
        to_hex(&self.0[..6])
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        from_hex(text)
            .map(Self)
            .ok_or_else(|| InvalidId::new("digest", text, "64 lower-case hex digits wanted"))
    }
}

/// A node: the digest of its enrolment key's SubjectPublicKeyInfo (DER). It stays through renewals of the certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Digest);

impl NodeId {
    /// The id of the node whose enrolment key has this SubjectPublicKeyInfo, in DER.
    #[must_use]
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(Digest::of(spki_der))
    }

    /// The digest that it is.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.0
    }

    /// The first 12 hex digits: for people, never for a decision.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

impl FromStr for NodeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        from_hex(text)
            .map(|bytes| Self(Digest(bytes)))
            .ok_or_else(|| InvalidId::new("node id", text, "64 lower-case hex digits wanted"))
    }
}

/// 16 random bytes that name one thing once (a grant, a hub instance, a pending commit): 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId([u8; 16]);

impl From<[u8; 16]> for UniqueId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UniqueId({self})")
    }
}

impl FromStr for UniqueId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        from_hex(text)
            .map(Self)
            .ok_or_else(|| InvalidId::new("id", text, "32 lower-case hex digits wanted"))
    }
}

/// The realm of one fleet's identities: a SPIFFE trust domain (SPIFFE-ID, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !fits {
            let want = "up to 100 lower-case letters, digits, '.', '-' and '_' wanted, such as lab.example";
            return Err(InvalidId::new("trust domain", text, want));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A name that people use for a node or an operator: a host name's label or a dotted row of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        if !fits {
            let want = "up to 63 lower-case letters, digits, '-' and '.' wanted, such as db-1";
            return Err(InvalidId::new("name", text, want));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The age of a desired state: epochs are raised only by an operator's signature, numbers count within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Raised by one after a restore from an old backup.
    pub epoch: u64,
    /// The release's number within the epoch.
    pub number: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

impl From<crate::v1::Generation> for Generation {
    fn from(wire: crate::v1::Generation) -> Self {
        Self {
            epoch: wire.epoch,
            number: wire.number,
        }
    }
}

impl From<Generation> for crate::v1::Generation {
    fn from(domain: Generation) -> Self {
        Self {
            epoch: domain.epoch,
            number: domain.number,
        }
    }
}

/// `bytes` as lower-case hex digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|n| char::from(digits[usize::from(n)]))
        .collect()
}

/// Exactly `N` bytes from lower-case hex digits: one spelling for each value, so that texts can be compared.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

macro_rules! serde_as_text {
    ($($id:ty),+) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(Digest, NodeId, UniqueId, TrustDomain, Name);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_digest_reads_back_as_written(bytes: Vec<u8>) {
            let digest = Digest::of(&bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }

        #[test]
        fn hex_has_one_spelling(text in "[0-9a-fA-F]{32}") {
            let read = text.parse::<UniqueId>().map(|id| id.to_string());
            prop_assert_eq!(read.ok(), (text == text.to_lowercase()).then_some(text));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = (text.parse::<Digest>(), text.parse::<NodeId>(), text.parse::<TrustDomain>(), text.parse::<Name>());
        }
    }

    #[test]
    fn generations_order_by_epoch_first() {
        assert!(Generation { epoch: 2, number: 1 } > Generation { epoch: 1, number: 9 });
    }

    #[test]
    fn names_refuse_what_a_shell_or_a_path_would_read_otherwise() {
        for bad in ["", "-x", "x-", "a/b", "..", "A", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("pve-1.lab".parse::<Name>().is_ok());
    }
}
