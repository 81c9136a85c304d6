//! Enrolment: a join token and a CSR become an identity.

use std::sync::Arc;

use holdfast_pki::authority::Act;
use holdfast_pki::csr::{self, VerifiedCsr};
use holdfast_pki::grant::JoinGrant;
use holdfast_proto::ids::{Digest, Name, NodeId, UniqueId};
use holdfast_proto::v1;
use tonic::{Request, Response, Status};

use super::{Hub, caller, invalid, told};
use crate::acceptor::Caller;
use crate::registry::{InventoryRecord, NodeRecord, NodeStatus, Registry, RegistryError, to_record};
use crate::store::txn::{CommitError, Precondition, Txn};

/// The most authority versions in one answer.
const VERSIONS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Hub>);

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Service {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let result = self.0.enroll(&caller, request).await;
        if let Err(status) = &result {
            tracing::warn!(peer.addr = %caller.address, reason = status.message(), "enrolment refused");
        }
        result.map(Response::new)
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityReply>, Status> {
        let after = request.into_inner().after_version;
        let versions = self.0.registry.authority_versions(after).await?;
        let versions = versions.iter().take(VERSIONS_MAX).map(Into::into).collect();
        Ok(Response::new(v1::GetAuthorityReply { versions }))
    }

    async fn get_login_challenge(
        &self,
        _: Request<v1::GetLoginChallengeRequest>,
    ) -> Result<Response<v1::GetLoginChallengeReply>, Status> {
        self.0.login_challenge().map(Response::new)
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::AccessReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .login(&caller, request.into_inner())
            .await
            .map(Response::new)
    }
}

impl Hub {
    async fn enroll(&self, caller: &Caller, request: v1::EnrollRequest) -> Result<v1::EnrollReply, Status> {
        let csr = csr::verify(&request.csr_der).map_err(|error| invalid(&error))?;
        let name: Name = request.name.parse().map_err(|error| invalid(&error))?;
        let grant_id: UniqueId = request.grant_id.parse().map_err(|error| invalid(&error))?;
        let grant = self.admitting_grant(&grant_id, &request, &name, caller).await?;
        let node = self.node_for(caller, &grant, &csr, name, &request).await?;

        let chain = self
            .ca
            .issue_node(&csr, node.id)
            .map_err(|error| Status::internal(told(&error)))?;
        let authority = self
            .registry
            .authority_versions(self.authority_pin.version - 1)
            .await?;
        tracing::info!(node.id = %node.id, name = %node.name, grant = %grant.id, peer.addr = %caller.address, "node enrolled");
        Ok(v1::EnrollReply {
            node_id: node.id.to_string(),
            name: node.name.to_string(),
            certificate_chain_der: chain
                .iter()
                .map(|certificate| certificate.to_vec().into())
                .collect(),
            authority: authority.iter().map(Into::into).collect(),
        })
    }

    /// The grant, if its token's secret, time, place and names admit this node.
    ///
    /// An unknown grant and a wrong secret get the same answer: whoever guesses learns nothing.
    async fn admitting_grant(
        &self,
        id: &UniqueId,
        request: &v1::EnrollRequest,
        name: &Name,
        caller: &Caller,
    ) -> Result<JoinGrant, Status> {
        let unknown = || Status::permission_denied("this join token is not known here");
        let envelope = self.registry.grant(id).await?.ok_or_else(unknown)?;
        let now = self.clock.unix_secs();
        // Verified again at each use: an operator who was dropped since admits nobody any more.
        let verified = self
            .authority()
            .await?
            .verify::<JoinGrant>(&envelope, &Act::Join, now);
        let grant = verified
            .map_err(|error| Status::permission_denied(told(&error)))?
            .value()
            .clone();
        if Digest::of(&request.secret) != grant.secret_digest {
            return Err(unknown());
        }
        let refuse = |why: String| Err(Status::permission_denied(why));
        if now >= grant.not_after_secs {
            return refuse(format!(
                "the join token expired {} s ago: make a new one",
                now - grant.not_after_secs
            ));
        }
        if !grant.name_pattern.matches(name.as_str()) {
            return refuse(format!(
                "the join token admits no node named '{name}': give --name, or make another token"
            ));
        }
        if !grant.covers(caller.address.ip()) {
            return refuse(format!(
                "the join token admits no node at {}",
                caller.address.ip()
            ));
        }
        Ok(grant)
    }

