//! The agent's side of a confirmed commit: [`arm`], then [`Armed::confirm`] or [`Armed::undo_now`]; [`recover`] at start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;
use holdfast_proto::ids::UniqueId;

use super::file::{GuardFile, GuardFileError, GuardPath, State};
use super::launch::Launcher;
use super::undo::{self, UndoError};
use crate::host::exec::ExecError;
use crate::reconcile::Snapshot;

/// How long a guard may take to hold its file after it was started.
const ARM_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A change may be made now: a guard that outlives us will undo it unless it is confirmed.
#[derive(Debug)]
#[must_use = "an armed commit is confirmed or undone"]
pub struct Armed {
    files: Arc<dyn Files>,
    place: GuardPath,
}

/// Proof that a commit was confirmed: only [`Armed::confirm`] makes it.
#[derive(Debug)]
pub struct Confirmed {
    id: UniqueId,
}

impl Confirmed {
    /// Which commit.
    #[must_use]
    pub const fn id(&self) -> UniqueId {
        self.id
    }
}

/// Why no guard stands. Nothing may be changed then; what was written of the commit is taken away again.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// Its file could not be written or watched.
    #[error(transparent)]
    File(#[from] GuardFileError),
    /// It could not be started, or ended at once.
    #[error("the guard does not stand; nothing was changed")]
    Launch(#[from] ExecError),
    /// It did not hold its file in time.
    #[error("the guard of {id} was started but did not arm within {} s; nothing was changed", ARM_LIMIT.as_secs())]
    Silent {
        /// Which commit.
        id: UniqueId,
    },
}

/// Why a commit was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The guard was faster: the change is being undone or was undone.
    #[error("commit {id} was undone before it was confirmed")]
    LostRace {
        /// Which commit.
        id: UniqueId,
    },
    /// The file layer failed; whether the change stands is for [`recover`] to say.
    #[error("commit {id} cannot be confirmed")]
    File {
        /// Which commit.
        id: UniqueId,
        /// Why.
        #[source]
        source: GuardFileError,
    },
}

/// Writes `snapshots` to disk and starts a guard that puts them back after `time`. Returns once it stands.
///
/// # Errors
/// [`ArmError`]: the caller must not change anything.
pub async fn arm<L: Launcher>(
    files: &Arc<dyn Files>,
    clock: &dyn Clock,
    launcher: &L,
    state_dir: &Path,
    id: UniqueId,
    time: Duration,
    snapshots: Vec<Snapshot>,
) -> Result<Armed, ArmError> {
    let place = GuardPath::new(state_dir, id);
    GuardFile::new(id, time, snapshots, clock).write(&**files, &place)?;
    if let Err(error) = stand(launcher, &place).await {
        // Nothing was changed, so there is nothing to undo. A guard that comes up late finds its file gone.
        files.remove(&place.at(State::Armed)).unwrap_or_else(
            |error| tracing::warn!(%id, %error, "file of a guard that never stood stays behind"),
        );
        return Err(error);
    }
    Ok(Armed {
        files: files.clone(),
        place,
    })
}

/// Starts the guard and waits until it holds its file.
async fn stand<L: Launcher>(launcher: &L, place: &GuardPath) -> Result<(), ArmError> {
    let mut guard = launcher.launch(place).await?;
    let armed = async {
        // Holding it ourselves for the length of a look is harmless: the guard's lock waits for it.
        while place.hold(State::Armed)?.is_some() {
            guard.still_runs()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    tokio::time::timeout(ARM_LIMIT, armed)
        .await
        .unwrap_or(Err(ArmError::Silent { id: place.id() }))
}

impl Armed {
    /// Which commit.
    #[must_use]
    pub const fn id(&self) -> UniqueId {
        self.place.id()
    }

    /// The change stays, unless the guard was faster. Record the outcome, then [`forget`] the commit.
    ///
    /// # Errors
    /// [`ConfirmError`].
    pub fn confirm(self) -> Result<Confirmed, ConfirmError> {
        let id = self.place.id();
        match self.place.advance(&*self.files, State::Armed, State::Confirmed) {
            Ok(()) => Ok(Confirmed { id }),
            Err(error) if error.is_not_found() => Err(ConfirmError::LostRace { id }),
            Err(source) => Err(ConfirmError::File { id, source }),
        }
    }

    /// Undoes the change without waiting for the deadline, and returns once that is done. The guard does it, or we, if it
    /// is dead. Record the outcome, then [`forget`] the commit.
    ///
    /// # Errors
    /// [`UndoError`]; the next start tries again.
    pub async fn undo_now(self) -> Result<(), UndoError> {
        match self.place.advance(&*self.files, State::Armed, State::Undoing) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            Ok(()) | Err(_) => finish(&*self.files, &self.place).await,
        }
    }
}

/// What the agent finds of a pending commit when it starts.
#[derive(Debug)]
pub enum Recovered {
    /// Its guard lives and its time is not over: it may still be confirmed, or undone now.
    Pending(Armed),
    /// It was confirmed, and the agent ended before it recorded that.
    Confirmed(UniqueId),
    /// It was undone: by its guard, or here.
    Undone(UniqueId),
}

/// Settles what the last run of the agent left pending: undoes what is over (deadline, reboot), what lost its guard, and
/// what was being undone. Record each outcome, then [`forget`] it.
///
/// # Errors
/// [`UndoError`] of the first one that cannot be settled.
pub async fn recover(
    files: &Arc<dyn Files>,
    clock: &dyn Clock,
    state_dir: &Path,
) -> Result<Vec<Recovered>, UndoError> {
    let mut found = Vec::new();
    for (place, state) in GuardPath::all(state_dir)? {
        let id = place.id();
        found.push(match state {
            State::Confirmed => Recovered::Confirmed(id),
            State::Undone => Recovered::Undone(id),
            State::Armed if is_guarded(&**files, clock, &place)? => Recovered::Pending(Armed {
                files: files.clone(),
                place,
            }),
            State::Armed | State::Undoing => {
                Armed {
                    files: files.clone(),
                    place,
                }
                .undo_now()
                .await?;
                Recovered::Undone(id)
            }
        });
    }
    Ok(found)
}

/// Whether a living guard waits for a deadline that is still to come.
fn is_guarded(files: &dyn Files, clock: &dyn Clock, place: &GuardPath) -> Result<bool, GuardFileError> {
    // One that makes no sense is as good as over.
    let waits = GuardFile::read(files, &place.at(State::Armed)).is_ok_and(|file| !file.is_over(clock));
    match place.hold(State::Armed) {
        Ok(hold) => Ok(waits && hold.is_none()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what is left of a decided commit, once its outcome is recorded elsewhere.
///
/// # Errors
/// [`GuardFileError`]; what stays behind is found again by [`recover`].
pub fn forget(files: &dyn Files, state_dir: &Path, id: UniqueId) -> Result<(), GuardFileError> {
    GuardPath::new(state_dir, id).forget(files)
}

/// Sees an undo through that was decided: by the guard that holds the file, or by ourselves.
async fn finish(files: &dyn Files, place: &GuardPath) -> Result<(), UndoError> {
    loop {
        match place.hold(State::Undoing) {
            Ok(Some(hold)) => return undo::finish(files, place, &hold).await,
            Ok(None) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
