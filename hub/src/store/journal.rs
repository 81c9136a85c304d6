//! The journal's format, byte for byte. Pure: bytes in, records out, and back.
//!
//! All numbers are little-endian. A file is a header and records, without gaps.
//!
//! ```text
//! header   magic        8  "HFJOURNL"
//!          format       4  1
//!          checksum     4  CRC-32 (IEEE) of the 12 bytes before it
//!
//! record   format       1  1
//!          length       4  of the body
//!          checksum     4  CRC-32 (IEEE) of the 5 bytes before it and of the body
//!          body
//!
//! body     synced       8  bytes of the file that were on the disk for certain when this record was written
//!          revision     8
//!          kind         1  1 transaction, 2 grant of a lease
//!
//! transaction           fence          1  0 none, 1 there is one:
//!                                         name (text), term (8)
//!                       preconditions  2  how many; each: key (text), 1 absent | 2 exists | 3 revision (8)
//!                       operations     2  how many; each: key (text), 1 put (4 length, value) | 2 delete
//! grant                 lease (text), holder (text), time to live in milliseconds (8)
//!
//! text                  2 length, bytes
//! ```
//!
//! `synced` is what tells a torn write from damage. Several records are written and synced at once, and a power cut may
//! keep the later ones of them and lose the earlier. So a bad record with good ones after it is torn if those were
//! written when it was not yet on the disk, and damage to acknowledged data if it was. What cannot be told apart is
//! damage inside the very last batch: it reads as torn.

use super::index::{Grant, Mutation};
use super::key::{Key, Revision};
use super::lease::{NAME_BYTES_MAX, Term};
use super::txn::{self, Fence, KEY_BYTES_MAX, OPERATIONS_MAX, Operation, Precondition, Txn};

use std::time::Duration;

/// The file's format, and that of its records.
pub(super) const FORMAT: u32 = 1;
const RECORD_FORMAT: u8 = 1;
const MAGIC: [u8; 8] = *b"HFJOURNL";
/// The length of the file's header.
pub(super) const HEADER_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 9;
/// The largest body: a transaction's keys and values, and at most 11 bytes around each of 128 steps, under 4 KiB in all
/// with the fence.
const BODY_BYTES_MAX: usize = txn::BYTES_MAX + 4096;
/// The largest record.
pub(super) const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + BODY_BYTES_MAX;

/// One revision as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The file's length that was on the disk for certain when the record was written.
    pub(super) synced: u64,
    pub(super) revision: Revision,
    pub(super) mutation: Mutation,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undecodable {
    #[error("the record is incomplete")]
    Incomplete,
    #[error("the record's length is impossible")]
    Length,
    #[error("the record's checksum is wrong")]
    Checksum,
    /// Whole and checked, so that it was written like this: by a newer version.
    #[error("the record has format {0}, this version reads {RECORD_FORMAT}; upgrade the hub")]
    Format(u8),
    /// Whole and checked, but not what any version writes.
    #[error("the record's contents make no sense")]
    Body,
}

impl Undecodable {
    /// Whether a write cut short leaves this behind.
    pub(super) const fn may_be_torn(self) -> bool {
        matches!(self, Self::Incomplete | Self::Length | Self::Checksum)
    }
}

/// Why a file is no journal that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is something else, or damaged.
    Magic,
    /// A journal of another format.
    Format(u32),
}

/// The header of a new file.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Checks the header at the beginning of `file`.
pub(super) fn check_header(file: &[u8]) -> Result<(), BadHeader> {
    let mut reader = Reader(file);
    let found = (|| Some((reader.array::<8>()?, reader.u32()?, reader.u32()?)))();
    match found {
        Some((MAGIC, format, checksum)) if checksum == crc32fast::hash(&file[..12]) => match format {
            FORMAT => Ok(()),
            other => Err(BadHeader::Format(other)),
        },
        _ => Err(BadHeader::Magic),
    }
}

/// Adds a record to `bytes`.
pub(super) fn encode(bytes: &mut Vec<u8>, synced: u64, revision: Revision, mutation: &Mutation) {
    let start = bytes.len();
    bytes.push(RECORD_FORMAT);
    // The length and the checksum follow once the body is there.
    bytes.extend([0; RECORD_HEADER_BYTES - 1]);
    bytes.extend(synced.to_le_bytes());
    bytes.extend(revision.get().to_le_bytes());
    match mutation {
        Mutation::Txn(txn) => {
            bytes.push(1);
            encode_txn(bytes, txn);
        }
        Mutation::Grant(grant) => {
            bytes.push(2);
            put_text(bytes, grant.lease.as_bytes());
            put_text(bytes, grant.holder.as_bytes());
            let millis = u64::try_from(grant.ttl.as_millis()).unwrap_or(u64::MAX);
            bytes.extend(millis.to_le_bytes());
        }
    }
    let body_bytes = bytes.len() - start - RECORD_HEADER_BYTES;
    bytes[start + 1..start + 5].copy_from_slice(&length::<4>(body_bytes));
    let checksum = checksum(&bytes[start..start + 5], &bytes[start + RECORD_HEADER_BYTES..]);
    bytes[start + 5..start + 9].copy_from_slice(&checksum.to_le_bytes());
}

