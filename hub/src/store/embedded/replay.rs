//! Reading a journal through: which records count, and whether its end is a torn write or damage.

use std::time::Duration;

use super::disk::Failed;
use super::writer::BATCH_BYTES_MAX;
use crate::store::index::{Index, Mutation, Stage};
use crate::store::journal::{HEADER_BYTES, Record, Undecodable, decode};

/// Carries out on `index` what `file` holds behind its header, and returns how long its good part is.
pub(super) fn replay(file: &[u8], index: &mut Index) -> Result<u64, Failed> {
    let mut at = HEADER_BYTES;
    while at < file.len() {
        match decode(&file[at..]) {
            Ok((record, bytes)) => {
                follow(index, record, at)?;
                at += bytes;
            }
            Err(reason) => {
                check_torn(file, at, reason)?;
                break;
            }
        }
    }
    // Whoever held a lease lived in the process that wrote this.
    index.end_leases();
    Ok(at as u64)
}

/// Carries out one record if it can come after those before it.
fn follow(index: &mut Index, record: Record, at: usize) -> Result<(), Failed> {
    let expected = index.revision().next();
    if record.revision != expected {
        let found = record.revision;
        return Err(damaged(
            at,
            format!("revision {expected} should be here, not {found}"),
        ));
    }
    if let Mutation::Txn(txn) = &record.mutation {
        // The conditions under which it was accepted hold again, or the records before it are not those it followed. Its
        // lease cannot be judged: that depended on the clock.
        Stage::new(index, Duration::ZERO)
            .check(txn.preconditions())
            .map_err(|conflict| damaged(at, conflict.to_string()))?;
    }
    index.apply(record.mutation, Duration::ZERO);
    Ok(())
}

/// Whether the bad record at `at` is the remains of a write that was never acknowledged.
fn check_torn(file: &[u8], at: usize, reason: Undecodable) -> Result<(), Failed> {
    let left = file.len() - at;
    if !reason.may_be_torn() {
        return Err(damaged(at, reason.to_string()));
    }
    if left > BATCH_BYTES_MAX {
        return Err(damaged(
            at,
            format!("{reason}, and {left} bytes follow, more than one write has"),
        ));
    }
    // A bad length does not say where the next record begins, so each place is tried. The checksum is computed only
    // where format and length are plausible.
    let written_later = (at + 1..file.len()).find(|later| {
        decode(&file[*later..])
            .is_ok_and(|(record, _)| (at as u64) < record.synced && record.synced <= *later as u64)
    });
    match written_later {
        Some(later) => Err(damaged(
            at,
            format!(
                "{reason}, and the good record at byte {later} was written when it was already on the disk"
            ),
        )),
        None => Ok(()),
    }
}

fn damaged(at: usize, reason: String) -> Failed {
    Failed::Damaged {
        offset: at as u64,
        reason,
    }
}
