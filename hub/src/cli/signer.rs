//! An operator's signing key at work, in a sealed file or behind an ssh-agent; and how a new one comes to be.

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use holdfast_pki::authority::key_id;
use holdfast_pki::envelope::{Algorithm, Envelope, Signature, signed_bytes};
use holdfast_pki::random::Random;
use holdfast_pki::signing_key::{SigningKey, needs_passphrase};
use holdfast_pki::ssh_key::{InvalidSshKey, SshKeyType, SshPublicKey};
use holdfast_pki::sshsig;
use holdfast_proto::ids::Digest;

use super::ssh_agent::{SshAgent, SshAgentError};
use super::{Signing, output, passphrase};
use crate::operator_dir::ContextDir;
use crate::signing_source::SigningSource;

/// What signs for an operator.
#[derive(Debug)]
pub(crate) enum Signer {
    /// A key in a sealed file.
    File(SigningKey),
    /// A key behind an ssh-agent, which may be one on a token.
    SshAgent {
        /// The agent.
        agent: SshAgent,
        /// Which of its keys.
        key: SshPublicKey,
    },
}

impl Signer {
    /// Opens the signing key of a context, asking for its passphrase if it must.
    pub(super) fn open(dir: &ContextDir, signing: &Signing) -> anyhow::Result<Self> {
        match dir.context()?.signing {
            SigningSource::File {} => {
                let file = dir.signing_key_file()?;
                let place = || format!("cannot use the signing key in {}", dir.path().display());
                let passphrase = if needs_passphrase(&file).with_context(place)? {
                    Some(passphrase::ask(signing, false)?)
                } else {
                    None
                };
                let passphrase = passphrase.as_deref().map(String::as_str);
                let key = SigningKey::from_file(&file, passphrase).with_context(place)?;
                Ok(Self::File(key))
            }
            SigningSource::SshAgent { public } => Ok(Self::in_agent(public)?),
        }
    }

    /// The key `public` of the ssh-agent that the environment names.
    fn in_agent(public: SshPublicKey) -> Result<Self, SshAgentError> {
        let agent = SshAgent::from_env()?;
        // Now, before anything is asked of a hub or made on a disk for a signature that cannot come.
        agent.must_hold(&public)?;
        Ok(Self::SshAgent { agent, key: public })
    }

    /// The key's id.
    pub(crate) fn key_id(&self) -> Digest {
        key_id(self.algorithm(), &self.public())
    }

    /// How it signs.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::File(_) => Algorithm::Ed25519,
            Self::SshAgent { key, .. } => key.key_type().algorithm(),
        }
    }

    /// The public key, as an authority lists it.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::File(key) => key.public(),
            Self::SshAgent { key, .. } => key.blob().to_vec(),
        }
    }

    /// Adds this key's signature over the envelope's payload as a document of `kind`.
    ///
    /// # Errors
    /// What kept the key from signing.
    pub(crate) fn sign(&self, kind: &str, envelope: &mut Envelope) -> anyhow::Result<()> {
        match self {
            Self::File(key) => key.sign(kind, envelope),
            Self::SshAgent { agent, key } => {
                if key.key_type() == SshKeyType::SkEd25519 {
                    output::remark(&format!(
                        "touch the token that holds your key, to sign this {kind}"
                    ));
                }
                let message = signed_bytes(kind, &envelope.payload);
                let inner = agent.sign(key, &sshsig::signed_data(&message))?;
                let signature = sshsig::assemble(key, &inner);
                // Told here, by whom the reason can be found, rather than by every hub and agent.
                if !self.algorithm().verify(key.blob(), &message, &signature) {
                    bail!(SshAgentError::BadSignature { key: key.clone() });
                }
                envelope.signatures.push(Signature {
                    key_id: self.key_id(),
                    algorithm: self.algorithm(),
                    signature,
                });
            }
        }
        Ok(())
    }
}

/// Which key a new operator is to sign with.
#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// How the signing key's file is sealed
    #[arg(long, value_enum, default_value_t = Kdf::Argon2id)]
    kdf: Kdf,
    /// Sign with this key of your ssh-agent instead of a file: `ssh-ed25519 AAAA..`, or the key's .pub file
    #[arg(long, value_name = "KEY", value_parser = ssh_key, conflicts_with = "kdf")]
    ssh_key: Option<SshPublicKey>,
}

