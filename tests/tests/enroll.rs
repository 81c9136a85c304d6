//! Enrolment over the real hub and agent: who is let in, who is not, and what an enemy between the two hears.

mod common {
    pub(crate) mod agent;
    pub(crate) mod applicant;
    pub(crate) mod client;
    pub(crate) mod hub_tls;
    pub(crate) mod impostor;
    pub(crate) mod proxy;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use common::agent;
use common::applicant::Applicant;
use common::client::{self, Caller};
use common::impostor::Impostor;
use common::proxy::Proxy;
use holdfast_pki::clock::{Clock as _, SystemClock};
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::to_hex;
use holdfast_proto::v1;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_tests::fleet::{Fleet, HUB, PATIENCE, PORT, TRUST_DOMAIN};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use holdfast_tests::wait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tonic::Status;

#[test]
fn wrong_pin_sends_nothing() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("pin")?;
    fleet.add_node_host("db")?;
    fleet.world.add_host("enemy", 66)?;
    let token: JoinToken = fleet.token(&["role=db"], &["--uses", "9"])?.parse()?;
    let path = fleet.hub_dir().join("ca/node-root.crt");
    let real_root = CertificateDer::from_pem_file(&path).context("the real root")?;

    // An enemy with a fleet of its own, one who shows the real root beside it, and the real hub to a foreign token.
    let enemy =
        |port, shown: &[_]| Impostor::serve(fleet.world.bind("enemy", port)?, &TRUST_DOMAIN.parse()?, shown);
    let (plain, borrower) = (enemy(8443, &[])?, enemy(8444, &[real_root])?);
    let address = fleet.world.v4("enemy");
    let leading_to = |port| JoinToken {
        hubs: vec![format!("{address}:{port}")],
        ..token.clone()
    };
    let foreign = JoinToken {
        node_roots: [plain.root()].into(),
        ..token.clone()
    };
    let start = |name, token| agent::start(&fleet, "db", name, &token);
    let (to_plain, to_borrower) = (
        start("plain", leading_to(8443))?,
        start("borrower", leading_to(8444))?,
    );
    let with_foreign = start("foreign", foreign)?;
    wait::until("handshakes with both enemies", PATIENCE, || {
        match (plain.handshakes(), borrower.handshakes()) {
            (1.., 1..) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })?;
    let heard = (plain.bytes(), borrower.bytes());
    assert_eq!(heard, (0, 0), "bytes that the enemies heard");
    agent::logged(&to_plain, "it is not below a pinned node root")?;
    agent::logged(&to_borrower, "invalid peer certificate")?;
    agent::logged(&with_foreign, "it is not below a pinned node root")?;
    let hub = fleet.hub()?.log();
    assert!(!hub.contains("enrol"), "the hub heard of an enrolment:\n{hub}");
    assert_eq!(names(&fleet)?, [""; 0]);

    // An agent that is told to trust this same enemy talks to it: the count can be other than 0.
    let trusting = JoinToken {
        node_roots: [plain.root()].into(),
        ..leading_to(8443)
    };
    let agent = agent::start(&fleet, "db", "trusting", &trusting)?;
    wait::until("a trusting agent to speak", PATIENCE, || match plain.bytes() {
        0 => Err(agent.tail()),
        _ => Ok(()),
    })
}

#[test]
fn one_use_token_in_100_parallel_enrolments_admits_exactly_one() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("oneuse")?;
    let token: JoinToken = fleet.token(&["role=db"], &["--uses", "1"])?.parse()?;
    let (winner, reply) = race(&fleet, &token, 100, 1)?.pop().context("nobody won")?;
    assert_eq!(names(&fleet)?, [reply.name.as_str()]);

    // The winner asks again: the same node. Nobody else does.
    let again = ask(&fleet, &token, &winner, &reply.name)??;
    assert_eq!((&again.node_id, &again.name), (&reply.node_id, &reply.name));
    let late = ask(&fleet, &token, &Applicant::new()?, "late")?.unwrap_err();
    assert!(is_spent(&late), "refused in another way: {late:?}");
    assert_eq!(names(&fleet)?, [reply.name.as_str()]);

    // What the winner was given is good, and for the key that it asked with.
    let member = Caller::new(&fleet, Some(winner.identity(&again)?))?;
    let socket = client::socket(&fleet, HUB)?;
    let confirmed = Runtime::new()?.block_on(async {
        let mut link = NodeLinkClient::new(member.over(socket).await?);
        anyhow::Ok(link.confirm(v1::ConfirmRequest::default()).await?.into_inner())
    })?;
    assert_eq!(confirmed.node_id, winner.node_id());
    Ok(())
}

#[test]
fn three_use_token_in_30_parallel_enrolments_admits_exactly_three() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("threeuse")?;
    let token: JoinToken = fleet.token(&["role=db"], &["--uses", "3"])?.parse()?;
    let winners = race(&fleet, &token, 30, 3)?;
    let mut winners: Vec<_> = winners.into_iter().map(|(_, reply)| reply.name).collect();
    winners.sort();
    assert_eq!(names(&fleet)?, winners);
    Ok(())
}

