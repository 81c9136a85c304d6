//! Forgeries: what an enemy makes of signed documents and of whatever keys it has.

use std::path::Path;

use anyhow::{Context as _, Result};
use holdfast_pki::authority::{Authority, AuthorityKey, Role, key_id};
use holdfast_pki::envelope::{Algorithm, Envelope, Signature, signed_bytes};
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::tls;
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// Changes one byte, at the `n`-th of `samples` places spread over all of `bytes`; tells where.
pub(crate) fn changed(bytes: &mut [u8], n: usize, samples: usize) -> usize {
    let at = n * (bytes.len() - 1) / (samples - 1);
    bytes[at] ^= 1;
    at
}

/// `envelope` signed by the key in a PEM file, in the key's own name and in that of `other`.
pub(crate) fn signatures_by(path: &Path, envelope: &Envelope, other: Digest) -> Result<(Envelope, Envelope)> {
    let key =
        PrivateKeyDer::from_pem_file(path).with_context(|| format!("{} holds no key", path.display()))?;
    let key = tls::provider().key_provider.load_private_key(key)?;
    let signer = key
        .choose_scheme(&[SignatureScheme::ED25519])
        .context("no Ed25519 key")?;
    let public = key.public_key().context("no public key")?;
    // The key stands at the end of a SubjectPublicKeyInfo (RFC 8410, section 4).
    let public = public.split_last_chunk::<32>().context("a short public key")?.1;
    let signature = signer.sign(&signed_bytes(Manifest::KIND, &envelope.payload))?;
    let named = |key_id| {
        let signature = Signature {
            key_id,
            algorithm: Algorithm::Ed25519,
            signature: signature.clone(),
        };
        Envelope {
            signatures: vec![signature],
            ..envelope.clone()
        }
    };
    Ok((named(key_id(Algorithm::Ed25519, public)), named(other)))
}

/// An authority's entry that lets `key` sign everything, as the operator `name`.
pub(crate) fn admin(key: &SigningKey, name: &str) -> Result<AuthorityKey> {
    Ok(AuthorityKey {
        id: key.key_id(),
        algorithm: Algorithm::Ed25519,
        public: key.public(),
        name: name.parse()?,
        role: Role::Admin,
    })
}

/// `authority`, signed by `keys`.
pub(crate) fn signed_authority(authority: &Authority, keys: &[&SigningKey]) -> Result<Envelope> {
    let mut envelope = Envelope::unsigned(serde_json::to_vec(authority)?);
    for key in keys {
        key.sign(Authority::KIND, &mut envelope);
    }
    Ok(envelope)
}
