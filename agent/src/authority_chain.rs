//! The versions of the authority that this node walked through, as operators signed them: kept only to be shown to a hub
//! that lost them. What is trusted is the one version in the ledger; nothing that is read here is.

use std::io;
use std::path::Path;

use holdfast_pki::authority::Authority;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::files::Files;

use crate::host::Chain;

const FILE: &str = "authority-chain.json";
/// The most versions that are kept: more than operators make while a hub's backup grows old. Older ones are let go.
const VERSIONS_MAX: usize = 64;
/// The most bytes that are read: what [`VERSIONS_MAX`] usual versions of a few KiB need, many times over.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Keeps `steps`, oldest first, behind the versions before them. That they cannot be kept is told and mends nothing else.
pub fn append(steps: Vec<Envelope>, state_dir: &Path, files: &dyn Files) {
    let Some(first) = steps.first().and_then(version) else {
        return;
    };
    let mut kept = load(state_dir, files);
    // A power cut may have left steps here that the ledger never heard of.
    kept.retain(|envelope| version(envelope).is_some_and(|version| version < first));
    kept.extend(steps);
    kept.drain(..kept.len().saturating_sub(VERSIONS_MAX));
    let mut bytes = to_bytes(&kept);
    while bytes.len() > BYTES_MAX {
        kept.drain(..kept.len().div_ceil(2));
        bytes = to_bytes(&kept);
    }
    if let Err(error) = files.write_atomic(&state_dir.join(FILE), &bytes, 0o600) {
        tracing::warn!(%error, file = FILE, "the authority's steps are not kept: a hub that loses them is not shown them");
    }
}

/// The versions above `held_by_hub`, oldest first, up to `newest`, which the ledger holds.
#[must_use]
pub fn above(held_by_hub: u64, newest: &Envelope, state_dir: &Path, files: &dyn Files) -> Vec<Envelope> {
    let last = version(newest).unwrap_or(0);
    if last <= held_by_hub {
        return Vec::new();
    }
    let mut steps = load(state_dir, files);
    steps.retain(|step| version(step).is_some_and(|version| version > held_by_hub && version < last));
    steps.push(newest.clone());
    steps
}

fn load(state_dir: &Path, files: &dyn Files) -> Vec<Envelope> {
    match files.read(&state_dir.join(FILE)) {
        Ok(bytes) if bytes.len() <= BYTES_MAX => serde_json::from_slice(&bytes).unwrap_or_default(),
        Ok(_) => Vec::new(),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(error = %Chain(&error), file = FILE, "cannot be read");
            }
            Vec::new()
        }
    }
}

fn to_bytes(kept: &[Envelope]) -> Vec<u8> {
    serde_json::to_vec(kept).expect("envelopes are texts")
}

fn version(envelope: &Envelope) -> Option<u64> {
    let document: Authority = parse_payload(&envelope.payload).ok()?;
    Some(document.version)
}

#[cfg(test)]
mod tests {
    use holdfast_pki::files::SystemFiles;

    use super::*;
    use crate::testing::Operators;

    fn versions(steps: &[Envelope]) -> Vec<u64> {
        steps.iter().filter_map(version).collect()
    }

    #[test]
    fn a_hub_is_shown_what_is_above_its_own_up_to_the_version_held() {
        let (dir, chain) = (tempfile::tempdir().unwrap(), Operators::new().versions(5));
        let above = |hub, held: usize| versions(&above(hub, &chain[held - 1], dir.path(), &SystemFiles));
        assert_eq!(
            above(1, 2),
            [2],
            "nothing was walked here: the ledger's own is shown"
        );
        append(chain[1..3].to_vec(), dir.path(), &SystemFiles);
        append(chain[3..].to_vec(), dir.path(), &SystemFiles);
        assert_eq!(above(2, 5), [3, 4, 5]);
        assert_eq!(above(2, 4), [3, 4], "power was cut before the ledger was written");
        assert!(above(5, 5).is_empty() && above(9, 5).is_empty());
    }

    #[test]
    fn steps_that_were_walked_again_are_there_once_and_only_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let chain = Operators::new().versions(VERSIONS_MAX as u64 + 3);
        append(chain[..10].to_vec(), dir.path(), &SystemFiles);
        append(chain[5..].to_vec(), dir.path(), &SystemFiles);
        let kept = versions(&load(dir.path(), &SystemFiles));
        assert_eq!(kept, (4..=VERSIONS_MAX as u64 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_file_shows_less_and_stops_nothing() {
        let (dir, chain) = (tempfile::tempdir().unwrap(), Operators::new().versions(3));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(versions(&above(1, &chain[2], dir.path(), &SystemFiles)), [3]);
        append(chain[1..].to_vec(), dir.path(), &SystemFiles);
        assert_eq!(versions(&above(1, &chain[2], dir.path(), &SystemFiles)), [2, 3]);
    }
}
