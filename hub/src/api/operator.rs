//! The operators' surface: what the CLI calls.

use std::pin::Pin;
use std::sync::Arc;

use holdfast_pki::authority::Act;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::grant::JoinGrant;
use holdfast_proto::SLICE_BYTES_MAX;
use holdfast_proto::ids::{Digest, Name, NodeId};
use holdfast_proto::v1;
use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Hub, caller, chunks, invalid, told};
use crate::registry::{NodeRecord, Registry, RegistryError, to_record};
use crate::releases;
use crate::store::audit::{AuditEntry, Outcome, PENDING};
use crate::store::key::Span;
use crate::store::txn::{Precondition, Txn};

/// The most rows of one page.
const PAGE_MAX: usize = 500;
/// The most uses of one join token: a bigger fleet takes several tokens.
const USES_MAX: u32 = 10_000;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Hub>);

const fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

fn page_size(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(asked) if (1..=PAGE_MAX).contains(&asked) => asked,
        _ => PAGE_MAX,
    }
}

#[tonic::async_trait]
impl v1::operator_server::Operator for Service {
    type ReadSliceStream = Pin<Box<dyn Stream<Item = Result<v1::SliceChunk, Status>> + Send>>;

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusReply>, Status> {
        let hub = &self.0;
        let fleet = hub.registry.fleet().await?;
        Ok(Response::new(v1::GetStatusReply {
            hub_version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: hub.authority().await?.document().trust_domain.to_string(),
            instance_id: hub.instance.to_string(),
            serving_since_secs: hub.serving_since_secs,
            nodes: fleet.len() as u64,
            connected: hub.links.count() as u64,
        }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        let (hub, caller) = (&self.0, caller(&request)?);
        let envelope: Envelope = request
            .into_inner()
            .grant
            .try_into()
            .map_err(|error| invalid(&error))?;
        let authority = hub.authority().await?;
        let now = hub.clock.unix_secs();
        let verified: Verified<JoinGrant> = authority
            .verify(&envelope, &Act::Join, now)
            .map_err(|error| Status::permission_denied(told(&error)))?;
        let grant = verified.value();
        if grant.trust_domain != authority.document().trust_domain {
            return Err(Status::invalid_argument(format!(
                "the grant is for {}",
                grant.trust_domain
            )));
        }
        if grant.uses == 0 || grant.uses > USES_MAX || grant.not_after_secs <= now {
            return Err(Status::invalid_argument(format!(
                "the grant must have 1 to {USES_MAX} uses and time left"
            )));
        }
        let key = Registry::grant_key(&grant.id);
        let (id, entry) = hub.audit(&caller, "create token", key.to_string(), Some(verified.digest()));
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Absent)
            .put(key, to_record(&envelope));
        hub.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        Ok(Response::new(v1::CreateTokenReply {
            grant_id: grant.id.to_string(),
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesReply>, Status> {
        let request = request.into_inner();
        let (names, more) = self
            .0
            .registry
            .names(&request.page_after, page_size(request.page_size))
            .await?;
        let mut nodes = Vec::new();
        for (_, id) in &names {
            nodes.extend(self.0.describe(id).await?);
        }
        let last = names.last().map(|(name, _)| name.clone());
        let next_page_after = if more {
            last.unwrap_or_default()
        } else {
            String::new()
        };
        Ok(Response::new(v1::ListNodesReply {
            nodes,
            next_page_after,
        }))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeReply>, Status> {
        let (hub, caller) = (&self.0, caller(&request)?);
        let name: Name = request
            .into_inner()
            .name
            .parse()
            .map_err(|error| invalid(&error))?;
        let found = hub.registry.node_named(&name).await?;
        let held = found.ok_or_else(|| Status::not_found(format!("there is no node named '{name}'")))?;
        let key = Registry::node_key(&held.value.id);
        let (id, entry) = hub.audit(&caller, "remove node", key.to_string(), None);
        let removed = NodeRecord {
            removed_secs: Some(hub.clock.unix_secs()),
            ..held.value
        };
        let txn = Txn::new(&id, &entry)
            .require(key.clone(), Precondition::Revision(held.revision))
            .put(key, to_record(&removed))
            .delete(Registry::name_key(&name));
        hub.registry
            .store()
            .commit(txn)
            .await
            .map_err(RegistryError::from)?;
        hub.links.remove(&removed.id, "an operator removed this node");
        hub.director.fleet_changed();
        Ok(Response::new(v1::RemoveNodeReply {
            node_id: removed.id.to_string(),
        }))
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseReply>, Status> {
        let generation = request.into_inner().generation.map(Into::into);
        let manifest = releases::manifest(&self.0.registry, generation).await?;
        Ok(Response::new(v1::GetReleaseReply {
            manifest: manifest.as_ref().map(Into::into),
        }))
    }

    async fn read_slice(
        &self,
        request: Request<v1::GetSliceRequest>,
    ) -> Result<Response<Self::ReadSliceStream>, Status> {
        let digest: Digest = request
            .into_inner()
            .digest
            .parse()
            .map_err(|error| invalid(&error))?;
        let bytes = releases::read_slice(&self.0.registry, digest).await?;
        let bytes = bytes.ok_or_else(|| Status::not_found(format!("there is no slice {digest}")))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks(bytes)))))
    }

    async fn write_slice(
        &self,
        request: Request<Streaming<v1::WriteSliceRequest>>,
    ) -> Result<Response<v1::WriteSliceReply>, Status> {
        let (hub, caller) = (&self.0, caller(&request)?);
        let mut stream = request.into_inner();
        let mut announced = None;
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await? {
            if announced.is_none() {
                announced = Some(part.digest.parse::<Digest>().map_err(|error| invalid(&error))?);
            }
            bytes.extend_from_slice(&part.bytes);
            if bytes.len() > SLICE_BYTES_MAX {
                return Err(releases::ReleaseError::SliceSize.into());
            }
        }
        let announced = announced.ok_or_else(|| Status::invalid_argument("the upload is empty"))?;
        let (id, entry) = hub.audit(
            &caller,
            "write slice",
            format!("slice/{announced}"),
            Some(announced),
        );
        releases::write_slice(&hub.registry, announced, &bytes, (&id, &entry)).await?;
        Ok(Response::new(v1::WriteSliceReply {}))
    }

    async fn publish_release(
        &self,
        request: Request<v1::PublishReleaseRequest>,
    ) -> Result<Response<v1::PublishReleaseReply>, Status> {
        let (hub, caller) = (&self.0, caller(&request)?);
        let envelope: Envelope = request
            .into_inner()
            .manifest
            .try_into()
            .map_err(|error| invalid(&error))?;
        let authority = hub.authority().await?;
        let digest = envelope.digest();
        let (id, entry) = hub.audit(
            &caller,
            "publish release",
            format!("release/{digest}"),
            Some(digest),
        );
        let now = hub.clock.unix_secs();
        let release = releases::publish(&hub.registry, &authority, &envelope, now, (&id, &entry)).await?;
        tracing::info!(generation = %release.manifest.generation(), digest = %digest, "release published");
        hub.director.publish(release);
        Ok(Response::new(v1::PublishReleaseReply {}))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditReply>, Status> {
        let request = request.into_inner();
        let mut span = Span::prefix(PENDING);
        if !request.page_after.is_empty() {
            span = span.after(&format!("{PENDING}{}", request.page_after).into());
        }
        let page = self
            .0
            .registry
            .store()
            .range(&span, page_size(request.page_size))
            .await;
        let page = page.map_err(RegistryError::from)?;
        let mut entries = Vec::new();
        for found in &page.entries {
            let id = found.key.strip_prefix(PENDING).unwrap_or_default().to_owned();
            let entry =
                AuditEntry::from_bytes(&found.value).map_err(|error| Status::data_loss(told(&error)))?;
            entries.push(v1::AuditEntry {
                id,
                at_secs: entry.at_secs,
                who: entry.who,
                what: entry.what,
                on: entry.on,
                from: entry.from,
                digest: entry.digest.map(|digest| digest.to_string()).unwrap_or_default(),
                outcome: outcome_text(entry.outcome).to_owned(),
                correlation_id: entry.correlation_id.to_string(),
            });
        }
        let last = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
        let next_page_after = if page.rest.is_some() { last } else { String::new() };
        Ok(Response::new(v1::ListAuditReply {
            entries,
            next_page_after,
        }))
    }
}

impl Hub {
    /// A node as operators see it; none if it was removed meanwhile.
    async fn describe(&self, id: &NodeId) -> Result<Option<v1::Node>, Status> {
        let Some(node) = self.registry.node(id).await?.map(|node| node.value) else {
            return Ok(None);
        };
        let status = self.registry.status(id).await?.map(|status| status.value);
        let report = self.registry.store().get(&Registry::report_key(id)).await;
        let report = report.map_err(RegistryError::from)?;
        let seen = self.links.seen(id);
        let mut described = v1::Node {
            id: node.id.to_string(),
            name: node.name.to_string(),
            labels: node
                .labels
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            connected: seen.is_some(),
            // The bytes are a node's own: what cannot be read is not shown.
            last_report: report.and_then(|found| v1::Report::decode(&*found.value).ok()),
            enrolled_secs: node.enrolled_secs,
            grant_id: node.grant.to_string(),
            ..v1::Node::default()
        };
        if let Some(status) = status {
            described.address = status.address;
            described.last_seen_secs = status.at_secs;
            described.inventory = Some(status.inventory.into());
            described.accepted = status.accepted.map(Into::into);
            described.confirmed = status.confirmed.map(Into::into);
            described.authority_version = status.authority_version;
            described.labels_version = status.labels_version;
            described.agent_version = status.agent_version;
            described.boot_id = status.boot_id;
        }
        if let Some((address, last_seen_secs)) = seen {
            described.address = address.ip().to_string();
            described.last_seen_secs = last_seen_secs;
        }
        Ok(Some(described))
    }
}
