//! An operator's signing key, and the file it rests in.
//!
//! The file is JSON: algorithm, public key, how the key that seals it is derived (argon2id, RFC 9106, or none), and the
//! 32-byte Ed25519 seed sealed with AES-256-GCM. The file's other fields are bound in as associated data.

use std::fmt;

use argon2::Argon2;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::key_id;
use crate::envelope::{Algorithm, Envelope, Signature, base64_text, signed_bytes};
use crate::random::{Random, SystemRandom};
use holdfast_proto::ids::Digest;

/// An Ed25519 key that signs for an operator.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id().short())
    }
}

impl SigningKey {
    /// Makes a new key from the machine's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom.fill(seed.as_mut());
        Self::from_seed(seed)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("any 32 bytes are an Ed25519 seed");
        Self { seed, pair }
    }

    /// The public key: 32 bytes (RFC 8032).
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> Digest {
        key_id(Algorithm::Ed25519, self.pair.public_key().as_ref())
    }

    /// Adds this key's signature over the envelope's payload as a document of `kind`.
    pub fn sign(&self, kind: &str, envelope: &mut Envelope) {
        let signature = self
            .pair
            .sign(&signed_bytes(kind, &envelope.payload))
            .as_ref()
            .to_vec();
        envelope.signatures.push(Signature {
            key_id: self.key_id(),
            algorithm: Algorithm::Ed25519,
            signature,
        });
    }

    /// The file that holds the key, sealed under `passphrase`; with `None` it is readable by whoever reads the file.
    ///
    /// Takes about a tenth of a second and 64 MiB with a passphrase: that is what an attacker pays for each guess.
    #[must_use]
    pub fn to_file(&self, passphrase: Option<&str>, random: &dyn Random) -> Vec<u8> {
        let kdf = passphrase.map_or(Kdf::None, |_| {
            let mut salt = vec![0; 16];
            random.fill(&mut salt);
            // RFC 9106, section 4: the second recommended option, with one lane since we derive on one thread.
            Kdf::Argon2id {
                memory_kib: 64 * 1024,
                passes: 3,
                lanes: 1,
                salt,
            }
        });
        let mut file = SigningKeyFile {
            kind: FILE_KIND.to_owned(),
            format: 1,
            algorithm: Algorithm::Ed25519,
            public: self.public(),
            kdf,
            nonce: vec![0; 12],
            sealed: Vec::new(),
        };
        random.fill(&mut file.nonce);
        let key = file
            .sealing_key(passphrase)
            .expect("the parameters above are valid");
        let mut sealed = self.seed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&file.nonce).expect("12 bytes");
        key.seal_in_place_append_tag(nonce, Aad::from(file.associated_data()), &mut sealed)
            .expect("sealing 32 bytes cannot fail");
        file.sealed = sealed;
        serde_json::to_vec_pretty(&file).expect("a struct of texts and numbers")
    }

    /// Opens the file. Ask [`needs_passphrase`] first.
    ///
    /// # Errors
    /// [`OpenSigningKey`]: not such a file, or not this passphrase.
    pub fn from_file(bytes: &[u8], passphrase: Option<&str>) -> Result<Self, OpenSigningKey> {
        let file = SigningKeyFile::parse(bytes)?;
        let key = file.sealing_key(passphrase)?;
        let nonce = Nonce::try_assume_unique_for_key(&file.nonce).map_err(|_| OpenSigningKey::Malformed)?;
        let mut opened = Zeroizing::new(file.sealed.clone());
        let seed = key
            .open_in_place(nonce, Aad::from(file.associated_data()), &mut opened)
            .map_err(|_| OpenSigningKey::WrongPassphrase)?;
        let seed: [u8; 32] = (&*seed).try_into().map_err(|_| OpenSigningKey::Malformed)?;
        let key = Self::from_seed(Zeroizing::new(seed));
        if key.public() != file.public {
            return Err(OpenSigningKey::Malformed);
        }
        Ok(key)
    }
}

/// Whether the file can be opened only with a passphrase.
///
/// # Errors
/// [`OpenSigningKey`] if it is no signing key's file.
pub fn needs_passphrase(bytes: &[u8]) -> Result<bool, OpenSigningKey> {
    Ok(!matches!(SigningKeyFile::parse(bytes)?.kdf, Kdf::None))
}

