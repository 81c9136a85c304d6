//! The link: one stream per node, and the calls that a node makes beside it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::ids::{Digest, Generation, NodeId};
use holdfast_proto::v1::{self, hub_message, node_message};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Hub, caller, calling_node, chunks, invalid};
use crate::acceptor::Caller;
use crate::director::{Directions, sets_for};
use crate::links::{Down, Linked};
use crate::registry::{InventoryRecord, NodeRecord, NodeStatus, Registry, RegistryError, to_record};
use crate::releases;
use crate::store::key::Key;
use crate::store::txn::Txn;
use crate::witness;

/// A node beats every 20 s; one that is not heard for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(65);
/// How long a node may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

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
        let pace = Pace {
            left: CHANGES_BURST,
            since: self.0.clock.since_boot(),
        };
        let link = Link {
            hub: self.0.clone(),
            pace,
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
    async fn node(&self, id: &NodeId) -> Result<NodeRecord, Status> {
        let node = self.registry.node(id).await?.map(|node| node.value);
        node.filter(|node| node.removed_secs.is_none())
            .ok_or_else(|| Status::permission_denied("this node is not known here, or was removed"))
    }
}

async fn stopped(draining: &mut watch::Receiver<bool>) {
    drop(draining.wait_for(|draining| *draining).await);
}

/// What a node was told over this link.
#[derive(Debug, Default)]
struct Told {
    release: Option<Digest>,
    sets: Option<v1::AddressSets>,
}

/// How many changes a node may make at once, and how soon one more: an honest node makes a few at a release, a hostile one
/// must not fill the hub's disk by the minute.
const CHANGES_BURST: u32 = 30;
const CHANGE_EVERY: Duration = Duration::from_secs(2);

/// Bounds how often a node's records are written (a token bucket).
#[derive(Debug)]
struct Pace {
    left: u32,
    since: Duration,
}

impl Pace {
    /// Waits until one more change is due. Meanwhile nothing is read from the node, which so learns to wait as well.
    async fn wait(&mut self, clock: &dyn Clock) {
        let regained = clock.since_boot().saturating_sub(self.since).as_secs() / CHANGE_EVERY.as_secs();
        if regained > 0 {
            self.left = CHANGES_BURST.min(
                self.left
                    .saturating_add(u32::try_from(regained).unwrap_or(u32::MAX)),
            );
            self.since = clock.since_boot();
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                tokio::time::sleep(CHANGE_EVERY).await;
                // What was waited for is spent.
                self.since = clock.since_boot();
            }
        }
    }
}

/// One node's link, from its hello to its end.
struct Link {
    hub: Arc<Hub>,
    pace: Pace,
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
        self.say(request_id, hub_message::Kind::Hello(self.hub_hello()))
            .await?;
        self.note_hello(hello).await?;

