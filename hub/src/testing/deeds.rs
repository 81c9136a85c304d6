//! What operators and nodes do, in one line each: for tests that are about what comes of it.

use std::collections::BTreeMap;

use holdfast_pki::csr;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_pki::labels::LabelChange;
use holdfast_policy::release::{Manifest, SliceRef};
use holdfast_proto::ids::{Digest, Generation, NodeId};
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;

use super::{NOW, SECRET, TestHub, caller, fleet, labels, put, signed};
use crate::hold::{Finding, Hold};
use crate::registry::{NodeRecord, Registry, to_record};
use crate::releases::publish::publish;
use crate::releases::{self, ReleaseError};
use crate::store::txn::Txn;
use crate::{epoch, hold, labels as node_labels};

impl TestHub {
    /// A join grant that Bob signed, in the hub's store. Its token's secret is [`SECRET`].
    pub(crate) async fn grant(&self, uses: u32, admission: Admission) -> JoinGrant {
        let grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: JoinGrant::FORMAT,
            trust_domain: fleet(),
            id: self.hub.random.unique_id(),
            uses,
            not_after_secs: NOW + 3600,
            labels: labels(&[("role", "db")]),
            name_pattern: "*".parse().unwrap(),
            within: Vec::new(),
            least_generation: Generation { epoch: 1, number: 0 },
            admission,
            secret_digest: Digest::of(&SECRET),
        };
        let envelope = signed(&grant, &[&self.bob]);
        put(
            &self.store,
            &self.clock,
            Registry::grant_key(&grant.id),
            to_record(&envelope),
        )
        .await;
        grant
    }

    /// What a new machine with the grant's token asks.
    pub(crate) fn enroll_request(grant: &JoinGrant, name: &str) -> v1::EnrollRequest {
        v1::EnrollRequest {
            grant_id: grant.id.to_string(),
            secret: SECRET.to_vec().into(),
            csr_der: csr::create(&csr::new_key().unwrap()).unwrap().to_vec().into(),
            name: name.to_owned(),
            boot_id: "boot-1".to_owned(),
            inventory: Some(v1::Inventory {
                hostname: name.to_owned(),
                ..v1::Inventory::default()
            }),
        }
    }

    /// A node that enrolled by a grant of its own, with the labels `role=db`.
    pub(crate) async fn enrolled(&self, name: &str) -> NodeRecord {
        let grant = self.grant(1, Admission::Automatic).await;
        let request = Self::enroll_request(&grant, name);
        self.hub.enroll(&caller(None), request).await.unwrap();
        let node = self.hub.registry.node_named(&name.parse().unwrap()).await;
        node.unwrap().unwrap().value
    }

    /// A manifest with one slice, for everybody; the slice is in the store.
    pub(crate) async fn manifest(&self, generation: Generation, previous: Option<Digest>) -> Manifest {
        let text = format!(
            "policies:\n  - select: all\n    inbound:\n      - allow: {{ tcp: [{}], from: any }}\n",
            1000 + generation.number % 1000
        );
        let policy = holdfast_policy::parse::load(&[("all.yaml".to_owned(), text)]).unwrap();
        let slices = policy.slices();
        for slice in slices {
            let audit = self.audit();
            releases::write_slice(
                &self.hub.registry,
                slice.digest(),
                &slice.to_bytes(),
                (&audit.0, &audit.1),
            )
            .await
            .unwrap();
        }
        Manifest {
            kind: Manifest::KIND.to_owned(),
            format: Manifest::FORMAT,
            trust_domain: fleet(),
            epoch: generation.epoch,
            number: generation.number,
            author: "ann".parse().unwrap(),
            created_secs: NOW,
            authority_version: self.authority.version,
            previous,
            slices: slices.iter().map(SliceRef::of).collect(),
            return_to: None,
        }
    }

    /// Publishes as the API does.
    pub(crate) async fn publish(&self, envelope: &Envelope) -> Result<Digest, ReleaseError> {
        let authority = self.hub.authority.look().await?;
        let (id, entry) = self.audit();
        let registry = &self.hub.registry;
        let release = publish(registry, &authority, envelope, NOW, (&id, &entry)).await?;
        let digest = release.digest;
        self.hub.director.publish(release);
        Ok(digest)
    }

    /// The release of this number in the epoch, signed by Ann and published; its manifest's digest.
    pub(crate) async fn released(&self, epoch: u64, number: u64, previous: Option<Digest>) -> Digest {
        let manifest = self.manifest(Generation { epoch, number }, previous).await;
        self.publish(&signed(&manifest, &[&self.ann])).await.unwrap()
    }

    /// Gives a node the labels `role=<role>`, signed by Bob, as the API does.
    pub(crate) async fn relabelled(&self, node: &NodeId, role: &str) {
        let held = self.hub.registry.node(node).await.unwrap().unwrap().value;
        let previous = node_labels::document(&self.hub.registry, &held).await.unwrap();
        let change = LabelChange {
            kind: LabelChange::KIND.to_owned(),
            format: LabelChange::FORMAT,
            trust_domain: fleet(),
            node: *node,
            version: held.labels_version + 1,
            previous: Some(previous.digest()),
            labels: labels(&[("role", role)]),
        };
        let request = v1::PublishLabelsRequest {
            document: Some((&signed(&change, &[&self.bob])).into()),
        };
        self.hub
            .publish_labels(&self.operator("bob"), request)
            .await
            .unwrap();
    }

    /// A raise from the epoch before to `new`, signed by Ann.
    pub(crate) fn raise(&self, new: u64) -> Envelope {
        let raise = EpochRaise {
            kind: EpochRaise::KIND.to_owned(),
            format: EpochRaise::FORMAT,
            trust_domain: fleet(),
            old: new - 1,
            new,
            checkpoint: None,
        };
        signed(&raise, &[&self.ann])
    }

    /// Raises the epoch as the API does.
    pub(crate) async fn raised(&self, new: u64) {
        let (id, entry) = self.audit();
        let txn = Txn::new(&id, &entry)
            .put(epoch::key(new), to_record(&self.raise(new)))
            .delete(hold::KEY);
        self.store.commit(txn).await.unwrap();
        self.hub.director.fleet_changed();
    }

    /// Holds the hub, as a restore does.
    pub(crate) async fn held(&self) {
        self.held_in(epoch::FIRST).await;
    }

    /// Holds the hub in `epoch`, as a restore does.
    pub(crate) async fn held_in(&self, epoch: u64) {
        let findings = BTreeMap::from([(Finding::Restored, "restored from a backup".to_owned())]);
        let hold = Hold::new(findings, epoch, NOW);
        let (id, entry) = self.audit();
        assert!(hold::set(&self.hub.registry, &hold, (&id, &entry)).await.unwrap());
    }
}
