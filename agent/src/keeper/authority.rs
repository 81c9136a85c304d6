//! How the keeper comes to the newest authority: it walks, version by version, and writes down how far it came.

use std::collections::BTreeSet;

use holdfast_pki::authority::{Followed, RefuseAuthority, TrustedAuthority};
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Digest;

use super::Keeper;
use crate::authority_chain::{self, AskError};
use crate::change::{Ended, Offering};
use crate::host::Chain;
use crate::ledger::LedgerError;

/// Why the newest authority of a hub was not reached. What was reached on the way is held.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// The hub did not answer, or with something else.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A version does not hold.
    #[error(transparent)]
    Refused(#[from] RefuseAuthority),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<WalkError> for Ended {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Ask(AskError::Unanswered(_)) | WalkError::Ledger(_) => Self::failed(&error),
            WalkError::Ask(AskError::Envelope(_)) | WalkError::Refused(_) => Self::refused(&error),
        }
    }
}

impl Keeper {
    /// Walks to the newest authority that the hub has. What was reached counts, whatever comes of the rest.
    pub(super) async fn walk_authority(&mut self, hub: &Offering) -> Result<(), WalkError> {
        loop {
            let held = self.ledger.authority()?;
            let versions = authority_chain::ask(&hub.channel, held.document().version).await?;
            // A hub that hands out the same versions again and again ends here as well.
            if !self.follow(&held, &versions)? {
                return Ok(());
            }
        }
    }

    /// Follows `versions` from `held`, oldest first, and writes down the last that holds; whether there was a newer one.
    fn follow(&mut self, held: &TrustedAuthority, versions: &[Envelope]) -> Result<bool, WalkError> {
        let Followed { steps, refused } = held.follow(versions);
        if let Some(reached) = steps.last() {
            self.hold_authority(reached, &steps)?;
        }
        match refused {
            Some(refused) => Err(refused.into()),
            None => Ok(!steps.is_empty()),
        }
    }

    /// Writes down the authority reached and the steps to it, and lives by it.
    fn hold_authority(
        &mut self,
        reached: &TrustedAuthority,
        steps: &[TrustedAuthority],
    ) -> Result<(), LedgerError> {
        // First, so that no step is missing there if power is cut in between: what is only shown may run ahead.
        authority_chain::append(steps, &self.host.state_dir, &*self.host.files);
        self.change_ledger(|ledger| ledger.authority = reached.envelope().clone())?;
        let document = reached.document();
        tracing::info!(version = document.version, "authority");
        self.trust_hubs_below(&document.node_roots);
        self.publish_held();
        Ok(())
    }

    /// Hubs are trusted by the roots that the authority lists, and by nothing that a hub says.
    fn trust_hubs_below(&self, roots: &BTreeSet<Digest>) {
        if let Err(error) = self.dialer.trust(roots) {
            tracing::error!(error = %Chain(&error), "new node roots are not used until the agent starts again");
        }
    }
}
