//! `holdfast authority`: who may sign what. Each change makes the next version, which the operators sign together.

mod compose;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use holdfast_pki::access::OperatorRequest;
use holdfast_pki::authority::{Act, Role};
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files::read_bounded;
use holdfast_proto::ids::{Digest, Name};
use serde_json::json;

use self::compose::Change;
use super::cosign::{self, Finished, Place, Proposal};
use super::document;
use super::draft::{self, Drafted, Signed};
use super::{Ending, Format, Operator, ask, output};

/// The largest request that is read; an honest one has a few hundred bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
const SIGN_THIS: &str = "Sign this?";

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

/// What every command takes that makes a version.
#[derive(Debug, Args)]
struct Making {
    /// Sign without being asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
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
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<Digest>,
    #[command(flatten)]
    making: Making,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast authority remove bob")]
pub(super) struct Remove {
    /// The operator
    name: Name,
    #[command(flatten)]
    making: Making,
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
    making: Making,
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
    making: Making,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast authority renew --for 730d\n\n\
    Past its end nodes keep what is in force, and accept nothing new but a newer version.")]
pub(super) struct Renew {
    /// How long it is good for, from now
    #[arg(long = "for", value_name = "TIME", default_value = "730d", value_parser = lifetime)]
    lifetime: Duration,
    #[command(flatten)]
    making: Making,
}

/// Shorter than a day it would end before all nodes have heard of it; longer than ten years is no end, and the roots live
/// no longer.
fn lifetime(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(86_400);
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match lifetime {
        short if short < DAY => Err("a day at least wanted, such as 730d".to_owned()),
        long if long > 3653 * DAY => Err("ten years at most wanted, such as 730d".to_owned()),
        fits => Ok(fits),
    }
}

impl AuthorityCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Show(show) => show.run().await,
            Self::Add(add) => add.run().await,
            Self::Remove(Remove { name, making }) => making.change(Change::Remove(name)).await,
            Self::Role(SetRole { name, role, making }) => making.change(Change::Role(name, role)).await,
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
        self.making.change(change).await
    }
}

impl Renew {
    async fn run(self) -> anyhow::Result<Ending> {
        let expires_secs = SystemClock.unix_secs().saturating_add(self.lifetime.as_secs());
        self.making.change(Change::Renew(expires_secs)).await
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<Ending> {
        let envelope = self.read_request()?;
        let request = OperatorRequest::verify(&envelope)?;
        let fingerprint = envelope.digest();
        let question = match self.fingerprint {
            Some(told) if told != fingerprint => bail!(
                "the request has the fingerprint {fingerprint}, not {told}: this is not what the new operator's machine \
                 made. Nothing was signed"
            ),
            Some(_) => SIGN_THIS.to_owned(),
            None => {
                output::remark(&format!("fingerprint of the request: {fingerprint}"));
                format!(
                    "Does {} read the same fingerprint to you, and do you sign this?",
                    request.name
                )
            }
        };
        self.making.ask(Change::Add(request, self.role), &question).await
    }

    fn read_request(&self) -> anyhow::Result<Envelope> {
        let path = self.request.display();
        let bytes = read_bounded(&self.request, REQUEST_BYTES_MAX)
            .with_context(|| format!("cannot read the request {path}"))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{path} is no request that `holdfast context add` made"))
    }
}

impl Making {
    async fn change(self, change: Change) -> anyhow::Result<Ending> {
        self.ask(change, SIGN_THIS).await
    }

    /// Composes the next version, shows it as a co-signer will read it (the proof that it is what was meant), asks, signs.
    async fn ask(self, change: Change, question: &str) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        // While its signers are still listed this machine can verify the current release, and knows it from then on.
        if let Err(error) = session.release().await {
            output::remark(&format!(
                "warning: the current release is not known here: {error:#}"
            ));
        }
        let now_secs = session.clock.unix_secs();
        let envelope = compose::next(&session.authority, change, now_secs)?;
        let reading = document::read_authority(&session.authority, &envelope, now_secs)?;
        output::remark(&reading.text());
        ask::confirm(question, self.yes)?;
        let proposal = Proposal {
            kind: DraftKind::Authority,
            envelope,
            slices: Vec::new(),
        };
        let finished = cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
        if let Finished::Waiting(waiting) = finished {
            return Ok(waiting.tell(self.operator.output));
        }
        let pin = session.authority.pin();
        match self.operator.output {
            Format::Json => output::json(json!({
                "authority": { "version": pin.version, "digest": pin.digest },
                "changes": reading.lines,
            })),
            Format::Table => output::say(&format!("authority version {} is in force", pin.version)),
        }
        Ok(Ending::Done)
    }
}
