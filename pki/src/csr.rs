//! Certificate signing requests: made where the key is, and checked by the hub for one thing only.
//!
//! From a CSR (RFC 2986) the hub takes the public key and the proof that its holder made the request. Every other field is
//! ignored: what a certificate says is the hub's own template (`issue`).

use holdfast_proto::ids::NodeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ED25519};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::issue::PkiError;

/// The largest CSR that is read.
pub const CSR_BYTES_MAX: usize = 4096;
/// OIDs of the key types that may enrol: Ed25519 (RFC 8410) and EC keys (RFC 5480), which must then be P-256.
const OID_ED25519: &str = "1.3.101.112";
const OID_EC: &str = "1.2.840.10045.2.1";
const OID_P256: &str = "1.2.840.10045.3.1.7";

/// A public key whose holder proved to have the private one. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedCsr {
    spki_der: Vec<u8>,
}

impl VerifiedCsr {
    /// SubjectPublicKeyInfo, in DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The id of the node that enrols with this key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::of_public_key(&self.spki_der)
    }
}

/// Makes a CSR (DER) for a key of our own. It says nothing beside the public key.
///
/// # Errors
/// [`PkiError`] if the key cannot sign.
pub fn create(key: &KeyPair) -> Result<Vec<u8>, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Makes a new Ed25519 key for a certificate.
///
/// # Errors
/// [`PkiError`] if the generator fails.
pub fn new_key() -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(&PKCS_ED25519)?)
}

/// Checks a CSR's shape, key type and signature.
///
/// # Errors
/// [`RefuseCsr`] says which of them is wrong.
pub fn verify(der: &[u8]) -> Result<VerifiedCsr, RefuseCsr> {
    if der.len() > CSR_BYTES_MAX {
        return Err(RefuseCsr::Size(der.len()));
    }
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| RefuseCsr::Malformed)?;
    if !rest.is_empty() {
        return Err(RefuseCsr::Malformed);
    }
    let spki = &csr.certification_request_info.subject_pki;
    let parameters = spki.algorithm.parameters.as_ref();
    let fits = match spki.algorithm.algorithm.to_id_string().as_str() {
        OID_ED25519 => parameters.is_none(),
        OID_EC => parameters
            .and_then(|any| any.as_oid().ok())
            .is_some_and(|oid| oid.to_id_string() == OID_P256),
        _ => false,
    };
    if !fits {
        return Err(RefuseCsr::KeyType);
    }
    csr.verify_signature().map_err(|_| RefuseCsr::Signature)?;
    Ok(VerifiedCsr {
        spki_der: spki.raw.to_vec(),
    })
}

/// Why a CSR is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefuseCsr {
    /// Too large.
    #[error("the CSR has {0} bytes, more than the {CSR_BYTES_MAX} that are read")]
    Size(usize),
    /// No CSR.
    #[error("the CSR cannot be read")]
    Malformed,
    /// A key type that we do not certify.
    #[error("the CSR's key is neither Ed25519 nor P-256")]
    KeyType,
    /// No proof of possession.
    #[error("the CSR's signature does not hold: whoever sent it does not have the key")]
    Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_csr_of_ours_is_accepted_and_names_the_node() {
        let key = new_key().unwrap();
        let (one, two) = (create(&key).unwrap(), create(&key).unwrap());
        assert_eq!(verify(&one).unwrap().node_id(), verify(&two).unwrap().node_id());
    }

    #[test]
    fn no_changed_byte_passes_off_another_key() {
        let good = create(&new_key().unwrap()).unwrap();
        let key = verify(&good).unwrap().spki_der;
        let mut refused = 0;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            // The count of unused bits in the signature's BIT STRING, say, is not covered by it: then the key is the same.
            match verify(&bad) {
                Ok(csr) => assert_eq!(csr.spki_der, key, "byte {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= good.len() - 2, "{refused} of {} refused", good.len());
    }

    #[test]
    fn other_key_types_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(verify(&create(&key).unwrap()).unwrap_err(), RefuseCsr::KeyType);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(verify(&create(&key).unwrap()).is_ok());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            prop_assert!(verify(&bytes).is_err());
        }
    }
}
