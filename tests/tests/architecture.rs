//! Dependencies point one way: proto <- {policy, pki} <- {hub, agent}; hub and agent never know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result};
use holdfast_tests::process;
use serde_json::Value;

/// Each crate of the product with those of ours that it may import.
const MAY_IMPORT: [(&str, &[&str]); 5] = [
    ("holdfast-proto", &[]),
    ("holdfast-policy", &["holdfast-proto"]),
    ("holdfast-pki", &["holdfast-proto"]),
    (
        "holdfast-hub",
        &["holdfast-pki", "holdfast-policy", "holdfast-proto"],
    ),
    (
        "holdfast-agent",
        &["holdfast-pki", "holdfast-policy", "holdfast-proto"],
    ),
];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let imports = imports()?;
    for (name, allowed) in MAY_IMPORT {
        let found = imports
            .get(name)
            .with_context(|| format!("the workspace has no crate {name}"))?;
        for import in found {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} must not import {import}"
            );
        }
    }
    Ok(())
}

#[test]
fn nobody_imports_the_tests_or_xtask() -> Result<()> {
    for (name, found) in imports()? {
        let wrong = found
            .iter()
            .find(|import| ["holdfast-tests", "xtask"].contains(&import.as_str()));
        assert_eq!(wrong, None, "{name} imports what is there for development only");
    }
    Ok(())
}

/// Which of our own crates each of them imports, also for its tests and its build.
fn imports() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut metadata: Command =
        process::command(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    metadata.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version=1",
        "--manifest-path",
    ]);
    metadata.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let metadata = process::run(&metadata, holdfast_tests::world::LIMIT, "")?.ok()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo tells no packages")?;
    let names: BTreeSet<String> = packages.iter().filter_map(name).collect();
    Ok(packages
        .iter()
        .filter_map(|package| {
            let all = package["dependencies"].as_array()?;
            let ours = all
                .iter()
                .filter_map(name)
                .filter(|import| names.contains(import))
                .collect();
            Some((name(package)?, ours))
        })
        .collect())
}

fn name(value: &Value) -> Option<String> {
    value["name"].as_str().map(str::to_owned)
}
