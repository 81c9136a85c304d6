//! One context: a fleet, an operator in it, and what was verified of it on this machine.
//!
//! `context.json` holds the pins: hub addresses, the newest authority verified here by its digest, the highest release seen.
//! They are never taken from a hub without a proof. `authority.json`, `manifest.json` and `raises.json` hold the signed
//! documents behind them, so that a hub that lost them can be shown. What was verified only grows, whatever commands run at
//! once: each looks again, alone, at what is remembered before it writes. `signing.key` signs; `api.pem` opens the door
//! and signs nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_pki::authority::{AuthorityPin, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::files::{Files, open_lock};
use holdfast_pki::tls::ClientIdentity;
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::{Digest, Generation, Name, TrustDomain};
use holdfast_proto::payload::format_1;
use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OperatorDirError;
use crate::signing_source::SigningSource;

/// The versions of the authority, and the epoch raises, that are kept to be shown to a hub that lost them.
const CHAIN_MAX: usize = 64;

/// What an operator's machine remembers of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The operator.
    pub operator: Name,
    /// Where the operator's signing key is.
    pub signing: SigningSource,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The hubs' addresses, `host:port`.
    pub hubs: Vec<String>,
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

/// A context's directory.
#[derive(Debug, Clone)]
pub struct ContextDir {
    name: Name,
    path: PathBuf,
    files: Arc<dyn Files>,
}

