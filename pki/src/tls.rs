//! TLS for all three surfaces: TLS 1.3 only, no session tickets, identities by SPIFFE ID.
//!
//! A hub shows its leaf, its issuing CA and the node root. Whoever dials it holds the fingerprints of the roots to trust
//! (from a join token, an authority or an operator's pin) and takes as anchor only a presented root with one of them: the
//! handshake ends there otherwise, before a byte of ours was sent. A client's certificate is optional, since enrolment has
//! none; the kind of identity in it is bound to the root that issued it. Session tickets stay off until a resumption can
//! be held against the list of removed nodes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use holdfast_proto::ids::{Digest, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::clock::Clock;
use crate::spiffe::{self, Identity, InvalidSvid, SpiffeId};

/// The application protocol of every surface: HTTP/2 (RFC 9113, section 3.2).
const ALPN_H2: &[u8] = b"h2";
/// The longest chain that is looked at: leaf, issuing CA, root, and one to spare.
const CHAIN_MAX: usize = 4;

/// The one crypto provider of this workspace.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What a client shows: its chain, leaf first, and the leaf's key.
#[derive(Debug)]
pub struct ClientIdentity {
    /// Leaf first, then what leads to the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

/// A client's TLS settings: trusts only hubs of `trust_domain` below one of `roots`.
///
/// `floor` is a time that has surely passed (when the client's own certificate was issued): a clock that is behind it is
/// not believed.
///
/// # Errors
/// [`Error`] if the client's own certificate and key do not fit.
pub fn client_config(
    trust_domain: TrustDomain,
    roots: BTreeSet<Digest>,
    identity: Option<ClientIdentity>,
    clock: Arc<dyn Clock>,
    floor_secs: u64,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = HubVerifier {
        trust_domain,
        roots,
        algorithms: provider.signature_verification_algorithms,
    };
    let time = Arc::new(TlsTime { clock, floor_secs });
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(ClientIdentity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    // The certificate is judged by its SPIFFE ID; a server name would only tell listeners who dials whom.
    config.enable_sni = false;
    Ok(config)
}

/// A hub's TLS settings. `certificates` is asked at each handshake, so that the hub's leaf can be renewed while it serves.
///
/// # Errors
/// [`Error`] if a root cannot be used.
pub fn server_config(
    trust_domain: TrustDomain,
    node_root: &CertificateDer<'static>,
    operator_root: &CertificateDer<'static>,
    certificates: Arc<dyn ResolvesServerCert>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let below = |root: &CertificateDer<'static>| -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let mut store = RootCertStore::empty();
        store.add(root.clone())?;
        WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone())
            .build()
            .map_err(|error| Error::Other(OtherError(Arc::new(error))))
    };
    let verifier = CallerVerifier {
        trust_domain,
        node: below(node_root)?,
        operator: below(operator_root)?,
    };
    let time = Arc::new(TlsTime { clock, floor_secs: 0 });
    let mut config = ServerConfig::builder_with_details(provider.clone(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The clock as TLS sees it.
#[derive(Debug)]
struct TlsTime {
    clock: Arc<dyn Clock>,
    floor_secs: u64,
}

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self
            .clock
            .now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Some(UnixTime::since_unix_epoch(
            since.max(Duration::from_secs(self.floor_secs)),
        ))
    }
}

/// Why a peer's certificate is refused although its chain may hold.
#[derive(Debug, thiserror::Error)]
pub enum RefusePeer {
    /// No root with a pinned fingerprint was presented.
    #[error(
        "it is not below a pinned node root: the address or the token belongs to another fleet, or somebody is between"
    )]
    Pin,
    /// The chain is longer than any of ours.
    #[error("its chain has more than {CHAIN_MAX} certificates")]
    Chain,
    /// It carries no identity of ours.
    #[error(transparent)]
    Svid(#[from] InvalidSvid),
    /// It is another fleet's, or the wrong kind for the root that issued it.
    #[error("it speaks for {0}, which that root may not vouch for here")]
    Identity(SpiffeId),
}

impl From<RefusePeer> for Error {
    fn from(refused: RefusePeer) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

/// The error of a handshake, in our own words where our own judge ended it: TLS would tell no more than its type.
#[must_use]
pub fn in_our_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let refused = match inner {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))) => {
            reason.downcast_ref::<RefusePeer>()
        }
        _ => None,
    };
    match refused {
        Some(refused) => io::Error::new(error.kind(), format!("the other side is refused: {refused}")),
        None => error,
    }
}

/// A client's judge of hubs.
#[derive(Debug)]
struct HubVerifier {
    trust_domain: TrustDomain,
    roots: BTreeSet<Digest>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() >= CHAIN_MAX {
            return Err(RefusePeer::Chain.into());
        }
        let mut anchors = RootCertStore::empty();
        for presented in intermediates {
            if self.roots.contains(&Digest::of(presented)) {
                anchors.add(presented.clone().into_owned())?;
            }
        }
        if anchors.is_empty() {
            return Err(RefusePeer::Pin.into());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &anchors,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match spiffe::of_certificate(end_entity).map_err(RefusePeer::Svid)? {
            SpiffeId {
                trust_domain,
                identity: Identity::Hub(_),
            } if trust_domain == self.trust_domain => Ok(ServerCertVerified::assertion()),
            other => Err(RefusePeer::Identity(other).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls13RequiredForQuic,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A hub's judge of nodes and operators.
#[derive(Debug)]
struct CallerVerifier {
    trust_domain: TrustDomain,
    node: Arc<dyn ClientCertVerifier>,
    operator: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for CallerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= CHAIN_MAX {
            return Err(RefusePeer::Chain.into());
        }
        let id = spiffe::of_certificate(end_entity).map_err(RefusePeer::Svid)?;
        // The kind of identity chooses the only root that may have issued it.
        let root = match id.identity {
            Identity::Node(_) if id.trust_domain == self.trust_domain => &self.node,
            Identity::Operator(_) if id.trust_domain == self.trust_domain => &self.operator,
            _ => return Err(RefusePeer::Identity(id).into()),
        };
        root.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.node.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.node.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.node.supported_verify_schemes()
    }
}

mod stranger;

pub use stranger::stranger_config;

#[cfg(test)]
mod tests;
