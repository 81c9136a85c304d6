//! Signatures of ssh keys: OpenSSH's SSHSIG in binary (PROTOCOL.sshsig), as `ssh-keygen -Y sign` writes it between armour.
//!
//! An ssh-agent signs by it, and so a FIDO2 token can be an operator's key. Only one shape is taken: version 1, our
//! namespace, the listed key, nothing reserved, nothing behind the end. A token must have been touched: without the flag of
//! the user's presence (PROTOCOL.u2f) a signature counts for nothing. sshd has it so too; `ssh-keygen -Y verify` does not look.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::ssh_key::{Parts, SshKeyType, SshPublicKey};
use crate::ssh_wire::{Reader, put_string};

/// The namespace of all our signatures: what was signed for git or a file is none of them, nor the other way round.
pub const NAMESPACE: &str = "holdfast";

const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
/// The flag that the user was there and touched the token.
const USER_PRESENT: u8 = 0x01;

/// How the message is hashed before it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of_word(word: &[u8]) -> Option<Self> {
        [Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|hash| hash.as_str().as_bytes() == word)
    }

    /// What the key signs for `message`.
    fn signed_data(self, message: &[u8]) -> Vec<u8> {
        let hashed = match self {
            Self::Sha256 => digest(&SHA256, message),
            Self::Sha512 => digest(&SHA512, message),
        };
        let mut data = MAGIC.to_vec();
        put_string(&mut data, NAMESPACE.as_bytes());
        put_string(&mut data, b"");
        put_string(&mut data, self.as_str().as_bytes());
        put_string(&mut data, hashed.as_ref());
        data
    }
}

/// What an ssh-agent is asked to sign so that [`assemble`] makes a signature over `message`.
#[must_use]
pub fn signed_data(message: &[u8]) -> Vec<u8> {
    Hash::Sha512.signed_data(message)
}

/// An SSHSIG around `inner`, the signature of `key` over [`signed_data`] as an ssh-agent answers it.
#[must_use]
pub fn assemble(key: &SshPublicKey, inner: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    put_string(&mut bytes, key.blob());
    put_string(&mut bytes, NAMESPACE.as_bytes());
    put_string(&mut bytes, b"");
    put_string(&mut bytes, Hash::Sha512.as_str().as_bytes());
    put_string(&mut bytes, inner);
    bytes
}

/// Whether `signature` is an SSHSIG over `message` by the key in `public`, which must be of type `wanted`.
pub(crate) fn verify(wanted: SshKeyType, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    check(wanted, public, message, signature).is_some()
}

fn check(wanted: SshKeyType, public: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let key = Parts::read(public).ok().filter(|key| key.key_type == wanted)?;

    let mut outer = Reader::new(signature);
    let magic = outer.bytes(MAGIC.len())?;
    let version = outer.uint32()?;
    let embedded = outer.string()?;
    let namespace = outer.string()?;
    let reserved = outer.string()?;
    let hash = Hash::of_word(outer.string()?)?;
    let inner = outer.string()?;
    outer.end()?;
    // What is signed below is our own idea of these fields. They must say the same: one signature has one spelling.
    let ours = magic == MAGIC
        && version == VERSION
        && embedded == public
        && namespace == NAMESPACE.as_bytes()
        && reserved.is_empty();
    ours.then_some(())?;

    let data = hash.signed_data(message);
    let mut inner = Reader::new(inner);
    let key_type = inner.string()?;
    let by_key = inner.string()?;
    let signed = match key.key_type {
        SshKeyType::Ed25519 => data,
        SshKeyType::SkEd25519 => {
            let (flags, counter) = (inner.byte()?, inner.uint32()?);
            (flags & USER_PRESENT != 0).then_some(())?;
            signed_by_token(key.application, flags, counter, &data)
        }
    };
    inner.end()?;
    (key_type == wanted.as_str().as_bytes()).then_some(())?;
    UnparsedPublicKey::new(&ED25519, key.point)
        .verify(&signed, by_key)
        .ok()
}

/// What a token signs for `data`. The counter is not held against earlier ones: who verifies a document may have seen a
/// later one before it.
fn signed_by_token(application: &[u8], flags: u8, counter: u32, data: &[u8]) -> Vec<u8> {
    [
        digest(&SHA256, application).as_ref(),
        &[flags],
        &counter.to_be_bytes(),
        digest(&SHA256, data).as_ref(),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
