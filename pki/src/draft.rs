//! Drafts: documents on their way to the signatures that they need, through a hub or in a file.

use holdfast_proto::payload::Payload as _;
use serde::{Deserialize, Serialize};

use crate::authority::{Act, Authority, TrustedAuthority};
use crate::envelope::Envelope;
use crate::epoch::EpochRaise;
use crate::grant::JoinGrant;
use crate::labels::LabelChange;

/// A kind of document that operators sign together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DraftKind {
    /// The next version of the authority.
    Authority,
    /// The next epoch.
    Epoch,
    /// A release's manifest (`policy::release::Manifest`).
    Release,
    /// A join grant.
    JoinGrant,
    /// A node's labels.
    Labels,
}

impl DraftKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Authority,
        Self::Epoch,
        Self::Release,
        Self::JoinGrant,
        Self::Labels,
    ];

    /// The kind's word: the payload's [`holdfast_proto::payload::Payload::KIND`], and the domain that signatures cover.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => Authority::KIND,
            Self::Epoch => EpochRaise::KIND,
            Self::Release => "release",
            Self::JoinGrant => JoinGrant::KIND,
            Self::Labels => LabelChange::KIND,
        }
    }

    /// What the document would bring about.
    #[must_use]
    pub const fn act(self) -> Act {
        match self {
            Self::Authority => Act::Authority,
            Self::Epoch => Act::Epoch,
            Self::Release => Act::Release,
            Self::JoinGrant => Act::Join,
            Self::Labels => Act::Label,
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Drops the signatures that do not count by `authority`: whoever hands in a document may put anything into it.
///
/// On the next version of the authority those count as well that it asks for itself.
pub fn keep_good_signatures(envelope: &mut Envelope, kind: DraftKind, authority: &TrustedAuthority) {
    let proposed = match kind {
        DraftKind::Authority => authority.read_next(envelope).ok(),
        DraftKind::Epoch | DraftKind::Release | DraftKind::JoinGrant | DraftKind::Labels => None,
    };
    let judges: Vec<_> = std::iter::once(authority.document()).chain(&proposed).collect();
    let mut alone = Envelope::unsigned(std::mem::take(&mut envelope.payload));
    envelope.signatures.retain(|signature| {
        alone.signatures = vec![signature.clone()];
        let counts = |judge: &&Authority| !judge.progress(kind, &alone).signers.is_empty();
        judges.iter().any(counts)
    });
    envelope.payload = alone.payload;
}

/// Adds the signatures of `more` that `into` does not carry; both are around the same payload.
pub fn merge_signatures(into: &mut Envelope, more: &Envelope) {
    for signature in &more.signatures {
        let known = |held: &crate::envelope::Signature| held.key_id == signature.key_id;
        if !into.signatures.iter().any(known) {
            into.signatures.push(signature.clone());
        }
    }
}
