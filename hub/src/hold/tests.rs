use super::*;
use crate::testing::{NOW, TestHub};

fn found(kind: Finding, text: &str, epoch: u64) -> Hold {
    Hold::new(BTreeMap::from([(kind, text.to_owned())]), epoch, NOW)
}

async fn set_on(hub: &TestHub, hold: &Hold) -> bool {
    let (id, entry) = hub.audit();
    set(&hub.hub.registry, hold, (&id, &entry)).await.unwrap()
}

#[tokio::test]
async fn a_hold_tells_the_first_finding_of_each_kind() {
    let hub = TestHub::new().await;
    assert!(set_on(&hub, &found(Finding::Checkpoint, "node a showed a checkpoint", 1)).await);
    assert!(!set_on(&hub, &found(Finding::Checkpoint, "node b showed a checkpoint", 1)).await);
    assert!(set_on(&hub, &found(Finding::Release, "node b showed release 1.2", 1)).await);
    let held = read(&hub.hub.registry).await.unwrap().unwrap();
    assert_eq!(
        held.reason(),
        "node b showed release 1.2; node a showed a checkpoint"
    );
    assert!(held.to_string().contains("holdfast epoch raise"));
}

#[tokio::test]
async fn what_was_found_in_an_epoch_that_ended_meanwhile_holds_nothing() {
    let hub = TestHub::new().await;
    hub.raised(2).await;
    assert!(!set_on(&hub, &found(Finding::Release, "node a showed release 1.2", 1)).await);
    assert_eq!(read(&hub.hub.registry).await.unwrap(), None);
    assert!(set_on(&hub, &found(Finding::Release, "node a showed release 2.2", 2)).await);
}
