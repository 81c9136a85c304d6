//! The fleet's nodes.

use holdfast_proto::ids::{Name, NodeId};
use holdfast_proto::v1;
use prost::Message as _;
use tonic::Status;

use super::page_size;
use crate::acceptor::Caller;
use crate::api::{Hub, invalid};
use crate::director;
use crate::registry::{NodeRecord, Registry, RegistryError, to_record};
use crate::store::txn::{Precondition, Txn};

impl Hub {
    pub(crate) async fn list_nodes(
        &self,
        _: &Caller,
        request: v1::ListNodesRequest,
    ) -> Result<v1::ListNodesReply, Status> {
        let (names, more) = self
            .registry
            .names(&request.page_after, page_size(request.page_size))
            .await?;
        let mut nodes = Vec::new();
        for (_, id) in &names {
            nodes.extend(self.describe(id).await?);
        }
        let last = names.last().map(|(name, _)| name.clone());
        let next_page_after = if more {
            last.unwrap_or_default()
        } else {
            String::new()
        };
        Ok(v1::ListNodesReply {
            nodes,
            next_page_after,
        })
    }

    pub(crate) async fn remove_node(
        &self,
        caller: &Caller,
        request: v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeReply, Status> {
        let name: Name = request.name.parse().map_err(|error| invalid(&error))?;
        let found = self.registry.node_named(&name).await?;
        let held = found.ok_or_else(|| Status::not_found(format!("there is no node named '{name}'")))?;
        let key = Registry::node_key(&held.value.id);
        let (id, entry) = self.audit(caller, "remove node", key.to_string(), None);
        let removed = NodeRecord {
            removed_secs: Some(self.clock.unix_secs()),
            ..held.value
        };
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Revision(held.revision))
            .put(key, to_record(&removed))
            .delete(Registry::name_key(&name));
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        self.links.remove(&removed.id, "an operator removed this node");
        self.history_advanced().await;
        self.director.fleet_changed();
        Ok(v1::RemoveNodeReply {
            node_id: removed.id.to_string(),
        })
    }

    /// A node as operators see it; none if it was removed meanwhile.
    async fn describe(&self, id: &NodeId) -> Result<Option<v1::Node>, Status> {
        let Some(node) = self.registry.node(id).await?.map(|node| node.value) else {
            return Ok(None);
        };
        let status = self.registry.status(id).await?.map(|status| status.value);
        let report = self.registry.store().get(&Registry::report_key(id)).await;
        let report = report.map_err(RegistryError::from)?;
        let seen = self.links.seen(id);
        let mut described = v1::Node {
            id: node.id.to_string(),
            name: node.name.to_string(),
            labels: node
                .labels
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            connected: seen.is_some(),
            // The bytes are a node's own: what cannot be read is not shown.
            last_report: report.and_then(|found| v1::Report::decode(&*found.value).ok()),
            enrolled_secs: node.enrolled_secs,
            grant_id: node.grant.to_string(),
            labels_version_wanted: node.labels_version,
            ..v1::Node::default()
        };
        if let Some(status) = status {
            described.address = status.address;
            described.last_seen_secs = status.at_secs;
            described.inventory = Some(status.inventory.into());
            described.accepted = status.accepted.map(Into::into);
            described.confirmed = status.confirmed.map(Into::into);
            described.authority_version = status.authority_version;
            described.epoch = status.epoch;
            described.labels_version = status.labels_version;
            described.agent_version = status.agent_version;
            described.boot_id = status.boot_id;
        }
        if let Some(refused) = self.director.directions().borrow().refusals.get(id) {
            described.refused_addresses = director::refused_on_the_wire(refused);
        }
        if let Some((address, last_seen_secs)) = seen {
            described.address = address.ip().to_string();
            described.last_seen_secs = last_seen_secs;
        }
        Ok(Some(described))
    }
}
