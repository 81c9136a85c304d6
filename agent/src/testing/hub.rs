//! A hub in memory: real TLS and gRPC over pipes. It answers what a test gives it, and remembers what it was told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use holdfast_pki::clock::{Clock, TestClock};
use holdfast_pki::csr::{self, VerifiedCsr};
use holdfast_pki::envelope::Envelope;
use holdfast_pki::issue::Ca;
use holdfast_pki::random::SystemRandom;
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_pki::tls;
use holdfast_proto::ids::{Digest, UniqueId};
use holdfast_proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::node_link_server::{NodeLink, NodeLinkServer};
use holdfast_proto::v1::{self, hub_message, node_message};
use prost::Message as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{NOW, fleet};
use crate::change::Offering;
use crate::dial::{Connection, Connector, Dialer, Socket};

/// Large enough that no side ever waits for the other within one message.
const PIPE_BYTES: usize = 256 * 1024;
/// As a real hub does.
const VERSIONS_AT_ONCE: usize = 32;

/// A hub. Clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeHub {
    /// What its certificate says that it is.
    pub(crate) id: UniqueId,
    /// The root that its certificate is below.
    pub(crate) root: Digest,
    issuing: Arc<Ca>,
    acceptor: TlsAcceptor,
    pub(crate) clock: Arc<TestClock>,
    plot: Arc<Mutex<Plot>>,
}

/// What it answers, and what it was told.
#[derive(Default)]
pub(crate) struct Plot {
    /// Every version of the authority that it has.
    pub(crate) authority: Vec<Envelope>,
    /// It answers with all of them, whatever it is asked for.
    pub(crate) repeats_itself: bool,
    /// What it was asked to begin behind.
    pub(crate) asked: Vec<u64>,
    /// The slices that it has, by digest.
    pub(crate) slices: BTreeMap<String, Vec<u8>>,
    /// What it was shown.
    pub(crate) shown: Vec<v1::HigherState>,
    /// Its hello.
    pub(crate) hello: v1::HubHello,
    /// What nodes said over links.
    pub(crate) heard: Vec<node_message::Kind>,
    /// So many enrolments it takes and never answers, before the others.
    pub(crate) silences: u32,
    /// How it answers enrolments, the next one first: with an identity, or not.
    pub(crate) enrolments: Vec<Result<(), Status>>,
    down: Option<mpsc::Sender<Result<v1::HubMessage, Status>>>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for FakeHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeHub({})", self.id)
    }
}

impl FakeHub {
    /// A hub of the tests' fleet, with a root of its own.
    pub(crate) fn new(id: u8) -> Self {
        let (clock, fleet) = (Arc::new(TestClock::at(NOW)), fleet());
        let root = Ca::new_root(&fleet, "node root", clock.now(), &SystemRandom).unwrap();
        let issuing = root.new_issuing("issuing", clock.now(), &SystemRandom).unwrap();
        let (key, id) = (csr::new_key().unwrap(), [id; 16].into());
        let request = csr::verify(&csr::create(&key).unwrap()).unwrap();
        let leaf = issue(&issuing, &clock, &request, Identity::Hub(id));
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = tls::provider().key_provider.load_private_key(key).unwrap();
        let chain = vec![leaf, issuing.certificate().clone(), root.certificate().clone()];
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let (node_root, operator_root) = (root.certificate(), root.certificate());
        let config = tls::server_config(fleet, node_root, operator_root, shown, clock.clone()).unwrap();
        Self {
            id,
            root: root.fingerprint(),
            issuing: Arc::new(issuing),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            clock,
            plot: Arc::default(),
        }
    }

    fn issue(&self, request: &VerifiedCsr, identity: Identity) -> CertificateDer<'static> {
        issue(&self.issuing, &self.clock, request, identity)
    }

    /// What it answers and was told.
    pub(crate) fn plot(&self) -> MutexGuard<'_, Plot> {
        self.plot.lock().unwrap()
    }

    /// A dialer that reaches nobody else, and trusts it.
    pub(crate) fn dialer(&self) -> Arc<Dialer> {
        let dialer = Dialer::new(
            Arc::new(self.clone()),
            vec!["hub:7443".to_owned()],
            fleet(),
            [self.root].into(),
            None,
            self.clock.clone(),
            0,
        );
        Arc::new(dialer.unwrap())
    }

    /// A connection to it, as the keeper gets it from a link.
    pub(crate) async fn offering(&self) -> Offering {
        let Connection { channel, .. } = self.dialer().dial(0).await.unwrap();
        Offering {
            client: NodeLinkClient::new(channel.clone()),
            channel,
            instance: "fake".to_owned(),
            on_this_machine: false,
        }
    }

    /// Says something over the newest link.
    pub(crate) async fn say(&self, kind: hub_message::Kind) {
        let down = self.plot().down.clone().unwrap();
        let message = v1::HubMessage {
            request_id: 0,
            kind: Some(kind),
        };
        down.send(Ok(message)).await.unwrap();
    }

    /// Ends the newest link.
    pub(crate) fn hang_up(&self) {
        self.plot().down = None;
    }

    /// Whether the node has ended the newest link.
    pub(crate) fn is_alone(&self) -> bool {
        self.plot().down.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    async fn serve(self, pipe: DuplexStream) {
        let Ok(mut tls) = self.acceptor.accept(pipe).await else {
            return;
        };
        let (mut outside, inside) = duplex(PIPE_BYTES);
        let server = tonic::transport::Server::builder()
            .add_service(EnrollmentServer::new(self.clone()))
            .add_service(NodeLinkServer::new(self))
            .serve_with_incoming(tokio_stream::once(Ok::<_, io::Error>(inside)));
        let _ = tokio::join!(server, copy_bidirectional(&mut tls, &mut outside));
    }
}

