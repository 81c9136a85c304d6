//! The versions of the authority on their way: asked of a hub, and, once this node has walked through them, kept to be
//! shown to a hub that lost them. What is trusted is the one version in the ledger; nothing that is read here is.

use std::io;
use std::path::Path;

use holdfast_pki::authority::{Authority, TrustedAuthority};
use holdfast_pki::envelope::{Envelope, InvalidEnvelope, parse_payload};
use holdfast_pki::files::Files;
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::host::Chain;

const FILE: &str = "authority-chain.json";
/// The most versions that are kept: more than operators make while a hub's backup grows old. Older ones are let go.
const VERSIONS_MAX: usize = 64;
/// The most bytes that are read: what [`VERSIONS_MAX`] usual versions of a few KiB need, many times over.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a hub's versions are not known.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The hub did not answer.
    #[error("the hub did not send its authority")]
    Unanswered(#[source] Status),
    /// It answered with something else.
    #[error("the hub sent an authority that cannot be read")]
    Envelope(#[from] InvalidEnvelope),
}

/// The versions after `held` that a hub has, as far as it tells at once.
///
/// # Errors
/// [`AskError`].
pub async fn ask(hub: &Channel, held: u64) -> Result<Vec<Envelope>, AskError> {
    let request = v1::GetAuthorityRequest { after_version: held };
    let reply = EnrollmentClient::new(hub.clone())
        .get_authority(request)
        .await
        .map_err(AskError::Unanswered)?;
    let versions = reply.into_inner().versions.into_iter();
    Ok(versions.map(Envelope::try_from).collect::<Result<_, _>>()?)
}

/// Keeps `steps`, oldest first, behind the versions before them. That they cannot be kept is told and mends nothing else.
pub fn append(steps: &[TrustedAuthority], state_dir: &Path, files: &dyn Files) {
    let Some(first) = steps.first().map(|first| first.document().version) else {
        return;
    };
    let mut kept = load(state_dir, files);
    // A power cut may have left steps here that the ledger never heard of.
    kept.retain(|envelope| version(envelope).is_some_and(|version| version < first));
    kept.extend(steps.iter().map(|step| step.envelope().clone()));
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
    use std::ops::Range;

    use holdfast_pki::files::SystemFiles;

    use super::*;
    use crate::testing::Operators;

    fn versions(steps: &[Envelope]) -> Vec<u64> {
        steps.iter().filter_map(version).collect()
    }

    /// Walks through `steps` of the chain, from the version before them, and keeps them.
    fn walk(operators: &Operators, chain: &[Envelope], steps: Range<usize>, dir: &Path) {
        let before = operators.authority.clone().walk(&chain[..steps.start]).unwrap();
        append(&before.follow(&chain[steps]).steps, dir, &SystemFiles);
    }

    #[test]
    fn a_hub_is_shown_what_is_above_its_own_up_to_the_version_held() {
        let (dir, operators) = (tempfile::tempdir().unwrap(), Operators::new());
        let chain = operators.versions(5);
        let above = |hub, held: usize| versions(&above(hub, &chain[held - 1], dir.path(), &SystemFiles));
        assert_eq!(
            above(1, 2),
            [2],
            "nothing was walked here: the ledger's own is shown"
        );
        walk(&operators, &chain, 1..3, dir.path());
        walk(&operators, &chain, 3..5, dir.path());
        assert_eq!(above(2, 5), [3, 4, 5]);
        assert_eq!(above(2, 4), [3, 4], "power was cut before the ledger was written");
        assert!(above(5, 5).is_empty() && above(9, 5).is_empty());
    }

    #[test]
    fn steps_that_were_walked_again_are_there_once_and_only_the_newest_are_kept() {
        let (dir, operators) = (tempfile::tempdir().unwrap(), Operators::new());
        let chain = operators.versions(VERSIONS_MAX as u64 + 3);
        walk(&operators, &chain, 1..10, dir.path());
        walk(&operators, &chain, 5..chain.len(), dir.path());
        let kept = versions(&load(dir.path(), &SystemFiles));
        assert_eq!(kept, (4..=VERSIONS_MAX as u64 + 3).collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_file_shows_less_and_stops_nothing() {
        let (dir, operators) = (tempfile::tempdir().unwrap(), Operators::new());
        let chain = operators.versions(3);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(versions(&above(1, &chain[2], dir.path(), &SystemFiles)), [3]);
        walk(&operators, &chain, 1..3, dir.path());
        assert_eq!(versions(&above(1, &chain[2], dir.path(), &SystemFiles)), [2, 3]);
    }
}
