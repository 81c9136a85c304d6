//! A document as its signer reads it: from its bytes alone, against what this machine verified before.
//!
//! Each kind has its reader, a pure function, whose refusals are reasons not to sign. Here the readers get what they
//! compare with. Names of nodes are the hub's word, and are marked as such; nothing else that is unsigned is shown.

mod authority;
mod epoch;
mod grant;
mod labels;
mod release;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::Context as _;
use holdfast_pki::authority::RefuseAuthority;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{InvalidPayload, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::labels::LabelChange;
use holdfast_policy::release::Manifest;
use holdfast_policy::selector::Selector;
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation, TrustDomain};

pub(super) use self::authority::read as read_authority;
pub(super) use self::epoch::is_verified as is_verified_raise;
pub(super) use self::labels::read as read_labels;
pub(super) use self::release::next_generation;
use super::cosign::{Known, Proposal};
use super::epoch::hold;
use super::labels as node_labels;
use super::session::Session;
use super::{output, pins};

/// A document in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// What it is.
    pub(super) title: String,
    /// What it would change, a line each.
    pub(super) lines: Vec<String>,
}

impl Reading {
    /// The words, safe for a terminal.
    pub(super) fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("  {line}"));
        let all: Vec<_> = [self.title.clone()].into_iter().chain(lines).collect();
        output::clean_lines(&all.join("\n"))
    }
}

/// Why a document must not be signed here.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefuseDocument {
    #[error("it is for {got}, and this context is {own}: do not sign it")]
    TrustDomain { got: TrustDomain, own: TrustDomain },
    #[error("it is not the next version of the authority: discard it, and make the change anew")]
    Authority(#[source] RefuseAuthority),
    #[error(
        "release {got} is not made from {base}, the current release that this machine verified: discard it, and apply \
         the policy anew"
    )]
    Base { got: Generation, base: String },
    #[error(
        "the hub shows release {got} as the current one, and this machine has seen {seen}: was an old backup restored?"
    )]
    Forgotten { got: Generation, seen: Generation },
    #[error(
        "it is numbered {got} where {} is next: discard it, and apply the policy anew",
        .wanted.map_or_else(|| "no number".to_owned(), |wanted| wanted.to_string())
    )]
    Number {
        got: Generation,
        wanted: Option<Generation>,
    },
    #[error("release {got} is not of epoch {epoch}, which operators' signatures prove: do not sign it")]
    ReleaseEpoch { got: Generation, epoch: u64 },
    #[error(
        "release {got} allows nodes to go back to another release than the one before it: do not sign it"
    )]
    Return { got: Generation },
    #[error(
        "release {got} asks for authority version {asked}, and {newest} is the newest: apply the policy anew"
    )]
    AuthorityVersion {
        got: Generation,
        asked: u64,
        newest: u64,
    },
    #[error("slice {selector} ({}) is not the one that the release lists: do not sign it", .digest.short())]
    Slice { selector: Selector, digest: Digest },
    #[error(
        "it changes labels from version {from} on, and version {held} is in force: discard it, and label anew"
    )]
    Labels { from: u64, held: u64 },
    #[error("it raises epoch {old} to {new}, and the epoch is {held}: discard it")]
    Epoch { old: u64, new: u64, held: u64 },
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
}

fn of_fleet(got: &TrustDomain, own: &TrustDomain) -> Result<(), RefuseDocument> {
    if got == own {
        return Ok(());
    }
    Err(RefuseDocument::TrustDomain {
        got: got.clone(),
        own: own.clone(),
    })
}

