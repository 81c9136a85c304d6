//! SPIFFE IDs: whom a certificate speaks for (SPIFFE-ID and X.509-SVID specifications).

use std::fmt;
use std::str::FromStr;

use holdfast_proto::ids::{InvalidId, Name, NodeId, TrustDomain, UniqueId};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whom a certificate of a trust domain speaks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpiffeId {
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// Who in it.
    pub identity: Identity,
}

/// Who, within a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// `/node/<id>`, under the node root.
    Node(NodeId),
    /// `/hub/<id>`, under the node root.
    Hub(UniqueId),
    /// `/operator/<name>`, under the operators' root.
    Operator(Name),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Hub(id) => write!(f, "hub/{id}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.identity)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || {
            InvalidId::new(
                "SPIFFE ID",
                text,
                "spiffe://<trust domain>/<node|hub|operator>/<id> wanted",
            )
        };
        let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let (domain, path) = rest.split_once('/').ok_or_else(invalid)?;
        let (kind, id) = path.split_once('/').ok_or_else(invalid)?;
        let identity = match kind {
            "node" => Identity::Node(id.parse()?),
            "hub" => Identity::Hub(id.parse()?),
            "operator" => Identity::Operator(id.parse()?),
            _ => return Err(invalid()),
        };
        Ok(Self {
            trust_domain: domain.parse()?,
            identity,
        })
    }
}

/// The SPIFFE ID of a certificate (DER): its only URI name, as X.509-SVID section 2 asks.
///
/// # Errors
/// [`InvalidSvid`] if it has none, several, or one that is not ours. Nothing is said about who issued it.
pub fn of_certificate(der: &[u8]) -> Result<SpiffeId, InvalidSvid> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidSvid::Malformed)?;
    if !rest.is_empty() {
        return Err(InvalidSvid::Malformed);
    }
    let mut uris =
        certificate
            .extensions()
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            });
    let names = uris.next().ok_or(InvalidSvid::Uris(0))?;
    let uris: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(uri.parse()?),
        other => Err(InvalidSvid::Uris(other.len())),
    }
}

/// Why a certificate carries no SPIFFE ID of ours.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSvid {
    /// It is no X.509 certificate.
    #[error("the certificate cannot be read")]
    Malformed,
    /// It must have exactly one URI name.
    #[error("the certificate has {0} URI names, exactly one wanted")]
    Uris(usize),
    /// Its URI is no SPIFFE ID of ours.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_read_back_as_written() {
        let node = format!("spiffe://lab.example/node/{}", "0f".repeat(32));
        for text in [node.as_str(), "spiffe://lab.example/operator/ann"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_exactly_ours_is_refused() {
        for bad in [
            "spiffe://lab.example/operator/ann/",
            "spiffe://lab.example/operator/../x",
            "spiffe://lab.example/root/ann",
            "spiffe://LAB.example/operator/ann",
            "https://lab.example/operator/ann",
            "spiffe://lab.example/operator/ann?x",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_certificate_never_panics(bytes: Vec<u8>) {
            prop_assert!(of_certificate(&bytes).is_err());
        }
    }
}
