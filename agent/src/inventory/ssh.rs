//! Where ssh listens and who is connected to it: what a new firewall must not cut.
//!
//! A listening socket is ssh's if an ssh daemon holds it, or if PID 1 holds it and an `ssh.socket` unit names its port
//! (socket activation: until somebody connects there is no daemon).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::HostRoot;

const DAEMONS: [&str; 2] = ["sshd", "dropbear"];

/// Where systemd and its generators put the unit and its drop-ins (systemd.unit(5)).
const UNIT_DIRS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];

/// The ports where ssh listens, ascending.
pub(super) fn listening_ports(root: &HostRoot) -> BTreeSet<u16> {
    let of_daemons = inodes_of(root, |pid, name| pid != 1 && DAEMONS.contains(&name));
    let activated = activated_ports(root);
    let of_init = if activated.is_empty() {
        BTreeSet::new()
    } else {
        inodes_of(root, |pid, _| pid == 1)
    };
    let mut ports = BTreeSet::new();
    each_socket(root, |socket| {
        let is_ssh = of_daemons.contains(&socket.inode)
            || activated.contains(&socket.port) && of_init.contains(&socket.inode);
        if socket.state == State::Listen && is_ssh {
            ports.insert(socket.port);
        }
    });
    ports
}

/// Who is connected to one of `ports`, and to which, ascending; connections of this machine to itself left out.
pub(super) fn established_peers(root: &HostRoot, ports: &BTreeSet<u16>) -> BTreeSet<(IpAddr, u16)> {
    let mut peers = BTreeSet::new();
    each_socket(root, |socket| {
        if socket.state == State::Established && ports.contains(&socket.port) && !socket.peer.is_loopback() {
            peers.insert((socket.peer, socket.port));
        }
    });
    peers
}

/// A line of `/proc/net/tcp` or `/proc/net/tcp6`.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    port: u16,
    peer: IpAddr,
    state: State,
    inode: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Listen,
    Established,
    Other,
}

fn each_socket(root: &HostRoot, mut see: impl FnMut(Socket)) {
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        root.lines(table)
            .filter_map(|line| parse_socket(&line))
            .for_each(&mut see);
    }
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ..`; `None` for the heading.
fn parse_socket(line: &str) -> Option<Socket> {
    let fields: Vec<_> = line.split_whitespace().take(10).collect();
    let (_, port) = parse_endpoint(fields.get(1)?)?;
    let (peer, _) = parse_endpoint(fields.get(2)?)?;
    let state = match *fields.get(3)? {
        "0A" => State::Listen,
        "01" => State::Established,
        _ => State::Other,
    };
    Some(Socket {
        port,
        peer,
        state,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `0200000A:0016`: 32-bit words of the address as the processor reads them, and the port.
fn parse_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |from: usize| {
        let word = u32::from_str_radix(address.get(from..from + 8)?, 16).ok()?;
        Some(u32::from_be_bytes(word.to_ne_bytes()))
    };
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bits = words
                .into_iter()
                .fold(0, |bits, word| bits << 32 | u128::from(word));
            // A daemon that listens on [::] sees IPv4 peers as ::ffff:a.b.c.d.
            Ipv6Addr::from(bits).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// The sockets that the processes of our choice hold.
fn inodes_of(root: &HostRoot, wanted: impl Fn(u32, &str) -> bool) -> BTreeSet<u64> {
    let mut inodes = BTreeSet::new();
    for process in entries(&root.join("proc")) {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if !wanted(pid, name.trim_end()) {
            continue;
        }
        let links = entries(&process.join("fd")).filter_map(|fd| fs::read_link(fd).ok());
        inodes.extend(links.filter_map(|link| parse_socket_link(link.to_str()?)));
    }
    inodes
}

/// `socket:[1587]`
fn parse_socket_link(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The ports that `ssh.socket` names, in whichever of its files.
fn activated_ports(root: &HostRoot) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for dir in UNIT_DIRS {
        for unit in UNITS {
            ports.extend(listen_streams(&root.read(&format!("{dir}/{unit}"))));
            for drop_in in entries(&root.join(&format!("{dir}/{unit}.d"))) {
                ports.extend(listen_streams(&fs::read_to_string(drop_in).unwrap_or_default()));
            }
        }
    }
    ports
}

/// `ListenStream=22`, `=0.0.0.0:22`, `=[::]:22` (systemd.socket(5)). One that is overridden elsewhere does no harm: a port
/// counts only if PID 1 listens there.
fn listen_streams(unit: &str) -> impl Iterator<Item = u16> {
    unit.lines()
        .filter_map(|line| line.trim().strip_prefix("ListenStream="))
        .filter_map(|value| value.rsplit(':').next()?.trim().parse().ok())
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
mod tests;
