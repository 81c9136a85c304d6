//! How a machine becomes a node: at once under an automatic grant, by an operator's word under a manual one.

use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_proto::ids::{Name, NodeId};
use tonic::Status;

use super::Hub;
use crate::acceptor::Caller;
use crate::pending::{self, Candidate, PendingRecord};
use crate::registry::{NodeRecord, NodeStatus, Registry, RegistryError, Versioned, to_record};
use crate::store::txn::{CommitError, Precondition, Txn};

/// How often what a waiting machine shows of itself may be written: a stolen token must not fill the disk.
const PLACE_CHANGES_EVERY_SECS: u64 = 60;

/// What a machine that waits is told: it asks again by itself until an operator decided.
pub(super) fn waits(id: &NodeId) -> Status {
    Status::failed_precondition(format!(
        "waits for admission: an operator compares the fingerprint {id} (`holdfast node pending`) and admits or rejects it"
    ))
}

/// The node that `candidate` becomes by `grant`.
pub(super) fn new_node(grant: &JoinGrant, candidate: &Candidate, now_secs: u64) -> NodeRecord {
    NodeRecord {
        format: 1,
        id: candidate.id,
        name: candidate.name.clone(),
        labels: grant.labels.clone(),
        labels_version: 1,
        grant: grant.id,
        within: grant.within.clone(),
        enrolled_secs: now_secs,
        removed_secs: None,
    }
}

/// Makes `node` part of the fleet, if neither its key nor its name is by then.
pub(super) fn join(txn: Txn, node: &NodeRecord, candidate: &Candidate) -> Txn {
    let mut status = NodeStatus::new(node.enrolled_secs);
    status.address = candidate.address.clone();
    status.boot_id = candidate.boot_id.clone();
    status.take_inventory(candidate.inventory.clone(), node.enrolled_secs);
    let (node_key, name_key) = (Registry::node_key(&node.id), Registry::name_key(&node.name));
    txn.require(node_key.clone(), Precondition::Absent)
        .require(name_key.clone(), Precondition::Absent)
        .put(node_key, to_record(node))
        .put(name_key, to_record(&node.id))
        .put(Registry::status_key(&node.id), to_record(&status))
}

impl Hub {
    /// Refuses a name that a node has.
    pub(super) async fn must_be_free(&self, name: &Name) -> Result<(), Status> {
        match self.registry.node_named(name).await? {
            None => Ok(()),
            Some(other) => Err(Status::already_exists(format!(
                "the name '{name}' belongs to node {}: give --name, or `holdfast node remove {name}` first",
                other.value.id.short()
            ))),
        }
    }

    /// Whether the machine showed the grant's token before it expired. Who waits for an operator may wait beyond that.
    pub(super) async fn came_in_time(&self, grant: &JoinGrant, id: &NodeId) -> Result<bool, Status> {
        if grant.admission == Admission::Automatic {
            return Ok(false);
        }
        let place = pending::read(&self.registry, id).await?;
        let node = self.registry.node(id).await?;
        Ok(place.is_some_and(|place| place.value.grant == grant.id)
            || node.is_some_and(|node| node.value.grant == grant.id))
    }

    /// What a machine is told that asked before; what it shows of itself is brought up to date.
    pub(super) async fn still_waits(
        &self,
        caller: &Caller,
        grant: &JoinGrant,
        candidate: &Candidate,
        held: Versioned<PendingRecord>,
    ) -> Result<Status, Status> {
        let Versioned {
            value: place,
            revision,
        } = held;
        if place.rejected {
            return Ok(Status::permission_denied(
                "an operator rejected this key for good: the machine must come with a new one",
            ));
        }
        if place.grant != grant.id {
            return Ok(Status::already_exists(
                "this key waits for admission by another token: admit it, or reject it and let the machine make a new key",
            ));
        }
        let (id, now) = (candidate.id, self.clock.unix_secs());
        if place.candidate != *candidate && now >= place.changed_secs + PLACE_CHANGES_EVERY_SECS {
            let key = pending::key(&id);
            let who = format!("token {}", grant.id);
            let (audit_id, entry) =
                self.audit_as(who, caller, "ask to join", key.to_string(), Some(id.digest()));
            let place = PendingRecord {
                candidate: candidate.clone(),
                changed_secs: now,
                ..place
            };
            let txn = Txn::new(&audit_id, &entry)
                .require(key.clone(), Precondition::Revision(revision))
                .put(key, to_record(&place));
            match self.registry.store().commit(txn).await {
                // Decided meanwhile: it learns of that when it asks again.
                Ok(_) | Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(RegistryError::from(error).into()),
            }
        }
        Ok(waits(&id))
    }
}
