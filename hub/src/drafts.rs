//! Drafts at rest: documents that wait for more signatures, so that operators need not meet to sign together.
//!
//! `draft/<digest>` holds one. It steers nothing: a draft becomes what it says only when somebody publishes it, and then its
//! signatures are counted anew. So that nobody fills a draft with what is none, only signatures that count are kept.

use holdfast_pki::authority::{Authority, TrustedAuthority};
use holdfast_pki::draft::{DraftKind, keep_good_signatures, merge_signatures};
use holdfast_pki::envelope::{Envelope, InvalidPayload, SIGNATURES_MAX, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::{Digest, Name, TrustDomain};
use holdfast_proto::payload::format_1;
use holdfast_proto::v1;
use serde::{Deserialize, Serialize};

use crate::registry::{Registry, RegistryError, read_record};
use crate::store::key::{Key, Span};

/// The most drafts at once. It bounds the disk, not a promise: calls at the same moment may go a few over.
pub const DRAFTS_MAX: usize = 64;
/// The most of them that one operator put: four who go astray leave no place, one does not.
pub const DRAFTS_OF_ONE_MAX: usize = 16;

const PREFIX: &str = "draft/";

/// Where a draft waits. Whoever publishes the document deletes it in the same transaction.
#[must_use]
pub fn key(digest: Digest) -> Key {
    format!("{PREFIX}{digest}").into()
}

/// A document that waits for more signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftRecord {
    /// Always 1.
    #[serde(deserialize_with = "format_1")]
    pub format: u32,
    /// What it is.
    pub kind: DraftKind,
    /// The document, with the good signatures so far.
    pub envelope: Envelope,
    /// Who put it here first.
    pub put_by: Name,
    /// When, in Unix seconds.
    pub at_secs: u64,
}

/// Why a document is no draft here.
#[derive(Debug, thiserror::Error)]
pub enum RefuseDraft {
    /// Nothing that operators sign together.
    #[error("'{0}' is no kind of draft; a newer hub may be needed")]
    Kind(String),
    /// It is not of the kind that it is said to be.
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
    /// It is another fleet's.
    #[error("the draft is for {0}, not for this fleet")]
    TrustDomain(TrustDomain),
}

/// The kind of `word`, if `payload` is such a document of `fleet`.
///
/// # Errors
/// [`RefuseDraft`] says what it is not.
pub fn check(word: &str, payload: &[u8], fleet: &TrustDomain) -> Result<DraftKind, RefuseDraft> {
    let kind =
        DraftKind::of(word).ok_or_else(|| RefuseDraft::Kind(word.chars().take(40).collect::<String>()))?;
    let domain = match kind {
        DraftKind::Authority => parse_payload::<Authority>(payload)?.trust_domain,
        DraftKind::Epoch => parse_payload::<EpochRaise>(payload)?.trust_domain,
        DraftKind::Release => parse_payload::<Manifest>(payload)?.trust_domain,
        DraftKind::JoinGrant => parse_payload::<JoinGrant>(payload)?.trust_domain,
        DraftKind::Labels => parse_payload::<LabelChange>(payload)?.trust_domain,
    };
    if domain != *fleet {
        return Err(RefuseDraft::TrustDomain(domain));
    }
    Ok(kind)
}

impl DraftRecord {
    /// A draft without a signature.
    #[must_use]
    pub const fn new(kind: DraftKind, payload: Vec<u8>, put_by: Name, now_secs: u64) -> Self {
        Self {
            format: 1,
            kind,
            envelope: Envelope::unsigned(payload),
            put_by,
            at_secs: now_secs,
        }
    }

    /// Adds the signatures of `more`, which is around the same document, and keeps of all of them those that count by
    /// `authority`: one for each key, the new ones first.
    #[must_use]
    pub fn merged(&self, more: &Envelope, authority: &TrustedAuthority) -> Self {
        let mut all = Envelope::unsigned(self.envelope.payload.clone());
        for source in [more, &self.envelope] {
            // Filtered before they are merged, so that a false signature cannot take the place of the same key's good one.
            let mut good = source.clone();
            keep_good_signatures(&mut good, self.kind, authority);
            merge_signatures(&mut all, &good);
        }
        all.signatures.truncate(SIGNATURES_MAX);
        Self {
            envelope: all,
            ..self.clone()
        }
    }
}

impl From<&DraftRecord> for v1::Draft {
    fn from(record: &DraftRecord) -> Self {
        Self {
            digest: record.envelope.digest().to_string(),
            kind: record.kind.as_str().to_owned(),
            envelope: Some((&record.envelope).into()),
            put_by: record.put_by.to_string(),
            at_secs: record.at_secs,
        }
    }
}

/// Every draft.
///
/// # Errors
/// [`RegistryError`] from the store, or for a record that cannot be read.
pub async fn all(registry: &Registry) -> Result<Vec<DraftRecord>, RegistryError> {
    // Far fewer than a page holds.
    let page = registry
        .store()
        .range(&Span::prefix(PREFIX), crate::store::key::PAGE_MAX)
        .await?;
    page.entries.iter().map(read_record).collect()
}
