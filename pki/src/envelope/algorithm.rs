//! How signatures are made: by a key in a file, or by one behind an ssh-agent.

use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::ssh_key::{InvalidSshKey, SshKeyType, SshPublicKey};
use crate::sshsig;

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032) over [`super::signed_bytes`].
    #[serde(rename = "ed25519")]
    Ed25519,
    /// An SSHSIG ([`crate::sshsig`]) over the same bytes, by an Ed25519 key in an ssh-agent.
    #[serde(rename = "sshsig-ed25519")]
    SshsigEd25519,
    /// The same by a key on a FIDO2 token.
    #[serde(rename = "sshsig-sk-ed25519")]
    SshsigSkEd25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::SshsigEd25519, Self::SshsigSkEd25519];

    /// The algorithm's word in documents and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::SshsigEd25519 => "sshsig-ed25519",
            Self::SshsigSkEd25519 => "sshsig-sk-ed25519",
        }
    }

    /// The type of the ssh keys that sign by it; none if it is not for ssh keys.
    #[must_use]
    pub const fn ssh_key_type(self) -> Option<SshKeyType> {
        match self {
            Self::Ed25519 => None,
            Self::SshsigEd25519 => Some(SshKeyType::Ed25519),
            Self::SshsigSkEd25519 => Some(SshKeyType::SkEd25519),
        }
    }

    /// Whether `public` has the shape of a public key: 32 bytes (RFC 8032), or an ssh key as it travels, of this type.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_public(self, public: &[u8]) -> Result<(), InvalidPublicKey> {
        match self.ssh_key_type() {
            None if public.len() == 32 => Ok(()),
            None => Err(InvalidPublicKey::Size(public.len())),
            Some(wanted) => {
                let key_type = SshPublicKey::from_blob(public)?.key_type();
                if key_type != wanted {
                    return Err(InvalidPublicKey::Type {
                        algorithm: self.as_str(),
                        key_type,
                    });
                }
                Ok(())
            }
        }
    }

    /// Whether `signature` is one of `public` over `message` ([`super::signed_bytes`]).
    #[must_use]
    pub fn verify(self, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        match self.ssh_key_type() {
            None => UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .is_ok(),
            Some(key_type) => sshsig::verify(key_type, public, message, signature),
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownAlgorithm(text.chars().take(40).collect()))
    }
}

/// A word that names no algorithm of this build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signature algorithm '{0}' is not known here; a newer Holdfast may be needed")]
pub struct UnknownAlgorithm(String);

/// Why bytes are no public key for an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicKey {
    /// An Ed25519 key has one length only.
    #[error("an ed25519 key has 32 bytes, this one has {0}")]
    Size(usize),
    /// No ssh key.
    #[error(transparent)]
    Ssh(#[from] InvalidSshKey),
    /// An ssh key that signs otherwise.
    #[error("a key of type {key_type} does not sign by {algorithm}")]
    Type {
        /// How it is said to sign.
        algorithm: &'static str,
        /// What it is.
        key_type: SshKeyType,
    },
}
