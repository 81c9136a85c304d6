//! `holdfast authority`: who may sign what. Each change makes the next version, which the operators sign together.

mod compose;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use holdfast_pki::access::OperatorRequest;
use holdfast_pki::authority::{Act, Role};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::{Digest, Name};
use serde_json::json;

use self::compose::Change;
use super::cosign::{self, Finished, Place, Proposal};
use super::document::{self, Reading};
use super::draft::{self, Drafted, Signed};
use super::session::Session;
use super::{Ending, Format, Operator, ask, output};

/// The largest request that is read; an honest one has a few hundred bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Show who may sign what, until when, and how many nodes know of it
    Show(show::Show),
    /// Add an operator, from the request that `holdfast context add` made on the new operator's machine
    Add(Add),
    /// Drop an operator. The key is revoked for ever, and access to the hub ends at once
    Remove(Remove),
    /// Change what an operator may sign
    Role(SetRole),
    /// Change how many signatures an act needs
    Threshold(Threshold),
    /// Set another end
    Renew(Renew),
    /// Read and sign a version that another operator prepared
    Sign(Signed),
    /// Publish a version that is signed by enough operators
    Publish(Drafted),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast authority add bob.request --role operator\n  \
    holdfast authority add bob.request --role operator --fingerprint 5b03868a..c1\n\n\
    The fingerprint is what ties the request to the person: hear it from them, not from who brought the file.")]
pub(super) struct Add {
    /// The request's file
    request: PathBuf,
    /// What the operator may sign: viewer, proposer, operator or admin
    #[arg(long)]
    role: Role,
    /// The request's fingerprint, as the new operator told it; without it you are asked to compare
    #[arg(long, value_name = "HEX", conflicts_with = "yes")]
    fingerprint: Option<Digest>,
    /// Do not ask to compare the fingerprint
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast authority remove bob")]
pub(super) struct Remove {
    /// The operator
    name: Name,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast authority role bob admin\n\n\
    viewer: signs nothing. proposer: prepares documents for others to sign. operator: signs releases, joins, labels,\n\
    actions, the emergency stop. admin: signs everything, the authority and the epoch too.")]
pub(super) struct SetRole {
    /// The operator
    name: Name,
    /// viewer, proposer, operator or admin
    role: Role,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast authority threshold release 2\n  \
    holdfast authority threshold action/reboot 2\n  \
    holdfast authority threshold action/reboot --remove")]
pub(super) struct Threshold {
    /// authority, epoch, release, join, label, stop, action, or action/KIND for the actions of one kind
    act: Act,
    /// How many operators must sign
    #[arg(value_name = "COUNT", required_unless_present = "remove")]
    needed: Option<u32>,
    /// Let the actions of that kind need as many as any other action
    #[arg(long, conflicts_with = "needed")]
    remove: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast authority renew --for 730d\n\n\
    Past its end nodes keep what is in force, and accept nothing new but a newer version.")]
pub(super) struct Renew {
    /// How long it is good for, from now
    #[arg(long = "for", value_name = "TIME", default_value = "730d", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

impl AuthorityCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Add(add) => add.run().await,
            Self::Remove(remove) => make(Change::Remove(remove.name), &remove.place, &remove.operator).await,
            Self::Role(set) => make(Change::Role(set.name, set.role), &set.place, &set.operator).await,
            Self::Threshold(threshold) => threshold.run().await,
            Self::Renew(renew) => renew.run().await,
            Self::Sign(signed) => draft::sign(signed, Some(DraftKind::Authority)).await,
            Self::Publish(drafted) => draft::publish(drafted, Some(DraftKind::Authority)).await,
        }
    }
}

impl Threshold {
    async fn run(self) -> anyhow::Result<Ending> {
        let change = match self.needed {
            Some(needed) => Change::Threshold(self.act, needed),
            None => Change::DropThreshold(self.act),
        };
        make(change, &self.place, &self.operator).await
    }
}

impl Renew {
    async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let expires_secs = session.clock.unix_secs().saturating_add(self.lifetime.as_secs());
        let (proposal, reading) = compose(&session, Change::Renew(expires_secs))?;
        output::remark(&reading.text());
        finish(&mut session, proposal, &reading, &self.place, &self.operator).await
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<Ending> {
        let envelope = self.read_request()?;
        let request = OperatorRequest::verify(&envelope)?;
        let fingerprint = envelope.digest();
        if let Some(told) = self.fingerprint
            && told != fingerprint
        {
            bail!(
                "the request has the fingerprint {fingerprint}, not {told}: this is not what the new operator's machine \
                 made. Nothing was signed"
            );
        }
        let mut session = self.operator.session().await?;
        let name = request.name.clone();
        let (proposal, reading) = compose(&session, Change::Add(request, self.role))?;
        output::remark(&reading.text());
        output::remark(&format!("fingerprint of the request: {fingerprint}"));
        let question = format!("Does {name} read the same fingerprint to you?");
        ask::confirm(&question, self.yes || self.fingerprint.is_some())?;
        finish(&mut session, proposal, &reading, &self.place, &self.operator).await
    }

    fn read_request(&self) -> anyhow::Result<Envelope> {
        let path = self.request.display();
        let size = std::fs::metadata(&self.request)
            .with_context(|| format!("cannot read {path}"))?
            .len();
        if size > REQUEST_BYTES_MAX {
            bail!("{path} has {size} bytes: it is no request");
        }
        let bytes = std::fs::read(&self.request).with_context(|| format!("cannot read {path}"))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{path} is no request that `holdfast context add` made"))
    }
}

async fn make(change: Change, place: &Place, operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let (proposal, reading) = compose(&session, change)?;
    output::remark(&reading.text());
    finish(&mut session, proposal, &reading, place, operator).await
}

/// The next version with `change` in it, and how a co-signer will read it: the proof that it is what was meant.
fn compose(session: &Session, change: Change) -> anyhow::Result<(Proposal, Reading)> {
    let now_secs = session.clock.unix_secs();
    let envelope = compose::next(&session.authority, change, now_secs)?;
    let reading = document::read_authority(&session.authority, &envelope, now_secs)?;
    let proposal = Proposal {
        kind: DraftKind::Authority,
        envelope,
        slices: Vec::new(),
    };
    Ok((proposal, reading))
}

async fn finish(
    session: &mut Session,
    proposal: Proposal,
    reading: &Reading,
    place: &Place,
    operator: &Operator,
) -> anyhow::Result<Ending> {
    if let Finished::Waiting(waiting) = cosign::finish(session, proposal, &operator.signing, place).await? {
        return Ok(waiting.tell(operator.output));
    }
    let pin = session.authority.pin();
    match operator.output {
        Format::Json => output::json(json!({
            "authority": { "version": pin.version, "digest": pin.digest },
            "changes": reading.lines,
        })),
        Format::Table => output::say(&format!("authority version {} is in force", pin.version)),
    }
    Ok(Ending::Done)
}
