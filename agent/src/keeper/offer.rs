//! How the keeper takes an offered release: authority, signatures, judgement, slices, completeness, change, report.

use std::time::Duration;

use holdfast_policy::render::render;
use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::{DOWNLINK_BYTES_MAX, SLICE_BYTES_MAX, v1};
use tonic::{Code, Status};

use super::Keeper;
use crate::change::{Change, Ended, Offering};
use crate::inbox::Offer;
use crate::ledger::Judgement;
use crate::release::{VerifiedManifest, VerifiedRelease};

/// How soon a release that may still be taken is tried again, at the look that follows.
const RETRY_AFTER: Duration = Duration::from_secs(20);
/// How long a hub may take over all that an offer needs of it: while the keeper waits, nobody looks for drift.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(20);

/// How soon one that only root's ceiling keeps out is: each try asks the hub for all of it again.
const CEILING_RETRY_AFTER: Duration = Duration::from_secs(300);

/// An offer that may still be taken: it failed on this host, such as on a full disk, or was undone while the hub was not
/// seen up, or root does not allow it now. Tried again while no newer one has come.
#[derive(Debug)]
pub(super) struct Retry {
    offer: Offer,
    not_before: Duration,
    /// How the last try ended: told once, not at every try.
    detail: String,
}

/// What became of an offer, of which release as far as that is known, and when to try again if that may help.
struct Taken {
    generation: Option<Generation>,
    ended: Ended,
    again_after: Option<Duration>,
}

impl Taken {
    /// It was not applied. What failed may be mended, what was refused stays so.
    fn not(generation: Option<Generation>, ended: Ended) -> Self {
        let again_after = (ended.outcome == "failed").then_some(RETRY_AFTER);
        Self {
            generation,
            ended,
            again_after,
        }
    }

    fn unanswered() -> Self {
        let detail = "the hub offered a release and did not send what belongs to it in time";
        Self::not(None, Ended::new("failed", detail))
    }
}

impl Keeper {
    /// Takes up an offer that failed here, once its time has come.
    pub(super) async fn try_again(&mut self) {
        let now = self.host.clock.since_boot();
        if let Some(retry) = self.retry.take_if(|retry| retry.not_before <= now) {
            self.take_unless_told(retry.offer, &retry.detail).await;
        }
    }

    /// Takes an offered release through all of it, and reports how it ended.
    pub(super) async fn take(&mut self, offer: Offer) {
        self.retry = None;
        self.take_unless_told(offer, "").await;
    }

    async fn take_unless_told(&mut self, offer: Offer, told: &str) {
        let digest = offer.manifest.digest();
        let verified = tokio::time::timeout(VERIFY_TIMEOUT, self.verify(&offer)).await;
        let taken = match verified.unwrap_or_else(|_| Err(Taken::unanswered())) {
            // The hub knows from hello and heartbeat what is in force here.
            Ok(None) => return,
            Ok(Some((release, judgement))) => self.apply(&release, judgement, offer.hub.clone()).await,
            Err(_) if self.undone == Some(digest) => return,
            Err(taken) => taken,
        };
        let Taken {
            generation, ended, ..
        } = taken;
        if let Some(again_after) = taken.again_after {
            self.retry = Some(Retry {
                offer,
                not_before: self.host.clock.since_boot() + again_after,
                detail: ended.detail.clone(),
            });
            if ended.detail == told {
                return;
            }
        } else if ended.outcome == "undone" {
            self.undone = Some(digest);
        }
        let (number, detail) = (generation.map(|generation| generation.to_string()), &ended.detail);
        tracing::info!(generation = number, outcome = ended.outcome, detail, "release");
        self.report(generation, Some(digest), "release", ended).await;
    }

    /// Verifies an offer and fetches its slices; none if it is in force already.
    async fn verify(&mut self, offer: &Offer) -> Result<Option<(VerifiedRelease, Judgement)>, Taken> {
        let refused = Taken::not;
        self.walk_authority(&offer.hub)
            .await
            .map_err(|error| refused(None, error.into()))?;
        if self.ledger.is_in_force(offer.manifest.digest()) {
            return Ok(None);
        }
        let authority = self
            .ledger
            .authority()
            .map_err(|error| refused(None, Ended::refused(&error)))?;
        let now = self.host.clock.unix_secs();
        let manifest = VerifiedManifest::verify(&offer.manifest, &authority, now)
            .map_err(|error| refused(None, Ended::refused(&error)))?;
        let (value, digest) = (manifest.manifest().value(), manifest.manifest().digest());
        let generation = Some(value.generation());
        let judgement = self
            .ledger
            .judge(value, digest)
            .map_err(|error| refused(generation, Ended::refused(&error)))?;
        let labels = &self.ledger.labels.labels;
        let mut slices = Vec::new();
        for slice in value.select(labels) {
            let fetched = fetch(&offer.hub, slice.digest).await;
            // One that is left out is not fetched: completeness is judged in one place, below.
            slices.extend(fetched.map_err(|status| refused(generation, Ended::failed(&status)))?);
        }
        let release = manifest
            .complete(labels, &slices)
            .map_err(|error| refused(generation, Ended::refused(&error)))?;
        Ok(Some((release, judgement)))
    }

    async fn apply(&mut self, release: &VerifiedRelease, judgement: Judgement, hub: Offering) -> Taken {
        let manifest = release.manifest();
        let generation = Some(manifest.value().generation());
        let desired = match render(release.slices(), &self.members) {
            Ok(desired) => desired,
            Err(error) => return Taken::not(generation, Ended::refused(&error)),
        };
        let desired = match self.permit(desired).await {
            Ok(permitted) => permitted,
            Err(error) => {
                return Taken {
                    generation,
                    ended: Ended::refused(&error),
                    again_after: Some(CEILING_RETRY_AFTER),
                };
            }
        };
        let change = Change {
            release,
            desired,
            judgement,
            node_id: self.node_id,
        };
        let dialer = self.dialer.clone();
        let ended = self
            .host
            .make(&change, &mut self.ledger, &mut self.firewall, &dialer, hub)
            .await;
        if ended.outcome == "confirmed" {
            self.forget_old_members(release.slices());
        }
        let may_be_taken = match ended.outcome {
            "failed" => true,
            "undone" => !self.ledger.is_pinned_out(manifest.digest()),
            _ => false,
        };
        Taken {
            generation,
            ended,
            again_after: may_be_taken.then_some(RETRY_AFTER),
        }
    }
}

/// A slice's bytes from the hub; none if it does not give it.
async fn fetch(hub: &Offering, digest: Digest) -> Result<Option<Vec<u8>>, Status> {
    let request = v1::GetSliceRequest {
        digest: digest.to_string(),
    };
    let mut client = hub.client.clone().max_decoding_message_size(DOWNLINK_BYTES_MAX);
    let mut chunks = match client.get_slice(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        Err(status) => return Err(status),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() > SLICE_BYTES_MAX {
            return Err(Status::out_of_range("the hub sends more than a slice holds"));
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
