//! Label changes: an operator's signed word on what a node is, after the join grant that gave the first labels.

use holdfast_proto::ids::{Digest, NodeId, TrustDomain};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

/// The whole set of a node's labels, from a version on. Only a higher version counts, so that no hub can go back; and only
/// upon what its signers saw, so that no hub can have them sign upon what another node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// Always `labels`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The node whose labels they are.
    pub node: NodeId,
    /// 2 for the first change: version 1 is the join grant's.
    pub version: u64,
    /// The digest of the document that these labels were made from: the join grant's, or the last change's. A node takes
    /// them only if that is the very document it holds, since whoever composed them knew it from a hub alone. None: the
    /// set was stated outright, whatever the node was before.
    pub previous: Option<Digest>,
    /// All of its labels from now on.
    pub labels: Labels,
}

impl Payload for LabelChange {
    const KIND: &'static str = "labels";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 16 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}
