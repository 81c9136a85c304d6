//! The guard against the real nft: the real program guards, the agent is a process that is killed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start programs of their own, and fail by panicking"
)]

mod namespace;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use holdfast_agent::firewall::kernel;
use holdfast_agent::firewall::resource::FirewallTable;
use holdfast_agent::guard::commit::{ArmError, Armed, ConfirmError, Recovered, arm, forget, recover};
use holdfast_agent::guard::file::{GuardPath, State};
use holdfast_agent::guard::launch::{HostLauncher, Launched, Launcher};
use holdfast_agent::host::exec::ExecError;
use holdfast_agent::reconcile::{Resource as _, Snapshot, converge};
use holdfast_pki::clock::{SystemClock, TestClock};
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_policy::firewall::{Firewall, Verdict};
use holdfast_proto::ids::UniqueId;
use tempfile::TempDir;

use namespace::{files, held, inside, sh, table};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(600);

fn firewall(outbound_default: Verdict) -> Option<Firewall> {
    Some(Firewall {
        groups: [].into(),
        inbound: vec![],
        outbound: vec![],
        outbound_default,
    })
}

/// The confirmed state, and the change that cuts everything off.
fn open() -> Option<Firewall> {
    firewall(Verdict::Allow)
}
fn closed() -> Option<Firewall> {
    firewall(Verdict::Deny)
}

fn session() -> HostLauncher {
    HostLauncher::Session(env!("CARGO_BIN_EXE_holdfast-agent").into())
}

async fn capture(state_dir: &Path) -> Vec<Snapshot> {
    let mut resource = table(state_dir);
    let plan = FirewallTable::diff(&closed(), &resource.observe().await.unwrap());
    vec![resource.capture(&plan).await.unwrap()]
}

/// What the agent does: capture, arm, apply.
async fn change(state_dir: &Path, launcher: &impl Launcher, time: Duration) -> Armed {
    let id = SystemRandom.unique_id();
    let snapshots = capture(state_dir).await;
    let armed = arm(&files(), &SystemClock, launcher, state_dir, id, time, snapshots)
        .await
        .unwrap();
    converge(&mut table(state_dir), &closed()).await.unwrap();
    armed
}

/// A node in its confirmed state.
async fn node() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    converge(&mut table(dir.path()), &open()).await.unwrap();
    dir
}

async fn is_in_sync(state_dir: &Path, desired: &Option<Firewall>) -> bool {
    let plan = FirewallTable::diff(desired, &table(state_dir).observe().await.unwrap());
    holdfast_agent::reconcile::Steps::is_empty(&plan)
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(
        waited.await.is_ok(),
        "{what} did not happen; rules now:\n{}",
        sh("nft list ruleset")
    );
}

async fn until_state(state_dir: &Path, id: UniqueId, wanted: State) {
    let place = GuardPath::new(state_dir, id);
    until(&format!("{wanted:?}"), async || place.state() == Some(wanted)).await;
}

/// How many guards live in this namespace.
fn guards() -> usize {
    let network = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
    let own = network(Path::new("/proc/self"));
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    processes
        .filter(|process| network(process) == own)
        .filter_map(|process| std::fs::read_to_string(process.join("cmdline")).ok())
        .filter(|line| line.contains("holdfast-agent\0guard\0"))
        .count()
}

/// A launcher whose guards the test can kill, and which tells the agent nothing of them, as systemd does.
#[derive(Debug, Default)]
struct Killable(Mutex<Option<Child>>);

impl Launcher for Killable {
    async fn launch(&self, place: &GuardPath) -> Result<Launched, ExecError> {
        let guard = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"))
            .args(["guard".as_ref(), place.at(State::Armed).as_os_str()])
            .stdout(Stdio::null())
            .spawn();
        *self.0.lock().unwrap() = Some(guard.unwrap());
        Ok(Launched::Unit)
    }
}

impl Killable {
    fn kill(&self) {
        let mut guard = self.0.lock().unwrap().take().unwrap();
        guard.kill().unwrap();
        guard.wait().unwrap();
    }
}

#[test]
fn a_change_that_nobody_confirms_is_undone() {
    inside("a_change_that_nobody_confirms_is_undone", async {
        let dir = node().await;
        let before = held().await;
        let armed = change(dir.path(), &session(), SHORT).await;
        assert_ne!(held().await, before);
        until_state(dir.path(), armed.id(), State::Undone).await;
        assert_eq!(held().await, before);
        assert!(
            is_in_sync(dir.path(), &open()).await,
            "what was loaded is remembered as before"
        );
        let id = armed.id();
        assert!(matches!(armed.confirm(), Err(ConfirmError::LostRace { id: lost }) if lost == id));
    });
}

