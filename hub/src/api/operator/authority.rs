//! Publishing authority versions.
//!
//! The next version is judged by the newest alone, whether that has expired or not: a fleet whose authority ran out must
//! still get a new one. Two that publish at once meet at the version's key, which is written once.

use holdfast_pki::authority::{Authority, RefuseAuthority, TrustedAuthority};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::{Hub, invalid, told};
use crate::authority::changes;
use crate::drafts;
use crate::registry::{Registry, RegistryError, to_record};
use crate::releases;
use crate::store::txn::{CommitError, Precondition, Txn};

impl Hub {
    pub(super) async fn publish_authority(
        &self,
        caller: &Caller,
        request: v1::PublishAuthorityRequest,
    ) -> Result<v1::PublishAuthorityReply, Status> {
        let envelope: Envelope = request.authority.try_into().map_err(|error| invalid(&error))?;
        let held = self.authority().await?;
        let next = match held.advance(&envelope) {
            Ok(next) => next,
            Err(RefuseAuthority::NotNext { offered, .. }) => {
                return Err(self.not_next(&envelope, offered).await?);
            }
            Err(error @ RefuseAuthority::Envelope(_)) => return Err(Status::permission_denied(told(&error))),
            Err(error) => return Err(invalid(&error)),
        };
        self.must_serve_on_under(next.document())?;

        let (version, digest) = (next.document().version, next.pin().digest);
        let key = Registry::authority_key(version);
        let (id, entry) = self.audit(caller, "publish authority", key.to_string(), Some(digest));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Absent)
            .put(key, to_record(&envelope))
            .delete(drafts::key(digest));
        match self.registry.store().commit(txn).await {
            Ok(_) => {}
            Err(CommitError::Conflict { .. }) => return Err(self.not_next(&envelope, version).await?),
            Err(error) => return Err(RegistryError::from(error).into()),
        }
        tracing::info!(version, digest = %digest, "authority published");
        // From here on it judges every call, and links tell the nodes.
        self.authority().await?;
        self.history_advanced().await;
        Ok(v1::PublishAuthorityReply {
            release_needs_endorsement: self.release_needs_endorsement(&next).await?,
        })
    }

    /// Refuses a version under which this hub could not serve on.
    fn must_serve_on_under(&self, next: &Authority) -> Result<(), Status> {
        if next.expires_secs <= self.clock.unix_secs() {
            return Err(Status::invalid_argument(
                "the version has expired already: nothing new would be accepted under it",
            ));
        }
        let own = Digest::of(self.ca.node_root());
        if !next.node_roots.contains(&own) {
            return Err(Status::invalid_argument(format!(
                "the version drops the node root {own}, below which this hub has its certificate: no agent that reached the version would talk to it again"
            )));
        }
        Ok(())
    }

    /// Why `envelope`, which says that it is `version`, does not follow the newest: one that was published already is told
    /// from one that lost a race, and that one hears what the other changed.
    async fn not_next(&self, envelope: &Envelope, version: u64) -> Result<Status, Status> {
        let newest = self.authority().await?.document().version;
        let Some(published) = self.authority_version(version).await? else {
            return Ok(Status::failed_precondition(format!(
                "authority version {version} cannot be published now: the newest is {newest}, and what follows must be version {} with its digest, for this fleet, with every key that was revoked",
                newest + 1
            )));
        };
        if published.digest() == envelope.digest() {
            return Ok(Status::already_exists(format!(
                "authority version {version} is published already"
            )));
        }
        let read = |version: &Envelope| parse_payload::<Authority>(&version.payload).ok();
        let before = self.authority_version(version.saturating_sub(1)).await?;
        let changed = match (before.as_ref().and_then(read), read(&published)) {
            (Some(before), Some(after)) => changes(&before, &after),
            _ => "it is the first".to_owned(),
        };
        Ok(Status::aborted(format!(
            "another authority version {version} was published meanwhile ({changed}): make yours anew, upon version {newest}"
        )))
    }

    async fn authority_version(&self, version: u64) -> Result<Option<Envelope>, RegistryError> {
        let found = self.registry.record(&Registry::authority_key(version)).await?;
        Ok(found.map(|found| found.value))
    }

    /// Whether the current release is not signed as `authority` asks: nodes that are yet to accept it would refuse it.
    async fn release_needs_endorsement(&self, authority: &TrustedAuthority) -> Result<bool, Status> {
        let current = releases::manifest(&self.registry, None).await?;
        Ok(current.is_some_and(|manifest| !authority.progress(DraftKind::Release, &manifest).is_complete()))
    }
}

#[cfg(test)]
mod tests;
