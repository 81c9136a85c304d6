//! A disk that is full or fails while the store serves.

use holdfast_pki::files_testing::{Call, Fault, FaultFiles};

use super::*;

fn rig() -> (tempfile::TempDir, FaultFiles, JournalStore) {
    let (dir, files) = (tempfile::tempdir().unwrap(), FaultFiles::new());
    let store = open(dir.path(), &files).unwrap();
    (dir, files, store)
}

fn put(value: &str) -> Txn {
    txn().put(format!("t/{value}"), value.as_bytes())
}

#[tokio::test]
async fn a_full_disk_refuses_plainly_and_heals_by_itself() {
    let (dir, files, store) = rig();
    store.commit(put("a")).await.unwrap();
    files.fail_when(|_, call| (call == Call::Append).then_some(Fault::no_space(20)));
    for _ in 0..3 {
        let refused = store.commit(put("b")).await.unwrap_err();
        assert!(refused.is_retryable());
        let said = refused.to_string();
        let path = dir.path().join(JOURNAL);
        for part in [
            "nothing was changed",
            &path.display().to_string(),
            "No space left",
            "free space",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(values(&store).await, ["a"]);
    }
    files.heal();
    store.commit(put("c")).await.unwrap();
    drop(store);
    assert_eq!(values(&open(dir.path(), &files).unwrap()).await, ["a", "c"]);
}

#[tokio::test]
async fn a_write_cut_short_at_any_byte_leaves_nothing_behind() {
    let (dir, files, store) = rig();
    let largest = 1000;
    for kept in 0..largest {
        files.fail_when(move |_, call| (call == Call::Append).then_some(Fault::no_space(kept)));
        store.commit(put("refused")).await.unwrap_err();
        files.heal();
        store
            .commit(txn().put("t/last", kept.to_string().into_bytes()))
            .await
            .unwrap();
    }
    drop(store);
    let reopened = open(dir.path(), &files).unwrap();
    assert_eq!(values(&reopened).await, [(largest - 1).to_string()]);
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_shows_nothing() {
    let (dir, files, store) = rig();
    let seen = store.commit(put("a")).await.unwrap();
    let mut watch = store.watch(seen.next(), Span::prefix("t/")).await.unwrap();
    files.fail_when(|_, call| (call == Call::Sync).then_some(Fault::io()));
    let (one, two, lease) = tokio::join!(
        store.commit(put("b")),
        store.commit(put("c")),
        store.acquire("rollout", "hub-a", Duration::from_secs(10)),
    );
    assert!(matches!(one, Err(CommitError::Unavailable(_))), "{one:?}");
    assert!(matches!(two, Err(CommitError::Unavailable(_))), "{two:?}");
    assert!(matches!(lease, Err(LeaseError::Unavailable(_))), "{lease:?}");
    assert_eq!(values(&store).await, ["a"]);
    files.heal();
    let next = store.commit(put("d")).await.unwrap();
    assert_eq!(next, seen.next(), "no revision was spent");
    assert_eq!(watch.next().await.unwrap().revision, next);
    store
        .acquire("rollout", "hub-b", Duration::from_secs(10))
        .await
        .unwrap();
    drop(store);
    assert_eq!(values(&open(dir.path(), &files).unwrap()).await, ["a", "d"]);
}

#[tokio::test]
async fn what_cannot_be_cut_off_is_an_unknown_outcome() {
    let (dir, files, store) = rig();
    store.commit(put("a")).await.unwrap();
    files.fail_when(|_, call| matches!(call, Call::Sync | Call::Truncate).then_some(Fault::io()));
    let unknown = store.commit(put("b")).await;
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    // The next one never reaches the file.
    let refused = store.commit(put("c")).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    let crashed = files.crash_after(files.calls(), <[u8]>::to_vec);
    files.heal();
    store.commit(put("d")).await.unwrap();
    drop(store);
    assert_eq!(values(&open(dir.path(), &files).unwrap()).await, ["a", "d"]);
    assert_eq!(values(&open(dir.path(), &crashed).unwrap()).await, ["a", "b"]);
}

/// Whichever call fails, once: what was acknowledged is there after a restart, and nothing that was refused.
#[tokio::test]
async fn any_single_call_may_fail() {
    for failing in 0.. {
        let (dir, files) = (tempfile::tempdir().unwrap(), FaultFiles::new());
        files.fail_when(move |number, _| (number == failing).then_some(Fault::io()));
        let mut acknowledged = Vec::new();
        if let Ok(store) = open(dir.path(), &files) {
            for value in ["a", "b", "c", "d"] {
                match store.commit(put(value)).await {
                    Ok(_) => acknowledged.push(value),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
            assert_eq!(values(&store).await, acknowledged, "call {failing}");
        }
        if files.calls() <= failing {
            assert_eq!(acknowledged.len(), 4, "the run without a failure");
            break;
        }
        files.heal();
        let reopened = open(dir.path(), &files).unwrap();
        assert_eq!(values(&reopened).await, acknowledged, "call {failing}");
    }
}
