//! Admission by hand.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn list_pending(
        &self,
        _caller: &Caller,
        _request: v1::ListPendingRequest,
    ) -> Result<v1::ListPendingReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn admit_node(
        &self,
        _caller: &Caller,
        _request: v1::AdmitNodeRequest,
    ) -> Result<v1::AdmitNodeReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn reject_node(
        &self,
        _caller: &Caller,
        _request: v1::RejectNodeRequest,
    ) -> Result<v1::RejectNodeReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
