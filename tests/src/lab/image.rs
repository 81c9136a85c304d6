//! The image that booted nodes share: a small Debian, made once by mmdebstrap and kept as a tree.
//!
//! It lies in `HOLDFAST_LAB_DIR`, else the user's cache directory, under a name made of all that goes into it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use holdfast_proto::ids::Digest;

use crate::process::{command, run};

/// What the nodes run: the newest Debian that Proxmox VE 8 stands on.
const SUITE: &str = "bookworm";
/// Few, for speed; sshd because the ways it must stay reachable are tested.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables,openssh-server,procps,netcat-openbsd";
/// The machine's own sources, if they have the suite: they know the nearest mirror.
const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";
/// Half a minute from a near mirror.
const LIMIT: Duration = Duration::from_secs(280);

/// What is each node's own, or depends on where the image was made.
const NOT_SHARED: [&str; 7] = [
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssh/ssh_host_ecdsa_key",
    "etc/ssh/ssh_host_ecdsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key",
];

/// Returns the image's tree, making it if the cache has none. Two at once do not disturb each other.
///
/// # Errors
/// If mmdebstrap fails; with the end of what it said.
pub fn make() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let key = Digest::of(format!("{SUITE} {PACKAGES} {NOT_SHARED:?}").as_bytes());
    let image = cache.join(format!("image-{}", key.short()));
    if image.is_dir() {
        return Ok(image);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let part = cache.join(format!("part-{}", std::process::id()));
    let made = build(&part).and_then(|()| match fs::rename(&part, &image) {
        // Someone else was faster.
        Err(_) if image.is_dir() => remove(&part),
        renamed => renamed.with_context(|| format!("cannot name {}", image.display())),
    });
    match made {
        Ok(()) => Ok(image),
        Err(error) => {
            remove(&part)?;
            Err(error)
        }
    }
}

fn build(tree: &Path) -> Result<()> {
    let mut debstrap = command("mmdebstrap");
    debstrap.args([
        "--quiet",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
        "--skip=output/dev",
    ]);
    debstrap.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(tree);
    if fs::read_to_string(SOURCES).is_ok_and(|sources| sources.contains(SUITE)) {
        debstrap.arg(SOURCES);
    }
    run(&debstrap, LIMIT, "")?.ok()?;
    for path in NOT_SHARED {
        match fs::remove_file(tree.join(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => bail!("cannot remove {path}: {error}"),
            _ => {}
        }
    }
    // Empty: each node then makes an id of its own at its first boot (machine-id(5)).
    fs::File::create(tree.join("etc/machine-id")).context("cannot empty etc/machine-id")?;
    Ok(())
}

fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", tree.display()))
        }
        _ => Ok(()),
    }
}

fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HOLDFAST_LAB_DIR") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").context("neither HOLDFAST_LAB_DIR nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/holdfast-lab"))
}
