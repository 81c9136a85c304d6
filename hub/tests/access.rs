//! Operators' access over real TLS: what opens the API of a serving hub, and what no longer does.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start real processes and wait for them"
)]
#![allow(clippy::unwrap_used, reason = "a panic fails the test, and says where")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::Hub;
use holdfast_pki::access::AccessRequest;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::csr;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::issue::Ca;
use holdfast_pki::random::SystemRandom;
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::tls::{self, ClientIdentity};
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use holdfast_proto::v1::operator_client::OperatorClient;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONTEXT: &str = "operator/contexts/lab.example";

/// A connection to the hub, as whoever shows `identity`.
async fn connect(hub: &Hub, identity: Option<ClientIdentity>) -> io::Result<Channel> {
    let root = CertificateDer::from_pem_file(hub.path("hub/ca/node-root.crt")).unwrap();
    let roots = BTreeSet::from([Digest::of(&root)]);
    let fleet = "lab.example".parse().unwrap();
    let config = tls::client_config(fleet, roots, identity, Arc::new(SystemClock), 0).unwrap();
    let socket = tokio::net::TcpStream::connect(hub.address).await?;
    let name = ServerName::try_from("hub").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.take();
        async { stream.ok_or_else(|| io::Error::other("this connection has ended")) }
    });
    let endpoint = Endpoint::from_static("http://hub");
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(io::Error::other)
}

async fn status(channel: &Channel) -> Result<v1::GetStatusReply, Status> {
    let mut client = OperatorClient::new(channel.clone());
    Ok(client.get_status(v1::GetStatusRequest {}).await?.into_inner())
}

/// What init gave the first operator.
fn credential(hub: &Hub) -> ClientIdentity {
    let pem = std::fs::read(hub.path(CONTEXT).join("api.pem")).unwrap();
    ClientIdentity {
        chain: CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .unwrap(),
        key: PrivateKeyDer::from_pem_slice(&pem).unwrap(),
    }
}

/// A certificate in the first operator's name, made with the key of the hub's CA `ca` by whoever stole it.
fn minted(hub: &Hub, ca: &str) -> ClientIdentity {
    let read = |name: String| std::fs::read(hub.path("hub/ca").join(name)).unwrap();
    let key = String::from_utf8(read(format!("{ca}.key"))).unwrap();
    let ca = Ca::from_pem(&read(format!("{ca}.crt")), &key).unwrap();
    let key = csr::new_key().unwrap();
    let csr = csr::verify(&csr::create(&key).unwrap()).unwrap();
    let id = "spiffe://lab.example/operator/admin".parse().unwrap();
    let day = Duration::from_secs(86_400);
    let leaf = ca
        .issue(&csr, &id, day, SystemClock.now(), &SystemRandom)
        .unwrap();
    ClientIdentity {
        chain: vec![leaf, ca.certificate().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// Logs the first operator in with the signing key.
async fn login(hub: &Hub) -> ClientIdentity {
    let mut client = EnrollmentClient::new(connect(hub, None).await.unwrap());
    let challenge = client.get_login_challenge(v1::GetLoginChallengeRequest {}).await;
    let key = csr::new_key().unwrap();
    let csr_der = csr::create(&key).unwrap();
    let request = AccessRequest {
        kind: AccessRequest::KIND.to_owned(),
        format: AccessRequest::FORMAT,
        trust_domain: "lab.example".parse().unwrap(),
        operator: "admin".parse().unwrap(),
        csr: Digest::of(&csr_der),
        challenge: challenge.unwrap().into_inner().challenge.to_vec(),
    };
    let file = std::fs::read(hub.path(CONTEXT).join("signing.key")).unwrap();
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&request).unwrap());
    SigningKey::from_file(&file, None)
        .unwrap()
        .sign(AccessRequest::KIND, &mut envelope);
    let request = v1::LoginRequest {
        access_request: Some((&envelope).into()),
        csr_der: csr_der.into(),
    };
    let reply = client.login(request).await.unwrap().into_inner();
    let chain = reply.certificate_chain_der.into_iter();
    ClientIdentity {
        chain: chain.map(|link| CertificateDer::from(link.to_vec())).collect(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

#[tokio::test]
async fn a_revocation_cuts_a_live_channel_at_its_next_call_and_a_login_opens_anew() {
    let hub = Hub::new();
    assert!(hub.init(&["--kdf", "none"]).status.success());
    let _serving = hub.serve();
    let channel = connect(&hub, Some(credential(&hub))).await.unwrap();
    status(&channel).await.unwrap();
    let request = v1::RevokeAccessRequest {
        name: "admin".to_owned(),
    };
    let revoked = OperatorClient::new(channel.clone()).revoke_access(request).await;
    assert_eq!(revoked.unwrap().into_inner().revoked, 1);
    let cut = status(&channel).await.unwrap_err();
    assert_eq!(cut.code(), Code::Unauthenticated, "{cut}");
    let again = connect(&hub, Some(credential(&hub))).await.unwrap();
    assert_eq!(status(&again).await.unwrap_err().code(), Code::Unauthenticated);

    let channel = connect(&hub, Some(login(&hub).await)).await.unwrap();
    status(&channel).await.unwrap();
}

#[tokio::test]
async fn certificates_minted_with_stolen_ca_keys_open_nothing_at_an_honest_hub() {
    let hub = Hub::new();
    assert!(hub.init(&["--kdf", "none"]).status.success());
    let _serving = hub.serve();
    // TLS has nothing against them: it is the list that keeps them out.
    for ca in ["operator-issuing", "operator-root"] {
        let channel = connect(&hub, Some(minted(&hub, ca))).await.unwrap();
        let refused = status(&channel).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{ca}: {refused}");
        assert!(refused.message().contains("not let in"), "{ca}: {refused}");
    }
    // One that the CA of nodes made is refused by TLS already.
    let channel = connect(&hub, Some(minted(&hub, "issuing"))).await;
    let refused = match channel {
        Ok(channel) => status(&channel)
            .await
            .is_err_and(|refused| refused.code() != Code::Unauthenticated),
        Err(_) => true,
    };
    assert!(refused, "TLS let it through");
    let channel = connect(&hub, Some(credential(&hub))).await.unwrap();
    status(&channel).await.unwrap();
}

#[tokio::test]
async fn a_hub_lets_operators_in_without_the_keys_of_its_roots() {
    let hub = Hub::new();
    assert!(hub.init(&["--kdf", "none"]).status.success());
    for root in ["node-root", "operator-root"] {
        std::fs::remove_file(hub.path("hub/ca").join(format!("{root}.key"))).unwrap();
    }
    let _serving = hub.serve();
    let channel = connect(&hub, Some(login(&hub).await)).await.unwrap();
    let reply = status(&channel).await.unwrap();
    assert_eq!(reply.authority_version, 1);
    assert!(reply.authority_expires_secs > SystemClock.unix_secs());
}
