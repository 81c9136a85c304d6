//! What this machine has verified of a fleet, held against what a hub shows: the chain of authorities, the epoch.
//!
//! A hub that shows more is followed by its proofs. One that shows less was restored from an old backup, or is in an
//! enemy's hand: it is shown what was seen here, and holds its releases then.

use anyhow::{Context as _, bail, ensure};
use holdfast_pki::authority::{Act, Followed, RefuseEnvelope, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use holdfast_proto::v1::operator_client::OperatorClient;
use prost::Message as _;
use tonic::transport::Channel;

use super::document::is_verified_raise;
use super::output;
use crate::operator_dir::{Context, ContextDir, OperatorDirError};

/// The largest answer with versions of the authority: 32 of 64 KiB, with room.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A hub takes so many documents of a kind at once.
const SHOWN_MAX: usize = 32;
/// A chunk of what is shown, below every limit on messages.
const CHUNK_BYTES: usize = 32 * 1024;
/// The first epoch. It is raised only by a document of its own.
const FIRST_EPOCH: u64 = 1;
/// Whoever signs is told this long before the authority ends.
const EXPIRY_WARNING_SECS: u64 = 60 * 86_400;

/// How far a hub's versions of the authority reach.
pub(super) enum Walked {
    /// To this one, at least the one verified before.
    Reached(Box<TrustedAuthority>),
    /// Not even to the one verified before.
    HubBehind,
}

/// Walks from the authority that was verified here to the newest that the hub has, and keeps every version on the way.
pub(super) async fn walk(
    dir: &ContextDir,
    context: &mut Context,
    known: &TrustedAuthority,
    channel: &Channel,
) -> anyhow::Result<Walked> {
    let mut client = EnrollmentClient::new(channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX);
    let mut reached = known.clone();
    // The version held comes first, so that a hub with another one, or without it, is found out.
    let mut after_version = known.document().version - 1;
    let mut walked = Vec::new();
    loop {
        let request = v1::GetAuthorityRequest { after_version };
        let reply = client.get_authority(request).await?.into_inner();
        let versions: Vec<Envelope> = reply
            .versions
            .into_iter()
            .map(Envelope::try_from)
            .collect::<Result<_, _>>()?;
        if after_version < known.document().version {
            match versions.first() {
                None => return Ok(Walked::HubBehind),
                Some(same) => ensure!(
                    same.digest() == known.pin().digest,
                    "the hub shows another authority version {} ({}) than this machine has verified ({}): \
                     somebody signed two, or this is another fleet's hub. Do not sign anything here",
                    known.document().version,
                    same.digest().short(),
                    known.pin().digest.short()
                ),
            }
        }
        let Followed { steps, refused } = reached.follow(&versions);
        if let Some(refused) = refused {
            return Err(refused.into());
        }
        reached = steps.last().unwrap_or(&reached).clone();
        walked.extend(steps);
        if reached.document().version <= after_version || versions.is_empty() {
            break;
        }
        after_version = reached.document().version;
    }
    if !walked.is_empty() {
        tell_if_forgotten(dir.remember_authority(context, &walked));
    }
    Ok(Walked::Reached(Box::new(reached)))
}

/// Shows a hub what it lacks: every version of the authority, every raise and the highest release that are kept here.
pub(super) async fn show(dir: &ContextDir, client: &mut OperatorClient<Channel>) -> anyhow::Result<()> {
    let last = |documents: Vec<Envelope>| -> Vec<v1::Envelope> {
        let from = documents.len().saturating_sub(SHOWN_MAX);
        documents[from..].iter().map(Into::into).collect()
    };
    let higher = v1::HigherState {
        authority: last(dir.authority_chain()?),
        epochs: last(dir.raises()?),
        manifest: dir.manifest()?.as_ref().map(Into::into),
    };
    let bytes = higher.encode_to_vec();
    let chunks: Vec<_> = bytes
        .chunks(CHUNK_BYTES)
        .map(|chunk| v1::ShowRequest {
            chunk: chunk.to_vec().into(),
        })
        .collect();
    let reply = client.show(tokio_stream::iter(chunks)).await;
    let reply = reply.context("the hub knows less than this machine, and does not take it")?;
    if reply.into_inner().holds {
        output::remark(
            "warning: the hub knew less than this machine has verified: it was restored from an old backup, or \
             somebody tampers with it. It serves no release until the epoch is raised",
        );
    }
    Ok(())
}

/// The epoch that the raises prove which were verified here: those of the hub may go further.
pub(super) fn kept_epoch(dir: &ContextDir) -> anyhow::Result<u64> {
    let Some(last) = dir.raises()?.pop() else {
        return Ok(FIRST_EPOCH);
    };
    let raise: EpochRaise = parse_payload(&last.payload)?;
    Ok(raise.new)
}

/// The epochs that a hub shows.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Every raise, oldest first; each follows the one before.
    pub(super) raises: Vec<Envelope>,
    /// How many of them, from the first on, operators are known to have signed: by today's authority, or as this machine
    /// verified them before.
    pub(super) verified: usize,
    /// Why the next one is not.
    refused: Option<RefuseEnvelope>,
}

