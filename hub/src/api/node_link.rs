//! The link: one stream per node, and the calls that a node makes beside it.

mod checkpoints;
mod facts;
mod telling;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::ids::{Digest, Generation, NodeId};
use holdfast_proto::v1::{self, hub_message, node_message};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::checkpoints::Given;
use self::telling::Told;
use super::{Hub, caller, calling_node, chunks, invalid};
use crate::acceptor::Caller;
use crate::links::{Down, Linked};
use crate::registry::NodeRecord;
use crate::{hold, releases, witness};

/// A node beats every 20 s; one that is not heard for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(65);
/// How long a node may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How many changes a node may make at once, over however many links: an honest node makes a few at a release, a hostile
/// one must not fill the hub's disk by the minute.
pub const CHANGES_BURST: u32 = 30;
/// ... and how soon one more.
pub const CHANGE_EVERY: Duration = Duration::from_secs(2);

type DownStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Hub>);

#[tonic::async_trait]
impl v1::node_link_server::NodeLink for Service {
    type ConnectStream = DownStream<v1::HubMessage>;
    type GetSliceStream = DownStream<v1::SliceChunk>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = caller(&request)?;
        let id = calling_node(&caller)?;
        let (linked, down, queue) = self.0.links.enter(id, caller.address, self.0.clock.unix_secs());
        // Looked up once it has entered: a removal from here on finds the link, an earlier one is found here.
        let node = self.0.node(&id).await?;
        let link = Link {
            hub: self.0.clone(),
            accepted: None,
            node,
            caller,
            linked,
            down,
            inbound: request.into_inner(),
        };
        self.0.tasks.spawn("link", link.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }

    async fn get_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<Self::GetSliceStream>, Status> {
        let id = calling_node(&caller(&request)?)?;
        let digest: Digest = request
            .into_inner()
            .digest
            .parse()
            .map_err(|error| invalid(&error))?;
        let node = self.0.node(&id).await?;
        if let Some(hold) = hold::read(&self.0.registry).await? {
            return Err(Status::failed_precondition(hold.to_string()));
        }
        // A node learns nothing of slices that are not for it.
        let release = self.0.director.directions().borrow().release.clone();
        let selected = release.is_some_and(|r| {
            r.manifest
                .select(&node.labels)
                .any(|slice| slice.digest == digest)
        });
        let bytes = if selected {
            releases::read_slice(&self.0.registry, digest).await?
        } else {
            None
        };
        let bytes = bytes.ok_or_else(|| Status::not_found("no slice of this digest is for this node"))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks(bytes)))))
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmReply>, Status> {
        let id = calling_node(&caller(&request)?)?;
        let request = request.into_inner();
        if request.nonce.len() > 64 {
            return Err(Status::invalid_argument("the nonce has more than 64 bytes"));
        }
        Ok(Response::new(v1::ConfirmReply {
            generation: request.generation,
            manifest_digest: request.manifest_digest,
            nonce: request.nonce,
            node_id: id.to_string(),
            instance_id: self.0.instance.to_string(),
        }))
    }

    async fn witness_keeps(
        &self,
        request: Request<v1::WitnessKeepsRequest>,
    ) -> Result<Response<v1::WitnessKeepsReply>, Status> {
        let caller = caller(&request)?;
        let id = calling_node(&caller)?;
        let request = request.into_inner();
        if request.keeps.len() > witness::KEEPS_MAX {
            return Err(Status::invalid_argument(format!(
                "more than {} keeps in one request",
                witness::KEEPS_MAX
            )));
        }
        let _turn = self.0.witnessing.take(&caller).await?;
        let results = witness::check(&self.0.links, id, caller.address.ip(), request).await;
        Ok(Response::new(v1::WitnessKeepsReply { results }))
    }

    async fn show(
        &self,
        request: Request<Streaming<v1::ShowRequest>>,
    ) -> Result<Response<v1::ShowReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .show(&caller, request.into_inner())
            .await
            .map(Response::new)
    }
}

impl Hub {
    pub(super) async fn node(&self, id: &NodeId) -> Result<NodeRecord, Status> {
        let node = self.registry.node(id).await?.map(|node| node.value);
        node.filter(|node| node.removed_secs.is_none())
            .ok_or_else(|| Status::permission_denied("this node is not known here, or was removed"))
    }
}

async fn stopped(draining: &mut watch::Receiver<bool>) {
    drop(draining.wait_for(|draining| *draining).await);
}

/// One node's link, from its hello to its end.
struct Link {
    hub: Arc<Hub>,
    /// The highest release that the node said it accepted.
    accepted: Option<Generation>,
    node: NodeRecord,
    caller: Caller,
    linked: Linked,
    down: mpsc::Sender<Down>,
    inbound: Streaming<v1::NodeMessage>,
}

