//! A hub over a store in memory, with operators whose keys the test holds: for the tests of what the hub decides.

pub(crate) mod access;
mod deeds;
mod link;
mod yielding;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_pki::authority::{Act, Authority, AuthorityKey, AuthorityPin, Role};
use holdfast_pki::clock::TestClock;
use holdfast_pki::envelope::{Algorithm, Envelope};
use holdfast_pki::files::SystemFiles;
use holdfast_pki::random::SystemRandom;
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::spiffe::{Identity, SpiffeId};
use holdfast_proto::ids::{Digest, TrustDomain};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use tokio::sync::watch;

use self::yielding::Yielding;
use crate::acceptor::Caller;
use crate::api::Hub;
use crate::cli::signer::NewSigner;
use crate::config::{CaName, Config, HubDir};
use crate::init::{self, Plan};
use crate::registry::{Registry, to_record};
use crate::serve::{self, Machine};
use crate::store::Store;
use crate::store::audit::{AuditEntry, AuditId, Outcome, PENDING};
use crate::store::key::{Key, Revision, Span};
use crate::store::memory::MemoryStore;
use crate::store::txn::Txn;
use crate::tasks::Tasks;

/// When the tests' clocks begin.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The secret of every grant that [`TestHub::grant`] makes.
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// The fleet of every test hub.
pub(crate) fn fleet() -> TrustDomain {
    "lab.example".parse().unwrap()
}

/// A document around which `keys` put their signatures.
pub(crate) fn signed<T: Payload + Serialize>(document: &T, keys: &[&SigningKey]) -> Envelope {
    let mut envelope = Envelope::unsigned(serde_json::to_vec(document).unwrap());
    for key in keys {
        key.sign(T::KIND, &mut envelope);
    }
    envelope
}

/// A key as an authority lists it.
pub(crate) fn listed(name: &str, key: &SigningKey, role: Role) -> AuthorityKey {
    AuthorityKey {
        id: key.key_id(),
        algorithm: Algorithm::Ed25519,
        public: key.public(),
        name: name.parse().unwrap(),
        role,
    }
}

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs: BTreeMap<_, _> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    pairs.try_into().unwrap()
}

/// A hub, its directory, and its operators.
pub(crate) struct TestHub {
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Arc<TestClock>,
    /// Ann's, an admin.
    pub(crate) ann: SigningKey,
    /// Bob's, an operator.
    pub(crate) bob: SigningKey,
    /// The newest version that the test published.
    pub(crate) authority: Authority,
    pub(crate) store: Arc<dyn Store>,
    config: Config,
    dir: tempfile::TempDir,
    _drain: watch::Sender<bool>,
}

impl TestHub {
    /// A hub at authority version 1, of Ann and Bob, where one signature is enough for everything.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at(NOW));
        let plan = Plan {
            dir: dir.path().join("hub"),
            operator_dir: dir.path().join("operator"),
            operator: "ann".parse().unwrap(),
            trust_domain: fleet(),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: vec!["127.0.0.1:1".to_owned()],
        };
        let key = || Ok(NewSigner::in_file(None, &SystemRandom));
        init::init(&plan, &machine(&clock), key).await.unwrap();
        let (ann, bob) = (SigningKey::generate(), SigningKey::generate());
        let authority = Authority {
            kind: Authority::KIND.to_owned(),
            format: Authority::FORMAT,
            trust_domain: fleet(),
            version: 1,
            previous: None,
            issued_secs: NOW,
            expires_secs: NOW + 1_000_000_000,
            keys: vec![
                listed("ann", &ann, Role::Admin),
                listed("bob", &bob, Role::Operator),
            ],
            thresholds: Act::REQUIRED.into_iter().map(|act| (act, 1)).collect(),
            revoked: BTreeSet::new(),
            node_roots: BTreeSet::from([node_root(&HubDir::new(&plan.dir))]),
        };
        let envelope = signed(&authority, &[&ann]);
        // The real authority's key lies sealed in the operator's directory: the test puts its own in the place of it.
        let mut config = Config::read(&HubDir::new(&plan.dir), &SystemFiles).unwrap();
        config.authority = AuthorityPin {
            version: 1,
            digest: envelope.digest(),
        };
        let store: Arc<dyn Store> = Arc::new(Yielding::new(MemoryStore::new(clock.clone())));
        put(&store, &clock, Registry::authority_key(1), to_record(&envelope)).await;
        let (drain, draining) = watch::channel(false);
        let hub = open(&dir, &config, &store, &clock, draining).await;
        Self {
            hub,
            clock,
            ann,
            bob,
            authority,
            store,
            config,
            dir,
            _drain: drain,
        }
    }

    /// Ends this run of the hub and begins the next one, over `store`.
    pub(crate) async fn restart(&mut self, store: Arc<dyn Store>) {
        self.hub.tasks.abort_all();
        self.store = store;
        let draining = self.hub.draining.clone();
        self.hub = open(&self.dir, &self.config, &self.store, &self.clock, draining).await;
    }

    /// An operator who calls from the management network.
    #[expect(clippy::unused_self, reason = "the caller belongs to the hub's fleet")]
    pub(crate) fn operator(&self, name: &str) -> Caller {
        caller(Some(Identity::Operator(name.parse().unwrap())))
    }

    /// A next version of the authority that `change` makes of the present one, signed by Ann, and in the store.
    pub(crate) async fn advance_authority(&mut self, change: impl FnOnce(&mut Authority)) -> Envelope {
        let envelope = self.next_authority(change);
        let key = Registry::authority_key(self.authority.version);
        put(&self.store, &self.clock, key, to_record(&envelope)).await;
        envelope
    }

    /// A next version of the authority, signed by Ann, that the hub does not know.
    pub(crate) fn next_authority(&mut self, change: impl FnOnce(&mut Authority)) -> Envelope {
        let previous = Digest::of(&serde_json::to_vec(&self.authority).unwrap());
        self.authority.version += 1;
        self.authority.previous = Some(previous);
        change(&mut self.authority);
        signed(&self.authority, &[&self.ann])
    }

    /// Puts another key in the place of Ann's.
    pub(crate) async fn replace_ann(&mut self, key: &SigningKey) {
        let mut next = self.next_authority(|next| {
            next.keys[0].id = key.key_id();
            next.keys[0].public = key.public();
        });
        key.sign(Authority::KIND, &mut next);
        let place = Registry::authority_key(self.authority.version);
        put(&self.store, &self.clock, place, to_record(&next)).await;
    }

    /// What the audit list says was done.
    pub(crate) async fn audited(&self) -> Vec<String> {
        let entries = self.hub.registry.all(PENDING).await.unwrap();
        let what = entries
            .iter()
            .map(|entry| AuditEntry::from_bytes(&entry.value).unwrap().what);
        what.collect()
    }

    /// An audit entry of the test itself.
    pub(crate) fn audit(&self) -> (AuditId, AuditEntry) {
        audit(&self.clock)
    }
}

