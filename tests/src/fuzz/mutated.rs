//! Inputs that say what to do with something signed: no byte that a fuzzer tries by chance comes near a signature.
//!
//! Whatever is done to it without the keys, nothing else may be believed than what was signed.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use holdfast_pki::authority::{Act, Authority, AuthorityKey, AuthorityPin, Role, TrustedAuthority, key_id};
use holdfast_pki::envelope::{Algorithm, Envelope, Signature};
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::sshsig_testing::SshKey;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;

/// An input, taken as numbers until it ends.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A place among `count`; the end of the script if there is none.
    fn place(&mut self, count: usize) -> Option<usize> {
        let number = u16::from_be_bytes([self.byte()?, self.byte()?]);
        usize::from(number).checked_rem(count)
    }

    /// Changes, adds or takes away a byte somewhere.
    fn damage(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let (how, with) = (self.byte()?, self.byte()?);
        // One may stand behind the end, too.
        let at = self.place(bytes.len() + 1)?;
        match how % 4 {
            0 => bytes.insert(at, with),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..bytes.len().min(at + 1))),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with),
        }
        Some(())
    }
}

/// The three versions of a fleet's authority, and all of their keys' ids: ann alone; ann and bob, who signs by ssh; bob and
/// eve, who has a token, without ann, whose key is revoked.
struct Chain {
    versions: Vec<Envelope>,
    keys: Vec<Digest>,
}

static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let (ann, bob, eve) = (SigningKey::generate(), SshKey::software(), SshKey::token());
    let admin = |name: &str, algorithm, public: &[u8]| AuthorityKey {
        id: key_id(algorithm, public),
        algorithm,
        public: public.to_vec(),
        name: name.parse().expect("a name"),
        role: Role::Admin,
    };
    let ssh = |name, key: &SshKey| admin(name, key.public().key_type().algorithm(), key.public().blob());
    let keys = [
        admin("ann", Algorithm::Ed25519, &ann.public()),
        ssh("bob", &bob),
        ssh("eve", &eve),
    ];
    let mut versions: Vec<Envelope> = Vec::new();
    let mut add = |listed: &[AuthorityKey], threshold, revoked: BTreeSet<Digest>| {
        let authority = Authority {
            kind: Authority::KIND.to_owned(),
            format: Authority::FORMAT,
            trust_domain: "lab.example".parse().expect("a trust domain"),
            version: versions.len() as u64 + 1,
            previous: versions.last().map(Envelope::digest),
            issued_secs: 1_800_000_000,
            expires_secs: 1_900_000_000,
            keys: listed.to_vec(),
            thresholds: Act::REQUIRED.into_iter().map(|act| (act, threshold)).collect(),
            revoked,
            node_roots: BTreeSet::from([Digest::of(b"root")]),
        };
        let mut envelope = Envelope::unsigned(serde_json::to_vec(&authority).expect("texts and numbers"));
        ann.sign(Authority::KIND, &mut envelope);
        bob.sign(Authority::KIND, &mut envelope);
        eve.sign(Authority::KIND, &mut envelope);
        versions.push(envelope);
    };
    add(&keys[..1], 1, BTreeSet::new());
    add(&keys[..2], 2, BTreeSet::new());
    add(&keys[1..], 2, BTreeSet::from([keys[0].id]));
    Chain {
        versions,
        keys: keys.map(|key| key.id).to_vec(),
    }
});

/// Somebody who has the first version walks over the three, after what the script did to them.
pub(super) fn authority(input: &[u8]) -> bool {
    let mut offered = CHAIN.versions.clone();
    let mut script = Script(input);
    // 64 changes say all that can be said.
    for _ in 0..64 {
        if tamper(&mut script, &mut offered).is_none() {
            break;
        }
    }
    let [first, .., last] = &CHAIN.versions[..] else {
        return false;
    };
    let pin = AuthorityPin {
        version: 1,
        digest: first.digest(),
    };
    let held = TrustedAuthority::from_pin(first, &pin).expect("the first version is signed");
    let Ok(reached) = held.walk(&offered) else {
        return false;
    };
    let real = |version: &Envelope| version.digest() == reached.pin().digest;
    assert!(
        CHAIN.versions.iter().any(real),
        "led to a version that nobody signed"
    );
    real(last)
}

fn tamper(script: &mut Script<'_>, offered: &mut Vec<Envelope>) -> Option<()> {
    let what = script.byte()?;
    let at = script.place(offered.len())?;
    let other = script.place(offered.len())?;
    match what % 9 {
        0 => script.damage(&mut offered[at].payload)?,
        1 => {
            let signature = signature(script, &mut offered[at])?;
            script.damage(&mut signature.signature)?;
        }
        2 => signature(script, &mut offered[at])?.key_id = CHAIN.keys[script.place(CHAIN.keys.len())?],
        3 => {
            let algorithm = Algorithm::ALL[script.place(Algorithm::ALL.len())?];
            signature(script, &mut offered[at])?.algorithm = algorithm;
        }
        4 => {
            let moved = signature(script, &mut offered[at])?.clone();
            offered[other].signatures.push(moved);
        }
        5 => offered[at].signatures.clear(),
        6 => offered[at].payload = offered[other].payload.clone(),
        7 => offered.swap(at, other),
        _ => drop(offered.remove(at)),
    }
    Some(())
}

fn signature<'a>(script: &mut Script<'_>, envelope: &'a mut Envelope) -> Option<&'a mut Signature> {
    let at = script.place(envelope.signatures.len())?;
    envelope.signatures.get_mut(at)
}

const MESSAGE: &[u8] = b"a signed message";

/// Good signatures of both types of ssh keys.
static SIGNED: LazyLock<[(SshKey, Vec<u8>); 2]> = LazyLock::new(|| {
    [SshKey::software(), SshKey::token()].map(|key| {
        let signature = key.sshsig(MESSAGE);
        (key, signature)
    })
});

/// A good signature after what the script did to it, to its key and to its message; with a script that begins with a 2,
/// the rest of it is the signature.
pub(super) fn sshsig(input: &[u8]) -> bool {
    let mut script = Script(input);
    let Some(which) = script.byte() else {
        return false;
    };
    let (key, good) = &SIGNED[usize::from(which) % SIGNED.len()];
    let (mut public, mut message) = (key.public().blob().to_vec(), MESSAGE.to_vec());
    let mut signature = good.clone();
    if which == 2 {
        signature = script.0.to_vec();
    } else {
        while let Some(what) = script.byte() {
            let bytes = [&mut public, &mut message, &mut signature];
            if script.damage(bytes[usize::from(what) % 3]).is_none() {
                break;
            }
        }
    }
    let algorithm = key.public().key_type().algorithm();
    let taken = algorithm.verify(&public, &message, &signature);
    let as_signed = public == key.public().blob() && message == MESSAGE && signature == *good;
    assert_eq!(taken, as_signed, "a signature has one spelling");
    taken
}

/// The text of a join token around any bytes.
pub(super) fn token_text(json: &[u8]) -> String {
    let check = Digest::of(json);
    format!("hft1.{}", BASE64.encode([json, &check.as_bytes()[..4]].concat()))
}
