//! Operators and what they sign, and a hub, for the tests of this crate.

pub(crate) mod hub;

use std::collections::BTreeSet;

use holdfast_pki::authority::{Act, Authority, AuthorityKey, AuthorityPin, Role, TrustedAuthority};
use holdfast_pki::envelope::{Algorithm, Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::{Admission, JoinGrant};
use holdfast_pki::labels::LabelChange;
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::release::{Manifest, ReturnTo, SliceRef};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation, NodeId, TrustDomain};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use serde::Serialize;

use crate::ledger::Ledger;
use crate::release::{VerifiedManifest, VerifiedRelease};

/// When everything here was signed.
pub(crate) const NOW: u64 = 1_800_000_000;
/// For how long the authority is good from then on.
pub(crate) const GOOD_FOR_SECS: u64 = 100 * 86_400;

/// A fleet of one operator.
pub(crate) struct Operators {
    pub(crate) key: SigningKey,
    pub(crate) authority: TrustedAuthority,
}

/// The fleet.
pub(crate) fn fleet() -> TrustDomain {
    "lab.example".parse().unwrap()
}

/// The node whose ledger it is.
pub(crate) fn own() -> NodeId {
    NodeId::of_public_key(b"this node")
}

impl Operators {
    /// With version 1 of an authority.
    pub(crate) fn new() -> Self {
        let key = SigningKey::generate();
        let document = Authority {
            kind: Authority::KIND.to_owned(),
            format: 1,
            trust_domain: fleet(),
            version: 1,
            previous: None,
            issued_secs: NOW,
            expires_secs: NOW + GOOD_FOR_SECS,
            keys: vec![AuthorityKey {
                id: key.key_id(),
                algorithm: Algorithm::Ed25519,
                public: key.public(),
                name: "ann".parse().unwrap(),
                role: Role::Admin,
            }],
            thresholds: Act::REQUIRED.into_iter().map(|act| (act, 1)).collect(),
            revoked: BTreeSet::new(),
            node_roots: BTreeSet::from([Digest::of(b"root")]),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&document).unwrap());
        key.sign(Authority::KIND, &mut envelope);
        let pin = AuthorityPin {
            version: 1,
            digest: envelope.digest(),
        };
        Self {
            authority: TrustedAuthority::from_pin(&envelope, &pin).unwrap(),
            key,
        }
    }

    /// The first `count` versions of the authority, oldest first; they differ in their number alone.
    pub(crate) fn versions(&self, count: u64) -> Vec<Envelope> {
        let mut chain = vec![self.authority.envelope().clone()];
        while (chain.len() as u64) < count {
            chain.push(self.next_version(chain.last().unwrap(), |_| {}));
        }
        chain
    }

    /// The version after `before`, with `change` made to it.
    pub(crate) fn next_version(&self, before: &Envelope, change: impl FnOnce(&mut Authority)) -> Envelope {
        let mut next: Authority = parse_payload(&before.payload).unwrap();
        next.version += 1;
        next.previous = Some(before.digest());
        change(&mut next);
        self.sign(&next)
    }

    /// A document with their signature.
    pub(crate) fn sign<T: Payload + Serialize>(&self, document: &T) -> Envelope {
        let mut envelope = Envelope::unsigned(serde_json::to_vec(document).unwrap());
        self.key.sign(T::KIND, &mut envelope);
        envelope
    }

    /// The ledger of a node without labels that has just joined.
    pub(crate) fn ledger(&self, least: Generation) -> Ledger {
        let grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: 1,
            trust_domain: fleet(),
            id: [1; 16].into(),
            uses: 1,
            not_after_secs: NOW + 10,
            labels: Labels::default(),
            name_pattern: "*".parse().unwrap(),
            within: Vec::new(),
            least_generation: least,
            secret_digest: Digest::of(b"secret"),
            admission: Admission::Automatic,
        };
        let grant = self
            .authority
            .verify(&self.sign(&grant), &Act::Join, NOW)
            .unwrap();
        Ledger::new(&self.authority, &grant)
    }

    /// A release without slices.
    pub(crate) fn release(
        &self,
        epoch: u64,
        number: u64,
        created_secs: u64,
        return_to: Option<ReturnTo>,
    ) -> VerifiedRelease {
        let manifest = self.sign(&Manifest {
            created_secs,
            return_to,
            ..manifest(epoch, number)
        });
        let verified = VerifiedManifest::verify(&manifest, &self.authority, NOW).unwrap();
        verified.complete(&Labels::default(), &[]).unwrap()
    }

    /// The manifest of a release of these slices.
    pub(crate) fn manifest(&self, epoch: u64, number: u64, slices: &[Slice]) -> Envelope {
        self.sign(&Manifest {
            slices: slices.iter().map(SliceRef::of).collect(),
            ..manifest(epoch, number)
        })
    }
}

fn manifest(epoch: u64, number: u64) -> Manifest {
    Manifest {
        kind: Manifest::KIND.to_owned(),
        format: 1,
        trust_domain: fleet(),
        epoch,
        number,
        author: "ann".parse().unwrap(),
        created_secs: NOW,
        authority_version: 1,
        previous: None,
        slices: Vec::new(),
        return_to: None,
    }
}

/// A change of this node's labels to `role=db`.
pub(crate) fn label_change(version: u64, previous: Digest) -> LabelChange {
    let labels = std::collections::BTreeMap::from([("role".to_owned(), "db".to_owned())]);
    LabelChange {
        kind: LabelChange::KIND.to_owned(),
        format: 1,
        trust_domain: fleet(),
        node: own(),
        version,
        previous: Some(previous),
        labels: labels.try_into().unwrap(),
    }
}

/// A raise of this fleet's epoch.
pub(crate) fn raise(old: u64, new: u64) -> EpochRaise {
    EpochRaise {
        kind: EpochRaise::KIND.to_owned(),
        format: 1,
        trust_domain: fleet(),
        old,
        new,
        checkpoint: None,
    }
}
