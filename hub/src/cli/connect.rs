//! Reaching a hub: TCP, TLS against the operator's own pins, gRPC.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::clock::Clock;
use holdfast_pki::tls::{self, ClientIdentity};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::output;

/// How long TCP and TLS may take for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// TLS settings that trust the hubs below the roots that `authority` names, and show `credential`.
pub(super) fn pinned(
    authority: &TrustedAuthority,
    credential: Option<ClientIdentity>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, rustls::Error> {
    let document = authority.document();
    let (trust_domain, roots) = (document.trust_domain.clone(), document.node_roots.clone());
    tls::client_config(trust_domain, roots, credential, clock, 0)
}

/// Connects to the first of `hubs` that answers and that `config` trusts.
pub(super) async fn connect(hubs: &[String], config: ClientConfig) -> anyhow::Result<Channel> {
    let tls = TlsConnector::from(Arc::new(config));
    let mut refused = None;
    for hub in hubs {
        match dial(hub.clone(), tls.clone()).await {
            Ok(channel) => return Ok(channel),
            Err(error) => {
                if hubs.len() > 1 {
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
