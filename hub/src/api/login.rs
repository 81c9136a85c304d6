//! Login: a request signed with an operator's signing key becomes a short-lived API certificate.
//!
//! The request names the API key's CSR and a challenge of this run of this hub: nothing else can be made of it, elsewhere or
//! later, and a hub that passes it on to another gets a certificate for a key that it does not have.

use holdfast_pki::access::AccessRequest;
use holdfast_pki::csr;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use tonic::Status;

use super::operator::Term;
use super::{Hub, denials, invalid, told};
use crate::acceptor::Caller;

/// The RPC, as the table has it.
const LOGIN: &str = "/holdfast.v1.Enrollment/Login";

impl Hub {
    pub(crate) fn login_challenge(&self) -> v1::GetLoginChallengeReply {
        let challenge = self.challenges.give(&*self.clock, &*self.random);
        v1::GetLoginChallengeReply {
            challenge: challenge.into(),
        }
    }

    pub(crate) async fn login(
        &self,
        caller: &Caller,
        request: v1::LoginRequest,
    ) -> Result<v1::AccessReply, Status> {
        let csr_der = request.csr_der;
        let envelope: Envelope = request
            .access_request
            .try_into()
            .map_err(|error| invalid(&error))?;
        let result = self.let_in(caller, &envelope, &csr_der).await;
        if let Err(status) = &result {
            tracing::warn!(peer.addr = %caller.address, reason = status.message(), "login refused");
            if denials::is_refusal(status) {
                // Only said to be who they are: that is what was refused.
                let claimed = parse_payload::<AccessRequest>(&envelope.payload);
                let on = claimed.map_or_else(
                    |_| "operator".to_owned(),
                    |claimed| format!("operator/{}", claimed.operator),
                );
                self.denied(LOGIN, caller, "log in", on).await;
            }
        }
        result
    }

    async fn let_in(
        &self,
        caller: &Caller,
        envelope: &Envelope,
        csr_der: &[u8],
    ) -> Result<v1::AccessReply, Status> {
        let csr = csr::verify(csr_der).map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let refuse = |why: String| Status::permission_denied(why);
        let verified = authority
            .verify_access(envelope)
            .map_err(|error| refuse(told(&error)))?;
        let wanted = verified.value();
        if wanted.csr != Digest::of(csr_der) {
            return Err(refuse(
                "the request is for another API key than the CSR's".to_owned(),
            ));
        }
        let Some(listed) = authority.operator(&wanted.operator) else {
            return Err(refuse(format!("no operator '{}' is listed", wanted.operator)));
        };
        self.challenges
            .spend(&wanted.challenge, &wanted.operator, &*self.clock)
            .map_err(|error| refuse(told(&error)))?;
        let term = Term {
            lifetime: self.ca.operator_leaf_lifetime(),
            login_secs: self.clock.unix_secs(),
        };
        let reply = self
            .issue_access(caller, listed, &csr, ("log in", term), |_| Ok(()))
            .await?;
        tracing::info!(operator = %listed.name, peer.addr = %caller.address, "operator logged in");
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
