//! `holdfast init`: makes a hub in one directory and its first operator in another.
//!
//! The hub's directory gets roots, the issuing CAs, the key of its checkpoints and a store that holds the authority. The
//! operator's directory gets what the hub must never have: the signing key, sealed, and the API credential. Both are built
//! beside their place and renamed into it, the operator's first: a hub without an operator would be of no use, and a crash
//! between the two is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_pki::authority::{Act, Authority, AuthorityKey, AuthorityPin, Role};
use holdfast_pki::csr;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::issue::{Ca, to_pem};
use holdfast_pki::signing_key::SigningKey;
use holdfast_proto::ids::{Digest, Name, TrustDomain};
use holdfast_proto::payload::Payload as _;

use crate::access::{self, AccessCertificate, AccessRecord};
use crate::ca::HubCa;
use crate::cli::signer::{NewSigner, Signer};
use crate::config::{CaName, Config, HubDir, OPERATOR_CERTIFICATE_HOURS};
use crate::operator_dir::{Context, ContextDir, OperatorDir};
use crate::place::{absolute, beside, must_be_free, put_in_place};
use crate::registry::{Registry, to_record};
use crate::serve::Machine;
use crate::store::Store as _;
use crate::store::audit::{AuditEntry, AuditId, Outcome};
use crate::store::embedded::JournalStore;
use crate::store::lock::DirLock;
use crate::store::txn::{Precondition, Txn};

/// An authority lives two years; the CLI warns when its end is near.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(2 * 365 * 86_400);
/// Node certificates. They do not renew yet, so they are long.
const NODE_CERTIFICATE_DAYS: u32 = 90;

/// What is to be made.
#[derive(Debug)]
pub struct Plan {
    /// The hub's directory.
    pub dir: PathBuf,
    /// The operator's directory.
    pub operator_dir: PathBuf,
    /// The first operator.
    pub operator: Name,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// Where the hub listens.
    pub listen: SocketAddr,
    /// Where it is reached.
    pub advertise: Vec<String>,
}

impl Plan {
    /// The first operator's context is called like the fleet.
    fn context(&self) -> Name {
        self.trust_domain
            .as_str()
            .parse()
            .expect("a trust domain is a name")
    }

    fn context_dir(&self) -> PathBuf {
        let dir = self.operator_dir.join("contexts");
        dir.join(self.trust_domain.as_str())
    }
}

/// What was found or made.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// The hub was there already; nothing was changed.
    AlreadyThere,
    /// The hub and its operator were made.
    New,
}

