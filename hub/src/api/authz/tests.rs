use super::*;
use crate::testing::access::new_csr;
use crate::testing::{NOW, TestHub, caller, listed};
use holdfast_pki::csr;
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::NodeId;
use tonic::Code;
use tower::ServiceExt as _;

/// The services as the .proto file declares them, so that a new RPC without a row is found.
const PROTO: &str = include_str!("../../../../proto/holdfast/v1/holdfast.proto");

#[test]
fn every_rpc_has_exactly_one_row() {
    let mut service = "";
    let mut declared = Vec::new();
    for line in PROTO.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("service ") {
            service = rest.split_whitespace().next().unwrap();
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            declared.push(format!(
                "/holdfast.v1.{service}/{}",
                rest.split('(').next().unwrap()
            ));
        }
    }
    let mut rows: Vec<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    declared.sort();
    rows.sort();
    assert_eq!(declared, rows);
}

/// What each role may do that the one below may not, said once more beside the table.
const VIEWER: &[&str] = &[
    "GetStatus",
    "RenewAccess",
    "ListOperators",
    "ListDrafts",
    "GetEpoch",
    "Show",
    "ListNodes",
    "GetLabels",
    "GetGrant",
    "ListPending",
    "GetRelease",
    "ReadSlice",
    "ListAudit",
];
const PROPOSER: &[&str] = &["PutDraft", "DiscardDraft", "WriteSlice"];
const OPERATOR: &[&str] = &[
    "CreateToken",
    "RemoveNode",
    "PublishLabels",
    "AdmitNode",
    "RejectNode",
    "PublishRelease",
];
const ADMIN: &[&str] = &["RevokeAccess", "PublishAuthority", "RaiseEpoch"];
const ANYONE: &[&str] = &["Enroll", "GetAuthority", "GetLoginChallenge", "Login"];
const NODE: &[&str] = &["Connect", "GetSlice", "Confirm", "WitnessKeeps", "Show"];

/// The last word of the path of every RPC of `service` that lets `caller` through.
async fn open_to(hub: &TestHub, caller: &Caller, service: &str) -> Vec<String> {
    let mut open = Vec::new();
    for (path, who) in TABLE {
        let (of, rpc) = path.trim_start_matches("/holdfast.v1.").split_once('/').unwrap();
        if of == service && authorize(&hub.hub, caller, who).await.is_ok() {
            open.push(rpc.to_owned());
        }
    }
    open.sort();
    open
}

fn sorted(parts: &[&[&str]]) -> Vec<String> {
    let mut all: Vec<_> = parts.concat().into_iter().map(str::to_owned).collect();
    all.sort();
    all
}

#[tokio::test]
async fn each_role_may_call_what_is_its_and_nothing_more() {
    let mut hub = TestHub::new().await;
    let (kim, pat) = (SigningKey::generate(), SigningKey::generate());
    hub.advance_authority(|next| {
        next.keys.push(listed("kim", &kim, Role::Viewer));
        next.keys.push(listed("pat", &pat, Role::Proposer));
    })
    .await;
    let roles: [(&str, &SigningKey, &[&[&str]]); 4] = [
        ("kim", &kim, &[VIEWER]),
        ("pat", &pat, &[VIEWER, PROPOSER]),
        ("bob", &hub.bob, &[VIEWER, PROPOSER, OPERATOR]),
        ("ann", &hub.ann, &[VIEWER, PROPOSER, OPERATOR, ADMIN]),
    ];
    for (name, key, may) in roles {
        let caller = hub.logged_in(name, key).await;
        assert_eq!(open_to(&hub, &caller, "Operator").await, sorted(may), "{name}");
        assert_eq!(open_to(&hub, &caller, "NodeLink").await, sorted(&[]), "{name}");
        assert_eq!(
            open_to(&hub, &caller, "Enrollment").await,
            sorted(&[ANYONE]),
            "{name}"
        );
    }
    let node = hub.enrolled("db1").await;
    let others = [
        ("a node", Some(Identity::Node(node.id)), NODE),
        (
            "a stranger's node",
            Some(Identity::Node(NodeId::of_public_key(b"stranger"))),
            &[],
        ),
        ("nobody", None, &[]),
        ("another hub", Some(Identity::Hub([7; 16].into())), &[]),
    ];
    for (who, identity, may) in others {
        let caller = caller(identity);
        assert_eq!(open_to(&hub, &caller, "Operator").await, sorted(&[]), "{who}");
        assert_eq!(open_to(&hub, &caller, "NodeLink").await, sorted(&[may]), "{who}");
        assert_eq!(
            open_to(&hub, &caller, "Enrollment").await,
            sorted(&[ANYONE]),
            "{who}"
        );
    }
}

const STATUS: &str = "GetStatus";
const REMOVE: &str = "RemoveNode";

#[tokio::test]
async fn a_role_too_low_is_told_which_is_needed() {
    let mut hub = TestHub::new().await;
    let kim = SigningKey::generate();
    hub.advance_authority(|next| next.keys.push(listed("kim", &kim, Role::Viewer)))
        .await;
    let caller = hub.logged_in("kim", &kim).await;
    let refused = hub.may(&caller, REMOVE).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refused.message(),
        "this call needs the role operator; authority version 2 gives 'kim' the role viewer"
    );
}

