//! `holdfast policy`: check, plan and apply what operators wrote.
//!
//! The release is made here, from the files and from the release before it that this machine verified. The hub only
//! stores it: it composes nothing that is signed.

mod endorse;
mod fleet;
mod release;
mod rollout;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use holdfast_policy::parse::{self, Policy};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use serde_json::json;

use self::fleet::NodePlan;
use super::cosign::{self, Finished, Place};
use super::session::{Release, Session};
use super::{Ending, Format, Operator, epoch, output};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Read a policy and say what is wrong with it; with a hub, also what it would cut
    Check(Check),
    /// Show per node what would change. Exit code 3 if anything would
    Plan(Plan),
    /// Sign a policy as the next release and have every node take it
    Apply(Apply),
    /// Sign the current release once more, after the authority dropped who had signed it
    Endorse(endorse::Endorse),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast policy check ./policy\n  holdfast policy check ./policy --offline"
)]
pub(super) struct Check {
    /// Directory with *.yaml files
    dir: PathBuf,
    /// Look at the files alone, not at the fleet
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast policy plan ./policy")]
pub(super) struct Plan {
    /// Directory with *.yaml files
    dir: PathBuf,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast policy apply ./policy\n  holdfast policy apply ./policy --wait 5m -o json"
)]
pub(super) struct Apply {
    /// Directory with *.yaml files
    dir: PathBuf,
    /// Apply although the policy cuts the ssh in use or the way to the hub. The guard on each node still undoes it
    #[arg(long)]
    force: bool,
    /// How long to wait for the nodes' reports; 0s: do not wait
    #[arg(long, default_value = "2m", value_parser = humantime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

impl PolicyCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Check(check) => check.run().await,
            Self::Plan(plan) => plan.run().await,
            Self::Apply(apply) => apply.run().await,
            Self::Endorse(endorse) => endorse.run().await,
        }
    }
}

/// Reads every policy file in `dir`.
fn load(dir: &Path) -> anyhow::Result<Policy> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(dir)
        .with_context(|| format!("cannot read the policy directory {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let is_policy = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if !is_policy {
            continue;
        }
        // Passing over what was meant as policy would lift its rules without a word.
        if !path.is_file() {
            bail!(
                "{} is no regular file: make it one, or give it another ending",
                path.display()
            );
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((name, text));
    }
    parse::load(&files).map_err(|diagnostics| {
        // They quote the files, which somebody else may have written.
        let told = diagnostics.iter().map(ToString::to_string);
        let told: Vec<_> = told.map(|text| output::clean_lines(&text)).collect();
        anyhow::anyhow!(
            "the policy in {} is not right\n{}",
            dir.display(),
            told.join("\n")
        )
    })
}

/// A policy beside the fleet that it is for.
struct Considered {
    policy: Policy,
    current: Option<Release>,
    /// The epoch that the next release is of.
    epoch: u64,
    nodes: Vec<NodePlan>,
}

async fn consider(policy: Policy, session: &mut Session) -> anyhow::Result<Considered> {
    let current = session.release().await?;
    let epoch = session.epoch().await?;
    let nodes = session.nodes().await?;
    let held = in_force(session, current.as_ref(), &nodes).await?;
    let hubs = fleet::hub_addresses(&session.context.hubs).await;
    let nodes = fleet::plan(&nodes, &held, policy.slices(), &hubs)?;
    Ok(Considered {
        policy,
        current,
        epoch,
        nodes,
    })
}

/// The slices of every release that is in force on some node: a node that undid one, or was away, holds an older.
async fn in_force(
    session: &mut Session,
    current: Option<&Release>,
    nodes: &[v1::Node],
) -> anyhow::Result<BTreeMap<Generation, Vec<Slice>>> {
    let mut held = BTreeMap::new();
    if let Some(release) = current {
        held.insert(release.manifest.value().generation(), release.slices.clone());
    }
    for generation in nodes
        .iter()
        .filter_map(|node| node.confirmed)
        .map(Generation::from)
    {
        if let Entry::Vacant(place) = held.entry(generation)
            && let Some(slices) = session.earlier_slices(generation).await?
        {
            place.insert(slices);
        }
    }
    Ok(held)
}

impl Considered {
    /// Warns of slices that are for no node there is: most often a typing error in a label.
    fn warn_of_nobody(&self) {
        for slice in self.policy.slices() {
            let selector = slice.selector();
            if !self.nodes.is_empty() && !self.nodes.iter().any(|node| selector.matches(&node.labels)) {
                output::remark(&format!("warning: `select: {selector}` selects no node there is"));
            }
        }
    }

    /// Prints what the policy would cut; whether there is anything.
    fn complain_of_lockouts(&self) -> bool {
        let mut any = false;
        for node in &self.nodes {
            for lockout in &node.lockouts {
                output::remark(&format!(
                    "{} {}: {lockout}",
                    output::paint("lockout:", "31;1"),
                    output::clean(&node.name)
                ));
                any = true;
            }
        }
        any
    }

