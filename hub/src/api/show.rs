//! What nodes and operators show a hub that does not know it: a higher release, authority or epoch, validly signed.

use holdfast_proto::v1;
use tonic::{Status, Streaming};

use super::Hub;
use crate::acceptor::Caller;

impl Hub {
    pub(super) async fn show(
        &self,
        _caller: &Caller,
        _chunks: Streaming<v1::ShowRequest>,
    ) -> Result<v1::ShowReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
