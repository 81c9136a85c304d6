//! Issuing certificates from templates of our own.
//!
//! Two roots that never meet: the node root, over an issuing CA, for hubs and nodes; and the operators' root, for access to
//! the API. A leaf's name, lifetime and usages come from here and never from a CSR.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_proto::ids::{Digest, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use crate::csr::VerifiedCsr;
use crate::random::Random;
use crate::spiffe::{Identity, SpiffeId};

/// A root's lifetime: ten years. Changing it means a new authority version with both fingerprints.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// An issuing CA's lifetime: two years, at least six times a leaf's (SPIRE's rule for `MaxSVIDTTLForCATTL`).
const ISSUING_LIFETIME: Duration = Duration::from_secs(2 * 365 * 86_400);
/// Certificates are valid from a little before they are made, for clocks that are a little behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// Something in the certificate machinery failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// rcgen could not make or read it.
    #[error("certificate or key: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// A key that belongs to another certificate.
    #[error("the key is not that of the certificate: one of the two was put there from another hub or time")]
    Mismatch,
    /// A PEM file is none.
    #[error("no PEM of the expected kind: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
}

/// A CA: its certificate and the key that signs with it.
pub struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ca({})", self.fingerprint().short())
    }
}

impl Ca {
    /// Makes a root named `<trust domain> <role>`, such as `lab.example node root`.
    ///
    /// # Errors
    /// [`PkiError`] from rcgen.
    pub fn new_root(
        trust_domain: &TrustDomain,
        role: &str,
        now: SystemTime,
        random: &dyn Random,
    ) -> Result<Self, PkiError> {
        let key = crate::csr::new_key()?;
        // Below a root: at most one CA.
        let params = ca_params(&format!("{trust_domain} {role}"), now, ROOT_LIFETIME, 1, random);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
        })
    }

    /// Makes a CA below this one that issues leaves only.
    ///
    /// # Errors
    /// [`PkiError`] from rcgen.
    pub fn new_issuing(&self, name: &str, now: SystemTime, random: &dyn Random) -> Result<Self, PkiError> {
        let key = crate::csr::new_key()?;
        let params = ca_params(name, now, ISSUING_LIFETIME, 0, random);
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
        })
    }

    /// Reads a CA from its certificate and key, both in PEM.
    ///
    /// # Errors
    /// [`PkiError`] if either cannot be read.
    pub fn from_pem(certificate_pem: &[u8], key_pem: &str) -> Result<Self, PkiError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem)?;
        let key = KeyPair::from_pem(key_pem)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| PkiError::Mismatch)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::Mismatch);
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
        })
    }

    /// The certificate, in DER.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The private key in PEM (PKCS #8), to be kept on this machine.
    #[must_use]
    pub fn key_pem(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Issues a leaf for `id` to the holder of a key that was proved.
    ///
    /// # Errors
    /// [`PkiError`] from rcgen.
    pub fn issue(
        &self,
        csr: &VerifiedCsr,
        id: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
        random: &dyn Random,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(serial(random));
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + lifetime).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match id.identity {
            Identity::Hub(_) => ExtendedKeyUsagePurpose::ServerAuth,
            Identity::Node(_) | Identity::Operator(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.use_authority_key_identifier_extension = true;
        let public_key = SubjectPublicKeyInfo::from_der(csr.spki_der())?;
        Ok(params.signed_by(&public_key, &self.issuer)?.der().clone())
    }
}

fn ca_params(
    name: &str,
    now: SystemTime,
    lifetime: Duration,
    below: u8,
    random: &dyn Random,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial(random));
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + lifetime).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// 127 random bits: positive, and far over the 64 that the CA/Browser Forum asks for.
fn serial(random: &dyn Random) -> SerialNumber {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

/// From when until when a certificate (DER) is good; none if it cannot be read.
#[must_use]
pub fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let time = |time: ASN1Time| {
        let secs = u64::try_from(time.timestamp()).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(secs))
    };
    let validity = certificate.validity();
    Some((time(validity.not_before)?, time(validity.not_after)?))
}

/// A certificate as PEM text (RFC 7468).
#[must_use]
pub fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;
    use crate::{csr, spiffe};

    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_leaf_says_what_our_template_says() {
        let now = NOW + Duration::from_secs(1_800_000_000);
        let root = Ca::new_root(&"lab.example".parse().unwrap(), "node root", now, &SystemRandom).unwrap();
        let issuing = root.new_issuing("issuing", now, &SystemRandom).unwrap();
        let csr = csr::verify(&csr::create(&csr::new_key().unwrap()).unwrap()).unwrap();
        let id = SpiffeId {
            trust_domain: "lab.example".parse().unwrap(),
            identity: Identity::Node(csr.node_id()),
        };
        let leaf = issuing
            .issue(&csr, &id, Duration::from_secs(86_400), now, &SystemRandom)
            .unwrap();
        assert_eq!(spiffe::of_certificate(&leaf).unwrap(), id);
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        assert!(!leaf.is_ca());
        assert_eq!(leaf.public_key().raw, csr.spki_der());
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(leaf.validity().not_after.timestamp(), 1_800_000_000 + 86_400);
    }

    #[test]
    fn a_ca_reads_back_from_its_files() {
        let now = NOW + Duration::from_secs(1_800_000_000);
        let root = Ca::new_root(&"lab.example".parse().unwrap(), "node root", now, &SystemRandom).unwrap();
        let again = Ca::from_pem(to_pem(root.certificate()).as_bytes(), &root.key_pem()).unwrap();
        assert_eq!(again.fingerprint(), root.fingerprint());
        let other = Ca::new_root(&"lab.example".parse().unwrap(), "node root", now, &SystemRandom).unwrap();
        let mixed = Ca::from_pem(to_pem(root.certificate()).as_bytes(), &other.key_pem());
        assert!(matches!(mixed, Err(PkiError::Mismatch)));
    }
}
