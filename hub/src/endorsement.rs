//! More signatures on a document that stands: how it holds again by an authority that dropped who signed it first.

use holdfast_pki::authority::{RefuseEnvelope, TrustedAuthority};
use holdfast_pki::draft::{DraftKind, keep_good_signatures, merge_signatures};
use holdfast_pki::envelope::{Envelope, SIGNATURES_MAX, Verified};
use holdfast_proto::payload::Payload;

/// Adds the signatures of `more` to `held`, which is around the same bytes, if operators of `authority` have then signed
/// as it asks. Those of `more` that do not count are dropped: whoever hands them in may put anything there.
///
/// The new ones come first: only so many are looked at, and they are those of today's operators. The old ones stay as far
/// as there is room, for whoever has yet to reach this authority.
///
/// # Errors
/// [`RefuseEnvelope`] if they are too few even so. What is held stays.
pub fn endorse<T: Payload>(
    authority: &TrustedAuthority,
    kind: DraftKind,
    held: &Envelope,
    more: &Envelope,
    now_secs: u64,
) -> Result<Verified<T>, RefuseEnvelope> {
    let mut merged = more.clone();
    keep_good_signatures(&mut merged, kind, authority);
    merge_signatures(&mut merged, held);
    merged.signatures.truncate(SIGNATURES_MAX);
    authority.verify(&merged, &kind.act(), now_secs)
}
