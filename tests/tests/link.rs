//! The link and the table before it, over the real hub: what is not known is answered, who may not call is denied.

mod common {
    pub(crate) mod applicant;
    pub(crate) mod client;
}

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::applicant::Applicant;
use common::client::{self, Caller};
use holdfast_pki::token::JoinToken;
use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::operator_client::OperatorClient;
use holdfast_proto::v1::{self, hub_message, node_message};
use holdfast_tests::fleet::{Fleet, HUB};
use holdfast_tests::need;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// What a call may take on a busy machine.
const CALL: Duration = Duration::from_secs(20);

#[test]
fn message_that_the_hub_does_not_know_is_answered_unsupported() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("unknown")?;
    let runtime = Runtime::new()?;
    let (node, id) = enrolled(&fleet, &runtime)?;
    let socket = client::socket(&fleet, HUB)?;
    runtime.block_on(async {
        let (up, queue) = mpsc::channel(4);
        let hello = v1::NodeHello {
            protocol_versions: vec![PROTOCOL_VERSION],
            ..v1::NodeHello::default()
        };
        let hello = Some(node_message::Kind::Hello(hello));
        for (request_id, kind) in [(1, hello), (77, None)] {
            up.send(v1::NodeMessage { request_id, kind }).await?;
        }
        let mut client = NodeLinkClient::new(node.over(socket).await?);
        let mut link = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let unsupported = async {
            while let Some(message) = link.message().await? {
                if matches!(message.kind, Some(hub_message::Kind::Unsupported(_))) {
                    return Ok(message.request_id);
                }
            }
            anyhow::bail!("the link ended")
        };
        let answered = tokio::time::timeout(CALL, unsupported)
            .await
            .context("no answer")??;
        ensure!(answered == 77, "request {answered} was answered");
        // The link goes on: the same connection still takes a call.
        let confirmed = client.confirm(v1::ConfirmRequest::default()).await?.into_inner();
        ensure!(confirmed.node_id == id, "taken for {}", confirmed.node_id);
        Ok(())
    })
}

#[test]
fn callers_are_held_to_the_table() -> Result<()> {
    need!(namespaces);
    let fleet = Fleet::new("table")?;
    let runtime = Runtime::new()?;
    let (node, _) = enrolled(&fleet, &runtime)?;
    let anyone = Caller::new(&fleet, None)?;
    let (first, second) = (client::socket(&fleet, HUB)?, client::socket(&fleet, HUB)?);
    runtime.block_on(async {
        let mut as_node = OperatorClient::new(node.over(first).await?);
        let name = "applicant".to_owned();
        let removed = as_node.remove_node(v1::RemoveNodeRequest { name }).await;
        assert_eq!(
            removed.unwrap_err().code(),
            Code::PermissionDenied,
            "a node as operator"
        );

        let channel = anyone.over(second).await?;
        let listed = OperatorClient::new(channel.clone())
            .list_nodes(v1::ListNodesRequest::default())
            .await;
        assert_eq!(
            listed.unwrap_err().code(),
            Code::Unauthenticated,
            "anyone as operator"
        );
        let confirmed = NodeLinkClient::new(channel)
            .confirm(v1::ConfirmRequest::default())
            .await;
        assert_eq!(
            confirmed.unwrap_err().code(),
            Code::Unauthenticated,
            "anyone as node"
        );
        anyhow::Ok(())
    })?;
    ensure!(fleet.nodes()?.len() == 1, "the node is still there");
    Ok(())
}

/// A caller with a node's certificate, and the node's id.
fn enrolled(fleet: &Fleet, runtime: &Runtime) -> Result<(Caller, String)> {
    let token: JoinToken = fleet.token(&["role=db"], &[])?.parse()?;
    let (anyone, applicant) = (Caller::new(fleet, None)?, Applicant::new()?);
    let (socket, request) = (
        client::socket(fleet, HUB)?,
        applicant.request(&token, "applicant")?,
    );
    let reply =
        runtime.block_on(async { anyhow::Ok(Applicant::ask(anyone.over(socket).await?, request).await?) })?;
    let caller = Caller::new(fleet, Some(applicant.identity(&reply)?))?;
    Ok((caller, applicant.node_id().to_owned()))
}
