//! Drafts: documents that wait for more signatures.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;

impl Hub {
    pub(super) async fn put_draft(
        &self,
        _caller: &Caller,
        _request: v1::PutDraftRequest,
    ) -> Result<v1::PutDraftReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn list_drafts(
        &self,
        _caller: &Caller,
        _request: v1::ListDraftsRequest,
    ) -> Result<v1::ListDraftsReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }

    pub(super) async fn discard_draft(
        &self,
        _caller: &Caller,
        _request: v1::DiscardDraftRequest,
    ) -> Result<v1::DiscardDraftReply, Status> {
        std::future::ready(Err(Status::unimplemented("not here yet"))).await
    }
}
