//! How far a document on its way is: worked out here from its signatures, never taken from a hub.

use std::collections::BTreeSet;
use std::fmt;

use holdfast_pki::authority::{Progress, TrustedAuthority};
use holdfast_pki::draft::{DraftKind, keep_good_signatures};
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Name;
use serde_json::{Value, json};

/// Who has signed a document, who still can, and whether it is enough.
#[derive(Debug)]
pub(in crate::cli) struct Standing {
    asks: Vec<Ask>,
    /// How many signatures it carries that count for nothing here.
    strange: usize,
}

/// What one version of the authority asks for.
#[derive(Debug)]
struct Ask {
    version: u64,
    progress: Progress,
}

impl Ask {
    fn signed(&self) -> u32 {
        u32::try_from(self.progress.signers.len()).unwrap_or(u32::MAX)
    }
}

impl Standing {
    /// The standing of a document by the newest authority. A next authority is asked for what it states itself, too.
    pub(in crate::cli) fn of(authority: &TrustedAuthority, kind: DraftKind, envelope: &Envelope) -> Self {
        let mut asks = vec![Ask {
            version: authority.document().version,
            progress: authority.progress(kind, envelope),
        }];
        if kind == DraftKind::Authority
            && let Ok(next) = authority.read_next(envelope)
        {
            asks.push(Ask {
                version: next.version,
                progress: next.progress(kind, envelope),
            });
        }
        let mut good = envelope.clone();
        keep_good_signatures(&mut good, kind, authority);
        Self {
            asks,
            strange: envelope.signatures.len() - good.signatures.len(),
        }
    }

    /// Whether nobody needs to sign any more.
    pub(in crate::cli) fn is_complete(&self) -> bool {
        self.asks.iter().all(|ask| ask.progress.is_complete())
    }

    /// Who has signed so that it counts.
    pub(in crate::cli) fn signers(&self) -> BTreeSet<&Name> {
        self.asks.iter().flat_map(|ask| &ask.progress.signers).collect()
    }

    /// Who can bring it further.
    pub(in crate::cli) fn can_sign(&self) -> BTreeSet<&Name> {
        let open = self.asks.iter().filter(|ask| !ask.progress.is_complete());
        open.flat_map(|ask| ask.progress.able.difference(&ask.progress.signers))
            .collect()
    }

    /// How many have signed, of how many: by the version that is furthest from what it asks for.
    pub(in crate::cli) fn count(&self) -> String {
        let left = |ask: &&Ask| ask.progress.needed.saturating_sub(ask.signed());
        let most_left = self.asks.iter().max_by_key(left);
        most_left.map_or_else(String::new, |ask| {
            format!("{} of {}", ask.signed(), ask.progress.needed)
        })
    }

    /// The standing in the shape that docs/json.md describes.
    pub(in crate::cli) fn to_json(&self) -> Value {
        let asks = self.asks.iter().map(|ask| {
            json!({
                "authority_version": ask.version,
                "signed": ask.progress.signers,
                "needed": ask.progress.needed,
            })
        });
        json!({
            "complete": self.is_complete(),
            "not_counted": self.strange,
            "asked": asks.collect::<Vec<_>>(),
            "can_sign": self.can_sign(),
        })
    }
}

/// For people: `signed by ann (1 of 2); bob, carol can sign`.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signers = names(&self.signers());
        if signers.is_empty() {
            f.write_str("signed by nobody yet")?;
        } else {
            write!(f, "signed by {signers}")?;
        }
        for ask in &self.asks {
            let (signed, needed) = (ask.signed(), ask.progress.needed);
            match self.asks.len() {
                1 => write!(f, " ({signed} of {needed})")?,
                _ => write!(f, ", {signed} of {needed} that version {} asks for", ask.version)?,
            }
        }
        if !self.is_complete() {
            write!(f, "; {} can sign", names(&self.can_sign()))?;
        }
        match self.strange {
            0 => Ok(()),
            1 => f.write_str(
                "; one signature on it does not count: by nobody who may sign today, or the document was changed after it was given",
            ),
            more => write!(
                f,
                "; {more} signatures on it do not count: by nobody who may sign today, or the document was changed after they were given"
            ),
        }
    }
}

/// Names in a row.
pub(in crate::cli) fn names(names: &BTreeSet<&Name>) -> String {
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Operators;
    use holdfast_pki::authority::{Act, Role};

    #[test]
    fn a_release_tells_who_signed_and_who_still_can() {
        let operators = Operators::new(&[
            ("ann", Role::Admin),
            ("bob", Role::Operator),
            ("eve", Role::Viewer),
        ]);
        let authority = operators.authority(&[(Act::Release, 2)]);
        let mut envelope = Envelope::unsigned(b"{}".to_vec());
        let standing = |envelope: &Envelope| Standing::of(&authority, DraftKind::Release, envelope);
        assert_eq!(
            standing(&envelope).to_string(),
            "signed by nobody yet (0 of 2); ann, bob can sign"
        );
        operators.sign("bob", DraftKind::Release, &mut envelope);
        operators.sign("eve", DraftKind::Release, &mut envelope);
        assert_eq!(
            standing(&envelope).to_string(),
            "signed by bob (1 of 2); ann can sign; one signature on it does not count: by nobody who may sign today, or \
             the document was changed after it was given",
            "eve is a viewer"
        );
        envelope.signatures.pop();
        operators.sign("ann", DraftKind::Release, &mut envelope);
        assert_eq!(standing(&envelope).to_string(), "signed by ann, bob (2 of 2)");
        envelope.payload.push(b' ');
        assert!(
            standing(&envelope)
                .to_string()
                .contains("2 signatures on it do not count"),
            "changed after they were given: {}",
            standing(&envelope)
        );
        envelope.payload.pop();
        assert!(standing(&envelope).is_complete());
    }

    #[test]
    fn a_next_authority_must_also_be_signed_as_it_asks_itself() {
        let operators = Operators::new(&[("ann", Role::Admin), ("bob", Role::Admin)]);
        let authority = operators.authority(&[]);
        let mut envelope = operators.next(&authority, |next| {
            next.thresholds.insert(Act::Authority, 2);
        });
        operators.sign("ann", DraftKind::Authority, &mut envelope);
        let standing = Standing::of(&authority, DraftKind::Authority, &envelope);
        assert!(!standing.is_complete(), "version 1 is content, version 2 is not");
        assert_eq!(standing.count(), "1 of 2");
        assert_eq!(
            standing.to_string(),
            "signed by ann, 1 of 1 that version 1 asks for, 1 of 2 that version 2 asks for; bob can sign"
        );
    }
}
