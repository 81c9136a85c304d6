//! The keeper: keeps this node in the last confirmed state, and takes new releases. It needs no hub to do the first.
//!
//! The one loop is [`Keeper::run`]: it wakes on an offered release, on new group members, and on a timer. It owns the
//! ledger and the host; the link only brings it work and carries its reports.

use std::time::Duration;

use holdfast_pki::envelope::Envelope;
use holdfast_policy::render::{AddressSets, DesiredState, render};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation, NodeId};
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use holdfast_proto::{DOWNLINK_BYTES_MAX, SLICE_BYTES_MAX, v1};
use tokio::sync::{mpsc, watch};

use crate::change::{Change, Ended, Host, Offering};
use crate::dial::Dialer;
use crate::firewall::resource::FirewallTable;
use crate::guard::commit::{self, Recovered};
use crate::host::Chain;
use crate::ledger::{Judgement, Ledger};
use crate::members;
use crate::reconcile::{Outcome, Resource as _, converge};
use crate::release::{VerifiedManifest, VerifiedRelease};

/// Running time is written down this often: a crash forgets at most so much of it.
const RUNNING_TIME_EVERY: Duration = Duration::from_secs(300);
/// Why a look was made: the hub said that the members of a group changed.
const MEMBERS: &str = "members";
/// How soon a release that this host failed to carry out is tried again, at the look that follows.
const RETRY_AFTER: Duration = Duration::from_secs(20);
/// How long fetching one slice may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Work that the link brings.
#[derive(Debug)]
pub enum Work {
    /// A hub offers a release.
    Offer(Box<(Envelope, Offering)>),
    /// A hub says who is in the groups.
    Members(AddressSets),
}

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
    dialer: std::sync::Arc<Dialer>,
    node_id: NodeId,
    reports: mpsc::Sender<v1::Report>,
    held: watch::Sender<Held>,
    look_every: Duration,
    last_counted: Duration,
    last_trouble: Option<String>,
    retry: Option<Retry>,
}

/// An offer that this host failed to carry out, such as on a full disk: tried again while the hub still offers it.
#[derive(Debug)]
struct Retry {
    offer: (Envelope, Offering),
    not_before: Duration,
}

