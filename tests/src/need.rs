//! What a test needs of the machine; where that is missing the test is skipped by name and reason, never silently.

use std::io::Write as _;

/// Why there can be no network namespaces here, if so.
#[must_use]
pub fn namespaces() -> Option<String> {
    if std::env::var_os("HOLDFAST_WORLD").is_some() {
        return None;
    }
    Some(said(
        "HOLDFAST_NO_WORLD",
        "no private world; run it with `cargo xtask test`",
    ))
}

/// Why no node can be booted here, if so.
#[must_use]
pub fn booted_node() -> Option<String> {
    if std::env::var_os("HOLDFAST_LAB_IMAGE").is_some() {
        return None;
    }
    Some(said(
        "HOLDFAST_NO_LAB",
        "no image; run it with `cargo xtask test`",
    ))
}

/// Says that `test` is skipped, and notes it where `cargo xtask test` counts.
///
/// # Panics
/// If it cannot be noted: a skip that nobody counts would be a lie.
pub fn skip(test: &str, reason: &str) {
    println!("SKIP {test}: {reason}");
    let Some(log) = std::env::var_os("HOLDFAST_SKIPS") else {
        return;
    };
    let mut log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("the list of skips opens");
    // One write: lines of tests that run at once do not mix.
    log.write_all(format!("{test}: {reason}\n").as_bytes())
        .expect("the list of skips takes a line");
}

fn said(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned())
}

/// Leaves a test that returns `anyhow::Result<()>` where the machine lacks what it needs: `need!(namespaces)`.
#[macro_export]
macro_rules! need {
    ($what:ident) => {
        if let Some(reason) = $crate::need::$what() {
            fn here() {}
            let name = std::any::type_name_of_val(&here);
            $crate::need::skip(name.trim_end_matches("::here"), &reason);
            return Ok(());
        }
    };
}
