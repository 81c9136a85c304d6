//! What the demo shows, act by act.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_tests::fleet::{Fleet, HUB, PORT};
use holdfast_tests::socket::{Listener, Reach};
use holdfast_tests::wait::until;
use holdfast_tests::world::World;

use crate::show::Show;

/// The nodes; each has its name as its role.
pub(crate) const NODES: [&str; 3] = ["gateway", "web", "db"];
/// The policy that is applied.
pub(crate) const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/lab");

/// `plan` answers so when something would change.
const CHANGES: i32 = 3;
/// Guard (10 s), looks (3 s) and a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The mistake that everyone makes once: it forbids every node to talk to its own hub.
const MISTAKE: &str = "\
policies:
  - select: all
    outbound:
      - deny: { tcp: [8443], to: [10.77.0.1] }
";

/// The hub comes up and the nodes enrol themselves.
pub(crate) fn enrol(show: &mut Show, world: World) -> Result<Fleet> {
    show.step(
        "A hub comes up",
        "It has made its own certificate authorities; the operator's signing key lies elsewhere.",
    );
    show.command("holdfast init ..; holdfast serve ..");
    let mut fleet = Fleet::within(world)?;
    show.seen(true, format!("the hub serves at {}:{PORT}", fleet.world.v4(HUB)))?;

    show.step(
        "Three nodes enrol themselves",
        "Each gets a join token, pins the hub's key by it, and makes a key that never leaves it.",
    );
    for name in NODES {
        show.command(&format!(
            "holdfast token create --label role={name} --uses 1 --ttl 1h > token"
        ));
        show.note(&format!("  {name}$ holdfast-agent run --token-file token"));
        fleet.add_node(name, &[&format!("role={name}")])?;
    }
    show.command("holdfast node list");
    show.output(&fleet.holdfast(&["node", "list"])?.ok()?);
    show.seen(fleet.nodes()?.len() == NODES.len(), "all three are connected")?;
    Ok(fleet)
}

/// All that packets show.
pub(crate) fn firewall_holds(show: &mut Show, fleet: &Fleet) -> Result<()> {
    show.step("Before any policy", "Everyone reaches the database.");
    see(show, fleet, "web", "db", 5432, Reach::Open)?;
    see(show, fleet, "gateway", "db", 5432, Reach::Open)?;

    plan_and_apply(show, fleet)?;
    for name in NODES {
        fleet.wait_for(name, "confirm the release", |node| node.confirmed().is_some())?;
    }
    show.seen(
        true,
        "every node has verified, applied and confirmed it, over a fresh connection to the hub",
    )?;

    show.step(
        "The packets",
        "Real connections between the nodes, now that the policy is in force.",
    );
    see(show, fleet, "web", "db", 5432, Reach::Open)?;
    see(show, fleet, "gateway", "db", 5432, Reach::Silent)?;
    see(show, fleet, "gateway", "web", 80, Reach::Open)?;
    see(show, fleet, "db", "web", 80, Reach::Silent)?;

    torn_out_rule_returns(show, fleet)?;
    mistake_is_undone(show, fleet)
}

/// What can be shown without packets: that nodes judge what they are sent, and say what they did not do.
pub(crate) fn release_is_judged(show: &mut Show, fleet: &Fleet) -> Result<()> {
    plan_and_apply(show, fleet)?;
    for name in NODES {
        let node = fleet.wait_for(name, "judge the release", |node| node.outcome().is_some())?;
        let (outcome, detail) = (node.outcome().unwrap_or_default(), node.detail());
        let said =
            format!("{name} has received it, and says why it applies nothing here: {outcome}, {detail}");
        show.seen(outcome != "confirmed", said)?;
    }
    Ok(())
}

fn plan_and_apply(show: &mut Show, fleet: &Fleet) -> Result<()> {
    show.step(
        "An operator plans a policy",
        "Nothing changes yet: this is what each node would do.",
    );
    show.command("holdfast policy plan docs/examples/lab");
    let plan = fleet.policy("plan", Path::new(POLICY), &[])?;
    plan.code_is(CHANGES)?;
    show.output(&plan.stdout);

    show.step(
        "And applies it",
        "It is signed here, by the operator. The hub can pass it on; it could not have written it.",
    );
    show.command("holdfast policy apply docs/examples/lab");
    // How it ended, each node says itself.
    let applied = fleet.policy("apply", Path::new(POLICY), &["--wait", "60s"])?;
    // It repeats the plan, which has just been read.
    let planned: Vec<&str> = plan.stdout.lines().collect();
    let said = format!("{}{}", applied.stdout, applied.stderr);
    let news: Vec<&str> = said.lines().filter(|line| !planned.contains(line)).collect();
    show.output(&news.join("\n"));
    Ok(())
}

