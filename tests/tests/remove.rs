//! `holdfast node remove` over the real hub and agent: access ends at once, and only that key's.

mod common {
    pub(crate) mod agent;
    pub(crate) mod applicant;
    pub(crate) mod client;
}

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use common::agent;
use common::applicant::Applicant;
use common::client::{self, Caller};
use holdfast_pki::token::JoinToken;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::{self, hub_message, node_message};
use holdfast_proto::{PROTOCOL_VERSION, v1::HubMessage};
use holdfast_tests::fleet::{Fleet, HUB};
use holdfast_tests::need;
use holdfast_tests::node::Node;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// Within this an enemy with a node's key must be out, whatever it does or leaves undone.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What a call may take on a busy machine.
const CALL: Duration = Duration::from_secs(20);

#[test]
fn removed_key_is_cut_off_at_once_however_quiet_it_is() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("quiet")?;
    let token: JoinToken = fleet.token(&["role=db"], &[])?.parse()?;
    let runtime = Runtime::new()?;
    let (anyone, quiet) = (Caller::new(&fleet, None)?, Applicant::new()?);
    let (socket, request) = (client::socket(&fleet, HUB)?, quiet.request(&token, "quiet")?);
    let reply =
        runtime.block_on(async { anyhow::Ok(Applicant::ask(anyone.over(socket).await?, request).await?) })?;
    let caller = Caller::new(&fleet, Some(quiet.identity(&reply)?))?;

    // A link that says hello, then listens only; and beside it a connection that makes calls.
    let (socket, beside) = (client::socket(&fleet, HUB)?, client::socket(&fleet, HUB)?);
    let (mut link, mut beside, _up) = runtime.block_on(async {
        let (up, queue) = mpsc::channel(1);
        let hello = v1::NodeHello {
            protocol_versions: vec![PROTOCOL_VERSION],
            ..v1::NodeHello::default()
        };
        let kind = Some(node_message::Kind::Hello(hello));
        up.send(v1::NodeMessage { request_id: 1, kind }).await?;
        let mut client = NodeLinkClient::new(caller.over(socket).await?);
        let mut link = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let first = tokio::time::timeout(CALL, link.message())
            .await
            .context("no hello")??;
        ensure!(
            matches!(kind_of(first), Some(hub_message::Kind::Hello(_))),
            "no hello came first"
        );
        let mut beside = NodeLinkClient::new(caller.over(beside).await?);
        let confirmed = beside.confirm(v1::ConfirmRequest::default()).await?.into_inner();
        ensure!(
            confirmed.node_id == quiet.node_id(),
            "taken for {}",
            confirmed.node_id
        );
        Ok((link, beside, up))
    })?;

    fleet.holdfast(&["node", "remove", "quiet"])?.ok()?;
    runtime.block_on(async {
        let ended = tokio::time::timeout(AT_ONCE, to_the_end(&mut link)).await;
        ended.context("the link of a removed node is still open")??;
        let refused = beside.confirm(v1::ConfirmRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "over a live connection");
        anyhow::Ok(())
    })?;
    let socket = client::socket(&fleet, HUB)?;
    runtime.block_on(async {
        let mut client = NodeLinkClient::new(caller.over(socket).await?);
        let refused = client.connect(tokio_stream::empty()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "over a fresh connection");
        ensure!(
            refused.message().contains("was removed"),
            "it says: {}",
            refused.message()
        );
        Ok(())
    })
}

#[test]
fn removed_node_frees_its_name_and_its_key_never_enrols_again() -> Result<()> {
    need!(namespaces);
    let mut fleet = Fleet::new("removed")?;
    fleet.add_node_host("db")?;
    let text = fleet.token(&["role=db"], &["--uses", "3"])?;
    let token: JoinToken = text.parse()?;
    fleet.start_agent("db", Some(&text))?;
    let first = fleet.wait_for("db", "be connected", Node::is_connected)?;

    fleet.holdfast(&["node", "remove", "db"])?.ok()?;
    assert_eq!(fleet.nodes()?.len(), 0);
    agent::logged(fleet.agent("db")?, "the hub removed this node")?;
    agent::logged(fleet.agent("db")?, "this node was removed")?;

    // The key alone is left, and a token that has uses left.
    fleet.kill_agent("db");
    let state = fleet.agent_dir("db");
    for file in ["identity.json", "ledger.json"] {
        std::fs::remove_file(state.join(file)).with_context(|| format!("cannot remove {file}"))?;
    }
    let refused = agent::run(&fleet, "db", "db", &state, &token)?;
    refused.code_is(1)?;
    let reason = "the node of this key was removed: it must enrol with a new key";
    ensure!(
        refused.stderr.contains(reason),
        "'{reason}' wanted, got: {}",
        refused.stderr
    );

    // Another key takes the name.
    let _anew = agent::start(&fleet, "db", "db", &token)?;
    let second = fleet.wait_for("db", "be connected", Node::is_connected)?;
    assert_ne!(first.id(), second.id());
    ensure!(agent::state_dir(&fleet, "db", "db") != state, "the same key");
    Ok(())
}

/// Reads until the hub has closed the link, having said that the node was removed.
async fn to_the_end(link: &mut Streaming<HubMessage>) -> Result<()> {
    let mut told = false;
    loop {
        match link.message().await {
            Ok(Some(message)) => told |= matches!(message.kind, Some(hub_message::Kind::Removed(_))),
            Ok(None) | Err(_) if told => return Ok(()),
            other => bail!("the link ended without a word: {other:?}"),
        }
    }
}

fn kind_of(message: Option<HubMessage>) -> Option<hub_message::Kind> {
    message?.kind
}
