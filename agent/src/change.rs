//! A release becomes what is in force, as a confirmed commit: nothing stays that was not confirmed.
//!
//! ledger -> capture -> arm -> apply -> observe again -> confirm over a fresh connection and witnessed keeps -> disarm;
//! else undo. The guard undoes it even if this process ends anywhere on that way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::clock::Clock;
use holdfast_pki::files::Files;
use holdfast_pki::random::Random;
use holdfast_proto::ids::{NodeId, UniqueId};
use holdfast_proto::v1;
use holdfast_proto::v1::node_link_client::NodeLinkClient;
use tonic::transport::Channel;

use crate::ceiling::Permitted;
use crate::dial::Dialer;
use crate::firewall::resource::{FirewallTable, Plan};
use crate::guard::commit::{self, Armed, ConfirmError};
use crate::guard::launch::HostLauncher;
use crate::host::Chain;
use crate::keeps::{self, Before};
use crate::ledger::{Judgement, Ledger};
use crate::reconcile::{Outcome, Resource as _, Steps as _, converge};
use crate::release::VerifiedRelease;

/// How long one try to confirm may take: a dial (8 s at most) is cut short by the deadline anyway.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(300);
/// How long to look for the hub after an undo, to tell a cut that we made from a hub that was down.
const HUB_LOOK: Duration = Duration::from_secs(10);
/// How long witnesses may take: each connect has three seconds, and they look side by side.
const WITNESS_TIMEOUT: Duration = Duration::from_secs(8);

/// What a change works with.
#[derive(Debug)]
pub struct Host {
    /// Where this node's state is.
    pub state_dir: std::path::PathBuf,
    /// Disk.
    pub files: Arc<dyn Files>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// How guards are started.
    pub launcher: HostLauncher,
    /// How long a change may stay unconfirmed.
    pub guard_time: Duration,
}

/// The hub that offered the release.
#[derive(Debug, Clone)]
pub struct Offering {
    /// A client on the link's own connection.
    pub client: NodeLinkClient<Channel>,
    /// That connection, for other services.
    pub channel: Channel,
    /// The run of the hub that is at its other end.
    pub instance: String,
    /// Whether that hub is on this very machine, where nothing proves the network.
    pub on_this_machine: bool,
}

/// How a change ended, for the report.
#[derive(Debug)]
pub struct Ended {
    /// confirmed, undone, refused or failed.
    pub outcome: &'static str,
    /// Why, for people.
    pub detail: String,
    /// What became of the keeps.
    pub keeps: Vec<v1::KeepReport>,
}

impl Ended {
    /// An ending without keeps.
    pub fn new(outcome: &'static str, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
            keeps: Vec::new(),
        }
    }

    /// A release that was not taken; nothing was changed.
    pub fn refused(error: &dyn std::error::Error) -> Self {
        Self::new("refused", Chain(error).to_string())
    }

    /// Something on this host failed; what was there before is in force.
    pub fn failed(error: &dyn std::error::Error) -> Self {
        Self::new("failed", Chain(error).to_string())
    }
}

/// A release that is to be made what is in force.
#[derive(Debug)]
pub struct Change<'a> {
    /// The release.
    pub release: &'a VerifiedRelease,
    /// What it comes to on this node, and root allows.
    pub desired: Permitted,
    /// Whether it is a new one or a return.
    pub judgement: Judgement,
    /// This node.
    pub node_id: NodeId,
}

impl Host {
    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Saves the ledger.
    ///
    /// # Errors
    /// [`crate::ledger::LedgerError::Io`].
    pub fn save(&self, ledger: &Ledger) -> Result<(), crate::ledger::LedgerError> {
        ledger.save(self.state_dir(), &*self.files)
    }

