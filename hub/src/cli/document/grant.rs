//! Reading a join grant: whom it would let in, as what.

use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_proto::ids::{Generation, TrustDomain};
use ipnet::IpNet;

use super::{Reading, RefuseDocument, of_fleet};
use crate::cli::time::until;

/// Reads a grant. `highest` is the highest release that this machine has seen.
pub(super) fn read(
    fleet: &TrustDomain,
    highest: Option<Generation>,
    envelope: &Envelope,
    now_secs: u64,
) -> Result<Reading, RefuseDocument> {
    let grant: JoinGrant = parse_payload(&envelope.payload)?;
    of_fleet(&grant.trust_domain, fleet)?;
    let nodes = match grant.uses {
        1 => "1 node joins".to_owned(),
        uses => format!("{uses} nodes join"),
    };
    let labels = match grant.labels.is_empty() {
        true => "no labels".to_owned(),
        false => grant.labels.to_string(),
    };
    let within: Vec<_> = grant.within.iter().map(IpNet::to_string).collect();
    let from = match within.is_empty() {
        true => "any address".to_owned(),
        false => within.join(", "),
    };
    let mut lines = vec![
        format!(
            "+ {nodes} with {labels}, named {}, from {from}",
            String::from(grant.name_pattern)
        ),
        format!("until {}", until(grant.not_after_secs, now_secs)),
        match grant.admission {
            Admission::Automatic => "whoever has the token joins".to_owned(),
            Admission::Manual => "an operator admits each one by hand".to_owned(),
        },
    ];
    let floor = grant.least_generation;
    lines.push(match highest {
        Some(highest) if floor < highest => format!(
            "! they may be served releases from {floor} on, though {highest} was seen here: a hub could serve them old rules"
        ),
        _ => format!("they accept no release below {floor}"),
    });
    Ok(Reading {
        title: format!("join grant {} of {fleet}", grant.id),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{NOW, fleet};
    use holdfast_proto::ids::{Digest, UniqueId};
    use holdfast_proto::payload::Payload as _;
    use std::collections::BTreeMap;

    fn grant(change: impl FnOnce(&mut JoinGrant)) -> Envelope {
        let mut grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: 1,
            trust_domain: fleet(),
            id: UniqueId::from([7; 16]),
            uses: 3,
            not_after_secs: NOW + 3600,
            labels: BTreeMap::from([("role".to_owned(), "db".to_owned())])
                .try_into()
                .unwrap(),
            name_pattern: "db-*".parse().unwrap(),
            within: vec!["10.77.0.0/24".parse().unwrap()],
            least_generation: Generation { epoch: 1, number: 4 },
            admission: Admission::Manual,
            secret_digest: Digest::of(b"secret"),
        };
        change(&mut grant);
        Envelope::unsigned(serde_json::to_vec(&grant).unwrap())
    }

    #[test]
    fn a_grant_tells_whom_it_lets_in() {
        let seen = Some(Generation { epoch: 1, number: 4 });
        let text = |envelope: &Envelope| read(&fleet(), seen, envelope, NOW).unwrap().text();
        assert_eq!(
            text(&grant(|_| ())),
            "join grant 07070707070707070707070707070707 of lab.example\n  \
             + 3 nodes join with role=db, named db-*, from 10.77.0.0/24\n  \
             until 2027-01-15T09:00:00Z, in 60 min\n  \
             an operator admits each one by hand\n  \
             they accept no release below 1.4"
        );
        let open = grant(|grant| {
            grant.uses = 1;
            grant.labels = Default::default();
            grant.within.clear();
            grant.admission = Admission::Automatic;
            grant.least_generation.number = 3;
        });
        assert_eq!(
            text(&open),
            "join grant 07070707070707070707070707070707 of lab.example\n  \
             + 1 node joins with no labels, named db-*, from any address\n  \
             until 2027-01-15T09:00:00Z, in 60 min\n  \
             whoever has the token joins\n  \
             ! they may be served releases from 1.3 on, though 1.4 was seen here: a hub could serve them old rules"
        );
    }

    #[test]
    fn a_grant_of_another_fleet_is_not_to_be_signed() {
        let elsewhere = grant(|grant| grant.trust_domain = "other.example".parse().unwrap());
        let refused = read(&fleet(), None, &elsewhere, NOW);
        assert!(matches!(refused, Err(RefuseDocument::TrustDomain { .. })));
    }
}