impl ContextDir {
    /// The context `name` at `path`.
    #[must_use]
    pub fn new(name: Name, path: PathBuf, files: Arc<dyn Files>) -> Self {
        Self { name, path, files }
    }

    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file layer it is written by.
    #[must_use]
    pub fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// A file's bytes; none if there is no such file.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OperatorDirError> {
        let path = self.path.join(name);
        match self.files.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OperatorDirError::Io {
                doing: "read",
                path,
                source,
            }),
        }
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, OperatorDirError> {
        let parse = |bytes: Vec<u8>| {
            let path = self.path.join(name);
            serde_json::from_slice(&bytes).map_err(|source| OperatorDirError::Content { path, source })
        };
        self.read(name)?.map(parse).transpose()
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

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), OperatorDirError> {
        let bytes = serde_json::to_vec_pretty(value).expect("structs of texts and numbers");
        self.write(name, &bytes, 0o600)
    }

    fn missing(&self, name: &str) -> OperatorDirError {
        OperatorDirError::Missing {
            path: self.path.join(name),
        }
    }

    /// What is remembered.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it is not there or cannot be understood.
    pub fn context(&self) -> Result<Context, OperatorDirError> {
        self.read_json("context.json")?
            .ok_or_else(|| self.missing("context.json"))
    }

    /// Begins to remember.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses; what was remembered before stays.
    pub fn write_context(&self, context: &Context) -> Result<(), OperatorDirError> {
        self.write_json("context.json", context)
    }

    /// The versions of the authority that were verified here, oldest first: the last ones, ending with the pinned one.
    ///
    /// # Errors
    /// [`OperatorDirError`] if they cannot be read.
    pub fn authority_chain(&self) -> Result<Vec<Envelope>, OperatorDirError> {
        Ok(self.read_json("authority.json")?.unwrap_or_default())
    }

    /// The newest authority that was verified here, as it was pinned.
    ///
    /// # Errors
    /// [`OperatorDirError`] if the file does not hold the pinned version.
    pub fn authority(&self, pin: &AuthorityPin) -> Result<TrustedAuthority, OperatorDirError> {
        let chain = self.authority_chain()?;
        // The last one, but for a crash between this file and the context.
        let pinned = chain.iter().rfind(|version| version.digest() == pin.digest);
        let pinned = pinned.ok_or_else(|| self.missing("authority.json"))?;
        TrustedAuthority::from_pin(pinned, pin).map_err(|source| OperatorDirError::Authority {
            path: self.path.join("authority.json"),
            source,
        })
    }

    /// Keeps the versions of the authority. To be written before the context that pins the last one.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses.
    pub fn write_authority_chain(&self, chain: &[Envelope]) -> Result<(), OperatorDirError> {
        self.write_json("authority.json", &&chain[chain.len().saturating_sub(CHAIN_MAX)..])
    }

    /// Remembers the authority that was reached by `steps` from an earlier one. `context` is what is remembered then:
    /// another command may have come further meanwhile.
    ///
    /// # Errors
    /// [`OperatorDirError`] if what is remembered cannot be read or written.
    pub fn remember_authority(
        &self,
        context: &mut Context,
        steps: &[TrustedAuthority],
    ) -> Result<(), OperatorDirError> {
        let _alone = self.lock()?;
        *context = self.context()?;
        let held = context.authority.version;
        let newer: Vec<_> = steps.iter().filter(|step| step.pin().version > held).collect();
        let Some(reached) = newer.last() else {
            return Ok(());
        };
        let mut chain = self.authority_chain()?;
        // A command that was ended between its two writes left versions behind the pinned one: they are among the steps.
        let pinned = chain
            .iter()
            .rposition(|version| version.digest() == context.authority.digest);
        chain.truncate(pinned.map_or(chain.len(), |at| at + 1));
        chain.extend(newer.iter().map(|step| step.envelope().clone()));
        self.write_authority_chain(&chain)?;
        context.authority = reached.pin();
        self.write_context(context)
    }

    /// Remembers a release that was verified, with its manifest, if it is above every one before. `context` is what is
    /// remembered then.
    ///
    /// # Errors
    /// [`OperatorDirError`] if what is remembered cannot be read or written.
    pub fn remember_release(
        &self,
        context: &mut Context,
        manifest: &Verified<Manifest>,
    ) -> Result<(), OperatorDirError> {
        let _alone = self.lock()?;
        *context = self.context()?;
        let seen = SeenRelease {
            generation: manifest.value().generation(),
            manifest: manifest.digest(),
        };
        if context
            .highest
            .as_ref()
            .is_some_and(|highest| highest.generation >= seen.generation)
        {
            return Ok(());
        }
        self.write_json("manifest.json", manifest.envelope())?;
        context.highest = Some(seen);
        self.write_context(context)
    }

    /// Remembers the raises of the epoch, of which those remembered before are the first.
    ///
    /// # Errors
    /// [`OperatorDirError`] if what is remembered cannot be read or written.
    pub fn remember_raises(&self, raises: &[Envelope]) -> Result<(), OperatorDirError> {
        let _alone = self.lock()?;
        if raises.len() > self.raises()?.len() {
            self.write_json("raises.json", &&raises[raises.len().saturating_sub(CHAIN_MAX)..])?;
        }
        Ok(())
    }

    /// Waits until no other command remembers anything here; until the file is closed, none does.
    fn lock(&self) -> Result<File, OperatorDirError> {
        let path = self.path.join("lock");
        let locked = open_lock(&path).and_then(|file| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        locked.map_err(|source| OperatorDirError::Io {
            doing: "lock",
            path,
            source,
        })
    }

    /// The manifest of the highest release that was seen.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it cannot be read.
    pub fn manifest(&self) -> Result<Option<Envelope>, OperatorDirError> {
        self.read_json("manifest.json")
    }

    /// The epoch raises that were verified here, oldest first.
    ///
    /// # Errors
    /// [`OperatorDirError`] if they cannot be read.
    pub fn raises(&self) -> Result<Vec<Envelope>, OperatorDirError> {
        Ok(self.read_json("raises.json")?.unwrap_or_default())
    }

    /// The file of the signing key, as it is: sealed, if it is.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it is not there.
    pub fn signing_key_file(&self) -> Result<Vec<u8>, OperatorDirError> {
        self.read("signing.key")?
            .ok_or_else(|| self.missing("signing.key"))
    }

    /// Writes the signing key's file.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses.
    pub fn write_signing_key(&self, file: &[u8]) -> Result<(), OperatorDirError> {
        self.write("signing.key", file, 0o600)
    }

    /// What opens the hub's door for this operator: its chain, leaf first, and key. None before the first login.
    ///
    /// # Errors
    /// [`OperatorDirError`] if it cannot be understood.
    pub fn api_credential(&self) -> Result<Option<ClientIdentity>, OperatorDirError> {
        let Some(pem) = self.read("api.pem")?.map(zeroize::Zeroizing::new) else {
            return Ok(None);
        };
        let wrong = |source| OperatorDirError::Pem {
            path: self.path.join("api.pem"),
            source,
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(wrong)?;
        Ok(Some(ClientIdentity { chain, key }))
    }

    /// Writes what opens the hub's door: key and chain in one file, so that no crash leaves two that do not fit.
    ///
    /// # Errors
    /// [`OperatorDirError::Io`] if the disk refuses.
    pub fn write_api_credential(&self, chain_pem: &str, key_pem: &str) -> Result<(), OperatorDirError> {
        let pem = zeroize::Zeroizing::new(format!("{key_pem}{chain_pem}"));
        self.write("api.pem", pem.as_bytes(), 0o600)
    }
}
