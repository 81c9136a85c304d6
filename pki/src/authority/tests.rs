use super::*;
use crate::envelope::{InvalidPayload, parse_payload};
use crate::signing_key::SigningKey;
use crate::sshsig_testing::SshKey;

const NOW: u64 = 1_800_000_000;

fn document(
    version: u64,
    previous: Option<Digest>,
    keys: &[(&SigningKey, &str, Role)],
    threshold: u32,
) -> Authority {
    Authority {
        kind: "authority".to_owned(),
        format: 1,
        trust_domain: "lab.example".parse().unwrap(),
        version,
        previous,
        issued_secs: NOW - 10,
        expires_secs: NOW + 1000,
        keys: keys
            .iter()
            .map(|(key, name, role)| AuthorityKey {
                id: key.key_id(),
                algorithm: Algorithm::Ed25519,
                public: key.public(),
                name: name.parse().unwrap(),
                role: *role,
            })
            .collect(),
        thresholds: Act::REQUIRED.into_iter().map(|act| (act, threshold)).collect(),
        revoked: BTreeSet::new(),
        node_roots: BTreeSet::from([Digest::of(b"root")]),
    }
}

fn signed(document: &Authority, keys: &[&SigningKey]) -> Envelope {
    let mut envelope = Envelope::unsigned(serde_json::to_vec(document).unwrap());
    keys.iter()
        .for_each(|key| key.sign(Authority::KIND, &mut envelope));
    envelope
}

fn pinned(envelope: &Envelope) -> Result<TrustedAuthority, RefuseAuthority> {
    TrustedAuthority::from_pin(
        envelope,
        &AuthorityPin {
            version: 1,
            digest: envelope.digest(),
        },
    )
}

#[test]
fn the_next_version_needs_the_old_keys_and_its_own() {
    let (old, new) = (SigningKey::generate(), SigningKey::generate());
    let first = pinned(&signed(
        &document(1, None, &[(&old, "ann", Role::Admin)], 1),
        &[&old],
    ))
    .unwrap();
    let next = document(2, Some(first.pin().digest), &[(&new, "bob", Role::Admin)], 1);
    assert!(
        first.advance(&signed(&next, &[&new])).is_err(),
        "the old key did not sign"
    );
    assert!(
        first.advance(&signed(&next, &[&old])).is_err(),
        "the new key did not sign"
    );
    assert_eq!(
        first
            .advance(&signed(&next, &[&old, &new]))
            .unwrap()
            .document()
            .version,
        2
    );
}

#[test]
fn one_who_was_away_walks_the_chain_and_cannot_skip() {
    let key = SigningKey::generate();
    let keys = [(&key, "ann", Role::Admin)];
    let first = pinned(&signed(&document(1, None, &keys, 1), &[&key])).unwrap();
    let second = signed(&document(2, Some(first.pin().digest), &keys, 1), &[&key]);
    let third = signed(&document(3, Some(second.digest()), &keys, 1), &[&key]);
    assert!(first.advance(&third).is_err());
    let walked = first
        .clone()
        .walk(&[first.envelope().clone(), second.clone(), third.clone()])
        .unwrap();
    assert_eq!(walked.document().version, 3);
    assert_eq!(
        walked.walk(&[second, third]).unwrap().document().version,
        3,
        "old versions are passed over"
    );
}

#[test]
fn another_digest_than_the_pinned_is_refused() {
    let key = SigningKey::generate();
    let envelope = signed(&document(1, None, &[(&key, "ann", Role::Admin)], 1), &[&key]);
    let pin = AuthorityPin {
        version: 1,
        digest: Digest::of(b"other"),
    };
    assert!(matches!(
        TrustedAuthority::from_pin(&envelope, &pin),
        Err(RefuseAuthority::Pin { .. })
    ));
}

#[test]
fn thresholds_count_operators_not_signatures() {
    let (ann, bob) = (SigningKey::generate(), SigningKey::generate());
    let document = document(
        1,
        None,
        &[(&ann, "ann", Role::Admin), (&bob, "bob", Role::Admin)],
        2,
    );
    assert!(pinned(&signed(&document, &[&ann, &ann])).is_err());
    assert!(pinned(&signed(&document, &[&ann, &bob])).is_ok());
}

