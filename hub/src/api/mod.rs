//! The hub's gRPC services. A handler authorises, decodes, calls one module and encodes; it decides nothing else.
//!
//! [`authz::TABLE`] says who may call what, and runs before every handler.

mod admission;
pub mod authz;
pub mod denials;
mod enrollment;
mod login;
pub mod node_link;
pub mod operator;
pub mod show;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::challenge::Challenges;
use holdfast_pki::clock::Clock;
use holdfast_pki::random::Random;
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_proto::ids::{Digest, Name, NodeId, UniqueId};
use holdfast_proto::v1::enrollment_server::EnrollmentServer;
use holdfast_proto::v1::node_link_server::NodeLinkServer;
use holdfast_proto::v1::operator_server::OperatorServer;
use holdfast_proto::{SLICE_CHUNK_BYTES_MAX, UPLINK_BYTES_MAX, v1};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use self::denials::Denials;
pub use self::turns::Turns;
use crate::acceptor::Caller;
use crate::authority::Newest;
use crate::ca::HubCa;
use crate::checkpoints::Checkpoints;
use crate::director::Director;
use crate::epoch;
use crate::hold::{self, Finding, Hold};
use crate::links::Links;
use crate::pace::Paces;
use crate::registry::{Registry, RegistryError};
use crate::releases::ReleaseError;
use crate::store::audit::{AuditEntry, AuditId, Outcome};
use crate::store::txn::CommitError;
use crate::tasks::Tasks;

/// The largest message from an operator: a chunk of a slice and its frame, or a manifest.
const OPERATOR_BYTES_MAX: usize = SLICE_CHUNK_BYTES_MAX + 256 * 1024;

/// What the handlers share.
#[derive(Debug)]
pub struct Hub {
    /// The fleet's records.
    pub registry: Registry,
    /// The CAs.
    pub ca: HubCa,
    /// Who is connected.
    pub links: Links,
    /// What nodes should have.
    pub director: Arc<Director>,
    /// How far the history has come, for nodes to keep.
    pub checkpoints: Checkpoints,
    /// The newest authority.
    pub authority: Newest,
    /// What operators sign to log in.
    pub challenges: Challenges,
    /// How many refusals are written down.
    pub denials: Denials,
    /// Who shows what this hub does not know.
    pub shows: Turns,
    /// Who has keeps witnessed.
    pub witnessing: Turns,
    /// How often each node's records are written.
    pub changes: Paces<NodeId>,
    /// How often each operator's access is renewed.
    pub renewals: Paces<Name>,
    /// This run of the hub.
    pub instance: UniqueId,
    /// Since when it serves, in Unix seconds.
    pub serving_since_secs: u64,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Where links run.
    pub tasks: Tasks,
    /// Turns true when the hub is to stop: links end then.
    pub draining: watch::Receiver<bool>,
}

impl Hub {
    /// The newest authority.
    async fn authority(&self) -> Result<Arc<TrustedAuthority>, RegistryError> {
        self.authority.look().await
    }

    /// Gives nodes a checkpoint beyond a change that operators made and that is durable now.
    async fn history_advanced(&self) {
        if let Err(error) = self.checkpoints.advance().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "cannot sign a checkpoint; the next one tells of this change as well"
            );
        }
    }

    /// Stops serving releases for what `caller` showed, until operators raise the epoch.
    async fn hold_for(&self, caller: &Caller, findings: BTreeMap<Finding, String>) -> Result<(), Status> {
        let epoch = epoch::current(&self.registry).await?;
        let hold = Hold::new(findings, epoch, self.clock.unix_secs());
        let (id, entry) = self.audit(caller, "hold releases", hold::KEY.to_owned(), None);
        if hold::set(&self.registry, &hold, (&id, &entry)).await? {
            tracing::error!(
                reason = hold.reason(),
                "this store is behind the fleet: no release is served until operators raise the epoch"
            );
        }
        Ok(())
    }

    /// The audit entry of a change that is about to be made.
    fn audit(
        &self,
        caller: &Caller,
        what: &str,
        on: String,
        digest: Option<Digest>,
    ) -> (AuditId, AuditEntry) {
        let who = caller
            .id
            .as_ref()
            .map_or_else(|| "anyone".to_owned(), SpiffeId::to_string);
        self.audit_as(who, caller, what, on, digest)
    }

    fn audit_as(
        &self,
        who: String,
        caller: &Caller,
        what: &str,
        on: String,
        digest: Option<Digest>,
    ) -> (AuditId, AuditEntry) {
        let entry = AuditEntry {
            at_secs: self.clock.unix_secs(),
            who,
            what: what.to_owned(),
            on,
            from: caller.address.ip().to_string(),
            digest,
            outcome: Outcome::Done,
            correlation_id: self.random.unique_id(),
        };
        (AuditId::new(&*self.clock, &*self.random), entry)
    }
}

