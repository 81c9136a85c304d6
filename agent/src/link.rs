//! The link: dials a hub, says hello, beats, fills the keeper's inbox and carries its reports.
//!
//! The one loop is [`Link::run`]: connect, serve until it breaks, wait with full jitter, again. It decides nothing about
//! what is in force here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::random::Random;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::{self, hub_message, node_message};
use holdfast_proto::{DOWNLINK_BYTES_MAX, PROTOCOL_VERSION};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backoff::Backoff;
use crate::change::Offering;
use crate::dial::{Connection, Dialer};
use crate::host::Chain;
use crate::inbox::{Inbox, Offer};
use crate::inventory::{self, HostRoot};
use crate::keeper::Held;
use crate::members;

/// Three beats fit into the silence after which a hub gives a link up.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
/// How long a hub may take to answer a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
/// Reports that wait for a hub: beyond it the oldest is dropped, and the drop is logged.
const OUTBOX_MAX: usize = 64;
/// Probes at once as a witness: more than one policy's keeps, and no more, so that a hub cannot make a scanner of us.
const PROBES_MAX: usize = 32;
/// The longest a probe may wait.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Messages on their way up: a hello, a beat, a report, probes.
const UP_QUEUE: usize = 16;

/// The link's ends within this process.
#[derive(Debug)]
pub struct Link {
    /// Whom to dial.
    pub dialer: Arc<Dialer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// What this machine is read from.
    pub root: HostRoot,
    /// To the keeper.
    pub inbox: Arc<Inbox>,
    /// From the keeper.
    pub reports: mpsc::Receiver<v1::Report>,
    /// What the keeper holds.
    pub held: watch::Receiver<Held>,
}

/// Reports that no hub has acknowledged yet, oldest first.
#[derive(Debug, Default)]
struct Outbox {
    waiting: VecDeque<(u64, v1::Report)>,
    next_id: u64,
}

impl Outbox {
    fn push(&mut self, report: v1::Report) -> (u64, v1::Report) {
        if self.waiting.len() >= OUTBOX_MAX {
            let dropped = self.waiting.pop_front();
            tracing::warn!(
                outcome = dropped.map(|(_, report)| report.outcome),
                "a report was dropped: no hub took it for too long"
            );
        }
        // Odd numbers: requests of ours; a hub's own are told apart from them by direction alone.
        self.next_id += 1;
        self.waiting.push_back((self.next_id, report.clone()));
        (self.next_id, report)
    }

    fn acknowledged(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }
}

