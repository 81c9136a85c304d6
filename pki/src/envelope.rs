//! Signed documents: the exact bytes, with signatures over their domain-separated form.
//!
//! Verify, then parse the same bytes. The only way to a [`Verified`] value is through
//! [`TrustedAuthority::verify`](crate::authority::TrustedAuthority::verify), so whoever holds one knows that operators
//! signed it. A payload's digest covers the payload alone, so that signatures can be added later.

mod algorithm;

use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::payload::Payload;
use holdfast_proto::v1;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use algorithm::{Algorithm, InvalidPublicKey, UnknownAlgorithm};

/// The most signatures that are looked at in one envelope.
pub const SIGNATURES_MAX: usize = 16;
/// The longest signature that is read: one by a token has about 300 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 4 * 1024;

/// Exact bytes and signatures over them: nothing is known of either yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The document's bytes, as they were signed.
    #[serde(with = "base64_text")]
    pub payload: Vec<u8>,
    /// Who is said to have signed them.
    #[serde(deserialize_with = "bounded_signatures")]
    pub signatures: Vec<Signature>,
}

/// One signature over an envelope's payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The signing key's id (see [`crate::authority::key_id`]).
    pub key_id: Digest,
    /// How it was made; must be the algorithm that the authority records for the key.
    pub algorithm: Algorithm,
    /// The signature itself.
    #[serde(with = "base64_text")]
    pub signature: Vec<u8>,
}

/// What a signature over `payload` of the given kind covers: a domain of ours, the kind, and the payload.
///
/// The kind holds no NUL byte, so the parts cannot run into one another.
#[must_use]
pub fn signed_bytes(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + kind.len() + payload.len());
    bytes.extend_from_slice(b"holdfast signed document 1\0");
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// An envelope around `payload` without a signature yet.
    #[must_use]
    pub const fn unsigned(payload: Vec<u8>) -> Self {
        Self {
            payload,
            signatures: Vec::new(),
        }
    }

    /// The digest of the payload alone: the document's name wherever one document refers to another.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }
}

/// A document whose signatures were verified, beside the bytes it was read from.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    value: T,
    digest: Digest,
    envelope: Envelope,
    signers: Vec<Name>,
}

impl<T> Verified<T> {
    /// Only `authority` verifies signatures, so only it may call this.
    pub(crate) fn new(value: T, envelope: Envelope, signers: Vec<Name>) -> Self {
        Self {
            value,
            digest: envelope.digest(),
            envelope,
            signers,
        }
    }

    /// The document.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The digest of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes and signatures that were verified.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The operators whose signatures counted.
    #[must_use]
    pub fn signers(&self) -> &[Name] {
        &self.signers
    }
}

/// Reads a payload of kind `T`, strictly: known kind, known format, no unknown field, no byte behind the end.
///
/// # Errors
/// [`InvalidPayload`] says what is wrong. Nothing is said about who wrote it: verify first.
pub fn parse_payload<T: Payload>(payload: &[u8]) -> Result<T, InvalidPayload> {
    if payload.len() > T::BYTES_MAX {
        return Err(InvalidPayload::Size {
            kind: T::KIND,
            bytes: payload.len(),
            max: T::BYTES_MAX,
        });
    }
    let value: T = serde_json::from_slice(payload).map_err(|source| InvalidPayload::Json {
        kind: T::KIND,
        source,
    })?;
    if value.kind() != T::KIND || value.format() != T::FORMAT {
        return Err(InvalidPayload::Kind {
            kind: T::KIND,
            format: T::FORMAT,
            got: format!(
                "'{}' format {}",
                value.kind().chars().take(40).collect::<String>(),
                value.format()
            ),
        });
    }
    Ok(value)
}

