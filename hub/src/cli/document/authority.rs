//! Reading a next version of the authority: what differs from the version that this machine verified.

use std::collections::BTreeMap;

use holdfast_pki::authority::{Act, Authority, AuthorityKey, TrustedAuthority};
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Name;

use super::{Reading, RefuseDocument};
use crate::cli::time::{date, until};

/// Reads the next version as a difference. Every field is compared: nothing in it can pass unseen.
pub(in crate::cli) fn read(
    held: &TrustedAuthority,
    envelope: &Envelope,
    now_secs: u64,
) -> Result<Reading, RefuseDocument> {
    let next = held.read_next(envelope).map_err(RefuseDocument::Authority)?;
    let old = held.document();
    let mut lines = operators(old, &next);
    lines.extend(thresholds(old, &next));
    if next.expires_secs != old.expires_secs {
        lines.push(format!(
            "~ expires: {} -> {}",
            date(old.expires_secs),
            until(next.expires_secs, now_secs)
        ));
    }
    let revoked = next.revoked.difference(&old.revoked);
    lines.extend(revoked.map(|id| format!("- key {id}: revoked for ever")));
    let roots = old.node_roots.difference(&next.node_roots);
    lines.extend(roots.map(|root| format!("- node root {root}")));
    let roots = next.node_roots.difference(&old.node_roots);
    lines.extend(
        roots.map(|root| {
            format!("+ node root {root}: whoever has its key makes hubs and nodes of this fleet")
        }),
    );
    if lines.is_empty() {
        lines.push("nothing changes but its number".to_owned());
    }
    Ok(Reading {
        title: format!(
            "authority of {}: version {} -> {}",
            next.trust_domain, old.version, next.version
        ),
        lines,
    })
}

fn operators(old: &Authority, next: &Authority) -> Vec<String> {
    let by_name = |authority: &'_ Authority| -> BTreeMap<Name, AuthorityKey> {
        let keys = authority.keys.iter();
        keys.map(|key| (key.name.clone(), key.clone())).collect()
    };
    let (old, next) = (by_name(old), by_name(next));
    let whole = |key: &AuthorityKey| {
        format!(
            "operator {}: {}, {} key {}",
            key.name,
            key.role,
            key.algorithm.as_str(),
            key.id
        )
    };
    let mut lines = Vec::new();
    for key in old.values().filter(|key| !next.contains_key(&key.name)) {
        lines.push(format!("- {}", whole(key)));
    }
    for key in next.values() {
        match old.get(&key.name) {
            None => lines.push(format!("+ {}", whole(key))),
            Some(before) if before.id != key.id => {
                lines.push(format!("- {}", whole(before)));
                lines.push(format!("+ {}", whole(key)));
            }
            Some(before) if before.role != key.role => {
                lines.push(format!(
                    "~ operator {}: {} -> {}",
                    key.name, before.role, key.role
                ));
            }
            Some(_) => {}
        }
    }
    lines
}

fn thresholds(old: &Authority, next: &Authority) -> Vec<String> {
    let mut acts: Vec<&Act> = old.thresholds.keys().chain(next.thresholds.keys()).collect();
    acts.sort();
    acts.dedup();
    let line = |act: &Act| match (old.thresholds.get(act), next.thresholds.get(act)) {
        (before, after) if before == after => None,
        (Some(before), Some(after)) => Some(format!("~ threshold {act}: {before} -> {after}")),
        (None, Some(after)) => Some(format!("+ threshold {act}: {after}")),
        (Some(before), None) => Some(format!("- threshold {act}: {before}")),
        (None, None) => None,
    };
    acts.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{NOW, Operators, name};
    use holdfast_pki::authority::Role;
    use holdfast_pki::authority::key_id;
    use holdfast_pki::envelope::Algorithm;
    use holdfast_proto::ids::Digest;

    #[test]
    fn every_kind_of_change_is_told() {
        let operators = Operators::new(&[
            ("ann", Role::Admin),
            ("bob", Role::Admin),
            ("eve", Role::Operator),
            ("kim", Role::Viewer),
        ]);
        let held = operators.authority(&[]);
        let id = |operator: &str| operators.key(operator).key_id();
        let other = vec![7; 32];
        let other_id = key_id(Algorithm::Ed25519, &other);
        let next = operators.next(&held, |next| {
            next.keys.retain(|key| key.name.as_str() != "eve");
            next.revoked.insert(id("eve"));
            next.keys[1].role = Role::Operator;
            next.keys[2].public = other.clone();
            next.keys[2].id = other_id;
            next.keys.push(AuthorityKey {
                name: name("zoe"),
                public: vec![8; 32],
                id: key_id(Algorithm::Ed25519, &[8; 32]),
                ..next.keys[0].clone()
            });
            next.thresholds.insert(Act::Release, 2);
            next.thresholds.insert(Act::ActionOf(name("reboot")), 1);
            next.expires_secs = NOW + 365 * 86_400;
            next.node_roots = [Digest::of(b"another root")].into();
        });
        let reading = read(&held, &next, NOW).unwrap();
        assert_eq!(reading.title, "authority of lab.example: version 1 -> 2");
        let wanted = [
            format!("- operator eve: operator, ed25519 key {}", id("eve")),
            "~ operator bob: admin -> operator".to_owned(),
            format!("- operator kim: viewer, ed25519 key {}", id("kim")),
            format!("+ operator kim: viewer, ed25519 key {other_id}"),
            format!(
                "+ operator zoe: admin, ed25519 key {}",
                key_id(Algorithm::Ed25519, &[8; 32])
            ),
            "~ threshold release: 1 -> 2".to_owned(),
            "+ threshold action/reboot: 1".to_owned(),
            "~ expires: 2027-04-25T08:00:00Z -> 2028-01-15T08:00:00Z, in 365 d".to_owned(),
            format!("- key {}: revoked for ever", id("eve")),
            format!("- node root {}", Digest::of(b"root")),
            format!(
                "+ node root {}: whoever has its key makes hubs and nodes of this fleet",
                Digest::of(b"another root")
            ),
        ];
        assert_eq!(reading.lines, wanted);
    }

    #[test]
    fn a_version_that_another_overtook_is_not_to_be_signed() {
        let operators = Operators::new(&[("ann", Role::Admin)]);
        let held = operators.authority(&[]);
        let stale = operators.next(&held, |next| next.version = 1);
        assert!(matches!(
            read(&held, &stale, NOW),
            Err(RefuseDocument::Authority(_))
        ));
        let elsewhere = operators.next(&held, |next| next.trust_domain = "other.example".parse().unwrap());
        assert!(matches!(
            read(&held, &elsewhere, NOW),
            Err(RefuseDocument::Authority(_))
        ));
    }
}
