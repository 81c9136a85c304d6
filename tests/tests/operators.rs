//! Operators: keys of their own, roles, and access that ends at once. Access is no authority, and the other way round.

mod common {
    pub(crate) mod client;
    pub(crate) mod credential;
}

use anyhow::{Context as _, Result, ensure};
use common::client::{self, Caller};
use common::credential;
use holdfast_pki::csr;
use holdfast_pki::issue::Ca;
use holdfast_pki::random::SystemRandom;
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_pki::tls::ClientIdentity;
use holdfast_proto::v1;
use holdfast_proto::v1::operator_client::OperatorClient;
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, TRUST_DOMAIN, binary};
use holdfast_tests::need;
use holdfast_tests::operator::Operator;
use holdfast_tests::process::{self, Outcome};
use holdfast_tests::wait;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::Channel;

/// `holdfast` whom the hub does not let do it.
const DENIED: i32 = 5;

#[test]
fn operator_joins_with_keys_of_its_own_and_does_what_its_role_allows() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("joins")?;
    let (bob, request) = Operator::begin(&fleet, "bob")?;
    let login = ["context", "login"];
    let early = bob.run(&fleet, &login)?;
    ensure!(
        early.code == Some(1) && early.stderr.contains("lists no operator 'bob'"),
        "before an admin added him: {early:?}"
    );
    // Another request than bob's own machine showed.
    let path = request.path.display().to_string();
    let add = |fingerprint: &str| {
        let words = [
            "authority",
            "add",
            &path,
            "--role",
            "viewer",
            "--fingerprint",
            fingerprint,
            "--yes",
        ];
        fleet.holdfast(&words)
    };
    let other = add(&"0".repeat(64))?;
    ensure!(other.code == Some(1), "another fingerprint: {other:?}");
    add(&request.fingerprint)?.ok()?;
    bob.run(&fleet, &login)?.ok()?;

    // A viewer reads, and changes nothing.
    bob.run(&fleet, &["node", "list"])?.ok()?;
    let token = ["token", "create", "--label", "role=db"];
    let refused = bob.run(&fleet, &token)?;
    ensure!(refused.code != Some(0), "a viewer made a token: {refused:?}");
    bob.run(&fleet, &["operator", "revoke", "admin"])?
        .code_is(DENIED)?;
    let role = ["authority", "role", "bob", "operator", "--yes"];
    fleet.holdfast(&role)?.ok()?;
    bob.run(&fleet, &token)?.ok()?;
    bob.run(&fleet, &["operator", "revoke", "admin"])?
        .code_is(DENIED)?;
    Ok(())
}

#[test]
fn wrong_pin_of_the_authority_makes_no_context() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("wrongpin")?;
    let at = format!("{}:8443", fleet.world.v4(HUB));
    let dir = fleet.world.dir(HUB).join("stranger");
    let pin = format!("1:{}", "ab".repeat(32));
    let add = [
        "context",
        "add",
        "lab",
        "--hub",
        &at,
        "--operator",
        "eve",
        "--authority",
        &pin,
        "--kdf",
        "none",
    ];
    let refused = fleet.holdfast_as(&dir, &add)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("pinned is"),
        "{refused:?}"
    );
    ensure!(!dir.join("contexts/lab").exists(), "a context was left");
    Ok(())
}

/// One call over a connection that stays.
fn status(runtime: &Runtime, channel: &Channel) -> Result<v1::GetStatusReply, tonic::Status> {
    let mut client = OperatorClient::new(channel.clone());
    let reply = runtime.block_on(client.get_status(v1::GetStatusRequest {}))?;
    Ok(reply.into_inner())
}

fn connect(fleet: &Fleet, runtime: &Runtime, identity: ClientIdentity) -> Result<Channel> {
    let caller = Caller::new(fleet, Some(identity))?;
    let socket = client::socket(fleet, HUB)?;
    runtime.block_on(caller.over(socket))
}

#[test]
fn revoked_access_ends_on_a_live_connection_and_a_login_begins_anew() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("revoked")?;
    let bob = Operator::join(&fleet, "bob", "operator")?;
    let context = bob.dir.join("contexts/lab");
    let runtime = Runtime::new()?;
    let channel = connect(&fleet, &runtime, credential::operator(&context)?)?;
    status(&runtime, &channel).context("before")?;
    fleet.holdfast(&["operator", "revoke", "bob"])?.ok()?;
    let refused = status(&runtime, &channel)
        .err()
        .context("the live connection goes on")?;
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");
    let again = connect(&fleet, &runtime, credential::operator(&context)?)?;
    let refused = status(&runtime, &again)
        .err()
        .context("a new connection goes on")?;
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");
    bob.run(&fleet, &["node", "list"])?.code_is(DENIED)?;
    // The key that signs is his still; a thief of the API key has none.
    bob.run(&fleet, &["context", "login"])?.ok()?;
    bob.run(&fleet, &["node", "list"])?.ok()?;
    let refused = status(&runtime, &channel)
        .err()
        .context("the stolen certificate lives again")?;
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");

    // Dropped from the authority he has neither.
    fleet.holdfast(&["authority", "remove", "bob", "--yes"])?.ok()?;
    bob.run(&fleet, &["node", "list"])?.code_is(DENIED)?;
    let login = bob.run(&fleet, &["context", "login"])?;
    ensure!(login.code != Some(0), "{login:?}");
    Ok(())
}

