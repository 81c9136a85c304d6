//! Reading a release: what it changes in the current one, rule by rule.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_pki::envelope::{Envelope, Verified, parse_payload};
use holdfast_policy::plan::diff_slices;
use holdfast_policy::release::{Manifest, SliceRef};
use holdfast_policy::selector::Selector;
use holdfast_policy::slice::Slice;
use holdfast_proto::ids::{Digest, Generation, TrustDomain};

use super::{Reading, RefuseDocument, of_fleet};
use crate::cli::output::left;
use crate::cli::session::Release;
use crate::cli::time::date;

/// What this machine has verified, and a release is held against.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) fleet: TrustDomain,
    pub(super) authority_version: u64,
    pub(super) epoch: u64,
    pub(super) current: Option<&'a Release>,
}

/// Reads a release, given the bytes' meaning of every slice that it or the current one names.
pub(super) fn read(
    ground: &Ground<'_>,
    envelope: &Envelope,
    slices: &BTreeMap<Digest, Slice>,
) -> Result<Reading, RefuseDocument> {
    let manifest: Manifest = parse_payload(&envelope.payload)?;
    of_fleet(&manifest.trust_domain, &ground.fleet)?;
    let got = manifest.generation();
    let current = ground.current.map(|release| &release.manifest);
    if current.is_some_and(|current| current.digest() == envelope.digest()) {
        return Ok(Reading {
            title: format!("release {got} of {}", ground.fleet),
            lines: vec![
                "it is the current release: a signature is added, and nothing else changes".to_owned(),
            ],
        });
    }
    judge(ground, &manifest)?;
    let mut lines = vec![format!(
        "made {}, by {} as it says",
        date(manifest.created_secs),
        manifest.author
    )];
    lines.push(match current {
        Some(current) => format!("after release {}, verified here", current.value().generation()),
        None => "the first release".to_owned(),
    });
    if let Some(back) = &manifest.return_to {
        lines.push(format!(
            "nodes may go back to the one before it for {}",
            left(back.within_secs)
        ));
    }
    let held = current
        .map(|current| current.value().slices.as_slice())
        .unwrap_or_default();
    lines.extend(changes(held, &manifest.slices, slices)?);
    Ok(Reading {
        title: format!("release {got} of {}", ground.fleet),
        lines,
    })
}

/// Reads what the hub shows as the current release, for whoever endorses it on a machine that never verified it: against
/// the highest that was `seen` here, or whole.
///
/// What came between is not known here, so that its number is only held to be a later one of the same history.
pub(super) fn read_unknown(
    ground: &Ground<'_>,
    seen: Option<&Release>,
    manifest: &Manifest,
    slices: &BTreeMap<Digest, Slice>,
) -> Result<Reading, RefuseDocument> {
    of_fleet(&manifest.trust_domain, &ground.fleet)?;
    let got = manifest.generation();
    let seen = seen.map(|release| &release.manifest);
    // One that this machine knows better is no current release, whatever the hub shows.
    if let Some(seen) = seen
        .map(|seen| seen.value().generation())
        .filter(|seen| *seen >= got)
    {
        return Err(RefuseDocument::Forgotten { got, seen });
    }
    must_be_of_now(ground, manifest)?;
    let mut lines = vec![
        "the hub shows it as the current release; too few of those who sign now have signed it, and this machine has \
         never verified it"
            .to_owned(),
        match seen {
            Some(seen) => format!(
                "against release {}, the highest that was verified here:",
                seen.value().generation()
            ),
            None => "all of it, as if nothing were in force:".to_owned(),
        },
    ];
    let held = seen
        .map(|seen| seen.value().slices.as_slice())
        .unwrap_or_default();
    lines.extend(changes(held, &manifest.slices, slices)?);
    if let Some(back) = &manifest.return_to {
        let within = left(back.within_secs);
        lines.push(match seen {
            Some(seen) if seen.digest() == back.manifest => format!(
                "nodes may go back from it to release {}, verified here, for {within}",
                seen.value().generation()
            ),
            _ => format!(
                "! nodes may go back from it to release {}, never seen here, for {within}",
                back.manifest
            ),
        });
    }
    Ok(Reading {
        title: format!("release {got} of {}", ground.fleet),
        lines,
    })
}

