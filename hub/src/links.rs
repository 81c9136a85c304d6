//! Who is connected here and now. Nothing of it is stored: after a restart the agents come back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_proto::ids::NodeId;
use holdfast_proto::v1::{self, hub_message};
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

/// Messages that wait for a slow node before its link is given up: an offer, sets, and a few probes.
const DOWN_QUEUE: usize = 16;

/// What goes down a link.
pub type Down = Result<v1::HubMessage, Status>;

/// The links of this hub. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Links(Arc<Mutex<BTreeMap<NodeId, Link>>>);

#[derive(Debug)]
struct Link {
    serial: u64,
    address: SocketAddr,
    last_seen_secs: u64,
    down: mpsc::Sender<Down>,
    probes: Arc<Mutex<BTreeMap<u64, oneshot::Sender<v1::ProbeResult>>>>,
    changed: Arc<Notify>,
    /// Dropped with this entry: how the node's end learns that it lost its place.
    _place: oneshot::Sender<()>,
}

/// A node's end of the registry of links: leaves it when dropped.
#[derive(Debug)]
pub struct Linked {
    links: Links,
    node: NodeId,
    serial: u64,
    changed: Arc<Notify>,
    place: oneshot::Receiver<()>,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a node's new link; one that it had is closed.
    #[must_use]
    pub fn enter(
        &self,
        node: NodeId,
        address: SocketAddr,
        now_secs: u64,
    ) -> (Linked, mpsc::Sender<Down>, mpsc::Receiver<Down>) {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let (down, queue) = mpsc::channel(DOWN_QUEUE);
        let (held, place) = oneshot::channel();
        let changed = Arc::new(Notify::new());
        let link = Link {
            serial,
            address,
            last_seen_secs: now_secs,
            down: down.clone(),
            probes: Arc::default(),
            changed: changed.clone(),
            _place: held,
        };
        self.lock().insert(node, link);
        (
            Linked {
                links: self.clone(),
                node,
                serial,
                changed,
                place,
            },
            down,
            queue,
        )
    }

    /// Closes a node's link, telling it why.
    pub fn remove(&self, node: &NodeId, reason: &str) {
        if let Some(link) = self.lock().remove(node) {
            let removed = v1::Removed {
                reason: reason.to_owned(),
            };
            let message = v1::HubMessage {
                request_id: 0,
                kind: Some(hub_message::Kind::Removed(removed)),
            };
            // Best effort: a node that does not read sees its link end.
            let _ = link.down.try_send(Ok(message));
        }
    }

    /// Says that a node's record changed: its link reads it again.
    pub fn node_changed(&self, node: &NodeId) {
        if let Some(link) = self.lock().get(node) {
            // Kept for a link that is busy, once however many changes came.
            link.changed.notify_one();
        }
    }

    /// The address a node is connected from and when it was heard last (Unix seconds), if it is connected.
    #[must_use]
    pub fn seen(&self, node: &NodeId) -> Option<(SocketAddr, u64)> {
        self.lock()
            .get(node)
            .map(|link| (link.address, link.last_seen_secs))
    }

    /// How many nodes are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The connected nodes with their addresses, by id.
    #[must_use]
    pub fn addresses(&self) -> Vec<(NodeId, IpAddr)> {
        self.lock()
            .iter()
            .map(|(node, link)| (*node, link.address.ip()))
            .collect()
    }

    /// Asks `node` to open a TCP connection to `target`, as a witness.
    pub async fn probe(
        &self,
        node: &NodeId,
        target: SocketAddr,
        timeout: Duration,
    ) -> Option<v1::ProbeResult> {
        static REQUEST: AtomicU64 = AtomicU64::new(1 << 32);
        let request_id = REQUEST.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let (down, probes) = {
            let links = self.lock();
            let link = links.get(node)?;
            link.probes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(request_id, answer);
            (link.down.clone(), link.probes.clone())
        };
        let probe = v1::Probe {
            address: target.ip().to_string(),
            tcp_port: target.port().into(),
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let message = v1::HubMessage {
            request_id,
            kind: Some(hub_message::Kind::Probe(probe)),
        };
        let result = async {
            down.try_send(Ok(message)).ok()?;
            // The witness has its own time limit; this one covers a witness that went away.
            tokio::time::timeout(timeout + Duration::from_secs(2), answered)
                .await
                .ok()?
                .ok()
        };
        let result = result.await;
        probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&request_id);
        result
    }
}

impl Linked {
    /// Waits until a newer link took this one's place, or the node was removed: then it must end, however quiet it is.
    pub async fn displaced(&mut self) {
        // Nothing is ever sent: the other end is dropped.
        let _ = (&mut self.place).await;
    }

    /// Notified when the node's record changed.
    #[must_use]
    pub fn node_changes(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Notes that the node was heard; false if a newer link took this one's place.
    #[must_use]
    pub fn heard(&self, now_secs: u64) -> bool {
        match self.links.lock().get_mut(&self.node) {
            Some(link) if link.serial == self.serial => {
                link.last_seen_secs = now_secs;
                true
            }
            _ => false,
        }
    }

    /// Hands a witness's answer to whoever asked. One that nobody waits for is dropped.
    pub fn answered(&self, request_id: u64, result: v1::ProbeResult) {
        let links = self.links.lock();
        if let Some(link) = links.get(&self.node).filter(|link| link.serial == self.serial) {
            let waiting = link
                .probes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&request_id);
            if let Some(waiting) = waiting {
                let _ = waiting.send(result);
            }
        }
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let mut links = self.links.lock();
        if links
            .get(&self.node)
            .is_some_and(|link| link.serial == self.serial)
        {
            links.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_link_takes_the_place_of_the_old_and_survives_its_end() {
        let (links, node) = (Links::default(), NodeId::of_public_key(b"key"));
        let address = "10.0.0.1:1".parse().unwrap();
        let (mut old, _, mut old_queue) = links.enter(node, address, 1);
        let (new, _, _new_queue) = links.enter(node, address, 2);
        old.displaced().await;
        assert!(!old.heard(3) && new.heard(3));
        drop(old);
        assert_eq!(links.count(), 1);
        old_queue.close();
        drop(new);
        assert_eq!(links.count(), 0);
    }

    #[tokio::test]
    async fn a_removed_node_is_told_and_its_link_ends_unasked() {
        let (links, node) = (Links::default(), NodeId::of_public_key(b"key"));
        let address = "10.0.0.1:1".parse().unwrap();
        let (mut linked, _, mut queue) = links.enter(node, address, 1);
        links.remove(&node, "for a test");
        linked.displaced().await;
        assert!(!linked.heard(2));
        let last = queue.recv().await.unwrap().unwrap();
        assert!(matches!(last.kind, Some(hub_message::Kind::Removed(_))));
    }

    #[tokio::test]
    async fn a_probe_is_answered_by_its_own_request_only() {
        let (links, node) = (Links::default(), NodeId::of_public_key(b"key"));
        let address = "10.0.0.1:1".parse().unwrap();
        let (linked, _, mut queue) = links.enter(node, address, 1);
        let answer = async {
            let id = queue.recv().await.unwrap().unwrap().request_id;
            linked.answered(
                id + 1,
                v1::ProbeResult {
                    passed: false,
                    detail: String::new(),
                },
            );
            linked.answered(
                id,
                v1::ProbeResult {
                    passed: true,
                    detail: String::new(),
                },
            );
        };
        let (result, ()) = tokio::join!(links.probe(&node, address, Duration::from_secs(1)), answer);
        assert!(result.unwrap().passed);
    }
}
