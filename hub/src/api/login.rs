//! Login: a request signed with an operator's signing key becomes a short-lived API certificate.

use holdfast_proto::v1;
use tonic::Status;

use super::Hub;
use crate::acceptor::Caller;

impl Hub {
    pub(super) fn login_challenge(&self) -> Result<v1::GetLoginChallengeReply, Status> {
        Err(Status::unimplemented("not here yet"))
    }

    pub(super) async fn login(
        &self,
        _caller: &Caller,
        _request: v1::LoginRequest,
    ) -> Result<v1::AccessReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
