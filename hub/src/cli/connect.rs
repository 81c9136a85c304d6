//! Reaching a hub: TCP, TLS against the operator's own pins, gRPC.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use holdfast_pki::clock::Clock;
use holdfast_pki::tls;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::output;
use crate::operator_dir::{Context, OperatorDir};

/// How long TCP and TLS may take for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Connects to the first of the context's hubs that answers and is below the pinned root.
pub(super) async fn connect(
    dir: &OperatorDir,
    context: &Context,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Channel> {
    let mut refused = None;
    for hub in &context.hubs {
        let config = tls::client_config(
            context.trust_domain.clone(),
            BTreeSet::from([context.node_root]),
            Some(dir.api_credential()?),
            clock.clone(),
            0,
        )
        .context("the operator's API credential cannot be used")?;
        match dial(hub.clone(), TlsConnector::from(Arc::new(config))).await {
            Ok(channel) => return Ok(channel),
            Err(error) => {
                if context.hubs.len() > 1 {
                    output::remark(&format!("hub {hub}: {error:#}"));
                }
                refused = Some(error);
            }
        }
    }
    Err(refused.unwrap_or_else(|| anyhow::anyhow!("the context names no hub")))
}

async fn dial(hub: String, tls: TlsConnector) -> anyhow::Result<Channel> {
    let address = hub.clone();
    let connector = tower::service_fn(move |_| {
        let (hub, tls) = (hub.clone(), tls.clone());
        async move {
            let connect = async {
                let stream = TcpStream::connect(&hub).await?;
                stream.set_nodelay(true)?;
                // Not looked at: the certificate is judged by its SPIFFE ID, and no name is sent.
                let name = ServerName::try_from("hub").expect("a valid name");
                tls.connect(name, stream).await.map_err(tls::in_our_words)
            };
            let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
                .await
                .map_err(timed_out)??;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The address is only a label here: the connector above dials.
    let endpoint = Endpoint::from_static("http://hub").timeout(Duration::from_secs(60));
    let channel = endpoint.connect_with_connector(connector).await;
    channel
        .with_context(|| format!("cannot reach the hub at {address}: is it running, and the address right?"))
}