#[test]
fn a_revoked_key_counts_for_nothing_and_stays_revoked() {
    let (ann, bob) = (SigningKey::generate(), SigningKey::generate());
    let keys = [(&ann, "ann", Role::Admin), (&bob, "bob", Role::Admin)];
    let first = pinned(&signed(&document(1, None, &keys, 1), &[&ann])).unwrap();
    let mut next = document(2, Some(first.pin().digest), &keys, 1);
    next.revoked.insert(bob.key_id());
    let second = first.advance(&signed(&next, &[&ann])).unwrap();
    let mut third = document(3, Some(second.pin().digest), &keys, 1);
    assert!(
        second.advance(&signed(&third, &[&ann])).is_err(),
        "a version cannot take a revocation back"
    );
    third.revoked.insert(bob.key_id());
    assert!(
        second.advance(&signed(&third, &[&bob])).is_err(),
        "the revoked key signed"
    );
    assert!(second.advance(&signed(&third, &[&ann])).is_ok());
}

#[test]
fn roles_bound_what_a_signature_is_good_for() {
    let (ann, op, viewer) = (
        SigningKey::generate(),
        SigningKey::generate(),
        SigningKey::generate(),
    );
    let document = document(
        1,
        None,
        &[
            (&ann, "ann", Role::Admin),
            (&op, "op", Role::Operator),
            (&viewer, "eve", Role::Viewer),
        ],
        1,
    );
    let authority = pinned(&signed(&document, &[&ann])).unwrap();
    assert!(
        pinned(&signed(&document, &[&op])).is_err(),
        "an operator cannot sign an authority"
    );
    // Any payload will do: signatures are checked before the bytes are read.
    let check = |key: &SigningKey| {
        let mut envelope = Envelope::unsigned(b"{}".to_vec());
        key.sign("release", &mut envelope);
        authority
            .document()
            .check("release", &Act::Release, &envelope)
            .is_ok()
    };
    assert!(check(&op) && check(&ann) && !check(&viewer));
}

#[test]
fn a_signature_for_one_kind_is_no_signature_for_another() {
    let key = SigningKey::generate();
    let document = document(1, None, &[(&key, "ann", Role::Admin)], 1);
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&document).unwrap());
    key.sign("release", &mut envelope);
    assert!(pinned(&envelope).is_err());
}

#[test]
fn expiry_is_judged_on_the_newest_version() {
    let key = SigningKey::generate();
    let keys = [(&key, "ann", Role::Admin)];
    let first = pinned(&signed(&document(1, None, &keys, 1), &[&key])).unwrap();
    let mut envelope = Envelope::unsigned(b"{}".to_vec());
    key.sign(Authority::KIND, &mut envelope);
    let late = NOW + 2000;
    let refused = first.verify::<Authority>(&envelope, &Act::Authority, late);
    assert!(matches!(refused, Err(RefuseEnvelope::Expired { .. })));
    let mut next = document(2, Some(first.pin().digest), &keys, 1);
    next.expires_secs = late + 1;
    let second = first.advance(&signed(&next, &[&key])).unwrap();
    let judged = second.verify::<Authority>(&envelope, &Act::Authority, late);
    assert!(
        matches!(judged, Err(RefuseEnvelope::Payload(_))),
        "past expiry and signatures, to the bytes"
    );
}

