//! Who this node is: a key that was made here, and the certificate that a hub issued for it.
//!
//! In the state directory: `node.key` (made before the first word to a hub, so that a repeated enrolment is the same
//! node's), `node.crt` (the chain), and `identity.json`, written last: where it is, this node is enrolled.

use std::path::{Path, PathBuf};

use holdfast_pki::csr;
use holdfast_pki::files::Files;
use holdfast_pki::issue::{PkiError, to_pem};
use holdfast_pki::tls::ClientIdentity;
use holdfast_proto::ids::{Name, NodeId, TrustDomain};
use holdfast_proto::payload::format_1;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const IDENTITY_FILE: &str = "identity.json";
const KEY_FILE: &str = "node.key";
const CHAIN_FILE: &str = "node.crt";

/// What a node knows of itself once it is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// Digest of the public key.
    pub node_id: NodeId,
    /// The name it enrolled under.
    pub name: Name,
    /// Its fleet.
    pub trust_domain: TrustDomain,
    /// Where its hubs are.
    pub hubs: Vec<String>,
    /// When it enrolled, in Unix seconds: a time that has surely passed.
    pub enrolled_secs: u64,
}

/// Why the identity cannot be read, made or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not ours.
    #[error("{} cannot be understood; to enrol this node anew, stop the agent, move the state directory away and give a new join token", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A key or certificate.
    #[error("{} holds no key or certificate of ours; to enrol this node anew, stop the agent, move the state directory away and give a new join token", .path.display())]
    Pki {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PkiError,
    },
}

/// Where the identity is kept.
#[derive(Debug, Clone, Copy)]
pub struct IdentityDir<'a> {
    dir: &'a Path,
    files: &'a dyn Files,
}

impl<'a> IdentityDir<'a> {
    /// The identity in the state directory `dir`.
    #[must_use]
    pub fn new(dir: &'a Path, files: &'a dyn Files) -> Self {
        Self { dir, files }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, IdentityError> {
        let path = self.dir.join(name);
        match self.files.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Io { path, source }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
        let path = self.dir.join(name);
        self.files
            .write_atomic(&path, bytes, mode)
            .map_err(|source| IdentityError::Io { path, source })
    }

    /// Who this node is; none before it enrolled.
    ///
    /// # Errors
    /// [`IdentityError`] names the file.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let parse = |bytes: Vec<u8>| {
            let path = self.dir.join(IDENTITY_FILE);
            serde_json::from_slice(&bytes).map_err(|source| IdentityError::Content { path, source })
        };
        self.read(IDENTITY_FILE)?.map(parse).transpose()
    }

    /// The node's key: the one that is there, or a new one.
    ///
    /// # Errors
    /// [`IdentityError`] names the file.
    pub fn key(&self) -> Result<KeyPair, IdentityError> {
        let wrong = |source: PkiError| IdentityError::Pki {
            path: self.dir.join(KEY_FILE),
            source,
        };
        if let Some(pem) = self.read(KEY_FILE)? {
            let pem = Zeroizing::new(pem);
            return KeyPair::from_pem(&String::from_utf8_lossy(&pem)).map_err(|error| wrong(error.into()));
        }
        let key = csr::new_key().map_err(wrong)?;
        self.write(KEY_FILE, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Keeps what the enrolment gave.
    ///
    /// # Errors
    /// [`IdentityError`] names the file; asking the hub again gives the same.
    pub fn enrolled(&self, identity: &Identity, chain: &[Vec<u8>]) -> Result<(), IdentityError> {
        let pem: String = chain.iter().map(|certificate| to_pem(certificate)).collect();
        self.write(CHAIN_FILE, pem.as_bytes(), 0o644)?;
        let bytes = serde_json::to_vec_pretty(identity).expect("a struct of texts and numbers");
        self.write(IDENTITY_FILE, &bytes, 0o600)
    }

    /// What this node shows to hubs.
    ///
    /// # Errors
    /// [`IdentityError`] names the file.
    pub fn credential(&self) -> Result<ClientIdentity, IdentityError> {
        let path = self.dir.join(CHAIN_FILE);
        let pem = self.read(CHAIN_FILE)?.unwrap_or_default();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|source| IdentityError::Pki {
                path,
                source: source.into(),
            })?;
        let key = self.key()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS #8");
        Ok(ClientIdentity { chain, key })
    }
}
