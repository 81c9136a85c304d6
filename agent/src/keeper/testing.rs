//! A keeper for tests: its disk is in memory, its hub is a fake one, and it touches no host.

use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::files_testing::FaultFiles;
use holdfast_pki::random::SeededRandom;
use holdfast_proto::ids::Generation;
use holdfast_proto::v1;
use tokio::sync::mpsc;

use super::Keeper;
use crate::ceiling::Ceiling;
use crate::change::Host;
use crate::guard::launch::HostLauncher;
use crate::testing::hub::FakeHub;
use crate::testing::{Operators, own};

/// A keeper that has just joined, and what it reports.
pub(crate) fn keeper(operators: &Operators, hub: &FakeHub) -> (Keeper, mpsc::Receiver<v1::Report>) {
    keeper_on(&FaultFiles::new(), operators, hub)
}

/// The same, on a disk that the test holds.
pub(crate) fn keeper_on(
    files: &FaultFiles,
    operators: &Operators,
    hub: &FakeHub,
) -> (Keeper, mpsc::Receiver<v1::Report>) {
    let host = Host {
        state_dir: "/state".into(),
        files: Arc::new(files.clone()),
        clock: hub.clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        launcher: HostLauncher::Session("/nonexistent".into()),
        guard_time: Duration::from_secs(5),
    };
    let ledger = operators.ledger(Generation::default());
    host.save(&ledger).unwrap();
    let (reports, told) = mpsc::channel(16);
    let ceiling = Ceiling::new("/nonexistent/agent.toml");
    let look_every = Duration::from_secs(30);
    let keeper = Keeper::new(host, ceiling, ledger, hub.dialer(), own(), reports, look_every);
    (keeper, told)
}
