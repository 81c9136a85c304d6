//! The one decision over a change of this node's labels: [`Ledger::judge_labels`]. Pure, as `judge` is.
//!
//! The labels choose the slices, so whoever chose them would choose the policy: they come from the node's own join grant
//! and from later documents that operators signed for this very node, each upon the one before it. Only a higher version
//! counts: no hub brings back what was. And a join grant names no node: what operators changed in the belief that another
//! grant was this node's is refused.

use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::{Digest, NodeId};
use holdfast_proto::labels::Labels;
use serde::{Deserialize, Serialize};

use super::Ledger;

/// This node's labels, as an operator signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldLabels {
    /// 1 for those of the join grant.
    pub version: u64,
    /// The digest of the document that gave them.
    pub digest: Digest,
    /// The labels.
    pub labels: Labels,
    /// That document; none for those of the join grant, which the ledger holds anyway.
    pub change: Option<Envelope>,
}

impl HeldLabels {
    /// Those that a node joins with.
    pub(super) fn of_grant(grant: &Verified<JoinGrant>) -> Self {
        Self {
            version: 1,
            digest: grant.digest(),
            labels: grant.value().labels.clone(),
            change: None,
        }
    }
}

/// What is to be done with a change of labels whose signatures hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelJudgement {
    /// Nothing: these are the labels held.
    Held,
    /// They take the place of those held.
    Take,
}

/// Why a change of labels is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefuseLabels {
    /// It is for another node.
    #[error("labels version {version} is for node {node}, not for this one")]
    Node {
        /// What was offered.
        version: u64,
        /// Whose labels they are.
        node: NodeId,
    },
    /// It is older than what is held.
    #[error("labels version {offered} is older than version {held}, which this node holds")]
    Outdated {
        /// What was offered.
        offered: u64,
        /// What is held.
        held: u64,
    },
    /// They were made from another document than the one held.
    #[error(
        "labels version {offered} were made from document {from}, this node holds version {held} by document {document}: \
         their signers were shown what this node is not, or a change between was not handed on; sign the whole set \
         (`holdfast node label NAME --set ..`)",
        from = .from.short(), document = .document.short()
    )]
    Base {
        /// What was offered.
        offered: u64,
        /// The document that it was made from.
        from: Digest,
        /// What is held.
        held: u64,
        /// The document that gave it.
        document: Digest,
    },
    /// Same version, other bytes.
    #[error(
        "labels version {0} differs from the version {0} that this node holds: operators signed two under one number; sign a higher one"
    )]
    Equivocation(u64),
}

impl Ledger {
    /// What is to be done with a change of labels whose signatures hold, on the node `own`.
    ///
    /// # Errors
    /// [`RefuseLabels`].
    pub fn judge_labels(
        &self,
        change: &LabelChange,
        digest: Digest,
        own: &NodeId,
    ) -> Result<LabelJudgement, RefuseLabels> {
        let (offered, held) = (change.version, self.labels.version);
        if change.node != *own {
            return Err(RefuseLabels::Node {
                version: offered,
                node: change.node,
            });
        }
        if offered < held {
            return Err(RefuseLabels::Outdated { offered, held });
        }
        if offered == held {
            return if digest == self.labels.digest {
                Ok(LabelJudgement::Held)
            } else {
                Err(RefuseLabels::Equivocation(offered))
            };
        }
        match change.previous {
            // Stated outright: nothing that a hub showed is in it.
            None => Ok(LabelJudgement::Take),
            Some(from) if offered == held + 1 && from == self.labels.digest => Ok(LabelJudgement::Take),
            Some(from) => Err(RefuseLabels::Base {
                offered,
                from,
                held,
                document: self.labels.digest,
            }),
        }
    }

    /// Notes the labels from now on.
    pub fn take_labels(&mut self, change: &Verified<LabelChange>) {
        self.labels = HeldLabels {
            version: change.value().version,
            digest: change.digest(),
            labels: change.value().labels.clone(),
            change: Some(change.envelope().clone()),
        };
    }
}

#[cfg(test)]
mod tests {
    use holdfast_pki::authority::Act;
    use holdfast_proto::ids::Generation;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{NOW, Operators, label_change, own};

    fn judge(ledger: &Ledger, change: &LabelChange) -> Result<LabelJudgement, RefuseLabels> {
        ledger.judge_labels(change, digest(change), &own())
    }

