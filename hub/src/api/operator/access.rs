//! Access: operators' API certificates.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn renew_access(
        &self,
        _caller: &Caller,
        _request: v1::RenewAccessRequest,
    ) -> Result<v1::AccessReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn list_operators(
        &self,
        _caller: &Caller,
        _request: v1::ListOperatorsRequest,
    ) -> Result<v1::ListOperatorsReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn revoke_access(
        &self,
        _caller: &Caller,
        _request: v1::RevokeAccessRequest,
    ) -> Result<v1::RevokeAccessReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
