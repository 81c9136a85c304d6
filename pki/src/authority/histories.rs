//! Random histories of authorities, held against a model of a few sets: who is added, removed, revoked, given another key;
//! who signs, strangers and the revoked too; forks, gaps, repetitions and other orders. What the model accepts must be
//! accepted, and nothing else.

mod model;
mod wishes;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use self::model::{Key, Model, Operator};
use self::wishes::{Flaw, Wish, signers, wishes};
use super::*;
use crate::signing_key::SigningKey;
use crate::sshsig_testing::SshKey;

const KEYS: usize = 8;
const OPERATORS: usize = 5;

/// Keys of every algorithm.
enum AnyKey {
    File(SigningKey),
    Ssh(SshKey),
}

static RING: LazyLock<Vec<AnyKey>> = LazyLock::new(|| {
    let key = |at: Key| match at % 3 {
        0 => AnyKey::File(SigningKey::generate()),
        1 => AnyKey::Ssh(SshKey::software()),
        _ => AnyKey::Ssh(SshKey::token()),
    };
    (0..KEYS).map(key).collect()
});

impl AnyKey {
    fn listed(&self, operator: Operator, role: Role) -> AuthorityKey {
        let (algorithm, public) = match self {
            Self::File(key) => (Algorithm::Ed25519, key.public()),
            Self::Ssh(key) => (key.public().key_type().algorithm(), key.public().blob().to_vec()),
        };
        AuthorityKey {
            id: key_id(algorithm, &public),
            algorithm,
            public,
            name: name(operator),
            role,
        }
    }

    fn id(&self) -> Digest {
        self.listed(0, Role::Viewer).id
    }

    fn sign(&self, kind: &str, envelope: &mut Envelope) {
        match self {
            Self::File(key) => key.sign(kind, envelope),
            Self::Ssh(key) => key.sign(kind, envelope),
        }
    }
}

fn name(operator: Operator) -> Name {
    format!("op-{operator}").parse().unwrap()
}

/// A version that was made, and what the model says of it.
struct Made {
    model: Model,
    envelope: Envelope,
    version: u64,
    /// The place of the version that it was made on top of; none for the first.
    on: Option<usize>,
    accepted: bool,
    flaw: Flaw,
}

/// All that was made, the first version first.
struct History(Vec<Made>);

impl History {
    fn of(wishes: &[Wish]) -> Self {
        let model = Model {
            operators: [(0, (0, Role::Admin))].into(),
            threshold: 1,
            revoked: BTreeSet::new(),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&document(&model, 1, None, 0)).unwrap());
        RING[0].sign(Authority::KIND, &mut envelope);
        let mut history = Self(vec![Made {
            model,
            envelope,
            version: 1,
            on: None,
            accepted: true,
            flaw: Flaw::None,
        }]);
        for wish in wishes {
            let made = history.make(wish);
            history.0.push(made);
        }
        history
    }

    fn make(&self, wish: &Wish) -> Made {
        let accepted: Vec<usize> = self.accepted().collect();
        let on = wish
            .fork
            .map_or(accepted[accepted.len() - 1], |fork| *fork.get(&accepted));
        let before = &self.0[on];
        let mut model = before.model.clone();
        wish.edits.iter().for_each(|edit| model.edit(edit));

        let step = if let Flaw::Number(step) = wish.flaw {
            step
        } else {
            1
        };
        let version = before.version + step;
        let previous = match wish.flaw {
            Flaw::Previous => Digest::of(b"a version that nobody knows"),
            _ => before.envelope.digest(),
        };
        // No two versions have the same bytes.
        let mut document = document(&model, version, Some(previous), self.0.len());
        match wish.flaw {
            Flaw::OtherFleet => document.trust_domain = "other.example".parse().unwrap(),
            Flaw::NameTwice => {
                let stranger = AnyKey::File(SigningKey::generate());
                document.keys.push(stranger.listed(0, Role::Admin));
                document
                    .keys
                    .push(AnyKey::File(SigningKey::generate()).listed(0, Role::Admin));
            }
            _ => {}
        }
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&document).unwrap());
        let kind = if wish.flaw == Flaw::OtherKind {
            "release"
        } else {
            Authority::KIND
        };
        for &key in &wish.signers {
            RING[key].sign(kind, &mut envelope);
        }
        if wish.flaw == Flaw::ChangedAfterwards {
            document.expires_secs += 1;
            envelope.payload = serde_json::to_vec(&document).unwrap();
        }

        let signed = wish.signers.iter().copied().collect();
        let accepted = wish.flaw == Flaw::None && before.model.accepts(&model, &signed);
        Made {
            model,
            envelope,
            version,
            on: Some(on),
            accepted,
            flaw: wish.flaw,
        }
    }

    fn accepted(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, made)| made.accepted)
            .map(|(at, _)| at)
    }

    /// Somebody who has the version at `at`, by its pin.
    fn observer(&self, at: usize) -> TrustedAuthority {
        let made = &self.0[at];
        let pin = AuthorityPin {
            version: made.version,
            digest: made.envelope.digest(),
        };
        TrustedAuthority::from_pin(&made.envelope, &pin).unwrap()
    }

    /// Where somebody who has `at` is led by the versions at `places`, one after another; nowhere if one does not hold.
    fn led(&self, at: usize, places: &[usize]) -> Option<usize> {
        places.iter().try_fold(at, |at, &place| {
            let made = &self.0[place];
            if made.version <= self.0[at].version {
                return Some(at);
            }
            (made.accepted && made.on == Some(at)).then_some(place)
        })
    }

    fn envelopes(&self, places: &[usize]) -> Vec<Envelope> {
        places
            .iter()
            .map(|&place| self.0[place].envelope.clone())
            .collect()
    }

    /// The versions from the first to the one at `at`.
    fn way_to(&self, at: usize) -> Vec<usize> {
        let mut way: Vec<_> = std::iter::successors(Some(at), |&at| self.0[at].on).collect();
        way.reverse();
        way
    }

    fn longest_way(&self) -> Vec<usize> {
        let ways = self.accepted().map(|at| self.way_to(at));
        ways.max_by_key(Vec::len).expect("the first version is accepted")
    }
}

