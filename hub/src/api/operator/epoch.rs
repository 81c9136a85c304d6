//! The epoch: which it is, and an operator's signed word that it rises.

use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::v1;
use tonic::{Code, Status};

use crate::acceptor::Caller;
use crate::api::{Hub, invalid, told};
use crate::epoch::{self, RefuseRaise};
use crate::registry::{RegistryError, Versioned, to_record};
use crate::store::key::Key;
use crate::store::txn::{CommitError, Precondition, Txn};
use crate::{drafts, endorsement, hold};

impl From<RefuseRaise> for Status {
    fn from(error: RefuseRaise) -> Self {
        let code = match error {
            RefuseRaise::Envelope(_) => Code::PermissionDenied,
            RefuseRaise::NotNext { .. } => Code::Aborted,
        };
        Self::new(code, told(&error))
    }
}

impl Hub {
    pub(super) async fn get_epoch(
        &self,
        _: &Caller,
        _: v1::GetEpochRequest,
    ) -> Result<v1::GetEpochReply, Status> {
        let raises = epoch::raises_above(&self.registry, 0).await?;
        let hold = hold::read(&self.registry).await?;
        Ok(v1::GetEpochReply {
            epoch: epoch::current(&self.registry).await?,
            raises: raises.iter().map(|(_, raise)| raise.into()).collect(),
            hold: hold.map(|hold| hold.reason()).unwrap_or_default(),
        })
    }

    /// Raises the epoch by one, which ends the hold: operators have looked at the fleet and say that its history goes on
    /// from here.
    pub(super) async fn raise_epoch(
        &self,
        caller: &Caller,
        request: v1::RaiseEpochRequest,
    ) -> Result<v1::RaiseEpochReply, Status> {
        let envelope: Envelope = request.raise.try_into().map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        if let Some((key, held)) = epoch::followed(&self.registry, envelope.digest()).await? {
            return self.endorse_raise(caller, &authority, key, held, &envelope).await;
        }
        let current = epoch::current(&self.registry).await?;
        let raise = epoch::verify(&authority, &envelope, current, self.clock.unix_secs())?;
        let new = raise.value().new;
        let key = epoch::key(new);
        let (id, entry) = self.audit(caller, "raise epoch", key.to_string(), Some(raise.digest()));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Absent)
            .put(key, to_record(&envelope))
            .delete(hold::KEY)
            .delete(drafts::key(raise.digest()));
        match self.registry.store().commit(txn).await {
            Ok(_) => {}
            Err(CommitError::Conflict { .. }) => {
                return Err(RefuseRaise::NotNext {
                    old: raise.value().old,
                    new,
                    current: epoch::current(&self.registry).await?,
                }
                .into());
            }
            Err(error) => return Err(RegistryError::from(error).into()),
        }
        tracing::info!(
            epoch = new,
            "epoch raised; releases of the one before are not offered any more"
        );
        self.director.fleet_changed();
        self.history_advanced().await;
        Ok(v1::RaiseEpochReply {})
    }

    /// Adds signatures to a raise that the fleet has followed. Nothing else changes.
    async fn endorse_raise(
        &self,
        caller: &Caller,
        authority: &TrustedAuthority,
        key: Key,
        held: Versioned<Envelope>,
        endorsed: &Envelope,
    ) -> Result<v1::RaiseEpochReply, Status> {
        let now = self.clock.unix_secs();
        let merged: Verified<EpochRaise> =
            endorsement::endorse(authority, DraftKind::Epoch, &held.value, endorsed, now)
                .map_err(RefuseRaise::from)?;
        if *merged.envelope() == held.value {
            return Ok(v1::RaiseEpochReply {});
        }
        let (id, entry) = self.audit(caller, "endorse epoch", key.to_string(), Some(merged.digest()));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Revision(held.revision))
            .put(key, to_record(merged.envelope()))
            .delete(drafts::key(merged.digest()));
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        Ok(v1::RaiseEpochReply {})
    }
}

#[cfg(test)]
mod tests;