    fn digest(change: &LabelChange) -> Digest {
        Digest::of(&serde_json::to_vec(change).unwrap())
    }

    fn take(operators: &Operators, ledger: &mut Ledger, change: &LabelChange) {
        let verified = operators
            .authority
            .verify(&operators.sign(change), &Act::Label, NOW);
        ledger.take_labels(&verified.unwrap());
    }

    #[test]
    fn labels_for_another_node_are_refused() {
        let operators = Operators::new();
        let ledger = operators.ledger(Generation::default());
        let good = label_change(2, ledger.labels.digest);
        assert_eq!(judge(&ledger, &good), Ok(LabelJudgement::Take));
        let other_node = LabelChange {
            node: NodeId::of_public_key(b"another node"),
            ..good
        };
        assert!(matches!(
            judge(&ledger, &other_node),
            Err(RefuseLabels::Node { version: 2, .. })
        ));
    }

    #[test]
    fn labels_of_an_equal_or_lower_version_are_refused() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        let (grant, two) = (ledger.labels.digest, label_change(2, ledger.labels.digest));
        let three = label_change(3, digest(&two));
        take(&operators, &mut ledger, &two);
        take(&operators, &mut ledger, &three);
        assert_eq!(judge(&ledger, &three), Ok(LabelJudgement::Held), "the same again");
        assert_eq!(
            judge(&ledger, &label_change(3, grant)),
            Err(RefuseLabels::Equivocation(3)),
            "another of the same version"
        );
        assert_eq!(
            judge(&ledger, &two),
            Err(RefuseLabels::Outdated { offered: 2, held: 3 })
        );
        assert_eq!(
            judge(&ledger, &label_change(1, grant)),
            Err(RefuseLabels::Outdated { offered: 1, held: 3 }),
            "the join grant's are gone as well"
        );
    }

    #[test]
    fn labels_that_were_made_from_what_this_node_is_not_are_refused() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        let refused = |ledger: &Ledger, change: &LabelChange| {
            matches!(judge(ledger, change), Err(RefuseLabels::Base { .. }))
        };
        // A hub may have shown whoever signed it the grant of another node.
        let other_grant = label_change(2, Digest::of(b"the grant of another node"));
        assert!(refused(&ledger, &other_grant));
        // .. and the next change follows that one, behind a gap.
        assert!(refused(&ledger, &label_change(3, digest(&other_grant))));
        assert!(refused(&ledger, &label_change(3, ledger.labels.digest)), "a gap");
        let two = label_change(2, ledger.labels.digest);
        take(&operators, &mut ledger, &two);
        assert!(
            refused(&ledger, &label_change(3, ledger.grant.digest())),
            "side by side"
        );
        assert_eq!(
            judge(&ledger, &label_change(3, digest(&two))),
            Ok(LabelJudgement::Take)
        );
    }

    #[test]
    fn a_set_that_was_stated_outright_is_taken_whatever_was_before() {
        let ledger = Operators::new().ledger(Generation::default());
        let outright = |version| LabelChange {
            previous: None,
            ..label_change(version, Digest::of(b"not looked at"))
        };
        assert_eq!(judge(&ledger, &outright(2)), Ok(LabelJudgement::Take));
        assert_eq!(judge(&ledger, &outright(9)), Ok(LabelJudgement::Take));
        assert!(
            judge(&ledger, &outright(1)).is_err(),
            "only a higher version counts"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_offered_labels_only_rise_and_are_this_nodes_own(
            offers in prop::collection::vec((0_u64..8, 0_u8..4, any::<bool>()), 1..12)
        ) {
            let operators = Operators::new();
            let mut ledger = operators.ledger(Generation::default());
            for (version, previous, for_us) in offers {
                let mut change = label_change(version, ledger.labels.digest);
                change.previous = match previous {
                    0 => None,
                    1 => Some(Digest::of(b"another document")),
                    _ => change.previous,
                };
                if !for_us {
                    change.node = NodeId::of_public_key(b"another node");
                }
                let before = ledger.labels.clone();
                let taken = judge(&ledger, &change) == Ok(LabelJudgement::Take);
                let follows = previous == 0 || (previous > 1 && version == before.version + 1);
                prop_assert_eq!(taken, for_us && version > before.version && follows);
                if taken {
                    take(&operators, &mut ledger, &change);
                    prop_assert!(ledger.labels.version == version && ledger.labels.digest == digest(&change));
                }
            }
        }
    }
}
