use super::*;
use crate::clock::TestClock;
use crate::csr;
use crate::issue::Ca;
use crate::random::SystemRandom;
use holdfast_proto::ids::Name;
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ServerConnection};

const NOW: u64 = 1_800_000_000;

struct Fleet {
    domain: TrustDomain,
    node_root: Ca,
    issuing: Ca,
    operator_root: Ca,
    clock: Arc<TestClock>,
}

fn fleet() -> Fleet {
    let clock = Arc::new(TestClock::at(NOW));
    let domain: TrustDomain = "lab.example".parse().unwrap();
    let node_root = Ca::new_root(&domain, "node root", clock.now(), &SystemRandom).unwrap();
    Fleet {
        issuing: node_root
            .new_issuing("issuing", clock.now(), &SystemRandom)
            .unwrap(),
        operator_root: Ca::new_root(&domain, "operators", clock.now(), &SystemRandom).unwrap(),
        domain,
        node_root,
        clock,
    }
}

fn hub_id() -> Identity {
    Identity::Hub([1; 16].into())
}

impl Fleet {
    fn leaf(
        &self,
        ca: &Ca,
        identity: impl FnOnce(&csr::VerifiedCsr) -> Identity,
        domain: &str,
    ) -> ClientIdentity {
        let key = csr::new_key().unwrap();
        let csr = csr::verify(&csr::create(&key).unwrap()).unwrap();
        let id = SpiffeId {
            trust_domain: domain.parse().unwrap(),
            identity: identity(&csr),
        };
        let leaf = ca
            .issue(
                &csr,
                &id,
                Duration::from_secs(3600),
                self.clock.now(),
                &SystemRandom,
            )
            .unwrap();
        let chain = vec![
            leaf,
            ca.certificate().clone(),
            self.node_root.certificate().clone(),
        ];
        ClientIdentity {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn server(&self, shown: ClientIdentity) -> ServerConfig {
        let signer = provider().key_provider.load_private_key(shown.key).unwrap();
        let shown = rustls::sign::SingleCertAndKey::from(CertifiedKey::new(shown.chain, signer));
        server_config(
            self.domain.clone(),
            self.node_root.certificate(),
            self.operator_root.certificate(),
            Arc::new(shown),
            self.clock.clone(),
        )
        .unwrap()
    }

    fn client(&self, identity: Option<ClientIdentity>) -> ClientConfig {
        let roots = BTreeSet::from([self.node_root.fingerprint()]);
        client_config(self.domain.clone(), roots, identity, self.clock.clone(), 0).unwrap()
    }

    fn hub(&self) -> ClientIdentity {
        self.leaf(&self.issuing, |_| hub_id(), "lab.example")
    }
}

/// Runs a handshake in memory; the errors of client and server.
fn handshake(client: ClientConfig, server: ServerConfig) -> (Option<Error>, Option<Error>) {
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("hub").unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..6 {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() && client.write_tls(&mut up).is_ok_and(|n| n > 0) {}
        let mut up = up.as_slice();
        while !up.is_empty() && server.read_tls(&mut up).is_ok() {
            server_error = server_error.or(server.process_new_packets().err());
        }
        while server.wants_write() && server.write_tls(&mut down).is_ok_and(|n| n > 0) {}
        let mut down = down.as_slice();
        while !down.is_empty() && client.read_tls(&mut down).is_ok() {
            client_error = client_error.or(client.process_new_packets().err());
        }
    }
    (client_error, server_error)
}

#[test]
fn a_node_and_an_operator_and_a_stranger_reach_the_right_hub() {
    let fleet = fleet();
    let node = fleet.leaf(&fleet.issuing, |csr| Identity::Node(csr.node_id()), "lab.example");
    let ann: Name = "ann".parse().unwrap();
    let operator = fleet.leaf(&fleet.operator_root, |_| Identity::Operator(ann), "lab.example");
    for client in [Some(node), Some(operator), None] {
        let (client_error, server_error) = handshake(fleet.client(client), fleet.server(fleet.hub()));
        assert!(
            client_error.is_none() && server_error.is_none(),
            "{client_error:?} {server_error:?}"
        );
    }
}

#[test]
fn another_fleets_hub_is_refused_by_its_root() {
    let (ours, other) = (fleet(), fleet());
    let (error, _) = handshake(ours.client(None), other.server(other.hub()));
    assert!(format!("{error:?}").contains("Pin"), "{error:?}");
    // People are told what it means.
    let told = in_our_words(io::Error::other(error.unwrap())).to_string();
    assert_eq!(told, format!("the other side is refused: {}", RefusePeer::Pin));
}

#[test]
fn a_node_cannot_pose_as_a_hub() {
    let fleet = fleet();
    let node = fleet.leaf(&fleet.issuing, |csr| Identity::Node(csr.node_id()), "lab.example");
    let (error, _) = handshake(fleet.client(None), fleet.server(node));
    assert!(error.is_some());
}

#[test]
fn a_hub_of_another_trust_domain_under_the_same_root_is_refused() {
    let fleet = fleet();
    let other = fleet.leaf(&fleet.issuing, |_| hub_id(), "other.example");
    let (error, _) = handshake(fleet.client(None), fleet.server(other));
    assert!(format!("{error:?}").contains("Identity"), "{error:?}");
}

#[test]
fn the_kind_of_identity_is_bound_to_its_root() {
    let fleet = fleet();
    let ann: Name = "ann".parse().unwrap();
    let operator_by_node_ca = fleet.leaf(&fleet.issuing, |_| Identity::Operator(ann), "lab.example");
    let node_by_operator_ca = fleet.leaf(
        &fleet.operator_root,
        |csr| Identity::Node(csr.node_id()),
        "lab.example",
    );
    for forged in [operator_by_node_ca, node_by_operator_ca] {
        let (_, error) = handshake(fleet.client(Some(forged)), fleet.server(fleet.hub()));
        assert!(error.is_some());
    }
}

#[test]
fn an_expired_certificate_is_refused_and_a_slow_clock_is_not_believed() {
    let fleet = fleet();
    let (hub, late) = (fleet.hub(), fleet.server(fleet.hub()));
    fleet.clock.set_wall(NOW + 7200);
    let (error, _) = handshake(fleet.client(None), late);
    assert!(error.is_some(), "the hub's hour has passed");
    let server = fleet.server(hub);
    fleet.clock.set_wall(0);
    let roots = BTreeSet::from([fleet.node_root.fingerprint()]);
    let config = client_config(fleet.domain.clone(), roots, None, fleet.clock.clone(), NOW).unwrap();
    assert!(handshake(config, server).0.is_none(), "1970 is before the floor");
}

#[test]
fn whoever_listens_learns_no_name_from_the_first_words() {
    let fleet = fleet();
    let roots = BTreeSet::from([fleet.node_root.fingerprint()]);
    let config = client_config(fleet.domain.clone(), roots, None, fleet.clock.clone(), 0).unwrap();
    let name = ServerName::try_from("hub.lab.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut first_words = Vec::new();
    client.write_tls(&mut first_words).unwrap();
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut first_words.as_slice()).unwrap();
    let accepted = acceptor.accept().unwrap().expect("a whole ClientHello");
    assert_eq!(accepted.client_hello().server_name(), None);
}