        let mut directions = self.hub.director.directions();
        let mut draining = self.hub.draining.clone();
        directions.mark_changed();
        let mut told = Told::default();
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
                () = stopped(&mut draining) => return Ok(()),
            }
        }
    }

    /// Tells the node what it should have, as far as it was not told: members first, so that the release that needs them
    /// finds them there.
    async fn direct(&self, directions: Directions, told: &mut Told) -> Result<(), Status> {
        let Some(release) = directions.release else {
            return Ok(());
        };
        let sets = sets_for(&release, &self.node.labels, &directions.members);
        if told.sets.as_ref() != Some(&sets) {
            self.say(0, hub_message::Kind::AddressSets(sets.clone())).await?;
            told.sets = Some(sets);
        }
        if self
            .accepted
            .is_some_and(|accepted| accepted > release.manifest.generation())
        {
            // A release may be returned from, but a hub that merely forgot the newer one must not bring it about.
            if told.release.replace(release.digest).is_none() {
                tracing::error!(
                    node.id = %self.node.id,
                    accepted = self.accepted.map(|accepted| accepted.to_string()),
                    current = %release.manifest.generation(),
                    "the node has accepted a newer release than this hub knows: was an old backup restored? nothing is offered"
                );
            }
        } else if told.release != Some(release.digest) {
            let offer = v1::ReleaseOffer {
                manifest: Some((&release.envelope).into()),
            };
            self.say(0, hub_message::Kind::ReleaseOffer(offer)).await?;
            told.release = Some(release.digest);
        }
        Ok(())
    }

    fn hub_hello(&self) -> v1::HubHello {
        v1::HubHello {
            hub_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: PROTOCOL_VERSION,
            instance_id: self.hub.instance.to_string(),
            serving_since_secs: self.hub.serving_since_secs,
            ..v1::HubHello::default()
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
            Some(node_message::Kind::Heartbeat(heartbeat)) => {
                let mut changed = false;
                self.update_status("node heartbeat", |status| {
                    if let Some(inventory) = heartbeat.inventory {
                        status.inventory = inventory.into();
                        changed = true;
                    }
                    status.accepted = heartbeat.accepted.map(Into::into);
                    status.confirmed = heartbeat.confirmed.map(Into::into);
                    status.labels_version = heartbeat.labels_version;
                    status.authority_version = heartbeat.authority_version;
                })
                .await?;
                if changed {
                    self.hub.director.fleet_changed();
                }
                Ok(())
            }
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

    async fn note_hello(&mut self, hello: v1::NodeHello) -> Result<(), Status> {
        self.accepted = hello.accepted.map(Into::into);
        let address = self.caller.address.ip().to_string();
        self.update_status("node hello", |status| {
            status.address = address;
            status.agent_version = hello.agent_version.chars().take(64).collect();
            status.boot_id = hello.boot_id.chars().take(64).collect();
            status.inventory = hello.inventory.unwrap_or_default().into();
            status.accepted = hello.accepted.map(Into::into);
            status.confirmed = hello.confirmed.map(Into::into);
            status.labels_version = hello.labels_version;
            status.authority_version = hello.authority_version;
        })
        .await?;
        self.hub.director.fleet_changed();
        Ok(())
    }

    /// Stores what the node said of itself, if it differs from what is stored: a heartbeat alone writes nothing.
    async fn update_status(
        &mut self,
        what: &str,
        change: impl FnOnce(&mut NodeStatus),
    ) -> Result<(), Status> {
        let held = self
            .hub
            .registry
            .status(&self.node.id)
            .await?
            .map(|held| held.value);
        let mut status = held.clone().unwrap_or_else(|| NodeStatus {
            format: 1,
            address: String::new(),
            at_secs: 0,
            agent_version: String::new(),
            boot_id: String::new(),
            inventory: InventoryRecord::default(),
            accepted: None,
            confirmed: None,
            labels_version: 0,
            authority_version: 0,
        });
        change(&mut status);
        if held.as_ref() == Some(&status) {
            return Ok(());
        }
        status.at_secs = self.hub.clock.unix_secs();
        let key = Registry::status_key(&self.node.id);
        self.write(what, key, to_record(&status)).await
    }

    async fn store_report(&mut self, report: &v1::Report) -> Result<(), Status> {
        let key = Registry::report_key(&self.node.id);
        let held = self
            .hub
            .registry
            .store()
            .get(&key)
            .await
            .map_err(RegistryError::from)?;
        let bytes = report.encode_to_vec();
        if held.is_some_and(|held| *held.value == *bytes) {
            return Ok(());
        }
        self.write("node report", key, bytes).await
    }

    /// Writes what the node said, at the pace that a node may have.
    async fn write(&mut self, what: &str, key: Key, value: Vec<u8>) -> Result<(), Status> {
        self.pace.wait(&*self.hub.clock).await;
        let (id, entry) = self.hub.audit(&self.caller, what, key.to_string(), None);
        // Only this link writes this node's records, so that nothing is required of what is there.
        let txn = Txn::new(&id, &entry).put(key, value);
        self.hub
            .registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::clock::TestClock;

    #[tokio::test(start_paused = true)]
    async fn a_nodes_changes_have_a_pace() {
        let clock = TestClock::at(1_800_000_000);
        let mut pace = Pace {
            left: CHANGES_BURST,
            since: clock.since_boot(),
        };
        let began = tokio::time::Instant::now();
        for _ in 0..CHANGES_BURST {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "a burst passes at once");
        pace.wait(&clock).await;
        assert_eq!(began.elapsed(), CHANGE_EVERY, "then each waits");
        clock.advance(CHANGE_EVERY * 3);
        for _ in 0..3 {
            pace.wait(&clock).await;
        }
        assert_eq!(began.elapsed(), CHANGE_EVERY, "what was not used comes back");
    }
}
