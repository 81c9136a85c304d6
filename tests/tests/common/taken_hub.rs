//! A hub in the enemy's hand: the real one's address, name and CA keys, and a mind of its own.
//!
//! It offers what a test gives it, answers as told, and writes down what nodes report.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use holdfast_pki::envelope::Envelope;
use holdfast_pki::issue::Ca;
use holdfast_proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use holdfast_proto::v1::node_link_server::{NodeLink, NodeLinkServer};
use holdfast_proto::v1::{self, hub_message, node_message};
use holdfast_proto::{PROTOCOL_VERSION, SLICE_CHUNK_BYTES_MAX};
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, PORT, TRUST_DOMAIN};
use holdfast_tests::wait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::hub_tls;

type Down = Result<v1::HubMessage, Status>;
/// What it makes of a true confirmation.
type Lie = Box<dyn FnMut(&mut v1::ConfirmReply) + Send>;

/// What it says of every keep, whoever could have looked.
#[derive(Clone, Copy, Default)]
pub(crate) enum Keeps {
    /// That nobody could look.
    #[default]
    Unseen,
    /// That a witness saw it pass.
    Pass,
    /// That a witness saw it pass before the change; after it, that nobody could look.
    PassBefore,
}

/// The hub of one node. Ends when dropped.
pub(crate) struct TakenHub {
    mind: Mind,
    /// Runs the server.
    _runtime: Runtime,
}

/// What it knows and wants; clones share it.
#[derive(Clone, Default)]
struct Mind(Arc<Mutex<Plot>>);

#[derive(Default)]
struct Plot {
    node_id: String,
    link: Option<mpsc::Sender<Down>>,
    reports: Vec<v1::Report>,
    authority: Vec<v1::Envelope>,
    slices: BTreeMap<String, Vec<u8>>,
    lie: Option<Lie>,
    /// Asked for the authority, it never answers.
    silent: bool,
    keeps: Keeps,
    /// Requests of its that the node does not know.
    unsupported: Vec<u64>,
    listening: JoinSet<()>,
}

impl TakenHub {
    /// Kills the hub of `fleet` and serves in its place, for the node `node`.
    pub(crate) fn seize(fleet: &mut Fleet, node: &str) -> Result<Self> {
        let mind = Mind::default();
        mind.lock().node_id = fleet.node(node)?.id().to_owned();
        fleet.kill_hub();
        let acceptor = stolen_identity(&fleet.hub_dir().join("ca"))?;
        let socket = fleet.world.bind(HUB, PORT)?;
        socket.set_nonblocking(true)?;
        let runtime = Runtime::new().context("no runtime")?;
        let socket = runtime.block_on(async { TcpListener::from_std(socket) })?;
        let (ready, connections) = mpsc::channel(16);
        runtime.spawn(accept(socket, acceptor, ready));
        let server = tonic::transport::Server::builder()
            .add_service(EnrollmentServer::new(mind.clone()))
            .add_service(NodeLinkServer::new(mind.clone()));
        runtime.spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
        Ok(Self {
            mind,
            _runtime: runtime,
        })
    }

    /// Offers a release, and waits for what the node reports of it.
    pub(crate) fn offer(&self, envelope: &Envelope) -> Result<v1::Report> {
        let before = self.mind.lock().reports.len();
        let manifest = Some(envelope.into());
        self.say(hub_message::Kind::ReleaseOffer(v1::ReleaseOffer { manifest }))?;
        let digest = envelope.digest().to_string();
        wait::until("the node's report", PATIENCE, || {
            let plot = self.mind.lock();
            let since = &plot.reports[before..];
            let found = since.iter().find(|report| report.manifest_digest == digest);
            found.cloned().ok_or_else(|| format!("{since:?}"))
        })
    }

    /// Offers a release, and from then on never answers when it is asked for what belongs to it.
    pub(crate) fn offer_and_fall_silent(&self, envelope: &Envelope) -> Result<()> {
        self.mind.lock().silent = true;
        let manifest = Some(envelope.into());
        self.say(hub_message::Kind::ReleaseOffer(v1::ReleaseOffer { manifest }))
    }

    /// Says who is in a group.
    pub(crate) fn tell_members(&self, selector: &str, addresses: &[String]) -> Result<()> {
        let set = v1::AddressSet {
            members: selector.to_owned(),
            addresses: addresses.to_vec(),
        };
        self.say(hub_message::Kind::AddressSets(v1::AddressSets {
            sets: vec![set],
        }))
    }

