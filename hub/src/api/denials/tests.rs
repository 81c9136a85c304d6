use super::*;
use crate::testing::{TestHub, caller};

const LOGIN: &str = "/holdfast.v1.Enrollment/Login";

async fn refuse(hub: &TestHub, rpc: &'static str, times: u32) {
    for _ in 0..times {
        let on = "operator/ann".to_owned();
        hub.hub.denied(rpc, &caller(None), "log in", on).await;
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_written_to_a_bound_and_its_rest_told_as_a_number() {
    let hub = TestHub::new().await;
    refuse(&hub, LOGIN, BURST + 100).await;
    let burst = usize::try_from(BURST).unwrap();
    assert_eq!(hub.denied().await.len(), burst);
    hub.hub.tell_unwritten_denials().await;
    hub.hub.tell_unwritten_denials().await;
    let denied = hub.denied().await;
    assert_eq!(denied.len(), burst + 1, "told once");
    let rest = denied.iter().find(|entry| entry.what == "refuse calls").unwrap();
    assert_eq!(rest.on, "100 that are not written one by one");
    assert!(rest.who.starts_with("spiffe://lab.example/hub/"), "{}", rest.who);
    hub.clock.advance(EVERY);
    refuse(&hub, LOGIN, 2).await;
    assert_eq!(hub.denied().await.len(), burst + 2);
}

#[tokio::test]
async fn a_flood_at_one_call_does_not_hide_refusals_at_another() {
    let hub = TestHub::new().await;
    refuse(&hub, LOGIN, BURST * 2).await;
    let before = hub.denied().await.len();
    refuse(&hub, "/holdfast.v1.Operator/RemoveNode", 1).await;
    assert_eq!(hub.denied().await.len(), before + 1);
}

#[tokio::test]
async fn an_enrolment_with_a_wrong_secret_is_in_the_audit_list() {
    let hub = TestHub::new().await;
    let grant = hub.grant(1, holdfast_pki::grant::Admission::Automatic).await;
    let mut request = TestHub::enroll_request(&grant, "db1");
    request.secret = vec![0; 32].into();
    let mut request = tonic::Request::new(request);
    request.extensions_mut().insert(caller(None));
    let service = crate::api::enrollment::Service(hub.hub.clone());
    let refused = holdfast_proto::v1::enrollment_server::Enrollment::enroll(&service, request).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let denied = hub.denied().await;
    assert_eq!(denied.len(), 1);
    assert_eq!(
        (denied[0].what.as_str(), denied[0].on.clone()),
        ("enroll node", format!("grant/{}", grant.id))
    );
}