    /// Makes `change` what is in force, or leaves everything as it was.
    pub async fn make(
        &self,
        change: &Change<'_>,
        ledger: &mut Ledger,
        firewall: &mut FirewallTable,
        dialer: &Dialer,
        mut hub: Offering,
    ) -> Ended {
        if hub.on_this_machine {
            return Ended::new(
                "refused",
                "the hub is on this very machine: nobody outside could confirm the change",
            );
        }
        let before = match self.keeps_before(change, &mut hub).await {
            Ok(before) => before,
            Err(error) => return Ended::refused(&error),
        };
        let commit_id = self.random.unique_id();
        let untouched = ledger.clone();
        ledger.begin(change.release, change.judgement, commit_id);
        if let Err(error) = self.save(ledger) {
            *ledger = untouched;
            return Ended::failed(&error);
        }
        let plan = match firewall.observe().await {
            Ok(observed) => FirewallTable::diff(&change.desired.state().firewall, &observed),
            Err(error) => return self.settle(ledger, Ended::failed(&error)),
        };
        if plan.is_empty() {
            return self.keep_as_it_is(ledger);
        }
        let armed = match self.arm(firewall, &plan, commit_id).await {
            Ok(armed) => armed,
            Err(ended) => return self.settle(ledger, ended),
        };
        let applied = converge(firewall, &change.desired.state().firewall).await;
        let failure = match applied {
            Ok(Outcome::InSync | Outcome::Repaired(_)) => None,
            Ok(Outcome::StillDrifted { left, .. }) => {
                Some(format!("the host does not hold what was loaded: {left}"))
            }
            Err(error) => Some(Chain(&error).to_string()),
        };
        if let Some(failure) = failure {
            return self.undo(armed, ledger, Ended::new("failed", failure)).await;
        }
        match self.confirm(change, dialer, &before).await {
            Ok(keeps) => self.keep(armed, ledger, keeps),
            Err(Unconfirmed { why, is_unseen }) => {
                let ended = self.undo(armed, ledger, why).await;
                if is_unseen {
                    return may_be_tried_again(ended, "its witness did not look");
                }
                self.pin_out_if_hub_was_up(change, ledger, dialer, &hub.instance, ended)
                    .await
            }
        }
    }

    /// Has the keeps witnessed before anything is touched.
    async fn keeps_before(
        &self,
        change: &Change<'_>,
        hub: &mut Offering,
    ) -> Result<Before, keeps::ComputedClosed> {
        let mut witnessed = Vec::new();
        if !change.desired.state().keeps.is_empty() {
            let asked = hub
                .client
                .witness_keeps(keeps::ask_before(change.desired.state()));
            match tokio::time::timeout(WITNESS_TIMEOUT, asked).await {
                Ok(Ok(reply)) => witnessed = reply.into_inner().results,
                Ok(Err(status)) => tracing::warn!(reason = status.message(), "keeps cannot be witnessed"),
                Err(_) => tracing::warn!("the witnesses of the keeps did not answer in time"),
            }
        }
        Before::new(change.desired.state(), witnessed)
    }

    /// Nothing on this host is touched, so there is nothing that could cut it off.
    fn keep_as_it_is(&self, ledger: &mut Ledger) -> Ended {
        let pending = ledger.clone();
        ledger.confirm();
        match self.save(ledger) {
            Ok(()) => Ended::new("confirmed", "nothing to change here"),
            Err(error) => {
                *ledger = pending;
                self.settle(ledger, Ended::failed(&error))
            }
        }
    }

    async fn arm(
        &self,
        firewall: &mut FirewallTable,
        plan: &Plan,
        commit_id: UniqueId,
    ) -> Result<Armed, Ended> {
        let snapshot = firewall
            .capture(plan)
            .await
            .map_err(|error| Ended::failed(&error))?;
        commit::arm(
            &self.files,
            &*self.clock,
            &self.launcher,
            self.state_dir(),
            commit_id,
            self.guard_time,
            vec![snapshot],
        )
        .await
        .map_err(|error| Ended::failed(&error))
    }

