//! OpenSSH public keys of the two types that may sign here: Ed25519, in software or on a FIDO2 token.
//!
//! RSA and ECDSA keys are refused: one signature scheme is less to get wrong, and every ssh-agent and token of today knows
//! it. A token's key also names the application that it is bound to (OpenSSH PROTOCOL.u2f).

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::envelope::Algorithm;
use crate::ssh_wire::Reader;

/// The longest key that is read: with its application a token's key has about 80 bytes.
const BLOB_BYTES_MAX: usize = 512;

/// The types of keys that may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshKeyType {
    /// Ed25519 in software.
    Ed25519,
    /// Ed25519 on a FIDO2 token.
    SkEd25519,
}

impl SshKeyType {
    const ALL: [Self; 2] = [Self::Ed25519, Self::SkEd25519];

    /// The type's word, in keys and in signatures.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
        }
    }

    /// How such a key signs.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Ed25519 => Algorithm::SshsigEd25519,
            Self::SkEd25519 => Algorithm::SshsigSkEd25519,
        }
    }
}

impl fmt::Display for SshKeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An OpenSSH public key, whose text is `ssh-ed25519 AAAA..`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshPublicKey {
    key_type: SshKeyType,
    blob: Vec<u8>,
}

impl SshPublicKey {
    /// Reads a key as it travels (RFC 8709, section 4; PROTOCOL.u2f).
    ///
    /// # Errors
    /// [`InvalidSshKey`]: another type, or not a key at all.
    pub fn from_blob(blob: &[u8]) -> Result<Self, InvalidSshKey> {
        Ok(Self {
            key_type: Parts::read(blob)?.key_type,
            blob: blob.to_vec(),
        })
    }

    /// Its type.
    #[must_use]
    pub const fn key_type(&self) -> SshKeyType {
        self.key_type
    }

    /// The key as it travels.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

/// What a key's bytes say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) key_type: SshKeyType,
    /// The Ed25519 public key (RFC 8032).
    pub(crate) point: &'a [u8],
    /// What a token's key is bound to; empty for a software key.
    pub(crate) application: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes a blob apart, strictly.
    pub(crate) fn read(blob: &'a [u8]) -> Result<Self, InvalidSshKey> {
        if blob.len() > BLOB_BYTES_MAX {
            return Err(InvalidSshKey::Malformed);
        }
        let mut reader = Reader::new(blob);
        let word = reader.string().ok_or(InvalidSshKey::Malformed)?;
        let Some(key_type) = SshKeyType::ALL
            .into_iter()
            .find(|known| known.as_str().as_bytes() == word)
        else {
            return Err(InvalidSshKey::Type(
                String::from_utf8_lossy(word).chars().take(40).collect(),
            ));
        };
        Self::read_rest(key_type, reader).ok_or(InvalidSshKey::Malformed)
    }

    fn read_rest(key_type: SshKeyType, mut reader: Reader<'a>) -> Option<Self> {
        let point = reader.string().filter(|point| point.len() == 32)?;
        let application = match key_type {
            SshKeyType::Ed25519 => &[],
            SshKeyType::SkEd25519 => reader.string()?,
        };
        reader.end()?;
        Some(Self {
            key_type,
            point,
            application,
        })
    }
}

/// Why something is no public key for signing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSshKey {
    /// A key that we do not take.
    #[error(
        "keys of type '{0}' cannot sign here: an {ed} or {sk} key is needed",
        ed = SshKeyType::Ed25519,
        sk = SshKeyType::SkEd25519
    )]
    Type(String),
    /// Its type is told twice, differently.
    #[error("the key says '{said}' and is of type '{is}': it was put together wrongly")]
    OtherType {
        /// The word before it.
        said: String,
        /// The word in it.
        is: SshKeyType,
    },
    /// No such key.
    #[error(
        "this is no OpenSSH public key: one line like 'ssh-ed25519 AAAA..' wanted, as a .pub file holds it"
    )]
    Malformed,
}