/// Makes the hub, unless it is there. The operator's `key` is asked for only when something is made.
///
/// # Errors
/// What stands in the way, and what to do about it. Nothing is left half-made in either place.
pub(crate) async fn init(
    plan: &Plan,
    machine: &Machine,
    key: impl FnOnce() -> anyhow::Result<NewSigner>,
) -> anyhow::Result<Made> {
    let dir = HubDir::new(&plan.dir);
    if dir.config().exists() {
        let held = Config::read(&dir, &*machine.files)?;
        if held.trust_domain != plan.trust_domain {
            bail!(
                "{} already holds a hub of {}, not of {}; nothing was changed",
                plan.dir.display(),
                held.trust_domain,
                plan.trust_domain
            );
        }
        return Ok(Made::AlreadyThere);
    }
    must_be_free(&plan.dir, "hub's directory (--dir)")?;
    let context = plan.context_dir();
    must_be_free(&context, "operator's context")?;
    if absolute(&plan.operator_dir)?.starts_with(absolute(&plan.dir)?) {
        bail!("--operator-dir must lie outside --dir: the hub must never hold the operator's signing key");
    }
    let key = key()?;
    let contexts = absolute(&plan.operator_dir)?.join("contexts");
    for dir in [&absolute(&plan.operator_dir)?, &contexts] {
        let made = machine.files.create_dir(dir);
        made.with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let (hub_part, operator_part) = (beside(&plan.dir, "init")?, beside(&context, "init")?);
    let made = build(plan, machine, &key, &hub_part, &operator_part).await;
    if let Err(error) = made {
        // Ours alone: the names carry this process's id.
        let _ = std::fs::remove_dir_all(&hub_part);
        let _ = std::fs::remove_dir_all(&operator_part);
        return Err(error);
    }
    put_in_place(&operator_part, &context, &*machine.files)?;
    put_in_place(&hub_part, &plan.dir, &*machine.files)?;
    let operator_dir = OperatorDir::new(&plan.operator_dir, machine.files.clone());
    if operator_dir.current()?.is_none() {
        operator_dir.set_current(&plan.context())?;
    }
    Ok(Made::New)
}

async fn build(
    plan: &Plan,
    machine: &Machine,
    key: &NewSigner,
    hub_part: &Path,
    operator_part: &Path,
) -> anyhow::Result<()> {
    let Machine { clock, random, files } = machine;
    let dir = HubDir::new(hub_part);
    for path in [hub_part, &hub_part.join("ca"), &dir.store(), operator_part] {
        files
            .create_dir(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
    }

    let node_root = make_cas(plan, machine, &dir)?;
    let authority = first_authority(plan, &key.signer, node_root, clock.unix_secs())?;
    let config = Config {
        format: 1,
        trust_domain: plan.trust_domain.clone(),
        hub_id: random.unique_id(),
        listen: plan.listen,
        advertise: plan.advertise.clone(),
        node_certificate_days: NODE_CERTIFICATE_DAYS,
        operator_certificate_hours: OPERATOR_CERTIFICATE_HOURS,
        authority: first_pin(&authority),
    };
    let ca = HubCa::load(&dir, &config, &**files, clock.clone(), random.clone())?;
    let access = write_operator(plan, machine, key, &ca, &authority, operator_part)?;

    let store = JournalStore::open(DirLock::acquire(&dir.store())?, &**files, clock.clone())?;
    let entry = AuditEntry {
        at_secs: clock.unix_secs(),
        who: format!("spiffe://{}/operator/{}", plan.trust_domain, plan.operator),
        what: "init hub".to_owned(),
        on: "authority/1".to_owned(),
        from: "local".to_owned(),
        digest: Some(authority.digest()),
        outcome: Outcome::Done,
        correlation_id: random.unique_id(),
    };
    let key = Registry::authority_key(1);
    let txn = Txn::new(&AuditId::new(&**clock, &**random), &entry)
        .require(key.clone(), Precondition::Absent)
        .put(key, to_record(&authority))
        .put(access::key(&plan.operator), to_record(&access));
    store.commit(txn).await?;
    files.write_atomic(&dir.config(), config.to_text().as_bytes(), 0o644)?;
    Ok(())
}

/// Writes the first operator's context; their access, to be recorded.
fn write_operator(
    plan: &Plan,
    machine: &Machine,
    key: &NewSigner,
    ca: &HubCa,
    authority: &Envelope,
    part: &Path,
) -> anyhow::Result<AccessRecord> {
    let Machine { clock, files, .. } = machine;
    let api_key = csr::new_key()?;
    let csr = csr::verify(&csr::create(&api_key)?)?;
    let certificate = ca.issue_operator(&csr, &plan.operator, ca.operator_leaf_lifetime())?;
    let chain: String = certificate.chain.iter().map(|link| to_pem(link)).collect();
    let dir = ContextDir::new(plan.context(), part.to_owned(), files.clone());
    let signing = key.keep(&dir)?;
    dir.write_api_credential(&chain, &zeroize::Zeroizing::new(api_key.serialize_pem()))?;
    dir.write_authority_chain(std::slice::from_ref(authority))?;
    dir.write_context(&Context {
        format: 1,
        operator: plan.operator.clone(),
        signing,
        trust_domain: plan.trust_domain.clone(),
        hubs: plan.advertise.clone(),
        authority: first_pin(authority),
        highest: None,
    })?;
    let (mut access, now) = (AccessRecord::default(), clock.unix_secs());
    access.add(
        AccessCertificate::new(&certificate, (key.signer.key_id(), now), now, "local"),
        now,
    );
    Ok(access)
}

fn first_pin(authority: &Envelope) -> AuthorityPin {
    AuthorityPin {
        version: 1,
        digest: authority.digest(),
    }
}

/// Makes the roots and what issues below them, and the key of the hub's checkpoints; the fingerprint of the node root.
fn make_cas(plan: &Plan, machine: &Machine, dir: &HubDir) -> anyhow::Result<Digest> {
    let Machine { clock, random, files } = machine;
    let (now, fleet) = (clock.now(), &plan.trust_domain);
    let node_root = Ca::new_root(fleet, "node root", now, &**random)?;
    let issuing = node_root.new_issuing(&format!("{fleet} issuing CA"), now, &**random)?;
    let operator_root = Ca::new_root(fleet, "operator root", now, &**random)?;
    let operator_issuing =
        operator_root.new_issuing(&format!("{fleet} operator issuing CA"), now, &**random)?;
    for (name, ca) in [
        (CaName::NodeRoot, &node_root),
        (CaName::Issuing, &issuing),
        (CaName::OperatorRoot, &operator_root),
        (CaName::OperatorIssuing, &operator_issuing),
    ] {
        let (certificate, key) = dir.ca(name);
        files.write_atomic(&certificate, to_pem(ca.certificate()).as_bytes(), 0o644)?;
        files.write_atomic(&key, ca.key_pem().as_bytes(), 0o600)?;
    }
    // Sealed under no passphrase: the hub starts unattended, and guards it as it guards its CAs.
    let checkpoints = SigningKey::generate().to_file(None, &**random);
    files.write_atomic(&dir.checkpoint_key(), &checkpoints, 0o600)?;
    Ok(node_root.fingerprint())
}

fn first_authority(
    plan: &Plan,
    signer: &Signer,
    node_root: Digest,
    now_secs: u64,
) -> anyhow::Result<Envelope> {
    let authority = Authority {
        kind: Authority::KIND.to_owned(),
        format: Authority::FORMAT,
        trust_domain: plan.trust_domain.clone(),
        version: 1,
        previous: None,
        issued_secs: now_secs,
        expires_secs: now_secs + AUTHORITY_LIFETIME.as_secs(),
        keys: vec![AuthorityKey {
            id: signer.key_id(),
            algorithm: signer.algorithm(),
            public: signer.public(),
            name: plan.operator.clone(),
            role: Role::Admin,
        }],
        thresholds: Act::REQUIRED
            .into_iter()
            .map(|act| (act, 1))
            .collect::<BTreeMap<_, _>>(),
        revoked: BTreeSet::new(),
        node_roots: BTreeSet::from([node_root]),
    };
    let mut envelope =
        Envelope::unsigned(serde_json::to_vec(&authority).expect("a struct of texts and numbers"));
    signer.sign(Authority::KIND, &mut envelope)?;
    Ok(envelope)
}
