//! The fuzz targets over their seeds (`fuzz/seeds/<target>/`), so that neither goes stale between soaks.
//!
//! A seed whose name begins with `good` must be taken for what the target reads, or the fuzzer would begin at nothing: when
//! a format changes on purpose, so do they. Any other is there because something once went wrong with it, or might.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use holdfast_tests::fuzz::{TARGETS, run};

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The entries of a directory, by name.
fn entries(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot look into {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

#[test]
fn every_seed_is_read_and_the_good_ones_are_taken() -> Result<()> {
    for (target, body) in TARGETS {
        let mut good = 0;
        for seed in entries(&fuzz_dir().join("seeds").join(target))? {
            let taken = body(&fs::read(&seed)?);
            if seed
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("good"))
            {
                assert!(
                    taken,
                    "{} is not taken any more: bring it up to the format of today",
                    seed.display()
                );
                good += 1;
            }
        }
        assert!(good > 0, "{target} has no good seed");
    }
    Ok(())
}

#[test]
fn every_target_can_be_fuzzed() -> Result<()> {
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml"))?;
    let wanted: BTreeSet<_> = TARGETS
        .iter()
        .map(|(target, _)| fuzz_dir().join(format!("fuzz_targets/{target}.rs")))
        .collect();
    assert_eq!(entries(&fuzz_dir().join("fuzz_targets"))?, wanted);
    for (target, _) in TARGETS {
        let binary = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(
            manifest.contains(&binary),
            "fuzz/Cargo.toml does not build {target}"
        );
        let body = fs::read_to_string(fuzz_dir().join(format!("fuzz_targets/{target}.rs")))?;
        assert!(
            body.contains(&format!("run(\"{target}\", input)")),
            "{target} runs another"
        );
    }
    Ok(())
}

#[test]
fn a_target_tells_what_it_does_not_take() {
    for (target, _) in TARGETS {
        assert!(!run(target, b"\xff nothing that anybody would write"), "{target}");
    }
}
