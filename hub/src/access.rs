//! Operators' access at rest: which API certificates are let in.
//!
//! `access/<name>` lists the certificates that a hub of this fleet issued to an operator. TLS proves who issued one; only
//! this list lets it in, at every call. So a certificate that a thief minted with a CA's stolen key opens nothing here, and
//! emptying the list ends an operator's access at once, on connections that are open too.

use std::time::Duration;

use holdfast_pki::authority::AuthorityKey;
use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

use crate::ca::ApiCertificate;
use crate::store::key::Key;

/// The most certificates of one operator: more machines than one person works at. The oldest gives way.
pub const CERTIFICATES_MAX: usize = 16;

/// For how long renewals go on after a login: then the signing key is asked for again.
pub const ACCESS_AFTER_LOGIN: Duration = Duration::from_secs(24 * 3600);

/// Where all of them are listed.
pub const PREFIX: &str = "access/";

/// Where an operator's certificates are listed.
#[must_use]
pub fn key(name: &Name) -> Key {
    format!("{PREFIX}{name}").into()
}

/// The API certificates of one operator, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRecord {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The certificates; some may have ended.
    pub certificates: Vec<AccessCertificate>,
}

/// One API certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessCertificate {
    /// SHA-256 of the leaf (DER).
    pub fingerprint: Digest,
    /// The signing key by which it was asked for. Once the authority lists another under the name, it lets nobody in: a
    /// lost key's access ends with the key, and a name that passed to somebody else takes no access along.
    pub signing_key: Digest,
    /// When the operator last proved to have that key, at the login that this certificate goes back to. In Unix seconds.
    pub login_secs: u64,
    /// When it was issued, in Unix seconds.
    pub issued_secs: u64,
    /// When it ends, in Unix seconds.
    pub expires_secs: u64,
    /// Where it was asked for.
    pub address: String,
}

impl Default for AccessRecord {
    fn default() -> Self {
        Self {
            format: 1,
            certificates: Vec::new(),
        }
    }
}

impl AccessCertificate {
    /// What is kept of a certificate that was issued now to whoever proved at `login_secs` to have `signing_key`, and asked
    /// from `address`.
    #[must_use]
    pub fn new(
        certificate: &ApiCertificate,
        (signing_key, login_secs): (Digest, u64),
        now_secs: u64,
        address: &str,
    ) -> Self {
        Self {
            fingerprint: certificate.fingerprint,
            signing_key,
            login_secs,
            issued_secs: now_secs,
            expires_secs: now_secs + certificate.lifetime.as_secs(),
            address: address.to_owned(),
        }
    }

    /// For how long the certificate is good that may take this one's place now, where certificates live for `lifetime`.
    ///
    /// None that would not outlast this one, since access ends a day after the login unless the signing key is used again:
    /// who stole a certificate must not renew it for ever.
    #[must_use]
    pub fn renewable_for(&self, lifetime: Duration, now_secs: u64) -> Option<Duration> {
        let last_secs = self.login_secs + ACCESS_AFTER_LOGIN.max(lifetime).as_secs();
        let until_secs = last_secs.min(now_secs + lifetime.as_secs());
        (until_secs > self.expires_secs).then(|| Duration::from_secs(until_secs - now_secs))
    }
}

impl AccessRecord {
    /// The certificates that are good now for the operator whom the authority lists with `key`.
    pub fn good(&self, key: &AuthorityKey, now_secs: u64) -> impl Iterator<Item = &AccessCertificate> {
        let signing_key = key.id;
        self.certificates
            .iter()
            .filter(move |held| held.signing_key == signing_key && now_secs < held.expires_secs)
    }

    /// The certificate of this fingerprint, if it is good now for the operator whom the authority lists with `key`.
    #[must_use]
    pub fn find(&self, fingerprint: Digest, key: &AuthorityKey, now_secs: u64) -> Option<&AccessCertificate> {
        self.good(key, now_secs)
            .find(|held| held.fingerprint == fingerprint)
    }

    /// Adds a certificate; those that have ended make room, then the oldest.
    pub fn add(&mut self, certificate: AccessCertificate, now_secs: u64) {
        self.certificates.retain(|held| now_secs < held.expires_secs);
        self.certificates.push(certificate);
        let surplus = self.certificates.len().saturating_sub(CERTIFICATES_MAX);
        self.certificates.drain(..surplus);
    }
}
