use super::*;
use holdfast_pki::authority::{Act, Authority, AuthorityKey, Role};
use holdfast_pki::envelope::Algorithm;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::release::ReturnTo;
use holdfast_proto::payload::Payload as _;

use crate::release::VerifiedManifest;

struct Operators {
    key: SigningKey,
    authority: TrustedAuthority,
}

const NOW: u64 = 1_800_000_000;

fn operators() -> Operators {
    let key = SigningKey::generate();
    let document = Authority {
        kind: Authority::KIND.to_owned(),
        format: 1,
        trust_domain: "lab.example".parse().unwrap(),
        version: 1,
        previous: None,
        issued_secs: NOW,
        expires_secs: NOW + 1_000_000,
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
    Operators {
        authority: TrustedAuthority::from_pin(&envelope, &pin).unwrap(),
        key,
    }
}

impl Operators {
    fn ledger(&self, least: Generation) -> Ledger {
        let grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: 1,
            trust_domain: "lab.example".parse().unwrap(),
            id: [1; 16].into(),
            uses: 1,
            not_after_secs: NOW + 10,
            labels: Labels::default(),
            name_pattern: "*".parse().unwrap(),
            within: Vec::new(),
            least_generation: least,
            admission: holdfast_pki::grant::Admission::Automatic,
            secret_digest: Digest::of(b"secret"),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&grant).unwrap());
        self.key.sign(JoinGrant::KIND, &mut envelope);
        Ledger::new(
            &self.authority,
            &self.authority.verify(&envelope, &Act::Join, NOW).unwrap(),
        )
    }

    fn release(
        &self,
        epoch: u64,
        number: u64,
        created_secs: u64,
        return_to: Option<ReturnTo>,
    ) -> VerifiedRelease {
        let manifest = Manifest {
            kind: Manifest::KIND.to_owned(),
            format: 1,
            trust_domain: "lab.example".parse().unwrap(),
            epoch,
            number,
            author: "ann".parse().unwrap(),
            created_secs,
            authority_version: 1,
            previous: None,
            slices: Vec::new(),
            return_to,
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&manifest).unwrap());
        self.key.sign(Manifest::KIND, &mut envelope);
        let verified = VerifiedManifest::verify(&envelope, &self.authority, NOW).unwrap();
        verified.complete(&Labels::default(), &[]).unwrap()
    }
}

fn judge(ledger: &Ledger, release: &VerifiedRelease) -> Result<Judgement, RefuseRelease> {
    ledger.judge(release.manifest().value(), release.manifest().digest(), true)
}

fn accept(ledger: &mut Ledger, release: &VerifiedRelease) {
    let judgement = judge(ledger, release).unwrap();
    ledger.begin(release, judgement, [9; 16].into());
    ledger.confirm();
}