/// Why a signing key's file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenSigningKey {
    /// It is not such a file.
    #[error("this is no signing key's file of format 1")]
    NoKeyFile(#[source] serde_json::Error),
    /// Its parts do not fit together.
    #[error("the signing key's file is damaged; restore it from a copy")]
    Malformed,
    /// It asks for more memory or time than we spend.
    #[error("the signing key's file asks for an unreasonable key derivation")]
    Unreasonable,
    /// There must be a passphrase.
    #[error(
        "the signing key is encrypted: its passphrase is needed (--passphrase-file, or a terminal to ask on)"
    )]
    PassphraseNeeded,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the signing key (or its file is damaged)")]
    WrongPassphrase,
}

const FILE_KIND: &str = "holdfast-signing-key";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningKeyFile {
    kind: String,
    format: u32,
    algorithm: Algorithm,
    #[serde(with = "base64_text")]
    public: Vec<u8>,
    kdf: Kdf,
    #[serde(with = "base64_text")]
    nonce: Vec<u8>,
    #[serde(with = "base64_text")]
    sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
enum Kdf {
    /// Sealed under a key of zeros: the same file shape, no secrecy.
    None,
    Argon2id {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        #[serde(with = "base64_text")]
        salt: Vec<u8>,
    },
}

impl SigningKeyFile {
    fn parse(bytes: &[u8]) -> Result<Self, OpenSigningKey> {
        let file: Self = serde_json::from_slice(bytes).map_err(OpenSigningKey::NoKeyFile)?;
        if file.kind != FILE_KIND || file.format != 1 {
            return Err(OpenSigningKey::Malformed);
        }
        Ok(file)
    }

    fn associated_data(&self) -> Vec<u8> {
        [
            FILE_KIND.as_bytes(),
            &[0, 1],
            self.algorithm.as_str().as_bytes(),
            &[0],
            &self.public,
        ]
        .concat()
    }

    fn sealing_key(&self, passphrase: Option<&str>) -> Result<LessSafeKey, OpenSigningKey> {
        let mut key = Zeroizing::new([0; 32]);
        if let Kdf::Argon2id {
            memory_kib,
            passes,
            lanes,
            salt,
        } = &self.kdf
        {
            let passphrase = passphrase.ok_or(OpenSigningKey::PassphraseNeeded)?;
            if *memory_kib > 1024 * 1024 || *passes > 64 || *lanes > 16 {
                return Err(OpenSigningKey::Unreasonable);
            }
            let params = argon2::Params::new(*memory_kib, *passes, *lanes, Some(32))
                .map_err(|_| OpenSigningKey::Malformed)?;
            Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
                .map_err(|_| OpenSigningKey::Malformed)?;
        }
        // Each file has a salt, hence a key, of its own, and each key seals once: the nonce cannot repeat under it.
        Ok(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn a_sealed_key_opens_only_with_its_passphrase() {
        let key = SigningKey::generate();
        let file = key.to_file(Some("correct horse"), &SeededRandom::new(1));
        assert!(needs_passphrase(&file).unwrap());
        assert_eq!(
            SigningKey::from_file(&file, Some("correct horse"))
                .unwrap()
                .key_id(),
            key.key_id()
        );
        let wrong = SigningKey::from_file(&file, Some("battery staple"));
        assert!(matches!(wrong, Err(OpenSigningKey::WrongPassphrase)));
        assert!(matches!(
            SigningKey::from_file(&file, None),
            Err(OpenSigningKey::PassphraseNeeded)
        ));
        assert!(!file.windows(32).any(|w| w == key.seed.as_ref()));
    }

    #[test]
    fn without_a_kdf_the_file_opens_at_once() {
        let key = SigningKey::generate();
        let file = key.to_file(None, &SeededRandom::new(1));
        assert!(!needs_passphrase(&file).unwrap());
        assert_eq!(SigningKey::from_file(&file, None).unwrap().key_id(), key.key_id());
    }

    #[test]
    fn a_changed_public_key_is_noticed() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let file = String::from_utf8(key.to_file(None, &SeededRandom::new(1))).unwrap();
        let encode = |key: &SigningKey| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(key.public())
        };
        let forged = file.replace(&encode(&key), &encode(&other));
        assert!(SigningKey::from_file(forged.as_bytes(), None).is_err());
    }
}
