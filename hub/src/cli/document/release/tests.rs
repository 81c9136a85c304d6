use super::*;
use crate::cli::testing::{NOW, Operators, fleet, manifest};
use holdfast_pki::authority::{Act, Role, TrustedAuthority};
use holdfast_pki::draft::DraftKind;
use holdfast_policy::parse;

const BEFORE: &str = "groups:
  web: { select: { role: web }, within: [10.77.0.0/24] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [web] }
  - select: { role: web }
    inbound:
      - allow: { tcp: [80], from: any }
  - select: { role: old }
    outbound_default: deny
";
const AFTER: &str = "groups:
  web: { select: { role: web }, within: [10.0.0.0/8] }
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432, 22], from: [web] }
  - select: { role: web }
    inbound:
      - allow: { tcp: [80], from: any }
  - select: all
    inbound:
      - allow: { tcp: [22], from: [10.77.0.1] }
";

fn slices(policy: &str) -> Vec<Slice> {
    parse::load(&[("p.yaml", policy)]).unwrap().slices().to_vec()
}

fn envelope(manifest: &Manifest) -> Envelope {
    Envelope::unsigned(serde_json::to_vec(manifest).unwrap())
}

struct Scene {
    authority: TrustedAuthority,
    current: Release,
}

impl Scene {
    /// Release 1.3 is current.
    fn new() -> Self {
        let operators = Operators::new(&[("ann", Role::Operator), ("max", Role::Admin)]);
        let authority = operators.authority(&[]);
        let slices = slices(BEFORE);
        let mut envelope = envelope(&manifest(3, None, &slices));
        operators.sign("ann", DraftKind::Release, &mut envelope);
        let manifest = authority.verify(&envelope, &Act::Release, NOW).unwrap();
        Self {
            authority,
            current: Release { manifest, slices },
        }
    }

    fn next(&self) -> Manifest {
        manifest(4, Some(self.current.manifest.digest()), &slices(AFTER))
    }

    fn read(&self, manifest: &Manifest) -> Result<Reading, RefuseDocument> {
        self.read_envelope(&envelope(manifest))
    }

    fn read_envelope(&self, envelope: &Envelope) -> Result<Reading, RefuseDocument> {
        let known = slices(AFTER).into_iter().chain(self.current.slices.clone());
        let known = known.map(|slice| (slice.digest(), slice)).collect();
        let ground = Ground {
            fleet: fleet(),
            authority_version: self.authority.document().version,
            epoch: 1,
            current: Some(&self.current),
        };
        read(&ground, envelope, &known)
    }
}

#[test]
fn a_release_tells_every_rule_that_comes_or_goes() {
    let scene = Scene::new();
    assert_eq!(
        scene.read(&scene.next()).unwrap().text(),
        "release 1.4 of lab.example
  made 2027-01-15T08:00:00Z, by ann as it says
  after release 1.3, verified here
  nodes may go back to the one before it for 24 h
  + nodes all:
      + firewall, inbound denied by default
      + outbound default allow
      + inbound allow tcp 22 from 10.77.0.1  (p.yaml:12)
  ~ nodes role=db:
      - inbound allow tcp 5432 from web  (p.yaml:6)
      + inbound allow tcp 5432,22 from web  (p.yaml:6)
      - group web: nodes role=web within 10.77.0.0/24
      + group web: nodes role=web within 10.0.0.0/8
  - nodes role=old:
      - firewall, inbound denied by default
      - outbound default deny
  1 slice stays as it is"
    );
}

#[test]
fn the_first_release_is_read_against_nothing() {
    let ground = Ground {
        fleet: fleet(),
        authority_version: 1,
        epoch: 1,
        current: None,
    };
    let known: BTreeMap<_, _> = slices(AFTER)
        .into_iter()
        .map(|slice| (slice.digest(), slice))
        .collect();
    let first = envelope(&manifest(1, None, &slices(AFTER)));
    let reading = read(&ground, &first, &known).unwrap();
    assert_eq!(reading.lines[1], "the first release");
    assert_eq!(
        reading
            .lines
            .iter()
            .filter(|line| line.starts_with("+ nodes"))
            .count(),
        3
    );
}

#[test]
fn the_current_release_is_told_to_be_signed_once_more() {
    let scene = Scene::new();
    let again = scene.read_envelope(scene.current.manifest.envelope()).unwrap();
    assert_eq!(
        again.lines,
        ["it is the current release: a signature is added, and nothing else changes"]
    );
}