impl Link {
    /// Links for ever. Returns only when the keeper is gone.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut outbox = Outbox::default();
        let mut last_told = String::new();
        loop {
            let ended = self.connect_and_serve(&mut outbox, &mut backoff).await;
            let told = match ended {
                Ok(()) => "the hub closed the link".to_owned(),
                Err(error) => error,
            };
            // A hub that is away for a week is told once, not ten thousand times.
            if told == last_told {
                tracing::debug!(reason = told, "no link to a hub");
            } else {
                tracing::warn!(
                    reason = told,
                    "no link to a hub; the last confirmed state stays in force"
                );
                last_told = told;
            }
            let wait = tokio::time::sleep(backoff.next(&*self.random));
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    report = self.reports.recv() => match report {
                        Some(report) => drop(outbox.push(report)),
                        None => return,
                    },
                }
            }
        }
    }

    async fn connect_and_serve(&mut self, outbox: &mut Outbox, backoff: &mut Backoff) -> Result<(), String> {
        let start = usize::try_from(self.random.below(1 << 16)).unwrap_or(0);
        let connection = self.dialer.dial(start).await.map_err(|error| error.to_string())?;
        let mut client =
            NodeLinkClient::new(connection.channel.clone()).max_decoding_message_size(DOWNLINK_BYTES_MAX);
        let (up, queue) = mpsc::channel(UP_QUEUE);
        let told = |status: Status| status.message().to_owned();
        let mut inventory = inventory::collect(&self.root);
        let held = self.held.borrow_and_update().clone();
        send(
            &up,
            0,
            node_message::Kind::Hello(self.hello(&held, inventory.clone())),
        )
        .await?;
        let opened = tokio::time::timeout(HELLO_TIMEOUT, client.connect(ReceiverStream::new(queue))).await;
        let mut down = opened
            .map_err(|_| "the hub did not open the link in time")?
            .map_err(told)?
            .into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, down.message()).await;
        let first = first
            .map_err(|_| "the hub did not say hello in time")?
            .map_err(told)?;
        let Some(v1::HubMessage {
            kind: Some(hub_message::Kind::Hello(hello)),
            ..
        }) = first
        else {
            return Err("the hub said something else than hello".to_owned());
        };
        tracing::info!(peer.addr = %connection.peer, instance = hello.instance_id, version = hello.hub_version, "link up");
        backoff.reset();
        for (id, report) in &outbox.waiting {
            send(&up, *id, node_message::Kind::Report(report.clone())).await?;
        }

        let mut serving = Serving {
            client,
            connection,
            instance: hello.instance_id,
            up,
            probes: JoinSet::new(),
        };
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        beat.reset();
        loop {
            tokio::select! {
                message = down.message() => match message.map_err(told)? {
                    Some(message) => self.take(message, &mut serving, outbox).await?,
                    None => return Ok(()),
                },
                report = self.reports.recv() => {
                    let (id, report) = outbox.push(report.ok_or("the keeper ended")?);
                    send(&serving.up, id, node_message::Kind::Report(report)).await?;
                }
                _ = beat.tick() => {
                    let now = inventory::collect(&self.root);
                    let changed = (now != inventory).then(|| now.clone());
                    inventory = now;
                    self.beat(&serving, changed).await?;
                }
                changed = self.held.changed() => {
                    changed.map_err(|_| "the keeper ended")?;
                    self.beat(&serving, None).await?;
                }
                Some(_) = serving.probes.join_next() => {}
            }
        }
    }

    fn hello(&self, held: &Held, inventory: v1::Inventory) -> v1::NodeHello {
        v1::NodeHello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_versions: vec![PROTOCOL_VERSION],
            boot_id: self.clock.boot_id(),
            inventory: Some(inventory),
            accepted: held.accepted.map(Into::into),
            confirmed: held.confirmed.map(Into::into),
            confirmed_digest: held
                .confirmed_digest
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            labels_version: held.labels_version,
            authority_version: held.authority_version,
            ..v1::NodeHello::default()
        }
    }

    async fn beat(&mut self, serving: &Serving, inventory: Option<v1::Inventory>) -> Result<(), String> {
        let held = self.held.borrow_and_update().clone();
        let beat = v1::Heartbeat {
            inventory,
            accepted: held.accepted.map(Into::into),
            confirmed: held.confirmed.map(Into::into),
            labels_version: held.labels_version,
            authority_version: held.authority_version,
            epoch: 0,
        };
        send(&serving.up, 0, node_message::Kind::Heartbeat(beat)).await
    }

    async fn take(
        &self,
        message: v1::HubMessage,
        serving: &mut Serving,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        let id = message.request_id;
        match message.kind {
            Some(hub_message::Kind::ReleaseOffer(offer)) => match Envelope::try_from(offer.manifest) {
                Ok(manifest) => {
                    let hub = serving.offering();
                    self.inbox.offer(Offer { manifest, hub });
                    Ok(())
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the hub offers a release that cannot be read");
                    Ok(())
                }
            },
            Some(hub_message::Kind::AddressSets(sets)) => {
                self.inbox.members(members::from_wire(sets));
                Ok(())
            }
            Some(hub_message::Kind::Probe(probe)) => serving.probe(id, probe).await,
            Some(hub_message::Kind::Acknowledged(_)) => {
                outbox.acknowledged(id);
                Ok(())
            }
            Some(hub_message::Kind::Removed(removed)) => Err(format!(
                "the hub removed this node: {}",
                removed.reason.chars().take(200).collect::<String>()
            )),
            Some(hub_message::Kind::Hello(_)) => Err("the hub said hello twice".to_owned()),
            Some(hub_message::Kind::Unsupported(unsupported)) => {
                tracing::info!(detail = unsupported.detail, "the hub does not know a message");
                outbox.acknowledged(id);
                Ok(())
            }
            Some(
                hub_message::Kind::LabelChange(_)
                | hub_message::Kind::EpochRaise(_)
                | hub_message::Kind::AuthorityAdvanced(_)
                | hub_message::Kind::Checkpoint(_)
                | hub_message::Kind::AddressesRefused(_),
            ) => Ok(()),
            None => {
                let detail = "this agent does not know this kind of message".to_owned();
                send(
                    &serving.up,
                    id,
                    node_message::Kind::Unsupported(v1::Unsupported { detail }),
                )
                .await
            }
        }
    }
}

