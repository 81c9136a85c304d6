//! Epoch raises: an operator's signed word that a history begins anew, after a hub's store was lost or went back.

use holdfast_proto::ids::{Digest, TrustDomain};
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

/// One step from an epoch to the next. Releases of the old one are refused from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRaise {
    /// Always `epoch`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The epoch that ends.
    pub old: u64,
    /// The epoch that begins: `old` + 1, for each raise is a step of its own.
    pub new: u64,
    /// The digest of the audit checkpoint where the new history begins; none from a hub without a checkpointed log.
    pub checkpoint: Option<Digest>,
}

impl Payload for EpochRaise {
    const KIND: &'static str = "epoch";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 4 * 1024;
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

impl EpochRaise {
    /// Whether it leads from `held` to the next epoch of `trust_domain`.
    #[must_use]
    pub fn follows(&self, trust_domain: &TrustDomain, held: u64) -> bool {
        self.trust_domain == *trust_domain && self.old == held && held.checked_add(1) == Some(self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_rises_by_exactly_one_in_its_own_fleet() {
        let fleet: TrustDomain = "lab.example".parse().unwrap();
        let raise = |old, new| EpochRaise {
            kind: EpochRaise::KIND.to_owned(),
            format: 1,
            trust_domain: fleet.clone(),
            old,
            new,
            checkpoint: None,
        };
        assert!(raise(1, 2).follows(&fleet, 1));
        for (old, new, held) in [
            (1, 3, 1),
            (2, 3, 1),
            (1, 2, 2),
            (1, 1, 1),
            (2, 1, 2),
            (u64::MAX, 0, u64::MAX),
        ] {
            assert!(
                !raise(old, new).follows(&fleet, held),
                "{old} to {new} from {held}"
            );
        }
        assert!(!raise(1, 2).follows(&"other.example".parse().unwrap(), 1));
    }
}
