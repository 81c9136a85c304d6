//! Enrolment at a hub in memory. Time is tokio's own: it passes when nobody has anything to do.

use holdfast_pki::authority::Authority;
use holdfast_pki::files_testing::FaultFiles;
use holdfast_pki::random::SeededRandom;
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::Generation;
use holdfast_proto::payload::Payload as _;
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

/// A token of theirs, which pins the first version of their authority.
fn token(operators: &Operators, hub: &FakeHub) -> JoinToken {
    JoinToken {
        trust_domain: fleet(),
        hubs: vec!["hub:7443".to_owned()],
        node_roots: [hub.root].into(),
        authority: operators.authority.pin(),
        grant: operators.ledger(Generation::default()).grant,
        secret: b"secret".to_vec(),
    }
}

async fn enrol(operators: &Operators, hub: &FakeHub, files: &FaultFiles) -> Result<Identity, EnrollError> {
    enrol_by(&token(operators, hub), hub, files).await
}

async fn enrol_by(token: &JoinToken, hub: &FakeHub, files: &FaultFiles) -> Result<Identity, EnrollError> {
    let enrolment = Enrolment {
        state_dir: Path::new("/state"),
        files,
        clock: &(hub.clock.clone() as Arc<dyn Clock>),
        random: &SeededRandom::new(1),
        root: &HostRoot::at(Path::new("/nonexistent")),
        connector: &(Arc::new(hub.clone()) as Arc<dyn Connector>),
    };
    enrolment.run(token, &"db".parse().unwrap()).await
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

#[tokio::test(start_paused = true)]
async fn a_token_is_good_however_many_versions_of_the_authority_came_after_it() {
    const VERSIONS: u64 = 100;
    let (operators, files) = (Operators::new(), FaultFiles::new());
    let hub = hub_that_waits(&operators, 0, Ok(()));
    hub.plot().authority = operators.versions(VERSIONS);
    enrol(&operators, &hub, &files).await.unwrap();
    let ledger = Ledger::load(Path::new("/state"), &files).unwrap().unwrap();
    assert_eq!(ledger.authority().unwrap().document().version, VERSIONS);
    assert_eq!(hub.plot().asked, [0, 32, 64, 96, 100], "some at a time");
}

#[tokio::test(start_paused = true)]
async fn the_secret_of_a_token_that_no_operator_stands_by_is_not_sent() {
    let (operators, files) = (Operators::new(), FaultFiles::new());
    let hub = hub_that_waits(&operators, 0, Ok(()));
    let good = token(&operators, &hub);
    let mut unsigned = good.clone();
    unsigned.grant.signatures.clear();
    let mut other_authority = good.clone();
    other_authority.authority.digest = operators.versions(2)[1].digest();
    let mut unknown_version = good.clone();
    unknown_version.authority.version = 9;
    for token in [unsigned, other_authority, unknown_version] {
        let refused = enrol_by(&token, &hub, &files).await;
        assert!(refused.is_err(), "{token:?}");
    }
    // Its signer is dropped by a later version, which the token does not know of.
    let first = operators.authority.envelope().clone();
    let heir = Operators::new();
    let mut handed_over = operators.next_version(&first, |next| {
        next.keys = heir.authority.document().keys.clone();
    });
    heir.key.sign(Authority::KIND, &mut handed_over);
    hub.plot().authority = vec![first, handed_over];
    let refused = enrol_by(&good, &hub, &files).await.unwrap_err();
    assert!(matches!(refused, EnrollError::Token(_)), "{refused}");
    assert_eq!(
        hub.plot().enrolments.len(),
        1,
        "no secret was heard: nobody asked to enrol"
    );
    assert_eq!(Ledger::load(Path::new("/state"), &files).unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_takes_the_call_and_never_answers_is_asked_again() {
    let (operators, files) = (Operators::new(), FaultFiles::new());
    let hub = hub_that_waits(&operators, 0, Ok(()));
    hub.plot().silences = 2;
    let began = tokio::time::Instant::now();
    enrol(&operators, &hub, &files).await.unwrap();
    assert!(began.elapsed() >= ANSWER_TIMEOUT * 2, "{:?}", began.elapsed());
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