/// Why bytes are no document of the wanted kind.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPayload {
    /// It is too large to be read.
    #[error("the {kind} has {bytes} bytes, more than the {max} that are read")]
    Size {
        /// The kind that was wanted.
        kind: &'static str,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// It is not the JSON we expect.
    #[error("the {kind} cannot be read")]
    Json {
        /// The kind that was wanted.
        kind: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// It is another document.
    #[error("wanted a {kind} of format {format}, got {got}; a newer Holdfast may be needed here")]
    Kind {
        /// The kind that was wanted.
        kind: &'static str,
        /// The format that is known.
        format: u32,
        /// What it says it is.
        got: String,
    },
}

/// Why a message holds no envelope.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvelope {
    /// There is none.
    #[error("the envelope is missing")]
    Missing,
    /// It carries more signatures than are looked at.
    #[error("the envelope has {0} signatures, more than {SIGNATURES_MAX}")]
    Signatures(usize),
    /// A signature is longer than is read.
    #[error("a signature of {0} bytes is longer than the {SIGNATURE_BYTES_MAX} that are read")]
    SignatureBytes(usize),
    /// A key id is no digest.
    #[error(transparent)]
    KeyId(#[from] holdfast_proto::ids::InvalidId),
    /// An algorithm that this build does not know.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
}

impl TryFrom<Option<v1::Envelope>> for Envelope {
    type Error = InvalidEnvelope;
    fn try_from(wire: Option<v1::Envelope>) -> Result<Self, InvalidEnvelope> {
        wire.ok_or(InvalidEnvelope::Missing)?.try_into()
    }
}

impl TryFrom<v1::Envelope> for Envelope {
    type Error = InvalidEnvelope;
    fn try_from(wire: v1::Envelope) -> Result<Self, InvalidEnvelope> {
        check_bounds(wire.signatures.iter().map(|signature| signature.signature.len()))?;
        let signatures = wire.signatures.into_iter().map(|signature| {
            Ok(Signature {
                key_id: signature.key_id.parse()?,
                algorithm: signature.algorithm.parse()?,
                signature: signature.signature.to_vec(),
            })
        });
        Ok(Self {
            payload: wire.payload.to_vec(),
            signatures: signatures.collect::<Result<_, InvalidEnvelope>>()?,
        })
    }
}

/// Whether signatures of these lengths are few and short enough, wherever an envelope comes from.
fn check_bounds(lengths: impl ExactSizeIterator<Item = usize>) -> Result<(), InvalidEnvelope> {
    if lengths.len() > SIGNATURES_MAX {
        return Err(InvalidEnvelope::Signatures(lengths.len()));
    }
    lengths
        .max()
        .filter(|&longest| longest > SIGNATURE_BYTES_MAX)
        .map_or(Ok(()), |longest| Err(InvalidEnvelope::SignatureBytes(longest)))
}

fn bounded_signatures<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Signature>, D::Error> {
    let signatures = Vec::<Signature>::deserialize(deserializer)?;
    check_bounds(signatures.iter().map(|signature| signature.signature.len())).map_err(D::Error::custom)?;
    Ok(signatures)
}

impl From<&Envelope> for v1::Envelope {
    fn from(envelope: &Envelope) -> Self {
        let signatures = envelope.signatures.iter().map(|signature| v1::Signature {
            key_id: signature.key_id.to_string(),
            algorithm: signature.algorithm.as_str().to_owned(),
            signature: signature.signature.clone().into(),
        });
        Self {
            payload: envelope.payload.clone().into(),
            signatures: signatures.collect(),
        }
    }
}

/// Bytes as base64 in JSON documents and files.
pub(crate) mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64
            .decode(String::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(algorithm: &str, signature: Vec<u8>, count: usize) -> v1::Envelope {
        let signature = v1::Signature {
            key_id: Digest::of(b"key").to_string(),
            algorithm: algorithm.to_owned(),
            signature: signature.into(),
        };
        v1::Envelope {
            payload: b"{}".to_vec().into(),
            signatures: vec![signature; count],
        }
    }

    #[test]
    fn every_algorithm_has_one_word_on_the_wire_and_in_documents() {
        for algorithm in Algorithm::ALL {
            let word = algorithm.as_str();
            let read = Envelope::try_from(wire(word, vec![7], 1)).unwrap();
            assert_eq!(read.signatures[0].algorithm, algorithm);
            assert_eq!(serde_json::to_value(algorithm).unwrap(), word);
        }
        let unknown = Envelope::try_from(wire("sshsig-rsa", vec![7], 1)).unwrap_err();
        assert!(unknown.to_string().contains("'sshsig-rsa'"), "{unknown}");
    }

    #[test]
    fn too_many_or_too_long_signatures_are_refused_from_the_wire_and_from_json() {
        for (bytes, count, good) in [
            (SIGNATURE_BYTES_MAX, SIGNATURES_MAX, true),
            (SIGNATURE_BYTES_MAX + 1, 1, false),
            (1, SIGNATURES_MAX + 1, false),
        ] {
            let from_wire = Envelope::try_from(wire("ed25519", vec![7; bytes], count));
            assert_eq!(from_wire.is_ok(), good, "{count} of {bytes} bytes");
            let signature = Signature {
                key_id: Digest::of(b"key"),
                algorithm: Algorithm::Ed25519,
                signature: vec![7; bytes],
            };
            let envelope = Envelope {
                payload: b"{}".to_vec(),
                signatures: vec![signature; count],
            };
            let from_json = serde_json::from_slice::<Envelope>(&serde_json::to_vec(&envelope).unwrap());
            assert_eq!(from_json.is_ok(), good, "{count} of {bytes} bytes");
        }
    }
}
