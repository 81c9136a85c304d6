use super::*;
use crate::access::CERTIFICATES_MAX;
use crate::testing::TestHub;
use crate::testing::access::{new_csr, shows};
use holdfast_pki::signing_key::SigningKey;
use std::time::Duration;
use tonic::Code;

const STATUS: &str = "GetStatus";

fn renewal() -> v1::RenewAccessRequest {
    v1::RenewAccessRequest {
        csr_der: new_csr().into(),
    }
}

fn revocation(name: &str) -> v1::RevokeAccessRequest {
    v1::RevokeAccessRequest {
        name: name.to_owned(),
    }
}

/// How many good certificates each operator has.
async fn good(hub: &TestHub, caller: &Caller) -> Vec<(String, usize)> {
    let listed = hub.hub.list_operators(caller, v1::ListOperatorsRequest {}).await;
    let operators = listed.unwrap().operators.into_iter();
    operators
        .map(|operator| (operator.name, operator.certificates.len()))
        .collect()
}

#[tokio::test]
async fn a_renewed_certificate_and_the_one_before_are_both_let_in() {
    let hub = TestHub::new().await;
    let first = hub.logged_in("ann", &hub.ann).await;
    hub.clock.advance(Duration::from_secs(4 * 3600));
    let reply = hub.hub.renew_access(&first, renewal()).await.unwrap();
    let second = shows("ann", &reply);
    assert_ne!(first.certificate, second.certificate);
    hub.may(&first, STATUS).await.unwrap();
    hub.may(&second, STATUS).await.unwrap();
    hub.clock.advance(Duration::from_secs(4 * 3600));
    assert!(hub.may(&first, STATUS).await.is_err());
    hub.may(&second, STATUS).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_until_a_day_after_the_login() {
    let hub = TestHub::new().await;
    let mut stolen = hub.logged_in("ann", &hub.ann).await;
    // Whoever stole it renews as often as it goes, and never has the signing key.
    let mut hours = 0;
    while hub.may(&stolen, STATUS).await.is_ok() {
        if let Ok(reply) = hub.hub.renew_access(&stolen, renewal()).await {
            stolen = shows("ann", &reply);
        }
        hub.clock.advance(Duration::from_secs(3600));
        hours += 1;
        assert!(hours <= 24, "it goes on for ever");
    }
    assert_eq!(hours, 24);
    let again = hub.logged_in("ann", &hub.ann).await;
    hub.may(&again, STATUS).await.unwrap();
}

#[tokio::test]
async fn an_operator_renews_so_often_and_no_more() {
    let hub = TestHub::new().await;
    let ann = hub.logged_in("ann", &hub.ann).await;
    hub.clock.advance(Duration::from_secs(4 * 3600));
    for _ in 0..RENEWALS_BURST {
        hub.hub.renew_access(&ann, renewal()).await.unwrap();
    }
    let refused = hub.hub.renew_access(&ann, renewal()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_revocation_ends_access_at_the_next_call_until_the_next_login() {
    let hub = TestHub::new().await;
    let ann = hub.logged_in("ann", &hub.ann).await;
    let (one, two) = (
        hub.logged_in("bob", &hub.bob).await,
        hub.logged_in("bob", &hub.bob).await,
    );
    let revoked = hub.hub.revoke_access(&ann, revocation("bob")).await.unwrap();
    assert_eq!(revoked.revoked, 2);
    for bob in [&one, &two] {
        let refused = hub.may(bob, STATUS).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let renewed = hub.hub.renew_access(bob, renewal()).await.unwrap_err();
        assert_eq!(renewed.code(), Code::Unauthenticated);
    }
    hub.may(&ann, STATUS).await.unwrap();
    let again = hub.logged_in("bob", &hub.bob).await;
    hub.may(&again, STATUS).await.unwrap();
}

#[tokio::test]
async fn a_renewal_cannot_outlive_a_revocation_at_the_same_moment() {
    let hub = TestHub::new().await;
    let bob = hub.logged_in("bob", &hub.bob).await;
    for _ in 0..3 {
        let bob = hub.logged_in("bob", &hub.bob).await;
        hub.clock.advance(Duration::from_secs(4 * 3600));
        let ann = hub.logged_in("ann", &hub.ann).await;
        let (renewed, revoked) = tokio::join!(
            hub.hub.renew_access(&bob, renewal()),
            hub.hub.revoke_access(&ann, revocation("bob")),
        );
        revoked.unwrap();
        if let Ok(reply) = renewed {
            assert!(hub.may(&shows("bob", &reply), STATUS).await.is_err());
        }
        assert_eq!(good(&hub, &ann).await[1], ("bob".to_owned(), 0));
    }
    assert!(hub.may(&bob, STATUS).await.is_err());
}

#[tokio::test]
async fn the_access_of_somebody_unknown_cannot_be_revoked() {
    let hub = TestHub::new().await;
    let ann = hub.logged_in("ann", &hub.ann).await;
    let mistyped = hub.hub.revoke_access(&ann, revocation("bbo")).await.unwrap_err();
    assert_eq!(mistyped.code(), Code::NotFound);
    let never_in = hub.hub.revoke_access(&ann, revocation("bob")).await.unwrap();
    assert_eq!(never_in.revoked, 0);
}

#[tokio::test]
async fn operators_are_listed_with_what_is_good_now() {
    let mut hub = TestHub::new().await;
    let ann = hub.logged_in("ann", &hub.ann).await;
    hub.logged_in("bob", &hub.bob).await;
    let both = [("ann".to_owned(), 1), ("bob".to_owned(), 1)];
    assert_eq!(good(&hub, &ann).await, both);
    let new = SigningKey::generate();
    hub.advance_authority(|next| {
        next.keys[1] = crate::testing::listed("bob", &new, holdfast_pki::authority::Role::Viewer);
    })
    .await;
    assert_eq!(
        good(&hub, &ann).await[1],
        ("bob".to_owned(), 0),
        "his key was replaced"
    );
    hub.clock.advance(Duration::from_secs(8 * 3600));
    assert_eq!(good(&hub, &ann).await[0], ("ann".to_owned(), 0), "it has ended");
}

#[tokio::test]
async fn logins_at_once_are_all_kept_up_to_as_many_as_one_may_have() {
    let hub = TestHub::new().await;
    let first = hub.logged_in("ann", &hub.ann).await;
    let (one, two, three) = tokio::join!(
        hub.logged_in("ann", &hub.ann),
        hub.logged_in("ann", &hub.ann),
        hub.logged_in("ann", &hub.ann),
    );
    for caller in [&first, &one, &two, &three] {
        hub.may(caller, STATUS).await.unwrap();
    }
    hub.clock.advance(Duration::from_secs(4 * 3600));
    for _ in 4..=CERTIFICATES_MAX {
        hub.hub.renew_access(&three, renewal()).await.unwrap();
    }
    assert_eq!(good(&hub, &three).await[0].1, CERTIFICATES_MAX);
    assert!(hub.may(&first, STATUS).await.is_err(), "the oldest gave way");
    hub.may(&three, STATUS).await.unwrap();
}
