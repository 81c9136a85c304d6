//! A node's labels: the signed document that gave them, and the next.

use holdfast_pki::authority::Act;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::Name;
use holdfast_proto::v1;
use tonic::{Code, Status};

use crate::acceptor::Caller;
use crate::api::{Hub, invalid, told};
use crate::drafts;
use crate::labels::{self, RefuseChange};
use crate::registry::{Registry, RegistryError, to_record};
use crate::store::txn::{Precondition, Txn};

impl From<RefuseChange> for Status {
    fn from(error: RefuseChange) -> Self {
        let code = match error {
            RefuseChange::Envelope(_) => Code::PermissionDenied,
            RefuseChange::Node(_) => Code::NotFound,
            RefuseChange::NotNext { .. } => Code::Aborted,
        };
        Self::new(code, told(&error))
    }
}

impl Hub {
    pub(super) async fn get_labels(
        &self,
        _: &Caller,
        request: v1::GetLabelsRequest,
    ) -> Result<v1::GetLabelsReply, Status> {
        let name: Name = request.name.parse().map_err(|error| invalid(&error))?;
        let found = self.registry.node_named(&name).await?;
        let node = found.ok_or_else(|| Status::not_found(format!("there is no node named '{name}'")))?;
        let document = labels::document(&self.registry, &node.value).await?;
        let status = self.registry.status(&node.value.id).await?;
        Ok(v1::GetLabelsReply {
            node_id: node.value.id.to_string(),
            version: node.value.labels_version,
            document: Some((&document).into()),
            version_on_node: status.map_or(0, |status| status.value.labels_version),
        })
    }

    pub(crate) async fn publish_labels(
        &self,
        caller: &Caller,
        request: v1::PublishLabelsRequest,
    ) -> Result<v1::PublishLabelsReply, Status> {
        let envelope: Envelope = request.document.try_into().map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let verified: Verified<LabelChange> = authority
            .verify(&envelope, &Act::Label, self.clock.unix_secs())
            .map_err(RefuseChange::from)?;
        let change = verified.value();
        let held = self.registry.node(&change.node).await?;
        let held = held.filter(|held| held.value.removed_secs.is_none());
        let held = held.ok_or(RefuseChange::Node(change.node))?;
        let document = labels::document(&self.registry, &held.value).await?;
        let node = labels::apply(change, held.value, document.digest())?;

        let (node_key, key) = (
            Registry::node_key(&node.id),
            labels::key(&node.id, change.version),
        );
        let (id, entry) = self.audit(caller, "change labels", key.to_string(), Some(verified.digest()));
        let txn = Txn::new(&id, &entry)
            .require(node_key.clone(), Precondition::Revision(held.revision))
            .put(node_key, to_record(&node))
            .put(key, to_record(&envelope))
            .delete(drafts::key(verified.digest()));
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        tracing::info!(node.id = %node.id, name = %node.name, version = node.labels_version, "labels changed");
        self.director.fleet_changed();
        self.links.node_changed(&node.id);
        self.history_advanced().await;
        Ok(v1::PublishLabelsReply {})
    }
}

#[cfg(test)]
mod tests;
