//! The programs that Debian brings: what is missing, and how it gets here.

use std::time::Duration;

use crate::shell::{bounded, has, is_root, succeeds};

/// A Debian package, and a program of it that tells whether it is here. Asking for programs also works where there is
/// no dpkg.
#[derive(Debug)]
pub(crate) struct Package {
    name: &'static str,
    program: &'static str,
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package { name, program }
}

/// For worlds of network namespaces.
pub(crate) const NAMESPACES: &[Package] = &[
    package("iproute2", "ip"),
    package("nftables", "nft"),
    package("procps", "pgrep"),
    package("util-linux", "unshare"),
];

/// What signatures of ssh keys are held against.
pub(crate) const OPENSSH: &[Package] = &[package("openssh-client", "ssh-keygen")];

/// For real programs on machines whose clocks are wrong.
pub(crate) const WRONG_CLOCKS: &[Package] = &[package("faketime", "faketime")];

/// For libFuzzer.
pub(crate) const CPP_COMPILER: &[Package] = &[package("g++", "c++")];

/// For booted nodes, and to log in to them.
pub(crate) const BOOTED_NODES: &[Package] = &[
    package("mmdebstrap", "mmdebstrap"),
    package("openssh-client", "ssh"),
    package("systemd-container", "systemd-nspawn"),
];

/// An apt that waits for a slow mirror still ends before the gate's patience does.
const APT_LIMIT: Duration = Duration::from_secs(300);

/// Sees to it that `wanted` is here, installing as root or with sudo where that needs no password.
///
/// # Errors
/// The command that installs what is missing, for a person to run.
pub(crate) fn ensure(wanted: &[Package]) -> Result<(), String> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    install(&missing);
    let missing = self::missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "apt-get install --no-install-recommends {}",
        missing.join(" ")
    ))
}

fn missing(wanted: &[Package]) -> Vec<&'static str> {
    wanted
        .iter()
        .filter(|package| !has(package.program))
        .map(|package| package.name)
        .collect()
}

/// Tries; whether it worked shows in what is then missing.
fn install(names: &[&str]) {
    let (program, more): (_, &[&str]) = if is_root() {
        ("env", &[])
    } else {
        ("sudo", &["--non-interactive", "env"])
    };
    let apt = |args: &[&str]| {
        let mut apt = bounded(APT_LIMIT, program);
        apt.args(more)
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(args);
        succeeds(&mut apt)
    };
    // A fresh machine has no package lists at all.
    apt(&["update", "-qq"]);
    apt(&[&["install", "-y", "--no-install-recommends"], names].concat());
}
