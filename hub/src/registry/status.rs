//! What a node says of itself, and of the machine it runs on, as records.

use std::collections::BTreeMap;
use std::net::IpAddr;

use holdfast_policy::interface::INTERFACE_BYTES_MAX;
use holdfast_proto::ids::Generation;
use holdfast_proto::payload::format_1;
use holdfast_proto::v1;
use serde::{Deserialize, Serialize};

use crate::claims;

/// What a node last said of itself: written when it changes, never for a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatus {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The address it was last seen at.
    pub address: String,
    /// When that changed, in Unix seconds.
    pub at_secs: u64,
    /// Version of its agent.
    pub agent_version: String,
    /// Its boot.
    pub boot_id: String,
    /// Its machine. Changed by [`NodeStatus::take_inventory`] only.
    pub inventory: InventoryRecord,
    /// The addresses it claims, each with since when it has reported it without a break, in Unix seconds.
    pub claimed_since_secs: BTreeMap<IpAddr, u64>,
    /// The highest generation it accepted.
    pub accepted: Option<Generation>,
    /// The generation in force there.
    pub confirmed: Option<Generation>,
    /// The version of its labels.
    pub labels_version: u64,
    /// The authority version it reached.
    pub authority_version: u64,
    /// The epoch it is in.
    pub epoch: u64,
}

impl NodeStatus {
    /// A node that has said nothing yet.
    #[must_use]
    pub fn new(at_secs: u64) -> Self {
        Self {
            format: 1,
            address: String::new(),
            at_secs,
            agent_version: String::new(),
            boot_id: String::new(),
            inventory: InventoryRecord::default(),
            claimed_since_secs: BTreeMap::new(),
            accepted: None,
            confirmed: None,
            labels_version: 0,
            authority_version: 0,
            epoch: 0,
        }
    }

    /// Takes what the node says of its machine at `now_secs`.
    pub fn take_inventory(&mut self, inventory: InventoryRecord, now_secs: u64) {
        self.claimed_since_secs = claims::since(&self.claimed_since_secs, &inventory.interfaces, now_secs);
        self.inventory = inventory;
    }
}

/// A machine, as its agent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InventoryRecord {
    /// The operating system's name.
    pub os: String,
    /// The kernel's release.
    pub kernel: String,
    /// pve-node, vm, lxc or bare.
    pub kind: String,
    /// The host's own name.
    pub hostname: String,
    /// Its interfaces that have an address.
    pub interfaces: Vec<InterfaceRecord>,
    /// Ports that an ssh server listens on.
    pub ssh_ports: Vec<u16>,
    /// Peers of established ssh sessions, with the local port.
    pub ssh_peers: Vec<(IpAddr, u16)>,
}

/// A network interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceRecord {
    /// What the machine calls it.
    pub name: String,
    /// Its addresses, without loopback and link-local.
    pub addresses: Vec<IpAddr>,
}

impl InterfaceRecord {
    /// Takes at most `room` addresses. An IPv4 address has one spelling from here on, so that nobody claims it in another.
    fn new(wire: v1::Interface, room: usize) -> Self {
        let read = |text: &String| Some(text.parse::<IpAddr>().ok()?.to_canonical());
        Self {
            name: wire.name.chars().take(INTERFACE_BYTES_MAX).collect(),
            addresses: wire.addresses.iter().filter_map(read).take(room).collect(),
        }
    }
}

/// The most interfaces, addresses of all of them, ports and peers that are kept of one inventory.
const INVENTORY_LIST_MAX: usize = 64;

impl From<v1::Inventory> for InventoryRecord {
    /// Takes what can be read and drops the rest: an inventory steers nothing without a signed bound.
    fn from(wire: v1::Inventory) -> Self {
        let short = |text: String| text.chars().take(128).collect::<String>();
        let port = |port: &u32| u16::try_from(*port).ok();
        let mut room = INVENTORY_LIST_MAX;
        Self {
            os: short(wire.os),
            kernel: short(wire.kernel),
            kind: short(wire.kind),
            hostname: short(wire.hostname),
            interfaces: wire
                .interfaces
                .into_iter()
                .take(INVENTORY_LIST_MAX)
                .map(|interface| {
                    let interface = InterfaceRecord::new(interface, room);
                    room -= interface.addresses.len();
                    interface
                })
                .collect(),
            ssh_ports: wire
                .listening_ssh_ports
                .iter()
                .filter_map(port)
                .take(INVENTORY_LIST_MAX)
                .collect(),
            ssh_peers: wire
                .ssh_peers
                .iter()
                .filter_map(|peer| Some((peer.address.parse().ok()?, port(&peer.local_port)?)))
                .take(INVENTORY_LIST_MAX)
                .collect(),
        }
    }
}

impl From<InventoryRecord> for v1::Inventory {
    fn from(record: InventoryRecord) -> Self {
        Self {
            os: record.os,
            kernel: record.kernel,
            kind: record.kind,
            hostname: record.hostname,
            interfaces: record
                .interfaces
                .into_iter()
                .map(|interface| v1::Interface {
                    name: interface.name,
                    addresses: interface.addresses.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            listening_ssh_ports: record.ssh_ports.into_iter().map(u32::from).collect(),
            ssh_peers: record
                .ssh_peers
                .into_iter()
                .map(|(address, port)| v1::SshPeer {
                    address: address.to_string(),
                    local_port: port.into(),
                })
                .collect(),
        }
    }
}
