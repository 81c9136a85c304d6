//! Admission by hand: which machines wait, and an operator's word on each.

use holdfast_pki::authority::TrustedAuthority;
use holdfast_proto::ids::NodeId;
use holdfast_proto::v1;
use prost::Message as _;
use tonic::Status;

use super::PAGE_MAX;
use crate::acceptor::Caller;
use crate::api::admission::{join, new_node};
use crate::api::{Hub, invalid};
use crate::pending::{self, PendingRecord};
use crate::registry::{Registry, RegistryError, Versioned, to_record};
use crate::store::txn::{Precondition, Txn};

/// The most bytes of a list of machines that wait: what they say of themselves is theirs, and a client reads 4 MiB.
const LIST_BYTES_MAX: usize = 2 << 20;

impl Hub {
    /// Those that wait longest, as many as fit an answer; the others show once these are decided.
    pub(super) async fn list_pending(
        &self,
        _: &Caller,
        _: v1::ListPendingRequest,
    ) -> Result<v1::ListPendingReply, Status> {
        let authority = self.authority().await?;
        let mut waiting = pending::waiting(&self.registry).await?;
        waiting.sort_by_key(|place| place.since_secs);
        let mut reply = v1::ListPendingReply::default();
        let mut bytes = 0;
        for place in waiting.into_iter().take(PAGE_MAX) {
            let described = self.describe_pending(&authority, place).await?;
            bytes += described.encoded_len();
            if bytes > LIST_BYTES_MAX {
                break;
            }
            reply.pending.push(described);
        }
        Ok(reply)
    }

    /// The machine as its grant would have it. A grant that is no longer valid has no labels to give.
    async fn describe_pending(
        &self,
        authority: &TrustedAuthority,
        place: PendingRecord,
    ) -> Result<v1::PendingNode, Status> {
        let grant = self.verified_grant(authority, &place.grant).await.ok().flatten();
        let labels = grant.map(|grant| grant.labels).unwrap_or_default();
        Ok(v1::PendingNode {
            id: place.candidate.id.to_string(),
            name: place.candidate.name.to_string(),
            address: place.candidate.address,
            grant_id: place.grant.to_string(),
            labels: labels
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            inventory: Some(place.candidate.inventory.into()),
            since_secs: place.since_secs,
        })
    }

    /// Makes a node of a machine that waits. Its certificate it gets when it asks next.
    pub(super) async fn admit_node(
        &self,
        caller: &Caller,
        request: v1::AdmitNodeRequest,
    ) -> Result<v1::AdmitNodeReply, Status> {
        let (place, revision) = self.waiting_machine(&request.id).await?;
        // As at an enrolment: a grant whose signer was dropped since admits nobody any more.
        let authority = self.authority().await?;
        let grant = self.verified_grant(&authority, &place.grant).await?;
        let grant = grant.ok_or_else(|| Status::data_loss(format!("the grant {} is gone", place.grant)))?;
        self.must_be_free(&place.candidate.name).await?;
        let node = new_node(&grant, &place.candidate, self.clock.unix_secs());
        let on = Registry::node_key(&node.id).to_string();
        let (id, entry) = self.audit(caller, "admit node", on, Some(node.id.digest()));
        let key = pending::key(&node.id);
        let txn = Txn::new(&id, &entry).require(key.clone(), revision).delete(key);
        let txn = join(txn, &node, &place.candidate);
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        self.director.fleet_changed();
        self.history_advanced().await;
        tracing::info!(node.id = %node.id, name = %node.name, "node admitted");
        Ok(v1::AdmitNodeReply {
            name: node.name.to_string(),
        })
    }

    /// Refuses a machine's key for good, and gives the grant its use back for another machine.
    pub(super) async fn reject_node(
        &self,
        caller: &Caller,
        request: v1::RejectNodeRequest,
    ) -> Result<v1::RejectNodeReply, Status> {
        let (place, revision) = self.waiting_machine(&request.id).await?;
        let id = place.candidate.id;
        let key = pending::key(&id);
        let (audit_id, entry) = self.audit(caller, "reject node", key.to_string(), Some(id.digest()));
        let rejected = PendingRecord {
            rejected: true,
            ..place
        };
        let txn = Txn::new(&audit_id, &entry)
            .require(key.clone(), revision)
            .put(key, to_record(&rejected))
            .delete(Registry::use_key(&rejected.grant, rejected.slot));
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        tracing::info!(node.id = %id, name = %rejected.candidate.name, "node rejected");
        self.history_advanced().await;
        Ok(v1::RejectNodeReply {
            name: rejected.candidate.name.to_string(),
        })
    }

    async fn waiting_machine(&self, id: &str) -> Result<(PendingRecord, Precondition), Status> {
        let id: NodeId = id.parse().map_err(|error| invalid(&error))?;
        match pending::read(&self.registry, &id).await? {
            Some(Versioned { value, revision }) if !value.rejected => {
                Ok((value, Precondition::Revision(revision)))
            }
            Some(_) => Err(Status::failed_precondition(format!(
                "the machine {id} was rejected; it must come with a new key"
            ))),
            None => Err(Status::not_found(format!(
                "no machine {id} waits for admission: see `holdfast node pending`"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
