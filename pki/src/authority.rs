//! The authority: who may sign what for a fleet, as a chain of signed documents.
//!
//! Version 1 is trusted by its digest, which a join token or `holdfast init` gives out of band. Version N+1 is valid with
//! the signatures that N asks for and, as well, with those that it asks for itself (TUF specification, section 5.3).
//! How long somebody was away makes no difference: [`TrustedAuthority::follow`] goes through every version between.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use holdfast_proto::ids::{Digest, Name, TrustDomain};
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

use crate::draft::DraftKind;
use crate::envelope::{Algorithm, Envelope, SIGNATURES_MAX, Signature, base64_text, signed_bytes};

mod refuse;
mod trusted;

pub use self::refuse::{RefuseAuthority, RefuseEnvelope};
pub use self::trusted::{AuthorityPin, Followed, TrustedAuthority};

/// The most keys an authority may list.
pub const KEYS_MAX: usize = 64;

/// One version of the authority document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Always `authority`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet it is for.
    pub trust_domain: TrustDomain,
    /// Counts from 1, by one.
    pub version: u64,
    /// The digest of the version before; none for version 1.
    pub previous: Option<Digest>,
    /// When it was made, in Unix seconds.
    pub issued_secs: u64,
    /// Past this time its signatures admit nothing new but a newer authority. Unix seconds.
    pub expires_secs: u64,
    /// The operators' keys.
    pub keys: Vec<AuthorityKey>,
    /// How many signatures each act needs. [`Act::REQUIRED`] are all there.
    pub thresholds: BTreeMap<Act, u32>,
    /// Keys that count for nothing any more, in this version and in every later one.
    pub revoked: BTreeSet<Digest>,
    /// SHA-256 fingerprints of the node roots (DER) under which hubs and nodes have their certificates.
    pub node_roots: BTreeSet<Digest>,
}

impl Payload for Authority {
    const KIND: &'static str = "authority";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 64 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// A key that may sign, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityKey {
    /// [`key_id`] of the two fields below.
    pub id: Digest,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The public key.
    #[serde(with = "base64_text")]
    pub public: Vec<u8>,
    /// The operator.
    pub name: Name,
    /// What the operator may sign.
    pub role: Role,
}

/// What an operator may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing.
    Viewer,
    /// Nothing that counts; drafts for others to sign.
    Proposer,
    /// Releases, joins, labels, actions and the emergency stop.
    Operator,
    /// Everything, the authority and the epoch too.
    Admin,
}

impl Role {
    /// Whether a signature by this role counts for `act`.
    #[must_use]
    pub const fn may_sign(self, act: &Act) -> bool {
        match self {
            Self::Viewer | Self::Proposer => false,
            Self::Operator => !matches!(act, Act::Authority | Act::Epoch),
            Self::Admin => true,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Proposer => "proposer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Proposer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or_else(|| "viewer, proposer, operator or admin wanted".to_owned())
    }
}

/// Something that only operators' signatures can bring about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Act {
    /// Changing the authority.
    Authority,
    /// Raising the epoch.
    Epoch,
    /// Publishing a release.
    Release,
    /// Granting that nodes join.
    Join,
    /// Changing a node's labels.
    Label,
    /// Stopping everything.
    Stop,
    /// Approving an action of a kind that has no threshold of its own.
    Action,
    /// Approving an action of this kind: `action/<kind>`.
    ActionOf(Name),
}

impl Act {
    /// The acts for which every authority states a threshold.
    pub const REQUIRED: [Self; 7] = [
        Self::Authority,
        Self::Epoch,
        Self::Release,
        Self::Join,
        Self::Label,
        Self::Stop,
        Self::Action,
    ];
}

