//! A link that is up: what it can say, and what the keeper may ask of the hub at its other end.

use holdfast_proto::v1::node_link_client::NodeLinkClient;
use holdfast_proto::v1::{self, node_message};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::change::Offering;
use crate::dial::Connection;

/// A link that is up.
pub(super) struct Serving {
    /// For calls beside the stream, on the same connection.
    pub(super) client: NodeLinkClient<Channel>,
    /// That connection.
    pub(super) connection: Connection,
    /// The run of the hub at its other end.
    pub(super) instance: String,
    /// The stream to it.
    pub(super) up: Up,
    /// Probes that this node makes for others now.
    pub(super) probes: JoinSet<()>,
}

/// The stream to a hub. Clones share it.
#[derive(Clone)]
pub(super) struct Up(pub(super) mpsc::Sender<v1::NodeMessage>);

impl Up {
    /// Says something; `request_id` is the request's own, or that of the message it answers.
    pub(super) async fn say(&self, request_id: u64, kind: node_message::Kind) -> Result<(), String> {
        let message = v1::NodeMessage {
            request_id,
            kind: Some(kind),
        };
        self.0
            .send(message)
            .await
            .map_err(|_| "the link broke".to_owned())
    }

    /// Answers a message that this agent cannot serve.
    pub(super) async fn unsupported(&self, request_id: u64, detail: &str) -> Result<(), String> {
        let detail = detail.to_owned();
        self.say(
            request_id,
            node_message::Kind::Unsupported(v1::Unsupported { detail }),
        )
        .await
    }
}

impl Serving {
    /// The hub, as the keeper uses it.
    pub(super) fn offering(&self) -> Offering {
        Offering {
            client: self.client.clone(),
            channel: self.connection.channel.clone(),
            instance: self.instance.clone(),
            on_this_machine: self.connection.stays_on_this_machine(),
        }
    }
}
