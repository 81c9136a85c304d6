//! The keeper: keeps this node in the last confirmed state, and takes new releases. It needs no hub to do the first.
//!
//! The one loop is [`Keeper::run`]: it wakes on what has arrived in the inbox and on a timer. It owns the ledger
//! and the host; the link only fills the inbox and carries its reports. `look` keeps what is confirmed, `offer` takes a
//! release, `documents` takes what else operators sign, `authority` walks to the newest authority, `show` shows a hub what
//! it lacks, and `recover` settles a change that the last run did not live to see through.

mod authority;
mod documents;
mod expiry;
mod held;
mod look;
mod offer;
mod recover;
mod report;
mod show;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_policy::render::AddressSets;
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, NodeId};
use holdfast_proto::v1;
use tokio::sync::{mpsc, watch};

use self::expiry::ExpiryTold;
pub use self::held::Held;
use self::offer::Retry;
pub use self::show::HubHas;
use crate::ceiling::Ceiling;
use crate::change::Host;
use crate::dial::Dialer;
use crate::firewall::resource::FirewallTable;
use crate::host::Chain;
use crate::inbox::{Documents, Inbox};
use crate::ledger::Ledger;
use crate::members;

/// Running time is written down this often: a crash forgets at most so much of it.
const RUNNING_TIME_EVERY: Duration = Duration::from_secs(300);
/// Why a look was made: the hub said that the members of a group changed.
const MEMBERS: &str = "members";

/// Keeps this node.
#[derive(Debug)]
pub struct Keeper {
    host: Host,
    ceiling: Ceiling,
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
    /// The last that was told of a release or a look.
    last_report: Option<v1::Report>,
    expiry_told: ExpiryTold,
    retry: Option<Retry>,
    /// Documents that could not be written down, such as on a full disk: taken up again at the next look.
    unsaved: Option<Documents>,
    /// What was last said of documents that were not taken, by their kind.
    document_troubles: BTreeMap<&'static str, String>,
    /// The release that this run has pinned out and reported as undone. Offered again over the next link it is refused
    /// without a word: another report would hide why it was undone.
    undone: Option<Digest>,
}

impl Keeper {
    /// A keeper of the state in `ledger`.
    #[must_use]
    pub fn new(
        host: Host,
        ceiling: Ceiling,
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
            ceiling,
            ledger,
            dialer,
            node_id,
            reports,
            held: watch::Sender::new(Held::default()),
            look_every,
            last_trouble: None,
            last_report: None,
            expiry_told: ExpiryTold::default(),
            retry: None,
            unsaved: None,
            document_troubles: BTreeMap::new(),
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
                    self.save_again().await;
                    self.try_again().await;
                }
                arrived = inbox.next() => {
                    if let Some(documents) = arrived.documents {
                        self.take_documents(documents).await;
                    }
                    self.take_members(arrived.members).await;
                    if let Some(offer) = arrived.offer {
                        self.take(*offer).await;
                    }
                }
            }
            self.count_running_time();
            self.warn_of_expiry().await;
            self.publish_held();
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
        let named: Vec<_> = slices.iter().flat_map(Slice::members).collect();
        self.members.retain(|members, _| named.contains(&members));
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
        let held = Held::of(&self.ledger);
        self.held.send_if_modified(|before| {
            let changed = *before != held;
            *before = held;
            changed
        });
    }
}
