//! Damage: what is no torn write is never cut off, and the refusal says where it is.

use std::path::PathBuf;

use holdfast_pki::files_testing::FaultFiles;

use super::*;
use crate::store::embedded::writer::BATCH_BYTES_MAX;

/// A journal of transactions that were synced one by one.
struct Sound {
    dir: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where each record begins, and where the last one ends.
    bounds: Vec<usize>,
}

const RECORDS: usize = 5;

async fn sound() -> Sound {
    let (dir, files) = (tempfile::tempdir().unwrap(), FaultFiles::new());
    let path = dir.path().join(JOURNAL);
    let store = open(dir.path(), &files).unwrap();
    let mut bounds = vec![journal::HEADER_BYTES];
    for number in 0..RECORDS {
        let value = number.to_string();
        let change = txn().put(format!("t/{number}"), value.as_bytes());
        store.commit(change).await.unwrap();
        bounds.push(files.read(&path).unwrap().len());
    }
    drop(store);
    let bytes = files.read(&path).unwrap();
    Sound {
        dir,
        path,
        bytes,
        bounds,
    }
}

impl Sound {
    /// Opens the store over other bytes.
    fn open(&self, bytes: &[u8]) -> Result<JournalStore, OpenError> {
        let files = FaultFiles::new();
        files.write_atomic(&self.path, bytes, 0o600).unwrap();
        open(self.dir.path(), &files)
    }

    /// Opens the store over damaged bytes, and returns the offset and the words of the refusal.
    fn refused(&self, bytes: &[u8]) -> (usize, String) {
        let error = self.open(bytes).unwrap_err();
        let said = error.to_string();
        match error {
            OpenError::Damaged { path, offset, .. } if path == self.path => {
                (usize::try_from(offset).unwrap(), said)
            }
            _ => panic!("{said}"),
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_in_front_of_the_last_record_is_refused_with_its_place() {
    let sound = sound().await;
    for at in journal::HEADER_BYTES..sound.bounds[RECORDS - 1] {
        let mut bytes = sound.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let (offset, said) = sound.refused(&bytes);
        let record = sound.bounds.iter().rfind(|start| **start <= at).unwrap();
        assert_eq!(offset, *record, "byte {at}: {said}");
        assert!(
            said.contains("from a backup") && said.contains(&format!("at byte {offset}")),
            "{said}"
        );
    }
}

/// The one place where damage and a torn write look alike: the store takes it for torn, and loses no other record.
#[tokio::test]
async fn a_flipped_bit_in_the_last_record_costs_that_record_alone() {
    let sound = sound().await;
    for at in sound.bounds[RECORDS - 1]..sound.bounds[RECORDS] {
        let mut bytes = sound.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let store = sound.open(&bytes).unwrap();
        assert_eq!(values(&store).await, ["0", "1", "2", "3"], "byte {at}");
    }
}

#[tokio::test]
async fn noise_at_the_end_is_cut_off_unless_it_is_more_than_one_write() {
    let sound = sound().await;
    let noise: Vec<u8> = (0..=BATCH_BYTES_MAX).map(|at| (at % 251) as u8).collect();
    let torn = [&*sound.bytes, &noise[..1000]].concat();
    assert_eq!(values(&sound.open(&torn).unwrap()).await.len(), RECORDS);
    let (offset, said) = sound.refused(&[&*sound.bytes, &noise].concat());
    assert_eq!(offset, sound.bytes.len());
    assert!(said.contains("more than one write"), "{said}");
}

#[tokio::test]
async fn a_record_out_of_its_place_is_refused() {
    let sound = sound().await;
    let [from, to] = [sound.bounds[1], sound.bounds[2]];
    let missing = [&sound.bytes[..from], &sound.bytes[to..]].concat();
    let (offset, said) = sound.refused(&missing);
    assert_eq!(offset, from);
    assert!(said.contains("revision 2 should be here, not 3"), "{said}");
    let doubled = [&sound.bytes[..to], &sound.bytes[from..]].concat();
    assert_eq!(sound.refused(&doubled).0, to);
}

#[tokio::test]
async fn a_record_of_a_newer_version_is_not_cut_off() {
    let sound = sound().await;
    let mut bytes = sound.bytes.clone();
    let start = sound.bounds[RECORDS - 1];
    bytes[start] = 2;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[start..start + 5]);
    hasher.update(&bytes[start + 9..]);
    bytes[start + 5..start + 9].copy_from_slice(&hasher.finalize().to_le_bytes());
    let (offset, said) = sound.refused(&bytes);
    assert_eq!(offset, start);
    assert!(said.contains("format 2") && said.contains("upgrade"), "{said}");
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_left_alone() {
    let sound = sound().await;
    for bytes in [&b""[..], b"HFJOURN", b"something else entirely"] {
        let error = sound.open(bytes).unwrap_err();
        assert!(matches!(error, OpenError::NotAJournal { .. }), "{error}");
    }
    let mut newer = journal::header();
    newer[8] = 9;
    let checksum = crc32fast::hash(&newer[..12]);
    newer[12..].copy_from_slice(&checksum.to_le_bytes());
    let error = sound.open(&newer).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 9, .. }), "{error}");
}
