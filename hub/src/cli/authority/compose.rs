//! Composing the next version of the authority: one change to the version that this machine verified. Pure.
//!
//! What is composed is read back by the rule that every agent judges it by ([`TrustedAuthority::read_next`]), so that
//! nothing is put before co-signers that could not stand; this module's own refusals say what to do instead.

use std::collections::BTreeSet;

use holdfast_pki::access::OperatorRequest;
use holdfast_pki::authority::{
    Act, Authority, AuthorityKey, RefuseAuthority, Role, TrustedAuthority, key_id,
};
use holdfast_pki::envelope::Envelope;
use holdfast_proto::ids::Name;

use crate::cli::time::date;

/// One change to an authority.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// An operator comes, with the key in the request.
    Add(OperatorRequest, Role),
    /// An operator goes, and the key counts for nothing any more.
    Remove(Name),
    /// An operator may sign other things.
    Role(Name, Role),
    /// An act needs so many signatures.
    Threshold(Act, u32),
    /// Actions of a kind need as many signatures as any other action.
    DropThreshold(Act),
    /// It ends at another time, in Unix seconds.
    Renew(u64),
}

/// Why a change is not composed. Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefuseChange {
    #[error("the request is for {got}, this fleet is {own}")]
    TrustDomain { got: String, own: String },
    #[error(
        "there is an operator '{0}' already: remove that one first, or have the request made under another name"
    )]
    NameTaken(Name),
    #[error("the key in the request is listed already, for '{0}'")]
    KeyTaken(Name),
    #[error("the key in the request was revoked: a new key is needed (`holdfast context add` makes one)")]
    KeyRevoked,
    #[error("there is no operator '{0}': `holdfast authority show` lists those there are")]
    NoOperator(Name),
    #[error("that is what version {0} says already")]
    NoChange(u64),
    #[error(
        "'{act}' would ask for {needed} signatures where {able} can be given: first lower it \
         (`holdfast authority threshold {act} {able}`), or add another operator who may sign it"
    )]
    Unreachable { act: Act, needed: u32, able: usize },
    #[error(
        "'{0}' would be left without anybody who may sign it: first add another operator, or give one a higher role"
    )]
    Nobody(Act),
    #[error("a threshold is at least 1")]
    Zero,
    #[error("every authority states how many signatures '{0}' needs: give a number")]
    Required(Act),
    #[error("it would end at {}, which is past", date(*.0))]
    Past(u64),
    #[error(transparent)]
    Invalid(#[from] RefuseAuthority),
}

/// The next version with `change` in it, not signed yet.
///
/// # Errors
/// [`RefuseChange`].
pub(super) fn next(held: &TrustedAuthority, change: Change, now_secs: u64) -> Result<Envelope, RefuseChange> {
    let old = held.document();
    let mut next = Authority {
        version: old.version + 1,
        previous: Some(held.pin().digest),
        issued_secs: now_secs,
        ..old.clone()
    };
    make(&mut next, change, now_secs)?;
    let unchanged = Authority {
        version: old.version,
        previous: old.previous,
        issued_secs: old.issued_secs,
        ..next.clone()
    };
    if unchanged == *old {
        return Err(RefuseChange::NoChange(old.version));
    }
    must_be_reachable(&next)?;
    let envelope = Envelope::unsigned(serde_json::to_vec(&next).expect("a struct of texts and numbers"));
    held.read_next(&envelope)?;
    Ok(envelope)
}

fn make(next: &mut Authority, change: Change, now_secs: u64) -> Result<(), RefuseChange> {
    match change {
        Change::Add(request, role) => add(next, request, role)?,
        Change::Remove(name) => {
            let gone: BTreeSet<_> = keys_of(next, &name)?.map(|key| key.id).collect();
            next.keys.retain(|key| !gone.contains(&key.id));
            next.revoked.extend(gone);
        }
        Change::Role(name, role) => {
            keys_of(next, &name)?.for_each(|key| key.role = role);
        }
        Change::Threshold(_, 0) => return Err(RefuseChange::Zero),
        Change::Threshold(act, needed) => {
            next.thresholds.insert(act, needed);
        }
        Change::DropThreshold(act) if Act::REQUIRED.contains(&act) => {
            return Err(RefuseChange::Required(act));
        }
        Change::DropThreshold(act) => {
            next.thresholds.remove(&act);
        }
        Change::Renew(expires_secs) if expires_secs <= now_secs => {
            return Err(RefuseChange::Past(expires_secs));
        }
        Change::Renew(expires_secs) => next.expires_secs = expires_secs,
    }
    Ok(())
}

fn add(next: &mut Authority, request: OperatorRequest, role: Role) -> Result<(), RefuseChange> {
    if request.trust_domain != next.trust_domain {
        return Err(RefuseChange::TrustDomain {
            got: request.trust_domain.to_string(),
            own: next.trust_domain.to_string(),
        });
    }
    let id = key_id(request.algorithm, &request.public);
    if next.revoked.contains(&id) {
        return Err(RefuseChange::KeyRevoked);
    }
    if let Some(same) = next.keys.iter().find(|key| key.id == id) {
        return Err(RefuseChange::KeyTaken(same.name.clone()));
    }
    if next.keys.iter().any(|key| key.name == request.name) {
        return Err(RefuseChange::NameTaken(request.name));
    }
    next.keys.push(AuthorityKey {
        id,
        algorithm: request.algorithm,
        public: request.public,
        name: request.name,
        role,
    });
    Ok(())
}

fn keys_of<'a>(
    authority: &'a mut Authority,
    name: &'a Name,
) -> Result<impl Iterator<Item = &'a mut AuthorityKey>, RefuseChange> {
    if !authority.keys.iter().any(|key| key.name == *name) {
        return Err(RefuseChange::NoOperator(name.clone()));
    }
    Ok(authority.keys.iter_mut().filter(move |key| key.name == *name))
}

/// Every act can still be brought about. An authority that could never change again would have to be left for a new fleet.
fn must_be_reachable(next: &Authority) -> Result<(), RefuseChange> {
    for (act, &needed) in &next.thresholds {
        let able = next.able_to_sign(act).count();
        if able == 0 {
            return Err(RefuseChange::Nobody(act.clone()));
        }
        if usize::try_from(needed).map_or(true, |needed| needed > able) {
            return Err(RefuseChange::Unreachable {
                act: act.clone(),
                needed,
                able,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
