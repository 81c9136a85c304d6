//! Access to a hub: an API certificate, got by a login with the signing key, and renewed while it lasts.

use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use holdfast_pki::access::AccessRequest;
use holdfast_pki::csr;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::issue::{to_pem, validity};
use holdfast_pki::tls::ClientIdentity;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use holdfast_proto::v1::operator_client::OperatorClient;
use tonic::Code;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::signer::Signer;
use crate::operator_dir::{Context, ContextDir};

/// The most certificates that a hub may answer with: a leaf and what leads to its root.
const CHAIN_MAX: usize = 3;

/// How far an API credential has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// In the first half of its life.
    Fresh,
    /// In the second: to be renewed.
    Renewable,
    /// Over, or not to be read: only a login helps.
    Over,
}

/// The age of a credential at `now_secs`.
pub(super) fn age(credential: &ClientIdentity, now_secs: u64) -> Age {
    let leaf = credential.chain.first().and_then(|leaf| validity(leaf));
    let secs =
        |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some((from, until)) = leaf.map(|(from, until)| (secs(from), secs(until))) else {
        return Age::Over;
    };
    match now_secs {
        now if now >= until => Age::Over,
        now if now > from + until.saturating_sub(from) / 2 => Age::Renewable,
        _ => Age::Fresh,
    }
}

/// Logs in: makes a new API key, binds it to the operator by a signature, and keeps the certificate that the hub gives.
///
/// The key is new each time, so that a stolen one stays useless after its certificates were revoked.
pub(super) async fn login(
    dir: &ContextDir,
    context: &Context,
    channel: Channel,
    signer: &Signer,
) -> anyhow::Result<()> {
    let mut client = EnrollmentClient::new(channel);
    let challenge = client
        .get_login_challenge(v1::GetLoginChallengeRequest {})
        .await
        .context("the hub gives nothing to sign for a login")?
        .into_inner()
        .challenge;
    let key = csr::new_key()?;
    let csr_der = csr::create(&key)?;
    let request = AccessRequest {
        kind: AccessRequest::KIND.to_owned(),
        format: AccessRequest::FORMAT,
        trust_domain: context.trust_domain.clone(),
        operator: context.operator.clone(),
        csr: Digest::of(&csr_der),
        challenge: challenge.to_vec(),
    };
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&request).expect("a struct of texts"));
    signer.sign(AccessRequest::KIND, &mut envelope)?;
    let request = v1::LoginRequest {
        access_request: Some((&envelope).into()),
        csr_der: csr_der.into(),
    };
    let reply = client
        .login(request)
        .await
        .with_context(|| format!("the hub does not let '{}' in", context.operator))?;
    keep(dir, &key.serialize_pem().into(), &reply.into_inner())
}

/// Exchanges the present certificate for one with a new key. Not if the hub has it that only a login helps, or that there is
/// time yet: then the present one serves for as long as it lasts.
pub(super) async fn renew(dir: &ContextDir, client: &mut OperatorClient<Channel>) -> anyhow::Result<()> {
    let key = csr::new_key()?;
    let csr_der = csr::create(&key)?.into();
    let reply = match client.renew_access(v1::RenewAccessRequest { csr_der }).await {
        Err(status) if status.code() == Code::FailedPrecondition => return Ok(()),
        reply => reply?,
    };
    keep(dir, &key.serialize_pem().into(), &reply.into_inner())
}

/// Keeps an API certificate and its key.
fn keep(dir: &ContextDir, key_pem: &Zeroizing<String>, reply: &v1::AccessReply) -> anyhow::Result<()> {
    let chain = &reply.certificate_chain_der;
    if chain.is_empty() || chain.len() > CHAIN_MAX {
        bail!("the hub answered with {} certificates", chain.len());
    }
    let pem: String = chain.iter().map(|certificate| to_pem(certificate)).collect();
    dir.write_api_credential(&pem, key_pem)?;
    Ok(())
}