/// A link that is up.
struct Serving {
    client: NodeLinkClient<tonic::transport::Channel>,
    connection: Connection,
    instance: String,
    up: mpsc::Sender<v1::NodeMessage>,
    probes: JoinSet<()>,
}

impl Serving {
    fn offering(&self) -> Offering {
        Offering {
            client: self.client.clone(),
            channel: self.connection.channel.clone(),
            instance: self.instance.clone(),
            on_this_machine: self.connection.stays_on_this_machine(),
        }
    }

    /// Opens one TCP connection for somebody else's keep, sends nothing, and says whether it came about.
    async fn probe(&mut self, id: u64, probe: v1::Probe) -> Result<(), String> {
        let target = probe_target(&probe);
        let Some(target) = target.filter(|_| self.probes.len() < PROBES_MAX) else {
            let detail = "not a probe that this agent makes, or too many at once".to_owned();
            return send(
                &self.up,
                id,
                node_message::Kind::Unsupported(v1::Unsupported { detail }),
            )
            .await;
        };
        let up = self.up.clone();
        let limit = Duration::from_millis(probe.timeout_ms.into()).min(PROBE_TIMEOUT_MAX);
        self.probes.spawn(async move {
            let (passed, detail) = match tokio::time::timeout(limit, TcpStream::connect(target)).await {
                Ok(Ok(_)) => (true, String::new()),
                Ok(Err(error)) => (false, error.to_string()),
                Err(_) => (false, format!("no answer within {} ms", limit.as_millis())),
            };
            let result = node_message::Kind::ProbeResult(v1::ProbeResult { passed, detail });
            // A link that went away meanwhile has nobody to tell.
            let _ = send(&up, id, result).await;
        });
        Ok(())
    }
}

/// Where a probe goes: never to this machine itself, nor to many at once.
fn probe_target(probe: &v1::Probe) -> Option<SocketAddr> {
    let address: std::net::IpAddr = probe.address.parse().ok()?;
    let port = u16::try_from(probe.tcp_port).ok().filter(|port| *port > 0)?;
    let one_other = !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    one_other.then(|| SocketAddr::new(address, port))
}

async fn send(
    up: &mpsc::Sender<v1::NodeMessage>,
    request_id: u64,
    kind: node_message::Kind,
) -> Result<(), String> {
    let message = v1::NodeMessage {
        request_id,
        kind: Some(kind),
    };
    up.send(message).await.map_err(|_| "the link broke".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_wait_for_their_acknowledgement_and_are_bounded() {
        let mut outbox = Outbox::default();
        for n in 0..OUTBOX_MAX + 5 {
            outbox.push(v1::Report {
                detail: n.to_string(),
                ..v1::Report::default()
            });
        }
        assert_eq!(outbox.waiting.len(), OUTBOX_MAX);
        assert_eq!(outbox.waiting[0].1.detail, "5");
        let id = outbox.waiting[3].0;
        outbox.acknowledged(id);
        assert!(outbox.waiting.iter().all(|(waiting, _)| *waiting != id));
    }

    #[test]
    fn probes_go_to_one_other_machine() {
        let probe = |address: &str, tcp_port| v1::Probe {
            address: address.to_owned(),
            tcp_port,
            timeout_ms: 1,
        };
        assert!(probe_target(&probe("10.0.0.1", 22)).is_some());
        for (address, port) in [
            ("127.0.0.1", 22),
            ("0.0.0.0", 22),
            ("224.0.0.1", 22),
            ("::1", 22),
            ("x", 22),
            ("10.0.0.1", 0),
            ("10.0.0.1", 70_000),
        ] {
            assert!(probe_target(&probe(address, port)).is_none(), "{address} {port}");
        }
    }
}