fn document(model: &Model, version: u64, previous: Option<Digest>, serial: usize) -> Authority {
    let mut thresholds: BTreeMap<_, _> = Act::REQUIRED.into_iter().map(|act| (act, 1)).collect();
    thresholds.insert(Act::Authority, u32::try_from(model.threshold).unwrap());
    Authority {
        kind: Authority::KIND.to_owned(),
        format: Authority::FORMAT,
        trust_domain: "lab.example".parse().unwrap(),
        version,
        previous,
        issued_secs: serial as u64,
        expires_secs: 1_900_000_000,
        keys: model
            .operators
            .iter()
            .map(|(&operator, &(key, role))| RING[key].listed(operator, role))
            .collect(),
        thresholds,
        revoked: model.revoked.iter().map(|&key| RING[key].id()).collect(),
        node_roots: BTreeSet::from([Digest::of(b"root")]),
    }
}

proptest! {
    #[test]
    fn a_version_is_accepted_exactly_when_the_model_says_so(wishes in wishes()) {
        let history = History::of(&wishes);
        for made in &history.0[1..] {
            let next = history.observer(made.on.unwrap()).advance(&made.envelope);
            prop_assert_eq!(
                next.is_ok(), made.accepted,
                "version {}: {:?} ({:?}, {:?})", made.version, made.model, made.flaw, next.err()
            );
        }
    }

    #[test]
    fn a_walk_over_anything_in_any_order_ends_where_the_model_says(
        wishes in wishes(),
        start in any::<Index>(),
        order in proptest::collection::vec(any::<Index>(), 0..24),
    ) {
        let history = History::of(&wishes);
        let start = *start.get(&history.accepted().collect::<Vec<_>>());
        let places: Vec<_> = order.iter().map(|place| place.index(history.0.len())).collect();
        let walked = history.observer(start).walk(&history.envelopes(&places));
        let led = history.led(start, &places).map(|at| history.0[at].envelope.digest());
        prop_assert_eq!(walked.ok().map(|authority| authority.pin().digest), led);
    }

    #[test]
    fn an_observer_away_for_any_stretch_reaches_the_same_version(
        wishes in wishes(),
        target in any::<Index>(),
        cut in any::<Index>(),
    ) {
        let history = History::of(&wishes);
        let target = *target.get(&history.accepted().collect::<Vec<_>>());
        let (way, digest) = (history.way_to(target), history.0[target].envelope.digest());
        let all = history.envelopes(&way);
        for &from in &way {
            prop_assert_eq!(history.observer(from).walk(&all).unwrap().pin().digest, digest);
        }
        let (early, late) = all.split_at(cut.index(all.len()));
        let reached = history.observer(0).walk(early).unwrap().walk(late).unwrap();
        prop_assert_eq!(reached.pin().digest, digest);
    }

    #[test]
    fn a_walk_over_a_gap_leads_nowhere(
        wishes in wishes().prop_filter("no way with room for a gap", |wishes| History::of(wishes).longest_way().len() > 2),
        gap in any::<Index>(),
    ) {
        let history = History::of(&wishes);
        let mut way = history.longest_way();
        // Neither the first, where the observer is, nor the last.
        way.remove(1 + gap.index(way.len() - 2));
        prop_assert!(history.observer(0).walk(&history.envelopes(&way)).is_err());
    }

    #[test]
    fn each_operator_counts_once_and_removed_revoked_and_strange_keys_never(
        wishes in wishes(),
        signers in signers(),
    ) {
        let history = History::of(&wishes);
        let mut envelope = Envelope::unsigned(b"{}".to_vec());
        for &key in &signers {
            RING[key].sign("release", &mut envelope);
        }
        let signed = signers.into_iter().collect();
        for at in history.accepted() {
            let authority = history.observer(at);
            let counted: BTreeSet<_> = history.0[at]
                .model
                .counted(&signed, &[Role::Admin, Role::Operator])
                .into_iter()
                .map(name)
                .collect();
            prop_assert_eq!(authority.progress(DraftKind::Release, &envelope).signers, counted);
        }
    }
}

/// The properties above would hold as well if nothing were ever accepted, or refused.
#[test]
fn the_histories_are_of_every_kind() {
    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut refused, mut forks) = (0, 0, 0);
    let mut flaws = BTreeSet::new();
    for _ in 0..200 {
        let history = History::of(&wishes().new_tree(&mut runner).unwrap().current());
        let versions: Vec<_> = history.accepted().map(|at| history.0[at].version).collect();
        accepted += versions.len();
        refused += history
            .0
            .iter()
            .filter(|made| !made.accepted && made.flaw == Flaw::None)
            .count();
        forks += usize::from(versions.iter().collect::<BTreeSet<_>>().len() < versions.len());
        flaws.extend(history.0.iter().map(|made| made.flaw));
    }
    assert!(
        accepted > 500 && refused > 200 && forks > 20 && flaws.len() == 8,
        "{accepted} accepted, {refused} refused for content or signers, {forks} forked, flaws {flaws:?}"
    );
}
