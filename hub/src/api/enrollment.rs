//! Enrolment: a join token and a CSR become an identity.

use std::sync::Arc;

use holdfast_pki::authority::{Act, TrustedAuthority};
use holdfast_pki::csr;
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_proto::ids::{Digest, NodeId, UniqueId};
use holdfast_proto::v1;
use tonic::{Code, Request, Response, Status};

use super::admission::{join, new_node, waits};
use super::{Hub, caller, denials, invalid, told};
use crate::acceptor::Caller;
use crate::pending::{self, Candidate, PendingRecord};
use crate::registry::{NodeRecord, Registry, RegistryError, to_record};
use crate::store::txn::{CommitError, Precondition, Txn};

/// The RPC, as the table has it.
const ENROLL: &str = "/holdfast.v1.Enrollment/Enroll";
/// The most authority versions in one answer: 2 MiB at the very most, where a client reads 4. The rest is asked for.
const VERSIONS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Hub>);

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Service {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let claimed: Option<UniqueId> = request.grant_id.parse().ok();
        let result = self.0.enroll(&caller, request).await;
        // A machine that waits asks every few seconds; it was logged when it came.
        if let Err(status) = &result
            && status.code() != Code::FailedPrecondition
        {
            tracing::warn!(peer.addr = %caller.address, reason = status.message(), "enrolment refused");
            let spent_or_taken = matches!(status.code(), Code::ResourceExhausted | Code::AlreadyExists);
            if denials::is_refusal(status) || spent_or_taken {
                // Only said to be a grant's: that is what was refused.
                let on = claimed.map_or_else(|| "grant".to_owned(), |id| format!("grant/{id}"));
                self.0.denied(ENROLL, &caller, "enroll node", on).await;
            }
        }
        result.map(Response::new)
    }

    async fn get_authority(
        &self,
        request: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityReply>, Status> {
        let after = request.into_inner().after_version;
        let versions = self.0.registry.authority_versions(after, VERSIONS_MAX).await?;
        let versions = versions.iter().map(Into::into).collect();
        Ok(Response::new(v1::GetAuthorityReply { versions }))
    }

    async fn get_login_challenge(
        &self,
        _: Request<v1::GetLoginChallengeRequest>,
    ) -> Result<Response<v1::GetLoginChallengeReply>, Status> {
        Ok(Response::new(self.0.login_challenge()))
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
    pub(crate) async fn enroll(
        &self,
        caller: &Caller,
        request: v1::EnrollRequest,
    ) -> Result<v1::EnrollReply, Status> {
        let csr = csr::verify(&request.csr_der).map_err(|error| invalid(&error))?;
        let grant_id: UniqueId = request.grant_id.parse().map_err(|error| invalid(&error))?;
        let candidate = Candidate {
            id: csr.node_id(),
            name: request.name.parse().map_err(|error| invalid(&error))?,
            address: caller.address.ip().to_string(),
            boot_id: request.boot_id.chars().take(64).collect(),
            inventory: request.inventory.unwrap_or_default().into(),
        };
        let grant = self
            .admitting_grant(&grant_id, &request.secret, &candidate, caller)
            .await?;
        let node = self.node_for(caller, &grant, &candidate).await?;

        let chain = self
            .ca
            .issue_node(&csr, node.id)
            .map_err(|error| Status::internal(told(&error)))?;
        tracing::info!(node.id = %node.id, name = %node.name, grant = %grant.id, peer.addr = %caller.address, "node enrolled");
        Ok(v1::EnrollReply {
            node_id: node.id.to_string(),
            name: node.name.to_string(),
            certificate_chain_der: chain
                .iter()
                .map(|certificate| certificate.to_vec().into())
                .collect(),
        })
    }

    /// The grant, if its token's secret, time, place and names admit this machine, or let it wait.
    ///
    /// An unknown grant and a wrong secret get the same answer: whoever guesses learns nothing.
    async fn admitting_grant(
        &self,
        id: &UniqueId,
        secret: &[u8],
        candidate: &Candidate,
        caller: &Caller,
    ) -> Result<JoinGrant, Status> {
        let unknown = || Status::permission_denied("this join token is not known here");
        // Verified again at each use: an operator who was dropped since admits nobody any more.
        let authority = self.authority().await?;
        let grant = self.verified_grant(&authority, id).await?.ok_or_else(unknown)?;
        if Digest::of(secret) != grant.secret_digest {
            return Err(unknown());
        }
        let refuse = |why: String| Err(Status::permission_denied(why));
        let now = self.clock.unix_secs();
        if now >= grant.not_after_secs && !self.came_in_time(&grant, &candidate.id).await? {
            return refuse(format!(
                "the join token expired {} s ago: make a new one",
                now - grant.not_after_secs
            ));
        }
        if !grant.name_pattern.matches(candidate.name.as_str()) {
            return refuse(format!(
                "the join token admits no node named '{}': give --name, or make another token",
                candidate.name
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

    /// The grant with this id, if there is one; it must be signed as `authority` asks.
    pub(super) async fn verified_grant(
        &self,
        authority: &TrustedAuthority,
        id: &UniqueId,
    ) -> Result<Option<JoinGrant>, Status> {
        let Some(envelope) = self.registry.grant(id).await? else {
            return Ok(None);
        };
        let now = self.clock.unix_secs();
        let verified = authority.verify::<JoinGrant>(&envelope, &Act::Join, now);
        let verified = verified.map_err(|error| Status::permission_denied(told(&error)))?;
        Ok(Some(verified.value().clone()))
    }

    /// The node of this key: the one that enrolled with it by the same grant before, or a new one for one of the grant's
    /// uses. Under a grant by which operators admit, a place among those that wait, and the word to come again.
    ///
    /// The use is spent in the transaction that makes the node or the place, so that no crash and no race can spend one
    /// without the other.
    async fn node_for(
        &self,
        caller: &Caller,
        grant: &JoinGrant,
        candidate: &Candidate,
    ) -> Result<NodeRecord, Status> {
        let id = &candidate.id;
        // Every round but the last lost a race for a slot; the slots run out.
        for _ in 0..=grant.uses {
            if let Some(node) = self.registry.node(id).await? {
                return same_again(node.value, grant);
            }
            if let Some(place) = pending::read(&self.registry, id).await? {
                return Err(self.still_waits(caller, grant, candidate, place).await?);
            }
            self.must_be_free(&candidate.name).await?;
            let Some(slot) = self.free_slot(grant, id).await? else {
                return Err(Status::resource_exhausted(format!(
                    "the join token's {} uses are spent: make a new one",
                    grant.uses
                )));
            };
            let now = self.clock.unix_secs();
            let (what, on) = match grant.admission {
                Admission::Automatic => ("enroll node", Registry::node_key(id)),
                Admission::Manual => ("ask to join", pending::key(id)),
            };
            let who = format!("token {}", grant.id);
            let (audit_id, entry) = self.audit_as(who, caller, what, on.to_string(), Some(id.digest()));
            let use_key = Registry::use_key(&grant.id, slot);
            let txn = Txn::new(&audit_id, &entry)
                .require(use_key.clone(), Precondition::Absent)
                .put(use_key, to_record(id))
                .require(pending::key(id), Precondition::Absent);
            let node = new_node(grant, candidate, now);
            let txn = match grant.admission {
                Admission::Automatic => join(txn, &node, candidate),
                Admission::Manual => {
                    let place = PendingRecord::new(grant.id, slot, candidate.clone(), now);
                    txn.put(pending::key(id), to_record(&place))
                }
            };
            match (self.registry.store().commit(txn).await, grant.admission) {
                (Ok(_), Admission::Automatic) => {
                    self.director.fleet_changed();
                    return Ok(node);
                }
                (Ok(_), Admission::Manual) => {
                    tracing::info!(node.id = %id, name = %candidate.name, grant = %grant.id, peer.addr = %caller.address, "a machine waits for admission");
                    return Err(waits(id));
                }
                (Err(CommitError::Conflict { .. }), _) => {}
                (Err(error), _) => return Err(RegistryError::from(error).into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestHub, caller};

    #[tokio::test]
    async fn of_two_machines_at_once_one_has_the_use_of_a_token() {
        for turns in 0..20 {
            let hub = TestHub::new().await;
            let grant = hub.grant(1, Admission::Automatic).await;
            let enrol = async |name: &str, turns| {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                let request = TestHub::enroll_request(&grant, name);
                hub.hub.enroll(&caller(None), request).await
            };
            let (one, other) = tokio::join!(enrol("one", 0), enrol("other", turns));
            assert!(
                one.is_ok() != other.is_ok(),
                "after {turns} turns: {one:?}, {other:?}"
            );
            assert_eq!(
                one.and(other).unwrap_err().code(),
                Code::ResourceExhausted,
                "after {turns} turns"
            );
        }
    }
}
