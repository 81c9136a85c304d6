//! What reads bytes of strangers, fed with any bytes: the bodies of the fuzz targets in `fuzz/`, which `tests/corpus.rs`
//! runs over their seeds too.
//!
//! Each takes its input for what it reads and tells whether it was taken. It panics where more is wrong than the input:
//! something that was read does not read back, or was believed without a signature.

mod mutated;

use holdfast_pki::access::{AccessRequest, OperatorRequest};
use holdfast_pki::authority::{Authority, AuthorityPin, TrustedAuthority};
use holdfast_pki::checkpoint::Checkpoint;
use holdfast_pki::csr;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_pki::ssh_key::SshPublicKey;
use holdfast_pki::token::JoinToken;
use holdfast_policy::parse;
use holdfast_policy::release::Manifest;
use holdfast_policy::slice::Slice;
use holdfast_proto::payload::Payload;
use holdfast_proto::v1;
use prost::Message as _;
use serde::Serialize;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("envelope", envelope),
    ("document", document),
    ("authority", mutated::authority),
    ("sshsig", mutated::sshsig),
    ("token", token),
    ("csr", csr),
    ("slice", slice),
    ("policy", policy),
    ("ssh_key", ssh_key),
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or it found something.
pub fn run(name: &str, input: &[u8]) -> bool {
    let (_, body) = TARGETS
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a target of this name");
    body(input)
}

/// A signed document as it travels.
fn envelope(input: &[u8]) -> bool {
    let Ok(wire) = v1::Envelope::decode(input) else {
        return false;
    };
    let Ok(envelope) = Envelope::try_from(wire) else {
        return false;
    };
    let again = Envelope::try_from(v1::Envelope::from(&envelope)).expect("what was read can be read");
    assert_eq!(again, envelope, "over the wire");
    let json = serde_json::to_vec(&envelope).expect("texts and bytes");
    let again: Envelope = serde_json::from_slice(&json).expect("what was read can be read");
    assert_eq!(again, envelope, "as JSON");
    // Proves possession of the key in it: nothing else may be believed of it.
    let _ = OperatorRequest::verify(&envelope);
    true
}

/// A payload, read as every kind of document.
fn document(input: &[u8]) -> bool {
    let as_any = [
        reads_back::<Authority>(input),
        reads_back::<JoinGrant>(input),
        reads_back::<LabelChange>(input),
        reads_back::<EpochRaise>(input),
        reads_back::<OperatorRequest>(input),
        reads_back::<AccessRequest>(input),
        reads_back::<Checkpoint>(input),
        reads_back::<Manifest>(input),
    ];
    let kinds = as_any.into_iter().filter(|read| *read).count();
    assert!(kinds <= 1, "one document of {kinds} kinds");
    assert!(!is_trusted(input), "trusted without a signature");
    kinds == 1
}

fn reads_back<T: Payload + Serialize + PartialEq>(input: &[u8]) -> bool {
    let Ok(read) = parse_payload::<T>(input) else {
        return false;
    };
    let written = serde_json::to_vec(&read).expect("a struct of texts and numbers");
    let again: T = serde_json::from_slice(&written).expect("what was read can be read");
    assert!(again == read, "a {} that reads back as another", T::KIND);
    true
}

/// Whether a document is trusted as an authority that nobody signed.
fn is_trusted(input: &[u8]) -> bool {
    let envelope = Envelope::unsigned(input.to_vec());
    let pin = AuthorityPin {
        version: 1,
        digest: envelope.digest(),
    };
    TrustedAuthority::from_pin(&envelope, &pin).is_ok()
}

/// A join token: as its text, or as the JSON in it.
fn token(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let sealed = || mutated::token_text(input).parse();
    let Ok(token) = text.parse::<JoinToken>().or_else(|_| sealed()) else {
        return false;
    };
    let again: JoinToken = token.to_text().parse().expect("what was read can be read");
    assert_eq!(*again.to_text(), *token.to_text());
    let _ = token.claimed_grant();
    true
}

/// A certificate signing request, in DER.
fn csr(input: &[u8]) -> bool {
    csr::verify(input).is_ok_and(|csr| !csr.spki_der().is_empty())
}

/// A slice, which has one spelling.
fn slice(input: &[u8]) -> bool {
    let Ok(slice) = Slice::parse(input) else {
        return false;
    };
    assert_eq!(slice.to_bytes(), input, "two spellings of one slice");
    true
}

/// A policy of up to two files, which a NUL byte separates.
fn policy(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let files: Vec<_> = ["a.yaml", "b.yaml"]
        .into_iter()
        .zip(text.splitn(2, '\0'))
        .collect();
    match parse::load(&files) {
        Ok(policy) => {
            for slice in policy.slices() {
                let again = Slice::parse(&slice.to_bytes()).expect("a sound policy makes sound slices");
                assert_eq!(again, *slice);
            }
            true
        }
        Err(found) => {
            assert!(!found.is_empty() && found.len() <= parse::DIAGNOSTICS_MAX);
            false
        }
    }
}

/// An ssh key: as a line of text, or as it travels.
fn ssh_key(input: &[u8]) -> bool {
    let as_text = std::str::from_utf8(input).ok().and_then(|text| text.parse().ok());
    let Some(key) = as_text.or_else(|| SshPublicKey::from_blob(input).ok()) else {
        return false;
    };
    assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
    assert_eq!(SshPublicKey::from_blob(key.blob()).as_ref(), Ok(&key));
    assert_eq!(key.key_type().algorithm().check_public(key.blob()), Ok(()));
    true
}
