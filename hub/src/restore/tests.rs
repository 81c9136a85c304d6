use std::os::unix::fs::PermissionsExt as _;

use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::random::SystemRandom;

use super::*;
use crate::cli::signer::NewSigner;
use crate::init::{self, Plan};
use crate::store::audit::{AuditEntry, PENDING};

fn machine() -> Machine {
    Machine {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        files: Arc::new(SystemFiles),
    }
}

/// A hub's directory, as `holdfast init` makes it.
async fn hub(dir: &Path) -> PathBuf {
    let plan = Plan {
        dir: dir.join("hub"),
        operator_dir: dir.join("operator"),
        operator: "ann".parse().unwrap(),
        trust_domain: "lab.example".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: vec!["127.0.0.1:1".to_owned()],
    };
    let key = || Ok(NewSigner::in_file(None, &SystemRandom));
    init::init(&plan, &machine(), key).await.unwrap();
    plan.dir
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_restored_hub_is_whole_and_held_and_its_audit_list_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let copy = hub(dir.path()).await;
    // What a copy may have picked up, and what is kept elsewhere.
    std::fs::write(copy.join("notes.txt"), "not ours").unwrap();
    std::fs::write(copy.join("store/journal.part"), "left by a crash").unwrap();
    std::fs::remove_file(copy.join("ca/node-root.key")).unwrap();
    let journal = std::fs::read(copy.join("store/journal")).unwrap();
    assert!(
        journal
            .windows(access::PREFIX.len())
            .any(|part| part == access::PREFIX.as_bytes()),
        "the first operator's certificate is in the copy"
    );

    let place = dir.path().join("restored");
    let restored = restore(&place, &copy, &machine()).await.unwrap();
    assert_eq!((restored.epoch, restored.release), (1, None));
    assert_eq!(entries(&place), ["ca", "hub.toml", "store"]);
    assert_eq!(entries(&place.join("store")), ["journal", "lock"]);
    let mode = |name: &str| std::fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777;
    for secret in [
        "ca/issuing.key",
        "ca/operator-issuing.key",
        "ca/checkpoint.key",
        "store/journal",
    ] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    assert_eq!(
        (mode("."), mode("ca"), mode("ca/issuing.crt"), mode("hub.toml")),
        (0o700, 0o700, 0o644, 0o644)
    );
    assert_eq!(
        std::fs::read(copy.join("store/journal")).unwrap(),
        journal,
        "the copy is not written to"
    );
    assert_eq!(
        entries(dir.path()),
        ["hub", "operator", "restored"],
        "nothing is left beside"
    );

    let lock = DirLock::acquire(&place.join("store")).unwrap();
    let store = JournalStore::open(lock, &SystemFiles, Arc::new(SystemClock)).unwrap();
    let registry = Registry::new(Arc::new(store));
    let held = hold::read(&registry).await.unwrap().unwrap();
    assert!(held.reason().starts_with("restored from a backup"), "{held}");
    let lists = registry.all(access::PREFIX).await.unwrap();
    assert!(lists.is_empty(), "what was revoked since would be let in again");
    let audited = registry.all(PENDING).await.unwrap();
    let what = |entry: &crate::store::key::Entry| AuditEntry::from_bytes(&entry.value).unwrap().what;
    assert!(audited.iter().any(|entry| what(entry) == "restore hub"));
}

#[tokio::test]
async fn a_place_that_is_taken_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let copy = hub(dir.path()).await;
    let place = dir.path().join("taken");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("something"), "of somebody's").unwrap();
    let refused = restore(&place, &copy, &machine()).await.unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    assert_eq!(entries(&place), ["something"]);
}

#[tokio::test]
async fn a_copy_that_is_not_whole_leaves_nothing_behind_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let copy = hub(dir.path()).await;
    let place = dir.path().join("restored");
    for missing in [
        "ca/checkpoint.key",
        "ca/issuing.key",
        "ca/operator-root.crt",
        "store/journal",
        "hub.toml",
    ] {
        let kept = std::fs::read(copy.join(missing)).unwrap();
        std::fs::remove_file(copy.join(missing)).unwrap();
        let refused = restore(&place, &copy, &machine()).await.unwrap_err();
        let told = format!("{refused:#}");
        assert!(told.contains(missing), "{told}");
        assert_eq!(entries(dir.path()), ["hub", "operator"], "{missing}");
        std::fs::write(copy.join(missing), kept).unwrap();
    }
    let path = copy.join("store/journal");
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[40] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    restore(&place, &copy, &machine()).await.unwrap_err();
    assert_eq!(entries(dir.path()), ["hub", "operator"]);
}

#[tokio::test]
async fn a_directory_that_a_hub_serves_from_is_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let copy = hub(dir.path()).await;
    let _serving = DirLock::acquire(&copy.join("store")).unwrap();
    let refused = restore(&dir.path().join("restored"), &copy, &machine())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("a hub serves from"), "{refused}");
}
