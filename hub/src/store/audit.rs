//! The audit entry that goes with every change, in the change's own transaction.
//!
//! Here it is a pending record: an append under a key of its own, so that writers never meet. Bringing the pending
//! entries into one verifiable order is the audit log's part, not the store's.

use std::fmt;
use std::time::UNIX_EPOCH;

use holdfast_pki::clock::Clock;
use holdfast_pki::random::Random;
use holdfast_proto::ids::{Digest, UniqueId};
use serde::{Deserialize, Serialize};

use super::key::Key;

/// Where the entries wait. The rest of the key is the [`AuditId`].
pub const PENDING: &str = "audit/pending/";

/// The format number of the stored entry.
const FORMAT: u32 = 1;

/// Who did what, on what, from where, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// When, in Unix seconds.
    pub at_secs: u64,
    /// The SPIFFE ID of the caller, or what else it proved to be (`token <grant id>`).
    pub who: String,
    /// The act, as a verb and a noun (`enroll node`).
    pub what: String,
    /// The thing it was done to (`node/<id>`).
    pub on: String,
    /// The address that it came from.
    pub from: String,
    /// The digest of what was handed in, where something was (a manifest, a CSR).
    pub digest: Option<Digest>,
    /// How it ended.
    pub outcome: Outcome,
    /// What ties the entry to the request's log lines.
    pub correlation_id: UniqueId,
}

/// How an audited act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done: the changes are in the same transaction.
    Done,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not succeed.
    Failed,
}

/// An entry as stored, its format first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<E> {
    format: u32,
    entry: E,
}

/// Why a stored entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEntry {
    /// It is none.
    #[error("the record is no audit entry")]
    Json(#[from] serde_json::Error),
    /// Another version of Holdfast wrote it.
    #[error("the audit entry has format {0}, this version reads {FORMAT}; upgrade the hub")]
    Format(u32),
}

impl AuditEntry {
    /// The entry as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            format: FORMAT,
            entry: self,
        };
        serde_json::to_vec(&stored).expect("strings and numbers under fixed names are always JSON")
    }

    /// Reads what [`AuditEntry::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`UnreadableEntry`] if it is of another format or none at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableEntry> {
        let stored: Stored<serde_json::Value> = serde_json::from_slice(bytes)?;
        match stored.format {
            FORMAT => Ok(serde_json::from_value(stored.entry)?),
            other => Err(UnreadableEntry::Format(other)),
        }
    }
}

/// The name of an entry. Names sort by time, to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditId(String);

impl AuditId {
    /// A name for an entry made now: 20 digits of Unix milliseconds, then 16 random hex digits.
    #[must_use]
    pub fn new(clock: &dyn Clock, random: &dyn Random) -> Self {
        let millis = clock
            .now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let mut chance = [0; 8];
        random.fill(&mut chance);
        Self(format!("{millis:020}-{:016x}", u64::from_be_bytes(chance)))
    }

    /// Where the entry waits.
    #[must_use]
    pub fn pending_key(&self) -> Key {
        format!("{PENDING}{self}").into()
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::clock::TestClock;
    use holdfast_pki::random::SeededRandom;
    use std::time::Duration;

    fn entry() -> AuditEntry {
        AuditEntry {
            at_secs: 1_700_000_000,
            who: "spiffe://lab.example/operator/admin".to_owned(),
            what: "remove node".to_owned(),
            on: "node/0123".to_owned(),
            from: "10.77.0.9".to_owned(),
            digest: None,
            outcome: Outcome::Done,
            correlation_id: [7; 16].into(),
        }
    }

    #[test]
    fn an_entry_reads_back_as_written() {
        let bytes = entry().to_bytes();
        assert!(bytes.starts_with(br#"{"format":1,"entry":{"at_secs":1700000000,"#));
        assert_eq!(AuditEntry::from_bytes(&bytes).unwrap(), entry());
    }

    #[test]
    fn an_entry_of_another_format_is_refused_by_number() {
        let newer = br#"{"format":2,"entry":{"unheard":"of"}}"#;
        let error = AuditEntry::from_bytes(newer).unwrap_err();
        assert!(matches!(error, UnreadableEntry::Format(2)), "{error}");
    }

    #[test]
    fn ids_sort_by_time() {
        let (clock, random) = (TestClock::at(9_999_999_999), SeededRandom::new(1));
        let first = AuditId::new(&clock, &random);
        clock.advance(Duration::from_millis(1));
        let second = AuditId::new(&clock, &random);
        assert!(first < second, "{first} {second}");
        assert_eq!(first.to_string().len(), 20 + 1 + 16);
        assert!(first.pending_key().to_string().starts_with(PENDING));
    }
}