/// `holdfast` of the first operator, on a machine whose clock is `ahead`.
fn later(fleet: &Fleet, ahead: &str, words: &[&str]) -> Result<Outcome> {
    let mut command = fleet.world.command(HUB, "faketime");
    command
        .env("HOLDFAST_OPERATOR_DIR", fleet.operator_dir())
        .args(["-f", ahead])
        .arg(binary("holdfast")?)
        .args(words);
    process::run(&command, PATIENCE, "")
}

#[test]
fn access_is_renewed_by_any_command_past_half_of_its_life_and_got_anew_past_its_end() -> Result<()> {
    need!(namespaces);
    need!(faketime);
    let fleet = Fleet::new("renewed")?;
    let file = fleet
        .operator_dir()
        .join("contexts")
        .join(TRUST_DOMAIN)
        .join("api.pem");
    let credential = || std::fs::read(&file).context("no API certificate");
    let first = credential()?;
    // Certificates live for eight hours.
    later(&fleet, "+3h", &["status"])?.ok()?;
    ensure!(credential()? == first, "renewed in the first half of its life");
    // The hub's own clock stays: in the second in which the first was issued none would outlast it.
    let second = wait::until(
        "it to be renewed in the second half of its life",
        PATIENCE,
        || {
            let renewed = later(&fleet, "+5h", &["status"]).map_err(|error| error.to_string())?;
            let now = credential().map_err(|error| error.to_string())?;
            let is_renewed =
                renewed.code == Some(0) && !renewed.stderr.contains("logging in") && now != first;
            is_renewed.then_some(now).ok_or_else(|| format!("{renewed:?}"))
        },
    )?;
    fleet
        .holdfast(&["status"])?
        .ok()
        .context("by what it was renewed to")?;
    let over = later(&fleet, "+9h", &["status"])?;
    ensure!(over.stderr.contains("logging in"), "{over:?}");
    over.ok()?;
    ensure!(credential()? != second);
    Ok(())
}

#[test]
fn operator_minted_with_stolen_ca_keys_is_refused_by_an_honest_hub() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("minted")?;
    let runtime = Runtime::new()?;
    let ca = fleet.hub_dir().join("ca");
    let mint = |issuer: &str| -> Result<ClientIdentity> {
        let read = |ending: &str| std::fs::read(ca.join(format!("{issuer}.{ending}")));
        let issuer = Ca::from_pem(&read("crt")?, &String::from_utf8(read("key")?)?)?;
        let key = csr::new_key()?;
        let csr = csr::verify(&csr::create(&key)?)?;
        let id = SpiffeId {
            trust_domain: TRUST_DOMAIN.parse()?,
            identity: Identity::Operator("admin".parse()?),
        };
        let life = Duration::from_secs(3600);
        #[expect(clippy::disallowed_methods, reason = "the enemy's own clock")]
        let leaf = issuer.issue(&csr, &id, life, SystemTime::now(), &SystemRandom)?;
        let above = CertificateDer::from_pem_file(ca.join("operator-issuing.crt"))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok(ClientIdentity {
            chain: vec![leaf, above],
            key,
        })
    };
    // TLS lets them in: the chain is right. What the hub never issued is no access.
    for issuer in ["operator-issuing", "operator-root"] {
        let channel = connect(&fleet, &runtime, mint(issuer)?)?;
        let refused = status(&runtime, &channel)
            .err()
            .with_context(|| format!("minted by the {issuer} it is let in"))?;
        ensure!(refused.code() == Code::Unauthenticated, "{issuer}: {refused:?}");
    }
    // A node's CA vouches for no operator: here TLS itself ends it.
    let by_node_ca = mint("issuing")?;
    let refused = connect(&fleet, &runtime, by_node_ca).and_then(|channel| Ok(status(&runtime, &channel)?));
    ensure!(refused.is_err(), "minted by the nodes' CA it is let in");
    Ok(())
}

#[test]
fn machine_with_two_fleets_asks_the_one_that_is_meant() -> Result<()> {
    need!(namespaces);
    let (one, mut other) = (Fleet::new("one")?, Fleet::new("other")?);
    // Two first operators, their contexts on one machine: the second fleet's is moved beside the first's.
    let (here, there) = (one.operator_dir(), other.operator_dir());
    std::fs::rename(
        there.join("contexts").join(TRUST_DOMAIN),
        here.join("contexts/other"),
    )?;
    other.add_node_host("unused")?;
    let list: Value = serde_json::from_str(&one.holdfast(&["context", "list", "-o", "json"])?.ok()?)?;
    let names: Vec<_> = list["contexts"]
        .as_array()
        .context("no contexts")?
        .iter()
        .map(|c| &c["name"])
        .collect();
    ensure!(names == [TRUST_DOMAIN, "other"], "{list}");
    // Both hubs have the address 10.77.0.1, each in its own world: the wrong context meets the wrong hub, and says so.
    one.holdfast(&["status"])?.ok()?;
    let wrong = one.holdfast(&["status", "--context", "other"])?;
    ensure!(
        wrong.code == Some(1) && wrong.stderr.contains("not below a pinned node root"),
        "{wrong:?}"
    );
    other
        .holdfast_as(&here, &["status", "--context", "other"])?
        .ok()?;
    one.holdfast(&["context", "use", "other"])?.ok()?;
    other.holdfast_as(&here, &["status"])?.ok()?;
    let unknown = one.holdfast(&["status", "--context", "far"])?;
    ensure!(
        unknown.code == Some(1) && unknown.stderr.contains("there is no context 'far'"),
        "{unknown:?}"
    );
    Ok(())
}