    /// Tries until the hub has answered over a fresh connection and every witnessed keep has passed, or time is short.
    async fn confirm(
        &self,
        change: &Change<'_>,
        dialer: &Dialer,
        before: &Before,
    ) -> Result<Vec<v1::KeepReport>, Unconfirmed> {
        // The rest is left for the undo, which should be ours and not the guard's.
        let until = self.clock.since_boot() + self.guard_time.mul_f64(0.8);
        let mut last = Unconfirmed::new("the hub did not answer over a fresh connection in time");
        while let Some(left) = until
            .checked_sub(self.clock.since_boot())
            .filter(|left| !left.is_zero())
        {
            let asked = self.confirm_once(change, dialer, before);
            match tokio::time::timeout(left.min(TRY_TIMEOUT + WITNESS_TIMEOUT), asked).await {
                Ok(Ok(keeps)) => return Ok(keeps),
                Ok(Err(why)) => last = why,
                // Cut short by the deadline: what an earlier try found says more.
                Err(_) => {}
            }
            tokio::time::sleep(TRY_PAUSE).await;
        }
        Err(last)
    }

    async fn confirm_once(
        &self,
        change: &Change<'_>,
        dialer: &Dialer,
        before: &Before,
    ) -> Result<Vec<v1::KeepReport>, Unconfirmed> {
        let connection = self
            .answered(change, dialer)
            .await
            .map_err(|why| Unconfirmed::new(why.detail))?;
        let mut after = Vec::new();
        if before.needs_witnesses() {
            let mut client = NodeLinkClient::new(connection);
            let asked = tokio::time::timeout(WITNESS_TIMEOUT, client.witness_keeps(before.ask_after())).await;
            let reply =
                asked.map_err(|_| Unconfirmed::unseen("the witnesses of the keeps did not answer"))?;
            after = reply
                .map_err(|status| Unconfirmed::unseen(format!("keeps not witnessed: {}", status.message())))?
                .into_inner()
                .results;
        }
        let (keeps, lost) = before.judge(&after);
        match lost {
            None => Ok(keeps),
            Some(lost) => Err(Unconfirmed {
                why: Ended {
                    outcome: "undone",
                    detail: lost.detail,
                    keeps,
                },
                is_unseen: !lost.was_seen,
            }),
        }
    }

