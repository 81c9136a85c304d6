//! The hub's CAs at work: leaves for nodes and for operators' access, and the hub's own leaf, renewed while it serves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::csr::{self, VerifiedCsr};
use holdfast_pki::files::Files;
use holdfast_pki::issue::{Ca, PkiError};
use holdfast_pki::random::Random;
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_pki::tls;
use holdfast_proto::ids::{Digest, Name, NodeId, TrustDomain, UniqueId};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{CaName, HubDir};

/// The hub's own leaf lives a day; its key lives in memory only.
const HUB_LEAF_LIFETIME: Duration = Duration::from_secs(86_400);
/// ... and is replaced at half of that.
pub const HUB_LEAF_RENEWAL: Duration = Duration::from_secs(43_200);

/// What a hub issues with.
#[derive(Debug)]
pub struct HubCa {
    trust_domain: TrustDomain,
    hub_id: UniqueId,
    issuing: Ca,
    operator_issuing: Ca,
    node_root: CertificateDer<'static>,
    operator_root: CertificateDer<'static>,
    node_leaf_lifetime: Duration,
    operator_leaf_lifetime: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// Why the hub's CAs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadCa {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold what belongs there; put it back from a copy of the hub's directory")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        source: PkiError,
    },
}

impl HubCa {
    /// Reads the issuing CAs and the roots' certificates. The roots' keys are not touched.
    ///
    /// # Errors
    /// [`LoadCa`] names the file.
    pub fn load(
        dir: &HubDir,
        config: &crate::config::Config,
        files: &dyn Files,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, LoadCa> {
        let read = |path: &std::path::Path| {
            files.read(path).map_err(|source| LoadCa::Read {
                path: path.display().to_string(),
                source,
            })
        };
        let certificate = |ca: CaName| {
            let (path, _) = dir.ca(ca);
            CertificateDer::from_pem_slice(&read(&path)?).map_err(|source| LoadCa::Content {
                path: path.display().to_string(),
                source: source.into(),
            })
        };
        let issuing = |ca: CaName| {
            let (path, key_path) = dir.ca(ca);
            let key = zeroize::Zeroizing::new(read(&key_path)?);
            Ca::from_pem(&read(&path)?, &String::from_utf8_lossy(&key)).map_err(|source| LoadCa::Content {
                path: format!("{} or {}", path.display(), key_path.display()),
                source,
            })
        };
        Ok(Self {
            trust_domain: config.trust_domain.clone(),
            hub_id: config.hub_id,
            issuing: issuing(CaName::Issuing)?,
            operator_issuing: issuing(CaName::OperatorIssuing)?,
            node_root: certificate(CaName::NodeRoot)?,
            operator_root: certificate(CaName::OperatorRoot)?,
            node_leaf_lifetime: Duration::from_secs(u64::from(config.node_certificate_days) * 86_400),
            operator_leaf_lifetime: Duration::from_secs(u64::from(config.operator_certificate_hours) * 3600),
            clock,
            random,
        })
    }

    /// The root of hubs and nodes.
    #[must_use]
    pub const fn node_root(&self) -> &CertificateDer<'static> {
        &self.node_root
    }

    /// The root of operators' access.
    #[must_use]
    pub const fn operator_root(&self) -> &CertificateDer<'static> {
        &self.operator_root
    }

    /// Issues a node's leaf; the chain it shows with it, leaf first, without the root.
    ///
    /// # Errors
    /// [`PkiError`] from the certificate machinery.
    pub fn issue_node(
        &self,
        csr: &VerifiedCsr,
        id: NodeId,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let id = SpiffeId {
            trust_domain: self.trust_domain.clone(),
            identity: Identity::Node(id),
        };
        let leaf = self
            .issuing
            .issue(csr, &id, self.node_leaf_lifetime, self.clock.now(), &*self.random)?;
        Ok(vec![leaf, self.issuing.certificate().clone()])
    }

    /// How long an operator's API certificate lives.
    #[must_use]
    pub const fn operator_leaf_lifetime(&self) -> Duration {
        self.operator_leaf_lifetime
    }

    /// Issues an operator's API certificate.
    ///
    /// # Errors
    /// [`PkiError`] from the certificate machinery.
    pub fn issue_operator(
        &self,
        csr: &VerifiedCsr,
        name: &Name,
        lifetime: Duration,
    ) -> Result<ApiCertificate, PkiError> {
        let id = SpiffeId {
            trust_domain: self.trust_domain.clone(),
            identity: Identity::Operator(name.clone()),
        };
        let now = self.clock.now();
        let leaf = self
            .operator_issuing
            .issue(csr, &id, lifetime, now, &*self.random)?;
        Ok(ApiCertificate {
            fingerprint: Digest::of(&leaf),
            chain: vec![leaf, self.operator_issuing.certificate().clone()],
            lifetime,
        })
    }

    /// The fleet.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// This hub, as its own certificate calls it.
    #[must_use]
    pub fn hub_id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.trust_domain.clone(),
            identity: Identity::Hub(self.hub_id),
        }
    }

    /// Makes a key and a leaf for this hub itself.
    ///
    /// # Errors
    /// [`PkiError`] from the certificate machinery.
    pub fn issue_hub(&self) -> Result<CertifiedKey, PkiError> {
        let key = csr::new_key()?;
        let csr = csr::verify(&csr::create(&key)?).expect("our own CSR");
        let id = self.hub_id();
        let leaf = self
            .issuing
            .issue(&csr, &id, HUB_LEAF_LIFETIME, self.clock.now(), &*self.random)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS #8");
        let signer = tls::provider()
            .key_provider
            .load_private_key(key)
            .expect("an Ed25519 key");
        let chain = vec![leaf, self.issuing.certificate().clone(), self.node_root.clone()];
        Ok(CertifiedKey::new(chain, signer))
    }
}

/// What lets an operator in for a while.
#[derive(Debug)]
pub struct ApiCertificate {
    /// What they show, leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's fingerprint, by which the hub knows it again.
    pub fingerprint: Digest,
    /// For how long it is good from now on.
    pub lifetime: Duration,
}

/// The hub's present leaf, which TLS asks for at each handshake.
#[derive(Debug)]
pub struct HubLeaf(Mutex<Arc<CertifiedKey>>);

impl HubLeaf {
    /// Begins with `leaf`.
    #[must_use]
    pub fn new(leaf: CertifiedKey) -> Self {
        Self(Mutex::new(Arc::new(leaf)))
    }

    /// Shows `leaf` from now on.
    pub fn replace(&self, leaf: CertifiedKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(leaf);
    }
}

impl ResolvesServerCert for HubLeaf {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
