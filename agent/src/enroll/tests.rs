//! Enrolment at a hub in memory. Time is tokio's own: it passes when nobody has anything to do.

use holdfast_pki::files_testing::FaultFiles;
use holdfast_pki::random::SeededRandom;
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::Generation;
use tonic::Status;

use super::*;
use crate::testing::hub::FakeHub;
use crate::testing::{Operators, fleet};

/// A hub that waits for an operator's word `times`, and then answers with `last`.
fn hub_that_waits(operators: &Operators, times: usize, last: Result<(), Status>) -> FakeHub {
    let hub = FakeHub::new(1);
    let mut plot = hub.plot();
    plot.authority = operators.versions(3);
    plot.enrolments = vec![Err(Status::failed_precondition("waits for admission")); times];
    plot.enrolments.push(last);
    drop(plot);
    hub
}

async fn enrol(operators: &Operators, hub: &FakeHub, files: &FaultFiles) -> Result<Identity, EnrollError> {
    let token = JoinToken {
        trust_domain: fleet(),
        hubs: vec!["hub:7443".to_owned()],
        node_roots: [hub.root].into(),
        authority: operators.authority.pin(),
        grant: operators.ledger(Generation::default()).grant,
        secret: b"secret".to_vec(),
    };
    let enrolment = Enrolment {
        state_dir: Path::new("/state"),
        files,
        clock: &(hub.clock.clone() as Arc<dyn Clock>),
        random: &SeededRandom::new(1),
        root: &HostRoot::at(Path::new("/nonexistent")),
        connector: &(Arc::new(hub.clone()) as Arc<dyn Connector>),
    };
    enrolment.run(&token, &"db".parse().unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_node_asks_again_within_ten_seconds_until_it_is_admitted() {
    const ASKED: u32 = 5;
    let operators = Operators::new();
    let hub = hub_that_waits(&operators, ASKED as usize, Ok(()));
    let (files, began) = (FaultFiles::new(), tokio::time::Instant::now());
    let identity = enrol(&operators, &hub, &files).await.unwrap();
    let took = began.elapsed();
    assert!(took <= ADMISSION_PAUSE_MAX * ASKED, "{took:?}");
    assert!(
        took >= ADMISSION_PAUSE_MAX / 2 * ASKED,
        "a hub is not pestered: {took:?}"
    );
    assert_eq!(identity.name.as_str(), "db");
    let ledger = Ledger::load(Path::new("/state"), &files).unwrap().unwrap();
    assert_eq!(ledger.authority().unwrap().document().version, 3);
    let newest = &ledger.authority;
    let steps = authority_chain::above(0, newest, Path::new("/state"), &files);
    assert_eq!(
        steps,
        operators.versions(3),
        "the steps from the token's version on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_an_operator_rejects_ends_and_says_so() {
    let operators = Operators::new();
    let rejected = Status::permission_denied("the machine was rejected; it must come with a new key");
    let hub = hub_that_waits(&operators, 2, Err(rejected));
    let error = enrol(&operators, &hub, &FaultFiles::new()).await.unwrap_err();
    assert!(
        matches!(&error, EnrollError::Refused(told) if told.contains("rejected")),
        "{error}"
    );
    assert!(hub.plot().enrolments.is_empty(), "it asked twice before");
}

#[test]
fn what_a_waiting_node_says_shows_its_fingerprint() {
    let node_id = NodeId::of_public_key(b"a key");
    let error = refused(&Status::failed_precondition("waits"), node_id);
    assert!(error.is_retryable());
    let told = error.to_string();
    assert!(
        told.contains(&node_id.to_string()) && told.contains("holdfast node pending"),
        "{told}"
    );
}