#[test]
fn what_does_not_follow_the_verified_release_is_not_to_be_signed() {
    let scene = Scene::new();
    let good = scene.next();
    let other = Some(Digest::of(b"another release"));
    assert!(scene.read(&good).is_ok());
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut bad = good.clone();
        change(&mut bad);
        scene.read(&bad).unwrap_err()
    };
    assert!(matches!(
        refused(&|bad| bad.trust_domain = "other.example".parse().unwrap()),
        RefuseDocument::TrustDomain { .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.previous = other),
        RefuseDocument::Base { .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.previous = None),
        RefuseDocument::Base { .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.number = 5),
        RefuseDocument::Number { .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.epoch = 2),
        RefuseDocument::Number { .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.authority_version = 2),
        RefuseDocument::AuthorityVersion { newest: 1, .. }
    ));
    assert!(matches!(
        refused(&|bad| bad.return_to.as_mut().unwrap().manifest = Digest::of(b"older")),
        RefuseDocument::Return { .. }
    ));
}

#[test]
fn a_slice_that_is_not_the_listed_one_is_not_to_be_signed() {
    let scene = Scene::new();
    let refused = |change: &dyn Fn(&mut SliceRef)| {
        let mut bad = scene.next();
        change(&mut bad.slices[0]);
        scene.read(&bad).unwrap_err()
    };
    assert!(matches!(
        refused(&|listed| listed.bytes += 1),
        RefuseDocument::Slice { .. }
    ));
    assert!(matches!(
        refused(&|listed| listed.digest = Digest::of(b"unknown")),
        RefuseDocument::Slice { .. }
    ));
    let db = slices(AFTER)[1].digest();
    assert!(matches!(
        refused(&|listed| listed.digest = db),
        RefuseDocument::Slice { .. }
    ));
}

#[test]
fn a_current_release_that_was_never_verified_here_is_read_against_what_was_or_whole() {
    let scene = Scene::new();
    let known: BTreeMap<_, _> = slices(AFTER)
        .into_iter()
        .chain(scene.current.slices.clone())
        .map(|slice| (slice.digest(), slice))
        .collect();
    let ground = Ground {
        fleet: fleet(),
        authority_version: 1,
        epoch: 1,
        current: None,
    };
    let told = |manifest: &Manifest, seen| read_unknown(&ground, seen, manifest, &known);
    let new_nodes = |reading: &Reading| {
        let new = reading.lines.iter().filter(|line| line.starts_with("+ nodes"));
        new.count()
    };
    let whole = told(&scene.next(), None).unwrap();
    assert_eq!(new_nodes(&whole), 3, "nothing is taken as known");
    // Another release may have come between: it is no reason to hide what changed since.
    let later = Manifest {
        number: 6,
        ..scene.next()
    };
    for next in [scene.next(), later] {
        let against = told(&next, Some(&scene.current)).unwrap();
        assert_eq!(new_nodes(&against), 1, "{against:?}");
        assert_eq!(
            against.lines.last().unwrap(),
            "nodes may go back from it to release 1.3, verified here, for 24 h"
        );
    }
    let elsewhere = manifest(4, Some(Digest::of(b"older")), &slices(AFTER));
    let reading = told(&elsewhere, Some(&scene.current)).unwrap().lines;
    assert!(
        reading.last().unwrap().starts_with("! nodes may go back from it"),
        "{reading:?}"
    );
    for (old, number) in [(3, 3), (2, 2)] {
        let old = manifest(old, None, &slices(AFTER));
        assert!(
            matches!(
                told(&old, Some(&scene.current)),
                Err(RefuseDocument::Forgotten { .. })
            ),
            "{number}"
        );
    }
    let no_epoch = Manifest {
        epoch: 9,
        ..scene.next()
    };
    let no_authority = Manifest {
        authority_version: 9,
        ..scene.next()
    };
    for seen in [None, Some(&scene.current)] {
        assert!(matches!(
            told(&no_epoch, seen),
            Err(RefuseDocument::ReleaseEpoch { .. })
        ));
        assert!(matches!(
            told(&no_authority, seen),
            Err(RefuseDocument::AuthorityVersion { .. })
        ));
    }
}
