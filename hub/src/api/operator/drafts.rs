//! Drafts: documents that wait for more signatures.

use holdfast_pki::authority::Role;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::{Hub, calling_operator, invalid};
use crate::drafts::{self, DRAFTS_MAX, DRAFTS_OF_ONE_MAX, DraftRecord};
use crate::registry::{RegistryError, to_record};
use crate::store::txn::{CommitError, Precondition, Txn};

/// How often signatures are merged against others at once: a whole team may sign in the same moment.
const ATTEMPTS: usize = 16;

impl Hub {
    /// Puts a draft, or adds its signatures to the one that is there.
    pub(super) async fn put_draft(
        &self,
        caller: &Caller,
        request: v1::PutDraftRequest,
    ) -> Result<v1::PutDraftReply, Status> {
        let offered: Envelope = request.draft.try_into().map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let fleet = &authority.document().trust_domain;
        let kind = drafts::check(&request.kind, &offered.payload, fleet).map_err(|error| invalid(&error))?;
        let put_by = calling_operator(caller)?;
        let digest = offered.digest();
        let key = drafts::key(digest);
        for _ in 0..ATTEMPTS {
            let held = self.registry.record::<DraftRecord>(&key).await?;
            let (what, precondition, merged) = match &held {
                Some(held) => {
                    let merged = held.value.merged(&offered, &authority);
                    if merged == held.value {
                        return Ok(put(&merged));
                    }
                    ("sign draft", Precondition::Revision(held.revision), merged)
                }
                None => {
                    self.must_have_room(put_by).await?;
                    let new = DraftRecord::new(
                        kind,
                        offered.payload.clone(),
                        put_by.clone(),
                        self.clock.unix_secs(),
                    );
                    (
                        "put draft",
                        Precondition::Absent,
                        new.merged(&offered, &authority),
                    )
                }
            };
            let (id, entry) = self.audit(caller, what, key.to_string(), Some(digest));
            let txn = Txn::new(&id, &entry)
                .require(key.clone(), precondition)
                .put(key.clone(), to_record(&merged));
            match self.registry.store().commit(txn).await {
                Ok(_) => return Ok(put(&merged)),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(RegistryError::from(error).into()),
            }
        }
        Err(Status::aborted(
            "too many operators sign this draft at once; try again",
        ))
    }

    /// Whether `put_by` may leave one more draft. Nobody takes all places, so that a proposer who goes astray cannot keep
    /// admins from removing him. Of several at the same moment a few may come over.
    async fn must_have_room(&self, put_by: &Name) -> Result<(), Status> {
        let waiting = drafts::all(&self.registry).await?;
        let own = waiting.iter().filter(|draft| draft.put_by == *put_by).count();
        if own >= DRAFTS_OF_ONE_MAX {
            return Err(Status::resource_exhausted(format!(
                "{own} drafts of yours wait already: publish or discard some (`holdfast draft list`)"
            )));
        }
        if waiting.len() >= DRAFTS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{DRAFTS_MAX} drafts wait already: publish or discard some (`holdfast draft list`)"
            )));
        }
        Ok(())
    }

    pub(super) async fn list_drafts(
        &self,
        _: &Caller,
        _: v1::ListDraftsRequest,
    ) -> Result<v1::ListDraftsReply, Status> {
        let drafts = drafts::all(&self.registry).await?;
        Ok(v1::ListDraftsReply {
            drafts: drafts.iter().map(Into::into).collect(),
        })
    }

    pub(super) async fn discard_draft(
        &self,
        caller: &Caller,
        request: v1::DiscardDraftRequest,
    ) -> Result<v1::DiscardDraftReply, Status> {
        let digest: Digest = request.digest.parse().map_err(|error| invalid(&error))?;
        let key = drafts::key(digest);
        let held = self.registry.record::<DraftRecord>(&key).await?;
        let held =
            held.ok_or_else(|| Status::not_found("there is no such draft: it was published, or discarded"))?;
        let name = calling_operator(caller)?;
        let authority = self.authority().await?;
        let is_admin = authority
            .operator(name)
            .is_some_and(|listed| listed.role == Role::Admin);
        if held.value.put_by != *name && !is_admin {
            return Err(Status::permission_denied(format!(
                "the draft is {}'s: they can discard it, or an admin",
                held.value.put_by
            )));
        }
        let (id, entry) = self.audit(caller, "discard draft", key.to_string(), Some(digest));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Revision(held.revision))
            .delete(key);
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        Ok(v1::DiscardDraftReply {})
    }
}

fn put(record: &DraftRecord) -> v1::PutDraftReply {
    v1::PutDraftReply {
        draft: Some(record.into()),
    }
}

#[cfg(test)]
mod tests;
