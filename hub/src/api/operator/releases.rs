//! Releases: what operators sign, stored and offered.

use holdfast_pki::envelope::Envelope;
use holdfast_proto::SLICE_BYTES_MAX;
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use tonic::Status;
use tonic::Streaming;

use crate::acceptor::Caller;
use crate::api::{Hub, chunks, invalid};
use crate::releases;
use crate::releases::publish::{endorse, publish};

impl Hub {
    pub(super) async fn get_release(
        &self,
        _: &Caller,
        request: v1::GetReleaseRequest,
    ) -> Result<v1::GetReleaseReply, Status> {
        let generation = request.generation.map(Into::into);
        let manifest = releases::manifest(&self.registry, generation).await?;
        Ok(v1::GetReleaseReply {
            manifest: manifest.as_ref().map(Into::into),
        })
    }

    /// The chunks of a slice.
    pub(super) async fn read_slice(
        &self,
        request: &v1::GetSliceRequest,
    ) -> Result<Vec<Result<v1::SliceChunk, Status>>, Status> {
        let digest: Digest = request.digest.parse().map_err(|error| invalid(&error))?;
        let bytes = releases::read_slice(&self.registry, digest).await?;
        let bytes = bytes.ok_or_else(|| Status::not_found(format!("there is no slice {digest}")))?;
        Ok(chunks(bytes))
    }

    pub(super) async fn write_slice(
        &self,
        caller: &Caller,
        mut stream: Streaming<v1::WriteSliceRequest>,
    ) -> Result<v1::WriteSliceReply, Status> {
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
        let (id, entry) = self.audit(
            caller,
            "write slice",
            format!("slice/{announced}"),
            Some(announced),
        );
        releases::write_slice(&self.registry, announced, &bytes, (&id, &entry)).await?;
        Ok(v1::WriteSliceReply {})
    }

    pub(crate) async fn publish_release(
        &self,
        caller: &Caller,
        request: v1::PublishReleaseRequest,
    ) -> Result<v1::PublishReleaseReply, Status> {
        let envelope: Envelope = request.manifest.try_into().map_err(|error| invalid(&error))?;
        let authority = self.authority().await?;
        let digest = envelope.digest();
        let named = releases::named_current(&self.registry).await?;
        let again = named.is_some_and(|(_, current)| current == digest);
        let what = if again {
            "endorse release"
        } else {
            "publish release"
        };
        let (id, entry) = self.audit(caller, what, format!("release/{digest}"), Some(digest));
        let now = self.clock.unix_secs();
        let release = if again {
            endorse(&self.registry, &authority, &envelope, now, (&id, &entry)).await?
        } else {
            publish(&self.registry, &authority, &envelope, now, (&id, &entry)).await?
        };
        tracing::info!(generation = %release.manifest.generation(), digest = %digest, "{what}");
        self.director.publish(release);
        self.history_advanced().await;
        Ok(v1::PublishReleaseReply {})
    }
}
