//! The firewall as a [`Resource`]: what the kernel holds against what was rendered.
//!
//! Right after a load our table is listed once, checked for shape against what was rendered, and remembered in canonical
//! form together with the digest of the transaction (`firewall.loaded`). From then on drift is a live listing that differs
//! from the remembered one, or a desired firewall whose transaction has another digest. Without the file the table is
//! loaded again, which is harmless.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_pki::files::Files;
use holdfast_policy::firewall::Firewall;
use holdfast_proto::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kernel;
use super::listing::{self, Difference, Listing};
use super::nft::Ruleset;
use crate::host::Chain;
use crate::reconcile::{HostError, Resource, Snapshot, Steps};

/// In the agent's state directory.
const LOADED_FILE: &str = "firewall.loaded";

/// Our nftables table.
#[derive(Debug)]
pub struct FirewallTable {
    files: Arc<dyn Files>,
    state_dir: PathBuf,
}

/// What the kernel holds, and what it held right after we loaded it.
#[derive(Debug)]
pub struct Observed {
    live: Option<Listing>,
    loaded: Option<Loaded>,
}

/// What a load left in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    format: u32,
    ruleset: Digest,
    listing: Listing,
}

const LOADED_FORMAT: u32 = 1;

/// Our table as it was, with what we remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    table: Option<Vec<Value>>,
    loaded: Option<Loaded>,
}

/// What is to be done to our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// It is not wanted.
    Remove,
    /// It is not what is wanted.
    Load {
        /// What is wanted.
        ruleset: Ruleset,
        /// Why.
        why: Why,
    },
}

/// Why the table is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Absent,
    /// Another firewall is wanted than the one that was loaded; how the two differ.
    Wanted(Difference),
    /// Somebody changed what was loaded; how. Empty if only the order of rules was changed.
    Changed(Difference),
}

impl FirewallTable {
    /// The table, whose memory is kept in `state_dir`.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, state_dir: &Path) -> Self {
        Self {
            files,
            state_dir: state_dir.to_owned(),
        }
    }

    /// Whether a table of ours is in the kernel.
    ///
    /// # Errors
    /// [`HostError`] if nft could not look.
    pub async fn is_there(&self) -> Result<bool, HostError> {
        Ok(kernel::list().await?.is_some())
    }

    /// Loads `ruleset` and remembers what the kernel made of it.
    async fn load(&self, ruleset: &Ruleset) -> Result<(), HostError> {
        kernel::load(ruleset.json()).await?;
        let rendered = rendered(ruleset);
        let listing = kernel::list()
            .await?
            .map(|objects| Listing::of(&objects))
            .unwrap_or_default();
        if !listing.has_shape_of(&rendered) {
            // Remembering this would declare somebody else's edit to be ours.
            let detail = rendered.difference_in_shape(&listing).to_string();
            return Err(HostError::Unfaithful { detail });
        }
        let loaded = Loaded {
            format: LOADED_FORMAT,
            ruleset: ruleset.digest(),
            listing,
        };
        remember(&*self.files, &self.state_dir, Some(&loaded))
    }
}

impl Resource for FirewallTable {
    type Desired = Option<Firewall>;
    type Observed = Observed;
    type Plan = Plan;
    const NAME: &'static str = "firewall";

    async fn observe(&mut self) -> Result<Observed, HostError> {
        let live = kernel::list().await?.map(|objects| Listing::of(&objects));
        Ok(Observed {
            live,
            loaded: remembered(&*self.files, &self.state_dir)?,
        })
    }

    fn diff(desired: &Option<Firewall>, observed: &Observed) -> Plan {
        let Some(firewall) = desired else {
            return if observed.live.is_some() {
                Plan::Remove
            } else {
                Plan::Keep
            };
        };
        let ruleset = Ruleset::replace(firewall);
        let why = match (&observed.live, &observed.loaded) {
            (None, _) => Why::Absent,
            (Some(live), Some(loaded)) if loaded.ruleset == ruleset.digest() => {
                if *live == loaded.listing {
                    return Plan::Keep;
                }
                Why::Changed(loaded.listing.difference(live))
            }
            (Some(live), _) => Why::Wanted(rendered(&ruleset).difference_in_shape(live)),
        };
        Plan::Load { ruleset, why }
    }

    async fn capture(&mut self, _plan: &Plan) -> Result<Snapshot, HostError> {
        Ok(Snapshot::Firewall(Before {
            table: kernel::list().await?,
            loaded: remembered(&*self.files, &self.state_dir)?,
        }))
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), HostError> {
        match plan {
            Plan::Keep => Ok(()),
            Plan::Remove => {
                kernel::load(Ruleset::remove().json()).await?;
                remember(&*self.files, &self.state_dir, None)
            }
            Plan::Load { ruleset, .. } => self.load(ruleset).await,
        }
    }
}

impl Before {
    /// Puts the table back as it was, in one transaction. Safe to run twice.
    ///
    /// # Errors
    /// [`HostError`]; the table is unchanged then.
    pub async fn restore(&self, files: &dyn Files, state_dir: &Path) -> Result<(), HostError> {
        kernel::load(&listing::restore(self.table.as_deref())).await?;
        if let Err(error) = remember(files, state_dir, self.loaded.as_ref()) {
            // The rules are back, which is what counts; without its memory the agent loads them once more.
            tracing::warn!(error = %Chain(&error), "firewall put back, but not what is remembered of it");
        }
        Ok(())
    }
}

impl Steps for Plan {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("nothing to do"),
            Self::Remove => f.write_str("remove table inet holdfast"),
            Self::Load { ruleset, why } => {
                write!(f, "load table inet holdfast with {} rules: ", ruleset.rules())?;
                match why {
                    Why::Absent => f.write_str("it is absent"),
                    Why::Wanted(difference) if difference.is_empty() => {
                        f.write_str("contents of sets or rules differ")
                    }
                    Why::Changed(difference) if difference.is_empty() => f.write_str("rules were reordered"),
                    Why::Wanted(difference) => write!(f, "{difference}"),
                    Why::Changed(difference) => write!(f, "changed by another program: {difference}"),
                }
            }
        }
    }
}

/// What a listing would show if nft listed as it is told.
fn rendered(ruleset: &Ruleset) -> Listing {
    let commands: Value = serde_json::from_str(ruleset.json()).expect("serialised by us");
    let commands = commands
        .get("nftables")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    // The first two clear the table away.
    Listing::of(commands.get(2..).unwrap_or_default())
}

fn remembered(files: &dyn Files, state_dir: &Path) -> Result<Option<Loaded>, HostError> {
    let path = state_dir.join(LOADED_FILE);
    match files.read(&path) {
        // One that we cannot read any more was written by another version: load again, write anew.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .ok()
            .filter(|loaded: &Loaded| loaded.format == LOADED_FORMAT)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::State { path, source }),
    }
}

fn remember(files: &dyn Files, state_dir: &Path, loaded: Option<&Loaded>) -> Result<(), HostError> {
    let path = state_dir.join(LOADED_FILE);
    match loaded {
        Some(loaded) => {
            let bytes = serde_json::to_vec(loaded).expect("text keys only");
            files.write_atomic(&path, &bytes, 0o600)
        }
        None => files.remove(&path),
    }
    .map_err(|source| HostError::State { path, source })
}
