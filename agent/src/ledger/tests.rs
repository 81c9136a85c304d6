use super::*;
use holdfast_pki::authority::Act;
use holdfast_pki::files::SystemFiles;
use holdfast_policy::release::ReturnTo;

use crate::testing::{NOW, Operators, label_change};

fn judge(ledger: &Ledger, release: &VerifiedRelease) -> Result<Judgement, RefuseRelease> {
    ledger.judge(release.manifest().value(), release.manifest().digest())
}

fn accept(ledger: &mut Ledger, release: &VerifiedRelease) {
    let judgement = judge(ledger, release).unwrap();
    ledger.begin(release, judgement, [9; 16].into());
    ledger.confirm();
}

#[test]
fn only_higher_numbers_are_accepted() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let (one, two) = (
        operators.release(1, 1, NOW, None),
        operators.release(1, 2, NOW, None),
    );
    accept(&mut ledger, &two);
    assert!(ledger.is_in_force(two.manifest().digest()));
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::Outdated { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(1, 3, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn two_releases_under_one_number_are_told_apart() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    accept(&mut ledger, &operators.release(1, 2, NOW, None));
    let other = operators.release(1, 2, NOW + 1, None);
    assert!(matches!(
        judge(&ledger, &other),
        Err(RefuseRelease::Equivocation { .. })
    ));
}

#[test]
fn the_floor_of_the_grant_and_the_epoch_hold() {
    let operators = Operators::new();
    let ledger = operators.ledger(Generation { epoch: 2, number: 5 });
    assert!(matches!(
        judge(&ledger, &operators.release(2, 4, NOW, None)),
        Err(RefuseRelease::BelowFloor { .. })
    ));
    assert!(matches!(
        judge(&ledger, &operators.release(3, 1, NOW, None)),
        Err(RefuseRelease::Epoch { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(2, 5, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn a_release_that_was_undone_is_tried_again_unless_it_is_pinned_out() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    ledger.begin(&one, Judgement::Apply, [9; 16].into());
    ledger.undo();
    assert_eq!(
        judge(&ledger, &one),
        Ok(Judgement::Apply),
        "the hub was down: no fault of the release"
    );
    ledger.pin_out_under_these_labels(one.manifest().digest());
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::PinnedOut { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(1, 2, NOW, None)),
        Ok(Judgement::Apply),
        "the way on"
    );
}

#[test]
fn a_return_is_taken_once_in_time_and_leaves_the_highest() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    let two = operators.release(
        1,
        2,
        NOW,
        Some(ReturnTo {
            manifest: one.manifest().digest(),
            within_secs: 100,
        }),
    );
    accept(&mut ledger, &two);
    assert_eq!(
        ledger.return_target.as_ref().unwrap().manifest.digest(),
        one.manifest().digest()
    );

    let mut late = ledger.clone();
    late.running_secs = 100;
    assert!(matches!(judge(&late, &one), Err(RefuseRelease::Outdated { .. })));

    assert_eq!(judge(&ledger, &one), Ok(Judgement::Return));
    accept(&mut ledger, &one);
    assert_eq!(
        ledger.highest.as_ref().unwrap().generation,
        two.manifest().value().generation()
    );
    assert!(matches!(
        judge(&ledger, &two),
        Err(RefuseRelease::PinnedOut { .. })
    ));
    assert!(ledger.is_in_force(one.manifest().digest()));
    assert_eq!(
        judge(&ledger, &operators.release(1, 3, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn another_release_than_the_named_one_is_no_return() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let (one, two) = (
        operators.release(1, 1, NOW, None),
        operators.release(1, 2, NOW, None),
    );
    accept(&mut ledger, &two);
    let return_to = Some(ReturnTo {
        manifest: two.manifest().digest(),
        within_secs: 100,
    });
    accept(&mut ledger, &operators.release(1, 3, NOW, return_to));
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::Outdated { .. })
    ));
}

/// Gives the node labels of `version`.
fn relabel(operators: &Operators, ledger: &mut Ledger, version: u64) {
    let change = operators.sign(&label_change(version, ledger.labels.digest));
    let verified = operators.authority.verify(&change, &Act::Label, NOW);
    ledger.take_labels(&verified.unwrap());
}

#[test]
fn a_release_in_force_is_applied_again_for_other_labels_and_leaves_the_highest() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    let two = operators.release(1, 2, NOW, None);
    ledger.begin(&two, Judgement::Apply, [9; 16].into());
    ledger.undo();
    let (highest, digest) = (ledger.highest.clone(), one.manifest().digest());
    assert!(ledger.is_in_force(digest));

    relabel(&operators, &mut ledger, 2);
    assert!(
        !ledger.is_in_force(digest),
        "its slices are those of older labels"
    );
    assert_eq!(judge(&ledger, &one), Ok(Judgement::Reselect));
    accept(&mut ledger, &one);
    assert!(ledger.is_in_force(digest));
    assert_eq!(ledger.highest, highest, "what was accepted above it stays so");
    assert_eq!(judge(&ledger, &two), Ok(Judgement::Apply));
}

#[test]
fn a_release_that_cut_the_node_off_may_be_tried_under_other_labels_but_not_one_returned_from() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    let to_one = Some(ReturnTo {
        manifest: one.manifest().digest(),
        within_secs: 100,
    });
    let (two, three) = (
        operators.release(1, 2, NOW, to_one),
        operators.release(1, 3, NOW, None),
    );
    accept(&mut ledger, &two);
    accept(&mut ledger, &one);
    assert!(ledger.is_pinned_out(two.manifest().digest()), "returned from");
    ledger.begin(&three, Judgement::Apply, [9; 16].into());
    ledger.undo();
    ledger.pin_out_under_these_labels(three.manifest().digest());
    assert!(ledger.is_pinned_out(three.manifest().digest()), "undone");

    relabel(&operators, &mut ledger, 2);
    assert_eq!(judge(&ledger, &three), Ok(Judgement::Apply));
    assert!(matches!(
        judge(&ledger, &two),
        Err(RefuseRelease::PinnedOut { .. })
    ));
}

#[test]
fn a_release_undone_for_other_labels_too_is_not_tried_again() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    relabel(&operators, &mut ledger, 2);
    ledger.begin(&one, Judgement::Reselect, [9; 16].into());
    ledger.undo();
    ledger.pin_out_under_these_labels(one.manifest().digest());
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::PinnedOut { .. })
    ));
    let held = ledger.confirmed.as_ref().unwrap();
    assert_eq!(held.labels_version, 1, "what was there before is in force");
}

