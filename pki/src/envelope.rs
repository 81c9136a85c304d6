//! Signed documents: the exact bytes, with signatures over their domain-separated form.
//!
//! Verify, then parse the same bytes. The only way to a [`Verified`] value is through
//! [`TrustedAuthority::verify`](crate::authority::TrustedAuthority::verify), so whoever holds one knows that operators
//! signed it. A payload's digest covers the payload alone, so that signatures can be added later.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::payload::Payload;
use holdfast_proto::v1;
use serde::{Deserialize, Serialize};

/// The most signatures that are looked at in one envelope.
pub const SIGNATURES_MAX: usize = 16;

/// Exact bytes and signatures over them: nothing is known of either yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The document's bytes, as they were signed.
    #[serde(with = "base64_text")]
    pub payload: Vec<u8>,
    /// Who is said to have signed them.
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

/// How a signature was made. The words for ssh-agent keys are reserved: `sshsig-ed25519`, `sshsig-sk-ed25519`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032) over [`signed_bytes`].
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl Algorithm {
    /// The algorithm's word in documents and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
        }
    }

    /// Whether `signature` is one of `public` over `message` ([`signed_bytes`]).
    #[must_use]
    pub fn verify(self, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519 => UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .is_ok(),
        }
    }
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
    /// A key id is no digest.
    #[error(transparent)]
    KeyId(#[from] holdfast_proto::ids::InvalidId),
    /// An algorithm that this build does not know.
    #[error("signature algorithm '{0}' is not known here; a newer Holdfast may be needed")]
    Algorithm(String),
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
        if wire.signatures.len() > SIGNATURES_MAX {
            return Err(InvalidEnvelope::Signatures(wire.signatures.len()));
        }
        let signatures = wire.signatures.into_iter().map(|signature| {
            if signature.algorithm != Algorithm::Ed25519.as_str() {
                return Err(InvalidEnvelope::Algorithm(
                    signature.algorithm.chars().take(40).collect(),
                ));
            }
            Ok(Signature {
                key_id: signature.key_id.parse()?,
                algorithm: Algorithm::Ed25519,
                signature: signature.signature.to_vec(),
            })
        });
        Ok(Self {
            payload: wire.payload.to_vec(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }
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