fn torn_out_rule_returns(show: &mut Show, fleet: &Fleet) -> Result<()> {
    show.step(
        "Someone tears a rule out by hand",
        "On db, as root: the rule that drops what no other rule allows.",
    );
    // An agent that looked at this very moment has mended it before we could see it.
    until("the torn out rule to be missed", PATIENCE, || {
        let handle = last_rule(fleet).map_err(|error| format!("{error:#}"))?;
        let words = [
            "nft", "delete", "rule", "inet", "holdfast", "input", "handle", &handle,
        ];
        fleet
            .world
            .run("db", &words)
            .and_then(holdfast_tests::process::Outcome::ok)
            .map_err(|error| format!("{error:#}"))?;
        match fleet.world.reach("gateway", "db", 5432) {
            Ok(Reach::Open) => {
                show.command(&words.join(" "));
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })?;
    show.seen(true, "gateway -> db:5432 is open, as it must not be")?;
    until_reach(fleet, "gateway", "db", 5432, Reach::Silent)?;
    show.seen(
        true,
        "the agent has put it back: gateway -> db:5432 is closed again",
    )
}

fn mistake_is_undone(show: &mut Show, fleet: &Fleet) -> Result<()> {
    show.step(
        "A policy that would cut every node off from its hub",
        "One outbound deny too many, on top of the same policy.",
    );
    show.output(MISTAKE);
    let dir = with_mistake(fleet)?;
    show.command("holdfast policy apply ./mistake");
    let refused = fleet.policy("apply", &dir, &[])?;
    show.output(&format!("{}{}", refused.stdout, refused.stderr));
    show.seen(
        refused.code.is_some_and(|code| code != 0),
        "it is refused: nothing was signed",
    )?;

    show.command("holdfast policy apply ./mistake --force --wait 1s");
    // It cannot say yet how it will end.
    fleet.policy("apply", &dir, &["--force", "--wait", "1s"])?;
    until_reach(fleet, "web", HUB, PORT, Reach::Silent)?;
    show.seen(
        true,
        format!("web -> hub:{PORT} is closed: the mistake is in force"),
    )?;
    show.note("Now nobody touches anything. The guard gives each node 10 seconds to prove that it still reaches the hub.");
    for name in NODES {
        let node = fleet.wait_for(name, "undo it", |node| node.outcome() == Some("undone"))?;
        show.seen(true, format!("{name} has undone it: {}", node.detail()))?;
    }
    see(show, fleet, "web", HUB, PORT, Reach::Open)?;
    see(show, fleet, "web", "db", 5432, Reach::Open)?;
    see(show, fleet, "gateway", "db", 5432, Reach::Silent)?;
    show.note("The policy before it holds, as if nothing had happened.");
    Ok(())
}

/// What would run on such nodes: a database, a web server, and sshd everywhere.
pub(crate) fn open_services(world: &World) -> Result<Vec<Listener>> {
    let services = [("db", 5432), ("web", 80)];
    services
        .into_iter()
        .chain(NODES.map(|name| (name, 22)))
        .map(|(host, port)| world.listen(host, port))
        .collect()
}

fn see(show: &Show, fleet: &Fleet, from: &str, to: &str, port: u16, promised: Reach) -> Result<()> {
    let found = fleet.world.reach(from, to, port)?;
    let word = match found {
        Reach::Open => "open",
        Reach::Refused => "refused: nobody listens",
        Reach::Silent => "closed: no answer",
    };
    show.seen(found == promised, format!("{from} -> {to}:{port} {word}"))
}

fn until_reach(fleet: &Fleet, from: &str, to: &str, port: u16, wanted: Reach) -> Result<()> {
    until(
        &format!("{from} -> {to}:{port} to be {wanted:?}"),
        PATIENCE,
        || match fleet.world.reach(from, to, port) {
            Ok(found) if found == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}

/// The handle of the rule that ends db's input chain.
fn last_rule(fleet: &Fleet) -> Result<String> {
    let chain = fleet
        .world
        .run(
            "db",
            &["nft", "--handle", "list", "chain", "inet", "holdfast", "input"],
        )?
        .ok()?;
    let last = chain
        .lines()
        .filter_map(|line| line.rsplit_once(" # handle "))
        .next_back();
    Ok(last.context("db's input chain has no rule")?.1.trim().to_owned())
}

/// The policy in force, with the mistake beside it.
fn with_mistake(fleet: &Fleet) -> Result<PathBuf> {
    let mut files = vec![("mistake.yaml".to_owned(), MISTAKE.to_owned())];
    for entry in std::fs::read_dir(POLICY).with_context(|| format!("cannot read {POLICY}"))? {
        let entry = entry?;
        files.push((
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read_to_string(entry.path())?,
        ));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    fleet.policy_dir("mistake", &files)
}
