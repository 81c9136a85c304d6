//! Keep checks made from outside: a TCP connect to the node by a witness whose address lies in the keep's `from`.
//!
//! The witness is this hub if its own address fits, else any connected node whose address does. The same witness that was
//! asked before a change is asked after it. A node's address is the one it connects from, never one it claims.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use holdfast_proto::ids::NodeId;
use holdfast_proto::v1;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::links::Links;

/// The hub's own name as a witness.
const HUB: &str = "hub";
/// How long one connect may take: over a second so that one lost SYN is repeated.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The most keeps of one request: all that eight slices can hold. An agent asks for no more.
pub const KEEPS_MAX: usize = 256;
/// How many nodes have keeps witnessed at once: a whole fleet may take a release in the same moment.
pub const AT_ONCE: usize = 256;
/// How many keeps of one node are looked at side by side: it costs a connection each, here or at a witness that has 32
/// places for all. One node must not take them from the others.
const KEEPS_AT_ONCE: usize = 8;

/// Has every keep of `request` checked against `node` at `address`, some side by side. One result for each keep, in order.
pub async fn check(
    links: &Links,
    node: NodeId,
    address: IpAddr,
    request: v1::WitnessKeepsRequest,
) -> Vec<v1::Witnessed> {
    let count = request.keeps.len().min(KEEPS_MAX);
    let mut checks = JoinSet::new();
    let places = Arc::new(Semaphore::new(KEEPS_AT_ONCE));
    for (n, keep) in request.keeps.into_iter().take(KEEPS_MAX).enumerate() {
        let asked_before = request.witnesses.get(n).cloned();
        let (links, places) = (links.clone(), places.clone());
        checks.spawn(async move {
            let _place = places.acquire().await;
            (
                n,
                check_one(&links, &node, address, &keep, asked_before.as_deref()).await,
            )
        });
    }
    let mut results = vec![unwitnessed("the check did not end"); count];
    while let Some(checked) = checks.join_next().await {
        if let Ok((n, result)) = checked {
            results[n] = result;
        }
    }
    results
}

async fn check_one(
    links: &Links,
    node: &NodeId,
    address: IpAddr,
    keep: &v1::Keep,
    asked_before: Option<&str>,
) -> v1::Witnessed {
    let Ok(port) = u16::try_from(keep.tcp_port) else {
        return unwitnessed("the port is out of range");
    };
    let target = SocketAddr::new(address, port);
    let from: Vec<IpNet> = keep
        .from
        .iter()
        .filter_map(|network| network.parse().ok())
        .collect();
    let fits = |witness: IpAddr| from.iter().any(|network| network.contains(&witness));
    let hub_fits = || own_address_towards(target).is_some_and(fits);
    let node_fits = |(other, at): &(NodeId, IpAddr)| other != node && fits(*at);
    match asked_before {
        Some(HUB) => from_here(target).await,
        Some("") => unwitnessed("nobody was a witness before"),
        Some(id) => match id.parse() {
            Ok(witness) => from_node(links, &witness, target).await,
            Err(_) => unwitnessed("the witness asked for is no node"),
        },
        None if hub_fits() => from_here(target).await,
        None => match links.addresses().iter().find(|other| node_fits(other)) {
            Some((witness, _)) => from_node(links, witness, target).await,
            None => unwitnessed("no hub or connected node has an address in the keep's `from`"),
        },
    }
}

fn unwitnessed(detail: &str) -> v1::Witnessed {
    v1::Witnessed {
        witness: String::new(),
        passed: false,
        detail: detail.to_owned(),
    }
}

async fn from_here(target: SocketAddr) -> v1::Witnessed {
    let (passed, detail) = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(Ok(_)) => (true, String::new()),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    v1::Witnessed {
        witness: HUB.to_owned(),
        passed,
        detail,
    }
}

async fn from_node(links: &Links, witness: &NodeId, target: SocketAddr) -> v1::Witnessed {
    match links.probe(witness, target, CONNECT_TIMEOUT).await {
        Some(v1::ProbeResult { passed, detail }) => v1::Witnessed {
            witness: witness.to_string(),
            passed,
            detail: detail.chars().take(200).collect(),
        },
        None => unwitnessed("the witness did not answer"),
    }
}

/// The address that this machine would use towards `target`: a connected UDP socket knows, and sends nothing.
fn own_address_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if target.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_many_keeps_of_a_node_are_looked_at_at_once() {
        let (links, witness) = (Links::default(), NodeId::of_public_key(b"witness"));
        let (_linked, _, mut queue) = links.enter(witness, "10.0.0.2:1".parse().unwrap(), 1);
        let keep = v1::Keep {
            tcp_port: 22,
            from: vec!["10.0.0.2".to_owned()],
        };
        let request = v1::WitnessKeepsRequest {
            keeps: vec![keep; 3 * KEEPS_AT_ONCE],
            witnesses: vec![witness.to_string(); 3 * KEEPS_AT_ONCE],
        };
        let node = NodeId::of_public_key(b"node");
        let checked = check(&links, node, "10.0.0.1".parse().unwrap(), request);
        // The witness is asked, and never answers.
        let asked = async {
            let mut asked = 0;
            let pause = Duration::from_secs(1);
            while let Ok(Some(_)) = tokio::time::timeout(pause, queue.recv()).await {
                asked += 1;
            }
            asked
        };
        tokio::select! {
            asked = asked => assert_eq!(asked, KEEPS_AT_ONCE),
            results = checked => panic!("{results:?}"),
        }
    }
}
