use super::*;
use crate::cli::testing::{NOW, Operators, fleet, name};
use holdfast_pki::envelope::Algorithm;
use holdfast_proto::ids::TrustDomain;
use holdfast_proto::payload::Payload as _;

/// Ann is an admin, Bob an operator; acts need one signature where nothing else is said.
fn two() -> (Operators, TrustedAuthority) {
    let operators = Operators::new(&[("ann", Role::Admin), ("bob", Role::Operator)]);
    let authority = operators.authority(&[]);
    (operators, authority)
}

fn request(of: &str, domain: TrustDomain, public: Vec<u8>) -> OperatorRequest {
    OperatorRequest {
        kind: OperatorRequest::KIND.to_owned(),
        format: OperatorRequest::FORMAT,
        trust_domain: domain,
        name: name(of),
        algorithm: Algorithm::Ed25519,
        public,
    }
}

/// The document that comes of a change, which must be one that follows.
fn made(held: &TrustedAuthority, change: Change) -> Authority {
    let envelope = next(held, change, NOW).unwrap();
    let next = held.read_next(&envelope).unwrap();
    assert_eq!((next.version, next.issued_secs), (2, NOW));
    next
}

/// Everything but what every version has of its own.
fn otherwise(next: Authority, held: &TrustedAuthority) -> Authority {
    let old = held.document();
    Authority {
        version: old.version,
        previous: old.previous,
        issued_secs: old.issued_secs,
        ..next
    }
}

#[test]
fn an_added_operator_is_listed_with_the_key_of_the_request() {
    let (_, held) = two();
    let next = made(
        &held,
        Change::Add(request("zoe", fleet(), vec![9; 32]), Role::Proposer),
    );
    let zoe = next.keys.last().unwrap();
    assert_eq!((zoe.name.as_str(), zoe.role), ("zoe", Role::Proposer));
    assert_eq!(
        (&zoe.public, zoe.id),
        (&vec![9; 32], key_id(Algorithm::Ed25519, &[9; 32]))
    );
    let mut without = otherwise(next, &held);
    without.keys.pop();
    assert_eq!(without, *held.document(), "nothing else changed");
}

#[test]
fn a_removed_operators_key_is_revoked_in_the_same_version() {
    let (operators, held) = two();
    let next = made(&held, Change::Remove(name("bob")));
    assert!(next.keys.iter().all(|key| key.name.as_str() == "ann"));
    assert!(next.revoked.contains(&operators.key("bob").key_id()));
}

#[test]
fn roles_thresholds_and_the_end_change_alone() {
    let (_, held) = two();
    let next = made(&held, Change::Role(name("bob"), Role::Admin));
    assert_eq!(next.keys[1].role, Role::Admin);
    let next = made(&held, Change::Threshold(Act::Release, 2));
    assert_eq!(next.threshold(&Act::Release), 2);
    let reboot = Act::ActionOf(name("reboot"));
    let next = made(&held, Change::Threshold(reboot.clone(), 2));
    assert_eq!((next.threshold(&reboot), next.threshold(&Act::Action)), (2, 1));
    let next = made(&held, Change::Renew(NOW + 5));
    assert_eq!(next.expires_secs, NOW + 5);
    assert_eq!(
        Authority {
            expires_secs: held.document().expires_secs,
            ..otherwise(next, &held)
        },
        *held.document()
    );
}

#[test]
fn a_threshold_of_one_kind_of_action_can_be_dropped_and_no_other() {
    let operators = Operators::new(&[("ann", Role::Admin), ("bob", Role::Operator)]);
    let reboot = Act::ActionOf(name("reboot"));
    let held = operators.authority(&[(reboot.clone(), 2)]);
    assert!(
        !made(&held, Change::DropThreshold(reboot.clone()))
            .thresholds
            .contains_key(&reboot)
    );
    assert!(matches!(
        next(&held, Change::DropThreshold(Act::Release), NOW),
        Err(RefuseChange::Required(Act::Release))
    ));
}

#[test]
fn what_could_not_stand_is_refused_with_the_way_out() {
    let operators = Operators::new(&[("ann", Role::Admin), ("bob", Role::Admin)]);
    let held = operators.authority(&[(Act::Authority, 2)]);
    let told = |change| next(&held, change, NOW).unwrap_err().to_string();
    assert_eq!(
        told(Change::Remove(name("bob"))),
        "'authority' would ask for 2 signatures where 1 can be given: first lower it \
         (`holdfast authority threshold authority 1`), or add another operator who may sign it"
    );
    assert_eq!(
        told(Change::Role(name("bob"), Role::Viewer)),
        told(Change::Remove(name("bob")))
    );
    assert!(told(Change::Threshold(Act::Stop, 3)).starts_with("'stop' would ask for 3 signatures where 2"));
    let reboot = Act::ActionOf(name("reboot"));
    assert!(told(Change::Threshold(reboot, 3)).starts_with("'action/reboot' would ask for 3"));
    let (_, alone) = two();
    assert!(matches!(
        next(&alone, Change::Remove(name("ann")), NOW),
        Err(RefuseChange::Nobody(Act::Authority))
    ));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (operators, held) = two();
    let refused = |change| next(&held, change, NOW).unwrap_err();
    assert!(matches!(
        refused(Change::Remove(name("zoe"))),
        RefuseChange::NoOperator(_)
    ));
    assert!(matches!(
        refused(Change::Role(name("bob"), Role::Operator)),
        RefuseChange::NoChange(1)
    ));
    assert!(matches!(
        refused(Change::Threshold(Act::Stop, 0)),
        RefuseChange::Zero
    ));
    assert!(matches!(refused(Change::Renew(NOW)), RefuseChange::Past(NOW)));
    let add = |of, domain, public| Change::Add(request(of, domain, public), Role::Viewer);
    let new = || vec![9; 32];
    assert!(matches!(
        refused(add("bob", fleet(), new())),
        RefuseChange::NameTaken(_)
    ));
    let bobs = operators.key("bob").public();
    assert!(matches!(
        refused(add("zoe", fleet(), bobs)),
        RefuseChange::KeyTaken(_)
    ));
    let elsewhere = "other.example".parse().unwrap();
    assert!(matches!(
        refused(add("zoe", elsewhere, new())),
        RefuseChange::TrustDomain { .. }
    ));
}

#[test]
fn a_revoked_key_does_not_come_back() {
    let (operators, held) = two();
    let mut envelope = next(&held, Change::Remove(name("bob")), NOW).unwrap();
    operators.key("ann").sign(Authority::KIND, &mut envelope);
    let held = held.advance(&envelope).unwrap();
    let again = request("bob", fleet(), operators.key("bob").public());
    assert!(matches!(
        next(&held, Change::Add(again, Role::Operator), NOW),
        Err(RefuseChange::KeyRevoked)
    ));
}