impl From<Act> for String {
    fn from(act: Act) -> Self {
        match act {
            Act::Authority => "authority".to_owned(),
            Act::Epoch => "epoch".to_owned(),
            Act::Release => "release".to_owned(),
            Act::Join => "join".to_owned(),
            Act::Label => "label".to_owned(),
            Act::Stop => "stop".to_owned(),
            Act::Action => "action".to_owned(),
            Act::ActionOf(kind) => format!("action/{kind}"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

impl FromStr for Act {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Act {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if let Some(kind) = text.strip_prefix("action/") {
            return kind
                .parse()
                .map(Self::ActionOf)
                .map_err(|error: holdfast_proto::ids::InvalidId| error.to_string());
        }
        Self::REQUIRED
            .into_iter()
            .find(|act| String::from(act.clone()) == text)
            .ok_or_else(|| {
                let got: String = text.chars().take(40).collect();
                format!("'{got}' is no act: authority, epoch, release, join, label, stop, action or action/KIND wanted")
            })
    }
}

/// The id of a public key: the digest of its algorithm's word, a NUL and the key.
#[must_use]
pub fn key_id(algorithm: Algorithm, public: &[u8]) -> Digest {
    Digest::of(&[algorithm.as_str().as_bytes(), &[0], public].concat())
}

impl Authority {
    /// Whether the document can be used at all; whoever signed it.
    fn validate(&self) -> Result<(), RefuseAuthority> {
        let refuse = |why: String| {
            Err(RefuseAuthority::Invalid {
                version: self.version,
                why,
            })
        };
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return refuse("versions count from 1, and each but the first names the one before".to_owned());
        }
        if self.keys.is_empty() || self.keys.len() > KEYS_MAX {
            return refuse(format!(
                "it lists {} keys; 1 to {KEYS_MAX} wanted",
                self.keys.len()
            ));
        }
        if self.node_roots.is_empty()
            || self.node_roots.len() > KEYS_MAX
            || self.revoked.len() > 16 * KEYS_MAX
        {
            return refuse("it names no node root, or too many roots or revoked keys".to_owned());
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for key in &self.keys {
            if key.id != key_id(key.algorithm, &key.public) {
                return refuse(format!(
                    "the key of {} does not have the id it is listed under",
                    key.name
                ));
            }
            if let Err(error) = key.algorithm.check_public(&key.public) {
                return refuse(format!("the key of {} cannot be used: {error}", key.name));
            }
            if !ids.insert(key.id) || !names.insert(&key.name) {
                return refuse(format!("the key or the name of {} is listed twice", key.name));
            }
        }
        for act in &Act::REQUIRED {
            let act_name = String::from(act.clone());
            let Some(&threshold) = self.thresholds.get(act) else {
                return refuse(format!("it states no threshold for '{act_name}'"));
            };
            let able = self.able_to_sign(act).count();
            // Stated thresholds must be reachable, or the fleet could never be changed again.
            let reachable = able.min(SIGNATURES_MAX);
            if threshold == 0 || usize::try_from(threshold).is_ok_and(|threshold| threshold > reachable) {
                return refuse(format!(
                    "'{act_name}' asks for {threshold} signatures, {able} operators can give one, \
                     and {SIGNATURES_MAX} are looked at"
                ));
            }
        }
        if self.thresholds.values().any(|&threshold| threshold == 0) {
            return refuse("a threshold is 0".to_owned());
        }
        Ok(())
    }

    /// The keys whose signatures count for `act`.
    pub fn able_to_sign<'a>(&'a self, act: &'a Act) -> impl Iterator<Item = &'a AuthorityKey> {
        self.keys
            .iter()
            .filter(|key| key.role.may_sign(act) && !self.revoked.contains(&key.id))
    }

    /// How many signatures `act` needs.
    #[must_use]
    pub fn threshold(&self, act: &Act) -> u32 {
        let general = if matches!(act, Act::ActionOf(_)) {
            &Act::Action
        } else {
            act
        };
        self.thresholds
            .get(act)
            .or_else(|| self.thresholds.get(general))
            .copied()
            .unwrap_or(u32::MAX)
    }

    /// The operators who may sign for `act` and validly signed a payload of `kind`.
    ///
    /// Each operator counts once, however many of the signatures are theirs.
    fn signers(&self, kind: &str, act: &Act, envelope: &Envelope) -> BTreeSet<Name> {
        let signed = signed_bytes(kind, &envelope.payload);
        self.able_to_sign(act)
            .filter(|key| {
                let by_it = |signature: &Signature| {
                    signature.key_id == key.id
                        && signature.algorithm == key.algorithm
                        && key.algorithm.verify(&key.public, &signed, &signature.signature)
                };
                envelope.signatures.iter().take(SIGNATURES_MAX).any(by_it)
            })
            .map(|key| key.name.clone())
            .collect()
    }

    /// Who of those that this version asks has signed a document, and how many must. For a draft on its way: only
    /// [`TrustedAuthority::verify`] and [`TrustedAuthority::advance`] decide.
    #[must_use]
    pub fn progress(&self, kind: DraftKind, envelope: &Envelope) -> Progress {
        let act = kind.act();
        Progress {
            signers: self.signers(kind.as_str(), &act, envelope),
            able: self.able_to_sign(&act).map(|key| key.name.clone()).collect(),
            needed: self.threshold(&act),
        }
    }

    /// Checks the signatures over a payload of `kind` against this version and returns who signed.
    fn check(&self, kind: &'static str, act: &Act, envelope: &Envelope) -> Result<Vec<Name>, RefuseEnvelope> {
        let signers = self.signers(kind, act, envelope);
        let needed = self.threshold(act);
        if u32::try_from(signers.len()).unwrap_or(u32::MAX) < needed {
            return Err(RefuseEnvelope::Signatures {
                kind,
                act: act.clone().into(),
                version: self.version,
                good: signers.len(),
                needed,
                offered: envelope.signatures.len(),
            });
        }
        Ok(signers.into_iter().collect())
    }
}

/// How far a draft has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The operators whose good signatures it carries and whose role counts.
    pub signers: BTreeSet<Name>,
    /// All operators whose signature counts, those who gave it included.
    pub able: BTreeSet<Name>,
    /// How many there must be.
    pub needed: u32,
}

impl Progress {
    /// Whether there are enough.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        u32::try_from(self.signers.len()).is_ok_and(|signed| signed >= self.needed)
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
