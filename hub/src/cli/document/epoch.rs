//! Reading an epoch raise: which epoch ends, and what that comes to.

use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_proto::ids::TrustDomain;

use super::{Reading, RefuseDocument, of_fleet};
use crate::cli::output;

/// What this machine knows of the fleet's epochs.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) fleet: &'a TrustDomain,
    /// The epoch that is proven.
    pub(super) held: u64,
    /// The raises that were verified here.
    pub(super) verified: &'a [Envelope],
    /// The hub's reason for serving no release, if it gives one.
    pub(super) hold: Option<&'a str>,
}

/// Reads a raise: the next one, or one that lies behind and is signed again.
pub(super) fn read(ground: &Ground<'_>, envelope: &Envelope) -> Result<Reading, RefuseDocument> {
    let (fleet, held) = (ground.fleet, ground.held);
    let raise: EpochRaise = parse_payload(&envelope.payload)?;
    of_fleet(&raise.trust_domain, fleet)?;
    let EpochRaise { old, new, .. } = raise;
    let begins = raise
        .checkpoint
        .map(|checkpoint| format!("history begins anew after checkpoint {checkpoint}"));
    let title = format!("epoch raise of {fleet}");
    if old < held && raise.follows(fleet, old) {
        let mut lines = vec![format!(
            "epoch {old} -> {new}, which is behind us: a signature is added for nodes that have yet to follow it"
        )];
        if !is_verified(ground.verified, envelope) {
            lines.push(
                "! that operators raised it just so is the hub's word alone: this machine never verified it"
                    .to_owned(),
            );
        }
        lines.extend(begins);
        return Ok(Reading { title, lines });
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
    if let Some(hold) = ground.hold {
        lines.push(format!(
            "- the hub's hold, for which it says: {}",
            output::clean(hold)
        ));
    }
    lines.extend(begins);
    Ok(Reading { title, lines })
}

/// Whether a raise is among those that were verified here.
pub(in crate::cli) fn is_verified(verified: &[Envelope], raise: &Envelope) -> bool {
    verified.iter().any(|known| known.digest() == raise.digest())
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

    fn at(fleet: &TrustDomain, held: u64) -> Ground<'_> {
        Ground {
            fleet,
            held,
            verified: &[],
            hold: None,
        }
    }

    #[test]
    fn a_raise_behind_us_that_was_never_verified_here_says_so() {
        let (fleet, behind) = (fleet(), raise(1, 2, "lab.example"));
        let verified = [behind.clone()];
        let known = Ground {
            verified: &verified,
            ..at(&fleet, 2)
        };
        let reading = read(&known, &behind).unwrap();
        assert!(
            reading.lines.len() == 1 && reading.lines[0].contains("behind us"),
            "{reading:?}"
        );
        // The same step by another document: as if history had begun elsewhere.
        let mut beside: EpochRaise = parse_payload(&behind.payload).unwrap();
        beside.checkpoint = Some(holdfast_proto::ids::Digest::of(b"elsewhere"));
        let beside = Envelope::unsigned(serde_json::to_vec(&beside).unwrap());
        let reading = read(&known, &beside).unwrap();
        assert!(reading.lines[1].starts_with("! "), "{reading:?}");
        assert!(reading.lines[2].contains("checkpoint"), "{reading:?}");
    }

    #[test]
    fn a_raise_tells_what_ends_and_why_the_hub_holds() {
        let fleet = fleet();
        let ground = Ground {
            hold: Some("restored from a copy"),
            ..at(&fleet, 1)
        };
        let reading = read(&ground, &raise(1, 2, "lab.example")).unwrap();
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
        let refused = |envelope: &Envelope, held| read(&at(&fleet(), held), envelope).unwrap_err();
        assert!(matches!(
            refused(&raise(1, 3, "lab.example"), 1),
            RefuseDocument::Epoch { .. }
        ));
        assert!(matches!(
            refused(&raise(3, 4, "lab.example"), 2),
            RefuseDocument::Epoch { held: 2, .. }
        ));
        assert!(matches!(
            refused(&raise(1, 2, "other.example"), 1),
            RefuseDocument::TrustDomain { .. }
        ));
    }
}
