//! TLS as a hub speaks it, for whoever holds a CA's key.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::csr;
use holdfast_pki::issue::Ca;
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_pki::tls;
use holdfast_proto::ids::TrustDomain;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsAcceptor;

/// Longer than any test.
const LEAF_LIFETIME: Duration = Duration::from_secs(3600);

/// Accepts as a hub of `trust_domain` with a leaf from `issuing`, and shows `shown` behind these two. Callers must be below
/// one of `roots`: that of nodes, and that of operators.
pub(crate) fn acceptor(
    trust_domain: &TrustDomain,
    issuing: &Ca,
    roots: &[CertificateDer<'static>; 2],
    shown: &[CertificateDer<'static>],
) -> Result<TlsAcceptor> {
    let key = csr::new_key()?;
    let id = SpiffeId {
        trust_domain: trust_domain.clone(),
        identity: Identity::Hub(SystemRandom.unique_id()),
    };
    let request = csr::verify(&csr::create(&key)?)?;
    let leaf = issuing.issue(&request, &id, LEAF_LIFETIME, SystemClock.now(), &SystemRandom)?;
    let chain = [&[leaf, issuing.certificate().clone()], shown].concat();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let key = tls::provider().key_provider.load_private_key(key)?;
    let [node_root, operator_root] = roots;
    let config = tls::server_config(
        trust_domain.clone(),
        node_root,
        operator_root,
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))),
        Arc::new(SystemClock),
    )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
