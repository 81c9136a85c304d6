//! Booted nodes: a whole Debian under systemd on one host of a world.
//!
//! systemd-nspawn boots it from a writable overlay (in memory) over an image that all share, in the host's network
//! namespace. Its processes have the rights that a node's have: commands go through its own systemd. Needs root.

mod cgroup;
pub mod image;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::{HASTE, binary_dir};
use crate::process::{self, Outcome, Process};
use crate::ssh::Login;
use crate::wait;
use crate::world::{LIMIT, World};
use cgroup::Cgroup;

/// Where a node finds the binaries of this build.
pub const BINARIES: &str = "/opt/holdfast";

/// A boot takes a second; ten times that and half a minute more when the machine is busy.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Joins the cgroups that are named before `--`, then becomes the rest.
const JOIN: &str =
    "until [ \"$1\" = -- ]; do echo $$ > \"$1/cgroup.procs\" || exit; shift; done; shift; exec \"$@\"";

/// A host that runs a whole Debian. Ends when dropped, its disk with it.
#[derive(Debug)]
pub struct BootedNode {
    name: String,
    /// None while it is switched off.
    machine: Option<Process>,
    disk: Disk,
    cgroup: Cgroup,
}

impl BootedNode {
    /// Adds a host to `world` and boots it; returns when its systemd has settled.
    ///
    /// # Errors
    /// If it does not boot; with the end of its console.
    pub fn boot(world: &mut World, name: &str, number: u8) -> Result<Self> {
        world.add_host(name, number)?;
        let disk = Disk::mount(&world.dir(name), name)?;
        let cgroup = Cgroup::create(&world.dir(name))?;
        let mut node = Self {
            name: name.to_owned(),
            machine: None,
            disk,
            cgroup,
        };
        node.switch_on(world)?;
        Ok(node)
    }

    /// Boots it again after [`BootedNode::power_cut`], with the same disk and card, and an empty firewall.
    ///
    /// # Errors
    /// If it does not boot; with the end of its console.
    pub fn switch_on(&mut self, world: &mut World) -> Result<()> {
        world.renew_network(&self.name)?;
        let machine = world.spawn(&self.name, "console", self.nspawn(&world.network(&self.name)?)?)?;
        let machine = self.machine.insert(machine);
        let up = wait::until("systemd to settle", BOOT_LIMIT, || {
            if let Some(status) = machine.exited() {
                return Err(format!("it ended with {status}"));
            }
            let leader = leader(machine).map_err(|error| format!("{error:#}"))?;
            let mut state = enter(leader);
            state.args(["systemctl", "is-system-running", "--wait"]);
            let state = process::run(&state, BOOT_LIMIT, "").map_err(|error| format!("{error:#}"))?;
            match state.stdout.trim() {
                "running" | "degraded" => Ok(()),
                other => Err(format!("{other} {}", state.stderr.trim())),
            }
        });
        let console = machine.tail();
        up.map_err(|error| anyhow!("cannot boot {}: {error:#}\n{console}", self.name))
    }

    /// Pulls the plug: no shutdown, nothing synced.
    ///
    /// # Errors
    /// If it does not run, or does not go down.
    pub fn power_cut(&mut self) -> Result<()> {
        let mut machine = self
            .machine
            .take()
            .with_context(|| format!("{} does not run", self.name))?;
        kill_process(leader(&machine)?, Signal::KILL).context("cannot kill the node's first process")?;
        machine.wait(LIMIT).map(drop)
    }

    /// Runs a short command on it as root, through its own systemd: a mere nsenter would have rights that the node's
    /// processes do not have, and pass where they fail.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is for the caller to judge.
    pub fn run(&self, words: &[&str]) -> Result<Outcome> {
        self.run_unit(&["--wait", "--pipe"], words)
    }

    /// Starts a long-lived command on it, as the unit `name`.
    ///
    /// # Errors
    /// If its systemd refuses.
    pub fn start(&self, name: &str, words: &[&str]) -> Result<()> {
        self.run_unit(&["--unit", name], words)?.ok().map(drop)
    }

    /// Starts the agent on it as the unit `holdfast-agent`, with `token` to enrol by.
    ///
    /// # Errors
    /// If its systemd refuses.
    pub fn start_agent(&self, token: &str) -> Result<()> {
        self.disk.write("root/token", token)?;
        let agent = format!("{BINARIES}/holdfast-agent");
        let mut words = vec![
            agent.as_str(),
            "run",
            "--name",
            &self.name,
            "--token-file",
            "/root/token",
        ];
        words.extend(["--state-dir", "/var/lib/holdfast-agent"]);
        words.extend(HASTE);
        self.start("holdfast-agent", &words)
    }