    /// Answers with `bytes` from now on when it is asked for the slice `digest`; with none: that there is no such slice.
    pub(crate) fn serve_slice(&self, digest: impl ToString, bytes: Option<Vec<u8>>) {
        let slices = &mut self.mind.lock().slices;
        match bytes {
            Some(bytes) => slices.insert(digest.to_string(), bytes),
            None => slices.remove(&digest.to_string()),
        };
    }

    /// Hands out these versions of the authority from now on, whatever is asked for.
    pub(crate) fn serve_authority(&self, versions: &[Envelope]) {
        self.mind.lock().authority = versions.iter().map(Into::into).collect();
    }

    /// Confirms by what `lie` makes of the truth; with none, truthfully.
    pub(crate) fn confirm_by(&self, lie: Option<Lie>) {
        self.mind.lock().lie = lie;
    }

    /// Says this of every keep from now on.
    pub(crate) fn say_of_keeps(&self, keeps: Keeps) {
        self.mind.lock().keeps = keeps;
    }

    /// Sends a document as this node's labels.
    pub(crate) fn tell_labels(&self, document: &Envelope) -> Result<()> {
        let document = Some(document.into());
        self.say(hub_message::Kind::LabelChange(v1::LabelChange { document }))
    }

    /// Sends a document as the next epoch.
    pub(crate) fn tell_epoch(&self, document: &Envelope) -> Result<()> {
        let document = Some(document.into());
        self.say(hub_message::Kind::EpochRaise(v1::EpochRaise { document }))
    }

    /// Says that there is a newer authority.
    pub(crate) fn tell_authority(&self, version: u64) -> Result<()> {
        self.say(hub_message::Kind::AuthorityAdvanced(v1::AuthorityAdvanced {
            version,
        }))
    }

    /// Says something that no agent knows, as a newer hub would, and waits until the node has said so.
    pub(crate) fn say_the_unknown(&self, request_id: u64) -> Result<()> {
        self.send(v1::HubMessage {
            request_id,
            kind: None,
        })?;
        wait::until("the node to answer what it does not know", PATIENCE, || {
            let known = self.unsupported();
            known
                .contains(&request_id)
                .then_some(())
                .ok_or_else(|| format!("{known:?}"))
        })
    }

    /// Has the node open a connection, by a request of this number.
    pub(crate) fn probe(&self, request_id: u64, address: impl ToString, tcp_port: u32) -> Result<()> {
        let kind = Some(hub_message::Kind::Probe(v1::Probe {
            address: address.to_string(),
            tcp_port,
            timeout_ms: 60_000,
        }));
        self.send(v1::HubMessage { request_id, kind })
    }

    /// The requests that the node said it does not serve.
    pub(crate) fn unsupported(&self) -> Vec<u64> {
        self.mind.lock().unsupported.clone()
    }

    /// Says anything.
    pub(crate) fn say(&self, kind: hub_message::Kind) -> Result<()> {
        let kind = Some(kind);
        self.send(v1::HubMessage { request_id: 0, kind })
    }

    fn send(&self, message: v1::HubMessage) -> Result<()> {
        let link = wait::until("the node's link", PATIENCE, || {
            let link = self.mind.lock().link.clone();
            link.filter(|link| !link.is_closed())
                .ok_or_else(|| "none".to_owned())
        })?;
        link.blocking_send(Ok(message))
            .map_err(|_| anyhow!("the node's link broke"))
    }
}

/// TLS with the keys that lie in the hub's directory.
fn stolen_identity(dir: &Path) -> Result<TlsAcceptor> {
    let read = |file| {
        let path = dir.join(file);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let issuing = Ca::from_pem(&read("issuing.crt")?, &String::from_utf8(read("issuing.key")?)?)?;
    let node_root = CertificateDer::from_pem_slice(&read("node-root.crt")?)?;
    let operator_root = CertificateDer::from_pem_slice(&read("operator-root.crt")?)?;
    let shown = [node_root.clone()];
    hub_tls::acceptor(
        &TRUST_DOMAIN.parse()?,
        &issuing,
        &[node_root, operator_root],
        &shown,
    )
}

/// Yields connections, decrypted.
async fn accept(socket: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<io::Result<DuplexStream>>) {
    let mut carried = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        carried.spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let (mut outside, inside) = duplex(64 * 1024);
            ready.send(Ok(inside)).await.map_err(io::Error::other)?;
            copy_bidirectional(&mut stream, &mut outside).await
        });
    }
}

