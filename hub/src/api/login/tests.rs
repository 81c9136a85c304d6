use super::*;
use crate::testing::access::{Wish, new_csr, shows};
use crate::testing::{TestHub, caller, listed};
use holdfast_pki::authority::Role;
use holdfast_pki::challenge::LIFETIME_SECS;
use holdfast_pki::issue::validity;
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::spiffe;
use std::time::Duration;
use tonic::Code;

const STATUS: &str = "GetStatus";

/// Why a login is refused.
async fn refused(hub: &TestHub, wish: v1::LoginRequest) -> String {
    let status = hub.hub.login(&caller(None), wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    status.message().to_owned()
}

async fn refused_when(hub: &TestHub, change: impl FnOnce(&mut Wish)) -> String {
    let mut wish = hub.wish("ann");
    change(&mut wish);
    refused(hub, wish.signed(&hub.ann)).await
}

#[tokio::test]
async fn the_signing_key_opens_the_api_for_a_working_day() {
    let hub = TestHub::new().await;
    let wish = hub.wish("ann").signed(&hub.ann);
    let reply = hub.hub.login(&caller(None), wish).await.unwrap();
    let [leaf, issuing] = &reply.certificate_chain_der[..] else {
        panic!("{} certificates", reply.certificate_chain_der.len());
    };
    let id = spiffe::of_certificate(leaf).unwrap().to_string();
    assert_eq!(id, "spiffe://lab.example/operator/ann");
    let (_, until) = validity(leaf).unwrap();
    assert_eq!(
        until,
        holdfast_pki::clock::Clock::now(&*hub.clock) + Duration::from_secs(8 * 3600)
    );
    assert!(validity(issuing).is_some());

    let ann = shows("ann", &reply);
    hub.may(&ann, STATUS).await.unwrap();
    hub.clock.advance(Duration::from_secs(8 * 3600));
    let over = hub.may(&ann, STATUS).await.unwrap_err();
    assert_eq!(over.code(), Code::Unauthenticated, "on a connection from before");
    assert!(over.message().contains("holdfast context login"), "{over}");
}

#[tokio::test]
async fn another_key_than_the_listed_one_opens_nothing() {
    let hub = TestHub::new().await;
    let stranger = SigningKey::generate();
    let told = refused(&hub, hub.wish("ann").signed(&stranger)).await;
    assert!(told.contains("lists for 'ann'"), "{told}");
    refused(&hub, hub.wish("ann").signed(&hub.bob)).await;
    let mut in_her_name = hub.wish("ann").signed(&stranger);
    in_her_name.access_request.as_mut().unwrap().signatures[0].key_id = hub.ann.key_id().to_string();
    refused(&hub, in_her_name).await;

    let denied = hub.denied().await;
    assert_eq!(denied.len(), 3);
    let first = &denied[0];
    assert_eq!(
        (first.who.as_str(), first.what.as_str(), first.on.as_str()),
        ("anyone", "log in", "operator/ann")
    );
}

#[tokio::test]
async fn a_challenge_is_taken_once_and_for_two_minutes() {
    let hub = TestHub::new().await;
    let old = hub.wish("ann").signed(&hub.ann);
    hub.clock.advance(Duration::from_secs(LIFETIME_SECS));
    let told = refused(&hub, old).await;
    assert!(told.contains("older than 120 s"), "{told}");

    let wish = hub.wish("ann").signed(&hub.ann);
    hub.hub.login(&caller(None), wish.clone()).await.unwrap();
    let told = refused(&hub, wish).await;
    assert!(told.contains("used already"), "{told}");
    let told = refused_when(&hub, |wish| wish.request.challenge = vec![7; 56]).await;
    assert!(told.contains("not one that this hub gave"), "{told}");
}

#[tokio::test]
async fn a_challenge_of_another_hub_is_refused() {
    let (hub, other) = (TestHub::new().await, TestHub::new().await);
    let foreign = other.hub.login_challenge().challenge.to_vec();
    let told = refused_when(&hub, |wish| wish.request.challenge = foreign).await;
    assert!(told.contains("not one that this hub gave"), "{told}");
}

#[tokio::test]
async fn a_request_is_for_the_api_key_that_it_names() {
    let hub = TestHub::new().await;
    let told = refused_when(&hub, |wish| wish.csr_der = new_csr()).await;
    assert!(told.contains("another API key"), "{told}");
    // Nothing was spent on it: the operator's own try goes through.
    let mut wish = hub.wish("ann");
    let own = std::mem::replace(&mut wish.csr_der, new_csr());
    refused(&hub, wish.signed(&hub.ann)).await;
    wish.csr_der = own;
    let good = wish.signed(&hub.ann);
    hub.hub.login(&caller(None), good).await.unwrap();
}

#[tokio::test]
async fn a_request_for_another_fleet_is_refused() {
    let hub = TestHub::new().await;
    let told = refused_when(&hub, |wish| {
        wish.request.trust_domain = "other.example".parse().unwrap();
    })
    .await;
    assert!(told.contains("other.example"), "{told}");
}

#[tokio::test]
async fn who_is_not_listed_or_whose_key_is_revoked_stays_out() {
    let mut hub = TestHub::new().await;
    refused(&hub, hub.wish("eve").signed(&SigningKey::generate())).await;
    let bobs = hub.bob.key_id();
    hub.logged_in("bob", &hub.bob).await;
    hub.advance_authority(|next| {
        next.revoked.insert(bobs);
    })
    .await;
    refused(&hub, hub.wish("bob").signed(&hub.bob)).await;
}

#[tokio::test]
async fn an_expired_authority_still_lets_its_operators_in() {
    let mut hub = TestHub::new().await;
    let kim = SigningKey::generate();
    let end = hub.hub.clock.unix_secs() + 10;
    hub.advance_authority(|next| {
        next.expires_secs = end;
        next.keys.push(listed("kim", &kim, Role::Viewer));
    })
    .await;
    hub.clock.advance(Duration::from_secs(3600));
    let kim = hub.logged_in("kim", &kim).await;
    hub.may(&kim, STATUS).await.unwrap();
}