    /// Has a hub answer for this very change over a fresh connection.
    async fn answered(&self, change: &Change<'_>, dialer: &Dialer) -> Result<Channel, Unanswered> {
        let dialled = tokio::time::timeout(TRY_TIMEOUT, dialer.dial(0)).await;
        let connection = dialled
            .map_err(|_| Unanswered::new("no fresh connection to the hub came about"))?
            .map_err(|error| Unanswered::new(format!("no fresh connection to the hub: {}", Chain(&error))))?;
        if connection.stays_on_this_machine() {
            return Err(Unanswered::new(
                "the hub is on this very machine, so that its answer proves nothing about the network",
            ));
        }
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce);
        let manifest = change.release.manifest();
        let request = v1::ConfirmRequest {
            generation: Some(manifest.value().generation().into()),
            manifest_digest: manifest.digest().to_string(),
            nonce: nonce.to_vec().into(),
        };
        let mut client = NodeLinkClient::new(connection.channel.clone());
        let reply = tokio::time::timeout(TRY_TIMEOUT, client.confirm(request.clone())).await;
        let reply = reply
            .map_err(|_| Unanswered::new("the hub took the fresh connection and did not answer on it"))?
            .map_err(|status| Unanswered::new(format!("the hub did not confirm: {}", status.message())))?
            .into_inner();
        let is_for_us = reply.generation == request.generation
            && reply.manifest_digest == request.manifest_digest
            && reply.nonce == request.nonce
            && reply.node_id == change.node_id.to_string();
        if !is_for_us {
            return Err(Unanswered::new("the hub's confirmation is for another change"));
        }
        Ok(connection.channel)
    }

    /// The change stays.
    fn keep(&self, armed: Armed, ledger: &mut Ledger, keeps: Vec<v1::KeepReport>) -> Ended {
        match armed.confirm() {
            Ok(confirmed) => {
                ledger.confirm();
                // If this fails, the next start finds the confirmed commit and notes it then.
                match self.save(ledger) {
                    Ok(()) => self.forget(confirmed.id()),
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), "confirmed, but the ledger does not say so yet")
                    }
                }
                Ended {
                    outcome: "confirmed",
                    detail: String::new(),
                    keeps,
                }
            }
            Err(error @ ConfirmError::LostRace { id }) => {
                let ended = self.settle(ledger, Ended::new("undone", error.to_string()));
                self.forget(id);
                ended
            }
            Err(error @ ConfirmError::File { .. }) => Ended::new("unknown", Chain(&error).to_string()),
        }
    }

    async fn undo(&self, armed: Armed, ledger: &mut Ledger, ended: Ended) -> Ended {
        let id = armed.id();
        match armed.undo_now().await {
            Ok(()) => {
                let ended = self.settle(ledger, ended);
                self.forget(id);
                ended
            }
            // The guard goes on trying; the next start settles the ledger.
            Err(error) => Ended::new(
                "unknown",
                format!("{}; undoing it failed: {}", ended.detail, Chain(&error)),
            ),
        }
    }

    /// Notes in the ledger that the change did not happen.
    fn settle(&self, ledger: &mut Ledger, ended: Ended) -> Ended {
        ledger.undo();
        if let Err(error) = self.save(ledger) {
            tracing::error!(error = %Chain(&error), "the ledger does not say yet that the release was undone");
        }
        ended
    }

    fn forget(&self, id: UniqueId) {
        if let Err(error) = commit::forget(&*self.files, self.state_dir(), id) {
            tracing::warn!(error = %Chain(&error), "a settled commit's file stays behind until the next start");
        }
    }

    /// With the old rules back: if the same run of the hub answers now, it was up all the time and the release cut us off.
    async fn pin_out_if_hub_was_up(
        &self,
        change: &Change<'_>,
        ledger: &mut Ledger,
        dialer: &Dialer,
        instance: &str,
        ended: Ended,
    ) -> Ended {
        let answers = async {
            loop {
                if let Ok(now) = self.instance_now(change, dialer).await {
                    return now;
                }
                tokio::time::sleep(TRY_PAUSE).await;
            }
        };
        let was_up = tokio::time::timeout(HUB_LOOK, answers)
            .await
            .is_ok_and(|now| now == instance);
        if !was_up {
            return may_be_tried_again(ended, "the hub was not seen up meanwhile");
        }
        let digest = change.release.manifest().digest();
        ledger.pin_out_under_these_labels(digest);
        if let Err(error) = self.save(ledger) {
            tracing::error!(error = %Chain(&error), "the ledger does not say yet that the release is pinned out");
        }
        ended
    }

    async fn instance_now(&self, change: &Change<'_>, dialer: &Dialer) -> Result<String, Unanswered> {
        let connection = dialer
            .dial(0)
            .await
            .map_err(|error| Unanswered::new(error.to_string()))?;
        let manifest = change.release.manifest();
        let request = v1::ConfirmRequest {
            generation: Some(manifest.value().generation().into()),
            manifest_digest: manifest.digest().to_string(),
            nonce: Vec::new().into(),
        };
        let reply = NodeLinkClient::new(connection.channel).confirm(request).await;
        Ok(reply
            .map_err(|status| Unanswered::new(status.message()))?
            .into_inner()
            .instance_id)
    }
}

/// A change that nobody confirmed, and is undone.
#[derive(Debug)]
struct Unconfirmed {
    why: Ended,
    /// Whether all that is missing is a witness's look: then nothing is known against the release.
    is_unseen: bool,
}

impl Unconfirmed {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            why: Ended::new("undone", detail),
            is_unseen: false,
        }
    }

    fn unseen(detail: impl Into<String>) -> Self {
        Self {
            is_unseen: true,
            ..Self::new(detail)
        }
    }
}

fn may_be_tried_again(ended: Ended, since: &str) -> Ended {
    let detail = format!("{}; {since}, so it may be tried again", ended.detail);
    Ended { detail, ..ended }
}

/// Why a hub did not answer for a change.
#[derive(Debug)]
struct Unanswered {
    detail: String,
}

impl Unanswered {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
        }
    }
}
