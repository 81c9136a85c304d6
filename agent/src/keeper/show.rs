//! How the keeper shows a hub what it lacks: a hub restored from an old backup, or one that others ran ahead of, learns
//! from any node that there is more, in the operators' own signatures.

use std::time::Duration;

use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use holdfast_proto::{SHOW_BYTES_MAX, SHOW_CHUNK_BYTES_MAX, SHOWN_MAX};
use prost::Message as _;

use super::{Held, Keeper};
use crate::authority_chain;
use crate::change::Offering;
use crate::ledger::Ledger;

/// How long a hub may take over what it is shown.
const SHOW_TIMEOUT: Duration = Duration::from_secs(20);

/// What a hub says that it has, when the link comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubHas {
    /// The generation of its current release.
    pub current: Option<Generation>,
    /// The newest version of its authority.
    pub authority_version: u64,
    /// Its epoch.
    pub epoch: u64,
}

impl From<&v1::HubHello> for HubHas {
    fn from(hello: &v1::HubHello) -> Self {
        Self {
            current: hello.current.map(Into::into),
            authority_version: hello.authority_version,
            epoch: hello.epoch,
        }
    }
}

impl HubHas {
    /// Whether a node that holds this much has more.
    #[must_use]
    pub fn is_less_than(&self, held: &Held) -> bool {
        self.authority_version < held.authority_version
            || self.epoch < held.epoch
            || self.lacks(held.accepted)
    }

    /// Whether the hub lacks a release of this generation. One of an epoch that is over there is no loss: operators ended
    /// that history.
    fn lacks(&self, accepted: Option<Generation>) -> bool {
        accepted.is_some_and(|accepted| accepted.epoch >= self.epoch && Some(accepted) > self.current)
    }

    /// What of `ledger`, and of the `authority` versions above the hub's, the hub is shown: as much as it takes at once.
    /// The release goes first, since it alone makes the hub hold; what is left out is shown over the next link.
    fn lacking(&self, ledger: &Ledger, authority: &[Envelope]) -> v1::HigherState {
        let raises_above = ledger.epoch.saturating_sub(self.epoch);
        let known = ledger
            .raises
            .len()
            .saturating_sub(usize::try_from(raises_above).unwrap_or(usize::MAX));
        let highest = ledger
            .highest
            .as_ref()
            .filter(|highest| self.lacks(Some(highest.generation)));
        let mut shown = v1::HigherState {
            authority: Vec::new(),
            epochs: first(&ledger.raises[known..]),
            manifest: highest.map(|highest| (&highest.manifest).into()),
        };
        for version in first(authority) {
            shown.authority.push(version);
            if shown.encoded_len() > SHOW_BYTES_MAX {
                shown.authority.pop();
                break;
            }
        }
        shown
    }
}

/// The first of `documents` that a hub looks at: without a gap behind what it has.
fn first(documents: &[Envelope]) -> Vec<v1::Envelope> {
    documents.iter().take(SHOWN_MAX).map(Into::into).collect()
}