fn issue(ca: &Ca, clock: &TestClock, request: &VerifiedCsr, identity: Identity) -> CertificateDer<'static> {
    let id = SpiffeId {
        trust_domain: fleet(),
        identity,
    };
    let lifetime = Duration::from_secs(86_400);
    ca.issue(request, &id, lifetime, clock.now(), &SystemRandom)
        .unwrap()
}

impl Connector for FakeHub {
    fn connect<'a>(&'a self, _hub: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Socket>> + Send + 'a>> {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.plot().tasks.spawn(self.clone().serve(theirs));
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 7443));
        let socket = Socket {
            stream: Box::new(ours),
            peer: address(1),
            local: address(2),
        };
        Box::pin(std::future::ready(Ok(socket)))
    }
}

#[tonic::async_trait]
impl Enrollment for FakeHub {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let is_silent = {
            let mut plot = self.plot();
            let silences = plot.silences;
            plot.silences = silences.saturating_sub(1);
            silences > 0
        };
        if is_silent {
            std::future::pending::<()>().await;
        }
        let mut plot = self.plot();
        if plot.enrolments.is_empty() {
            return Err(Status::unavailable("no answer was prepared"));
        }
        plot.enrolments.remove(0)?;
        let request = request.into_inner();
        let csr = csr::verify(&request.csr_der).unwrap();
        let leaf = self.issue(&csr, Identity::Node(csr.node_id()));
        Ok(Response::new(v1::EnrollReply {
            node_id: csr.node_id().to_string(),
            name: request.name,
            certificate_chain_der: vec![leaf.to_vec().into()],
        }))
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityReply>, Status> {
        let (after, mut plot) = (request.into_inner().after_version, self.plot());
        plot.asked.push(after);
        let skipped = if plot.repeats_itself {
            0
        } else {
            usize::try_from(after).unwrap()
        };
        let versions = plot.authority.iter().skip(skipped).take(VERSIONS_AT_ONCE);
        let versions = versions.map(Into::into).collect();
        Ok(Response::new(v1::GetAuthorityReply { versions }))
    }

    async fn get_login_challenge(
        &self,
        _: Request<v1::GetLoginChallengeRequest>,
    ) -> Result<Response<v1::GetLoginChallengeReply>, Status> {
        Err(Status::unimplemented("for operators"))
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Result<Response<v1::AccessReply>, Status> {
        Err(Status::unimplemented("for operators"))
    }
}

#[tonic::async_trait]
impl NodeLink for FakeHub {
    type ConnectStream = ReceiverStream<Result<v1::HubMessage, Status>>;
    type GetSliceStream = tokio_stream::Once<Result<v1::SliceChunk, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (down, queue) = mpsc::channel(16);
        let hello = v1::HubMessage {
            request_id: 0,
            kind: Some(hub_message::Kind::Hello(self.plot().hello.clone())),
        };
        down.send(Ok(hello)).await.unwrap();
        let (hub, mut up) = (self.clone(), request.into_inner());
        let mut plot = self.plot();
        plot.down = Some(down);
        plot.tasks.spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                hub.plot().heard.extend(message.kind);
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn get_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<Self::GetSliceStream>, Status> {
        let bytes = self.plot().slices.get(&request.into_inner().digest).cloned();
        let bytes = bytes.ok_or_else(|| Status::not_found("no such slice"))?;
        Ok(Response::new(tokio_stream::once(Ok(v1::SliceChunk {
            offset: 0,
            total: bytes.len() as u64,
            bytes: bytes.into(),
        }))))
    }

    async fn confirm(&self, _: Request<v1::ConfirmRequest>) -> Result<Response<v1::ConfirmReply>, Status> {
        Err(Status::unimplemented("confirms nothing"))
    }

    async fn witness_keeps(
        &self,
        _: Request<v1::WitnessKeepsRequest>,
    ) -> Result<Response<v1::WitnessKeepsReply>, Status> {
        Err(Status::unimplemented("has no witnesses"))
    }

    async fn show(
        &self,
        request: Request<Streaming<v1::ShowRequest>>,
    ) -> Result<Response<v1::ShowReply>, Status> {
        let (mut chunks, mut bytes) = (request.into_inner(), Vec::new());
        while let Some(chunk) = chunks.message().await? {
            bytes.extend_from_slice(&chunk.chunk);
        }
        self.plot().shown.push(v1::HigherState::decode(&*bytes).unwrap());
        Ok(Response::new(v1::ShowReply { holds: true }))
    }
}
