//! What a machine remembers of a fleet, whatever commands run on it at once.

use std::sync::Arc;

use holdfast_pki::authority::Role;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Verified;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::files_testing::{Fault, FaultFiles};
use holdfast_policy::release::Manifest;

use super::*;
use crate::cli::testing::{NOW, Operators, fleet, manifest, name};
use crate::signing_source::SigningSource;

const COMMANDS: u64 = 8;

/// The versions after `first`, each upon the one before.
fn versions(ann: &Operators, first: &TrustedAuthority) -> Vec<TrustedAuthority> {
    let mut versions: Vec<TrustedAuthority> = Vec::new();
    for _ in 0..COMMANDS {
        let held = versions.last().unwrap_or(first);
        let mut next = ann.next(held, |_| {});
        ann.sign("ann", DraftKind::Authority, &mut next);
        versions.push(held.advance(&next).unwrap());
    }
    versions
}

fn release(ann: &Operators, authority: &TrustedAuthority, number: u64) -> Verified<Manifest> {
    let manifest = manifest(number, None, &[]);
    let mut envelope = Envelope::unsigned(serde_json::to_vec(&manifest).unwrap());
    ann.sign("ann", DraftKind::Release, &mut envelope);
    authority.verify(&envelope, &Act::Release, NOW).unwrap()
}

fn context(authority: &TrustedAuthority) -> Context {
    Context {
        format: 1,
        operator: name("ann"),
        signing: SigningSource::File {},
        trust_domain: fleet(),
        hubs: vec!["hub:8443".to_owned()],
        authority: authority.pin(),
        highest: None,
    }
}

#[test]
fn of_commands_at_once_none_takes_back_what_another_verified() {
    let ann = Operators::new(&[("ann", Role::Admin)]);
    let first = ann.authority(&[]);
    let place = tempfile::tempdir().unwrap();
    let dir = ContextDir::new(name("lab"), place.path().to_owned(), Arc::new(SystemFiles));
    dir.write_authority_chain(std::slice::from_ref(first.envelope()))
        .unwrap();
    let begun = context(&first);
    dir.write_context(&begun).unwrap();

    // Each command has read what was remembered before any of them wrote, and comes to know another part.
    let versions = versions(&ann, &first);
    std::thread::scope(|scope| {
        for command in 1..=COMMANDS {
            let (dir, mut context, steps) = (&dir, begun.clone(), &versions[..command as usize]);
            let release = release(&ann, &first, command);
            scope.spawn(move || {
                dir.remember_authority(&mut context, steps).unwrap();
                assert!(context.authority.version > command);
                dir.remember_release(&mut context, &release).unwrap();
                assert!(context.highest.unwrap().generation.number >= command);
            });
        }
    });

    let context = dir.context().unwrap();
    assert_eq!(context.authority, versions.last().unwrap().pin());
    let chain: Vec<_> = dir.authority_chain().unwrap();
    let walked: Vec<_> = std::iter::once(&first)
        .chain(&versions)
        .map(|version| version.envelope().clone())
        .collect();
    assert_eq!(chain, walked, "every version once, in order");
    let highest = context.highest.unwrap();
    assert_eq!(highest.generation.number, COMMANDS);
    assert_eq!(dir.manifest().unwrap().unwrap().digest(), highest.manifest);
}

#[test]
fn a_command_killed_at_any_write_leaves_what_the_next_goes_on_from() {
    let ann = Operators::new(&[("ann", Role::Admin)]);
    let first = ann.authority(&[]);
    let (versions, release) = (versions(&ann, &first), release(&ann, &first, 1));
    let newest = versions.last().unwrap();
    let (files, place) = (FaultFiles::new(), tempfile::tempdir().unwrap());
    let on = |files: FaultFiles| ContextDir::new(name("lab"), place.path().to_owned(), Arc::new(files));
    let remember = |dir: &ContextDir, context: &mut Context| {
        dir.remember_authority(context, &versions)?;
        dir.remember_release(context, &release)
    };

    let dir = on(files.clone());
    dir.write_authority_chain(std::slice::from_ref(first.envelope()))
        .unwrap();
    let begun = context(&first);
    dir.write_context(&begun).unwrap();
    let before = files.calls();
    // On a full disk nothing is lost.
    files.fail_when(|_, _| Some(Fault::no_space(0)));
    remember(&dir, &mut begun.clone()).unwrap_err();
    assert_eq!(
        dir.authority(&dir.context().unwrap().authority).unwrap().pin(),
        first.pin()
    );
    files.heal();
    remember(&dir, &mut begun.clone()).unwrap();

    for calls in before..=files.calls() {
        let dir = on(files.crash_after(calls, |_| Vec::new()));
        let mut context = dir.context().unwrap();
        let held = dir.authority(&context.authority).unwrap();
        assert!([first.pin(), newest.pin()].contains(&held.pin()), "{calls}");
        remember(&dir, &mut context).unwrap();
        assert_eq!(context.authority, newest.pin(), "{calls}");
        assert_eq!(
            dir.authority(&context.authority).unwrap().pin(),
            newest.pin(),
            "{calls}"
        );
        let highest = context.highest.unwrap();
        assert_eq!(
            dir.manifest().unwrap().unwrap().digest(),
            highest.manifest,
            "{calls}"
        );
        let chain = dir.authority_chain().unwrap();
        assert_eq!(chain.len(), versions.len() + 1, "every version once: {calls}");
    }
}