#[test]
fn a_confirmed_change_stays_and_its_guard_ends() {
    inside("a_confirmed_change_stays_and_its_guard_ends", async {
        let dir = node().await;
        let time = Duration::from_secs(2);
        let armed = change(dir.path(), &session(), time).await;
        assert_eq!(guards(), 1);
        let after = held().await;
        let id = armed.confirm().unwrap().id();
        until("the end of the guard", async || guards() == 0).await;
        tokio::time::sleep(time).await;
        assert_eq!(held().await, after, "past the deadline");
        let found = recover(&files(), &SystemClock, dir.path()).await.unwrap();
        assert!(matches!(found[..], [Recovered::Confirmed(found)] if found == id));
        forget(&*files(), dir.path(), id).unwrap();
        assert!(
            recover(&files(), &SystemClock, dir.path())
                .await
                .unwrap()
                .is_empty()
        );
    });
}

/// Set to the state directory in the process that stands in for the agent.
const STAND_IN: &str = "HOLDFAST_TEST_STAND_IN";

/// Starts this very test again as the agent: it arms, applies and then waits to be killed.
fn stand_in(name: &str, state_dir: &Path, stdout: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(STAND_IN, state_dir)
        .stdout(stdout)
        // Its terminal's group, which is killed whole: the guard must not be in it.
        .process_group(0)
        .spawn()
        .unwrap()
}

