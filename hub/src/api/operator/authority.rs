//! Publishing authority versions.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn publish_authority(
        &self,
        _caller: &Caller,
        _request: v1::PublishAuthorityRequest,
    ) -> Result<v1::PublishAuthorityReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
