//! Who may call what: one table, one row per RPC. What is not listed is denied.

use std::sync::Arc;
use std::task::{Context, Poll};

use holdfast_pki::authority::Role;
use holdfast_pki::spiffe::Identity;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Hub;
use crate::acceptor::Caller;
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
pub const TABLE: [(&str, Who); 33] = [
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

/// Whether `caller` may call `path`.
async fn authorize(hub: &Hub, caller: Option<&Caller>, path: &str) -> Result<(), Status> {
    let Some((_, who)) = TABLE.iter().find(|(row, _)| *row == path) else {
        return Err(Status::unimplemented("there is no such call here"));
    };
    let identity = caller
        .and_then(|caller| caller.id.as_ref())
        .map(|id| &id.identity);
    match (who, identity) {
        (Who::Anyone, _) | (Who::Operator(_), Some(Identity::Operator(_))) => Ok(()),
        (Who::Node, Some(Identity::Node(id))) => match hub.registry.node(id).await? {
            Some(node) if node.value.removed_secs.is_none() => Ok(()),
            _ => Err(Status::permission_denied(
                "this node was removed; enrol it anew with a new key and a join token",
            )),
        },
        (Who::Node | Who::Operator(_), None) => {
            Err(Status::unauthenticated("this call needs a client certificate"))
        }
        (Who::Node | Who::Operator(_), Some(_)) => {
            Err(Status::permission_denied("this identity may not make this call"))
        }
    }
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
            let caller = request.extensions().get::<Caller>().cloned();
            match authorize(&hub, caller.as_ref(), request.uri().path()).await {
                Ok(()) => inner.call(request).await,
                Err(status) => {
                    let id = caller
                        .as_ref()
                        .and_then(|caller| caller.id.as_ref())
                        .map(ToString::to_string);
                    let from = caller.map(|caller| caller.address.to_string());
                    tracing::warn!(
                        rpc = request.uri().path(),
                        id,
                        from,
                        reason = status.message(),
                        "call denied"
                    );
                    Ok(status.into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The services as the .proto file declares them, so that a new RPC without a row is found.
    const PROTO: &str = include_str!("../../../proto/holdfast/v1/holdfast.proto");

    #[test]
    fn every_rpc_has_exactly_one_row() {
        let mut service = "";
        let mut declared = Vec::new();
        for line in PROTO.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.split_whitespace().next().unwrap();
            } else if let Some(rest) = line.strip_prefix("rpc ") {
                declared.push(format!(
                    "/holdfast.v1.{service}/{}",
                    rest.split('(').next().unwrap()
                ));
            }
        }
        let mut rows: Vec<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        declared.sort();
        rows.sort();
        assert_eq!(declared, rows);
    }
}