#[test]
fn asking_again_with_the_same_key_spends_no_use() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("again")?;
    let token: JoinToken = fleet.token(&["role=db"], &["--uses", "2"])?.parse()?;
    let (one, two, three) = (Applicant::new()?, Applicant::new()?, Applicant::new()?);
    for _ in 0..3 {
        // Under another name it is no other node.
        let reply = ask(&fleet, &token, &one, "one")??;
        let renamed = ask(&fleet, &token, &one, "renamed")??;
        assert_eq!(
            (reply.node_id.as_str(), reply.name.as_str()),
            (one.node_id(), "one")
        );
        assert_eq!(
            (renamed.node_id.as_str(), renamed.name.as_str()),
            (one.node_id(), "one")
        );
    }
    let taken = ask(&fleet, &token, &two, "one")?.unwrap_err();
    assert_eq!(taken.code(), tonic::Code::AlreadyExists);
    ask(&fleet, &token, &two, "two")??;
    let spent = ask(&fleet, &token, &three, "three")?.unwrap_err();
    assert!(is_spent(&spent), "refused in another way: {spent:?}");
    assert_eq!(names(&fleet)?, ["one", "two"]);
    Ok(())
}

#[test]
fn enrols_patiently_when_the_hub_comes_up_later() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("patient")?;
    fleet.add_node_host("db")?;
    let token = fleet.token(&["role=db"], &[])?;
    fleet.kill_hub();
    fleet.start_agent("db", Some(&token))?;
    agent::logged(fleet.agent("db")?, "not enrolled yet")?;
    fleet.start_hub()?;
    fleet.wait_for("db", "be connected", Node::is_connected).map(drop)
}

#[test]
fn a_lost_reply_is_asked_again_as_the_same_node() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("lostreply")?;
    fleet.add_node_host("db")?;
    let hub = (fleet.world.v4(HUB), PORT).into();
    let proxy = Proxy::start(&fleet.world, HUB, 9443, hub)?;
    let token: JoinToken = fleet.token(&["role=db"], &["--uses", "1"])?.parse()?;
    let hubs = vec![format!("{}:9443", fleet.world.v4(HUB))];
    let token = JoinToken { hubs, ..token }.to_text();

    // Over the first reply the connection breaks; over the second the agent is killed.
    fleet.start_agent("db", Some(&token))?;
    enrolments(&mut fleet, 1)?;
    proxy.cut();
    enrolments(&mut fleet, 2)?;
    fleet.kill_agent("db");
    let identity = fleet.agent_dir("db").join("identity.json");
    assert!(!identity.exists(), "the reply was not lost");

    proxy.mend();
    fleet.start_agent("db", Some(&token))?;
    let node = fleet.wait_for("db", "be connected", Node::is_connected)?;
    for line in enrolments(&mut fleet, 3)? {
        assert!(
            line.contains(node.id()),
            "enrolled as another node than {}: {line}",
            node.id()
        );
    }
    assert_eq!(names(&fleet)?, ["db"]);
    Ok(())
}

#[test]
fn token_that_does_not_cover_a_node_is_refused_with_the_reason() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("refused")?;
    fleet.add_node_host("db")?;
    for (name, options, reason) in [
        ("late", &["--ttl", "2s"][..], "the join token expired"),
        (
            "named",
            &["--name-pattern", "web-*"],
            "the join token admits no node named 'named'",
        ),
        (
            "placed",
            &["--address-within", "10.77.9.0/24"],
            "the join token admits no node at 10.77.0.11",
        ),
    ] {
        let token: JoinToken = fleet.token(&["role=db"], options)?.parse()?;
        let ends = token.claimed_grant()?.not_after_secs;
        if name == "late" {
            wait::until("the token's end", Duration::from_secs(5), || {
                match SystemClock.unix_secs() {
                    now if now >= ends => Ok(()),
                    now => Err(format!("{now} of {ends}")),
                }
            })?;
        }
        let state = agent::state_dir(&fleet, "db", name);
        let refused = agent::run(&fleet, "db", name, &state, &token)?;
        refused.code_is(1)?;
        ensure!(
            refused.stderr.contains(reason),
            "'{reason}' wanted, got: {}",
            refused.stderr
        );
    }
    assert_eq!(names(&fleet)?, [""; 0]);
    Ok(())
}

