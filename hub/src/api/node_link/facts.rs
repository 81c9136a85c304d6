//! What a node says of itself, as records: written when it differs from what is stored, at the pace that a node may have.

use holdfast_proto::v1;
use prost::Message as _;
use tonic::Status;

use super::Link;
use crate::registry::{NodeStatus, Registry, RegistryError, to_record};
use crate::store::key::Key;
use crate::store::txn::Txn;

impl Link {
    /// Notes what the node says of itself as it comes.
    pub(super) async fn note_hello(&mut self, hello: v1::NodeHello) -> Result<(), Status> {
        self.accepted = hello.accepted.map(Into::into);
        let address = self.caller.address.ip().to_string();
        let now = self.hub.clock.unix_secs();
        self.update_status("node hello", |status| {
            status.address = address;
            status.agent_version = hello.agent_version.chars().take(64).collect();
            status.boot_id = hello.boot_id.chars().take(64).collect();
            status.take_inventory(hello.inventory.unwrap_or_default().into(), now);
            status.accepted = hello.accepted.map(Into::into);
            status.confirmed = hello.confirmed.map(Into::into);
            status.labels_version = hello.labels_version;
            status.authority_version = hello.authority_version;
            status.epoch = hello.epoch;
        })
        .await?;
        self.hub.director.fleet_changed();
        Ok(())
    }

    /// Notes what changed since the node was heard last.
    pub(super) async fn note_heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), Status> {
        let mut changed = false;
        let now = self.hub.clock.unix_secs();
        self.update_status("node heartbeat", |status| {
            if let Some(inventory) = heartbeat.inventory {
                status.take_inventory(inventory.into(), now);
                changed = true;
            }
            status.accepted = heartbeat.accepted.map(Into::into);
            status.confirmed = heartbeat.confirmed.map(Into::into);
            status.labels_version = heartbeat.labels_version;
            status.authority_version = heartbeat.authority_version;
            status.epoch = heartbeat.epoch;
        })
        .await?;
        if changed {
            self.hub.director.fleet_changed();
        }
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
        let mut status = held.clone().unwrap_or_else(|| NodeStatus::new(0));
        change(&mut status);
        if held.as_ref() == Some(&status) {
            return Ok(());
        }
        status.at_secs = self.hub.clock.unix_secs();
        let key = Registry::status_key(&self.node.id);
        self.write(what, key, to_record(&status)).await
    }

    /// Stores a report as it came, unless it is the one that is stored.
    pub(super) async fn store_report(&mut self, report: &v1::Report) -> Result<(), Status> {
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
        // While it waits, nothing is read from the node, which so learns to wait.
        self.hub.changes.wait(&self.node.id, &*self.hub.clock).await;
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
