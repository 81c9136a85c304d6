//! The operator's directory: what lets a person in, what signs for them, and what their machine remembers of a fleet.
//!
//! `context.json` holds the pins: hub addresses, node root, authority and the highest release seen. They are never taken
//! from a hub without a proof. `signing.key` signs; `api.crt` and `api.key` open the door and sign nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_pki::authority::AuthorityPin;
use holdfast_pki::files::Files;
use holdfast_pki::tls::ClientIdentity;
use holdfast_proto::ids::{Digest, Generation, Name, TrustDomain};
use holdfast_proto::payload::format_1;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// What an operator's machine remembers of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The operator.
    pub operator: Name,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The hubs' addresses, `host:port`.
    pub hubs: Vec<String>,
    /// Fingerprint of the node root, below which hubs are.
    pub node_root: Digest,
    /// The newest authority that was verified here.
    pub authority: AuthorityPin,
    /// The highest release that was seen here: a hub that shows an older one is not believed.
    pub highest: Option<SeenRelease>,
}

/// A release that was verified on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenRelease {
    /// Its generation.
    pub generation: Generation,
    /// Its manifest's digest.
    pub manifest: Digest,
}

/// An operator's directory.
#[derive(Debug, Clone)]
pub struct OperatorDir {
    path: PathBuf,
    files: Arc<dyn Files>,
}

/// Why the operator's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorDirError {
    /// There is none.
    #[error(
        "there is no operator's credential in {}: give --operator-dir, or make one with `holdfast init` on the hub",
        .dir.display()
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The context is not ours.
    #[error("{} cannot be understood", .path.display())]
    Context {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The API credential is not PEM.
    #[error("{} holds no PEM of the expected kind", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
}

impl OperatorDir {
    /// The directory at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, files: Arc<dyn Files>) -> Self {
        Self {
            path: path.into(),
            files,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, name: &str) -> Result<(PathBuf, Vec<u8>), OperatorDirError> {
        let path = self.path.join(name);
        match self.files.read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Err(OperatorDirError::Missing {
                dir: self.path.clone(),
            }),
            Err(source) => Err(OperatorDirError::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), OperatorDirError> {
        let path = self.path.join(name);
        let written = self.files.write_atomic(&path, bytes, mode);
        written.map_err(|source| OperatorDirError::Io {
            doing: "write",
            path,
            source,
        })
    }

    /// What is remembered.
    ///
    /// # Errors
    /// [`OperatorDirError`] if there is no such directory or it cannot be understood.
    pub fn context(&self) -> Result<Context, OperatorDirError> {
        let (path, bytes) = self.read("context.json")?;
        serde_json::from_slice(&bytes).map_err(|source| OperatorDirError::Context { path, source })
    }

    /// Remembers.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses; what was remembered before stays.
    pub fn write_context(&self, context: &Context) -> Result<(), OperatorDirError> {
        let bytes = serde_json::to_vec_pretty(context).expect("a struct of texts and numbers");
        self.write("context.json", &bytes, 0o600)
    }

    /// The file of the signing key, as it is: sealed, if it is.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it is not there.
    pub fn signing_key_file(&self) -> Result<Vec<u8>, OperatorDirError> {
        Ok(self.read("signing.key")?.1)
    }

    /// Writes the signing key's file.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses.
    pub fn write_signing_key(&self, file: &[u8]) -> Result<(), OperatorDirError> {
        self.write("signing.key", file, 0o600)
    }

    /// What opens the hub's door for this operator.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it is not there or cannot be understood.
    pub fn api_credential(&self) -> Result<ClientIdentity, OperatorDirError> {
        let (path, certificate) = self.read("api.crt")?;
        let leaf = CertificateDer::from_pem_slice(&certificate)
            .map_err(|source| OperatorDirError::Pem { path, source })?;
        let (path, key) = self.read("api.key")?;
        let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(key))
            .map_err(|source| OperatorDirError::Pem { path, source })?;
        Ok(ClientIdentity {
            chain: vec![leaf],
            key,
        })
    }

    /// Writes what opens the hub's door.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses.
    pub fn write_api_credential(&self, certificate_pem: &str, key_pem: &str) -> Result<(), OperatorDirError> {
        self.write("api.crt", certificate_pem.as_bytes(), 0o644)?;
        self.write("api.key", key_pem.as_bytes(), 0o600)
    }
}
