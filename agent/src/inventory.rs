//! What this machine is, for the hub's registry: read from files below a root that tests choose; its interfaces are an
//! argument, because [`interfaces::read`] asks the kernel, which has no other root.
//!
//! Every reader is tolerant: what cannot be read is left out, for an inventory with a gap is better than no agent.

pub mod interfaces;
mod kind;
mod ssh;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use holdfast_proto::v1::{Interface, Inventory, SshPeer};

/// Enough to see where operators come from, and bounded against a flood of connections.
const SSH_PEERS_MAX: usize = 64;

/// Where the host's file system begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl Default for HostRoot {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl HostRoot {
    /// A host whose files lie under `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The host's `relative`, such as `etc/os-release`.
    fn join(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    /// A file's lines, one at a time: on a busy machine the kernel's tables are longer than the agent's whole memory.
    fn lines(&self, relative: &str) -> impl Iterator<Item = String> + use<> {
        let file = File::open(self.join(relative)).into_iter();
        file.flat_map(|file| BufReader::new(file).lines().map_while(Result::ok))
    }

    /// A small file's text, without the end of its last line; empty if it cannot be read.
    fn read(&self, relative: &str) -> String {
        let bytes = std::fs::read(self.join(relative)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// Reads all of it but the `interfaces`. A few milliseconds on a machine with many connections.
#[must_use]
pub fn collect(root: &HostRoot, interfaces: Vec<Interface>) -> Inventory {
    let ports = ssh::listening_ports(root);
    let peers = ssh::established_peers(root, &ports);
    Inventory {
        os: os_name(&root.read("etc/os-release")),
        kernel: root.read("proc/sys/kernel/osrelease"),
        kind: kind::detect(root).to_owned(),
        interfaces,
        ssh_peers: peers
            .into_iter()
            .take(SSH_PEERS_MAX)
            .map(|(address, port)| SshPeer {
                address: address.to_string(),
                local_port: port.into(),
            })
            .collect(),
        listening_ssh_ports: ports.into_iter().map(u32::from).collect(),
        hostname: root.read("proc/sys/kernel/hostname"),
    }
}

/// The system's name for people (os-release(5)).
fn os_name(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches(['"', '\''])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixture_host_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "etc/os-release",
            "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
        );
        put("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n");
        put("proc/sys/kernel/hostname", "db1\n");
        put("proc/cpuinfo", "flags\t\t: fpu hypervisor\n");
        let eth0 = Interface {
            name: "eth0".to_owned(),
            addresses: vec!["10.77.0.2".to_owned()],
        };
        let found = collect(&HostRoot::at(dir.path()), vec![eth0.clone()]);
        assert_eq!(found.os, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(
            (found.kernel.as_str(), found.hostname.as_str()),
            ("6.1.0-28-amd64", "db1")
        );
        assert_eq!((found.kind.as_str(), found.interfaces), ("vm", vec![eth0]));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_name() {
        let found = collect(&HostRoot::default(), Vec::new());
        assert!(!found.kernel.is_empty() && !found.hostname.is_empty() && !found.os.is_empty());
    }

    #[test]
    fn an_empty_root_gives_an_empty_inventory() {
        let dir = tempfile::tempdir().unwrap();
        let found = collect(&HostRoot::at(dir.path()), Vec::new());
        assert_eq!(
            found,
            Inventory {
                os: "Linux".into(),
                kind: "bare".into(),
                ..Inventory::default()
            }
        );
    }
}
