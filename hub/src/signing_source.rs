//! Where an operator's signing key is: remembered in the context, never asked from a hub.

use holdfast_pki::ssh_key::SshPublicKey;
use serde::{Deserialize, Serialize};

/// Where an operator's signing key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SigningSource {
    /// In the context's `signing.key`.
    // Braces, or serde would pass over unknown fields beside the tag.
    File {},
    /// Behind the ssh-agent of whoever runs the command.
    SshAgent {
        /// Which of its keys.
        public: SshPublicKey,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEGWTIXTawPu5r9wFKlU9jeyilXe5hX7l9S8LDqmK8ZW";

    #[test]
    fn both_sources_are_written_as_the_formats_say() {
        let agent = SigningSource::SshAgent {
            public: KEY.parse().unwrap(),
        };
        for (source, text) in [
            (SigningSource::File {}, r#"{"kind":"file"}"#.to_owned()),
            (agent, format!(r#"{{"kind":"ssh-agent","public":"{KEY}"}}"#)),
        ] {
            assert_eq!(serde_json::to_string(&source).unwrap(), text);
            assert_eq!(serde_json::from_str::<SigningSource>(&text).unwrap(), source);
        }
    }

    #[test]
    fn unknown_fields_and_keys_that_cannot_sign_are_refused() {
        for text in [
            r#"{"kind":"file","path":"x"}"#,
            r#"{"kind":"ssh-agent"}"#,
            r#"{"kind":"ssh-agent","public":"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ=="}"#,
            r#"{"kind":"pkcs11"}"#,
        ] {
            assert!(serde_json::from_str::<SigningSource>(text).is_err(), "{text}");
        }
    }
}
