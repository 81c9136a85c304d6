//! What the keeper does first: a change that the last run of this agent left pending is confirmed or undone for good.

use holdfast_proto::ids::UniqueId;

use super::Keeper;
use crate::change::Ended;
use crate::guard::commit::{self, Recovered};
use crate::host::Chain;

impl Keeper {
    /// Settles pending changes: the guard's files say what became of them, the ledger and the hub are told.
    pub(super) async fn recover(&mut self) {
        let found = commit::recover(&self.host.files, &*self.host.clock, &self.host.state_dir).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a pending change cannot be settled; the next start tries again");
                return;
            }
        };
        let pending = self.ledger.pending.as_ref().map(|pending| pending.commit);
        let mut settled = Vec::new();
        let mut confirmed = false;
        for recovered in found {
            match settle(recovered).await {
                Some((id, stays)) => {
                    confirmed |= stays && pending == Some(id);
                    settled.push(id);
                }
                // Its guard goes on trying.
                None => return,
            }
        }
        if pending.is_some() && !self.note_recovered(confirmed).await {
            return;
        }
        for id in settled {
            if let Err(error) = commit::forget(&*self.host.files, &self.host.state_dir, id) {
                tracing::warn!(error = %Chain(&error), "a settled change's file stays behind");
            }
        }
    }

    /// Notes in the ledger, and reports, what became of the pending release; whether the ledger could be written.
    async fn note_recovered(&mut self, confirmed: bool) -> bool {
        let pending = self.ledger.pending.as_ref().map(|pending| {
            let generation = pending.held.manifest().ok().map(|manifest| manifest.generation());
            (generation, pending.held.manifest.digest())
        });
        let ended = if confirmed {
            self.ledger.confirm();
            Ended::new("confirmed", "")
        } else {
            self.ledger.undo();
            Ended::new(
                "undone",
                "the agent ended before it was confirmed; what was there before is in force",
            )
        };
        if let Err(error) = self.host.save(&self.ledger) {
            tracing::error!(error = %Chain(&error), "the ledger cannot be settled; the next start tries again");
            return false;
        }
        let (generation, manifest) = pending.unzip();
        self.report(generation.flatten(), manifest, "start", ended).await;
        true
    }
}

/// One pending change, decided: its id, and whether it stays. None if it cannot be undone now.
async fn settle(recovered: Recovered) -> Option<(UniqueId, bool)> {
    match recovered {
        Recovered::Confirmed(id) => Some((id, true)),
        Recovered::Undone(id) => Some((id, false)),
        Recovered::Pending(armed) => {
            let id = armed.id();
            match armed.undo_now().await {
                Ok(()) => Some((id, false)),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "a pending change cannot be undone; its guard goes on");
                    None
                }
            }
        }
    }
}
