//! The link: dials a hub, says hello, beats, fills the keeper's inbox and carries its reports.
//!
//! The one loop is [`Link::run`]: connect, serve until it breaks, wait with full jitter, again. It decides nothing about
//! what is in force here.

mod outbox;
mod probe;
mod refused;
mod serving;
mod take;

use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::random::Random;
use holdfast_proto::ids::UniqueId;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::{self, hub_message, node_message};
use holdfast_proto::{DOWNLINK_BYTES_MAX, PROTOCOL_VERSION};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use self::outbox::Outbox;
use self::serving::{Serving, Up};
use crate::backoff::Backoff;
use crate::checkpoints::Checkpoints;
use crate::dial::Dialer;
use crate::inbox::{Documents, Inbox};
use crate::inventory::{self, HostRoot, interfaces};
use crate::keeper::{Held, HubHas};

/// Three beats fit into the silence after which a hub gives a link up.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
/// How long a hub may take to answer a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(15);
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
    /// What hubs gave this node to be shown again.
    pub checkpoints: Checkpoints,
}

impl Link {
    /// Links for ever. Returns only when the keeper is gone.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut outbox = Outbox::default();
        let mut last_told = String::new();
        loop {
            let ended = self.connect_and_serve(&mut outbox, &mut backoff).await;
            self.checkpoints.save(self.clock.since_boot());
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
        let up = Up(up);
        let told = |status: Status| status.message().to_owned();
        let mut inventory = self.inventory();
        let held = self.held.borrow_and_update().clone();
        up.say(
            0,
            node_message::Kind::Hello(self.hello(&held, inventory.clone(), connection.hub)),
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
        let has = HubHas::from(&hello);
        for (id, report) in outbox.waiting() {
            up.say(*id, node_message::Kind::Report(report.clone())).await?;
        }

        let mut serving = Serving {
            client,
            connection,
            instance: hello.instance_id,
            up,
            probes: JoinSet::new(),
        };
        self.have_shown(&serving, has);
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
                    serving.up.say(id, node_message::Kind::Report(report)).await?;
                }
                _ = beat.tick() => {
                    self.checkpoints.save_if_due(self.clock.since_boot());
                    let now = self.inventory();
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

    fn inventory(&self) -> v1::Inventory {
        inventory::collect(&self.root, interfaces::read())
    }

    /// Has the keeper show this hub what it lacks.
    fn have_shown(&self, serving: &Serving, has: HubHas) {
        if has.is_less_than(&self.held.borrow()) {
            self.inbox.documents(Documents {
                lacking: Some(has),
                ..Documents::none(serving.offering())
            });
        }
    }

    fn hello(&self, held: &Held, inventory: v1::Inventory, hub: UniqueId) -> v1::NodeHello {
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
            epoch: held.epoch,
            checkpoint: self.checkpoints.of(hub).map(Into::into),
            ..v1::NodeHello::default()
        }
    }

    async fn beat(&mut self, serving: &Serving, inventory: Option<v1::Inventory>) -> Result<(), String> {
        let held = self.held.borrow_and_update().clone();
        if !self.dialer.still_trusts(&serving.connection) {
            return Err("the authority dropped a node root: hubs are to prove themselves anew".to_owned());
        }
        let beat = v1::Heartbeat {
            inventory,
            accepted: held.accepted.map(Into::into),
            confirmed: held.confirmed.map(Into::into),
            labels_version: held.labels_version,
            authority_version: held.authority_version,
            epoch: held.epoch,
        };
        serving.up.say(0, node_message::Kind::Heartbeat(beat)).await
    }
}

#[cfg(test)]
mod tests;
