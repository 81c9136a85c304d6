//! Probes: this node as a witness of another node's keep. One TCP connect, nothing sent, never to many at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use holdfast_proto::v1::{self, node_message};
use tokio::net::TcpStream;

use super::serving::Serving;
use crate::inventory::interfaces;

/// Probes at once as a witness: more than one policy's keeps, and no more, so that a hub cannot make a scanner of us.
const PROBES_MAX: usize = 32;
/// The longest a probe may wait.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(5);

impl Serving {
    /// Opens one TCP connection for somebody else's keep, sends nothing, and says whether it came about.
    pub(super) async fn probe(&mut self, id: u64, probe: v1::Probe) -> Result<(), String> {
        let target = probe_target(&probe);
        let Some(target) = target.filter(|_| self.probes.len() < PROBES_MAX) else {
            let detail = "not a probe that this agent makes, or too many at once";
            return self.up.unsupported(id, detail).await;
        };
        let up = self.up.clone();
        let limit = Duration::from_millis(probe.timeout_ms.into()).min(PROBE_TIMEOUT_MAX);
        self.probes.spawn(async move {
            let (passed, detail) = match tokio::time::timeout(limit, TcpStream::connect(target)).await {
                Ok(Ok(_)) => (true, String::new()),
                Ok(Err(error)) => (false, error.to_string()),
                Err(_) => (false, format!("no answer within {} ms", limit.as_millis())),
            };
            let result = node_message::Kind::ProbeResult(v1::ProbeResult { passed, detail });
            // A link that went away meanwhile has nobody to tell.
            let _ = up.say(id, result).await;
        });
        Ok(())
    }
}

/// Where a probe goes: never to many at once, nor to this machine itself, which answers past its own firewall.
fn probe_target(probe: &v1::Probe) -> Option<SocketAddr> {
    let address: IpAddr = probe.address.parse().ok()?;
    // An IPv4 address in IPv6 form goes where the address goes.
    let address = address.to_canonical();
    let port = u16::try_from(probe.tcp_port).ok().filter(|port| *port > 0)?;
    let is_one = match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    };
    let is_other = !address.is_loopback() && !address.is_unspecified() && !interfaces::have(address);
    (is_one && is_other).then(|| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_go_to_one_other_machine() {
        let probe = |address: &str, tcp_port| v1::Probe {
            address: address.to_owned(),
            tcp_port,
            timeout_ms: 1,
        };
        assert!(probe_target(&probe("10.0.0.1", 22)).is_some());
        for (address, port) in [
            ("127.0.0.1", 22),
            ("0.0.0.0", 22),
            ("224.0.0.1", 22),
            ("255.255.255.255", 22),
            ("::1", 22),
            ("::ffff:127.0.0.1", 22),
            ("::ffff:224.0.0.1", 22),
            ("ff02::1", 22),
            ("x", 22),
            ("10.0.0.1", 0),
            ("10.0.0.1", 70_000),
        ] {
            assert!(probe_target(&probe(address, port)).is_none(), "{address} {port}");
        }
    }
}