/// The three services as one router.
pub fn router(hub: &Arc<Hub>) -> tonic::service::Routes {
    tonic::service::Routes::new(
        EnrollmentServer::new(enrollment::Service(hub.clone())).max_decoding_message_size(UPLINK_BYTES_MAX),
    )
    .add_service(
        NodeLinkServer::new(node_link::Service(hub.clone())).max_decoding_message_size(UPLINK_BYTES_MAX),
    )
    .add_service(
        OperatorServer::new(operator::Service(hub.clone())).max_decoding_message_size(OPERATOR_BYTES_MAX),
    )
}

/// Who called, as TLS proved it.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| Status::internal("the connection carries no caller"))
}

/// The node that called; the table has let only nodes through.
fn calling_node(caller: &Caller) -> Result<NodeId, Status> {
    match &caller.id {
        Some(SpiffeId {
            identity: Identity::Node(id),
            ..
        }) => Ok(*id),
        _ => Err(Status::permission_denied("only a node may call this")),
    }
}

/// The operator who called; the table has let only operators through.
fn calling_operator(caller: &Caller) -> Result<&Name, Status> {
    match &caller.id {
        Some(SpiffeId {
            identity: Identity::Operator(name),
            ..
        }) => Ok(name),
        _ => Err(Status::permission_denied("only an operator may call this")),
    }
}

/// An error with its causes, as one line for the caller.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn invalid(error: &dyn std::error::Error) -> Status {
    Status::invalid_argument(told(error))
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        let code = match &error {
            RegistryError::Store(_) => Code::Unavailable,
            RegistryError::Commit(CommitError::Unavailable(_)) => Code::Unavailable,
            RegistryError::Commit(CommitError::Conflict { .. } | CommitError::Fenced { .. }) => Code::Aborted,
            RegistryError::Commit(CommitError::Invalid(_)) => Code::InvalidArgument,
            RegistryError::Commit(CommitError::Unknown(_)) => Code::Unknown,
            RegistryError::Record { .. }
            | RegistryError::Key { .. }
            | RegistryError::Missing { .. }
            | RegistryError::Authority(_)
            | RegistryError::NoAuthority => Code::DataLoss,
        };
        Self::new(code, told(&error))
    }
}

impl From<ReleaseError> for Status {
    fn from(error: ReleaseError) -> Self {
        let code = match error {
            ReleaseError::Registry(error) => return error.into(),
            ReleaseError::Refused(_) => Code::PermissionDenied,
            ReleaseError::NotNext { .. } => Code::Aborted,
            ReleaseError::AuthorityVersion { .. }
            | ReleaseError::Beginning(_)
            | ReleaseError::Epoch { .. }
            | ReleaseError::Held(_) => Code::FailedPrecondition,
            ReleaseError::NoSlice(_) => Code::NotFound,
            ReleaseError::SliceDigest { .. } | ReleaseError::SliceSize | ReleaseError::Slice { .. } => {
                Code::InvalidArgument
            }
            ReleaseError::Manifest(_) => Code::DataLoss,
        };
        Self::new(code, told(&error))
    }
}

/// A slice's bytes as the chunks of a stream.
fn chunks(bytes: Vec<u8>) -> Vec<Result<v1::SliceChunk, Status>> {
    let total = bytes.len() as u64;
    let chunk = |(n, chunk): (usize, &[u8])| v1::SliceChunk {
        offset: (n * SLICE_CHUNK_BYTES_MAX) as u64,
        total,
        bytes: chunk.to_vec().into(),
    };
    bytes
        .chunks(SLICE_CHUNK_BYTES_MAX)
        .enumerate()
        .map(chunk)
        .map(Ok)
        .collect()
}
