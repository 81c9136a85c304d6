//! A database whose hub was taken: what its operators signed is in force, and an enemy with every key of the hub wants it
//! open to the gateway too.

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::signing_key::SigningKey;
use holdfast_policy::parse;
use holdfast_policy::release::{Manifest, SliceRef};
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, NodeId};
use holdfast_proto::payload::Payload as _;
use holdfast_tests::fleet::{Fleet, PATIENCE};
use holdfast_tests::process::Outcome;
use holdfast_tests::socket::{Listener, Reach};
use holdfast_tests::wait;
use serde_json::Value;

use super::taken_hub::TakenHub;

/// What was in force before the hub was taken: open to web, which is 10.77.0.12, and to nobody else.
const HELD: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: [10.77.0.12] }
";
/// What the enemy wants, and at last the operators do: open to the gateway. A slice for others is in it too.
pub(crate) const OPEN: &str = "
policies:
  - select: { role: db }
    inbound:
      - allow: { tcp: [5432], from: any }
  - select: { role: web }
    inbound:
      - allow: { tcp: [80], from: any }
";

const DATABASE: u16 = 5432;

/// The database, the enemy, and the operators' key, with which they go on signing.
pub(crate) struct Siege {
    /// The hub.
    pub(crate) hub: TakenHub,
    /// The operators' key: an enemy does not have it, but has what it signed.
    pub(crate) key: SigningKey,
    /// The release that is in force.
    pub(crate) held: Envelope,
    /// Where it all is. It ends last.
    pub(crate) fleet: Fleet,
    _database: Listener,
}

impl Siege {
    /// A database with a confirmed release, its hub taken.
    pub(crate) fn begin(label: &str, guard_time: &str) -> Result<Self> {
        let mut fleet = Fleet::new(label)?;
        fleet.agent_options = ["--guard-time", guard_time, "--look-every", "3s"]
            .map(str::to_owned)
            .to_vec();
        fleet.add_node("db", &["role=db"])?;
        fleet.add_node_host("web")?;
        fleet.add_node_host("gateway")?;
        let database = fleet.world.listen("db", DATABASE)?;
        let policy = fleet.policy_dir("held", &[("db.yaml", HELD)])?;
        fleet.policy("apply", &policy, &[]).and_then(Outcome::ok)?;
        let path = fleet.context_dir().join("signing.key");
        let file = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let hub = TakenHub::seize(&mut fleet, "db")?;
        let mut confirmed = ledger(&fleet)?["confirmed"].take();
        let held = serde_json::from_value(confirmed["manifest"].take())?;
        let slices: Vec<String> = serde_json::from_value(confirmed["slices"].take())?;
        for slice in slices {
            hub.serve_slice(Digest::of(slice.as_bytes()), Some(slice.into_bytes()));
        }
        let siege = Self {
            hub,
            key: SigningKey::from_file(&file, None)?,
            held,
            fleet,
            _database: database,
        };
        siege.is_open_to_web_alone()?;
        Ok(siege)
    }

    /// An unsigned manifest for `policy`, `ahead` of the release in force, with its slices, which the hub serves.
    pub(crate) fn manifest(&self, ahead: u64, policy: &str) -> Result<(Manifest, Vec<Slice>)> {
        let parsed = parse::load(&[("next.yaml".to_owned(), policy.to_owned())]);
        let parsed = parsed.map_err(|found| anyhow!("the test's policy is wrong: {found:?}"))?;
        let slices = parsed.slices().to_vec();
        for slice in &slices {
            self.hub.serve_slice(slice.digest(), Some(slice.to_bytes()));
        }
        let held: Manifest = parse_payload(&self.held.payload)?;
        let manifest = Manifest {
            number: held.number + ahead,
            previous: Some(self.held.digest()),
            slices: slices.iter().map(SliceRef::of).collect(),
            return_to: None,
            ..held
        };
        Ok((manifest, slices))
    }

    /// `manifest`, signed by the operators.
    pub(crate) fn signed(&self, manifest: &Manifest) -> Result<Envelope> {
        let mut envelope = unsigned(manifest)?;
        self.key.sign(Manifest::KIND, &mut envelope);
        Ok(envelope)
    }

    /// Offers a release that must be refused for `reason`, without a trace in the ledger.
    pub(crate) fn refuses(&self, case: &str, envelope: &Envelope, reason: &str) -> Result<()> {
        let before = self.ledger()?;
        let report = self.hub.offer(envelope).with_context(|| case.to_owned())?;
        let as_wanted = report.outcome == "refused" && report.detail.contains(reason);
        ensure!(
            as_wanted,
            "{case}: refused with '{reason}' wanted, got {report:?}"
        );
        ensure!(
            before == self.ledger()?,
            "{case}: the ledger changed from {before} to {}",
            self.ledger()?
        );
        Ok(())
    }

    /// Offers a release that must be taken.
    pub(crate) fn takes(&self, envelope: &Envelope) -> Result<()> {
        let report = self.hub.offer(envelope)?;
        ensure!(report.outcome == "confirmed", "confirmed wanted, got {report:?}");
        let highest: Envelope = serde_json::from_value(self.ledger()?["highest"]["manifest"].take())?;
        ensure!(highest == *envelope, "the ledger says {}", self.ledger()?);
        Ok(())
    }

    /// Packets: the state that operators signed is in force.
    pub(crate) fn is_open_to_web_alone(&self) -> Result<()> {
        let reached = (self.reach("web")?, self.reach("gateway")?);
        ensure!(
            reached == (Reach::Open, Reach::Silent),
            "web and gateway find the database {reached:?}"
        );
        Ok(())
    }

    /// The proof that all the enemy lacked was a signature: with one, the same hub opens the database to the gateway.
    pub(crate) fn opens_once_operators_sign(&self, ahead: u64) -> Result<()> {
        let (manifest, _) = self.manifest(ahead, OPEN)?;
        self.takes(&self.signed(&manifest)?)?;
        let reached = self.reach("gateway")?;
        ensure!(
            reached == Reach::Open,
            "the gateway finds the database {reached:?}"
        );
        Ok(())
    }

    /// How `from` finds the database.
    pub(crate) fn reach(&self, from: &str) -> Result<Reach> {
        self.fleet.world.reach(from, "db", DATABASE)
    }

    /// The node's id.
    pub(crate) fn node_id(&self) -> Result<NodeId> {
        let path = self.fleet.agent_dir("db").join("identity.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let identity: Value = serde_json::from_slice(&text)?;
        let id = identity["node_id"].as_str().context("it holds no node id")?;
        Ok(id.parse()?)
    }

    /// Waits until the node has written down what `is_so` looks for.
    pub(crate) fn until_ledger(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        wait::until(what, PATIENCE, || {
            let ledger = self.ledger().map_err(|error| format!("{error:#}"))?;
            is_so(&ledger).then_some(()).ok_or_else(|| ledger.to_string())
        })
    }

    /// What the node has written down.
    pub(crate) fn ledger(&self) -> Result<Value> {
        ledger(&self.fleet)
    }
}

/// `manifest` as it is signed, without a signature.
pub(crate) fn unsigned(manifest: &Manifest) -> Result<Envelope> {
    Ok(Envelope::unsigned(serde_json::to_vec(manifest)?))
}

fn ledger(fleet: &Fleet) -> Result<Value> {
    let path = fleet.agent_dir("db").join("ledger.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}