    /// Whether there must be another release: the slices differ from those in force (nodes need not, since a slice may
    /// select nobody yet), or its epoch is over.
    fn changes_release(&self) -> bool {
        let same =
            |current: &Release| current.slices == self.policy.slices() && !self.is_of_old_epoch(current);
        !self.current.as_ref().is_some_and(same)
    }

    fn is_of_old_epoch(&self, release: &Release) -> bool {
        release.manifest.value().epoch < self.epoch
    }

    fn warn_of_old_epoch(&self) {
        if let Some(current) = self
            .current
            .as_ref()
            .filter(|current| self.is_of_old_epoch(current))
        {
            output::remark(&format!(
                "release {} is of an epoch that is over: epoch {} needs a release of its own, also of the same policy",
                current.manifest.value().generation(),
                self.epoch
            ));
        }
    }

    fn print(&self) {
        for node in &self.nodes {
            let state = match (node.selected, node.changes.len()) {
                (false, 0) => "no policy selects it: its firewall is left alone".to_owned(),
                (_, 0) => "no change".to_owned(),
                (_, 1) => "1 change".to_owned(),
                (_, n) => format!("{n} changes"),
            };
            let link = if node.connected {
                ""
            } else {
                " (not connected: takes it when it comes back)"
            };
            output::say(&format!(
                "{}: {state}{link}",
                output::paint(&output::clean(&node.name), "1")
            ));
            for change in &node.changes {
                output::say(&format!("  {change}"));
            }
            for keep in &node.keeps {
                output::say(&format!("  keep {keep}"));
            }
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "changes": self.changes_release(),
            "nodes": self.nodes.iter().map(|node| json!({
                "id": node.id,
                "name": node.name,
                "connected": node.connected,
                "selected": node.selected,
                "changes": node.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "lockouts": node.lockouts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "keeps": node.keeps,
            })).collect::<Vec<_>>(),
        })
    }
}

impl Check {
    async fn run(self) -> anyhow::Result<Ending> {
        let policy = load(&self.dir)?;
        let slices = policy.slices().len();
        if self.offline {
            match self.operator.output {
                Format::Json => output::json(json!({ "slices": slices })),
                Format::Table => output::say(&format!(
                    "the policy is well-formed: {slices} slices; not held against a fleet"
                )),
            }
            return Ok(Ending::Done);
        }
        let mut session = self.operator.session().await?;
        let considered = consider(policy, &mut session).await?;
        considered.warn_of_nobody();
        if self.operator.output == Format::Json {
            output::json(considered.to_json());
        }
        if considered.complain_of_lockouts() {
            bail!(
                "the policy would lock somebody out; change it, or apply it with --force and let the guard decide"
            );
        }
        if self.operator.output == Format::Table {
            let nodes = considered.nodes.len();
            output::say(&format!(
                "the policy is right: {slices} slices for {nodes} nodes, and it cuts neither ssh nor the hub"
            ));
        }
        Ok(Ending::Done)
    }
}

impl Plan {
    async fn run(self) -> anyhow::Result<Ending> {
        let policy = load(&self.dir)?;
        let mut session = self.operator.session().await?;
        let considered = consider(policy, &mut session).await?;
        considered.warn_of_nobody();
        match self.operator.output {
            Format::Json => output::json(considered.to_json()),
            Format::Table => considered.print(),
        }
        considered.warn_of_old_epoch();
        considered.complain_of_lockouts();
        if considered.changes_release() {
            output::remark("nothing was changed; `holdfast policy apply` makes it so");
            return Ok(Ending::Changes);
        }
        Ok(Ending::Done)
    }
}

impl Apply {
    async fn run(self) -> anyhow::Result<Ending> {
        let policy = load(&self.dir)?;
        let mut session = self.operator.session().await?;
        // Also where there is nothing to change: the nodes get nothing from a hub that holds.
        if let Some(reason) = epoch::hold(&mut session).await? {
            bail!(
                "this hub holds its releases: {reason}. Look at the fleet, then raise the epoch: `holdfast epoch raise`"
            );
        }
        let considered = consider(policy, &mut session).await?;
        considered.warn_of_nobody();
        if considered.complain_of_lockouts() && !self.force {
            bail!(
                "nothing was changed: the policy would lock somebody out. Change it, or give --force and let the guard decide"
            );
        }
        if !considered.changes_release() {
            match self.operator.output {
                Format::Json => output::json(json!({ "released": null, "nodes": [] })),
                Format::Table => output::say("nothing to do: this policy is the current release"),
            }
            return Ok(Ending::Done);
        }
        if self.operator.output == Format::Table {
            considered.print();
        }
        considered.warn_of_old_epoch();
        let proposal = release::propose(&session, &considered)?;
        let finished = cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await?;
        let envelope = match finished {
            Finished::Published(envelope) => envelope,
            Finished::Waiting(waiting) => return Ok(waiting.tell(self.operator.output)),
        };
        let released = session.verify_release(&envelope)?;
        output::remark(&format!("release {} published", released.value().generation()));
        let ending = rollout::follow(
            &mut session,
            &released,
            &considered.nodes,
            self.wait,
            self.operator.output,
        )
        .await;
        Ok(ending)
    }
}
