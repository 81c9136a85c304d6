//! The guard's own process: `holdfast-agent guard FILE`.
//!
//! It holds the file's lock for as long as it lives, which is how the agent sees that it is armed, looks at the file's
//! state ten times a second, and stops once the change is confirmed or undone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;

use super::file::{GuardFile, GuardFileError, GuardPath, State};
use super::undo::{self, UndoError};

/// How long a decision may go unseen: small against the shortest guard time, and no load worth measuring.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the guard gave up.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The argument does not name a guard file.
    #[error("{} is no guard file: want <state dir>/guard/<id>.armed", .0.display())]
    Name(PathBuf),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] GuardFileError),
    /// The change could not be undone.
    #[error(transparent)]
    Undo(#[from] UndoError),
}

/// Guards the pending commit in `path` until it is decided, and returns how it ended.
///
/// # Errors
/// [`GuardError`]. Before the file was held, nothing was guarded; the agent sees that and changes nothing.
pub async fn run(files: &dyn Files, clock: &dyn Clock, path: &Path) -> Result<State, GuardError> {
    let Some((place, State::Armed)) = GuardPath::parse(path) else {
        return Err(GuardError::Name(path.to_owned()));
    };
    // Read before it is held: what cannot be read is not guarded, and must not look as if it were.
    let file = GuardFile::read(files, path)?;
    let hold = place.wait_and_hold(State::Armed)?;
    tracing::info!(id = %place.id(), "armed");
    loop {
        match place.state() {
            Some(State::Armed) if file.is_over(clock) => decide(files, &place)?,
            Some(State::Armed) => tokio::time::sleep(LOOK_EVERY).await,
            Some(State::Undoing) => {
                undo::finish(files, &place, &hold).await?;
                return Ok(State::Undone);
            }
            Some(decided @ (State::Confirmed | State::Undone)) => return Ok(decided),
            // The agent forgets a file only after it was decided, and undoing is ours alone: so it was confirmed.
            None => return Ok(State::Confirmed),
        }
    }
}

fn decide(files: &dyn Files, place: &GuardPath) -> Result<(), GuardFileError> {
    match place.advance(files, State::Armed, State::Undoing) {
        Ok(()) => tracing::warn!(id = %place.id(), "nobody confirmed the change in time, undoing it"),
        // Confirmed in this very moment, or undoing already.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
