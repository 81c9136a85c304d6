//! How the hub is.

use holdfast_proto::v1;
use tonic::Status;

use crate::acceptor::Caller;
use crate::api::Hub;
use crate::{drafts, epoch, hold, pending};

impl Hub {
    pub(super) async fn get_status(
        &self,
        _: &Caller,
        _: v1::GetStatusRequest,
    ) -> Result<v1::GetStatusReply, Status> {
        let fleet = self.registry.fleet().await?;
        let hold = hold::read(&self.registry).await?;
        let authority = self.authority().await?;
        let authority = authority.document();
        Ok(v1::GetStatusReply {
            hub_version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: authority.trust_domain.to_string(),
            instance_id: self.instance.to_string(),
            serving_since_secs: self.serving_since_secs,
            nodes: fleet.len() as u64,
            connected: self.links.count() as u64,
            authority_version: authority.version,
            authority_expires_secs: authority.expires_secs,
            epoch: epoch::current(&self.registry).await?,
            hold: hold.map(|hold| hold.reason()).unwrap_or_default(),
            pending: pending::waiting(&self.registry).await?.len() as u64,
            drafts: drafts::all(&self.registry).await?.len() as u64,
        })
    }
}
