//! A stage for changes of policy: one node, and two policies that packets tell apart.
//!
//! `db` serves PostgreSQL's port and ssh's. [`OLD`] lets only the hub's host in to the first, [`NEW`] only the `stranger`,
//! a host without an agent. [`cut_off`] makes of any policy one whose node cannot reach its hub.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::fleet::{Fleet, HUB, PATIENCE, PORT};
use crate::node::Node;
use crate::socket::{Listener, Reach};
use crate::wait;
use crate::world::World;

/// The node.
pub const DB: &str = "db";
/// A host without an agent: 10.77.0.9.
pub const STRANGER: &str = "stranger";
/// What the policies are about.
pub const SERVICE: u16 = 5432;
/// The file that policies here are written to, for what names a rule's place.
pub const FILE: &str = "lab.yaml";

/// Only the hub's host is let in.
pub const OLD: &str = "\
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [10.77.0.1] }
      - allow: { tcp: [22], from: any }
";

/// Only the stranger is let in.
pub const NEW: &str = "\
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [10.77.0.9] }
      - allow: { tcp: [22], from: any }
";

/// `policy` with a rule that keeps its node from its hub, in line 7.
#[must_use]
pub fn cut_off(policy: &str) -> String {
    format!("{policy}    outbound:\n      - deny: {{ tcp: [{PORT}], to: [10.77.0.1] }}\n")
}

/// Lost packets of new connections to the hub, by a hand that is not ours; what is established goes on.
const BLOCKADE: &str = "table inet blockade { chain out { type filter hook output priority 0; \
    ip daddr 10.77.0.1 tcp dport 8443 tcp flags & (syn | ack) == syn drop; }; }";

/// A fleet whose one node is `db`, and the stranger.
#[derive(Debug)]
pub struct Stage {
    _services: Vec<Listener>,
    /// All of it.
    pub fleet: Fleet,
}

impl Stage {
    /// A stage whose agents undo after `guard_time`, and look for drift every three seconds.
    ///
    /// # Errors
    /// If hub or agent do not come up.
    pub fn new(label: &str, guard_time: &str) -> Result<Self> {
        let mut fleet = Fleet::new(label)?;
        fleet.agent_options = ["--guard-time", guard_time, "--look-every", "3s"]
            .map(str::to_owned)
            .to_vec();
        fleet.world.add_host(STRANGER, 9)?;
        fleet.add_node(DB, &["role=db"])?;
        let services = [SERVICE, 22].map(|port| fleet.world.listen(DB, port));
        Ok(Self {
            _services: services.into_iter().collect::<Result<_>>()?,
            fleet,
        })
    }

    /// The hosts.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.fleet.world
    }

    /// Applies `policy` and waits until every node has confirmed it.
    ///
    /// # Errors
    /// If one did not.
    pub fn apply(&self, policy: &str) -> Result<()> {
        let dir = self.fleet.policy_dir("policy", &[(FILE, policy)])?;
        self.fleet
            .policy("apply", &dir, &["--wait", "60s"])?
            .ok()
            .map(drop)
    }

    /// Publishes `policy` whatever it cuts, and waits for nobody.
    ///
    /// # Errors
    /// If the hub does not take it.
    pub fn force(&self, policy: &str) -> Result<()> {
        let dir = self.fleet.policy_dir("policy", &[(FILE, policy)])?;
        self.fleet
            .policy("apply", &dir, &["--force", "--wait", "0s"])?
            .ok()
            .map(drop)
    }

    /// Waits until `from` finds the service of `db` as wanted.
    ///
    /// # Errors
    /// After `limit`, with what it found last.
    pub fn wait_reach(&self, from: &str, wanted: Reach, limit: Duration) -> Result<()> {
        wait_reach(self.world(), (from, DB, SERVICE), wanted, limit)
    }

    /// Waits until [`NEW`] lets the stranger in.
    ///
    /// # Errors
    /// If it never does.
    pub fn wait_new(&self) -> Result<()> {
        self.wait_reach(STRANGER, Reach::Open, PATIENCE)
    }

    /// Makes sure that [`OLD`] holds, and that `db` reaches its hub.
    ///
    /// # Errors
    /// If packets tell otherwise.
    pub fn old_holds(&self) -> Result<()> {
        self.holds(HUB, STRANGER)?;
        ensure!(
            self.world().reach(DB, HUB, PORT)? == Reach::Open,
            "db does not reach its hub"
        );
        Ok(())
    }

    /// Makes sure that [`NEW`] holds.
    ///
    /// # Errors
    /// If packets tell otherwise.
    pub fn new_holds(&self) -> Result<()> {
        self.holds(STRANGER, HUB)
    }

    /// Waits for `outcome` as the last report of `db`.
    ///
    /// # Errors
    /// If it does not come; with the last state seen and the agent's log.
    pub fn wait_outcome(&self, outcome: &str) -> Result<Node> {
        self.fleet.wait_for(DB, &format!("report '{outcome}'"), |node| {
            node.outcome() == Some(outcome)
        })
    }

    /// Waits until `db` holds release `number`, and says so.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_confirmed(&self, number: u64) -> Result<Node> {
        self.fleet
            .wait_for(DB, &format!("confirm release {number}"), |node| {
                node.confirmed() == Some((1, number))
            })
    }

    /// Keeps `db` from opening connections to its hub, with a table of somebody else's; or lets it again.
    ///
    /// # Errors
    /// If nft refuses.
    pub fn set_blockade(&self, up: bool) -> Result<()> {
        if up {
            return self.world().nft_load(DB, BLOCKADE);
        }
        self.world().nft(DB, "delete table inet blockade").map(drop)
    }

    /// The ledger of `db`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn ledger(&self) -> Result<serde_json::Value> {
        let path = self.fleet.agent_dir(DB).join("ledger.json");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))
    }

    fn holds(&self, let_in: &str, kept_out: &str) -> Result<()> {
        for (from, wanted) in [(let_in, Reach::Open), (kept_out, Reach::Silent)] {
            let found = self.world().reach(from, DB, SERVICE)?;
            ensure!(found == wanted, "{from} finds db {found:?}, wanted {wanted:?}");
        }
        Ok(())
    }
}

/// Waits until a connection (from, to, port) ends as wanted.
///
/// # Errors
/// After `limit`, with what became of the last one.
pub fn wait_reach(
    world: &World,
    (from, to, port): (&str, &str, u16),
    wanted: Reach,
    limit: Duration,
) -> Result<()> {
    let what = format!("{from} to find {to}:{port} {wanted:?}");
    wait::until(&what, limit, || match world.reach(from, to, port) {
        Ok(found) if found == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
}