impl Link {
    async fn run(mut self) {
        tracing::info!(node.id = %self.node.id, name = %self.node.name, peer.addr = %self.caller.address, "link up");
        let end = self.serve().await;
        let reason = end.err().map(|status| status.message().to_owned());
        tracing::info!(node.id = %self.node.id, name = %self.node.name, reason, "link down");
    }

    /// The one loop: what the node says, and what it should have.
    async fn serve(&mut self) -> Result<(), Status> {
        let hello = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message()).await;
        let first = hello.map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(v1::NodeMessage {
            kind: Some(node_message::Kind::Hello(hello)),
            request_id,
        }) = first
        else {
            return self
                .refuse(Status::invalid_argument("the first message must be a hello"))
                .await;
        };
        if !hello.protocol_versions.contains(&PROTOCOL_VERSION) {
            let why =
                format!("this hub speaks link protocol {PROTOCOL_VERSION}; upgrade the agent or the hub");
            return self.refuse(Status::failed_precondition(why)).await;
        }
        self.say(request_id, hub_message::Kind::Hello(self.hub_hello().await?))
            .await?;
        if let Some(shown) = hello.checkpoint.clone() {
            self.judge_checkpoint(shown).await?;
        }
        let mut told = Told::at_hello(&hello);
        self.note_hello(hello).await?;

        let mut authority = self.hub.authority.version();
        authority.mark_changed();
        let mut directions = self.hub.director.directions();
        let mut draining = self.hub.draining.clone();
        directions.mark_changed();
        let node_changes = self.linked.node_changes();
        let mut given = Given::none(self.hub.checkpoints.newest());
        self.tell_labels(&mut told).await?;
        loop {
            tokio::select! {
                message = tokio::time::timeout(SILENCE_MAX, self.inbound.message()) => {
                    let message = message.map_err(|_| Status::deadline_exceeded("not heard for too long"))??;
                    let Some(message) = message else { return Ok(()) };
                    // One that lost its place ends below.
                    if self.linked.heard(self.hub.clock.unix_secs()) {
                        self.take(message).await?;
                    }
                }
                () = self.linked.displaced() => {
                    return Err(Status::aborted("a newer link of this node took over, or it was removed"));
                }
                changed = directions.changed() => {
                    changed.map_err(|_| Status::unavailable("the hub stops"))?;
                    let now = directions.borrow_and_update().clone();
                    self.direct(now, &mut told).await?;
                }
                changed = authority.changed() => {
                    changed.map_err(|_| Status::unavailable("the hub stops"))?;
                    let version = *authority.borrow_and_update();
                    self.tell_authority(version, &mut told).await?;
                }
                () = node_changes.notified() => {
                    self.node = self.hub.node(&self.node.id).await?;
                    self.tell_labels(&mut told).await?;
                    // The labels select other slices of the same release.
                    directions.mark_changed();
                }
                Some(checkpoint) = given.next() => self.give_checkpoint(checkpoint).await?,
                () = stopped(&mut draining) => return Ok(()),
            }
        }
    }

    /// Queues a message; a node that reads nothing for half a minute loses its link.
    async fn say(&self, request_id: u64, kind: hub_message::Kind) -> Result<(), Status> {
        let message = v1::HubMessage {
            request_id,
            kind: Some(kind),
        };
        self.down
            .send_timeout(Ok(message), Duration::from_secs(30))
            .await
            .map_err(|_| Status::deadline_exceeded("the node does not read"))
    }

    async fn refuse(&self, status: Status) -> Result<(), Status> {
        let _ = self
            .down
            .send_timeout(Err(status.clone()), Duration::from_secs(1))
            .await;
        Err(status)
    }

    async fn take(&mut self, message: v1::NodeMessage) -> Result<(), Status> {
        match message.kind {
            Some(node_message::Kind::Heartbeat(heartbeat)) => self.note_heartbeat(heartbeat).await,
            Some(node_message::Kind::Report(report)) => {
                let outcome = report.outcome.chars().take(20).collect::<String>();
                tracing::info!(node.id = %self.node.id, name = %self.node.name, outcome, "report");
                self.store_report(&report).await?;
                self.say(
                    message.request_id,
                    hub_message::Kind::Acknowledged(v1::Acknowledged {}),
                )
                .await
            }
            Some(node_message::Kind::ProbeResult(result)) => {
                self.linked.answered(message.request_id, result);
                Ok(())
            }
            Some(node_message::Kind::Hello(_)) => Err(Status::invalid_argument("a second hello")),
            Some(node_message::Kind::Unsupported(unsupported)) => {
                tracing::info!(node.id = %self.node.id, detail = unsupported.detail, "the agent does not know a message");
                Ok(())
            }
            None => {
                let detail = "this hub does not know this kind of message".to_owned();
                self.say(
                    message.request_id,
                    hub_message::Kind::Unsupported(v1::Unsupported { detail }),
                )
                .await
            }
        }
    }
}

#[cfg(test)]
mod tests;
