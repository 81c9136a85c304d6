//! The keeper: keeps this node in the last confirmed state, and takes new releases. It needs no hub to do the first.
//!
//! The one loop is [`Keeper::run`]: it wakes on what has arrived in the inbox and on a timer. It owns the ledger
//! and the host; the link only fills the inbox and carries its reports. `offer` takes a release, `recover` settles a
//! change that the last run did not live to see through.

mod offer;
mod recover;

use std::sync::Arc;
use std::time::Duration;

use holdfast_policy::render::{AddressSets, DesiredState, render};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation, NodeId};
use holdfast_proto::v1;
use tokio::sync::{mpsc, watch};

use self::offer::Retry;
use crate::change::{Ended, Host};
use crate::dial::Dialer;
use crate::firewall::resource::FirewallTable;
use crate::host::Chain;
use crate::inbox::Inbox;
use crate::ledger::Ledger;
use crate::members;
use crate::reconcile::{Outcome, Resource as _, converge};

/// Running time is written down this often: a crash forgets at most so much of it.
const RUNNING_TIME_EVERY: Duration = Duration::from_secs(300);
/// Why a look was made: the hub said that the members of a group changed.
const MEMBERS: &str = "members";
/// What a hub is told of this node when the link comes up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The highest generation accepted.
    pub accepted: Option<Generation>,
    /// The generation in force.
    pub confirmed: Option<Generation>,
    /// The digest of the manifest in force.
    pub confirmed_digest: Option<Digest>,
    /// The version of the labels.
    pub labels_version: u64,
    /// The authority version reached.
    pub authority_version: u64,
}

/// Keeps this node.
#[derive(Debug)]
pub struct Keeper {
    host: Host,
    ledger: Ledger,
    firewall: FirewallTable,
    members: AddressSets,
    dialer: Arc<Dialer>,
    node_id: NodeId,
    reports: mpsc::Sender<v1::Report>,
    held: watch::Sender<Held>,
    look_every: Duration,
    last_counted: Duration,
    last_trouble: Option<String>,
    retry: Option<Retry>,
    /// The release that this run has pinned out and reported as undone. Offered again over the next link it is refused
    /// without a word: another report would hide why it was undone.
    undone: Option<Digest>,
}

impl Keeper {
    /// A keeper of the state in `ledger`.
    #[must_use]
    pub fn new(
        host: Host,
        ledger: Ledger,
        dialer: Arc<Dialer>,
        node_id: NodeId,
        reports: mpsc::Sender<v1::Report>,
        look_every: Duration,
    ) -> Self {
        Self {
            firewall: FirewallTable::new(host.files.clone(), &host.state_dir),
            members: members::load(&host.state_dir, &*host.files),
            last_counted: host.clock.since_boot(),
            host,
            ledger,
            dialer,
            node_id,
            reports,
            held: watch::Sender::new(Held::default()),
            look_every,
            last_trouble: None,
            retry: None,
            undone: None,
        }
    }

