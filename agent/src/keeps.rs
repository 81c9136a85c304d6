//! Keep checks around a change: who witnessed what before, who after, and what follows from it.
//!
//! Only a keep that the same witness saw pass before the change can undo it. One without a witness, or failing before, is
//! computed from the rules that are to be loaded, and reported as unwitnessed.

use holdfast_policy::lockout::{self, Lockout, NodeFacts};
use holdfast_policy::render::{DesiredState, RenderedKeep};
use holdfast_proto::v1;

/// The most keeps that a hub takes at once; those beyond stay unwitnessed.
const WITNESSED_MAX: usize = 256;

/// A release's keeps as they were found before the change.
#[derive(Debug)]
pub struct Before {
    keeps: Vec<RenderedKeep>,
    witnessed: Vec<v1::Witnessed>,
}

/// A keep that passed before the change and is not seen to pass after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which, and what its witness says.
    pub detail: String,
    /// Whether its witness looked and could not get through. One that did not look says nothing of the release: it may be
    /// busy with others, or gone.
    pub was_seen: bool,
}

/// A keep that the rules to be loaded would close, and that nobody outside can check.
#[derive(Debug, thiserror::Error)]
#[error("{0}; nobody is there to witness it, so the release is refused before anything is touched")]
pub struct ComputedClosed(Lockout);

/// The request that has `keeps` witnessed; by the same `witnesses` as before, if there were any.
fn request(keeps: &[RenderedKeep], witnesses: Vec<String>) -> v1::WitnessKeepsRequest {
    let wire = keeps.iter().take(WITNESSED_MAX).map(|keep| v1::Keep {
        tcp_port: keep.tcp.into(),
        from: keep.from.iter().map(ToString::to_string).collect(),
    });
    v1::WitnessKeepsRequest {
        keeps: wire.collect(),
        witnesses,
    }
}

/// What to ask a hub before a change to `desired`.
#[must_use]
pub fn ask_before(desired: &DesiredState) -> v1::WitnessKeepsRequest {
    request(&desired.keeps, Vec::new())
}

impl Before {
    /// The keeps of `desired` with what their witnesses saw. A short answer leaves the rest unwitnessed.
    ///
    /// # Errors
    /// [`ComputedClosed`] if a keep without a witness is closed by the rules themselves.
    pub fn new(desired: &DesiredState, mut witnessed: Vec<v1::Witnessed>) -> Result<Self, ComputedClosed> {
        witnessed.resize(desired.keeps.len(), v1::Witnessed::default());
        let before = Self {
            keeps: desired.keeps.clone(),
            witnessed,
        };
        let closed = lockout::find(desired, &NodeFacts::default());
        for (keep, witnessed) in before.keeps.iter().zip(&before.witnessed) {
            let computed = closed.iter().find(
                |lockout| matches!(lockout, Lockout::Keep { port, from, .. } if *port == keep.tcp && keep.from.contains(from)),
            );
            if let Some(lockout) = computed
                && !passed_before(witnessed)
            {
                return Err(ComputedClosed(lockout.clone()));
            }
        }
        Ok(before)
    }

    /// Whether any keep has to be asked for again after the change.
    #[must_use]
    pub fn needs_witnesses(&self) -> bool {
        self.witnessed.iter().any(passed_before)
    }

    /// What to ask a hub after the change: the same witnesses.
    #[must_use]
    pub fn ask_after(&self) -> v1::WitnessKeepsRequest {
        let witnesses = self.witnessed.iter().map(|w| {
            if passed_before(w) {
                w.witness.clone()
            } else {
                String::new()
            }
        });
        request(&self.keeps, witnesses.collect())
    }

