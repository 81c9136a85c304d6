//! The ledger: what this node was told by its operators and how far it has come, on disk before anything is touched.
//!
//! Decisions over what is offered are pure and in files of their own: `judge` over a release, `labels` over a change of
//! labels, `epoch` over a raise. What was confirmed was verified when it was accepted, and stays in force whatever becomes
//! of the authority later: only something newer takes its place.

mod epoch;
mod judge;
mod labels;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use holdfast_pki::authority::{AuthorityPin, RefuseAuthority, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, InvalidPayload, Verified, parse_payload};
use holdfast_pki::files::Files;
use holdfast_pki::grant::JoinGrant;
use holdfast_policy::release::Manifest;
use holdfast_policy::slice::{InvalidSlice, Slice};
use holdfast_proto::ids::{Digest, Generation, UniqueId};
use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

pub use self::epoch::{RAISES_MAX, RaiseJudgement, RefuseRaise};
pub use self::judge::{Judgement, RefuseRelease};
pub use self::labels::{HeldLabels, LabelJudgement, RefuseLabels};
use crate::release::VerifiedRelease;

const FILE: &str = "ledger.json";
const FORMAT: u32 = 1;
/// Releases that were undone here and are not tried again. More than an operator makes between two looks; the oldest
/// numbers are below the highest accepted one anyway.
const PINNED_OUT_MAX: usize = 64;

/// A release with the slices that are for this node, as they were verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The manifest, as operators signed it.
    pub manifest: Envelope,
    /// The slices' exact bytes.
    pub slices: Vec<String>,
    /// The version of the labels that selected them.
    pub labels_version: u64,
}

impl Held {
    fn of(release: &VerifiedRelease, labels_version: u64) -> Self {
        let texts = release
            .slices()
            .iter()
            .map(|slice| String::from_utf8(slice.to_bytes()).expect("a slice is JSON"));
        Self {
            manifest: release.manifest().envelope().clone(),
            slices: texts.collect(),
            labels_version,
        }
    }

    /// The manifest, read again.
    ///
    /// # Errors
    /// [`InvalidPayload`] if the ledger was damaged.
    pub fn manifest(&self) -> Result<Manifest, InvalidPayload> {
        parse_payload(&self.manifest.payload)
    }

    /// The slices, read again.
    ///
    /// # Errors
    /// [`InvalidSlice`] if the ledger was damaged.
    pub fn slices(&self) -> Result<Vec<Slice>, InvalidSlice> {
        self.slices
            .iter()
            .map(|text| Slice::parse(text.as_bytes()))
            .collect()
    }
}

/// A release and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Its generation.
    pub generation: Generation,
    /// Its manifest, as operators signed it: to be shown to a hub that lost it, even if it was undone here.
    pub manifest: Envelope,
}

/// A release that is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedOut {
    /// Its manifest's digest.
    pub manifest: Digest,
    /// The labels under which it cut this node off: under others it comes to something else, and may be tried. None: a
    /// return took its place, so that it is out for good.
    pub labels_version: Option<u64>,
}

/// A release that is being applied: confirmed or undone by the guard of this commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The guard's commit.
    pub commit: UniqueId,
    /// What is being applied.
    pub held: Held,
}

/// What this node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// The newest authority that was reached.
    pub authority: Envelope,
    /// The grant that this node joined by.
    pub grant: Envelope,
    /// Its labels.
    pub labels: HeldLabels,
    /// The epoch; raised only by a signed document of its own.
    pub epoch: u64,
    /// The documents that raised it, oldest first: to be shown to a hub that lost them.
    pub raises: Vec<Envelope>,
    /// Nothing below this is ever accepted: the join grant's floor.
    pub least: Generation,
    /// The highest release accepted.
    pub highest: Option<Accepted>,
    /// The release in force.
    pub confirmed: Option<Held>,
    /// The release that is being applied.
    pub pending: Option<Pending>,
    /// The release that the highest one allows to return to, if it was in force here.
    pub return_target: Option<Held>,
    /// Whether that return was taken.
    pub return_spent: bool,
    /// For how long this agent has run since it accepted the highest release, in seconds.
    pub running_secs: u64,
    /// Releases that were undone while the hub was demonstrably up, or returned from, oldest first.
    pub pinned_out: Vec<PinnedOut>,
    /// Ids of signed documents that may work only once and have: the join grant's.
    pub spent: BTreeSet<UniqueId>,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk.
    #[error("cannot use the ledger {}; free space or fix its owner, the hub offers the release again", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what this version writes.
    #[error("the ledger {} cannot be understood; to enrol this node anew, stop the agent, move the state directory away and give a new join token", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The authority in it does not hold.
    #[error("the authority in the ledger is not valid")]
    Authority(#[from] RefuseAuthority),
}

