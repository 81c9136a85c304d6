//! Network namespaces: made, wired to a switch, entered, and emptied when they go.
//!
//! They have names in /run/netns, which in the private world is its own; so `ip netns` and `nsenter --net` work on them.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{command, run};
use crate::wait;

const LIMIT: Duration = Duration::from_secs(20);

/// The switch drops what a cut wire would lose. It names its own ports, so that a cut outlasts a host's reboot, and
/// leaves the hosts' carrier up, so that a cut is as silent as one far away.
const CUTS: &str = "table bridge cuts {
    set hosts { type ifname; }
    set pairs { type ifname . ifname; }
    chain in { type filter hook prerouting priority 0; iifname @hosts drop; }
    chain between { type filter hook forward priority 0; iifname . oifname @pairs drop; }
    chain out { type filter hook postrouting priority 0; oifname @hosts drop; }
}";

/// A network namespace, deleted with all its processes when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, its loopback device up.
    ///
    /// # Errors
    /// If the name is taken or the kernel refuses.
    pub(crate) fn create(name: &str) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let namespace = Self {
            name: name.to_owned(),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// What runs the words that follow in it. Not nsenter: this gives them a /sys of their own, where programs look for the
    /// interfaces there are.
    pub(crate) fn enter(&self) -> Command {
        let mut enter = command("ip");
        enter.args(["netns", "exec", &self.name]);
        enter
    }

    /// Makes one that is a switch, which [`Namespace::plug_in`] wires hosts to.
    pub(crate) fn switch(name: &str) -> Result<Self> {
        let namespace = Self::create(name)?;
        namespace.ip("link add switch up type bridge")?;
        namespace.nft(CUTS)?;
        Ok(namespace)
    }

    /// The file that stands for it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Wires `host` to this switch, at its port `port`, as eth0 with the `number`'s addresses.
    pub(crate) fn plug_in(&self, host: &Self, port: &str, number: u8) -> Result<()> {
        // The same card after a reboot: else the peers' neighbour tables point at the dead one.
        let card = format!("02:00:00:00:00:{number:02x}");
        self.ip(&format!(
            "link add {port} type veth peer name eth0 address {card} netns {}",
            host.name
        ))?;
        self.ip(&format!("link set {port} master switch up"))?;
        host.ip(&format!("addr add 10.77.0.{number}/24 dev eth0"))?;
        host.ip(&format!("addr add fd77::{number:x}/64 dev eth0 nodad"))?;
        host.ip("link set eth0 up")
    }

    /// Drops all that ports (`hosts`) or pairs of them (`pairs`) send, or lets it through again.
    pub(crate) fn set_cut(&self, set: &str, elements: &str, cut: bool) -> Result<()> {
        // Added before it is deleted: to heal what is whole is no error.
        self.nft(&format!("add element bridge cuts {set} {{ {elements} }}"))?;
        if !cut {
            self.nft(&format!("delete element bridge cuts {set} {{ {elements} }}"))?;
        }
        Ok(())
    }

    /// Runs `work` in this namespace, on a thread of its own. Sockets made there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("cannot enter {}", path.display()))
                    .map(|()| work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Kills every process in it, also those that left their session.
    fn empty(&self) -> Result<()> {
        wait::until("its processes to end", LIMIT, || {
            let pids = self.pids().map_err(|error| format!("{error:#}"))?;
            for pid in &pids {
                // Fails only for one that has ended since.
                let _ = kill_process(*pid, Signal::KILL);
            }
            if pids.is_empty() {
                Ok(())
            } else {
                Err(format!("{} processes", pids.len()))
            }
        })
    }

    fn pids(&self) -> Result<Vec<Pid>> {
        let mut list = command("ip");
        list.args(["netns", "pids", &self.name]);
        let list = run(&list, LIMIT, "")?.ok()?;
        Ok(list
            .lines()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect())
    }

    fn ip(&self, words: &str) -> Result<()> {
        ip(&format!("-n {} {words}", self.name))
    }

    fn nft(&self, rules: &str) -> Result<()> {
        let mut nft = command("nsenter");
        nft.arg(format!("--net={}", self.path().display()))
            .args(["nft", "-f", "-"]);
        run(&nft, LIMIT, rules)?.ok().map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let gone = self
            .empty()
            .and_then(|()| ip(&format!("netns del {}", self.name)));
        if let Err(error) = gone {
            eprintln!("cannot take network namespace {} away: {error:#}", self.name);
        }
    }
}

/// Checks that a host's name suits the kernel (15 bytes for an interface) and a path.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && name.len() <= 15 && name.bytes().all(good) && name != "switch" {
        return Ok(());
    }
    bail!("'{name}' is no host's name: 1 to 15 of a-z, 0-9 and -, not 'switch'")
}

fn ip(words: &str) -> Result<()> {
    let mut ip = command("ip");
    ip.args(words.split(' '));
    run(&ip, LIMIT, "")?.ok().map(drop)
}
