//! The shape of the whole: dependencies point one way, and every test that the threat model names is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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

/// SECURITY.md names a test for each claim: `file.rs` (`test_name`, ..). A test that was renamed or deleted is found here.
#[test]
fn every_test_that_the_threat_model_names_is_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("SECURITY.md"))?;
    // Lines of prose are wrapped; a table's are not.
    let text = text.replace('\n', " ");
    let mut named = 0;
    for (at, _) in text.match_indices(".rs` (`") {
        let file = text[..at].rsplit('`').next().unwrap_or_default();
        let rest = &text[at + ".rs` (".len()..];
        let names = rest.split(')').next().unwrap_or_default();
        let file = format!("{file}.rs");
        let path = [root.join(&file), root.join("tests/tests").join(&file)]
            .into_iter()
            .find(|path| path.is_file())
            .with_context(|| format!("SECURITY.md names {file}, which is not there"))?;
        let source = std::fs::read_to_string(&path)?;
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            let declared = source.contains(&format!("fn {name}("));
            assert!(declared, "SECURITY.md names {name}, which is not in {file}");
            named += 1;
        }
    }
    assert!(named >= 20, "only {named} tests were found in SECURITY.md");
    Ok(())
}

#[test]
fn agents_verify_everything_and_recall_nothing() {
    // `TrustedAuthority::recall` takes bytes on the word of whoever says that they were verified before: that is for an
    // operator's machine and its own notes, and would let a hub in on an agent.
    let mut looked_at = 0;
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("::recall("), "{}", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 30, "{looked_at} files");
}