impl Ledger {
    /// The ledger of a node that has just enrolled.
    #[must_use]
    pub fn new(authority: &TrustedAuthority, grant: &Verified<JoinGrant>) -> Self {
        let joined = grant.value();
        Self {
            format: FORMAT,
            authority: authority.envelope().clone(),
            grant: grant.envelope().clone(),
            labels: HeldLabels::of_grant(grant),
            epoch: joined.least_generation.epoch.max(1),
            raises: Vec::new(),
            least: joined.least_generation,
            highest: None,
            confirmed: None,
            pending: None,
            return_target: None,
            return_spent: false,
            running_secs: 0,
            pinned_out: Vec::new(),
            spent: BTreeSet::from([joined.id]),
        }
    }

    /// Reads the ledger in the state directory; none before this node enrolled.
    ///
    /// # Errors
    /// [`LedgerError`] names the file.
    pub fn load(dir: &Path, files: &dyn Files) -> Result<Option<Self>, LedgerError> {
        let path = dir.join(FILE);
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LedgerError::Io { path, source }),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| LedgerError::Content { path, source })
    }

    /// Writes the ledger: once this returned, it survives a power cut.
    ///
    /// # Errors
    /// [`LedgerError::Io`]; what was there before is there still.
    pub fn save(&self, dir: &Path, files: &dyn Files) -> Result<(), LedgerError> {
        let path = dir.join(FILE);
        let bytes = serde_json::to_vec(self).expect("a struct of texts, numbers and sets");
        files
            .write_atomic(&path, &bytes, 0o600)
            .map_err(|source| LedgerError::Io { path, source })
    }

    /// The authority that everything new is judged by. It was verified before it was written here, so it is its own pin.
    ///
    /// # Errors
    /// [`LedgerError::Authority`] if the ledger was damaged.
    pub fn authority(&self) -> Result<TrustedAuthority, LedgerError> {
        // The version is not looked at: the digest names it.
        let pin = AuthorityPin {
            version: 0,
            digest: self.authority.digest(),
        };
        Ok(TrustedAuthority::from_pin(&self.authority, &pin)?)
    }

    /// Notes that `release` is about to be applied under `commit`, by what was judged of it.
    pub fn begin(&mut self, release: &VerifiedRelease, judgement: Judgement, commit: UniqueId) {
        match judgement {
            // The highest accepted stays; the way on from here is a higher number.
            Judgement::Return => {
                self.return_spent = true;
                if let Some(highest) = self.highest.as_ref().map(|highest| highest.manifest.digest()) {
                    self.pin_out(PinnedOut {
                        manifest: highest,
                        labels_version: None,
                    });
                }
            }
            // It was accepted before; only which of its slices are for this node is new.
            Judgement::Reselect => {}
            Judgement::Apply => self.accept(release.manifest()),
        }
        self.pending = Some(Pending {
            commit,
            held: Held::of(release, self.labels.version),
        });
    }

    fn accept(&mut self, manifest: &Verified<Manifest>) {
        let highest = self.highest.as_ref();
        if highest.is_some_and(|highest| highest.manifest.digest() == manifest.digest()) {
            return;
        }
        self.highest = Some(Accepted {
            generation: manifest.value().generation(),
            manifest: manifest.envelope().clone(),
        });
        self.return_spent = false;
        self.running_secs = 0;
        let named = manifest.value().return_to.as_ref().map(|to| to.manifest);
        let in_force = self.confirmed.clone();
        self.return_target = in_force.filter(|held| Some(held.manifest.digest()) == named);
    }

    /// Notes that what is pending is in force.
    pub fn confirm(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.confirmed = Some(pending.held);
        }
    }

    /// Notes that what was pending was put back.
    pub fn undo(&mut self) {
        self.pending = None;
    }

    /// Notes that a release cut this node off, and must not be tried again under the labels of now.
    pub fn pin_out_under_these_labels(&mut self, manifest: Digest) {
        let labels_version = Some(self.labels.version);
        self.pin_out(PinnedOut {
            manifest,
            labels_version,
        });
    }

    fn pin_out(&mut self, out: PinnedOut) {
        self.pinned_out.retain(|held| *held != out);
        if self.pinned_out.len() >= PINNED_OUT_MAX {
            self.pinned_out.remove(0);
        }
        self.pinned_out.push(out);
    }
}

#[cfg(test)]
mod tests;
