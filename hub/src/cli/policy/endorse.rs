//! `holdfast policy endorse`: one more signature on the current release, which stays the same to the byte.

use anyhow::Context as _;
use clap::Args;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::parse_payload;
use holdfast_policy::release::Manifest;
use serde_json::json;

use crate::cli::cosign::{self, Finished, Place, Proposal, Standing};
use crate::cli::{Ending, Format, Operator, ask, document, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast authority remove bob && holdfast policy endorse\n\n\
    A node that has the release keeps it, whoever signed. One that enrols later or comes back judges it by the newest\n\
    authority, and needs signatures of operators who are still listed."
)]
pub(in crate::cli) struct Endorse {
    /// Sign without being asked, also if this machine has never verified the release
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

impl Endorse {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let shown = session.shown_manifest(None).await?;
        let envelope = shown.context("there is no release yet: `holdfast policy apply` makes one")?;
        let known = session.verify_release(&envelope).is_ok();
        let generation = parse_payload::<Manifest>(&envelope.payload)?.generation();
        let proposal = Proposal {
            kind: DraftKind::Release,
            envelope,
            slices: Vec::new(),
        };
        let standing = Standing::of(&session.authority, proposal.kind, &proposal.envelope);
        if standing.is_complete() && standing.signers().contains(&session.context.operator) {
            self.tell(
                &format!("nothing to do: release {generation} is {standing}"),
                &standing,
            );
            return Ok(Ending::Done);
        }
        output::remark(&document::read(&mut session, &proposal).await?.text());
        if !known {
            ask::confirm("Sign this?", self.yes)?;
        }
        let finished = cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
        match finished {
            Finished::Waiting(waiting) => Ok(waiting.tell(self.operator.output)),
            Finished::Published(envelope) => {
                let standing = Standing::of(&session.authority, DraftKind::Release, &envelope);
                self.tell(&format!("release {generation} is {standing}"), &standing);
                Ok(Ending::Done)
            }
        }
    }

    fn tell(&self, told: &str, standing: &Standing) {
        match self.operator.output {
            Format::Json => output::json(json!({ "endorsed": standing.to_json() })),
            Format::Table => output::say(told),
        }
    }
}
