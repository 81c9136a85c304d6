//! An operator's signing key at work.

use holdfast_pki::envelope::{Algorithm, Envelope};
use holdfast_pki::signing_key::{SigningKey, needs_passphrase};
use holdfast_proto::ids::Digest;

use super::{Signing, passphrase};
use crate::operator_dir::ContextDir;

/// What signs for an operator.
#[derive(Debug)]
pub(super) enum Signer {
    /// A key in a sealed file.
    File(SigningKey),
}

impl Signer {
    /// Opens the signing key of a context, asking for its passphrase if it must.
    pub(super) fn open(dir: &ContextDir, signing: &Signing) -> anyhow::Result<Self> {
        let file = dir.signing_key_file()?;
        let passphrase = if needs_passphrase(&file)? {
            Some(passphrase::ask(signing, false)?)
        } else {
            None
        };
        let key = SigningKey::from_file(&file, passphrase.as_deref().map(String::as_str))?;
        Ok(Self::File(key))
    }

    /// The key's id.
    pub(super) fn key_id(&self) -> Digest {
        match self {
            Self::File(key) => key.key_id(),
        }
    }

    /// How it signs.
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::File(_) => Algorithm::Ed25519,
        }
    }

    /// The public key, as an authority lists it.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Self::File(key) => key.public(),
        }
    }

    /// Adds this key's signature over the envelope's payload as a document of `kind`.
    ///
    /// # Errors
    /// What kept the key from signing.
    pub(super) fn sign(&self, kind: &str, envelope: &mut Envelope) -> anyhow::Result<()> {
        match self {
            Self::File(key) => key.sign(kind, envelope),
        }
        Ok(())
    }
}
