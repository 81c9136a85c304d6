//! The real `holdfast` program on loopback: init, serve, and what both refuse.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start real processes and wait for them"
)]
#![allow(clippy::unwrap_used, reason = "a panic fails the test, and says where")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::{Hub, wait_until};

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .concat()
        .escape_ascii()
        .to_string()
}

/// Every file below `dir` with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn init_again_changes_nothing_and_says_so() {
    let hub = Hub::new();
    let first = hub.init(&[]);
    assert!(first.status.success(), "{}", text(&first));
    let made = contents(hub.dir.path());
    let again = hub.init(&[]);
    assert!(
        again.status.success() && text(&again).contains("nothing was changed"),
        "{}",
        text(&again)
    );
    assert_eq!(contents(hub.dir.path()), made);
    assert_eq!(
        std::fs::read_dir(hub.dir.path()).unwrap().count(),
        3,
        "nothing is left beside"
    );
}

#[test]
fn the_operators_keys_are_outside_the_hubs_directory_and_sealed() {
    let hub = Hub::new();
    assert!(hub.init(&[]).status.success());
    let key = std::fs::read_to_string(hub.path("operator/contexts/lab.example/signing.key")).unwrap();
    assert!(key.contains("argon2id"), "{key}");
    let hub_files = contents(&hub.path("hub"));
    assert!(hub_files.keys().all(|path| !path.ends_with("signing.key")));
    let credential = std::fs::read_to_string(hub.path("operator/contexts/lab.example/api.pem")).unwrap();
    let (api_key, _) = credential.split_once("-----END PRIVATE KEY-----").unwrap();
    let holds_it = |content: &Vec<u8>| {
        content
            .windows(api_key.len())
            .any(|part| part == api_key.as_bytes())
    };
    assert!(!hub_files.values().any(holds_it));

    let inside = Hub::new();
    let refused = inside.init(&["--operator-dir", inside.path("hub/operator").to_str().unwrap()]);
    assert!(
        !refused.status.success() && text(&refused).contains("outside --dir"),
        "{}",
        text(&refused)
    );
    assert!(!inside.path("hub").exists());
}

#[test]
fn an_open_signing_key_must_be_asked_for() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = Hub::new();
    std::fs::remove_file(hub.path("passphrase")).unwrap();
    let refused = hub.init(&[]);
    assert!(
        !refused.status.success() && text(&refused).contains("passphrase"),
        "{}",
        text(&refused)
    );
    assert!(!hub.path("hub").exists() && !hub.path("operator").exists());
    assert!(hub.init(&["--kdf", "none"]).status.success());
    let mode = |name: &str| std::fs::metadata(hub.path(name)).unwrap().permissions().mode() & 0o777;
    for secret in [
        "operator/contexts/lab.example/signing.key",
        "operator/contexts/lab.example/api.pem",
        "hub/ca/node-root.key",
        "hub/ca/issuing.key",
        "hub/ca/operator-root.key",
        "hub/ca/operator-issuing.key",
        "hub/ca/checkpoint.key",
        "hub/store/journal",
    ] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
}

#[test]
fn an_operators_directory_in_use_is_never_overwritten() {
    let hub = Hub::new();
    std::fs::create_dir_all(hub.path("operator/contexts/lab.example")).unwrap();
    std::fs::write(
        hub.path("operator/contexts/lab.example/signing.key"),
        "another fleet's",
    )
    .unwrap();
    let refused = hub.init(&[]);
    assert!(
        !refused.status.success() && text(&refused).contains("not empty"),
        "{}",
        text(&refused)
    );
    assert_eq!(
        std::fs::read(hub.path("operator/contexts/lab.example/signing.key")).unwrap(),
        b"another fleet's"
    );
    assert!(!hub.path("hub").exists());
}