    /// Lets the owner of `login` in as root, by sshd.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn admit(&self, login: &Login) -> Result<()> {
        let dir = self.disk.root.join("root/.ssh");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        self.disk.write("root/.ssh/authorized_keys", &login.public()?)
    }

    /// Its root directory, as seen from here; writable, whether it runs or not.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.disk.root
    }

    fn run_unit(&self, options: &[&str], words: &[&str]) -> Result<Outcome> {
        let machine = self
            .machine
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?;
        let mut command = enter(leader(machine)?);
        command.args(["systemd-run", "--quiet", "--collect", "--service-type=exec"]);
        command.args(["--setenv=HOME=/root", "--working-directory=/root"]);
        command.args(options).arg("--").args(words);
        process::run(&command, LIMIT, "")
    }

    fn nspawn(&self, network: &Path) -> Result<Command> {
        let mut command = process::command("sh");
        command
            .args(["-c", JOIN, "join"])
            .args(self.cgroup.paths())
            .args(["--", "systemd-nspawn"]);
        command.args([
            "--quiet",
            "--boot",
            "--console=pipe",
            "--register=no",
            "--keep-unit",
        ]);
        command.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
        // Not implied by a network namespace that is given.
        command.arg("--capability=CAP_NET_ADMIN");
        command.arg(format!("--network-namespace-path={}", network.display()));
        command.arg(format!("--machine={}", self.name));
        command.arg(format!("--directory={}", self.disk.root.display()));
        command.arg(format!("--bind-ro={}:{BINARIES}", binary_dir()?.display()));
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        // /proc/sys/net writable, the rest not: `1` would let a node change this machine's kernel.
        command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        Ok(command)
    }
}

impl Drop for BootedNode {
    fn drop(&mut self) {
        if self.machine.is_some()
            && let Err(error) = self.power_cut()
        {
            eprintln!("cannot switch {} off: {error:#}", self.name);
        }
    }
}

/// The node's own first process, as seen from here.
fn leader(machine: &Process) -> Result<Pid> {
    let mut children = process::command("pgrep");
    children.args(["--parent", &machine.pid().to_string()]);
    let children = process::run(&children, LIMIT, "")?.stdout;
    let first = children.lines().next().context("nspawn has no child")?;
    Pid::from_raw(first.parse()?).context("pid 0")
}

/// A command inside the node's namespaces. All but the time namespace, which it does not have.
fn enter(leader: Pid) -> Command {
    let mut command = process::command("nsenter");
    command.args(["--target", &leader.as_raw_nonzero().to_string()]);
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
    command
}

/// The node's disk: what it writes lies over the image. Unmounted when dropped.
#[derive(Debug)]
struct Disk {
    root: PathBuf,
}

impl Disk {
    fn mount(dir: &Path, name: &str) -> Result<Self> {
        let image = std::env::var("HOLDFAST_LAB_IMAGE").context("HOLDFAST_LAB_IMAGE names no image")?;
        let [root, upper, work] = ["root", "upper", "work"].map(|part| dir.join(part));
        for part in [&root, &upper, &work] {
            std::fs::create_dir(part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let mut mount = process::command("mount");
        mount.args(["-t", "overlay", "holdfast", "-o"]);
        mount.arg(format!(
            "lowerdir={image},upperdir={},workdir={}",
            upper.display(),
            work.display()
        ));
        process::run(mount.arg(&root), LIMIT, "")?.ok()?;
        let disk = Self { root };
        disk.write("etc/hostname", name)?;
        disk.write("etc/hosts", &format!("127.0.0.1 localhost {name}"))?;
        // An RSA key would cost more than all the rest of the boot.
        let mut keygen = process::command("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(disk.root.join("etc/ssh/ssh_host_ed25519_key"));
        process::run(&keygen, LIMIT, "")?.ok()?;
        Ok(disk)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the disk lives in memory and need not survive a crash"
    )]
    fn write(&self, path: &str, line: &str) -> Result<()> {
        let path = self.root.join(path);
        std::fs::write(&path, format!("{line}\n")).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = process::command("umount");
        // The mount goes from sight at once; a process that still ends holds it no longer than itself.
        unmount.arg("--lazy").arg(&self.root);
        if let Err(error) = process::run(&unmount, LIMIT, "").and_then(Outcome::ok) {
            eprintln!("cannot unmount {}: {error:#}", self.root.display());
        }
    }
}
