//! How the keeper takes what operators sign beside releases: verified by the newest authority, judged by the ledger, on
//! disk before it counts.

use holdfast_pki::authority::{Act, RefuseEnvelope, TrustedAuthority};
use holdfast_pki::envelope::Envelope;
use holdfast_pki::epoch::EpochRaise;
use holdfast_pki::labels::LabelChange;

use super::Keeper;
use super::authority::WalkError;
use super::offer::VERIFY_TIMEOUT;
use crate::authority_chain::AskError;
use crate::change::Ended;
use crate::host::Chain;
use crate::inbox::Documents;
use crate::ledger::{LabelJudgement, Ledger, LedgerError, RaiseJudgement, RefuseLabels, RefuseRaise};

/// Why a document was not taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    /// Its signatures do not hold, or it is none.
    #[error(transparent)]
    Envelope(#[from] RefuseEnvelope),
    /// They do, and this node has no use for these labels.
    #[error(transparent)]
    Labels(#[from] RefuseLabels),
    /// They do, and it does not follow the epoch held.
    #[error(transparent)]
    Raise(#[from] RefuseRaise),
    /// It is good, and this host could not write it down.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<TakeError> for Ended {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Ledger(_) => Self::failed(&error),
            TakeError::Envelope(_) | TakeError::Labels(_) | TakeError::Raise(_) => Self::refused(&error),
        }
    }
}

impl Keeper {
    /// Takes documents from a hub, and walks to the newest authority that it has.
    pub(super) async fn take_documents(&mut self, newer: Documents) {
        let documents = match self.unsaved.take() {
            Some(unsaved) => unsaved.and(newer),
            None => newer,
        };
        if let Some(has) = documents.lacking {
            self.show(&documents.hub, has).await;
        }
        self.walk_for_documents(&documents).await;
        // A hub that withholds an authority could withhold the documents as well: they are judged by what was reached.
        let authority = match self.ledger.authority() {
            Ok(authority) => authority,
            Err(error) => return self.tell("authority", Err(Ended::failed(&error))).await,
        };
        let mut unsaved = Documents::none(documents.hub);
        for raise in documents.raises {
            // Those behind one that is not written down do not follow yet.
            if !unsaved.raises.is_empty() {
                unsaved.raises.push(raise);
                continue;
            }
            let taken = self.take_raise(&raise, &authority);
            if matches!(taken, Err(TakeError::Ledger(_))) {
                unsaved.raises.push(raise);
            }
            self.tell("epoch", taken.map_err(Ended::from)).await;
        }
        let mut told = None;
        for change in documents.labels {
            if !unsaved.labels.is_empty() {
                unsaved.labels.push(change);
                continue;
            }
            let taken = self.take_labels(&change, &authority);
            if matches!(taken, Err(TakeError::Ledger(_))) {
                unsaved.labels.push(change);
            }
            told = Some(taken);
        }
        // The last one tells how it stands: a set that was stated outright mends what stopped those before it.
        if let Some(taken) = told {
            self.tell("labels", taken.map_err(Ended::from)).await;
        }
        if !unsaved.is_empty() {
            self.unsaved = Some(unsaved);
        }
    }

    async fn walk_for_documents(&mut self, documents: &Documents) {
        let walked = tokio::time::timeout(VERIFY_TIMEOUT, self.walk_authority(&documents.hub)).await;
        match walked {
            Err(_) => tracing::warn!("the hub did not send its authority in time"),
            Ok(Err(error @ WalkError::Ask(AskError::Unanswered(_)))) => {
                tracing::warn!(error = %Chain(&error), "the newest authority is not reached");
            }
            Ok(walked) => self.tell("authority", walked.map_err(Ended::from)).await,
        }
    }

    /// Takes up documents that could not be written down.
    pub(super) async fn save_again(&mut self) {
        if let Some(unsaved) = self.unsaved.take() {
            self.take_documents(unsaved).await;
        }
    }

    /// Takes a raise of the epoch. What is in force stays; from now on only releases of the new epoch are accepted.
    fn take_raise(&mut self, document: &Envelope, authority: &TrustedAuthority) -> Result<(), TakeError> {
        let now = self.host.clock.unix_secs();
        let raise = authority.verify::<EpochRaise>(document, &Act::Epoch, now)?;
        let fleet = &authority.document().trust_domain;
        match self.ledger.judge_raise(raise.value(), raise.digest(), fleet)? {
            RaiseJudgement::Held => return Ok(()),
            RaiseJudgement::Take => self.change_ledger(|ledger| ledger.take_raise(&raise))?,
        }
        tracing::info!(epoch = raise.value().new, "epoch");
        self.publish_held();
        Ok(())
    }

    /// Takes a change of this node's labels. The hub, which hears of it, then offers the release again: other slices of it
    /// may be for this node now.
    fn take_labels(&mut self, document: &Envelope, authority: &TrustedAuthority) -> Result<(), TakeError> {
        let now = self.host.clock.unix_secs();
        let change = authority.verify::<LabelChange>(document, &Act::Label, now)?;
        let judgement = self
            .ledger
            .judge_labels(change.value(), change.digest(), &self.node_id)?;
        match judgement {
            LabelJudgement::Held => return Ok(()),
            LabelJudgement::Take => self.change_ledger(|ledger| ledger.take_labels(&change))?,
        }
        // Under other labels a release that was undone comes to something else: what is said of it is news.
        self.undone = None;
        let LabelChange { version, labels, .. } = change.value();
        tracing::info!(version, %labels, "labels");
        self.publish_held();
        Ok(())
    }

    /// Changes the ledger on disk and then here, so that nothing counts that a power cut would take back.
    pub(super) fn change_ledger(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), LedgerError> {
        let mut changed = self.ledger.clone();
        change(&mut changed);
        self.host.save(&changed)?;
        self.ledger = changed;
        Ok(())
    }

    /// Tells of a document that was not taken: once, not over each link.
    async fn tell(&mut self, document: &'static str, taken: Result<(), Ended>) {
        let Err(ended) = taken else {
            self.document_troubles.remove(document);
            return;
        };
        let told = self.document_troubles.insert(document, ended.detail.clone());
        if told.as_ref() != Some(&ended.detail) {
            let Ended { outcome, detail, .. } = &ended;
            tracing::warn!(document, outcome, detail, "not taken");
            self.report_document(document, ended).await;
        }
    }
}