/// A copy of a store as it was at `until`, as a backup is: with the revisions that it had.
pub(crate) async fn backup(
    store: &Arc<dyn Store>,
    clock: &Arc<TestClock>,
    until: Revision,
) -> Arc<dyn Store> {
    let copy = MemoryStore::new(clock.clone());
    let mut history = store.watch(Revision::new(1), Span::prefix("")).await.unwrap();
    for revision in 1..=until.get() {
        let batch = history.next().await.unwrap();
        assert_eq!(batch.revision.get(), revision);
        let (id, entry) = audit(clock);
        let mut txn = Txn::new(&id, &entry);
        for change in batch.changes {
            txn = match change.value {
                Some(value) => txn.put(change.key, value),
                None => txn.delete(change.key),
            };
        }
        copy.commit(txn).await.unwrap();
    }
    Arc::new(copy)
}

fn node_root(dir: &HubDir) -> Digest {
    let (certificate, _) = dir.ca(CaName::NodeRoot);
    Digest::of(&CertificateDer::from_pem_file(certificate).unwrap())
}

fn machine(clock: &Arc<TestClock>) -> Machine {
    Machine {
        clock: clock.clone(),
        random: Arc::new(SystemRandom),
        files: Arc::new(SystemFiles),
    }
}

async fn open(
    dir: &tempfile::TempDir,
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &Arc<TestClock>,
    draining: watch::Receiver<bool>,
) -> Arc<Hub> {
    let dir = HubDir::new(dir.path().join("hub"));
    let opened = serve::open(
        &dir,
        config,
        store.clone(),
        &machine(clock),
        Tasks::default(),
        draining,
    )
    .await;
    let hub = opened.unwrap();
    hub.tasks.spawn("director", hub.director.clone().run());
    hub
}

/// Somebody who calls from the management network.
pub(crate) fn caller(identity: Option<Identity>) -> Caller {
    Caller {
        address: "10.77.0.9:40000".parse().unwrap(),
        id: identity.map(|identity| SpiffeId {
            trust_domain: fleet(),
            identity,
        }),
        certificate: None,
    }
}

fn audit(clock: &Arc<TestClock>) -> (AuditId, AuditEntry) {
    let entry = AuditEntry {
        at_secs: NOW,
        who: "test".to_owned(),
        what: "set up".to_owned(),
        on: "test".to_owned(),
        from: "test".to_owned(),
        digest: None,
        outcome: Outcome::Done,
        correlation_id: [7; 16].into(),
    };
    (AuditId::new(&**clock, &SystemRandom), entry)
}

async fn put(store: &Arc<dyn Store>, clock: &Arc<TestClock>, key: Key, value: Vec<u8>) {
    let (id, entry) = audit(clock);
    store.commit(Txn::new(&id, &entry).put(key, value)).await.unwrap();
}
