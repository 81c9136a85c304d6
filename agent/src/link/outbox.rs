//! Reports on their way to a hub: kept until one has acknowledged them, over links that break.

use std::collections::VecDeque;

use holdfast_proto::v1;

/// Reports that wait for a hub: beyond it the oldest is dropped, and the drop is logged.
const OUTBOX_MAX: usize = 64;

/// Reports that no hub has acknowledged yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<(u64, v1::Report)>,
    next_id: u64,
}

impl Outbox {
    /// Takes a report in, and gives it with the number that its acknowledgement will name.
    pub(super) fn push(&mut self, report: v1::Report) -> (u64, v1::Report) {
        if self.waiting.len() >= OUTBOX_MAX {
            let dropped = self.waiting.pop_front();
            tracing::warn!(
                outcome = dropped.map(|(_, report)| report.outcome),
                "a report was dropped: no hub took it for too long"
            );
        }
        // Odd numbers: requests of ours; a hub's own are told apart from them by direction alone.
        self.next_id += 1;
        self.waiting.push_back((self.next_id, report.clone()));
        (self.next_id, report)
    }

    /// A hub has it.
    pub(super) fn acknowledged(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    /// What is still to be acknowledged, oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &(u64, v1::Report)> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_wait_for_their_acknowledgement_and_are_bounded() {
        let mut outbox = Outbox::default();
        for n in 0..OUTBOX_MAX + 5 {
            outbox.push(v1::Report {
                detail: n.to_string(),
                ..v1::Report::default()
            });
        }
        assert_eq!(outbox.waiting.len(), OUTBOX_MAX);
        assert_eq!(outbox.waiting[0].1.detail, "5");
        let id = outbox.waiting[3].0;
        outbox.acknowledged(id);
        assert!(outbox.waiting.iter().all(|(waiting, _)| *waiting != id));
    }
}
