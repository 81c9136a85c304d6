//! Undoing: the one place that puts snapshots back, whoever decided it.

use std::time::Duration;

use holdfast_pki::files::Files;

use super::file::{GuardFile, GuardFileError, GuardPath, Hold, State};
use crate::firewall::kernel;
use crate::firewall::nft::Ruleset;
use crate::host::Chain;
use crate::reconcile::{HostError, Snapshot};

/// Tries, with a wait before the next one that doubles: about 6 s in all.
const ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Why a change could not be undone. Its file stays in state `.undoing`; the agent's next start tries again.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// Neither could the snapshot be put back nor our table removed.
    #[error("cannot undo; remove our table by `nft delete table inet holdfast` if it locks you out")]
    Host(#[from] HostError),
    /// The commit's file cannot be used.
    #[error(transparent)]
    File(#[from] GuardFileError),
}

/// Restores what the file in state `.undoing` says, then leaves it as `.undone`.
///
/// If the snapshot cannot be put back in six tries, our table is removed instead: it can only restrict, so without
/// it nobody is locked out, and the agent loads the confirmed state again.
///
/// # Errors
/// [`UndoError`].
pub async fn finish(files: &dyn Files, place: &GuardPath, hold: &Hold) -> Result<(), UndoError> {
    let _ = hold; // Proof that nobody else is at it.
    let restored = match GuardFile::read(files, &place.at(State::Undoing)) {
        Ok(file) => restore_patiently(files, place, &file.snapshots)
            .await
            .map_err(|error| Chain(&error).to_string()),
        Err(error) => Err(Chain(&error).to_string()),
    };
    if let Err(error) = restored {
        tracing::error!(id = %place.id(), %error, "snapshot cannot be restored, removing our table instead");
        kernel::load(Ruleset::remove().json()).await?;
    }
    place.advance(files, State::Undoing, State::Undone)?;
    tracing::info!(id = %place.id(), "change undone");
    Ok(())
}

async fn restore_patiently(
    files: &dyn Files,
    place: &GuardPath,
    snapshots: &[Snapshot],
) -> Result<(), HostError> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..ATTEMPTS {
        match restore_all(files, place, snapshots).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!(id = %place.id(), attempt, error = %Chain(&error), "undo failed, will be tried again");
            }
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    restore_all(files, place, snapshots).await
}

async fn restore_all(files: &dyn Files, place: &GuardPath, snapshots: &[Snapshot]) -> Result<(), HostError> {
    for snapshot in snapshots {
        snapshot.restore(files, place.state_dir()).await?;
    }
    Ok(())
}
