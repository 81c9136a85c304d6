//! Label changes.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn get_labels(
        &self,
        _caller: &Caller,
        _request: v1::GetLabelsRequest,
    ) -> Result<v1::GetLabelsReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn publish_labels(
        &self,
        _caller: &Caller,
        _request: v1::PublishLabelsRequest,
    ) -> Result<v1::PublishLabelsReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