fn encode_txn(bytes: &mut Vec<u8>, txn: &Txn) {
    bytes.push(u8::from(txn.fence().is_some()));
    if let Some(fence) = txn.fence() {
        put_text(bytes, fence.lease.as_bytes());
        bytes.extend(fence.term.get().to_le_bytes());
    }
    bytes.extend(length::<2>(txn.preconditions().len()));
    for (key, precondition) in txn.preconditions() {
        put_text(bytes, key.as_bytes());
        match precondition {
            Precondition::Absent => bytes.push(1),
            Precondition::Exists => bytes.push(2),
            Precondition::Revision(revision) => {
                bytes.push(3);
                bytes.extend(revision.get().to_le_bytes());
            }
        }
    }
    bytes.extend(length::<2>(txn.operations().len()));
    for operation in txn.operations() {
        put_text(bytes, operation.key().as_bytes());
        match operation {
            Operation::Put(_, value) => {
                bytes.push(1);
                bytes.extend(length::<4>(value.len()));
                bytes.extend_from_slice(value);
            }
            Operation::Delete(_) => bytes.push(2),
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend(length::<2>(text.len()));
    bytes.extend_from_slice(text);
}

/// The low `N` bytes of a length.
fn length<const N: usize>(length: usize) -> [u8; N] {
    let bytes = length.to_le_bytes();
    debug_assert!(
        bytes[N..].iter().all(|byte| *byte == 0),
        "only validated transactions are encoded"
    );
    std::array::from_fn(|at| bytes[at])
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

/// Reads the record at the beginning of `bytes`, and how long it is.
pub(super) fn decode(bytes: &[u8]) -> Result<(Record, usize), Undecodable> {
    let mut reader = Reader(bytes);
    let header = (|| Some((reader.u8()?, reader.u32()?, reader.u32()?)))();
    let (format, body_bytes, found) = header.ok_or(Undecodable::Incomplete)?;
    let body_bytes = usize::try_from(body_bytes).unwrap_or(usize::MAX);
    if body_bytes > BODY_BYTES_MAX {
        return Err(Undecodable::Length);
    }
    let body = reader.bytes(body_bytes).ok_or(Undecodable::Incomplete)?;
    if found != checksum(&bytes[..5], body) {
        return Err(Undecodable::Checksum);
    }
    if format != RECORD_FORMAT {
        return Err(Undecodable::Format(format));
    }
    let record = decode_body(body).ok_or(Undecodable::Body)?;
    Ok((record, RECORD_HEADER_BYTES + body_bytes))
}

fn decode_body(body: &[u8]) -> Option<Record> {
    let mut reader = Reader(body);
    let synced = reader.u64()?;
    let revision = Revision::new(reader.u64()?);
    let mutation = match reader.u8()? {
        1 => Mutation::Txn(decode_txn(&mut reader)?),
        2 => Mutation::Grant(Grant {
            lease: reader.name()?,
            holder: reader.name()?,
            ttl: Duration::from_millis(reader.u64()?),
        }),
        _ => return None,
    };
    reader.0.is_empty().then_some(Record {
        synced,
        revision,
        mutation,
    })
}

fn decode_txn(reader: &mut Reader<'_>) -> Option<Txn> {
    let fence = match reader.u8()? {
        0 => None,
        1 => Some(Fence {
            lease: reader.name()?,
            term: Term::new(reader.u64()?),
        }),
        _ => return None,
    };
    let preconditions = reader.list(|reader| {
        let key = reader.key()?;
        let precondition = match reader.u8()? {
            1 => Precondition::Absent,
            2 => Precondition::Exists,
            3 => Precondition::Revision(Revision::new(reader.u64()?)),
            _ => return None,
        };
        Some((key, precondition))
    })?;
    let operations = reader.list(|reader| {
        let key = reader.key()?;
        match reader.u8()? {
            1 => {
                let value_bytes = reader.u32()?;
                let value = reader.bytes(usize::try_from(value_bytes).ok()?)?;
                Some(Operation::Put(key, value.into()))
            }
            2 => Some(Operation::Delete(key)),
            _ => None,
        }
    })?;
    Some(Txn::from_parts(fence, preconditions, operations))
}

/// Takes values off the front; None where there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.0.split_first_chunk()?;
        self.0 = left;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, bytes_max: usize) -> Option<&'a [u8]> {
        let count = usize::from(self.u16()?);
        (count <= bytes_max).then(|| self.bytes(count))?
    }

    fn key(&mut self) -> Option<Key> {
        self.text(KEY_BYTES_MAX).map(Key::from)
    }

    fn name(&mut self) -> Option<String> {
        String::from_utf8(self.text(NAME_BYTES_MAX)?.to_vec()).ok()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::from(self.u16()?);
        (count <= OPERATIONS_MAX).then(|| (0..count).map(|_| item(self)).collect())?
    }
}

#[cfg(test)]
mod tests;
