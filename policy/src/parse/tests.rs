//! The parser: what it accepts, and the words with which it refuses.

use super::*;

const LAB: [(&str, &str); 4] = [
    ("all.yaml", include_str!("../../../docs/examples/lab/all.yaml")),
    ("db.yaml", include_str!("../../../docs/examples/lab/db.yaml")),
    (
        "groups.yaml",
        include_str!("../../../docs/examples/lab/groups.yaml"),
    ),
    ("web.yaml", include_str!("../../../docs/examples/lab/web.yaml")),
];

#[test]
fn the_lab_of_the_readme_loads() {
    let policy = load(&LAB).unwrap();
    let selectors: Vec<_> = policy
        .slices()
        .iter()
        .map(|slice| slice.selector().to_string())
        .collect();
    assert_eq!(selectors, ["all", "role=db", "role=web"]);
}
