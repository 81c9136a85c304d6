//! Certificates and keys that lie on some disk of a fleet, as an enemy who got hold of them would read them.

use std::path::Path;

use anyhow::{Context as _, Result};
use holdfast_pki::tls::ClientIdentity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates and the key in `dir`, from `NAME.crt` and `NAME.key`.
pub(crate) fn read(dir: &Path, name: &str) -> Result<ClientIdentity> {
    let (chain, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    Ok(ClientIdentity {
        chain: CertificateDer::pem_file_iter(&chain)
            .and_then(Iterator::collect)
            .with_context(|| format!("{} holds no certificates", chain.display()))?,
        key: PrivateKeyDer::from_pem_file(&key).with_context(|| format!("{} holds no key", key.display()))?,
    })
}