#[test]
fn a_draft_of_the_next_version_is_read_and_told_who_may_still_sign_it() {
    let (ann, bob) = (SigningKey::generate(), SigningKey::generate());
    let keys = [(&ann, "ann", Role::Admin), (&bob, "bob", Role::Admin)];
    let first = pinned(&signed(&document(1, None, &keys, 2), &[&ann, &bob])).unwrap();
    let draft = signed(&document(2, Some(first.pin().digest), &keys, 1), &[&bob]);
    assert!(first.advance(&draft).is_err(), "version 1 asks for two");
    let next = first.read_next(&draft).unwrap();
    assert!(next.progress(DraftKind::Authority, &draft).is_complete());
    let progress = first.progress(DraftKind::Authority, &draft);
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    assert!(!progress.is_complete());
    assert_eq!(
        (progress.signers, progress.able),
        (names(&["bob"]), names(&["ann", "bob"]))
    );
    let elsewhere = signed(&document(3, Some(first.pin().digest), &keys, 1), &[]);
    assert!(matches!(
        first.read_next(&elsewhere),
        Err(RefuseAuthority::NotNext { .. })
    ));
    let unreachable = signed(&document(2, Some(first.pin().digest), &keys, 3), &[]);
    assert!(matches!(
        first.read_next(&unreachable),
        Err(RefuseAuthority::Invalid { .. })
    ));
}

#[test]
fn an_unreachable_threshold_and_an_unknown_field_are_refused() {
    let key = SigningKey::generate();
    let keys = [(&key, "ann", Role::Admin)];
    assert!(pinned(&signed(&document(1, None, &keys, 2), &[&key])).is_err());
    let mut with_field = serde_json::to_value(document(1, None, &keys, 1)).unwrap();
    with_field["more"] = 1.into();
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&with_field).unwrap());
    key.sign(Authority::KIND, &mut envelope);
    assert!(matches!(pinned(&envelope), Err(RefuseAuthority::Payload(_))));
}

#[test]
fn one_changed_byte_is_noticed_wherever_it_is() {
    let key = SigningKey::generate();
    let good = signed(&document(1, None, &[(&key, "ann", Role::Admin)], 1), &[&key]);
    for at in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload[at] ^= 1;
        assert!(pinned(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn keys_in_an_ssh_agent_sign_beside_keys_in_files() {
    let (ann, bob, eve) = (SigningKey::generate(), SshKey::software(), SshKey::token());
    let mut document = document(1, None, &[(&ann, "ann", Role::Admin)], 3);
    document.keys.extend([listed(&bob, "bob"), listed(&eve, "eve")]);
    let mut envelope = signed(&document, &[&ann]);
    bob.sign(Authority::KIND, &mut envelope);
    assert!(pinned(&envelope).is_err(), "two of three");
    eve.sign(Authority::KIND, &mut envelope);
    assert!(pinned(&envelope).is_ok());
}

#[test]
fn a_key_that_could_never_sign_is_refused_by_its_owners_name() {
    let key = SshKey::token();
    let blob = key.public().blob();
    for (algorithm, public) in [
        (Algorithm::Ed25519, &[7; 31][..]),
        (Algorithm::Ed25519, &[7; 33]),
        (Algorithm::Ed25519, blob),
        (Algorithm::SshsigEd25519, blob),
        (Algorithm::SshsigEd25519, &[7; 32]),
        (Algorithm::SshsigSkEd25519, &blob[..blob.len() - 1]),
    ] {
        let ann = SigningKey::generate();
        let mut document = document(1, None, &[(&ann, "ann", Role::Admin)], 1);
        document.keys.push(AuthorityKey {
            id: key_id(algorithm, public),
            algorithm,
            public: public.to_vec(),
            ..listed(&key, "bob")
        });
        let refused = pinned(&signed(&document, &[&ann])).unwrap_err().to_string();
        assert!(refused.contains("the key of bob cannot be used: "), "{refused}");
    }
}

#[test]
fn a_threshold_above_the_signatures_that_are_looked_at_is_refused() {
    let keys: Vec<_> = (0..=SIGNATURES_MAX).map(|_| SigningKey::generate()).collect();
    let names: Vec<_> = (0..keys.len()).map(|n| format!("op-{n}")).collect();
    let admins: Vec<_> = keys
        .iter()
        .zip(&names)
        .map(|(key, name)| (key, name.as_str(), Role::Admin))
        .collect();
    let signers: Vec<_> = keys.iter().take(SIGNATURES_MAX).collect();
    let with = |threshold: usize| {
        let mut document = document(1, None, &admins, 1);
        document
            .thresholds
            .insert(Act::Release, threshold.try_into().unwrap());
        pinned(&signed(&document, &signers))
    };
    assert!(with(SIGNATURES_MAX).is_ok());
    assert!(matches!(
        with(SIGNATURES_MAX + 1),
        Err(RefuseAuthority::Invalid { .. })
    ));
}

/// An admin whose key lies behind an ssh-agent.
fn listed(key: &SshKey, name: &str) -> AuthorityKey {
    let algorithm = key.public().key_type().algorithm();
    let public = key.public().blob().to_vec();
    AuthorityKey {
        id: key_id(algorithm, &public),
        algorithm,
        public,
        name: name.parse().unwrap(),
        role: Role::Admin,
    }
}

#[test]
fn a_signature_that_says_another_algorithm_than_its_key_is_none() {
    let key = SigningKey::generate();
    let mut envelope = signed(&document(1, None, &[(&key, "ann", Role::Admin)], 1), &[&key]);
    assert!(pinned(&envelope).is_ok());
    envelope.signatures[0].algorithm = Algorithm::SshsigEd25519;
    assert!(pinned(&envelope).is_err());
}

#[test]
fn what_the_same_key_signed_for_another_fleet_counts_for_nothing() {
    use crate::access::AccessRequest;
    use crate::epoch::EpochRaise;

    let key = SigningKey::generate();
    let first = document(1, None, &[(&key, "ann", Role::Admin)], 1);
    let trusted = pinned(&signed(&first, &[&key])).unwrap();
    let elsewhere = |fleet: &str| {
        let raise = EpochRaise {
            kind: EpochRaise::KIND.to_owned(),
            format: 1,
            trust_domain: fleet.parse().unwrap(),
            old: 1,
            new: 2,
            checkpoint: None,
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&raise).unwrap());
        key.sign(EpochRaise::KIND, &mut envelope);
        trusted.verify::<EpochRaise>(&envelope, &Act::Epoch, NOW)
    };
    assert!(elsewhere("lab.example").is_ok());
    assert!(matches!(
        elsewhere("prod.example"),
        Err(RefuseEnvelope::TrustDomain { .. })
    ));
    let login = AccessRequest {
        kind: AccessRequest::KIND.to_owned(),
        format: 1,
        trust_domain: "prod.example".parse().unwrap(),
        operator: "ann".parse().unwrap(),
        csr: Digest::of(b"csr"),
        challenge: Vec::new(),
    };
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&login).unwrap());
    key.sign(AccessRequest::KIND, &mut envelope);
    assert!(matches!(
        trusted.verify_access(&envelope),
        Err(RefuseEnvelope::TrustDomain { .. })
    ));
}