impl Mind {
    fn lock(&self) -> MutexGuard<'_, Plot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the node says, until it says no more.
    async fn listen(self, mut up: Streaming<v1::NodeMessage>, down: mpsc::Sender<Down>) {
        while let Ok(Some(message)) = up.message().await {
            let answer = match message.kind {
                Some(node_message::Kind::Hello(_)) => hub_message::Kind::Hello(v1::HubHello {
                    protocol_version: PROTOCOL_VERSION,
                    instance_id: "taken".to_owned(),
                    ..v1::HubHello::default()
                }),
                Some(node_message::Kind::Unsupported(_)) => {
                    self.lock().unsupported.push(message.request_id);
                    continue;
                }
                Some(node_message::Kind::Report(report)) => {
                    self.lock().reports.push(report);
                    hub_message::Kind::Acknowledged(v1::Acknowledged {})
                }
                _ => continue,
            };
            let is_hello = matches!(answer, hub_message::Kind::Hello(_));
            let answer = v1::HubMessage {
                request_id: message.request_id,
                kind: Some(answer),
            };
            if down.send(Ok(answer)).await.is_err() {
                return;
            }
            if is_hello {
                self.lock().link = Some(down.clone());
            }
        }
    }
}

#[tonic::async_trait]
impl Enrollment for Mind {
    async fn enroll(&self, _: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        Err(Status::unimplemented("a taken hub enrols nobody here"))
    }

    async fn get_authority(
        &self,
        _: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityReply>, Status> {
        if self.lock().silent {
            std::future::pending::<()>().await;
        }
        let versions = self.lock().authority.clone();
        Ok(Response::new(v1::GetAuthorityReply { versions }))
    }

    async fn get_login_challenge(
        &self,
        _: Request<v1::GetLoginChallengeRequest>,
    ) -> Result<Response<v1::GetLoginChallengeReply>, Status> {
        Err(Status::unimplemented("a taken hub lets no operator in here"))
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Result<Response<v1::AccessReply>, Status> {
        Err(Status::unimplemented("a taken hub lets no operator in here"))
    }
}

#[tonic::async_trait]
impl NodeLink for Mind {
    type ConnectStream = ReceiverStream<Down>;
    type GetSliceStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::SliceChunk, Status>>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (down, queue) = mpsc::channel(16);
        let listening = self.clone().listen(request.into_inner(), down);
        self.lock().listening.spawn(listening);
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn get_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<Self::GetSliceStream>, Status> {
        let bytes = self.lock().slices.get(&request.into_inner().digest).cloned();
        let bytes = bytes.ok_or_else(|| Status::not_found("no slice of this digest is for this node"))?;
        let total = bytes.len() as u64;
        let chunk = |(n, bytes): (usize, &[u8])| {
            let offset = (n * SLICE_CHUNK_BYTES_MAX) as u64;
            Ok(v1::SliceChunk {
                offset,
                total,
                bytes: bytes.to_vec().into(),
            })
        };
        let chunks: Vec<_> = bytes
            .chunks(SLICE_CHUNK_BYTES_MAX)
            .enumerate()
            .map(chunk)
            .collect();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmReply>, Status> {
        let (request, mut plot) = (request.into_inner(), self.lock());
        let mut reply = v1::ConfirmReply {
            generation: request.generation,
            manifest_digest: request.manifest_digest,
            nonce: request.nonce,
            node_id: plot.node_id.clone(),
            instance_id: "taken".to_owned(),
        };
        if let Some(lie) = &mut plot.lie {
            lie(&mut reply);
        }
        Ok(Response::new(reply))
    }

    async fn witness_keeps(
        &self,
        request: Request<v1::WitnessKeepsRequest>,
    ) -> Result<Response<v1::WitnessKeepsReply>, Status> {
        let request = request.into_inner();
        let is_before = request.witnesses.is_empty();
        let answer = match self.lock().keeps {
            Keeps::Pass => seen_passing(),
            Keeps::PassBefore if is_before => seen_passing(),
            Keeps::PassBefore | Keeps::Unseen => v1::Witnessed::default(),
        };
        let results = vec![answer; request.keeps.len()];
        Ok(Response::new(v1::WitnessKeepsReply { results }))
    }

    async fn show(&self, _: Request<Streaming<v1::ShowRequest>>) -> Result<Response<v1::ShowReply>, Status> {
        Ok(Response::new(v1::ShowReply { holds: false }))
    }
}

fn seen_passing() -> v1::Witnessed {
    v1::Witnessed {
        witness: "hub".to_owned(),
        passed: true,
        detail: String::new(),
    }
}