impl FromStr for SshPublicKey {
    type Err = InvalidSshKey;
    /// Reads a line of a `.pub` file; the comment behind the key is dropped.
    fn from_str(text: &str) -> Result<Self, InvalidSshKey> {
        let mut words = text.split_ascii_whitespace();
        let (Some(said), Some(encoded)) = (words.next(), words.next()) else {
            return Err(InvalidSshKey::Malformed);
        };
        let blob = BASE64.decode(encoded).map_err(|_| InvalidSshKey::Malformed)?;
        let key = Self::from_blob(&blob)?;
        let is = key.key_type;
        if said != is.as_str() {
            return Err(InvalidSshKey::OtherType {
                said: said.chars().take(40).collect(),
                is,
            });
        }
        Ok(key)
    }
}

impl fmt::Display for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key_type, BASE64.encode(&self.blob))
    }
}

impl TryFrom<String> for SshPublicKey {
    type Error = InvalidSshKey;
    fn try_from(text: String) -> Result<Self, InvalidSshKey> {
        text.parse()
    }
}

impl From<SshPublicKey> for String {
    fn from(key: SshPublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh_wire::put_string;

    /// Made with `ssh-keygen -t ecdsa`.
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJOOhCWCoSvdCxWpfXo1UeAelWwdPxW23nmPaatdpaoppRWF28uUpIcdsCd/IxaxNxvHm49Bn5lPL6tzB3mUFcI=";
    /// The beginning of an RSA key: its type is read first.
    const RSA_BEGINNING: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ==";

    fn software_key() -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, b"ssh-ed25519");
        put_string(&mut blob, &[7; 32]);
        blob
    }

    fn token_key() -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, b"sk-ssh-ed25519@openssh.com");
        put_string(&mut blob, &[7; 32]);
        put_string(&mut blob, b"ssh:");
        blob
    }

    #[test]
    fn a_line_of_a_pub_file_is_read_and_written_without_its_comment() {
        for blob in [software_key(), token_key()] {
            let key = SshPublicKey::from_blob(&blob).unwrap();
            let line = format!("{key} ann@laptop of hers\n");
            assert_eq!(line.parse(), Ok(key));
        }
    }

    #[test]
    fn keys_of_other_types_are_refused_by_their_name() {
        for (line, name) in [(ECDSA, "ecdsa-sha2-nistp256"), (RSA_BEGINNING, "ssh-rsa")] {
            let refused = line.parse::<SshPublicKey>().unwrap_err();
            assert_eq!(refused, InvalidSshKey::Type(name.to_owned()));
            assert!(
                refused
                    .to_string()
                    .contains("ssh-ed25519 or sk-ssh-ed25519@openssh.com")
            );
        }
    }

    #[test]
    fn a_key_under_another_types_word_is_refused() {
        let line = SshPublicKey::from_blob(&token_key()).unwrap().to_string();
        let renamed = line.replacen("sk-ssh-ed25519@openssh.com", "ssh-ed25519", 1);
        assert!(matches!(
            renamed.parse::<SshPublicKey>(),
            Err(InvalidSshKey::OtherType { .. })
        ));
    }

    #[test]
    fn a_key_with_a_byte_too_few_or_too_many_is_refused_wherever_it_is() {
        for blob in [software_key(), token_key()] {
            for len in 0..blob.len() {
                assert!(SshPublicKey::from_blob(&blob[..len]).is_err(), "{len} bytes");
            }
            assert_eq!(
                SshPublicKey::from_blob(&[&blob[..], &[0]].concat()),
                Err(InvalidSshKey::Malformed)
            );
        }
        let mut short = Vec::new();
        put_string(&mut short, b"ssh-ed25519");
        put_string(&mut short, &[7; 31]);
        assert_eq!(SshPublicKey::from_blob(&short), Err(InvalidSshKey::Malformed));
    }

    #[test]
    fn an_application_without_end_is_not_read() {
        let mut blob = token_key();
        blob.truncate(blob.len() - 8);
        put_string(&mut blob, &[b'x'; BLOB_BYTES_MAX]);
        assert_eq!(SshPublicKey::from_blob(&blob), Err(InvalidSshKey::Malformed));
    }
}
