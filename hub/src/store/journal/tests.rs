//! The format: what is written reads back, and nothing else reads as a record.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::store::index::Mutation;

fn key() -> impl Strategy<Value = Key> {
    vec(any::<u8>(), 1..40).prop_map(|bytes| Key::from(bytes.as_slice()))
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        Just(Precondition::Absent),
        Just(Precondition::Exists),
        any::<u64>().prop_map(|revision| Precondition::Revision(Revision::new(revision))),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (key(), vec(any::<u8>(), 0..200)).prop_map(|(key, value)| Operation::Put(key, value.into())),
        key().prop_map(Operation::Delete),
    ]
}

fn fence() -> impl Strategy<Value = Fence> {
    ("[a-z]{1,20}", any::<u64>()).prop_map(|(lease, term)| Fence {
        lease,
        term: Term::new(term),
    })
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let txn = (
        proptest::option::of(fence()),
        vec((key(), precondition()), 0..6),
        vec(operation(), 0..6),
    );
    let grant = ("[a-z]{1,20}", "\\PC{1,20}", any::<u64>());
    prop_oneof![
        txn.prop_map(|(fence, preconditions, operations)| {
            Mutation::Txn(Txn::from_parts(fence, preconditions, operations))
        }),
        grant.prop_map(|(lease, holder, millis)| {
            let ttl = Duration::from_millis(millis);
            Mutation::Grant(Grant { lease, holder, ttl })
        }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (any::<u64>(), any::<u64>(), mutation()).prop_map(|(synced, revision, mutation)| Record {
        synced,
        revision: Revision::new(revision),
        mutation,
    })
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, record.synced, record.revision, &record.mutation);
    bytes
}

proptest! {
    #[test]
    fn a_record_reads_back_as_written(record in record(), behind in vec(any::<u8>(), 0..40)) {
        let bytes = encoded(&record);
        let length = bytes.len();
        prop_assert_eq!(decode(&[bytes, behind].concat()), Ok((record, length)));
    }

    #[test]
    fn any_flipped_bit_is_noticed(record in record()) {
        let mut bytes = encoded(&record);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&bytes).unwrap_err();
            prop_assert!(error.may_be_torn(), "bit {}: {}", bit, error);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn any_truncation_is_an_incomplete_record(record in record()) {
        let bytes = encoded(&record);
        for length in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..length]), Err(Undecodable::Incomplete));
        }
    }

    #[test]
    fn noise_is_no_record_and_no_panic(noise in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&noise).is_err());
        prop_assert_eq!(check_header(&noise), Err(BadHeader::Magic));
    }

    /// Past the checksum nothing is trusted either.
    #[test]
    fn a_body_of_noise_is_no_panic(noise in vec(any::<u8>(), 0..200), kind in 1..3u8) {
        let mut body = noise;
        if let Some(byte) = body.get_mut(16) {
            *byte = kind;
        }
        if let Ok((record, _)) = decode(&framed(RECORD_FORMAT, &body)) {
            prop_assert_eq!(encoded(&record), framed(RECORD_FORMAT, &body), "one record, one encoding");
        }
    }
}

/// A whole record with a right checksum around `body`.
fn framed(format: u8, body: &[u8]) -> Vec<u8> {
    let head = [&[format][..], &length::<4>(body.len())].concat();
    let checksum = checksum(&head, body).to_le_bytes();
    [&head, &checksum[..], body].concat()
}

/// The documented layout, written by hand: a change of the format has to change this and the format's number.
#[test]
fn the_format_is_as_documented() {
    let body = [
        &[16, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1][..], // synced, revision, kind
        &[1, 1, 0, b'l', 5, 0, 0, 0, 0, 0, 0, 0],                  // fence
        &[2, 0, 1, 0, b'a', 1, 1, 0, b'b', 3, 6, 0, 0, 0, 0, 0, 0, 0], // preconditions
        &[2, 0, 1, 0, b'a', 1, 2, 0, 0, 0, b'h', b'i', 1, 0, b'b', 2], // operations
    ]
    .concat();
    let fence = Fence {
        lease: "l".to_owned(),
        term: Term::new(5),
    };
    let preconditions = vec![
        ("a".into(), Precondition::Absent),
        ("b".into(), Precondition::Revision(Revision::new(6))),
    ];
    let operations = vec![
        Operation::Put("a".into(), b"hi"[..].into()),
        Operation::Delete("b".into()),
    ];
    let record = Record {
        synced: 16,
        revision: Revision::new(7),
        mutation: Mutation::Txn(Txn::from_parts(Some(fence), preconditions, operations)),
    };
    assert_eq!(encoded(&record), framed(1, &body));
    assert_eq!(&header()[..12], b"HFJOURNL\x01\0\0\0");
}

#[test]
fn a_newer_format_is_said_to_be_so() {
    let newer = framed(2, b"whatever it holds");
    assert_eq!(decode(&newer), Err(Undecodable::Format(2)));
    let mut file = header();
    file[8] = 2;
    assert_eq!(
        check_header(&file),
        Err(BadHeader::Magic),
        "a flipped bit is no format"
    );
    let checksum = crc32fast::hash(&file[..12]);
    file[12..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(check_header(&file), Err(BadHeader::Format(2)));
}

#[test]
fn an_impossible_length_is_refused_before_it_is_read() {
    let mut bytes = framed(RECORD_FORMAT, b"body");
    bytes[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Err(Undecodable::Length));
}

#[test]
fn the_largest_transaction_fits() {
    let longest = |at: usize| Key::from(format!("{at:0>width$}", width = KEY_BYTES_MAX));
    let fence = Fence {
        lease: "l".repeat(NAME_BYTES_MAX),
        term: Term::new(u64::MAX),
    };
    let conditions = (1..OPERATIONS_MAX).map(|at| (longest(at), Precondition::Revision(Revision::new(1))));
    let rest = txn::BYTES_MAX - OPERATIONS_MAX * KEY_BYTES_MAX;
    let put = Operation::Put(longest(0), vec![0; rest].into());
    let txn = Txn::from_parts(Some(fence), conditions.collect(), vec![put]);
    txn.validate().unwrap();
    let record = Record {
        synced: 0,
        revision: Revision::new(1),
        mutation: Mutation::Txn(txn),
    };
    let bytes = encoded(&record);
    assert!(bytes.len() <= RECORD_BYTES_MAX);
    assert_eq!(decode(&bytes), Ok((record, bytes.len())));
}
