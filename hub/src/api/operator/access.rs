//! Access: operators' API certificates, issued, listed and ended.

use std::time::Duration;

use holdfast_pki::authority::AuthorityKey;
use holdfast_pki::csr::{self, VerifiedCsr};
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_proto::ids::{Digest, Name};
use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::access::{self, AccessCertificate, AccessRecord};
use crate::api::{Hub, calling_operator, invalid, told};
use crate::registry::{RegistryError, to_record};
use crate::store::audit::{AuditEntry, AuditId};
use crate::store::txn::{CommitError, Precondition, Txn};

/// How often one operator may renew at once: every machine of theirs in the same moment.
pub const RENEWALS_BURST: u32 = 16;
/// ... and how soon once more.
pub const RENEWAL_EVERY: Duration = Duration::from_secs(60);

/// How often a change of one operator's list is tried against others at once.
const ATTEMPTS: usize = 8;

/// How long a certificate is to be good, and since when.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Term {
    /// From now on.
    pub(in crate::api) lifetime: Duration,
    /// The login that it goes back to, in Unix seconds.
    pub(in crate::api) login_secs: u64,
}

impl Hub {
    pub(super) async fn renew_access(
        &self,
        caller: &Caller,
        request: v1::RenewAccessRequest,
    ) -> Result<v1::AccessReply, Status> {
        let csr = csr::verify(&request.csr_der).map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let name = calling_operator(caller)?;
        let listed = authority
            .operator(name)
            .ok_or_else(|| Status::permission_denied(format!("no operator '{name}' is listed")))?;
        if !self.renewals.take(name, &*self.clock) {
            return Err(Status::resource_exhausted(format!(
                "'{name}' renews too often: more than {RENEWALS_BURST} at once"
            )));
        }
        let now = self.clock.unix_secs();
        let held = |record: &AccessRecord| {
            caller
                .certificate
                .and_then(|shown| record.find(shown, listed, now).cloned())
                .ok_or_else(|| access_ended(name))
        };
        let record = self.registry.record::<AccessRecord>(&access::key(name)).await?;
        let held_now = held(&record.map(|found| found.value).unwrap_or_default())?;
        let lifetime = held_now.renewable_for(self.ca.operator_leaf_lifetime(), now);
        let lifetime = lifetime.ok_or_else(|| {
            Status::failed_precondition(
                "an API certificate is renewed until a day after the login: then log in with `holdfast context login`",
            )
        })?;
        let term = Term {
            lifetime,
            login_secs: held_now.login_secs,
        };
        // Asked again in the transaction: a revocation meanwhile must not be outlived by what it came too late for.
        self.issue_access(caller, listed, &csr, ("renew access", term), |record| {
            held(record).map(|_| ())
        })
        .await
    }

    pub(super) async fn list_operators(
        &self,
        _: &Caller,
        _: v1::ListOperatorsRequest,
    ) -> Result<v1::ListOperatorsReply, Status> {
        let authority = self.authority().await?;
        let now = self.clock.unix_secs();
        let mut operators = Vec::new();
        for key in &authority.document().keys {
            let Some(listed) = authority.operator(&key.name) else {
                continue;
            };
            let record = self
                .registry
                .record::<AccessRecord>(&access::key(&key.name))
                .await?;
            let record = record.map(|found| found.value).unwrap_or_default();
            let certificates = record.good(listed, now).map(|held| v1::AccessCertificate {
                fingerprint: held.fingerprint.to_string(),
                issued_secs: held.issued_secs,
                expires_secs: held.expires_secs,
                address: held.address.clone(),
            });
            operators.push(v1::OperatorAccess {
                name: key.name.to_string(),
                certificates: certificates.collect(),
            });
        }
        Ok(v1::ListOperatorsReply { operators })
    }

    pub(super) async fn revoke_access(
        &self,
        caller: &Caller,
        request: v1::RevokeAccessRequest,
    ) -> Result<v1::RevokeAccessReply, Status> {
        let name: Name = request.name.parse().map_err(|error| invalid(&error))?;
        let key = access::key(&name);
        let known = self.registry.record::<AccessRecord>(&key).await?.is_some();
        if !known && self.authority().await?.operator(&name).is_none() {
            return Err(Status::not_found(format!(
                "no operator '{name}' is listed, and none ever logged in"
            )));
        }
        let (id, entry) = self.audit(caller, "revoke access", format!("operator/{name}"), None);
        let now = self.clock.unix_secs();
        let revoke = |record: &mut AccessRecord| {
            let ended = record.certificates.drain(..);
            Ok(ended.filter(|held| now < held.expires_secs).count())
        };
        let revoked = self.change_access(&name, (&id, &entry), revoke).await?;
        tracing::info!(operator = %name, revoked, "access revoked");
        Ok(v1::RevokeAccessReply {
            revoked: u32::try_from(revoked).unwrap_or(u32::MAX),
        })
    }

    /// Issues an API certificate to the operator whom the authority lists with `listed`, if `may` agrees to what their list
    /// holds in the transaction that adds it.
    pub(in crate::api) async fn issue_access(
        &self,
        caller: &Caller,
        listed: &AuthorityKey,
        csr: &VerifiedCsr,
        (what, term): (&str, Term),
        may: impl Fn(&AccessRecord) -> Result<(), Status>,
    ) -> Result<v1::AccessReply, Status> {
        let certificate = self
            .ca
            .issue_operator(csr, &listed.name, term.lifetime)
            .map_err(|error| Status::internal(told(&error)))?;
        let (now, address) = (self.clock.unix_secs(), caller.address.ip().to_string());
        let who = SpiffeId {
            trust_domain: self.ca.trust_domain().clone(),
            identity: Identity::Operator(listed.name.clone()),
        };
        let on = format!("operator/{}", listed.name);
        let digest = Some(Digest::of(csr.spki_der()));
        let (id, entry) = self.audit_as(who.to_string(), caller, what, on, digest);
        let add = |record: &mut AccessRecord| {
            may(record)?;
            record.add(
                AccessCertificate::new(&certificate, (listed.id, term.login_secs), now, &address),
                now,
            );
            Ok(())
        };
        self.change_access(&listed.name, (&id, &entry), add).await?;
        Ok(v1::AccessReply {
            certificate_chain_der: certificate
                .chain
                .iter()
                .map(|link| link.to_vec().into())
                .collect(),
        })
    }

    /// Changes an operator's list of certificates; what `change` says of it.
    async fn change_access<T>(
        &self,
        name: &Name,
        audit: (&AuditId, &AuditEntry),
        change: impl Fn(&mut AccessRecord) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let key = access::key(name);
        for _ in 0..ATTEMPTS {
            let held = self.registry.record::<AccessRecord>(&key).await?;
            let precondition = held
                .as_ref()
                .map_or(Precondition::Absent, |held| Precondition::Revision(held.revision));
            let mut record = held.map(|held| held.value).unwrap_or_default();
            let said = change(&mut record)?;
            let txn = Txn::new(audit.0, audit.1)
                .require(key.clone(), precondition)
                .put(key.clone(), to_record(&record));
            match self.registry.store().commit(txn).await {
                Ok(_) => return Ok(said),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(RegistryError::from(error).into()),
            }
        }
        Err(Status::aborted(format!(
            "the access of '{name}' changes too often at once; try again"
        )))
    }
}

/// What a caller hears whose certificate is not, or no longer, let in.
pub(in crate::api) fn access_ended(name: &Name) -> Status {
    Status::unauthenticated(format!(
        "this API certificate of '{name}' is not let in, or no longer: log in with `holdfast context login`"
    ))
}

#[cfg(test)]
mod tests;
