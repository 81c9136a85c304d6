//! Keys that sign as an ssh-agent's do, for tests: in software, or as a FIDO2 token would (OpenSSH PROTOCOL.u2f).
//!
//! What a token signs is put together here once more, from the protocol and not from [`crate::sshsig`]: two that make the
//! same mistake would agree. `ssh-keygen -Y verify` is asked too, in tests/tests/ssh_keys.rs.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use crate::envelope::{Envelope, Signature, signed_bytes};
use crate::ssh_key::{SshKeyType, SshPublicKey};
use crate::ssh_wire::put_string;
use crate::sshsig;

/// A token's flag that its user touched it.
pub const TOUCHED: u8 = 0x01;
/// A token's flag that its user also gave a PIN.
pub const VERIFIED: u8 = 0x04;

/// A private key as it lies behind an ssh-agent.
#[derive(Debug)]
pub struct SshKey {
    pair: Ed25519KeyPair,
    public: SshPublicKey,
    application: &'static str,
    signatures: AtomicU32,
}

impl SshKey {
    /// A key in software.
    #[must_use]
    pub fn software() -> Self {
        Self::new(SshKeyType::Ed25519, "")
    }

    /// A key on a token.
    #[must_use]
    pub fn token() -> Self {
        Self::new(SshKeyType::SkEd25519, "ssh:")
    }

    fn new(key_type: SshKeyType, application: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("the machine has randomness");
        let mut blob = Vec::new();
        put_string(&mut blob, key_type.as_str().as_bytes());
        put_string(&mut blob, pair.public_key().as_ref());
        if key_type == SshKeyType::SkEd25519 {
            put_string(&mut blob, application.as_bytes());
        }
        Self {
            pair,
            public: SshPublicKey::from_blob(&blob).expect("made like a key"),
            application,
            signatures: AtomicU32::new(0),
        }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &SshPublicKey {
        &self.public
    }

    /// What an agent answers when it is asked to sign `data`; a token raises `flags`, a key in software has none.
    #[must_use]
    pub fn answer(&self, data: &[u8], flags: u8) -> Vec<u8> {
        let mut answer = Vec::new();
        put_string(&mut answer, self.public.key_type().as_str().as_bytes());
        match self.public.key_type() {
            SshKeyType::Ed25519 => put_string(&mut answer, self.pair.sign(data).as_ref()),
            SshKeyType::SkEd25519 => {
                let counter = self.signatures.fetch_add(1, Ordering::Relaxed) + 1;
                let mut signed = digest(&SHA256, self.application.as_bytes()).as_ref().to_vec();
                signed.push(flags);
                signed.extend_from_slice(&counter.to_be_bytes());
                signed.extend_from_slice(digest(&SHA256, data).as_ref());
                put_string(&mut answer, self.pair.sign(&signed).as_ref());
                answer.push(flags);
                answer.extend_from_slice(&counter.to_be_bytes());
            }
        }
        answer
    }

    /// An SSHSIG over `message`, by a touch.
    #[must_use]
    pub fn sshsig(&self, message: &[u8]) -> Vec<u8> {
        let inner = self.answer(&sshsig::signed_data(message), TOUCHED);
        sshsig::assemble(&self.public, &inner)
    }

    /// Adds this key's signature over the envelope's payload as a document of `kind`, by a touch.
    pub fn sign(&self, kind: &str, envelope: &mut Envelope) {
        let algorithm = self.public.key_type().algorithm();
        envelope.signatures.push(Signature {
            key_id: crate::authority::key_id(algorithm, self.public.blob()),
            algorithm,
            signature: self.sshsig(&signed_bytes(kind, &envelope.payload)),
        });
    }
}
