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

/// Why OpenSSH cannot be asked here, if so.
#[must_use]
pub fn openssh() -> Option<String> {
    programs(&["ssh-keygen", "ssh-agent", "ssh-add"], "openssh-client")
}

/// Why no program can be given a wrong clock here, if so.
#[must_use]
pub fn faketime() -> Option<String> {
    programs(&["faketime"], "faketime")
}

/// What of `programs`, which Debian's `package` brings, is not here.
fn programs(programs: &[&str], package: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let missing = programs.iter().find(|program| !here(program))?;
    Some(format!("there is no {missing}; install {package}"))
}

/// Says that `test` is skipped, where `cargo xtask test` counts it: past libtest, which keeps a passing test's words.
///
/// # Panics
/// If it cannot be said: a skip that nobody counts would be a lie.
pub fn skip(test: &str, reason: &str) {
    // One write: the lines of tests that run at once do not mix.
    let line = format!("SKIP {test}: {reason}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("a skip can be told");
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
