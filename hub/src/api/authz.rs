//! Who may call what: one table, one row per RPC. What is not listed is denied.

use std::sync::Arc;
use std::task::{Context, Poll};

use holdfast_pki::authority::Role;
use holdfast_pki::spiffe::Identity;
use holdfast_proto::ids::Name;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::operator::access_ended;
use super::{Hub, denials};
use crate::acceptor::Caller;
use crate::access::{self, AccessRecord};
use crate::store::BoxFuture;

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Whoever completes TLS.
    Anyone,
    /// A node of this fleet that was not removed.
    Node,
    /// An operator whom the newest authority lists with this role or a higher one.
    Operator(Role),
}

/// One row for each RPC of the three services.
pub const TABLE: [(&str, Who); 34] = [
    ("/holdfast.v1.Enrollment/Enroll", Who::Anyone),
    ("/holdfast.v1.Enrollment/GetAuthority", Who::Anyone),
    ("/holdfast.v1.Enrollment/GetLoginChallenge", Who::Anyone),
    ("/holdfast.v1.Enrollment/Login", Who::Anyone),
    ("/holdfast.v1.NodeLink/Connect", Who::Node),
    ("/holdfast.v1.NodeLink/GetSlice", Who::Node),
    ("/holdfast.v1.NodeLink/Confirm", Who::Node),
    ("/holdfast.v1.NodeLink/WitnessKeeps", Who::Node),
    ("/holdfast.v1.NodeLink/Show", Who::Node),
    ("/holdfast.v1.Operator/GetStatus", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/RenewAccess", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/ListOperators", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/RevokeAccess", Who::Operator(Role::Admin)),
    (
        "/holdfast.v1.Operator/PublishAuthority",
        Who::Operator(Role::Admin),
    ),
    ("/holdfast.v1.Operator/PutDraft", Who::Operator(Role::Proposer)),
    ("/holdfast.v1.Operator/ListDrafts", Who::Operator(Role::Viewer)),
    (
        "/holdfast.v1.Operator/DiscardDraft",
        Who::Operator(Role::Proposer),
    ),
    ("/holdfast.v1.Operator/GetEpoch", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/RaiseEpoch", Who::Operator(Role::Admin)),
    ("/holdfast.v1.Operator/Show", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/CreateToken", Who::Operator(Role::Operator)),
    ("/holdfast.v1.Operator/GetGrant", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/ListNodes", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/RemoveNode", Who::Operator(Role::Operator)),
    ("/holdfast.v1.Operator/GetLabels", Who::Operator(Role::Viewer)),
    (
        "/holdfast.v1.Operator/PublishLabels",
        Who::Operator(Role::Operator),
    ),
    ("/holdfast.v1.Operator/ListPending", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/AdmitNode", Who::Operator(Role::Operator)),
    ("/holdfast.v1.Operator/RejectNode", Who::Operator(Role::Operator)),
    ("/holdfast.v1.Operator/GetRelease", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/ReadSlice", Who::Operator(Role::Viewer)),
    ("/holdfast.v1.Operator/WriteSlice", Who::Operator(Role::Proposer)),
    (
        "/holdfast.v1.Operator/PublishRelease",
        Who::Operator(Role::Operator),
    ),
    ("/holdfast.v1.Operator/ListAudit", Who::Operator(Role::Viewer)),
];

/// The row of an RPC.
pub(crate) fn row(path: &str) -> Option<(&'static str, Who)> {
    TABLE.into_iter().find(|(row, _)| *row == path)
}

/// Whether `caller` may make a call that is for `who`.
pub(crate) async fn authorize(hub: &Hub, caller: &Caller, who: Who) -> Result<(), Status> {
    let identity = caller.id.as_ref().map(|id| &id.identity);
    match (who, identity) {
        (Who::Anyone, _) => Ok(()),
        (Who::Node, Some(Identity::Node(id))) => match hub.registry.node(id).await? {
            Some(node) if node.value.removed_secs.is_none() => Ok(()),
            _ => Err(Status::permission_denied(
                "this node was removed; enrol it anew with a new key and a join token",
            )),
        },
        (Who::Operator(needed), Some(Identity::Operator(name))) => operator(hub, caller, name, needed).await,
        (Who::Node | Who::Operator(_), None) => {
            Err(Status::unauthenticated("this call needs a client certificate"))
        }
        (Who::Node | Who::Operator(_), Some(_)) => {
            Err(Status::permission_denied("this identity may not make this call"))
        }
    }
}

/// Whether an operator may make a call that needs the role `needed`: by what the newest authority and the list of good API
/// certificates say now, not when the connection was made.
async fn operator(hub: &Hub, caller: &Caller, name: &Name, needed: Role) -> Result<(), Status> {
    let authority = hub.authority().await?;
    let version = authority.document().version;
    let Some(listed) = authority.operator(name) else {
        return Err(Status::permission_denied(format!(
            "authority version {version} lists no operator '{name}' with a key that is not revoked: an admin can add one (`holdfast authority add`)"
        )));
    };
    let record = hub.registry.record::<AccessRecord>(&access::key(name)).await?;
    let now = hub.clock.unix_secs();
    let known = record
        .zip(caller.certificate)
        .is_some_and(|(record, shown)| record.value.find(shown, listed, now).is_some());
    if !known {
        return Err(access_ended(name));
    }
    if listed.role < needed {
        return Err(Status::permission_denied(format!(
            "this call needs the role {needed}; authority version {version} gives '{name}' the role {}",
            listed.role
        )));
    }
    Ok(())
}

/// Puts [`TABLE`] before every handler.
#[derive(Debug, Clone)]
pub struct Authorize(pub Arc<Hub>);

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Authorized {
            hub: self.0.clone(),
            inner,
        }
    }
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Authorized<S> {
    hub: Arc<Hub>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Authorized<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to call; its clone takes the next request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let hub = self.hub.clone();
        Box::pin(async move {
            let Some((rpc, who)) = row(request.uri().path()) else {
                return Ok(Status::unimplemented("there is no such call here").into_http());
            };
            let Some(caller) = request.extensions().get::<Caller>().cloned() else {
                return Ok(Status::internal("the connection carries no caller").into_http());
            };
            let (response, refused) = match authorize(&hub, &caller, who).await {
                Ok(()) => {
                    let response = inner.call(request).await?;
                    // What is open to anyone notes its own refusals: it knows what was wanted.
                    let refused = Status::from_header_map(response.headers()).filter(|_| who != Who::Anyone);
                    (response, refused)
                }
                Err(status) => (status.clone().into_http(), Some(status)),
            };
            if let Some(status) = refused.filter(denials::is_refusal) {
                hub.call_denied(rpc, &caller, &status).await;
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests;