/// Reads a document of any kind.
///
/// # Errors
/// Why it must not be signed, or what could not be got to compare it with.
pub(super) async fn read(session: &mut Session, proposal: &Proposal) -> anyhow::Result<Reading> {
    match proposal.kind {
        DraftKind::Authority => read_next_authority(session.known(), proposal),
        DraftKind::JoinGrant => read_grant(session.known(), proposal),
        DraftKind::Release => read_release(session, proposal).await,
        DraftKind::Labels => read_label_change(session, proposal).await,
        DraftKind::Epoch => {
            // Raises that lie behind are read whether they can be verified or not: they are signed again for that. The next
            // one is signed upon what is proven alone.
            let raise: EpochRaise = parse_payload(&proposal.envelope.payload)?;
            let mut held = session.epochs().await?.shown();
            if raise.old >= held {
                held = session.epoch().await?;
            }
            let hold = hold(session).await?;
            let ground = epoch::Ground {
                fleet: &session.context.trust_domain,
                held,
                verified: &session.dir().raises()?,
                hold: hold.as_deref(),
            };
            Ok(epoch::read(&ground, &proposal.envelope)?)
        }
    }
}

/// Reads a document against what this machine knows by itself; none of a kind for which that is not enough.
///
/// # Errors
/// Why it must not be signed.
pub(super) fn read_alone(known: Known<'_>, proposal: &Proposal) -> anyhow::Result<Option<Reading>> {
    match proposal.kind {
        DraftKind::Authority => read_next_authority(known, proposal).map(Some),
        DraftKind::JoinGrant => read_grant(known, proposal).map(Some),
        DraftKind::Epoch => {
            let ground = epoch::Ground {
                fleet: &known.context.trust_domain,
                held: pins::kept_epoch(known.dir)?,
                verified: &known.dir.raises()?,
                hold: None,
            };
            Ok(Some(epoch::read(&ground, &proposal.envelope)?))
        }
        DraftKind::Release | DraftKind::Labels => Ok(None),
    }
}

fn read_next_authority(known: Known<'_>, proposal: &Proposal) -> anyhow::Result<Reading> {
    Ok(authority::read(
        known.authority,
        &proposal.envelope,
        known.now_secs,
    )?)
}

fn read_grant(known: Known<'_>, proposal: &Proposal) -> anyhow::Result<Reading> {
    let fleet = &known.context.trust_domain;
    let highest = known.context.highest.as_ref().map(|seen| seen.generation);
    Ok(grant::read(fleet, highest, &proposal.envelope, known.now_secs)?)
}

async fn read_label_change(session: &mut Session, proposal: &Proposal) -> anyhow::Result<Reading> {
    let change: LabelChange = parse_payload(&proposal.envelope.payload)?;
    let nodes = session.nodes().await?;
    let node = nodes.into_iter().find(|node| node.id == change.node.to_string());
    let node = node.with_context(|| format!("the hub knows no node {}", change.node))?;
    let held = node_labels::held(session, &node.name).await?;
    Ok(labels::read(
        &session.context.trust_domain,
        &held,
        &node.name,
        &change,
    )?)
}

async fn read_release(session: &mut Session, proposal: &Proposal) -> anyhow::Result<Reading> {
    let manifest: Manifest = parse_payload(&proposal.envelope.payload)?;
    // The current release itself, signed by too few since the authority changed, and never verified on this machine.
    let shown = session.shown_manifest(None).await?;
    let is_current = shown.is_some_and(|shown| shown.digest() == proposal.envelope.digest());
    let unknown = is_current && session.verify_release(&proposal.envelope).is_err();
    let current = match unknown {
        true => None,
        false => session.release().await?,
    };
    let seen = match unknown {
        true => session.seen_release().await?,
        false => None,
    };
    let mut slices: BTreeMap<Digest, Slice> = BTreeMap::new();
    let known = current.iter().chain(&seen).flat_map(|release| &release.slices);
    for slice in known.chain(&proposal.slices) {
        slices.insert(slice.digest(), slice.clone());
    }
    for listed in &manifest.slices {
        if let Entry::Vacant(place) = slices.entry(listed.digest) {
            let slice = session.slice(listed.digest).await;
            place.insert(slice.with_context(|| format!("slice {} cannot be read", listed.selector))?);
        }
    }
    let ground = release::Ground {
        fleet: session.context.trust_domain.clone(),
        authority_version: session.authority.document().version,
        epoch: session.epoch().await?,
        current: current.as_ref(),
    };
    if unknown {
        return Ok(release::read_unknown(&ground, seen.as_ref(), &manifest, &slices)?);
    }
    Ok(release::read(&ground, &proposal.envelope, &slices)?)
}