    /// What to tell hubs, now and whenever it changes.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Settles what the last run left, puts the confirmed state in force, then works for ever.
    pub async fn run(mut self, inbox: &Inbox) {
        self.recover().await;
        self.publish_held();
        self.look("start").await;
        let mut timer = tokio::time::interval(self.look_every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer.reset();
        loop {
            tokio::select! {
                // The look goes first: a hub that offers without end cannot keep it from its turn.
                biased;
                _ = timer.tick() => {
                    self.look("interval").await;
                    self.try_again().await;
                }
                arrived = inbox.next() => {
                    self.take_members(arrived.members).await;
                    if let Some(offer) = arrived.offer {
                        self.take(*offer).await;
                    }
                }
            }
            self.count_running_time();
            self.publish_held();
        }
    }

    /// What the confirmed release comes to now; none before the first.
    fn confirmed_state(&self) -> Result<Option<DesiredState>, String> {
        let Some(held) = &self.ledger.confirmed else {
            return Ok(None);
        };
        let slices = held.slices().map_err(|error| Chain(&error).to_string())?;
        render(&slices, &self.members)
            .map(Some)
            .map_err(|error| Chain(&error).to_string())
    }

    /// Looks at the host and puts right what differs from the confirmed state. Quiet if nothing does.
    async fn look(&mut self, activation: &'static str) {
        let desired = match self.confirmed_state() {
            Ok(Some(desired)) => desired,
            // Before the first release nothing here is ours.
            Ok(None) => return,
            Err(detail) => return self.trouble(activation, "failed", detail).await,
        };
        match converge(&mut self.firewall, &desired.firewall).await {
            Ok(Outcome::InSync) => self.last_trouble = None,
            // Members that changed are no drift: the hub knows, it said so.
            Ok(Outcome::Repaired(_)) if activation == MEMBERS => {
                self.last_trouble = None;
                tracing::info!(resource = FirewallTable::NAME, "group members changed");
            }
            Ok(Outcome::Repaired(plan)) => {
                self.last_trouble = None;
                tracing::info!(resource = FirewallTable::NAME, %plan, "repaired");
                let detail = plan.to_string();
                self.report_confirmed(
                    activation,
                    Ended {
                        outcome: "repaired",
                        detail,
                        keeps: Vec::new(),
                    },
                )
                .await;
            }
            Ok(Outcome::StillDrifted { left, .. }) => {
                self.trouble(activation, "drifted", left.to_string()).await
            }
            Err(error) => {
                self.trouble(activation, "failed", Chain(&error).to_string())
                    .await
            }
        }
    }

    /// Reports what a look could not mend: once, not at every look.
    async fn trouble(&mut self, activation: &'static str, outcome: &'static str, detail: String) {
        if self.last_trouble.as_ref() != Some(&detail) {
            tracing::error!(
                resource = FirewallTable::NAME,
                outcome,
                detail,
                "cannot keep the confirmed state"
            );
            self.last_trouble = Some(detail.clone());
            self.report_confirmed(
                activation,
                Ended {
                    outcome,
                    detail,
                    keeps: Vec::new(),
                },
            )
            .await;
        }
    }

    async fn take_members(&mut self, new: AddressSets) {
        let mut merged = self.members.clone();
        // Groups that are not named keep their members: a release that was undone may still need them.
        merged.extend(new);
        if merged == self.members {
            return;
        }
        members::bound(&mut merged);
        self.members = merged;
        if let Err(error) = members::save(&self.members, &self.host.state_dir, &*self.host.files) {
            tracing::warn!(%error, "group members are not saved: after a restart the older ones are used at first");
        }
        self.look(MEMBERS).await;
    }

    /// Only groups of the release in force are kept.
    fn forget_old_members(&mut self, slices: &[Slice]) {
        let named: Vec<_> = slices.iter().flat_map(Slice::member_selectors).collect();
        self.members.retain(|selector, _| named.contains(&selector));
    }

    fn count_running_time(&mut self) {
        let now = self.host.clock.since_boot();
        let run = now.saturating_sub(self.last_counted);
        if run >= RUNNING_TIME_EVERY {
            self.last_counted = now;
            self.ledger.running_secs = self.ledger.running_secs.saturating_add(run.as_secs());
            if let Err(error) = self.host.save(&self.ledger) {
                tracing::warn!(error = %Chain(&error), "running time is not written down");
            }
        }
    }

    fn publish_held(&self) {
        let manifest = self
            .ledger
            .confirmed
            .as_ref()
            .and_then(|held| held.manifest().ok());
        let held = Held {
            accepted: self.ledger.highest.as_ref().map(|highest| highest.generation),
            confirmed: manifest.map(|manifest| manifest.generation()),
            confirmed_digest: self.ledger.confirmed.as_ref().map(|held| held.manifest.digest()),
            labels_version: self.ledger.labels.version,
            authority_version: self
                .ledger
                .authority()
                .map_or(0, |authority| authority.document().version),
        };
        self.held.send_if_modified(|before| {
            let changed = *before != held;
            *before = held;
            changed
        });
    }

    async fn report_confirmed(&self, activation: &'static str, ended: Ended) {
        let held = self.ledger.confirmed.as_ref();
        let generation = held
            .and_then(|held| held.manifest().ok())
            .map(|manifest| manifest.generation());
        self.report(
            generation,
            held.map(|held| held.manifest.digest()),
            activation,
            ended,
        )
        .await;
    }

    async fn report(
        &self,
        generation: Option<Generation>,
        manifest: Option<Digest>,
        activation: &'static str,
        ended: Ended,
    ) {
        let Ended {
            outcome,
            detail,
            keeps,
        } = ended;
        // A detail may quote what a program said: bounded well below the uplink's 64 KiB.
        let detail: String = detail.chars().take(2000).collect();
        let report = v1::Report {
            generation: generation.map(Into::into),
            manifest_digest: manifest.map(|digest| digest.to_string()).unwrap_or_default(),
            outcome: outcome.to_owned(),
            resources: vec![v1::ResourceReport {
                resource: FirewallTable::NAME.to_owned(),
                outcome: outcome.to_owned(),
                detail: detail.clone(),
            }],
            detail,
            keeps,
            activation: activation.to_owned(),
        };
        // The link's queue is emptied into its bounded outbox at once; it closes only with the process.
        let _ = self.reports.send(report).await;
    }
}
