//! A node's link to a test hub: the real services, without a network between.

use std::convert::Infallible;
use std::time::Duration;

use holdfast_pki::envelope::Envelope;
use holdfast_pki::spiffe::Identity;
use holdfast_proto::PROTOCOL_VERSION;
use holdfast_proto::ids::NodeId;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::{self, hub_message, node_message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::body::Body;
use tower::util::BoxCloneService;
use tower::{Layer as _, ServiceExt as _};

use super::{TestHub, caller};
use crate::acceptor::Caller;
use crate::api;
use crate::api::authz::Authorize;

/// Longer than any message takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the director takes to settle: who is silent for this long says no more.
const SILENCE: Duration = Duration::from_millis(300);

/// The hub's services without a network.
pub(crate) type Door = BoxCloneService<http::Request<Body>, http::Response<Body>, Infallible>;

/// A node's end of its link.
pub(crate) struct NodeEnd {
    _up: mpsc::Sender<v1::NodeMessage>,
    down: Streaming<v1::HubMessage>,
}

impl NodeEnd {
    async fn next(&mut self, within: Duration) -> Option<hub_message::Kind> {
        let next = tokio::time::timeout(within, self.down.message()).await;
        next.ok()?.unwrap()?.kind
    }

    /// Wants the hub to say exactly this, and then no more. Members and checkpoints are passed over.
    pub(crate) async fn hears(&mut self, wanted: &[&str]) {
        let mut heard = Vec::new();
        for _ in wanted {
            heard.extend(self.next_told(PATIENCE).await);
        }
        heard.extend(self.next_told(SILENCE).await);
        assert_eq!(heard, wanted);
    }

    async fn next_told(&mut self, within: Duration) -> Option<String> {
        loop {
            let (what, document, number) = match self.next(within).await? {
                hub_message::Kind::EpochRaise(raise) => ("epoch", raise.document, "new"),
                hub_message::Kind::ReleaseOffer(offer) => ("release", offer.manifest, "number"),
                hub_message::Kind::LabelChange(change) => ("labels", change.document, "version"),
                _ => continue,
            };
            let envelope = Envelope::try_from(document).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&envelope.payload).unwrap();
            let epoch = document
                .get("epoch")
                .map(|epoch| format!("{epoch}."))
                .unwrap_or_default();
            return Some(format!("{what} {epoch}{}", document[number]));
        }
    }

    /// The next thing of a kind, which is due.
    pub(crate) async fn due<T>(&mut self, pick: impl Fn(hub_message::Kind) -> Option<T>) -> T {
        self.find(PATIENCE, pick).await.expect("it did not come in time")
    }

    /// The next thing of a kind, if the hub says one without being silent in between.
    pub(crate) async fn undue<T>(&mut self, pick: impl Fn(hub_message::Kind) -> Option<T>) -> Option<T> {
        self.find(SILENCE, pick).await
    }

    async fn find<T>(
        &mut self,
        within: Duration,
        pick: impl Fn(hub_message::Kind) -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = pick(self.next(within).await?) {
                return Some(found);
            }
        }
    }
}

impl TestHub {
    /// The hub's services as `caller` reaches them, without a network between.
    pub(crate) fn door(&self, caller: Caller) -> Door {
        let services = Authorize(self.hub.clone()).layer(api::router(&self.hub));
        BoxCloneService::new(services.map_request(move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(caller.clone());
            request
        }))
    }

    /// A node's link after its hello, and the hub's.
    pub(crate) async fn link(&self, node: NodeId, hello: v1::NodeHello) -> (NodeEnd, v1::HubHello) {
        let (up, uplink) = mpsc::channel(16);
        let message = v1::NodeMessage {
            request_id: 1,
            kind: Some(node_message::Kind::Hello(v1::NodeHello {
                protocol_versions: vec![PROTOCOL_VERSION],
                ..hello
            })),
        };
        up.send(message).await.unwrap();
        let mut client = NodeLinkClient::new(self.door(caller(Some(Identity::Node(node)))));
        let down = client.connect(ReceiverStream::new(uplink)).await.unwrap();
        let mut end = NodeEnd {
            _up: up,
            down: down.into_inner(),
        };
        match end.next(PATIENCE).await {
            Some(hub_message::Kind::Hello(hello)) => (end, hello),
            other => panic!("a hello wanted, got {other:?}"),
        }
    }
}
