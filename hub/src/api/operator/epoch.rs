//! The epoch.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn get_epoch(
        &self,
        _caller: &Caller,
        _request: v1::GetEpochRequest,
    ) -> Result<v1::GetEpochReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn raise_epoch(
        &self,
        _caller: &Caller,
        _request: v1::RaiseEpochRequest,
    ) -> Result<v1::RaiseEpochReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
