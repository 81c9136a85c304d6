//! Signing a draft in its file: on a machine that may reach no hub, so far as what it has verified before is enough.

use std::path::Path;

use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::draft::DraftKind;

use super::find::Found;
use super::{Drafted, Signed, find};
use crate::cli::cosign::{self, Known, Proposal, Standing, Waiting, file};
use crate::cli::document::{self, Reading};
use crate::cli::{Ending, Operator, ask, output};
use crate::operator_dir::{Context, ContextDir};

/// What this machine has verified of the fleet that is meant.
struct Here {
    dir: ContextDir,
    context: Context,
    authority: TrustedAuthority,
}

impl Here {
    fn open(operator: &Operator) -> anyhow::Result<Self> {
        let dir = operator.context_dir()?;
        let context = dir.context()?;
        let authority = dir.authority(&context.authority)?;
        Ok(Self {
            dir,
            context,
            authority,
        })
    }

    fn known(&self) -> Known<'_> {
        Known {
            dir: &self.dir,
            context: &self.context,
            authority: &self.authority,
            now_secs: SystemClock.unix_secs(),
        }
    }
}

/// Reads the document in a file without a hub; none of a kind for which what this machine verified is not enough.
pub(super) fn read_alone(drafted: &Drafted) -> anyhow::Result<Option<(Found, TrustedAuthority, Reading)>> {
    let here = Here::open(&drafted.operator)?;
    let found = find::in_file(Path::new(&drafted.what))?;
    let reading = document::read_alone(here.known(), &found.proposal)?;
    Ok(reading.map(|reading| (found, here.authority, reading)))
}

/// Reads the document in a file, and signs it there.
pub(super) async fn sign(signed: Signed, only: Option<DraftKind>) -> anyhow::Result<Ending> {
    let here = Here::open(&signed.operator)?;
    let proposal = file::read(Path::new(&signed.what))?;
    find::must_be(&proposal, only)?;
    if let Some(reading) = document::read_alone(here.known(), &proposal)? {
        output::remark(&format!(
            "read against authority version {}, the newest that this machine has verified",
            here.authority.document().version
        ));
        return sign_in_place(here.known(), proposal, &reading, &signed);
    }
    let mut session = signed.operator.session().await?;
    let reading = document::read(&mut session, &proposal).await?;
    sign_in_place(session.known(), proposal, &reading, &signed)
}

fn sign_in_place(
    known: Known<'_>,
    mut proposal: Proposal,
    reading: &Reading,
    signed: &Signed,
) -> anyhow::Result<Ending> {
    output::remark(&reading.text());
    let standing = Standing::of(known.authority, proposal.kind, &proposal.envelope);
    output::remark(&standing.to_string());
    ask::confirm("Sign this?", signed.yes)?;
    let path = Path::new(&signed.what);
    cosign::sign(
        known,
        proposal.kind,
        &mut proposal.envelope,
        &signed.operator.signing,
    )?;
    file::write(known.dir.files(), path, &proposal)?;
    let waiting = Waiting::new(known.authority, proposal, Some(path.to_owned()));
    Ok(waiting.tell(signed.operator.output))
}
