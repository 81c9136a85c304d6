use proptest::prelude::*;

use super::*;
use crate::testing::{TestHub, backup};

fn id(n: u8) -> UniqueId {
    [n; 16].into()
}

fn shown(epoch: u64, start: u64, instance: u8, revision: u64) -> Checkpoint {
    Checkpoint {
        kind: Checkpoint::KIND.to_owned(),
        format: Checkpoint::FORMAT,
        trust_domain: "lab.example".parse().unwrap(),
        hub: id(9),
        epoch,
        start,
        instance: id(instance),
        revision,
    }
}

/// A history whose third start had the id 3 and came to revision 100.
fn history() -> History {
    History {
        epoch: 2,
        start: Some((id(3), Revision::new(100))),
    }
}

#[test]
fn a_checkpoint_of_a_run_that_the_store_knows_whole_is_not_above() {
    assert!(!is_above(&history(), &shown(2, 3, 3, 1)));
    assert!(!is_above(&history(), &shown(2, 3, 3, 100)));
}

#[test]
fn a_checkpoint_beyond_the_end_of_its_run_is_above() {
    assert!(is_above(&history(), &shown(2, 3, 3, 101)));
    assert!(is_above(&history(), &shown(2, 3, 3, u64::MAX)));
}

#[test]
fn a_checkpoint_of_a_start_that_the_store_never_saw_is_above() {
    let forgot = History {
        start: None,
        ..history()
    };
    assert!(is_above(&forgot, &shown(2, 4, 3, 1)));
}

#[test]
fn a_checkpoint_of_another_run_under_the_same_number_is_above() {
    assert!(is_above(&history(), &shown(2, 3, 4, 1)));
}

#[test]
fn what_was_lost_before_the_epoch_was_raised_is_not_above() {
    let forgot = History {
        start: None,
        ..history()
    };
    assert!(!is_above(&forgot, &shown(1, 9, 9, u64::MAX)));
    assert!(!is_above(&history(), &shown(1, 3, 4, u64::MAX)));
}

#[test]
fn a_checkpoint_of_an_epoch_that_nobody_raised_here_says_nothing() {
    for epoch in [3, u64::MAX] {
        assert!(!is_above(&history(), &shown(epoch, 3, 3, 1)), "{epoch}");
        assert!(
            !is_above(&history(), &shown(epoch, u64::MAX, 3, u64::MAX)),
            "{epoch}"
        );
    }
}

proptest! {
    /// Whatever a run gave out while it went on is known to every later run over the same store.
    #[test]
    fn no_store_that_only_went_on_is_held(starts in proptest::collection::vec(1..50u64, 1..8), run: prop::sample::Index, at: prop::sample::Index) {
        // Each run begins with a transaction of its own and makes some more.
        let run = run.index(starts.len());
        let begins = |n: usize| 1 + starts[..n].iter().sum::<u64>();
        let revision = begins(run) + at.index(usize::try_from(starts[run]).unwrap()) as u64;
        let last = begins(run + 1) - 1;
        let known = History { epoch: 1, start: Some((id(1), Revision::new(last))) };
        prop_assert!(!is_above(&known, &shown(1, run as u64 + 1, 1, revision)));
        prop_assert!(is_above(&known, &shown(1, run as u64 + 1, 1, last + 1)));
    }
}

fn newest(hub: &TestHub) -> Envelope {
    hub.hub.checkpoints.newest().borrow().1.clone()
}

async fn is_above_now(hub: &TestHub, envelope: &Envelope) -> bool {
    hub.hub.checkpoints.above(envelope).await.unwrap().is_some()
}

#[tokio::test]
async fn a_hub_that_only_restarts_knows_every_checkpoint_that_it_gave() {
    let mut hub = TestHub::new().await;
    let mut given = vec![newest(&hub)];
    for start in 2..=4 {
        hub.enrolled(&format!("db-{start}")).await;
        hub.hub.checkpoints.advance().await.unwrap();
        given.push(newest(&hub));
        let store = hub.store.clone();
        hub.restart(store).await;
        assert_eq!(hub.hub.checkpoints.newest().borrow().0.start, start);
        given.push(newest(&hub));
    }
    for envelope in &given {
        assert!(!is_above_now(&hub, envelope).await, "{envelope:?}");
    }
}

#[tokio::test]
async fn a_restored_hub_learns_of_the_one_transaction_that_it_lost() {
    let mut hub = TestHub::new().await;
    let node = hub.enrolled("db-1").await;
    hub.hub.checkpoints.advance().await.unwrap();
    let (kept, copied_at) = (newest(&hub), hub.hub.registry.revision().await.unwrap());
    let copy = backup(&hub.store, &hub.clock, copied_at).await;
    hub.relabelled(&node.id, "web").await;
    let lost = newest(&hub);
    let lost_at = hub.hub.checkpoints.newest().borrow().0.revision;

    hub.restart(copy).await;
    // Its own first transaction has the number of the lost one.
    assert_eq!(hub.hub.checkpoints.newest().borrow().0.revision, lost_at);
    assert!(is_above_now(&hub, &lost).await);
    assert!(!is_above_now(&hub, &kept).await);
}

#[tokio::test]
async fn a_restored_hub_learns_of_a_whole_run_that_it_lost() {
    let mut hub = TestHub::new().await;
    let copied_at = hub.hub.registry.revision().await.unwrap();
    let copy = backup(&hub.store, &hub.clock, copied_at).await;
    let store = hub.store.clone();
    hub.restart(store.clone()).await;
    let second = newest(&hub);
    hub.restart(store).await;
    let third = newest(&hub);

    hub.restart(copy).await;
    assert!(
        is_above_now(&hub, &second).await,
        "another run has its number now"
    );
    assert!(is_above_now(&hub, &third).await, "no run has its number yet");
    hub.raised(2).await;
    assert!(!is_above_now(&hub, &second).await && !is_above_now(&hub, &third).await);
    hub.hub.checkpoints.advance().await.unwrap();
    assert_eq!(hub.hub.checkpoints.newest().borrow().0.epoch, 2);
}

#[tokio::test]
async fn a_checkpoint_under_another_key_says_nothing() {
    let hub = TestHub::new().await;
    let forged = shown(9, 9, 9, 9).sign(&SigningKey::generate());
    let judged = hub.hub.checkpoints.above(&forged).await;
    assert!(matches!(judged, Err(JudgeCheckpoint::Refused(_))));
}

#[tokio::test]
async fn a_hub_without_its_key_says_which_file_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = load_key(&HubDir::new(dir.path()), &holdfast_pki::files::SystemFiles).unwrap_err();
    assert!(error.to_string().contains("ca/checkpoint.key"), "{error}");
}
