//! `holdfast token finish`: the token of a grant that others had to sign, too.

use anyhow::bail;
use clap::Args;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::UniqueId;
use holdfast_proto::v1;

use super::{print, unfinished};
use crate::cli::cosign::Standing;
use crate::cli::time::date;
use crate::cli::{Ending, Operator, output};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast token finish e1f48cbe0f9383d89141b1259f505472 > db.token\n\n\
    On the machine where the token was created, once enough operators have signed its grant."
)]
pub(in crate::cli) struct Finish {
    /// The grant's id, as `holdfast token create` told it
    #[arg(value_name = "GRANT_ID")]
    grant: UniqueId,
    #[command(flatten)]
    operator: Operator,
}

impl Finish {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let mut token = unfinished::kept(session.dir(), &self.grant)?;
        let grant = token.claimed_grant()?;
        let request = v1::GetGrantRequest {
            grant_id: self.grant.to_string(),
        };
        let Some(registered) = session.client.get_grant(request).await?.into_inner().grant else {
            if grant.not_after_secs <= session.clock.unix_secs() {
                unfinished::forget(session.dir(), &self.grant)?;
                bail!(
                    "grant {} ended {} without enough signatures: create another token",
                    self.grant,
                    date(grant.not_after_secs)
                );
            }
            output::remark(&format!(
                "grant {} is not registered: it waits for signatures, as `holdfast draft list` shows",
                self.grant
            ));
            return Ok(Ending::Waiting);
        };
        let registered = Envelope::try_from(registered)?;
        if registered.digest() != token.grant.digest() {
            bail!(
                "the hub shows another grant under the id {}: its token is not to be used",
                self.grant
            );
        }
        let standing = Standing::of(&session.authority, DraftKind::JoinGrant, &registered);
        if !standing.is_complete() {
            bail!("the grant would be refused by nodes: it is {standing}. Create another token");
        }
        token.grant = registered;
        token.authority = session.authority.pin();
        token.node_roots = session.authority.document().node_roots.clone();
        print(&token, &grant, self.operator.output);
        unfinished::forget(session.dir(), &self.grant)?;
        Ok(Ending::Done)
    }
}