#[test]
fn a_key_under_another_id_is_no_authority() {
    let (ann, bob) = (SigningKey::generate(), SigningKey::generate());
    let keys = [(&ann, "ann", Role::Admin), (&bob, "bob", Role::Admin)];
    let mut first = document(1, None, &keys, 1);
    first.keys[1].id = Digest::of(b"another key");
    assert!(matches!(
        pinned(&signed(&first, &[&ann])),
        Err(RefuseAuthority::Invalid { .. })
    ));
}

#[test]
fn only_so_many_signatures_are_looked_at() {
    let (ann, stranger) = (SigningKey::generate(), SigningKey::generate());
    let first = document(1, None, &[(&ann, "ann", Role::Admin)], 1);
    let mut envelope = signed(&first, &[&stranger; SIGNATURES_MAX - 1]);
    ann.sign(Authority::KIND, &mut envelope);
    assert!(pinned(&envelope).is_ok());
    envelope.signatures.insert(0, envelope.signatures[0].clone());
    assert!(pinned(&envelope).is_err(), "hers is behind the last one");
}

#[test]
fn a_document_that_is_larger_than_any_is_not_read() {
    let ann = SigningKey::generate();
    let first = document(1, None, &[(&ann, "ann", Role::Admin)], 1);
    let mut payload = serde_json::to_vec(&first).unwrap();
    payload.resize(Authority::BYTES_MAX, b' ');
    assert!(parse_payload::<Authority>(&payload).is_ok());
    payload.push(b' ');
    assert!(matches!(
        parse_payload::<Authority>(&payload),
        Err(InvalidPayload::Size { .. })
    ));
}
