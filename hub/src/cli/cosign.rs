//! Signing together: the one way on which every document that operators sign leaves this machine.
//!
//! This operator's signature is added where the role counts. With enough signatures the document is published, else it
//! waits as a draft, on the hub or in a file, for those who can still sign it. How far it is, is worked out here
//! ([`Standing`]); the hub's word about it counts for nothing.

pub(super) mod file;
mod publish;
mod standing;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use holdfast_pki::authority::{Role, TrustedAuthority};
use holdfast_pki::draft::{DraftKind, merge_signatures};
use holdfast_pki::envelope::Envelope;
use holdfast_policy::slice::Slice;
use holdfast_proto::v1;
use serde_json::{Value, json};

use self::publish::publish;
pub(super) use self::standing::{Standing, names};
use super::session::Session;
use super::signer::Signer;
use super::{Ending, Format, Signing, answered, output};
use crate::operator_dir::{Context, ContextDir};

/// A document to be signed together.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) kind: DraftKind,
    pub(super) envelope: Envelope,
    /// The slices that a release names; of no other kind. Those that the hub has need not be here.
    pub(super) slices: Vec<Slice>,
}

/// Where a document waits for more signatures.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// If it needs more signatures than yours, write it to FILE instead of leaving it on the hub
    #[arg(long, value_name = "FILE")]
    pub(super) draft_file: Option<PathBuf>,
}

/// How far a document came.
#[derive(Debug)]
pub(super) enum Finished {
    /// It is in force, with these signatures.
    Published(Envelope),
    /// It waits for others.
    Waiting(Waiting),
}

/// A document that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    kind: DraftKind,
    envelope: Envelope,
    standing: Standing,
    file: Option<PathBuf>,
}

/// What this machine knows of a fleet by itself: enough to sign where no hub is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) dir: &'a ContextDir,
    pub(super) context: &'a Context,
    pub(super) authority: &'a TrustedAuthority,
    pub(super) now_secs: u64,
}

/// Signs a document and publishes it, or leaves it where others find it.
pub(super) async fn finish(
    session: &mut Session,
    mut proposal: Proposal,
    signing: &Signing,
    place: &Place,
) -> anyhow::Result<Finished> {
    let kind = proposal.kind;
    sign(session.known(), kind, &mut proposal.envelope, signing)?;
    let complete = |session: &Session, proposal: &Proposal| {
        Standing::of(&session.authority, kind, &proposal.envelope).is_complete()
    };
    if !complete(session, &proposal) {
        if let Some(path) = &place.draft_file {
            // It may hold what others have signed.
            ensure!(
                !path.exists(),
                "{} is there already: sign it with `holdfast draft sign`, or give another --draft-file",
                path.display()
            );
            file::write(session.dir().files(), path, &proposal)?;
            let waiting = Waiting::new(&session.authority, proposal, Some(path.clone()));
            return Ok(Finished::Waiting(waiting));
        }
        upload(session, &proposal.slices).await?;
        put(session, kind, &mut proposal.envelope).await?;
        // Another signer may have been there first: the hub knows of that signature.
        if !complete(session, &proposal) {
            return Ok(Finished::Waiting(Waiting::new(
                &session.authority,
                proposal,
                None,
            )));
        }
    }
    conclude(session, &proposal).await?;
    Ok(Finished::Published(proposal.envelope))
}

/// Brings a document into force that is signed enough.
pub(super) async fn conclude(session: &mut Session, proposal: &Proposal) -> anyhow::Result<()> {
    upload(session, &proposal.slices).await?;
    publish(session, proposal.kind, &proposal.envelope).await
}

/// Adds this operator's signature, if it would count and is not there.
pub(super) fn sign(
    known: Known<'_>,
    kind: DraftKind,
    envelope: &mut Envelope,
    signing: &Signing,
) -> anyhow::Result<()> {
    let own = &known.context.operator;
    let version = known.authority.document().version;
    let Some(key) = known.authority.operator(own) else {
        bail!("authority version {version} lists no operator '{own}': nothing was signed");
    };
    if !key.role.may_sign(&kind.act()) {
        if key.role < Role::Proposer {
            bail!("a viewer signs and proposes nothing: ask an admin for another role");
        }
        output::remark(&format!(
            "your role is {}: your signature does not count for this, others must give theirs",
            key.role
        ));
        return Ok(());
    }
    if Standing::of(known.authority, kind, envelope)
        .signers()
        .contains(own)
    {
        return Ok(());
    }
    let signer = Signer::open(known.dir, signing)?;
    if signer.key_id() != key.id {
        bail!(
            "the signing key on this machine is {}, authority version {version} lists {} for '{own}': nothing was signed",
            signer.key_id().short(),
            key.id.short()
        );
    }
    signer.sign(kind.as_str(), envelope)
}

async fn upload(session: &mut Session, slices: &[Slice]) -> anyhow::Result<()> {
    for slice in slices {
        session
            .write_slice(slice.digest(), &slice.to_bytes())
            .await
            .context("the hub did not take a slice")?;
    }
    Ok(())
}

/// Leaves a draft on the hub, and takes what others signed meanwhile.
async fn put(session: &mut Session, kind: DraftKind, envelope: &mut Envelope) -> anyhow::Result<()> {
    let request = v1::PutDraftRequest {
        kind: kind.as_str().to_owned(),
        draft: Some((&*envelope).into()),
    };
    let reply =
        answered(session.client.put_draft(request).await).context("the hub did not take the draft")?;
    let held = Envelope::try_from(reply.draft.and_then(|draft| draft.envelope))?;
    if held.digest() == envelope.digest() {
        merge_signatures(envelope, &held);
    }
    Ok(())
}

impl Waiting {
    pub(super) fn new(authority: &TrustedAuthority, proposal: Proposal, file: Option<PathBuf>) -> Self {
        Self {
            standing: Standing::of(authority, proposal.kind, &proposal.envelope),
            kind: proposal.kind,
            envelope: proposal.envelope,
            file,
        }
    }

    /// Who must sign yet, and how; a file that is signed enough waits to be published.
    pub(super) fn text(&self) -> String {
        let digest = self.envelope.digest().short();
        let what = self
            .file
            .as_ref()
            .map_or_else(|| digest.clone(), |path| path.display().to_string());
        let next = match self.standing.is_complete() {
            true => format!("publish it with: holdfast draft publish {what}"),
            false => format!("they read and sign it with: holdfast draft sign {what}"),
        };
        format!("{} {digest} waits: {}\n{next}", self.kind.as_str(), self.standing)
    }

    /// Tells that the document waits.
    pub(super) fn tell(&self, format: Format) -> Ending {
        match format {
            Format::Json => output::json(json!({ "draft": self.to_json() })),
            Format::Table => output::say(&self.text()),
        }
        match self.standing.is_complete() {
            true => Ending::Done,
            false => Ending::Waiting,
        }
    }

    /// The draft in the shape that docs/json.md describes.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "kind": self.kind,
            "digest": self.envelope.digest(),
            "standing": self.standing.to_json(),
            "file": self.file,
        })
    }
}
