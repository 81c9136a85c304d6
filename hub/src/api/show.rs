//! What nodes and operators show a hub that does not know it: a higher release, authority or epoch, validly signed.
//!
//! Newer versions of the authority and raises of the epoch are taken into the store, for they are what operators signed;
//! a release is not, for its slices are not here. Any of them says that this store is behind, and holds the hub. What is
//! not validly signed, by the newest authority that can be reached with what was shown, is passed over.

mod judge;

use std::time::Duration;

use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::envelope::{Envelope, InvalidEnvelope};
use holdfast_proto::v1;
use holdfast_proto::{SHOW_BYTES_MAX, SHOW_CHUNK_BYTES_MAX, SHOWN_MAX};
use prost::Message as _;
use tonic::{Status, Streaming};

use self::judge::{Has, Shown, judge};
use super::{Hub, calling_node, invalid};
use crate::acceptor::Caller;
use crate::registry::{Registry, RegistryError, to_record};
use crate::store::key::Key;
use crate::store::txn::{CommitError, Precondition, Txn};
use crate::{drafts, epoch, hold, releases};

/// How many show something at once: each takes up to a mebibyte, and some milliseconds of checking signatures. A fleet that
/// meets a restored hub shows it the same things all at once.
pub const AT_ONCE: usize = 16;
/// How long the next chunk may take, so that a peer which sends nothing does not keep its turn.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);

impl Hub {
    pub(super) async fn show(
        &self,
        caller: &Caller,
        chunks: Streaming<v1::ShowRequest>,
    ) -> Result<v1::ShowReply, Status> {
        let _turn = self.shows.take(caller).await?;
        let shown = read(chunks).await?;
        self.learn(caller, shown).await
    }

    async fn learn(&self, caller: &Caller, shown: Shown) -> Result<v1::ShowReply, Status> {
        let current = releases::named_current(&self.registry).await?;
        let has = Has {
            authority: TrustedAuthority::clone(&*self.authority().await?),
            epoch: epoch::current(&self.registry).await?,
            current: current.map(|(generation, _)| generation),
        };
        let mut judged = judge(has, shown, self.clock.unix_secs());
        let who = caller.id.as_ref().map(ToString::to_string);
        for reason in &judged.passed_over {
            tracing::warn!(who, reason, "what was shown does not count");
        }
        if !judged.findings.is_empty() {
            let named = self.named(caller).await?;
            for what in judged.findings.values_mut() {
                *what = format!("{named} showed {what}");
            }
            // Held before anything is adopted: a hub that crashes in between would not find it above its own any more.
            self.hold_for(caller, judged.findings).await?;
            self.adopt(
                caller,
                "adopt authority",
                &judged.authority,
                Registry::authority_key,
            )
            .await?;
            self.adopt(caller, "adopt epoch", &judged.raises, epoch::key)
                .await?;
            // From here on the newest authority judges every call, and links tell the nodes of both.
            self.authority().await?;
            self.history_advanced().await;
            self.director.fleet_changed();
        }
        let holds = hold::read(&self.registry).await?.is_some();
        Ok(v1::ShowReply { holds })
    }

    /// Takes documents into the store, each under its number, up to the first for which somebody else was faster: the
    /// next ones may not follow theirs.
    async fn adopt(
        &self,
        caller: &Caller,
        what: &str,
        documents: &[(u64, Envelope)],
        key: fn(u64) -> Key,
    ) -> Result<(), Status> {
        for (number, envelope) in documents {
            let key = key(*number);
            let (id, entry) = self.audit(caller, what, key.to_string(), Some(envelope.digest()));
            let txn = Txn::new(&id, &entry)
                .require(key.clone(), Precondition::Absent)
                .put(key, to_record(envelope))
                .delete(drafts::key(envelope.digest()));
            match self.registry.store().commit(txn).await {
                Ok(_) => {}
                Err(CommitError::Conflict { .. }) => break,
                Err(error) => return Err(RegistryError::from(error).into()),
            }
        }
        Ok(())
    }

    /// A caller as operators know it.
    async fn named(&self, caller: &Caller) -> Result<String, Status> {
        if let Ok(id) = calling_node(caller) {
            return Ok(format!("node '{}'", self.node(&id).await?.name));
        }
        let id = caller.id.as_ref().map(ToString::to_string);
        Ok(id.unwrap_or_else(|| "somebody".to_owned()))
    }
}

/// The chunks as one, within bounds.
async fn read(mut chunks: Streaming<v1::ShowRequest>) -> Result<Shown, Status> {
    let mut bytes = Vec::new();
    loop {
        let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("the next chunk did not come"))?;
        let Some(v1::ShowRequest { chunk }) = next? else {
            break;
        };
        if chunk.len() > SHOW_CHUNK_BYTES_MAX || bytes.len() + chunk.len() > SHOW_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "at most {SHOW_BYTES_MAX} bytes are looked at, in chunks of at most {SHOW_CHUNK_BYTES_MAX}"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    let shown = v1::HigherState::decode(&bytes[..]).map_err(|error| invalid(&error))?;
    if shown.authority.len() > SHOWN_MAX || shown.epochs.len() > SHOWN_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {SHOWN_MAX} versions of the authority and {SHOWN_MAX} raises are looked at, the oldest first"
        )));
    }
    shown.try_into().map_err(|error: InvalidEnvelope| invalid(&error))
}

#[cfg(test)]
mod tests;