/// How a new signing key's file is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kdf {
    /// Under a passphrase
    Argon2id,
    /// Not at all: whoever reads the file can sign
    None,
}

/// A signer that no context holds yet.
#[derive(Debug)]
pub(crate) struct NewSigner {
    /// It signs already.
    pub(crate) signer: Signer,
    /// Its file, sealed; none if the key is not ours to keep.
    file: Option<Vec<u8>>,
}

impl NewKey {
    /// Makes the key, asking for a new passphrase, or finds it in the ssh-agent. Nothing is written yet.
    pub(super) fn make(&self, signing: &Signing, random: &dyn Random) -> anyhow::Result<NewSigner> {
        if let Some(public) = &self.ssh_key {
            let signer = Signer::in_agent(public.clone())?;
            return Ok(NewSigner { signer, file: None });
        }
        let passphrase = match self.kdf {
            Kdf::Argon2id => Some(passphrase::ask(signing, true)?),
            Kdf::None => None,
        };
        let passphrase = passphrase.as_deref().map(String::as_str);
        Ok(NewSigner::in_file(passphrase, random))
    }

    /// What the first operator of a fleet is to take care of.
    #[cfg(feature = "server")]
    pub(super) const fn what_to_keep(&self) -> &'static str {
        match self.ssh_key {
            None => {
                "keep a copy of the operator's directory in a safe place: without its signing key nothing can be changed"
            }
            Some(_) => {
                "without the key in your ssh-agent nothing can be changed: add a second admin before its token can be lost"
            }
        }
    }
}

impl NewSigner {
    /// A new key in a file, sealed under `passphrase`.
    pub(crate) fn in_file(passphrase: Option<&str>, random: &dyn Random) -> Self {
        let key = SigningKey::generate();
        let file = key.to_file(passphrase, random);
        Self {
            signer: Signer::File(key),
            file: Some(file),
        }
    }

    /// Writes what the context needs of it, and tells what the context must remember.
    pub(crate) fn keep(&self, dir: &ContextDir) -> anyhow::Result<SigningSource> {
        if let Some(file) = &self.file {
            dir.write_signing_key(file)?;
        }
        Ok(match &self.signer {
            Signer::File(_) => SigningSource::File {},
            Signer::SshAgent { key, .. } => SigningSource::SshAgent { public: key.clone() },
        })
    }
}

/// Reads `--ssh-key`: a public key, or the file that holds one. Its error is shown as it is, without causes.
fn ssh_key(text: &str) -> Result<SshPublicKey, String> {
    match text.parse() {
        // It may be a path then; a key of another type is none.
        Err(InvalidSshKey::Malformed) => {}
        key => return key.map_err(|error| error.to_string()),
    }
    let file = std::fs::read_to_string(text)
        .map_err(|error| format!("neither a public key nor a file that can be read: {error}"))?;
    file.parse().map_err(|error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::sshsig_testing::SshKey;

    #[test]
    fn an_ssh_key_is_given_as_text_or_as_its_pub_file() {
        let key = SshKey::software().public().clone();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id_ed25519.pub");
        std::fs::write(&file, format!("{key} ann@laptop\n")).unwrap();
        for given in [key.to_string(), file.to_str().unwrap().to_owned()] {
            assert_eq!(ssh_key(&given).unwrap(), key);
        }
    }

    #[test]
    fn a_private_keys_file_and_keys_of_other_types_are_refused_with_what_to_give() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id_ed25519");
        std::fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n").unwrap();
        let refused = ssh_key(file.to_str().unwrap()).unwrap_err();
        assert!(refused.contains("as a .pub file holds it"), "{refused}");
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ==";
        std::fs::write(&file, rsa).unwrap();
        for given in [rsa, file.to_str().unwrap()] {
            let refused = ssh_key(given).unwrap_err();
            assert!(refused.contains("keys of type 'ssh-rsa'"), "{refused}");
        }
        let refused = ssh_key("/no/such/file.pub").unwrap_err();
        assert!(refused.contains("No such file"), "{refused}");
    }
}
