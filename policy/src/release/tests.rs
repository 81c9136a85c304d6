//! Completeness: each single way of giving a node something else than what was signed.

use proptest::prelude::*;

use super::*;
use crate::testing::{labels, selector, slice, slices};

fn manifest(slices: &[Slice]) -> Manifest {
    Manifest {
        kind: Manifest::KIND.to_owned(),
        format: Manifest::FORMAT,
        trust_domain: "lab.example".parse().unwrap(),
        epoch: 1,
        number: 7,
        author: "admin".parse().unwrap(),
        created_secs: 1_790_000_000,
        authority_version: 1,
        previous: Some(Digest::of(b"before")),
        slices: slices.iter().map(SliceRef::of).collect(),
        return_to: Some(ReturnTo {
            manifest: Digest::of(b"before"),
            within_secs: 86_400,
        }),
    }
}

fn node() -> Labels {
    labels("role=db,site=home")
}

fn bytes(slices: &[Slice]) -> Vec<Vec<u8>> {
    slices.iter().map(Slice::to_bytes).collect()
}

proptest! {
    #[test]
    fn all_slices_in_any_order_are_complete(slices in slices(), turn in 0..3_usize) {
        let mut given = bytes(&slices);
        given.rotate_left(turn);
        let complete = complete(&manifest(&slices), &node(), &given).unwrap();
        prop_assert_eq!(complete, slices);
    }

    #[test]
    fn each_omission_is_refused(slices in slices(), out in 0..3_usize) {
        let mut given = bytes(&slices);
        given.remove(out);
        let refused = complete(&manifest(&slices), &node(), &given).unwrap_err();
        let named = matches!(&refused, RefuseSlices::Missing { selector, .. } if selector == slices[out].selector());
        prop_assert!(named, "{}", refused);
    }

    #[test]
    fn each_substitution_is_refused(slices in slices(), of in 0..3_usize, other in slice("role=db")) {
        prop_assume!(!slices.contains(&other));
        let mut given = bytes(&slices);
        given[of] = other.to_bytes();
        let refused = complete(&manifest(&slices), &node(), &given);
        prop_assert!(matches!(refused, Err(RefuseSlices::NotListed(_))));
    }

    #[test]
    fn each_addition_is_refused(slices in slices(), at in 0..=3_usize, other in slice("role=web")) {
        let mut given = bytes(&slices);
        given.insert(at, other.to_bytes());
        let refused = complete(&manifest(&slices), &node(), &given);
        prop_assert!(matches!(refused, Err(RefuseSlices::NotListed(_))));
        // Also when the release does list it, but for other nodes.
        let mut listed = slices;
        listed.insert(2, other);
        let refused = complete(&manifest(&listed), &node(), &given);
        prop_assert!(matches!(refused, Err(RefuseSlices::NotListed(_))));
    }

    #[test]
    fn each_duplication_is_refused(slices in slices(), of in 0..3_usize, at in 0..=3_usize) {
        let mut given = bytes(&slices);
        given.insert(at, given[of].clone());
        let refused = complete(&manifest(&slices), &node(), &given).unwrap_err();
        prop_assert!(matches!(&refused, RefuseSlices::Twice(of_it) if of_it == slices[of].selector()), "{}", refused);
    }

    #[test]
    fn each_changed_byte_is_refused(slices in slices(), of in 0..3_usize, at: prop::sample::Index, flip in 1..=255_u8) {
        let mut given = bytes(&slices);
        let at = at.index(given[of].len());
        given[of][at] ^= flip;
        let refused = complete(&manifest(&slices), &node(), &given);
        prop_assert!(matches!(refused, Err(RefuseSlices::NotListed(_))));
    }
}

fn lab() -> Vec<Slice> {
    ["all", "role=db", "site=home"]
        .map(|text| Slice::new(selector(text)))
        .to_vec()
}

#[test]
fn a_node_that_nothing_selects_needs_nothing() {
    let manifest = manifest(&lab()[1..]);
    assert!(complete(&manifest, &labels("role=web"), &[]).unwrap().is_empty());
    assert!(complete(&manifest, &labels("role=web"), &bytes(&lab()[1..2])).is_err());
}

#[test]
fn a_slice_listed_for_another_selector_is_refused() {
    let slices = lab();
    let mut manifest = manifest(&slices);
    manifest.slices[1].selector = selector("site=home");
    manifest.slices.pop();
    let refused = complete(&manifest, &node(), &bytes(&slices[..2])).unwrap_err();
    assert!(matches!(refused, RefuseSlices::Mislabelled { .. }), "{refused}");
}

#[test]
fn a_listed_slice_that_is_not_understood_is_refused() {
    let future = br#"{"kind":"slice","format":2}"#.to_vec();
    let mut manifest = manifest(&lab()[..1]);
    manifest.slices[0].digest = Digest::of(&future);
    let refused = complete(&manifest, &node(), &[future]).unwrap_err();
    assert!(
        matches!(refused, RefuseSlices::Invalid(InvalidSlice::Unknown { .. })),
        "{refused}"
    );
}

#[test]
fn a_manifest_reads_back_and_begins_with_kind_and_format() {
    let manifest = manifest(&lab());
    let text = serde_json::to_string(&manifest).unwrap();
    assert!(text.starts_with(r#"{"kind":"release","format":1,"#));
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    assert_eq!(manifest.generation(), Generation { epoch: 1, number: 7 });
    let first = Manifest {
        previous: None,
        return_to: None,
        ..manifest
    };
    let text = serde_json::to_string(&first).unwrap();
    assert!(text.contains(r#""previous":null"#));
    assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), first);
}

#[test]
fn a_manifest_with_a_selector_twice_or_out_of_order_is_refused() {
    let mut slices = lab();
    slices.swap(0, 1);
    for refs in [slices, vec![lab().remove(0), lab().remove(0)]] {
        let text = serde_json::to_string(&manifest(&refs)).unwrap();
        assert!(serde_json::from_str::<Manifest>(&text).is_err(), "{text}");
    }
}

#[test]
fn a_manifest_with_unknown_fields_or_oversized_slices_is_refused() {
    let text = serde_json::to_string(&manifest(&lab())).unwrap();
    for (at, _) in text.match_indices('{') {
        let mut changed = text.clone();
        changed.insert_str(at + 1, r#""surprise":1,"#);
        assert!(serde_json::from_str::<Manifest>(&changed).is_err(), "{changed}");
    }
    let mut large = manifest(&lab());
    large.slices[0].bytes = SLICE_BYTES_MAX as u64 + 1;
    assert!(serde_json::from_str::<Manifest>(&serde_json::to_string(&large).unwrap()).is_err());
}

#[test]
fn the_largest_manifest_fits_into_its_bytes() {
    let longest = ["b", "c", "d", "e", "f", "g"]
        .map(|key| format!("{key}={}", "x".repeat(63)))
        .join(",");
    let rest = "y".repeat(45);
    let slices: Vec<_> = (0..SLICES_MAX)
        .map(|n| {
            Slice::new(selector(&format!(
                "a{n:03}={},{longest},h={rest}",
                "x".repeat(63)
            )))
        })
        .collect();
    assert_eq!(
        slices[0].selector().to_string().len(),
        crate::selector::SELECTOR_BYTES_MAX
    );
    let bytes = serde_json::to_vec(&manifest(&slices)).unwrap();
    assert!(bytes.len() < Manifest::BYTES_MAX, "{}", bytes.len());
}
