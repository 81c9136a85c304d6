//! Join tokens: the hub keeps the signed grant and the digest of the secret.

use holdfast_pki::authority::Act;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::grant::JoinGrant;
use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::{Hub, invalid, told};
use crate::drafts;
use crate::registry::{Registry, RegistryError, to_record};
use crate::store::txn::{Precondition, Txn};

/// The most uses of one join token: a bigger fleet takes several tokens.
const USES_MAX: u32 = 10_000;

impl Hub {
    pub(super) async fn create_token(
        &self,
        caller: &Caller,
        request: v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenReply, Status> {
        let envelope: Envelope = request.grant.try_into().map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let now = self.clock.unix_secs();
        let verified: Verified<JoinGrant> = authority
            .verify(&envelope, &Act::Join, now)
            .map_err(|error| Status::permission_denied(told(&error)))?;
        let grant = verified.value();
        if grant.uses == 0 || grant.uses > USES_MAX || grant.not_after_secs <= now {
            return Err(Status::invalid_argument(format!(
                "the grant must have 1 to {USES_MAX} uses and time left"
            )));
        }
        let key = Registry::grant_key(&grant.id);
        let (id, entry) = self.audit(caller, "create token", key.to_string(), Some(verified.digest()));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Absent)
            .put(key, to_record(&envelope))
            .delete(drafts::key(verified.digest()));
        self.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        self.history_advanced().await;
        Ok(v1::CreateTokenReply {
            grant_id: grant.id.to_string(),
        })
    }

    /// The grant that is registered, with the signatures that it came with.
    pub(super) async fn get_grant(
        &self,
        _: &Caller,
        request: v1::GetGrantRequest,
    ) -> Result<v1::GetGrantReply, Status> {
        let id = request.grant_id.parse().map_err(|error| invalid(&error))?;
        let grant = self.registry.grant(&id).await?;
        Ok(v1::GetGrantReply {
            grant: grant.as_ref().map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use holdfast_pki::grant::Admission;
    use holdfast_pki::signing_key::SigningKey;
    use tonic::Code;

    use super::*;
    use crate::testing::{TestHub, signed};

    #[tokio::test]
    async fn a_grant_that_nobody_who_may_has_signed_is_not_registered() {
        let hub = TestHub::new().await;
        let grant = JoinGrant {
            id: [9; 16].into(),
            ..hub.grant(1, Admission::Automatic).await
        };
        let create = async |keys: &[&SigningKey]| {
            let request = v1::CreateTokenRequest {
                grant: Some((&signed(&grant, keys)).into()),
            };
            hub.hub.create_token(&hub.operator("bob"), request).await
        };
        for keys in [&[][..], &[&SigningKey::generate()]] {
            assert_eq!(create(keys).await.unwrap_err().code(), Code::PermissionDenied);
        }
        assert_eq!(hub.hub.registry.grant(&grant.id).await.unwrap(), None);
        create(&[&hub.bob]).await.unwrap();
    }
}
