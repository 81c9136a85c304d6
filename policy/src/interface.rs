//! Network interfaces: which of them a selector group takes addresses from.
//!
//! A container bridge has the same private address on every machine, and whoever runs a container chooses what lies behind
//! it; so a group counts such interfaces only if it names them. [`LEFT_OUT`] is the one list of them, and docs/policy.md
//! shows it.

use std::fmt;
use std::str::FromStr;

use holdfast_proto::ids::InvalidId;

/// The longest name that Linux gives an interface, in bytes (IFNAMSIZ less its terminating zero).
pub const INTERFACE_BYTES_MAX: usize = 15;

/// The interfaces of containers and guests, by name or by beginning, and why a group does not count them unless it names
/// them. Beside them stand Docker's own networks: `br-` and twelve hex digits, which no pattern can tell from `br-lan`.
///
/// Deliberately absent are bridges that carry a machine's own address: Proxmox's `vmbr0`, and `br0` or `br-lan`.
pub const LEFT_OUT: [(&str, &str); 26] = [
    ("docker*", "Docker: the default bridge and docker_gwbridge"),
    ("podman*", "Podman's bridges"),
    ("nerdctl*", "containerd's bridges, by nerdctl"),
    ("cni*", "bridges of the container network interface"),
    ("veth*", "a container's end of the wire"),
    ("lxcbr*", "LXC's bridges"),
    ("lxdbr*", "LXD's bridges"),
    ("incusbr*", "Incus's bridges"),
    ("ve-*", "systemd-nspawn: the host's end of a container's wire"),
    ("vz-*", "systemd-nspawn: bridges of zones"),
    ("virbr*", "libvirt's bridges"),
    ("vnet*", "libvirt: a guest's end of the wire"),
    (
        "tap*",
        "QEMU and Proxmox: a guest's end of the wire; an OpenVPN tap has to be named",
    ),
    ("fwbr*", "Proxmox: the firewall's bridge before a guest"),
    ("fwln*", "Proxmox: from that bridge to the guest's"),
    ("fwpr*", "Proxmox: the other end of it"),
    ("vboxnet*", "VirtualBox: host-only networks"),
    ("vmnet*", "VMware: host-only networks"),
    (
        "kube*",
        "Kubernetes: kube-ipvs0 carries every service's address, kube-bridge the pods'",
    ),
    (
        "nodelocaldns",
        "Kubernetes: one address for the name server of every node",
    ),
    ("flannel*", "Flannel's overlay of pods"),
    ("cali*", "Calico: a pod's end of the wire"),
    ("vxlan.calico", "Calico's overlay of pods"),
    ("cilium*", "Cilium's overlay of pods"),
    ("weave", "Weave's overlay of pods"),
    ("antrea*", "Antrea's overlay of pods"),
];

/// Whether a group that names no interfaces leaves this one out.
#[must_use]
pub fn is_left_out(name: &str) -> bool {
    is_docker_network(name) || LEFT_OUT.iter().any(|(pattern, _)| meets(pattern, name))
}

/// Docker calls the bridge of a network `br-` and the first twelve hex digits of its id.
fn is_docker_network(name: &str) -> bool {
    name.strip_prefix("br-").is_some_and(|id| {
        id.len() == 12
            && id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn meets(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// An interface's name, or the beginning of names: `eth0`, `ens*`; `*` is every interface there is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfacePattern(Box<str>);

impl InterfacePattern {
    /// Whether the interface called `name` is meant.
    #[must_use]
    pub fn meets(&self, name: &str) -> bool {
        meets(&self.0, name)
    }
}

impl FromStr for InterfacePattern {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let known = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        // What Linux itself refuses as a name would never meet anything.
        if known && !["", ".", ".."].contains(&text) && text.len() <= INTERFACE_BYTES_MAX {
            return Ok(Self(text.into()));
        }
        Err(InvalidId::new(
            "interface",
            text,
            "up to 15 letters, digits, '.', '-' and '_' wanted, at the end '*' for any",
        ))
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_and_guest_bridges_are_left_out() {
        for name in [
            "docker0",
            "docker_gwbridge",
            "br-0123456789ab",
            "virbr0",
            "virbr0-nic",
            "veth1a2b3c4",
            "cni0",
            "flannel.1",
            "cali1234567890a",
            "vxlan.calico",
            "kube-ipvs0",
            "lxcbr0",
            "lxdbr0",
            "incusbr0",
            "podman1",
            "fwbr100i0",
            "fwln100i0",
            "fwpr100p0",
            "tap100i0",
            "vnet3",
        ] {
            assert!(is_left_out(name), "{name}");
        }
    }

    #[test]
    fn bridges_and_cards_with_a_machines_own_address_count() {
        for name in [
            "lo",
            "eth0",
            "eth0.100",
            "ens18",
            "enp3s0f1np1",
            "bond0",
            "wg0",
            "tailscale0",
            "vmbr0",
            "vmbr0v10",
            "br0",
            "br-lan",
            "br-0123456789a",
            "br-0123456789abc",
            "br-0123456789AB",
            "br-servers-left",
            "weave0",
        ] {
            assert!(!is_left_out(name), "{name}");
        }
    }

    #[test]
    fn a_beginning_meets_what_begins_so_and_a_name_itself() {
        let meets = |pattern: &str, name| pattern.parse::<InterfacePattern>().unwrap().meets(name);
        assert!(meets("ens*", "ens18") && meets("ens*", "ens") && meets("*", "docker0"));
        assert!(!meets("ens*", "eth0") && !meets("ens*", "xens18"));
        assert!(meets("eth0", "eth0") && !meets("eth0", "eth0.5") && !meets("eth0", "eth"));
    }

    #[test]
    fn what_can_be_no_interface_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a*b",
            "**",
            "*0",
            "eth0@if5",
            "eth0:1",
            "a/b",
            "a b",
            "a,b",
            "eth0\n",
            "größe",
            "abcdefghijklmnop",
            "abcdefghijklmno*",
        ] {
            assert!(text.parse::<InterfacePattern>().is_err(), "{text}");
        }
        assert!("abcdefghijklmno".parse::<InterfacePattern>().is_ok());
    }

    #[test]
    fn every_pattern_left_out_can_be_named_and_stands_in_the_reference() {
        let reference = include_str!("../../docs/policy.md");
        for (pattern, why) in LEFT_OUT {
            assert!(pattern.parse::<InterfacePattern>().is_ok(), "{pattern}");
            assert!(reference.contains(&format!("`{pattern}`")), "{pattern}: {why}");
        }
    }
}