/// The release is of the epoch that is proven, and asks for no authority that nobody knows.
fn must_be_of_now(ground: &Ground<'_>, manifest: &Manifest) -> Result<(), RefuseDocument> {
    let got = manifest.generation();
    if got.epoch != ground.epoch {
        let epoch = ground.epoch;
        return Err(RefuseDocument::ReleaseEpoch { got, epoch });
    }
    if manifest.authority_version > ground.authority_version {
        return Err(RefuseDocument::AuthorityVersion {
            got,
            asked: manifest.authority_version,
            newest: ground.authority_version,
        });
    }
    Ok(())
}

/// The release follows the one that was verified here, in its fleet, epoch and number.
fn judge(ground: &Ground<'_>, manifest: &Manifest) -> Result<(), RefuseDocument> {
    let got = manifest.generation();
    let current = ground.current.map(|release| &release.manifest);
    if manifest.previous != current.map(|current| current.digest()) {
        let base = current.map_or_else(
            || "nothing".to_owned(),
            |current| format!("{} ({})", current.value().generation(), current.digest().short()),
        );
        return Err(RefuseDocument::Base { got, base });
    }
    let wanted = next_generation(current, ground.epoch);
    if wanted != Some(got) {
        return Err(RefuseDocument::Number { got, wanted });
    }
    must_be_of_now(ground, manifest)?;
    let back = manifest.return_to.as_ref().map(|back| back.manifest);
    if back.is_some() && back != manifest.previous {
        return Err(RefuseDocument::Return { got });
    }
    Ok(())
}

/// What a release after `before` in `epoch` is numbered: numbers go on through epochs, so that one number names one release
/// for people, and begin anew in the next epoch once there is none left.
pub(in crate::cli) fn next_generation(before: Option<&Verified<Manifest>>, epoch: u64) -> Option<Generation> {
    let number = match before.map(Verified::value) {
        None => Some(1),
        Some(before) if before.number == u64::MAX && before.epoch < epoch => Some(1),
        Some(before) => before.number.checked_add(1),
    };
    number.map(|number| Generation { epoch, number })
}

/// The slices that come, go or change, each with its rules.
fn changes(
    held: &[SliceRef],
    wanted: &[SliceRef],
    slices: &BTreeMap<Digest, Slice>,
) -> Result<Vec<String>, RefuseDocument> {
    let by_selector = |listed: &[SliceRef]| -> Result<BTreeMap<Selector, Slice>, RefuseDocument> {
        listed
            .iter()
            .map(|listed| Ok((listed.selector.clone(), meant(listed, slices)?.clone())))
            .collect()
    };
    let (held, wanted) = (by_selector(held)?, by_selector(wanted)?);
    let selectors: BTreeSet<_> = held.keys().chain(wanted.keys()).collect();
    let mut lines = Vec::new();
    let mut unchanged = 0;
    for selector in selectors {
        let (old, new) = (held.get(selector), wanted.get(selector));
        if old == new {
            unchanged += 1;
            continue;
        }
        let sign = match (old, new) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        };
        lines.push(format!("{sign} nodes {selector}:"));
        let rules = diff_slices(old, new);
        if rules.is_empty() {
            lines.push("    the same rules, from other lines of the policy".to_owned());
        }
        lines.extend(rules.iter().map(|rule| format!("    {rule}")));
    }
    match unchanged {
        0 => {}
        1 => lines.push("1 slice stays as it is".to_owned()),
        more => lines.push(format!("{more} slices stay as they are")),
    }
    Ok(lines)
}

/// The slice that a manifest lists, if the bytes under its digest are that one.
fn meant<'a>(listed: &SliceRef, slices: &'a BTreeMap<Digest, Slice>) -> Result<&'a Slice, RefuseDocument> {
    let slice = slices.get(&listed.digest);
    // The slice is keyed by the digest of its bytes; a node would refuse it under another selector or length, too.
    slice
        .filter(|slice| SliceRef::of(slice) == *listed)
        .ok_or_else(|| RefuseDocument::Slice {
            selector: listed.selector.clone(),
            digest: listed.digest,
        })
}

#[cfg(test)]
mod tests;
