//! The operators' surface: what the CLI calls. Each call is handled in the file of its noun, as a method of [`Hub`].

mod access;
mod audit;
mod authority;
mod drafts;
mod epoch;
mod labels;
mod nodes;
mod pending;
mod releases;
mod status;
mod tokens;

use std::pin::Pin;
use std::sync::Arc;

use holdfast_proto::v1;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Hub, caller};
pub use access::{RENEWAL_EVERY, RENEWALS_BURST};
pub(super) use access::{Term, access_ended};

/// The most rows of one page.
const PAGE_MAX: usize = 500;

fn page_size(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(asked) if (1..=PAGE_MAX).contains(&asked) => asked,
        _ => PAGE_MAX,
    }
}

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Hub>);

#[tonic::async_trait]
impl v1::operator_server::Operator for Service {
    type ReadSliceStream = Pin<Box<dyn Stream<Item = Result<v1::SliceChunk, Status>> + Send>>;

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .get_status(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew_access(
        &self,
        request: Request<v1::RenewAccessRequest>,
    ) -> Result<Response<v1::AccessReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .renew_access(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .list_operators(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn revoke_access(
        &self,
        request: Request<v1::RevokeAccessRequest>,
    ) -> Result<Response<v1::RevokeAccessReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .revoke_access(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_authority(
        &self,
        request: Request<v1::PublishAuthorityRequest>,
    ) -> Result<Response<v1::PublishAuthorityReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .publish_authority(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn put_draft(
        &self,
        request: Request<v1::PutDraftRequest>,
    ) -> Result<Response<v1::PutDraftReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .put_draft(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_drafts(
        &self,
        request: Request<v1::ListDraftsRequest>,
    ) -> Result<Response<v1::ListDraftsReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .list_drafts(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn discard_draft(
        &self,
        request: Request<v1::DiscardDraftRequest>,
    ) -> Result<Response<v1::DiscardDraftReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .discard_draft(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_epoch(
        &self,
        request: Request<v1::GetEpochRequest>,
    ) -> Result<Response<v1::GetEpochReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .get_epoch(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn raise_epoch(
        &self,
        request: Request<v1::RaiseEpochRequest>,
    ) -> Result<Response<v1::RaiseEpochReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .raise_epoch(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .create_token(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_grant(
        &self,
        request: Request<v1::GetGrantRequest>,
    ) -> Result<Response<v1::GetGrantReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .get_grant(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .list_nodes(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .remove_node(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_labels(
        &self,
        request: Request<v1::GetLabelsRequest>,
    ) -> Result<Response<v1::GetLabelsReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .get_labels(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_labels(
        &self,
        request: Request<v1::PublishLabelsRequest>,
    ) -> Result<Response<v1::PublishLabelsReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .publish_labels(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_pending(
        &self,
        request: Request<v1::ListPendingRequest>,
    ) -> Result<Response<v1::ListPendingReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .list_pending(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn admit_node(
        &self,
        request: Request<v1::AdmitNodeRequest>,
    ) -> Result<Response<v1::AdmitNodeReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .admit_node(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn reject_node(
        &self,
        request: Request<v1::RejectNodeRequest>,
    ) -> Result<Response<v1::RejectNodeReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .reject_node(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .get_release(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_release(
        &self,
        request: Request<v1::PublishReleaseRequest>,
    ) -> Result<Response<v1::PublishReleaseReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .publish_release(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .list_audit(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn show(
        &self,
        request: Request<Streaming<v1::ShowRequest>>,
    ) -> Result<Response<v1::ShowReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .show(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn read_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<Self::ReadSliceStream>, Status> {
        let chunks = self.0.read_slice(&request.into_inner()).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn write_slice(
        &self,
        request: Request<Streaming<v1::WriteSliceRequest>>,
    ) -> Result<Response<v1::WriteSliceReply>, Status> {
        let caller = caller(&request)?;
        self.0
            .write_slice(&caller, request.into_inner())
            .await
            .map(Response::new)
    }
}

#[cfg(test)]
mod tests;