impl Epochs {
    /// The epoch to which the hub's raises lead, whoever signed them.
    pub(super) fn shown(&self) -> u64 {
        FIRST_EPOCH + self.raises.len() as u64
    }

    /// The epoch that operators' signatures prove.
    fn proven(&self) -> u64 {
        FIRST_EPOCH + self.verified as u64
    }
}

/// Gets the epochs that a hub shows, and keeps the raises that are verified.
pub(super) async fn epochs(
    dir: &ContextDir,
    authority: &TrustedAuthority,
    client: &mut OperatorClient<Channel>,
    now_secs: u64,
) -> anyhow::Result<Epochs> {
    let (known, raises) = (dir.raises()?, raises(client).await?);
    let fleet = &authority.document().trust_domain;
    let mut epochs = Epochs {
        raises: Vec::new(),
        verified: 0,
        refused: None,
    };
    for envelope in raises {
        let raise: EpochRaise = parse_payload(&envelope.payload)?;
        ensure!(
            raise.follows(fleet, epochs.shown()),
            "the hub's epoch raises do not follow one another: {} to {} after {}",
            raise.old,
            raise.new,
            epochs.shown()
        );
        let signed = authority.verify::<EpochRaise>(&envelope, &Act::Epoch, now_secs);
        if epochs.refused.is_none() {
            match signed {
                Err(refused) if !is_verified_raise(&known, &envelope) => epochs.refused = Some(refused),
                _ => epochs.verified += 1,
            }
        }
        epochs.raises.push(envelope);
    }
    if epochs.raises.len() < known.len() {
        show(dir, client).await?;
        bail!("the hub has forgotten an epoch that this machine has verified: look at `holdfast epoch show`");
    }
    tell_if_forgotten(dir.remember_raises(&epochs.raises[..epochs.verified]));
    Ok(epochs)
}

/// The epoch that the hub's raises prove.
pub(super) async fn epoch(
    dir: &ContextDir,
    authority: &TrustedAuthority,
    client: &mut OperatorClient<Channel>,
    now_secs: u64,
) -> anyhow::Result<u64> {
    let epochs = epochs(dir, authority, client, now_secs).await?;
    let proven = epochs.proven();
    match epochs.refused {
        None => Ok(proven),
        Some(refused) => Err(refused).context(
            "the hub's epoch is not what operators signed. If whoever raised it was dropped since: an admin who has \
             seen that epoch, or the admins together, sign the raise again (`holdfast epoch endorse`)",
        ),
    }
}

/// The raises that a hub shows, oldest first: nothing is known of them yet.
async fn raises(client: &mut OperatorClient<Channel>) -> anyhow::Result<Vec<Envelope>> {
    let reply = client.get_epoch(v1::GetEpochRequest {}).await?.into_inner();
    let raises = reply.raises.into_iter().map(Envelope::try_from);
    Ok(raises.collect::<Result<_, _>>()?)
}

/// Warns where what was verified cannot be written down: no reason to stop somebody who is about to revoke a thief's access
/// on a machine whose disk is full.
pub(super) fn tell_if_forgotten(remembered: Result<(), OperatorDirError>) {
    if let Err(error) = remembered {
        let error = anyhow::Error::from(error);
        output::remark(&format!(
            "warning: this machine cannot write down what it verified, and would not notice if a hub went back behind \
             it: {error:#}"
        ));
    }
}

/// Tells whoever is at the console that the authority ends soon.
pub(super) fn warn_of_expiry(authority: &TrustedAuthority, now_secs: u64) {
    let expires_secs = authority.document().expires_secs;
    if now_secs >= expires_secs {
        output::remark(
            "warning: the authority has expired: nodes take nothing new but a newer version (`holdfast authority renew`)",
        );
    } else if expires_secs - now_secs < EXPIRY_WARNING_SECS {
        output::remark(&format!(
            "warning: the authority expires in {} days: sign a new version (`holdfast authority renew`)",
            (expires_secs - now_secs) / 86_400
        ));
    }
}

#[cfg(test)]
mod tests;
