//! Power cuts: after any call, with any part of what was not synced.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use holdfast_pki::files_testing::{Call, FaultFiles};
use tokio::task::JoinSet;

use super::*;

/// How many the recorded run has.
const TRANSACTIONS: usize = 8;

/// A transaction that is easily seen to be whole: two keys with one value.
fn pair(number: usize) -> Txn {
    let value = number.to_string().into_bytes();
    txn()
        .put(format!("t/{number}/a"), value.clone())
        .put(format!("t/{number}/b"), value)
}

/// A finished run, and after how many calls each of its transactions was acknowledged.
struct Recorded {
    dir: tempfile::TempDir,
    files: FaultFiles,
    acknowledged: BTreeMap<usize, usize>,
}

/// Holds each write back until it is let go, so that a test knows what the next group is.
struct Gate {
    arrived: Receiver<()>,
    go: Sender<()>,
}

fn gate(files: &FaultFiles) -> Gate {
    let ((arrive, arrived), (go, gone)) = (channel(), channel());
    files.fail_when(move |_, call| {
        if call == Call::Append {
            arrive.send(()).unwrap();
            gone.recv().unwrap();
        }
        None
    });
    Gate { arrived, go }
}

/// Two rounds, each of one transaction alone and then, while that is written, a group of three.
async fn record() -> Recorded {
    let (dir, files) = (tempfile::tempdir().unwrap(), FaultFiles::new());
    let store = Arc::new(open(dir.path(), &files).unwrap());
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let gate = gate(&files);
    let mut tasks = JoinSet::new();
    for round in 0..2 {
        let first = round * 4;
        for number in first..first + 4 {
            let (store, files, acknowledged) = (store.clone(), files.clone(), acknowledged.clone());
            tasks.spawn(async move {
                store.commit(pair(number)).await.unwrap();
                acknowledged.lock().unwrap().insert(number, files.calls());
            });
            // On this runtime of one thread: the task hands its transaction over, then waits.
            tokio::task::yield_now().await;
            if number == first {
                gate.arrived.recv().unwrap();
            }
        }
        gate.go.send(()).unwrap();
        gate.arrived.recv().unwrap();
        gate.go.send(()).unwrap();
        while tasks.join_next().await.is_some() {}
    }
    drop(store);
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert_eq!(acknowledged.len(), TRANSACTIONS);
    Recorded {
        dir,
        files,
        acknowledged,
    }
}

impl Recorded {
    /// Cuts the power after `calls` calls, opens what is left, and holds it to what was promised by then.
    async fn check(&self, calls: usize, survives: impl Fn(&[u8]) -> Vec<u8>) {
        let crashed = self.files.crash_after(calls, survives);
        let store = open(self.dir.path(), &crashed).unwrap();
        let mut seen = Vec::new();
        for number in 0..TRANSACTIONS {
            let halves = values_of(&store, number).await;
            assert!(
                halves.is_empty() || halves.len() == 2,
                "half of {number} after call {calls}"
            );
            seen.push(!halves.is_empty());
            let promised = self.acknowledged[&number] <= calls;
            assert!(
                !promised || !halves.is_empty(),
                "{number} is lost after call {calls}"
            );
        }
        assert!(
            seen.is_sorted_by(|a, b| a >= b),
            "a later one without an earlier: {seen:?}"
        );
        // And it goes on from there.
        let before = values(&store).await;
        store.commit(txn().put("t/~", *b"next")).await.unwrap();
        drop(store);
        let reopened = open(self.dir.path(), &crashed).unwrap();
        let wanted = [before, vec!["next".to_owned()]].concat();
        assert_eq!(values(&reopened).await, wanted);
    }
}

async fn values_of(store: &JournalStore, number: usize) -> Vec<Entry> {
    let span = Span::prefix(format!("t/{number}/"));
    store.range(&span, 3).await.unwrap().entries
}

#[tokio::test]
async fn every_prefix_of_a_run_reopens_with_all_that_was_acknowledged() {
    let run = record().await;
    for calls in 0..=run.files.calls() {
        for kept in 0..=run.files.unsynced_after(calls) {
            run.check(calls, |unsynced| unsynced[..kept.min(unsynced.len())].to_vec())
                .await;
        }
    }
}

/// The disk may write the later pages of a group and not the earlier: good records then follow a bad one.
#[tokio::test]
async fn a_group_that_lost_its_front_is_torn_and_not_damaged() {
    let run = record().await;
    for calls in 0..=run.files.calls() {
        // Steps smaller than any record.
        for lost in (0..=run.files.unsynced_after(calls)).step_by(13) {
            let zeroed = |unsynced: &[u8]| {
                let lost = lost.min(unsynced.len());
                [&vec![0; lost], &unsynced[lost..]].concat()
            };
            run.check(calls, zeroed).await;
        }
    }
}

/// A killed process leaves what it appended in the kernel's memory. Who opens it shows it to readers, so it must be on
/// the disk by then.
#[tokio::test]
async fn what_a_reopened_store_shows_survives_the_next_power_cut() {
    let run = record().await;
    for calls in 0..=run.files.calls() {
        // A disk whose files end with what was appended and not synced.
        let path = run.dir.path().join(JOURNAL);
        let Ok(bytes) = run.files.crash_after(calls, <[u8]>::to_vec).read(&path) else {
            continue;
        };
        let synced = run.files.crash_after(calls, |_| Vec::new()).read(&path).unwrap();
        let killed = FaultFiles::new();
        killed.write_atomic(&path, &synced, 0o600).unwrap();
        killed
            .open_log(&path)
            .unwrap()
            .append(&bytes[synced.len()..])
            .unwrap();
        let shown = values(&open(run.dir.path(), &killed).unwrap()).await;
        let cut = killed.crash_after(killed.calls(), |_| Vec::new());
        assert_eq!(values(&open(run.dir.path(), &cut).unwrap()).await, shown);
    }
}