    /// The report of all keeps, and the first that was lost: one that a witness saw closed before one that nobody looked at.
    #[must_use]
    pub fn judge(&self, after: &[v1::Witnessed]) -> (Vec<v1::KeepReport>, Option<Lost>) {
        let nothing = v1::Witnessed::default();
        let mut reports = Vec::new();
        let mut lost: Option<Lost> = None;
        for (n, (keep, before)) in self.keeps.iter().zip(&self.witnessed).enumerate() {
            let after = after.get(n).unwrap_or(&nothing);
            let from: Vec<_> = keep.from.iter().map(ToString::to_string).collect();
            let name = format!("tcp {} from {}", keep.tcp, from.join(", "));
            let (witness, after_text) = match (passed_before(before), after.passed) {
                (false, _) => (String::new(), "unwitnessed"),
                (true, true) => (before.witness.clone(), "passed"),
                (true, false) => {
                    let was_seen = !after.witness.is_empty();
                    if lost.as_ref().is_none_or(|lost| was_seen && !lost.was_seen) {
                        let detail = match was_seen {
                            true => {
                                format!("keep lost: {name}, seen by {}: {}", before.witness, after.detail)
                            }
                            false => format!(
                                "keep not seen again: {name}, which {} saw before: {}",
                                before.witness, after.detail
                            ),
                        };
                        lost = Some(Lost { detail, was_seen });
                    }
                    let after = if was_seen { "failed" } else { "unwitnessed" };
                    (before.witness.clone(), after)
                }
            };
            let before_text = match (before.witness.is_empty(), before.passed) {
                (true, _) => "unwitnessed",
                (false, true) => "passed",
                (false, false) => "failed",
            };
            reports.push(v1::KeepReport {
                keep: name,
                witness,
                before: before_text.to_owned(),
                after: after_text.to_owned(),
            });
        }
        (reports, lost)
    }
}

fn passed_before(witnessed: &v1::Witnessed) -> bool {
    !witnessed.witness.is_empty() && witnessed.passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_policy::parse::load;
    use holdfast_policy::render::{AddressSets, render};

    fn desired(inbound: &str) -> DesiredState {
        let text = format!(
            "policies:\n  - select: all\n    inbound: {inbound}\n    keep:\n      - {{ tcp: 22, from: [10.0.0.1] }}\n"
        );
        render(load(&[("p.yaml", text)]).unwrap().slices(), &AddressSets::new()).unwrap()
    }

    fn seen(witness: &str, passed: bool) -> Vec<v1::Witnessed> {
        vec![v1::Witnessed {
            witness: witness.to_owned(),
            passed,
            detail: String::new(),
        }]
    }

    const OPEN: &str = "[{ allow: { tcp: [22], from: any } }]";
    const CLOSED: &str = "[{ deny: { from: [10.0.0.1] } }, { allow: { tcp: [80], from: any } }]";

    #[test]
    fn only_what_the_same_witness_saw_before_can_be_lost() {
        let witnessed = Before::new(&desired(OPEN), seen("hub", true)).unwrap();
        assert!(
            witnessed
                .judge(&seen("hub", false))
                .1
                .is_some_and(|lost| lost.was_seen)
        );
        assert!(witnessed.judge(&seen("hub", true)).1.is_none());
        assert!(
            witnessed.judge(&[]).1.is_some_and(|lost| !lost.was_seen),
            "a hub that does not answer for a keep has not seen it"
        );
        let failed_before = Before::new(&desired(OPEN), seen("hub", false)).unwrap();
        assert!(failed_before.judge(&seen("hub", false)).1.is_none());
        assert!(!failed_before.needs_witnesses());
    }

    #[test]
    fn without_a_witness_the_rules_are_asked() {
        assert!(Before::new(&desired(CLOSED), Vec::new()).is_err());
        assert!(Before::new(&desired(CLOSED), seen("hub", false)).is_err());
        assert!(
            Before::new(&desired(CLOSED), seen("hub", true)).is_ok(),
            "the witness decides after the change"
        );
        let unwitnessed = Before::new(&desired(OPEN), Vec::new()).unwrap();
        assert_eq!(unwitnessed.judge(&[]).0[0].after, "unwitnessed");
    }
}