#[test]
fn the_highest_accepted_is_kept_as_operators_signed_it_though_it_was_undone() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    accept(&mut ledger, &operators.release(1, 1, NOW, None));
    let two = operators.release(1, 2, NOW, None);
    ledger.begin(&two, Judgement::Apply, [9; 16].into());
    ledger.undo();
    assert_eq!(
        ledger.highest.as_ref().map(|highest| &highest.manifest),
        Some(two.manifest().envelope())
    );
}

#[test]
fn a_ledger_reads_back_as_written_and_unknown_fields_are_refused() {
    let operators = Operators::new();
    let dir = tempfile::tempdir().unwrap();
    assert!(Ledger::load(dir.path(), &SystemFiles).unwrap().is_none());
    let mut ledger = operators.ledger(Generation::default());
    accept(&mut ledger, &operators.release(1, 1, NOW, None));
    ledger.save(dir.path(), &SystemFiles).unwrap();
    assert_eq!(Ledger::load(dir.path(), &SystemFiles).unwrap().unwrap(), ledger);
    let mut odd = serde_json::to_value(&ledger).unwrap();
    odd["more"] = 1.into();
    SystemFiles
        .write_atomic(&dir.path().join(FILE), odd.to_string().as_bytes(), 0o600)
        .unwrap();
    assert!(Ledger::load(dir.path(), &SystemFiles).is_err());

    let mut newer = serde_json::to_value(&ledger).unwrap();
    newer["format"] = 2.into();
    SystemFiles
        .write_atomic(&dir.path().join(FILE), newer.to_string().as_bytes(), 0o600)
        .unwrap();
    assert!(
        Ledger::load(dir.path(), &SystemFiles).is_err(),
        "a newer agent wrote it"
    );
}

#[test]
fn a_return_that_was_begun_and_undone_is_spent() {
    let operators = Operators::new();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    let return_to = Some(ReturnTo {
        manifest: one.manifest().digest(),
        within_secs: 100,
    });
    accept(&mut ledger, &operators.release(1, 2, NOW, return_to));
    assert_eq!(judge(&ledger, &one), Ok(Judgement::Return));
    ledger.begin(&one, Judgement::Return, [9; 16].into());
    ledger.undo();
    assert!(
        matches!(judge(&ledger, &one), Err(RefuseRelease::Outdated { .. })),
        "a manifest allows one"
    );
}
