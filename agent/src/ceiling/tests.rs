use std::os::unix::fs::PermissionsExt as _;

use holdfast_policy::firewall::{Firewall, Verdict};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::host::Chain;

fn desired(firewall: bool) -> DesiredState {
    DesiredState {
        firewall: firewall.then(|| Firewall {
            groups: [].into(),
            inbound: vec![],
            outbound: vec![],
            outbound_default: Verdict::Allow,
        }),
        keeps: vec![],
        moving: [].into(),
    }
}

/// A ceiling of this test's own, and where it is.
fn ceiling(text: &str) -> (TempDir, Ceiling) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    (dir, Ceiling::new(path))
}

/// What is said of a firewall under this ceiling; empty if it is permitted.
fn told(ceiling: &Ceiling) -> String {
    let refused = ceiling.permit(desired(true), false).err();
    refused.map_or_else(String::new, |refused| Chain(&refused).to_string())
}

#[test]
fn without_a_file_all_but_actions_is_allowed() {
    let (dir, _) = ceiling("");
    let none = Ceiling::new(dir.path().join("none.toml"));
    assert_eq!(
        none.read().unwrap().to_string(),
        "firewall, dns, hardening, certificate, metrics"
    );
    assert_eq!(told(&none), "");
}

#[test]
fn what_root_does_not_list_is_refused_with_file_line_and_word() {
    let (_dir, ceiling) = ceiling("# ours\n\nallow = [\n  \"metrics\",\n]\n");
    let told = told(&ceiling);
    assert!(told.contains("agent.toml:3 does not allow 'firewall'"), "{told}");
}

#[test]
fn what_root_changes_counts_at_once() {
    let (dir, ceiling) = ceiling("allow = [\"firewall\"]");
    assert_eq!(told(&ceiling), "");
    std::fs::write(dir.path().join("agent.toml"), "allow = []").unwrap();
    assert!(told(&ceiling).contains("'firewall'"));
}

#[test]
fn a_state_without_a_firewall_is_refused_only_where_it_would_remove_one() {
    let (_dir, ceiling) = ceiling("allow = []");
    assert!(ceiling.permit(desired(false), false).is_ok());
    assert!(ceiling.permit(desired(false), true).is_err());
}

#[test]
fn a_mistyped_word_is_told_with_its_place_and_the_nearest_one() {
    let (_dir, mistyped) = ceiling("allow = [\n  \"metrics\",\n  \"firewal\"]");
    let told_of = told(&mistyped);
    assert!(
        told_of.contains("agent.toml:3: there is no 'firewal' to allow; did you mean 'firewall'?"),
        "{told_of}"
    );
    let (_dir, far) = ceiling("allow = [\"printer\"]");
    assert!(told(&far).contains("one of firewall, dns,"), "{}", told(&far));
}

#[test]
fn a_file_that_is_wrong_allows_nothing() {
    for (text, words) in [
        ("", "agent.toml:1: missing field `allow`"),
        ("\nalow = []", "agent.toml:2: unknown field `alow`"),
        (
            "allow = [\"firewall\"]\nmore = 1",
            "agent.toml:2: unknown field `more`",
        ),
        ("allow = \"firewall\"", "agent.toml:1: "),
        ("allow = [1]", "agent.toml:1: "),
        ("allow = [\"firewall\"", "agent.toml:1: "),
    ] {
        let (_dir, ceiling) = ceiling(text);
        assert!(told(&ceiling).contains(words), "{text}: {}", told(&ceiling));
    }
    let (dir, binary) = ceiling("");
    std::fs::write(dir.path().join("agent.toml"), b"\n\xff").unwrap();
    assert!(
        told(&binary).contains("agent.toml:2: no text"),
        "{}",
        told(&binary)
    );
    let (_dir, large) = ceiling(&"#".repeat(70_000));
    assert!(told(&large).contains("more than"), "{}", told(&large));
}

#[test]
fn a_file_that_others_may_write_is_no_word_of_roots() {
    for mode in [0o664, 0o646, 0o666] {
        let (dir, ceiling) = ceiling("allow = [\"firewall\"]");
        let path = dir.path().join("agent.toml");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let told = told(&ceiling);
        assert!(
            told.contains("writable by others") && told.contains("chmod go-w"),
            "{told}"
        );
    }
}

#[test]
fn a_file_of_somebody_elses_is_no_word_of_roots() {
    assert!(may_own(0, 0) && may_own(1000, 1000) && may_own(0, 1000));
    assert!(!may_own(1000, 0) && !may_own(1001, 1000));
    let (dir, ceiling) = ceiling("allow = [\"firewall\"]");
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path().join("agent.toml"), Some(1000), None).unwrap();
        let told = told(&ceiling);
        assert!(
            told.contains("belongs to user 1000, where user 0 must own it"),
            "{told}"
        );
    }
}

#[test]
fn a_link_a_directory_and_a_pipe_are_not_read() {
    let (dir, _) = ceiling("allow = [\"firewall\"]");
    let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
    std::os::unix::fs::symlink(dir.path().join("agent.toml"), &link).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(told(&Ceiling::new(&link)).contains("is a symbolic link"));
    assert!(told(&Ceiling::new(dir.path())).contains("no regular file"));
    assert!(told(&Ceiling::new(&pipe)).contains("no regular file"));
    // A link to nothing is a file that is wrong, not one that is missing.
    std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
    assert!(told(&Ceiling::new(dir.path().join("dangling"))).contains("is a symbolic link"));
}

proptest! {
    #[test]
    fn whatever_the_file_says_only_what_it_lists_is_allowed(text in "\\PC{0,80}", listed in prop::sample::subsequence(Word::ALL.to_vec(), 0..=6)) {
        let path = Path::new("agent.toml");
        // Hardly any text is a ceiling, and none makes the agent panic.
        if let Ok(allowed) = parse(path, &text) {
            prop_assert!(text.contains("allow"), "{allowed}");
        }
        let words: Vec<_> = listed.iter().map(|word| format!("'{word}'")).collect();
        let allowed = parse(path, &format!("allow = [{}]", words.join(","))).unwrap();
        prop_assert_eq!(allowed.words, listed.into_iter().collect::<BTreeSet<_>>());
    }
}