#[test]
fn a_token_is_never_in_a_process_list_or_log() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("secret")?;
    fleet.add_node_host("db")?;
    let text = fleet.token(&["role=db"], &[])?;
    let token: JoinToken = text.parse()?;
    fleet.start_agent("db", Some(&text))?;
    fleet.wait_for("db", "be connected", Node::is_connected)?;

    let mut places = Vec::new();
    for pid in [fleet.hub()?.pid(), fleet.agent("db")?.pid()] {
        read_below(Path::new(&format!("/proc/{pid}/cmdline")), &mut places)?;
        read_below(Path::new(&format!("/proc/{pid}/environ")), &mut places)?;
    }
    read_below(&fleet.world.dir(HUB), &mut places)?;
    read_below(&fleet.world.dir("db"), &mut places)?;
    // Where the administrator put it.
    places.retain(|(path, _)| *path != fleet.world.dir("db").join("token"));

    let json = serde_json::to_value(&token)?;
    let base64 = json["secret"].as_str().context("the token has no secret")?;
    let base64url = base64.replace('+', "-").replace('/', "_").replace('=', "");
    let hex = to_hex(&token.secret);
    for spelling in [
        text.as_bytes(),
        &token.secret,
        hex.as_bytes(),
        base64.as_bytes(),
        base64url.as_bytes(),
    ] {
        let found = places.iter().find(|(_, bytes)| holds(bytes, spelling));
        assert_eq!(found.map(|(path, _)| path), None, "the secret is here");
    }
    // The right places were read: what may be known is there.
    let grant = token.claimed_grant()?.id.to_string();
    for part in ["hub/holdfast.log", "hub/state/store/", "db/state/ledger.json"] {
        let read = places
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains(part));
        let mut read = read.map(|(_, bytes)| bytes);
        ensure!(
            read.any(|bytes| holds(bytes, grant.as_bytes())),
            "no grant's id in {part}"
        );
    }
    Ok(())
}

/// Asks for `who` over a connection of its own.
fn ask(
    fleet: &Fleet,
    token: &JoinToken,
    who: &Applicant,
    name: &str,
) -> Result<Result<v1::EnrollReply, Status>> {
    let caller = Caller::new(fleet, None)?;
    let (socket, request) = (client::socket(fleet, HUB)?, who.request(token, name)?);
    Runtime::new()?.block_on(async { Ok(Applicant::ask(caller.over(socket).await?, request).await) })
}

/// Has `many` machines enrol at the same moment, each over a connection of its own; `uses` of them must be admitted and
/// the others told clearly that the token is spent.
fn race(
    fleet: &Fleet,
    token: &JoinToken,
    many: usize,
    uses: usize,
) -> Result<Vec<(Applicant, v1::EnrollReply)>> {
    let caller = Caller::new(fleet, None)?;
    let start = Arc::new(Barrier::new(many));
    let mut sockets = Vec::new();
    for _ in 0..many {
        sockets.push(client::socket(fleet, HUB)?);
    }
    let outcomes = Runtime::new()?.block_on(async {
        let mut asking = JoinSet::new();
        for (n, socket) in sockets.into_iter().enumerate() {
            let (caller, start, applicant) = (caller.clone(), start.clone(), Applicant::new()?);
            let request = applicant.request(token, &format!("db-{n}"))?;
            asking.spawn(async move {
                let channel = caller.over(socket).await;
                // Also for one that has no connection: the others wait for it.
                start.wait().await;
                anyhow::Ok((applicant, Applicant::ask(channel?, request).await))
            });
        }
        asking.join_all().await.into_iter().collect::<Result<Vec<_>>>()
    })?;
    let mut winners = Vec::new();
    for (applicant, outcome) in outcomes {
        match outcome {
            Ok(reply) => {
                assert_eq!(reply.node_id, applicant.node_id());
                winners.push((applicant, reply));
            }
            Err(status) => assert!(is_spent(&status), "refused in another way: {status:?}"),
        }
    }
    assert_eq!(winners.len(), uses, "admitted of {many}");
    Ok(winners)
}

fn is_spent(status: &Status) -> bool {
    status.code() == tonic::Code::ResourceExhausted
        && status.message().contains("uses are spent: make a new one")
}

/// The names of the fleet's nodes, sorted as the hub lists them.
fn names(fleet: &Fleet) -> Result<Vec<String>> {
    Ok(fleet.nodes()?.iter().map(|node| node.name().to_owned()).collect())
}

/// The hub's log lines of enrolments, once there are as many as wanted.
fn enrolments(fleet: &mut Fleet, wanted: usize) -> Result<Vec<String>> {
    let hub = fleet.hub()?;
    let seen = wait::until(&format!("{wanted} enrolments"), PATIENCE, || {
        let log = hub.log();
        let lines = log.lines().filter(|line| line.contains("node enrolled"));
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        if lines.len() == wanted {
            Ok(lines)
        } else {
            Err(format!("{lines:#?}"))
        }
    });
    seen.map_err(|error| anyhow!("{error:#}\n{}", hub.tail()))
}

/// The file at `path`, or all files below it.
fn read_below(path: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    let told = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        files.push((path.to_owned(), std::fs::read(path).with_context(told)?));
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(told)? {
        read_below(&entry?.path(), files)?;
    }
    Ok(())
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
