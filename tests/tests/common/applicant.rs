//! A machine that would join a fleet, without an agent: a key, a CSR, and the call.

use anyhow::{Context as _, Result};
use holdfast_pki::csr;
use holdfast_pki::tls::ClientIdentity;
use holdfast_pki::token::JoinToken;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Status;
use tonic::transport::Channel;

/// A key and what asks for its certificate.
#[derive(Clone)]
pub(crate) struct Applicant {
    key: Vec<u8>,
    csr: Vec<u8>,
    node_id: String,
}

impl Applicant {
    /// With a new key.
    pub(crate) fn new() -> Result<Self> {
        let key = csr::new_key()?;
        let csr = csr::create(&key)?;
        let node_id = csr::verify(&csr)?.node_id().to_string();
        Ok(Self {
            key: key.serialize_der(),
            csr,
            node_id,
        })
    }

    /// What its id must be: it follows from the key.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// What it asks the hub.
    pub(crate) fn request(&self, token: &JoinToken, name: &str) -> Result<v1::EnrollRequest> {
        Ok(v1::EnrollRequest {
            grant_id: token.claimed_grant()?.id.to_string(),
            secret: token.secret.clone().into(),
            csr_der: self.csr.clone().into(),
            name: name.to_owned(),
            boot_id: "applicant".to_owned(),
            inventory: None,
        })
    }

    /// Asks, over `channel`.
    pub(crate) async fn ask(channel: Channel, request: v1::EnrollRequest) -> Result<v1::EnrollReply, Status> {
        Ok(EnrollmentClient::new(channel).enroll(request).await?.into_inner())
    }

    /// What it can show with the certificate it was given.
    pub(crate) fn identity(&self, reply: &v1::EnrollReply) -> Result<ClientIdentity> {
        let chain = reply.certificate_chain_der.iter();
        Ok(ClientIdentity {
            chain: chain.map(|der| CertificateDer::from(der.to_vec())).collect(),
            key: PrivateKeyDer::try_from(self.key.clone())
                .map_err(anyhow::Error::msg)
                .context("our own key")?,
        })
    }
}