#[test]
fn a_hub_drains_on_sigterm_and_a_second_on_its_directory_is_refused() {
    let hub = Hub::new();
    assert!(hub.init(&[]).status.success());
    let mut serving = hub.serve();
    let status = hub.holdfast(&["status", "-o", "json"]).output().unwrap();
    assert!(
        status.status.success() && text(&status).contains("lab.example"),
        "{}",
        text(&status)
    );

    let second = hub
        .holdfast(&["serve", "--dir", hub.path("hub").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("lock"), "{}", text(&second));

    let pid = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("the hub ends", || serving.0.try_wait().unwrap().is_some());
    assert!(serving.0.wait().unwrap().success());
    assert!(TcpStream::connect(hub.address).is_err());
    let unreached = hub.holdfast(&["status"]).output().unwrap();
    assert_eq!(unreached.status.code(), Some(1));
    assert!(
        text(&unreached).contains("cannot reach the hub"),
        "{}",
        text(&unreached)
    );
}

#[test]
fn a_restored_hub_serves_and_tells_that_it_holds() {
    let hub = Hub::new();
    assert!(hub.init(&[]).status.success());
    std::fs::rename(hub.path("hub"), hub.path("backup")).unwrap();
    let (dir, backup) = (hub.path("hub"), hub.path("backup"));
    let words = [
        "restore",
        "--dir",
        dir.to_str().unwrap(),
        "--from",
        backup.to_str().unwrap(),
    ];
    let restored = hub.holdfast(&words).output().unwrap();
    assert!(
        restored.status.success() && text(&restored).contains("holdfast epoch raise"),
        "{}",
        text(&restored)
    );
    let again = hub.holdfast(&words).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));

    let _serving = hub.serve();
    let login = hub.holdfast(&["context", "login"]).output().unwrap();
    assert!(login.status.success(), "{}", text(&login));
    let hold = || {
        let shown = hub.holdfast(&["epoch", "show", "-o", "json"]).output().unwrap();
        text(&shown)
    };
    assert!(hold().contains("restored from a backup"), "{}", hold());
    let raised = hub.holdfast(&["epoch", "raise", "--yes"]).output().unwrap();
    assert!(raised.status.success(), "{}", text(&raised));
    assert!(!hold().contains("restored"), "{}", hold());
}

/// A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2): well-formed, but without `supported_versions`.
fn tls12_client_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    hello.extend([1, 0]);
    hello.extend([0, 16]);
    hello.extend([0, 13, 0, 4, 0, 2, 4, 3]); // signature_algorithms: ecdsa_secp256r1_sha256
    hello.extend([0, 10, 0, 4, 0, 2, 0, 29]); // supported_groups: x25519
    let len = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, len + 4, 1, 0, 0, len];
    record.extend(hello);
    record
}

#[test]
fn tls_below_1_3_is_refused() {
    let hub = Hub::new();
    assert!(hub.init(&[]).status.success());
    let _serving = hub.serve();
    let mut stream = TcpStream::connect(hub.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&tls12_client_hello()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // An alert record: fatal (2), protocol_version (70).
    assert_eq!(
        (answer.first(), &answer[answer.len() - 2..]),
        (Some(&21), &[2, 70][..]),
        "{answer:?}"
    );
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let hub = Hub::new();
    for words in [
        &[
            "init",
            "--dir",
            "x",
            "--trust-domain",
            "Not A Domain",
            "--listen",
            "1.2.3.4:5",
            "--advertise",
            "h:1",
        ][..],
        &[
            "init",
            "--dir",
            "x",
            "--trust-domain",
            "a.b",
            "--listen",
            "1.2.3.4",
            "--advertise",
            "h:1",
        ],
        &[
            "init",
            "--dir",
            "x",
            "--trust-domain",
            "a.b",
            "--listen",
            "1.2.3.4:5",
            "--advertise",
            "host",
        ],
        &["token", "create", "--label", "novalue"],
        &["token", "create", "--uses", "0"],
        &["frobnicate"],
    ] {
        let refused = hub.holdfast(words).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{words:?}: {}", text(&refused));
    }
    let missing = hub
        .holdfast(&["serve", "--dir", hub.path("nowhere").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("holdfast init"), "{}", text(&missing));
}
