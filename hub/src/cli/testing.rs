//! Operators with keys, and authorities that list them, for the tests of this command line.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_pki::authority::{Act, Authority, AuthorityKey, AuthorityPin, Role, TrustedAuthority};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Algorithm, Envelope};
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::release::{Manifest, ReturnTo, SliceRef};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Name, TrustDomain};
use holdfast_proto::payload::Payload as _;

/// When the tests play.
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn fleet() -> TrustDomain {
    "lab.example".parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Release `1.number` of these slices, which allows a day to go back.
pub(super) fn manifest(number: u64, previous: Option<Digest>, slices: &[Slice]) -> Manifest {
    Manifest {
        kind: Manifest::KIND.to_owned(),
        format: Manifest::FORMAT,
        trust_domain: fleet(),
        epoch: 1,
        number,
        author: name("ann"),
        created_secs: NOW,
        authority_version: 1,
        previous,
        slices: slices.iter().map(SliceRef::of).collect(),
        return_to: previous.map(|manifest| ReturnTo {
            manifest,
            within_secs: 86_400,
        }),
    }
}

pub(super) struct Operators(BTreeMap<Name, (SigningKey, Role)>);

impl Operators {
    pub(super) fn new(operators: &[(&str, Role)]) -> Self {
        let made = operators
            .iter()
            .map(|(operator, role)| (name(operator), (SigningKey::generate(), *role)));
        Self(made.collect())
    }

    pub(super) fn key(&self, operator: &str) -> &SigningKey {
        &self.0[&name(operator)].0
    }

    pub(super) fn sign(&self, operator: &str, kind: DraftKind, envelope: &mut Envelope) {
        self.key(operator).sign(kind.as_str(), envelope);
    }

    /// Version 1, signed by all; each threshold is 1 where none is given.
    pub(super) fn authority(&self, thresholds: &[(Act, u32)]) -> TrustedAuthority {
        let listed = |(name, (key, role)): (&Name, &(SigningKey, Role))| AuthorityKey {
            id: key.key_id(),
            algorithm: Algorithm::Ed25519,
            public: key.public(),
            name: name.clone(),
            role: *role,
        };
        let mut all: BTreeMap<_, _> = Act::REQUIRED.into_iter().map(|act| (act, 1)).collect();
        all.extend(thresholds.iter().cloned());
        let document = Authority {
            kind: Authority::KIND.to_owned(),
            format: Authority::FORMAT,
            trust_domain: fleet(),
            version: 1,
            previous: None,
            issued_secs: NOW - 86_400,
            expires_secs: NOW + 100 * 86_400,
            keys: self.0.iter().map(listed).collect(),
            thresholds: all,
            revoked: BTreeSet::new(),
            node_roots: BTreeSet::from([Digest::of(b"root")]),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&document).unwrap());
        for (key, _) in self.0.values() {
            key.sign(Authority::KIND, &mut envelope);
        }
        let pin = AuthorityPin {
            version: 1,
            digest: envelope.digest(),
        };
        TrustedAuthority::from_pin(&envelope, &pin).unwrap()
    }

    /// The version after `held`, changed and not signed.
    pub(super) fn next(&self, held: &TrustedAuthority, change: impl FnOnce(&mut Authority)) -> Envelope {
        let mut next = held.document().clone();
        next.version += 1;
        next.previous = Some(held.pin().digest);
        next.issued_secs = NOW;
        change(&mut next);
        Envelope::unsigned(serde_json::to_vec(&next).unwrap())
    }
}
