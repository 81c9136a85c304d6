//! `holdfast epoch`: where a history begins anew, after a hub's store was lost or went back.

use clap::{Args, Subcommand};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use serde_json::json;

use super::cosign::{self, Finished, Place, Proposal, Standing};
use super::pins::Epochs;
use super::session::Session;
use super::{Ending, Format, Operator, ask, document, output};

#[derive(Debug, Subcommand)]
pub(super) enum EpochCommand {
    /// Show the epoch, and whether the hub holds its releases
    Show(Show),
    /// Begin the next epoch, and end a hub's hold
    Raise(Raise),
    /// Sign the raises that lie behind, so that nodes which were away can follow them
    Endorse(Endorse),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast epoch show")]
pub(super) struct Show {
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast epoch raise && holdfast policy apply ./policy\n\n\
    For after a restore from a backup: nodes may hold releases that the hub has forgotten, under numbers that would be\n\
    given again. Every node then refuses the releases of the old epoch, also those that somebody kept. What is in force\n\
    stays so until the first release of the new epoch, which `holdfast policy apply` makes."
)]
pub(super) struct Raise {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast authority remove bob && holdfast epoch endorse\n\n\
    A node that was away follows a raise only if operators signed it who are listed today. One that this machine never\n\
    verified is shown, and you are asked."
)]
pub(super) struct Endorse {
    /// Sign without being asked, also what this machine has never verified
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

impl EpochCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Show(Show { operator }) => show(&operator).await,
            Self::Raise(raise) => raise.run().await,
            Self::Endorse(endorse) => endorse.run().await,
        }
    }
}

async fn show(operator: &Operator) -> anyhow::Result<Ending> {
    let mut session = operator.session().await?;
    let epoch = session.epoch().await?;
    let hold = hold(&mut session).await?;
    match operator.output {
        Format::Json => output::json(json!({ "epoch": epoch, "hold": hold })),
        Format::Table => {
            output::say(&format!("{:6} {epoch}", "epoch"));
            let told = hold.as_deref().unwrap_or("none: releases are served");
            output::say(&format!("{:6} {}", "hold", output::clean(told)));
        }
    }
    Ok(Ending::Done)
}

/// Why the hub serves no release, as it says; none if it serves them.
pub(super) async fn hold(session: &mut Session) -> anyhow::Result<Option<String>> {
    let reply = session
        .client
        .get_epoch(v1::GetEpochRequest {})
        .await?
        .into_inner();
    Ok(Some(reply.hold).filter(|hold| !hold.is_empty()))
}

impl Raise {
    async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let old = session.epoch().await?;
        let raise = EpochRaise {
            kind: EpochRaise::KIND.to_owned(),
            format: EpochRaise::FORMAT,
            trust_domain: session.context.trust_domain.clone(),
            old,
            new: old + 1,
            checkpoint: None,
        };
        let proposal = Proposal {
            kind: DraftKind::Epoch,
            envelope: Envelope::unsigned(serde_json::to_vec(&raise).expect("texts and numbers")),
            slices: Vec::new(),
        };
        let reading = document::read(&mut session, &proposal).await?;
        output::remark(&reading.text());
        ask::confirm("Raise the epoch?", self.yes)?;
        let finished = cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
        if let Finished::Waiting(waiting) = finished {
            return Ok(waiting.tell(self.operator.output));
        }
        match self.operator.output {
            Format::Json => output::json(json!({ "epoch": raise.new })),
            Format::Table => {
                output::say(&format!("epoch {} has begun", raise.new));
                output::remark("next: holdfast policy apply DIR makes its first release");
            }
        }
        Ok(Ending::Done)
    }
}

impl Endorse {
    async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        // Also those that cannot be verified any more: to have them verified again is what this is for.
        let Epochs { raises, verified, .. } = session.epochs().await?;
        let mut endorsed = 0;
        for (n, envelope) in raises.into_iter().enumerate() {
            if Standing::of(&session.authority, DraftKind::Epoch, &envelope).is_complete() {
                continue;
            }
            let proposal = Proposal {
                kind: DraftKind::Epoch,
                envelope,
                slices: Vec::new(),
            };
            output::remark(&document::read(&mut session, &proposal).await?.text());
            if n >= verified {
                ask::confirm("Sign this?", self.yes)?;
            }
            let finished =
                cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
            if let Finished::Waiting(waiting) = finished {
                return Ok(waiting.tell(self.operator.output));
            }
            endorsed += 1;
        }
        match self.operator.output {
            Format::Json => output::json(json!({ "endorsed": endorsed })),
            Format::Table => output::say(&format!("{endorsed} raises endorsed")),
        }
        Ok(Ending::Done)
    }
}
