//! One pass of the agent's loop over one part of the host: observe -> diff -> apply -> verify.
//!
//! Each part is a [`Resource`]; [`converge`] is the pass. What it takes to undo a plan is a [`Snapshot`], which the guard
//! can put back without the agent.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use holdfast_pki::files::Files;
use serde::{Deserialize, Serialize};

use crate::firewall;
use crate::host::exec::ExecError;

/// A part of the host that the agent keeps equal to what the hub asked for.
pub trait Resource: Send {
    /// What was asked for; already validated.
    type Desired: Clone + Send + Sync;
    /// What was read back from the host, never from our own memory.
    type Observed: Send;
    /// The steps from the one to the other.
    type Plan: Steps + Send + Sync;
    /// For spans and reports.
    const NAME: &'static str;

    /// Reads the host. Changes nothing.
    fn observe(&mut self) -> impl Future<Output = Result<Self::Observed, HostError>> + Send;

    /// Pure: same input, same plan.
    fn diff(desired: &Self::Desired, observed: &Self::Observed) -> Self::Plan;

    /// What it takes to undo `plan`, to be on disk before anything is touched; the guard needs nothing else.
    fn capture(&mut self, plan: &Self::Plan) -> impl Future<Output = Result<Snapshot, HostError>> + Send;

    /// Carries out the plan. Safe to run twice; atomic where the host allows it.
    fn apply(&mut self, plan: &Self::Plan) -> impl Future<Output = Result<(), HostError>> + Send;
}

/// An ordered plan; its `Display` is the dry run.
pub trait Steps: Display {
    /// Whether there is nothing to do: no drift.
    fn is_empty(&self) -> bool;
}

/// How a pass ended.
#[derive(Debug)]
pub enum Outcome<Plan> {
    /// There was nothing to do.
    InSync,
    /// This was done, and observing again found nothing left.
    Repaired(Plan),
    /// It was done, and yet something is left: somebody else changes the same thing, or the host does not take it.
    StillDrifted {
        /// What was done.
        tried: Plan,
        /// What was left afterwards.
        left: Plan,
    },
}

/// One pass. Verifying is observing again: only an empty second diff counts as success.
///
/// # Errors
/// Any [`HostError`] of the resource. What [`Resource::apply`] had done by then is put back from its snapshot, by the
/// caller, who holds it.
pub async fn converge<R: Resource>(
    resource: &mut R,
    desired: &R::Desired,
) -> Result<Outcome<R::Plan>, HostError> {
    let plan = R::diff(desired, &resource.observe().await?);
    if plan.is_empty() {
        return Ok(Outcome::InSync);
    }
    resource.apply(&plan).await?;
    let left = R::diff(desired, &resource.observe().await?);
    Ok(if left.is_empty() {
        Outcome::Repaired(plan)
    } else {
        Outcome::StillDrifted { tried: plan, left }
    })
}

/// What it takes to put one resource back as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Snapshot {
    /// Our nftables table.
    Firewall(firewall::resource::Before),
}

impl Snapshot {
    /// Puts that resource back as it was. Safe to run twice.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn restore(&self, files: &dyn Files, state_dir: &Path) -> Result<(), HostError> {
        match self {
            Self::Firewall(before) => before.restore(files, state_dir).await,
        }
    }
}

/// Why the host could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A program that does the work failed.
    #[error("cannot {task}")]
    Exec {
        /// What was being done, such as `load table inet holdfast`.
        task: &'static str,
        /// What went wrong.
        #[source]
        source: ExecError,
    },
    /// A program answered with something that we do not understand.
    #[error("cannot understand the answer of {program}: {detail}")]
    Answer {
        /// The program.
        program: &'static str,
        /// What was wrong with it.
        detail: String,
    },
    /// The host took a change and holds something else now.
    #[error("the host does not hold what was loaded: {detail}")]
    Unfaithful {
        /// What differs.
        detail: String,
    },
    /// Our own state file could not be read or written.
    #[error("cannot use {}; free space or fix its owner", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that holds one number, and maybe another one than it was told.
    struct FakeHost {
        holds: u32,
        obeys: bool,
    }

    #[derive(Debug)]
    struct Set(Option<u32>);

    impl Steps for Set {
        fn is_empty(&self) -> bool {
            self.0.is_none()
        }
    }

    impl Display for Set {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "set {:?}", self.0)
        }
    }

    impl Resource for FakeHost {
        type Desired = u32;
        type Observed = u32;
        type Plan = Set;
        const NAME: &'static str = "number";

        async fn observe(&mut self) -> Result<u32, HostError> {
            Ok(self.holds)
        }
        fn diff(desired: &u32, observed: &u32) -> Set {
            Set((desired != observed).then_some(*desired))
        }
        async fn capture(&mut self, _plan: &Set) -> Result<Snapshot, HostError> {
            Err(HostError::Unfaithful {
                detail: "no snapshot of a number".to_owned(),
            })
        }
        async fn apply(&mut self, plan: &Set) -> Result<(), HostError> {
            if self.obeys {
                self.holds = plan.0.unwrap_or(self.holds);
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_second_pass_changes_nothing() {
        let mut host = FakeHost {
            holds: 1,
            obeys: true,
        };
        let first = converge(&mut host, &2).await.unwrap();
        assert!(matches!(first, Outcome::Repaired(Set(Some(2)))), "{first:?}");
        assert!(matches!(converge(&mut host, &2).await.unwrap(), Outcome::InSync));
    }

    #[tokio::test]
    async fn a_host_that_does_not_obey_is_no_success() {
        let mut host = FakeHost {
            holds: 1,
            obeys: false,
        };
        let outcome = converge(&mut host, &2).await.unwrap();
        assert!(matches!(outcome, Outcome::StillDrifted { .. }), "{outcome:?}");
    }
}
