//! Runs a test again inside a network namespace of its own, where nft is real and nobody else's rules are in reach.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use holdfast_agent::firewall::kernel;
use holdfast_agent::firewall::listing::Listing;
use holdfast_agent::firewall::resource::FirewallTable;
use holdfast_pki::files::{Files, SystemFiles};

/// Set to the test's name in the process that runs inside.
const INSIDE: &str = "HOLDFAST_TEST_NAMESPACE";

/// Runs `body` of the test called `name` inside a new network namespace; skips loudly where none can be had.
pub(crate) fn inside(name: &str, body: impl Future<Output = ()>) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(body);
    }
    let Some(unshare) = [&["--net"][..], &["--user", "--map-root-user", "--net"]]
        .into_iter()
        .find(|args| {
            let trial = Command::new("unshare")
                .args(*args)
                .args(["nft", "list", "ruleset"])
                .output();
            trial.is_ok_and(|output| output.status.success())
        })
    else {
        return skip(name, "no network namespace with nft in it can be made here");
    };
    let inner = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout) + String::from_utf8_lossy(&inner.stderr);
    assert!(inner.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test is called {name}: {said}");
}

/// Said past the test runner, which would keep a passing test's words to itself; `cargo xtask test` counts it.
fn skip(name: &str, reason: &str) {
    // One write: the lines of tests that run at once do not mix.
    let line = format!("SKIP {name}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The machine's own files, as the agent takes them.
pub(crate) fn files() -> Arc<dyn Files> {
    Arc::new(SystemFiles)
}

/// Our table, with its memory in `dir`.
pub(crate) fn table(dir: &Path) -> FirewallTable {
    FirewallTable::new(files(), dir)
}

/// Our table as the kernel holds it now.
pub(crate) async fn held() -> Option<Listing> {
    kernel::list().await.unwrap().map(|objects| Listing::of(&objects))
}

/// Runs a program to success and returns what it said.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}
