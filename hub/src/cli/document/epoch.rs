//! Reading an epoch raise: which epoch ends, and what that comes to.

use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::ids::TrustDomain;

use super::{Reading, RefuseDocument, of_fleet};

/// Reads a raise from the epoch that is proven to be `held`. `hold` is the hub's reason for serving no release, if any.
pub(super) fn read(
    fleet: &TrustDomain,
    held: u64,
    hold: Option<&str>,
    envelope: &Envelope,
) -> Result<Reading, RefuseDocument> {
    let raise: EpochRaise = parse_payload(&envelope.payload)?;
    of_fleet(&raise.trust_domain, fleet)?;
    let EpochRaise { old, new, .. } = raise;
    if old < held && raise.follows(fleet, old) {
        return Ok(Reading {
            title: format!("epoch raise of {fleet}"),
            lines: vec![format!(
                "epoch {old} -> {new}, which is behind us: a signature is added for nodes that have yet to follow it"
            )],
        });
    }
    if !raise.follows(fleet, held) {
        return Err(RefuseDocument::Epoch { old, new, held });
    }
    let mut lines = vec![
        format!("~ epoch: {old} -> {new}, on every node that hears of it; it never goes back"),
        format!(
            "- releases of epoch {old}: refused from then on; what is in force stays until the next release"
        ),
    ];
    if let Some(hold) = hold {
        lines.push(format!("- the hub's hold, for which it says: {hold}"));
    }
    if let Some(checkpoint) = raise.checkpoint {
        lines.push(format!("history begins anew after checkpoint {checkpoint}"));
    }
    Ok(Reading {
        title: format!("epoch raise of {fleet}"),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::fleet;
    use holdfast_proto::payload::Payload as _;

    fn raise(old: u64, new: u64, of: &str) -> Envelope {
        let raise = EpochRaise {
            kind: EpochRaise::KIND.to_owned(),
            format: 1,
            trust_domain: of.parse().unwrap(),
            old,
            new,
            checkpoint: None,
        };
        Envelope::unsigned(serde_json::to_vec(&raise).unwrap())
    }

    #[test]
    fn a_raise_tells_what_ends_and_why_the_hub_holds() {
        let reading = read(
            &fleet(),
            1,
            Some("restored from a copy"),
            &raise(1, 2, "lab.example"),
        )
        .unwrap();
        assert_eq!(
            Reading::text(&reading),
            "epoch raise of lab.example\n  \
             ~ epoch: 1 -> 2, on every node that hears of it; it never goes back\n  \
             - releases of epoch 1: refused from then on; what is in force stays until the next release\n  \
             - the hub's hold, for which it says: restored from a copy"
        );
    }

    #[test]
    fn only_the_next_epoch_of_this_fleet_is_to_be_signed() {
        let refused = |envelope: &Envelope, held| read(&fleet(), held, None, envelope).unwrap_err();
        assert!(matches!(
            refused(&raise(1, 3, "lab.example"), 1),
            RefuseDocument::Epoch { .. }
        ));
        assert!(matches!(
            refused(&raise(3, 4, "lab.example"), 2),
            RefuseDocument::Epoch { held: 2, .. }
        ));
        let behind = read(&fleet(), 2, None, &raise(1, 2, "lab.example")).unwrap();
        assert!(behind.lines[0].contains("behind us"), "{behind:?}");
        assert!(matches!(
            refused(&raise(1, 2, "other.example"), 1),
            RefuseDocument::TrustDomain { .. }
        ));
    }
}
