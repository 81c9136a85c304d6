use std::time::Duration;

use holdfast_pki::grant::{Admission, JoinGrant};
use tonic::Code;

use super::*;
use crate::store::key::Revision;
use crate::store::key::Span;
use crate::testing::{TestHub, caller, labels};

async fn waiting(hub: &TestHub) -> Vec<v1::PendingNode> {
    let listed = hub
        .hub
        .list_pending(&hub.operator("ann"), v1::ListPendingRequest {})
        .await;
    listed.unwrap().pending
}

async fn enroll(hub: &TestHub, request: &v1::EnrollRequest) -> Result<v1::EnrollReply, Status> {
    hub.hub.enroll(&caller(None), request.clone()).await
}

async fn must_wait(hub: &TestHub, request: &v1::EnrollRequest) {
    let told = enroll(hub, request).await.unwrap_err();
    assert_eq!(told.code(), Code::FailedPrecondition, "{told}");
    assert!(told.message().starts_with("waits for admission"), "{told}");
}

async fn admit(hub: &TestHub, id: &str) -> Result<v1::AdmitNodeReply, Status> {
    let request = v1::AdmitNodeRequest { id: id.to_owned() };
    hub.hub.admit_node(&hub.operator("ann"), request).await
}

async fn reject(hub: &TestHub, id: &str) -> Result<v1::RejectNodeReply, Status> {
    let request = v1::RejectNodeRequest { id: id.to_owned() };
    hub.hub.reject_node(&hub.operator("ann"), request).await
}

/// How far the store has come: who writes nothing leaves it where it is.
async fn revision(hub: &TestHub) -> Revision {
    hub.store.range(&Span::prefix("none/"), 1).await.unwrap().revision
}

async fn one_that_waits(hub: &TestHub, name: &str) -> (JoinGrant, v1::EnrollRequest, String) {
    let grant = hub.grant(1, Admission::Manual).await;
    let request = TestHub::enroll_request(&grant, name);
    must_wait(hub, &request).await;
    let id = waiting(hub).await.pop().unwrap().id;
    (grant, request, id)
}

#[tokio::test]
async fn a_machine_under_a_manual_grant_waits_and_is_a_node_once_admitted() {
    let hub = TestHub::new().await;
    let (grant, request, id) = one_that_waits(&hub, "db-1").await;
    let shown = waiting(&hub).await.pop().unwrap();
    assert_eq!(
        (shown.name.as_str(), shown.address.as_str()),
        ("db-1", "10.77.0.9")
    );
    assert_eq!(shown.grant_id, grant.id.to_string());
    assert_eq!(
        labels(&[("role", "db")]),
        shown
            .labels
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .try_into()
            .unwrap()
    );
    assert_eq!(shown.inventory.unwrap().hostname, "db-1");
    assert!(
        hub.hub.registry.fleet().await.unwrap().is_empty(),
        "it is no node yet"
    );
    let status = hub
        .hub
        .get_status(&hub.operator("ann"), v1::GetStatusRequest {})
        .await
        .unwrap();
    assert_eq!((status.nodes, status.pending), (0, 1));

    assert_eq!(admit(&hub, &id).await.unwrap().name, "db-1");
    assert!(waiting(&hub).await.is_empty());
    let reply = enroll(&hub, &request).await.unwrap();
    assert_eq!(
        (reply.node_id.as_str(), reply.name.as_str()),
        (id.as_str(), "db-1")
    );
    assert!(!reply.certificate_chain_der.is_empty());
    assert_eq!(admit(&hub, &id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_rejected_key_stays_out_and_its_use_goes_to_the_right_machine() {
    let hub = TestHub::new().await;
    let (grant, thief, id) = one_that_waits(&hub, "db-1").await;
    let right = TestHub::enroll_request(&grant, "db-1");
    assert_eq!(
        enroll(&hub, &right).await.unwrap_err().code(),
        Code::ResourceExhausted
    );

    reject(&hub, &id).await.unwrap();
    assert_eq!(
        enroll(&hub, &thief).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    must_wait(&hub, &right).await;
    assert_eq!(
        enroll(&hub, &thief).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        admit(&hub, &id).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let id = waiting(&hub).await.pop().unwrap().id;
    admit(&hub, &id).await.unwrap();
    enroll(&hub, &right).await.unwrap();
}

#[tokio::test]
async fn a_rejected_key_is_refused_by_every_other_token_as_well() {
    let hub = TestHub::new().await;
    let (_, thief, id) = one_that_waits(&hub, "db-1").await;
    reject(&hub, &id).await.unwrap();
    let other = hub.grant(1, Admission::Automatic).await;
    let request = v1::EnrollRequest {
        grant_id: other.id.to_string(),
        ..thief
    };
    assert_eq!(
        enroll(&hub, &request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_stolen_token_brings_no_more_machines_to_the_queue_than_it_has_uses() {
    let hub = TestHub::new().await;
    let grant = hub.grant(3, Admission::Manual).await;
    for n in 0..3 {
        must_wait(&hub, &TestHub::enroll_request(&grant, &format!("db-{n}"))).await;
    }
    let before = revision(&hub).await;
    for n in 3..6 {
        let refused = enroll(&hub, &TestHub::enroll_request(&grant, &format!("db-{n}"))).await;
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }
    assert_eq!(waiting(&hub).await.len(), 3);
    assert_eq!(revision(&hub).await, before, "nothing was written for them");
}

#[tokio::test]
async fn what_a_waiting_machine_shows_is_written_once_a_minute_and_only_if_it_changed() {
    let hub = TestHub::new().await;
    let (_, mut request, _) = one_that_waits(&hub, "db-1").await;
    let before = revision(&hub).await;
    request.name = "db-2".to_owned();
    must_wait(&hub, &request).await;
    assert_eq!(revision(&hub).await, before);
    hub.clock.advance(Duration::from_secs(60));
    must_wait(&hub, &request).await;
    assert_eq!(waiting(&hub).await[0].name, "db-2");
    let after = revision(&hub).await;
    hub.clock.advance(Duration::from_secs(60));
    must_wait(&hub, &request).await;
    assert_eq!(revision(&hub).await, after);
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_is_told_at_the_admission() {
    let hub = TestHub::new().await;
    let (_, _, id) = one_that_waits(&hub, "db-1").await;
    hub.enrolled("db-1").await;
    let told = admit(&hub, &id).await.unwrap_err();
    assert_eq!(told.code(), Code::AlreadyExists, "{told}");
    assert_eq!(waiting(&hub).await.len(), 1, "it waits on");
}

#[tokio::test]
async fn who_came_in_time_may_wait_beyond_the_tokens_end() {
    let hub = TestHub::new().await;
    let (grant, request, id) = one_that_waits(&hub, "db-1").await;
    hub.clock.advance(Duration::from_secs(3601));
    must_wait(&hub, &request).await;
    let late = enroll(&hub, &TestHub::enroll_request(&grant, "db-2"))
        .await
        .unwrap_err();
    assert!(late.message().contains("expired"), "{late}");
    admit(&hub, &id).await.unwrap();
    enroll(&hub, &request).await.unwrap();
}

#[tokio::test]
async fn a_grant_whose_signer_was_dropped_since_admits_nobody() {
    let mut hub = TestHub::new().await;
    let (_, _, id) = one_that_waits(&hub, "db-1").await;
    hub.advance_authority(|next| next.keys.retain(|key| key.name.as_str() != "bob"))
        .await;
    let told = admit(&hub, &id).await.unwrap_err();
    assert_eq!(told.code(), Code::PermissionDenied, "{told}");
}
