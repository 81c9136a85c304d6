//! Certificates and keys that lie on some disk of a fleet, as an enemy who got hold of them would read them.

use std::path::Path;

use anyhow::{Context as _, Result};
use holdfast_pki::tls::ClientIdentity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What lets an operator in, from the context in `dir`.
pub(crate) fn operator(dir: &Path) -> Result<ClientIdentity> {
    let path = dir.join("api.pem");
    Ok(ClientIdentity {
        chain: CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect)
            .with_context(|| format!("{} holds no certificates", path.display()))?,
        key: PrivateKeyDer::from_pem_file(&path)
            .with_context(|| format!("{} holds no key", path.display()))?,
    })
}