/// One that has loaded its rules, and the id of its commit.
fn applied(name: &str, state_dir: &Path) -> (Child, UniqueId) {
    let mut agent = stand_in(name, state_dir, Stdio::piped());
    let mut said = BufReader::new(agent.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let id = said.find_map(|line| line.strip_prefix("applied ")?.parse().ok());
    (agent, id.unwrap())
}

async fn act_as_agent(state_dir: PathBuf) {
    let armed = change(&state_dir, &session(), SHORT).await;
    println!("\napplied {}", armed.id());
    std::future::pending().await
}

fn kill_group(mut agent: Child) {
    let group = rustix::process::Pid::from_child(&agent);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    agent.wait().unwrap();
}

#[test]
fn an_agent_killed_between_apply_and_confirm_is_undone_by_the_guard() {
    let name = "an_agent_killed_between_apply_and_confirm_is_undone_by_the_guard";
    inside(name, async {
        if let Some(state_dir) = std::env::var_os(STAND_IN) {
            return act_as_agent(state_dir.into()).await;
        }
        let dir = node().await;
        let before = held().await;
        let (agent, id) = applied(name, dir.path());
        assert_ne!(held().await, before);
        kill_group(agent);
        until_state(dir.path(), id, State::Undone).await;
        assert_eq!(held().await, before);
    });
}

#[test]
fn an_agent_killed_at_any_moment_leaves_the_old_state() {
    let name = "an_agent_killed_at_any_moment_leaves_the_old_state";
    inside(name, async {
        if let Some(state_dir) = std::env::var_os(STAND_IN) {
            return act_as_agent(state_dir.into()).await;
        }
        let whole = {
            let dir = node().await;
            let start = Instant::now();
            let (agent, _) = applied(name, dir.path());
            kill_group(agent);
            start.elapsed()
        };
        let mut changed = 0;
        for tenths in 0..=14 {
            let dir = node().await;
            let before = held().await;
            let agent = stand_in(name, dir.path(), Stdio::null());
            tokio::time::sleep(whole * tenths / 10).await;
            kill_group(agent);
            changed += usize::from(held().await != before);
            until("the end of the guard", async || guards() == 0).await;
            for found in recover(&files(), &SystemClock, dir.path()).await.unwrap() {
                assert!(
                    matches!(found, Recovered::Undone(_)),
                    "killed at {tenths}/10: {found:?}"
                );
            }
            assert_eq!(held().await, before, "killed at {tenths}/10");
        }
        assert!(changed > 0, "no kill came after the rules were loaded");
    });
}

#[test]
fn an_undo_without_waiting_is_the_guards_or_ours() {
    inside("an_undo_without_waiting_is_the_guards_or_ours", async {
        let dir = node().await;
        let before = held().await;
        change(dir.path(), &session(), LONG)
            .await
            .undo_now()
            .await
            .unwrap();
        assert_eq!(held().await, before, "by the living guard");
        let launcher = Killable::default();
        let armed = change(dir.path(), &launcher, LONG).await;
        assert_ne!(held().await, before);
        launcher.kill();
        armed.undo_now().await.unwrap();
        assert_eq!(held().await, before, "by ourselves, the guard being dead");
    });
}

#[test]
fn a_commit_whose_guard_died_is_undone_at_the_next_start() {
    inside("a_commit_whose_guard_died_is_undone_at_the_next_start", async {
        let dir = node().await;
        let before = held().await;
        let launcher = Killable::default();
        let id = change(dir.path(), &launcher, LONG).await.id();
        let found = recover(&files(), &SystemClock, dir.path()).await.unwrap();
        assert!(
            matches!(&found[..], [Recovered::Pending(armed)] if armed.id() == id),
            "while the guard lives"
        );
        assert_ne!(held().await, before);
        launcher.kill();
        let found = recover(&files(), &SystemClock, dir.path()).await.unwrap();
        assert!(matches!(found[..], [Recovered::Undone(found)] if found == id));
        assert_eq!(held().await, before);
    });
}

#[test]
fn an_undo_that_was_cut_short_is_finished_at_the_next_start() {
    inside(
        "an_undo_that_was_cut_short_is_finished_at_the_next_start",
        async {
            let dir = node().await;
            let before = held().await;
            let launcher = Killable::default();
            let id = change(dir.path(), &launcher, LONG).await.id();
            launcher.kill();
            let place = GuardPath::new(dir.path(), id);
            place.advance(&*files(), State::Armed, State::Undoing).unwrap();
            recover(&files(), &SystemClock, dir.path()).await.unwrap();
            assert_eq!((held().await, place.state()), (before, Some(State::Undone)));
        },
    );
}

/// Stands for a guard that dies with the machine.
#[derive(Debug, Default)]
struct UntilPowerCut(Mutex<Option<holdfast_agent::guard::file::Hold>>);

impl Launcher for UntilPowerCut {
    async fn launch(&self, place: &GuardPath) -> Result<Launched, ExecError> {
        *self.0.lock().unwrap() = place.hold(State::Armed).unwrap();
        Ok(Launched::Unit)
    }
}

#[test]
fn a_reboot_is_an_undo() {
    inside("a_reboot_is_an_undo", async {
        let dir = node().await;
        let before = held().await;
        let (clock, launcher) = (TestClock::at(1_800_000_000), UntilPowerCut::default());
        let id = SystemRandom.unique_id();
        let snapshots = capture(dir.path()).await;
        let armed = arm(&files(), &clock, &launcher, dir.path(), id, LONG, snapshots)
            .await
            .unwrap();
        converge(&mut table(dir.path()), &closed()).await.unwrap();
        drop((armed, launcher));
        clock.reboot("boot-2");
        sh("nft delete table inet holdfast");
        let found = recover(&files(), &clock, dir.path()).await.unwrap();
        assert!(matches!(found[..], [Recovered::Undone(found)] if found == id));
        assert_eq!(held().await, before);
        assert!(is_in_sync(dir.path(), &open()).await);
    });
}

#[test]
fn a_guard_that_finds_another_boot_undoes_at_once() {
    inside("a_guard_that_finds_another_boot_undoes_at_once", async {
        let dir = node().await;
        let before = held().await;
        let id = SystemRandom.unique_id();
        let snapshots = capture(dir.path()).await;
        converge(&mut table(dir.path()), &closed()).await.unwrap();
        // Written in another boot, as far as the real guard can tell.
        let armed = arm(
            &files(),
            &TestClock::at(0),
            &session(),
            dir.path(),
            id,
            LONG,
            snapshots,
        )
        .await;
        drop(armed);
        until_state(dir.path(), id, State::Undone).await;
        assert_eq!(held().await, before);
    });
}

#[test]
fn a_snapshot_that_cannot_be_restored_opens_rather_than_locks_out() {
    inside(
        "a_snapshot_that_cannot_be_restored_opens_rather_than_locks_out",
        async {
            let dir = node().await;
            let launcher = Killable::default();
            let id = change(dir.path(), &launcher, LONG).await.id();
            launcher.kill();
            let file = GuardPath::new(dir.path(), id).at(State::Armed);
            std::fs::write(file, "{\"format\":1,").unwrap();
            recover(&files(), &SystemClock, dir.path()).await.unwrap();
            assert!(kernel::list().await.unwrap().is_none());
        },
    );
}

#[test]
fn without_a_guard_nothing_is_armed() {
    inside("without_a_guard_nothing_is_armed", async {
        let dir = node().await;
        for program in ["/nonexistent/holdfast-agent", "/bin/false"] {
            let launcher = HostLauncher::Session(program.into());
            let id = SystemRandom.unique_id();
            let armed = arm(&files(), &SystemClock, &launcher, dir.path(), id, LONG, vec![]).await;
            assert!(matches!(armed, Err(ArmError::Launch(_))), "{armed:?}");
            assert!(
                recover(&files(), &SystemClock, dir.path())
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
    });
}
