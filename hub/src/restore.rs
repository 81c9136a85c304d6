//! `holdfast restore`: puts a copy of a hub's directory in place, and holds the hub that will serve from it.
//!
//! The copy is old by nature: the fleet may have gone on since. So the store is marked before anybody can serve from it,
//! and no release goes out until operators have looked and raised the epoch; and no API certificate of the copy is let in,
//! for it may have been revoked. The directory is built beside its place, read as `holdfast serve` reads it, and renamed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use holdfast_pki::files::Files;
use holdfast_proto::ids::{Generation, TrustDomain};

use crate::authority::Newest;
use crate::ca::HubCa;
use crate::config::{CaName, Config, HubDir};
use crate::hold::{self, Finding, Hold};
use crate::place::{absolute, beside, must_be_free, put_in_place};
use crate::registry::{Registry, to_record};
use crate::serve::{Machine, local_audit};
use crate::store::embedded::JournalStore;
use crate::store::lock::DirLock;
use crate::store::txn::Txn;
use crate::{access, checkpoints, epoch, releases};

/// What was put in place.
#[derive(Debug)]
pub struct Restored {
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The epoch that must be raised.
    pub epoch: u64,
    /// The newest release that the copy knows.
    pub release: Option<Generation>,
}

/// Restores the hub in `copy` into `dir`, which is new or empty.
///
/// # Errors
/// What stands in the way, or what the copy lacks. Nothing is left half-made, and the copy is not written to.
pub async fn restore(dir: &Path, copy: &Path, machine: &Machine) -> anyhow::Result<Restored> {
    must_be_free(dir, "hub's directory (--dir)")?;
    let source = HubDir::new(absolute(copy)?);
    if !source.config().exists() {
        bail!(
            "{} is no copy of a hub's directory: there is no hub.toml in it",
            copy.display()
        );
    }
    if DirLock::is_held(&source.store()) {
        bail!(
            "a hub serves from {}: stop it, and restore from a copy of its directory",
            copy.display()
        );
    }
    let part = beside(dir, "restore")?;
    let restored = build(&source, &HubDir::new(&part), machine).await;
    if restored.is_err() {
        // Ours alone: the name carries this process's id.
        let _ = std::fs::remove_dir_all(&part);
    }
    let restored = restored.with_context(|| format!("{} cannot be restored", copy.display()))?;
    put_in_place(&part, dir, &*machine.files)?;
    Ok(restored)
}

async fn build(source: &HubDir, part: &HubDir, machine: &Machine) -> anyhow::Result<Restored> {
    let Machine { clock, random, files } = machine;
    let config = Config::read(source, &**files)?;
    let ca_dir = part.path().join("ca");
    for dir in [part.path(), &ca_dir, &part.store()] {
        let made = files.create_dir(dir);
        made.with_context(|| format!("cannot make {}", dir.display()))?;
    }
    for (from, to) in contents(source).iter().zip(contents(part)) {
        copy_file(from, &to.path, &**files)?;
    }

    // Read as `serve` will, so that a copy which cannot be served from is told now.
    checkpoints::load_key(part, &**files)?;
    HubCa::load(part, &config, &**files, clock.clone(), random.clone())?;
    let store = JournalStore::open(DirLock::acquire(&part.store())?, &**files, clock.clone())?;
    let registry = Registry::new(Arc::new(store));
    Newest::reach(registry.clone(), &config.authority).await?;
    let release = releases::current(&registry).await?;

    let epoch = epoch::current(&registry).await?;
    let reason = format!("restored from a backup, {}", source.path().display());
    let findings = BTreeMap::from([(Finding::Restored, reason)]);
    let hold = Hold::new(findings, epoch, clock.unix_secs());
    let (id, entry) = local_audit(&config, machine, "restore hub", hold::KEY.to_owned());
    let txn = Txn::new(&id, &entry).put(hold::KEY, to_record(&hold));
    registry.store().commit(txn).await?;
    end_access(&registry, &config, machine).await?;
    Ok(Restored {
        trust_domain: config.trust_domain,
        epoch,
        release: release.map(|release| release.manifest.generation()),
    })
}

/// Lets no API certificate in that the copy lists: some were revoked since it was made. Whoever may sign logs in anew.
async fn end_access(registry: &Registry, config: &Config, machine: &Machine) -> anyhow::Result<()> {
    for entry in registry.all(access::PREFIX).await? {
        let (id, audit) = local_audit(config, machine, "revoke access", entry.key.to_string());
        registry
            .store()
            .commit(Txn::new(&id, &audit).delete(entry.key))
            .await?;
    }
    Ok(())
}

/// A file of a hub's directory.
struct Part {
    path: PathBuf,
    mode: u32,
    /// Whether a hub can serve without it.
    may_be_elsewhere: bool,
}

/// What belongs into a hub's directory, the settings last: where they are, the hub is complete.
fn contents(dir: &HubDir) -> Vec<Part> {
    let part = |path, mode, may_be_elsewhere| Part {
        path,
        mode,
        may_be_elsewhere,
    };
    let mut parts = Vec::new();
    for ca in CaName::ALL {
        let (certificate, key) = dir.ca(ca);
        parts.push(part(certificate, 0o644, false));
        parts.push(part(key, 0o600, !ca.is_served_with()));
    }
    parts.push(part(dir.checkpoint_key(), 0o600, false));
    parts.push(part(dir.journal(), 0o600, false));
    parts.push(part(dir.config(), 0o644, false));
    parts
}

fn copy_file(from: &Part, to: &Path, files: &dyn Files) -> anyhow::Result<()> {
    let bytes = match files.read(&from.path) {
        Ok(bytes) => zeroize::Zeroizing::new(bytes),
        Err(error) if from.may_be_elsewhere && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", from.path.display())),
    };
    files
        .write_atomic(to, &bytes, from.mode)
        .with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests;