#[tokio::test]
async fn a_new_authority_changes_at_once_what_an_operator_may() {
    let mut hub = TestHub::new().await;
    let (ann, bob) = (
        hub.logged_in("ann", &hub.ann).await,
        hub.logged_in("bob", &hub.bob).await,
    );
    hub.may(&bob, REMOVE).await.unwrap();
    hub.advance_authority(|next| next.keys[1].role = Role::Viewer)
        .await;
    assert!(hub.may(&bob, REMOVE).await.is_err());
    hub.may(&bob, STATUS).await.unwrap();
    hub.advance_authority(|next| {
        next.keys.pop();
    })
    .await;
    let refused = hub.may(&bob, STATUS).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("lists no operator 'bob'"), "{refused}");
    hub.may(&ann, REMOVE).await.unwrap();
}

#[tokio::test]
async fn a_certificate_minted_with_the_stolen_issuing_key_opens_nothing() {
    let hub = TestHub::new().await;
    let real = hub.logged_in("ann", &hub.ann).await;
    let csr = csr::verify(&new_csr()).unwrap();
    let (name, life) = ("ann".parse().unwrap(), hub.hub.ca.operator_leaf_lifetime());
    let minted = hub.hub.ca.issue_operator(&csr, &name, life).unwrap();
    let thief = Caller {
        certificate: Some(minted.fingerprint),
        ..real.clone()
    };
    let refused = hub.may(&thief, STATUS).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("not let in"), "{refused}");
    let nameless = Caller {
        certificate: None,
        ..real.clone()
    };
    assert!(hub.may(&nameless, STATUS).await.is_err());
    // Bob's own certificate, in Ann's name: it is Ann's list that counts.
    let bobs = hub.logged_in("bob", &hub.bob).await;
    let as_ann = Caller {
        certificate: bobs.certificate,
        ..real.clone()
    };
    assert!(hub.may(&as_ann, STATUS).await.is_err());
    hub.may(&real, STATUS).await.unwrap();
}

#[tokio::test]
async fn access_ends_with_the_signing_key_that_asked_for_it() {
    let mut hub = TestHub::new().await;
    let lost = hub.logged_in("bob", &hub.bob).await;
    let new = SigningKey::generate();
    hub.advance_authority(|next| next.keys[1] = listed("bob", &new, Role::Operator))
        .await;
    let refused = hub.may(&lost, STATUS).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let bob = hub.logged_in("bob", &new).await;
    hub.may(&bob, STATUS).await.unwrap();
}

/// What a peer sees who makes a call through the layer, to a handler that answers `answer`.
async fn call_to(hub: &TestHub, caller: Option<Caller>, path: &str, answer: Status) -> Code {
    let inner = tower::service_fn(move |_: http::Request<Body>| {
        let answer = answer.clone().into_http::<Body>();
        async { Ok::<_, std::convert::Infallible>(answer) }
    });
    let mut request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    let response = Authorize(hub.hub.clone())
        .layer(inner)
        .oneshot(request)
        .await
        .unwrap();
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

async fn call(hub: &TestHub, caller: Option<Caller>, path: &str) -> Code {
    call_to(hub, caller, path, Status::ok("")).await
}

#[tokio::test]
async fn what_is_not_in_the_table_or_has_no_caller_is_denied() {
    let hub = TestHub::new().await;
    let ann = hub.logged_in("ann", &hub.ann).await;
    assert_eq!(
        call(&hub, Some(ann.clone()), "/holdfast.v1.Operator/GetStatus").await,
        Code::Ok
    );
    assert_eq!(
        call(&hub, Some(ann), "/holdfast.v1.Operator/Frobnicate").await,
        Code::Unimplemented
    );
    assert_eq!(
        call(&hub, None, "/holdfast.v1.Enrollment/Login").await,
        Code::Internal
    );
}

#[tokio::test]
async fn a_refused_call_is_in_the_audit_list() {
    let hub = TestHub::new().await;
    let bob = hub.logged_in("bob", &hub.bob).await;
    let denied = call(&hub, Some(bob), "/holdfast.v1.Operator/RevokeAccess").await;
    assert_eq!(denied, Code::PermissionDenied);
    let denied = hub.denied().await;
    let [entry] = &denied[..] else {
        panic!("{denied:?}");
    };
    assert_eq!(entry.who, "spiffe://lab.example/operator/bob");
    assert_eq!(
        (entry.what.as_str(), entry.on.as_str()),
        ("call", "Operator/RevokeAccess")
    );
    assert_eq!((entry.at_secs, entry.from.as_str()), (NOW, "10.77.0.9"));
}

#[tokio::test]
async fn what_a_handler_refuses_is_in_the_audit_list_and_what_fails_is_not() {
    const PUBLISH: &str = "/holdfast.v1.Operator/PublishAuthority";
    let hub = TestHub::new().await;
    let ann = Some(hub.logged_in("ann", &hub.ann).await);
    for failed in [Status::aborted("lost"), Status::unavailable("disk")] {
        call_to(&hub, ann.clone(), PUBLISH, failed).await;
    }
    assert!(hub.denied().await.is_empty());
    let forged = Status::permission_denied("0 good signatures");
    assert_eq!(call_to(&hub, ann, PUBLISH, forged).await, Code::PermissionDenied);
    assert_eq!(hub.denied().await[0].on, "Operator/PublishAuthority");
}