    /// The node of this key: the one that enrolled with it by the same grant before, or a new one for one of the grant's uses.
    ///
    /// The use is spent in the transaction that makes the node, so that no crash and no race can spend one without the
    /// other.
    async fn node_for(
        &self,
        caller: &Caller,
        grant: &JoinGrant,
        csr: &VerifiedCsr,
        name: Name,
        request: &v1::EnrollRequest,
    ) -> Result<NodeRecord, Status> {
        let id = csr.node_id();
        // Every round but the last lost a race for a slot; the slots run out.
        for _ in 0..=grant.uses {
            if let Some(node) = self.registry.node(&id).await? {
                return same_again(node.value, grant);
            }
            if let Some(other) = self.registry.node_named(&name).await? {
                return Err(Status::already_exists(format!(
                    "the name '{name}' belongs to node {}: give --name, or `holdfast node remove {name}` first",
                    other.value.id.short()
                )));
            }
            let Some(slot) = self.free_slot(grant, &id).await? else {
                return Err(Status::resource_exhausted(format!(
                    "the join token's {} uses are spent: make a new one",
                    grant.uses
                )));
            };
            let (node, txn) = self.new_node(caller, grant, csr, &name, slot, request);
            match self.registry.store().commit(txn).await {
                Ok(_) => {
                    self.director.fleet_changed();
                    return Ok(node);
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(RegistryError::from(error).into()),
            }
        }
        Err(Status::aborted(
            "too many nodes enrol by this token at once; the agent tries again by itself",
        ))
    }

    /// A use of the grant that nobody has spent, if there is one. Each node begins to look at another place.
    async fn free_slot(&self, grant: &JoinGrant, id: &NodeId) -> Result<Option<u32>, Status> {
        let start = id
            .to_string()
            .bytes()
            .fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for n in 0..grant.uses {
            let slot = start.wrapping_add(n) % grant.uses;
            let spent: Option<_> = self
                .registry
                .record::<NodeId>(&Registry::use_key(&grant.id, slot))
                .await?;
            if spent.is_none() {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn new_node(
        &self,
        caller: &Caller,
        grant: &JoinGrant,
        csr: &VerifiedCsr,
        name: &Name,
        slot: u32,
        request: &v1::EnrollRequest,
    ) -> (NodeRecord, Txn) {
        let now = self.clock.unix_secs();
        let node = NodeRecord {
            format: 1,
            id: csr.node_id(),
            name: name.clone(),
            labels: grant.labels.clone(),
            labels_version: 1,
            grant: grant.id,
            within: grant.within.clone(),
            enrolled_secs: now,
            removed_secs: None,
        };
        let status = NodeStatus {
            format: 1,
            address: caller.address.ip().to_string(),
            at_secs: now,
            agent_version: String::new(),
            boot_id: request.boot_id.chars().take(64).collect(),
            inventory: InventoryRecord::from(request.inventory.clone().unwrap_or_default()),
            accepted: None,
            confirmed: None,
            labels_version: 0,
            authority_version: 0,
        };
        let (use_key, node_key, name_key) = (
            Registry::use_key(&grant.id, slot),
            Registry::node_key(&node.id),
            Registry::name_key(name),
        );
        let who = format!("token {}", grant.id);
        let digest = Some(Digest::of(csr.spki_der()));
        let (audit_id, entry) =
            self.audit_as(who, caller, "enroll node", format!("node/{}", node.id), digest);
        let txn = Txn::new(&audit_id, &entry)
            .require(use_key.clone(), Precondition::Absent)
            .require(node_key.clone(), Precondition::Absent)
            .require(name_key.clone(), Precondition::Absent)
            .put(use_key, to_record(&node.id))
            .put(node_key, to_record(&node))
            .put(name_key, to_record(&node.id))
            .put(Registry::status_key(&node.id), to_record(&status));
        (node, txn)
    }
}

/// A key that enrolled before: the same identity by the same grant, nothing otherwise.
fn same_again(node: NodeRecord, grant: &JoinGrant) -> Result<NodeRecord, Status> {
    if node.removed_secs.is_some() {
        return Err(Status::permission_denied(
            "the node of this key was removed: it must enrol with a new key",
        ));
    }
    if node.grant != grant.id {
        return Err(Status::already_exists(format!(
            "this key enrolled as '{}' by another token; that identity stands",
            node.name
        )));
    }
    Ok(node)
}