impl Keeper {
    /// Shows a hub what it lacks; once for each link, so that a hub which never learns is not told for ever.
    pub(super) async fn show(&self, hub: &Offering, has: HubHas) {
        let (state_dir, files) = (&self.host.state_dir, &*self.host.files);
        let newest = &self.ledger.authority;
        let authority = authority_chain::above(has.authority_version, newest, state_dir, files);
        let bytes = has.lacking(&self.ledger, &authority).encode_to_vec();
        let chunks: Vec<_> = bytes
            .chunks(SHOW_CHUNK_BYTES_MAX)
            .map(|chunk| v1::ShowRequest {
                chunk: chunk.to_vec().into(),
            })
            .collect();
        let mut client = hub.client.clone();
        match tokio::time::timeout(SHOW_TIMEOUT, client.show(tokio_stream::iter(chunks))).await {
            Ok(Ok(reply)) => tracing::warn!(
                holds = reply.into_inner().holds,
                "the hub has less than this node: it was shown the rest"
            ),
            Ok(Err(status)) => tracing::warn!(
                reason = status.message(),
                "the hub has less than this node, and does not take the rest"
            ),
            Err(_) => tracing::warn!("the hub has less than this node, and did not take the rest in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_pki::authority::Act;
    use holdfast_pki::epoch::EpochRaise;

    use super::*;
    use crate::ledger::Judgement;
    use crate::testing::{NOW, Operators, raise};

    const FIRST: HubHas = HubHas {
        current: Some(Generation { epoch: 1, number: 1 }),
        authority_version: 1,
        epoch: 1,
    };

    fn accept(operators: &Operators, ledger: &mut Ledger, epoch: u64, number: u64) -> Envelope {
        let release = operators.release(epoch, number, NOW, None);
        ledger.begin(&release, Judgement::Apply, [9; 16].into());
        release.manifest().envelope().clone()
    }

    fn raise_epoch(operators: &Operators, ledger: &mut Ledger, old: u64) -> Envelope {
        let signed = operators.sign(&raise(old, old + 1));
        let verified = operators
            .authority
            .verify::<EpochRaise>(&signed, &Act::Epoch, NOW);
        ledger.take_raise(&verified.unwrap());
        signed
    }

    #[test]
    fn a_hub_that_has_as_much_or_more_is_shown_nothing() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        accept(&operators, &mut ledger, 1, 2);
        let held = Held::of(&ledger);
        let ahead = HubHas {
            current: Some(Generation { epoch: 1, number: 3 }),
            authority_version: 2,
            epoch: 2,
        };
        let level = HubHas {
            current: held.accepted,
            ..FIRST
        };
        assert!(!ahead.is_less_than(&held) && !level.is_less_than(&held));
        assert!(FIRST.is_less_than(&held));
        assert!(
            HubHas {
                current: None,
                ..FIRST
            }
            .is_less_than(&held)
        );
    }

    #[test]
    fn a_release_of_an_epoch_that_operators_ended_is_not_held_against_a_hub() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        accept(&operators, &mut ledger, 1, 7);
        let raised = HubHas { epoch: 2, ..FIRST };
        assert!(!raised.is_less_than(&Held::of(&ledger)));
        assert_eq!(raised.lacking(&ledger, &[]).manifest, None);
    }

    #[test]
    fn a_restored_hub_is_shown_the_raises_and_the_release_that_it_forgot() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        let raises: Vec<_> = (1..4)
            .map(|old| raise_epoch(&operators, &mut ledger, old))
            .collect();
        let manifest = accept(&operators, &mut ledger, 4, 2);
        ledger.undo();
        let chain = operators.versions(3);
        let forgot = HubHas { epoch: 2, ..FIRST };
        assert!(forgot.is_less_than(&Held::of(&ledger)));
        let wire = |documents: &[Envelope]| documents.iter().map(Into::into).collect::<Vec<_>>();
        assert_eq!(
            forgot.lacking(&ledger, &chain[1..]),
            v1::HigherState {
                authority: wire(&chain[1..]),
                epochs: wire(&raises[1..]),
                manifest: Some((&manifest).into()),
            }
        );
    }

    #[test]
    fn what_is_shown_at_once_is_bounded_and_begins_behind_what_the_hub_has() {
        let operators = Operators::new();
        let mut ledger = operators.ledger(Generation::default());
        for old in 1..=70 {
            raise_epoch(&operators, &mut ledger, old);
        }
        let large = Envelope::unsigned(vec![b' '; 100_000]);
        let shown = FIRST.lacking(&ledger, &vec![large; 40]);
        assert!(shown.encoded_len() <= SHOW_BYTES_MAX, "{}", shown.encoded_len());
        assert_eq!(shown.authority.len(), 10, "as many as fit");
        assert_eq!(shown.epochs.len(), SHOWN_MAX);
        let half = HubHas { epoch: 40, ..FIRST };
        let shown = half.lacking(&ledger, &[]);
        let next = v1::Envelope::from(&operators.sign(&raise(40, 41)));
        assert_eq!((shown.epochs.first(), shown.epochs.len()), (Some(&next), 31));
    }
}