impl Keeper {
    /// A keeper of the state in `ledger`.
    #[must_use]
    pub fn new(
        host: Host,
        ledger: Ledger,
        dialer: std::sync::Arc<Dialer>,
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
        }
    }

    /// What to tell hubs, now and whenever it changes.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Settles what the last run left, puts the confirmed state in force, then works until the link is gone.
    pub async fn run(mut self, mut work: mpsc::Receiver<Work>) {
        self.recover().await;
        self.publish_held();
        self.look("start").await;
        let mut timer = tokio::time::interval(self.look_every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer.reset();
        loop {
            tokio::select! {
                _ = timer.tick() => {
                    self.look("interval").await;
                    self.try_again().await;
                }
                brought = work.recv() => match brought {
                    Some(Work::Offer(offer)) => self.take(&offer.0, offer.1).await,
                    Some(Work::Members(members)) => self.take_members(members).await,
                    None => return,
                },
            }
            self.count_running_time();
            self.publish_held();
        }
    }

    /// Settles a change that the last run of this agent did not live to see through.
    async fn recover(&mut self) {
        let pending = self.ledger.pending.as_ref().map(|pending| pending.commit);
        let found = commit::recover(&self.host.files, &*self.host.clock, &self.host.state_dir).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a pending change cannot be settled; it is tried again at the next start");
                return;
            }
        };
        let mut outcome = None;
        let mut settled = Vec::new();
        for recovered in found {
            let (id, ending) = match recovered {
                Recovered::Confirmed(id) => (id, "confirmed"),
                Recovered::Undone(id) => (id, "undone"),
                Recovered::Pending(armed) => {
                    let id = armed.id();
                    if let Err(error) = armed.undo_now().await {
                        tracing::error!(error = %Chain(&error), "a pending change cannot be undone; its guard goes on");
                        continue;
                    }
                    (id, "undone")
                }
            };
            if pending == Some(id) {
                outcome = Some(ending);
            }
            settled.push(id);
        }
        if pending.is_some() {
            let generation = self.ledger.highest.as_ref().map(|highest| highest.generation);
            let manifest = self.ledger.highest.as_ref().map(|highest| highest.manifest);
            let detail = "the agent ended before it was confirmed; what was there before was put back";
            match outcome {
                Some("confirmed") => self.ledger.confirm(),
                _ => self.ledger.undo(),
            }
            match self.host.save(&self.ledger) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "the ledger cannot be settled");
                    return;
                }
            }
            let ended = match outcome {
                Some("confirmed") => Ended {
                    outcome: "confirmed",
                    detail: String::new(),
                    keeps: Vec::new(),
                },
                _ => Ended {
                    outcome: "undone",
                    detail: detail.to_owned(),
                    keeps: Vec::new(),
                },
            };
            self.report(generation, manifest, "start", ended).await;
        }
        for id in settled {
            if let Err(error) = commit::forget(&*self.host.files, &self.host.state_dir, id) {
                tracing::warn!(error = %Chain(&error), "a settled change's file stays behind");
            }
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

    /// Takes up an offer that failed here, once its time has come.
    async fn try_again(&mut self) {
        let now = self.host.clock.since_boot();
        if let Some(Retry { offer, .. }) = self.retry.take_if(|retry| retry.not_before <= now) {
            self.take(&offer.0, offer.1).await;
        }
    }

    /// Takes an offered release through all of it, and reports how it ended.
    async fn take(&mut self, envelope: &Envelope, mut hub: Offering) {
        self.retry = None;
        let (digest, offer) = (envelope.digest(), (envelope.clone(), hub.clone()));
        let taken = self.verify(envelope, &mut hub).await;
        let (generation, ended) = match taken {
            // Nothing new: the hub is told once that it is in force, by the hello.
            Ok(None) => return,
            Ok(Some((release, judgement))) => {
                let generation = release.manifest().value().generation();
                (Some(generation), self.apply(&release, judgement, hub).await)
            }
            Err((generation, ended)) => (generation, ended),
        };
        tracing::info!(
            generation = generation.map(|g| g.to_string()),
            outcome = ended.outcome,
            detail = ended.detail,
            "release"
        );
        if ended.outcome == "failed" {
            self.retry = Some(Retry {
                offer,
                not_before: self.host.clock.since_boot() + RETRY_AFTER,
            });
        }
        self.report(generation, Some(digest), "release", ended).await;
    }

    /// Verifies an offer and fetches its slices; none if it is in force already.
    async fn verify(
        &mut self,
        envelope: &Envelope,
        hub: &mut Offering,
    ) -> Result<Option<(VerifiedRelease, Judgement)>, (Option<Generation>, Ended)> {
        let refused = |generation, error: &dyn std::error::Error| (generation, Ended::refused(error));
        self.walk_authority(hub).await.map_err(|ended| (None, ended))?;
        let authority = self.ledger.authority().map_err(|error| refused(None, &error))?;
        let now = self.host.clock.unix_secs();
        let manifest =
            VerifiedManifest::verify(envelope, &authority, now).map_err(|error| refused(None, &error))?;
        let (value, digest) = (manifest.manifest().value(), manifest.manifest().digest());
        let generation = Some(value.generation());
        let same_fleet = value.trust_domain == authority.document().trust_domain;
        let judgement = self
            .ledger
            .judge(value, digest, same_fleet)
            .map_err(|error| refused(generation, &error))?;
        if judgement == Judgement::InForce {
            return Ok(None);
        }
        let wanted: Vec<Digest> = value
            .select(&self.ledger.labels.labels)
            .map(|slice| slice.digest)
            .collect();
        let mut slices = Vec::new();
        for digest in wanted {
            match tokio::time::timeout(FETCH_TIMEOUT, fetch(hub, digest)).await {
                Ok(Ok(Some(bytes))) => slices.push(bytes),
                // Left out: completeness is judged in one place, below.
                Ok(Ok(None)) => {}
                Ok(Err(status)) => return Err((generation, Ended::failed(&status))),
                Err(elapsed) => return Err((generation, Ended::failed(&elapsed))),
            }
        }
        let labels = &self.ledger.labels.labels;
        let release = manifest
            .complete(labels, &slices)
            .map_err(|error| refused(generation, &error))?;
        Ok(Some((release, judgement)))
    }

    /// Walks to the newest authority that the hub has, and writes down each version reached.
    async fn walk_authority(&mut self, hub: &mut Offering) -> Result<(), Ended> {
        let held = self.ledger.authority().map_err(|error| Ended::refused(&error))?;
        let request = v1::GetAuthorityRequest {
            after_version: held.document().version,
        };
        let reply = EnrollmentClient::new(hub.channel.clone())
            .get_authority(request)
            .await;
        let versions = reply
            .map_err(|status| Ended::failed(&status))?
            .into_inner()
            .versions;
        if versions.is_empty() {
            return Ok(());
        }
        let versions: Vec<Envelope> = versions
            .into_iter()
            .map(Envelope::try_from)
            .collect::<Result<_, _>>()
            .map_err(|error| Ended::refused(&error))?;
        let reached = held.walk(&versions).map_err(|error| Ended::refused(&error))?;
        self.ledger.authority = reached.envelope().clone();
        self.host
            .save(&self.ledger)
            .map_err(|error| Ended::failed(&error))
    }

    async fn apply(&mut self, release: &VerifiedRelease, judgement: Judgement, hub: Offering) -> Ended {
        let desired = match render(release.slices(), &self.members) {
            Ok(desired) => desired,
            Err(error) => return Ended::refused(&error),
        };
        let change = Change {
            release,
            desired,
            judgement,
            node_id: self.node_id,
        };
        let dialer = self.dialer.clone();
        let ended = self
            .host
            .make(&change, &mut self.ledger, &mut self.firewall, &dialer, hub)
            .await;
        if ended.outcome == "confirmed" {
            self.forget_old_members(release.slices());
        }
        ended
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

/// A slice's bytes from the hub; none if it does not give it.
async fn fetch(hub: &mut Offering, digest: Digest) -> Result<Option<Vec<u8>>, tonic::Status> {
    let mut client = hub.client.clone().max_decoding_message_size(DOWNLINK_BYTES_MAX);
    let mut chunks = match client
        .get_slice(v1::GetSliceRequest {
            digest: digest.to_string(),
        })
        .await
    {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
        Err(status) => return Err(status),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() > SLICE_BYTES_MAX {
            return Err(tonic::Status::out_of_range(
                "the hub sends more than a slice holds",
            ));
        }
    }
    Ok(Some(bytes))
}
