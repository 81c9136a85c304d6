//! `holdfast draft`: documents that wait for signatures, on the hub or in a file.

mod by_file;
mod find;

use std::path::Path;

use anyhow::bail;
use clap::{Args, Subcommand};
use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::draft::DraftKind;
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use serde_json::json;

use self::find::Found;
use super::cosign::{self, Finished, Place, Standing, names};
use super::document::Reading;
use super::{Ending, Format, Operator, answered, ask, document, output};

#[derive(Debug, Subcommand)]
pub(super) enum DraftCommand {
    /// List the documents that wait on the hub
    List(List),
    /// Show what a document would change, and who signed it
    Show(Drafted),
    /// Read a document and sign it. With enough signatures it is published
    Sign(Signed),
    /// Publish a document that is signed by enough operators
    Publish(Drafted),
    /// Drop a document that waits on the hub
    Discard(Drafted),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast draft list")]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast draft show 9f2c41d07ab3\n  \
    holdfast draft publish release.draft\n  \
    holdfast draft discard 9f2c41d07ab3")]
pub(super) struct Drafted {
    /// A draft's file, or the beginning of its digest on the hub
    #[arg(value_name = "FILE|DIGEST")]
    what: String,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast draft sign 9f2c41d07ab3\n  \
    holdfast draft sign release.draft --yes\n\n\
    What you sign is shown from its own bytes, against what this machine has verified before. A draft on the hub is\n\
    published with the last signature. A file is signed in place, and published by `holdfast draft publish FILE`; for\n\
    the authority, an epoch or a join grant that takes no hub.")]
pub(super) struct Signed {
    /// A draft's file, or the beginning of its digest on the hub
    #[arg(value_name = "FILE|DIGEST")]
    what: String,
    /// Sign without being asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: Operator,
}

impl DraftCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::List(List { operator }) => list(&operator).await,
            Self::Show(drafted) => show(drafted).await,
            Self::Sign(signed) => sign(signed, None).await,
            Self::Publish(drafted) => publish(drafted, None).await,
            Self::Discard(drafted) => discard(drafted).await,
        }
    }
}

async fn list(operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let drafts = find::on_hub(&mut session).await?;
    // So that drafts of releases which another one has overtaken are told apart.
    if let Err(error) = session.release().await {
        output::remark(&format!(
            "warning: the current release is not known here: {error:#}"
        ));
    }
    match operator.output {
        Format::Json => {
            let drafts: Vec<_> = drafts
                .iter()
                .map(|draft| {
                    draft.to_json(
                        &session.authority,
                        find::is_overtaken(session.known(), &draft.proposal),
                    )
                })
                .collect();
            output::json(json!({ "drafts": drafts }));
        }
        Format::Table if drafts.is_empty() => output::remark("no document waits for signatures"),
        Format::Table => {
            let now_secs = session.clock.unix_secs();
            let row = |draft: &Found| {
                let standing =
                    Standing::of(&session.authority, draft.proposal.kind, &draft.proposal.envelope);
                let left = match find::is_overtaken(session.known(), &draft.proposal) {
                    true => "overtaken: discard it".to_owned(),
                    false => names(&standing.can_sign()),
                };
                vec![
                    draft.digest().short(),
                    draft.proposal.kind.as_str().to_owned(),
                    output::clean(&draft.put_by),
                    output::left(now_secs.saturating_sub(draft.at_secs)),
                    standing.count(),
                    left,
                ]
            };
            let rows: Vec<_> = drafts.iter().map(row).collect();
            let head = ["DRAFT", "KIND", "BY", "AGE", "SIGNED", "CAN SIGN"];
            output::say(&output::table(&head, &rows));
        }
    }
    Ok(Ending::Done)
}

async fn show(drafted: Drafted) -> anyhow::Result<Ending> {
    if Path::new(&drafted.what).exists()
        && let Some((found, authority, reading)) = by_file::read_alone(&drafted)?
    {
        return Ok(shown(&found, &authority, reading, drafted.operator.output));
    }
    let mut session = drafted.operator.session().await?;
    let found = find::find(&mut session, &drafted.what, None).await?;
    let reading = document::read(&mut session, &found.proposal).await?;
    Ok(shown(
        &found,
        &session.authority,
        reading,
        drafted.operator.output,
    ))
}

fn shown(found: &Found, authority: &TrustedAuthority, reading: Reading, format: Format) -> Ending {
    match format {
        Format::Json => {
            let mut draft = found.to_json(authority, false);
            draft["title"] = reading.title.into();
            draft["changes"] = reading.lines.into();
            output::json(json!({ "draft": draft }));
        }
        Format::Table => {
            let standing = Standing::of(authority, found.proposal.kind, &found.proposal.envelope);
            output::say(&reading.text());
            output::say(&format!("digest {}\n{standing}", found.digest()));
        }
    }
    Ending::Done
}

/// Reads a document to whoever sits here, and signs it on their word. One on the hub is published with the last signature.
pub(super) async fn sign(signed: Signed, only: Option<DraftKind>) -> anyhow::Result<Ending> {
    if Path::new(&signed.what).exists() {
        return by_file::sign(signed, only).await;
    }
    let mut session = signed.operator.session().await?;
    let found = find::find(&mut session, &signed.what, only).await?;
    let reading = document::read(&mut session, &found.proposal).await?;
    output::remark(&reading.text());
    let standing = Standing::of(&session.authority, found.proposal.kind, &found.proposal.envelope);
    output::remark(&standing.to_string());
    ask::confirm("Sign this?", signed.yes)?;
    let digest = found.digest();
    let place = Place { draft_file: None };
    let finished = cosign::finish(&mut session, found.proposal, &signed.operator.signing, &place).await?;
    match finished {
        Finished::Waiting(waiting) => Ok(waiting.tell(signed.operator.output)),
        Finished::Published(_) => Ok(published(&reading.title, digest, signed.operator.output)),
    }
}

/// Publishes a document that needs no signature any more.
pub(super) async fn publish(drafted: Drafted, only: Option<DraftKind>) -> anyhow::Result<Ending> {
    let mut session = drafted.operator.session().await?;
    let found = find::find(&mut session, &drafted.what, only).await?;
    // First: why it must not be signed at all says more than how many did.
    let reading = document::read(&mut session, &found.proposal).await?;
    let standing = Standing::of(&session.authority, found.proposal.kind, &found.proposal.envelope);
    if !standing.is_complete() {
        bail!("it cannot be published yet: it is {standing}");
    }
    cosign::conclude(&mut session, &found.proposal).await?;
    Ok(published(&reading.title, found.digest(), drafted.operator.output))
}

fn published(title: &str, digest: Digest, format: Format) -> Ending {
    match format {
        Format::Json => output::json(json!({ "published": { "title": title, "digest": digest } })),
        Format::Table => output::say(&format!("published: {}", output::clean(title))),
    }
    Ending::Done
}

async fn discard(drafted: Drafted) -> anyhow::Result<Ending> {
    let mut session = drafted.operator.session().await?;
    let found = find::find(&mut session, &drafted.what, None).await?;
    if let Some(path) = found.file {
        bail!("{} is a file of your own: delete it", path.display());
    }
    let digest = found.digest();
    let request = v1::DiscardDraftRequest {
        digest: digest.to_string(),
    };
    answered(session.client.discard_draft(request).await)?;
    match drafted.operator.output {
        Format::Json => output::json(json!({ "discarded": digest })),
        Format::Table => output::say(&format!("draft {} discarded", digest.short())),
    }
    Ok(Ending::Done)
}
