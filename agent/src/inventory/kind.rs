//! What kind of machine this is: `pve-node`, `lxc`, `vm` or `bare`.

use super::HostRoot;

/// Makers of virtual machines, as DMI names them; for processors without a hypervisor flag.
const HYPERVISORS: [&str; 8] = [
    "QEMU",
    "KVM",
    "VMware",
    "Xen",
    "innotek",
    "Microsoft Corporation",
    "Amazon EC2",
    "Google",
];

/// The first that fits. A Proxmox node may well be a virtual machine, and a container sees its host's processor.
pub(super) fn detect(root: &HostRoot) -> &'static str {
    if root.join("etc/pve").is_dir() || root.join("usr/bin/pveversion").exists() {
        return "pve-node";
    }
    if is_container(&root.read("run/systemd/container"), &root.read("proc/1/environ")) {
        // Whatever its manager is called: what `lxc` says is that the kernel belongs to the host.
        return "lxc";
    }
    if is_virtual(
        &root.read("proc/cpuinfo"),
        &root.read("sys/class/dmi/id/sys_vendor"),
    ) {
        "vm"
    } else {
        "bare"
    }
}

/// systemd leaves the container's name in a file; managers give it to PID 1 in its environment (systemd's container
/// interface), which only root can read.
fn is_container(systemd_says: &str, pid_1_environ: &str) -> bool {
    let environ_says = pid_1_environ.split('\0').any(|pair| {
        pair.strip_prefix("container=")
            .is_some_and(|manager| !manager.is_empty())
    });
    !systemd_says.is_empty() || environ_says
}

fn is_virtual(cpuinfo: &str, sys_vendor: &str) -> bool {
    let flagged = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"));
    flagged || HYPERVISORS.iter().any(|maker| sys_vendor.contains(maker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_systemd_or_by_their_first_process() {
        assert!(is_container("lxc", ""));
        assert!(is_container("", "PATH=/bin\0container=lxc\0TERM=linux"));
        assert!(!is_container("", "PATH=/bin\0container=\0"));
    }

    #[test]
    fn virtual_machines_are_told_by_processor_or_maker() {
        assert!(is_virtual("model name : x\nflags\t: fpu vme hypervisor lm\n", ""));
        assert!(is_virtual("", "QEMU"));
        assert!(!is_virtual("flags : fpu vme\nbugs : hypervisor", "Dell Inc."));
    }

    #[test]
    fn a_proxmox_node_in_a_virtual_machine_is_a_proxmox_node() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/pve")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/cpuinfo"), "flags : hypervisor").unwrap();
        assert_eq!(detect(&HostRoot::at(dir.path())), "pve-node");
    }
}