#[test]
fn only_higher_numbers_are_accepted() {
    let operators = operators();
    let mut ledger = operators.ledger(Generation::default());
    let (one, two) = (
        operators.release(1, 1, NOW, None),
        operators.release(1, 2, NOW, None),
    );
    accept(&mut ledger, &two);
    assert_eq!(judge(&ledger, &two), Ok(Judgement::InForce));
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::Outdated { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(1, 3, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn two_releases_under_one_number_are_told_apart() {
    let operators = operators();
    let mut ledger = operators.ledger(Generation::default());
    accept(&mut ledger, &operators.release(1, 2, NOW, None));
    let other = operators.release(1, 2, NOW + 1, None);
    assert!(matches!(
        judge(&ledger, &other),
        Err(RefuseRelease::Equivocation { .. })
    ));
}

#[test]
fn the_floor_of_the_grant_and_the_epoch_hold() {
    let operators = operators();
    let ledger = operators.ledger(Generation { epoch: 2, number: 5 });
    assert!(matches!(
        judge(&ledger, &operators.release(2, 4, NOW, None)),
        Err(RefuseRelease::BelowFloor { .. })
    ));
    assert!(matches!(
        judge(&ledger, &operators.release(3, 1, NOW, None)),
        Err(RefuseRelease::Epoch { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(2, 5, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn a_release_that_was_undone_is_tried_again_unless_it_is_pinned_out() {
    let operators = operators();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    ledger.begin(&one, Judgement::Apply, [9; 16].into());
    ledger.undo();
    assert_eq!(
        judge(&ledger, &one),
        Ok(Judgement::Apply),
        "the hub was down: no fault of the release"
    );
    ledger.pin_out(one.manifest().digest());
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::PinnedOut { .. })
    ));
    assert_eq!(
        judge(&ledger, &operators.release(1, 2, NOW, None)),
        Ok(Judgement::Apply),
        "the way on"
    );
}

#[test]
fn a_return_is_taken_once_in_time_and_leaves_the_highest() {
    let operators = operators();
    let mut ledger = operators.ledger(Generation::default());
    let one = operators.release(1, 1, NOW, None);
    accept(&mut ledger, &one);
    let two = operators.release(
        1,
        2,
        NOW,
        Some(ReturnTo {
            manifest: one.manifest().digest(),
            within_secs: 100,
        }),
    );
    accept(&mut ledger, &two);
    assert_eq!(
        ledger.return_target.as_ref().unwrap().manifest.digest(),
        one.manifest().digest()
    );

    let mut late = ledger.clone();
    late.running_secs = 100;
    assert!(matches!(judge(&late, &one), Err(RefuseRelease::Outdated { .. })));

    assert_eq!(judge(&ledger, &one), Ok(Judgement::Return));
    accept(&mut ledger, &one);
    assert_eq!(
        ledger.highest.as_ref().unwrap().generation,
        two.manifest().value().generation()
    );
    assert!(matches!(
        judge(&ledger, &two),
        Err(RefuseRelease::PinnedOut { .. })
    ));
    assert_eq!(judge(&ledger, &one), Ok(Judgement::InForce));
    assert_eq!(
        judge(&ledger, &operators.release(1, 3, NOW, None)),
        Ok(Judgement::Apply)
    );
}

#[test]
fn another_release_than_the_named_one_is_no_return() {
    let operators = operators();
    let mut ledger = operators.ledger(Generation::default());
    let (one, two) = (
        operators.release(1, 1, NOW, None),
        operators.release(1, 2, NOW, None),
    );
    accept(&mut ledger, &two);
    let return_to = Some(ReturnTo {
        manifest: two.manifest().digest(),
        within_secs: 100,
    });
    accept(&mut ledger, &operators.release(1, 3, NOW, return_to));
    assert!(matches!(
        judge(&ledger, &one),
        Err(RefuseRelease::Outdated { .. })
    ));
}

#[test]
fn a_ledger_reads_back_as_written_and_unknown_fields_are_refused() {
    let operators = operators();
    let dir = tempfile::tempdir().unwrap();
    assert!(Ledger::load(dir.path(), &SystemFiles).unwrap().is_none());
    let mut ledger = operators.ledger(Generation::default());
    accept(&mut ledger, &operators.release(1, 1, NOW, None));
    ledger.save(dir.path(), &SystemFiles).unwrap();
    assert_eq!(Ledger::load(dir.path(), &SystemFiles).unwrap().unwrap(), ledger);
    let mut odd = serde_json::to_value(&ledger).unwrap();
    odd["more"] = 1.into();
    SystemFiles
        .write_atomic(&dir.path().join(FILE), odd.to_string().as_bytes(), 0o600)
        .unwrap();
    assert!(Ledger::load(dir.path(), &SystemFiles).is_err());

    let mut newer = serde_json::to_value(&ledger).unwrap();
    newer["format"] = 2.into();
    SystemFiles
        .write_atomic(&dir.path().join(FILE), newer.to_string().as_bytes(), 0o600)
        .unwrap();
    assert!(
        Ledger::load(dir.path(), &SystemFiles).is_err(),
        "a newer agent wrote it"
    );
}
