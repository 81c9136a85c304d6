//! A world: hosts on one switch, with a directory, processes and logs each.
//!
//! Host number N is 10.77.0.N and fd77::N. Nothing leads out: what is elsewhere is unreachable at once. Where a machine
//! gives no namespaces, [`World::on_loopback`] is the poor relation: the same processes, on 127.77.0.N.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::need;
use crate::netns::{Namespace, check_name};
use crate::process::{self, Outcome, Process};
use crate::socket::{self, Listener, Reach};

/// The limit of a short command.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Hosts and what they need. All of it ends when dropped: first the processes, then the network, then the files.
#[derive(Debug)]
pub struct World {
    label: String,
    hosts: BTreeMap<String, Host>,
    /// None on loopback.
    switch: Option<Namespace>,
    dir: TempDir,
}

#[derive(Debug)]
struct Host {
    number: u8,
    /// None on loopback.
    namespace: Option<Namespace>,
}

impl World {
    /// An empty world, its switch up. The label must be unique among the worlds that live at once: take the test's name.
    ///
    /// # Errors
    /// Outside the private world that `cargo xtask` enters, or if the kernel refuses.
    pub fn new(label: &str) -> Result<Self> {
        if let Some(reason) = need::namespaces() {
            bail!("no world without namespaces: {reason}");
        }
        // In memory, and private: it goes with the namespaces even if nothing here gets to clean up.
        let dir = TempDir::with_prefix_in(format!("{label}-"), "/run")
            .context("cannot make a directory in /run")?;
        let switch = Namespace::switch(&format!("{label}-switch"))?;
        Ok(Self {
            label: label.to_owned(),
            hosts: BTreeMap::new(),
            switch: Some(switch),
            dir,
        })
    }

    /// An empty world without networks of its own, on the loopback device.
    ///
    /// # Errors
    /// If there is no room for its files.
    pub fn on_loopback(label: &str) -> Result<Self> {
        let dir = TempDir::with_prefix(format!("{label}-")).context("cannot make a temporary directory")?;
        Ok(Self {
            label: label.to_owned(),
            hosts: BTreeMap::new(),
            switch: None,
            dir,
        })
    }

    /// Whether packets can be sent and dropped here.
    #[must_use]
    pub fn has_networks(&self) -> bool {
        self.switch.is_some()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Adds a host with the addresses of `number`.
    ///
    /// # Errors
    /// If name or number is taken or unfit.
    pub fn add_host(&mut self, name: &str, number: u8) -> Result<()> {
        check_name(name)?;
        if self.hosts.contains_key(name) || self.hosts.values().any(|host| host.number == number) {
            bail!("there is a host '{name}', or one with number {number}, already");
        }
        let namespace = self.wire(name, number)?;
        std::fs::create_dir(self.dir.path().join(name)).context("cannot make the host's directory")?;
        self.hosts.insert(name.to_owned(), Host { number, namespace });
        Ok(())
    }

    /// Gives `name` a fresh network namespace, as a reboot does: its processes end, its firewall is gone.
    ///
    /// # Errors
    /// If the old one cannot be taken away.
    pub fn renew_network(&mut self, name: &str) -> Result<()> {
        let host = self
            .hosts
            .get_mut(name)
            .with_context(|| format!("no host '{name}'"))?;
        host.namespace = None;
        let number = host.number;
        let fresh = self.wire(name, number)?;
        if let Some(host) = self.hosts.get_mut(name) {
            host.namespace = fresh;
        }
        Ok(())
    }

    /// The directory of `host`'s files and logs.
    #[must_use]
    pub fn dir(&self, host: &str) -> PathBuf {
        self.dir.path().join(host)
    }

    /// The IPv4 address of `host`.
    ///
    /// # Panics
    /// If there is no such host: the test is wrong.
    #[must_use]
    pub fn v4(&self, host: &str) -> Ipv4Addr {
        let number = self.host(host).number;
        if self.has_networks() {
            Ipv4Addr::new(10, 77, 0, number)
        } else {
            Ipv4Addr::new(127, 77, 0, number)
        }
    }

    /// The IPv6 address of `host`.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn v6(&self, host: &str) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.host(host).number.into())
    }

    /// The file that stands for `host`'s network: for `nsenter --net`.
    ///
    /// # Errors
    /// On loopback.
    pub fn network(&self, host: &str) -> Result<PathBuf> {
        Ok(self.namespace(host)?.path())
    }

    /// `program`, to be started on `host`.
    ///
    /// On loopback it has no right to touch a firewall: that would be this machine's.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn command(&self, host: &str, program: impl AsRef<Path>) -> Command {
        let mut command = match &self.host(host).namespace {
            Some(namespace) => namespace.enter(),
            None => {
                let mut forgo = process::command("setpriv");
                forgo.args([
                    "--no-new-privs",
                    "--inh-caps=-net_admin",
                    "--bounding-set=-net_admin",
                ]);
                forgo
            }
        };
        command.arg(program.as_ref());
        command
    }

    /// Runs a short command on `host` and tells how it ended.
    ///
    /// # Errors
    /// If it cannot be started or does not end within [`LIMIT`].
    pub fn run(&self, host: &str, words: &[&str]) -> Result<Outcome> {
        let [program, args @ ..] = words else {
            bail!("an empty command")
        };
        let mut command = self.command(host, program);
        command.args(args);
        process::run(&command, LIMIT, "")
    }

    /// Starts a long-lived `command` made by [`World::command`]; its log is `NAME.log` in the host's directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, host: &str, name: &str, command: Command) -> Result<Process> {
        let log = self.dir(host).join(format!("{name}.log"));
        Process::spawn(&format!("{name} on {host}"), command, &log)
    }

    /// Runs `work` on a thread in `host`'s network. Sockets made there stay there and may be returned.
    ///
    /// # Errors
    /// If the network cannot be entered.
    pub fn inside<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.host(host).namespace {
            Some(namespace) => namespace.inside(work),
            None => Ok(work()),
        }
    }

    /// Opens a TCP connection from `from`.
    ///
    /// # Errors
    /// As connect(2), a time-out included.
    pub fn connect(&self, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
        self.inside(from, || socket::connect(to))
            .map_err(io::Error::other)?
    }

    /// What becomes of a TCP connection between two hosts, over IPv4.
    ///
    /// # Errors
    /// For an error that is not about the way there.
    pub fn reach(&self, from: &str, to: &str, port: u16) -> Result<Reach> {
        self.reach_address(from, (self.v4(to), port).into())
    }

    /// The same over IPv6.
    ///
    /// # Errors
    /// For an error that is not about the way there.
    pub fn reach_v6(&self, from: &str, to: &str, port: u16) -> Result<Reach> {
        self.reach_address(from, (self.v6(to), port).into())
    }

    /// A socket of `host`, listening on all its addresses, or on its own one on loopback.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn bind(&self, host: &str, port: u16) -> Result<TcpListener> {
        let address: IpAddr = if self.has_networks() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            self.v4(host).into()
        };
        self.inside(host, || TcpListener::bind((address, port)))?
            .with_context(|| format!("cannot listen on port {port} of {host}"))
    }

    /// A server on `host` that accepts and counts until it is dropped.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn listen(&self, host: &str, port: u16) -> Result<Listener> {
        Ok(Listener::serve(self.bind(host, port)?))
    }

    /// Silently drops all that `host` sends and receives, until [`World::heal`].
    ///
    /// # Errors
    /// On loopback.
    pub fn cut(&self, host: &str) -> Result<()> {
        self.switch()?.set_cut("hosts", host, true)
    }

    /// Undoes [`World::cut`].
    ///
    /// # Errors
    /// On loopback.
    pub fn heal(&self, host: &str) -> Result<()> {
        self.switch()?.set_cut("hosts", host, false)
    }

    /// Silently drops what two hosts send each other, until [`World::heal_pair`].
    ///
    /// # Errors
    /// On loopback.
    pub fn cut_pair(&self, one: &str, other: &str) -> Result<()> {
        self.switch()?
            .set_cut("pairs", &format!("{one} . {other}, {other} . {one}"), true)
    }

    /// Undoes [`World::cut_pair`].
    ///
    /// # Errors
    /// On loopback.
    pub fn heal_pair(&self, one: &str, other: &str) -> Result<()> {
        self.switch()?
            .set_cut("pairs", &format!("{one} . {other}, {other} . {one}"), false)
    }

    fn reach_address(&self, from: &str, to: SocketAddr) -> Result<Reach> {
        socket::reach(self.connect(from, to)).with_context(|| format!("cannot try {to} from {from}"))
    }

    fn wire(&self, name: &str, number: u8) -> Result<Option<Namespace>> {
        let Some(switch) = &self.switch else {
            return Ok(None);
        };
        let namespace = Namespace::create(&format!("{}-{name}", self.label))?;
        switch.plug_in(&namespace, name, number)?;
        Ok(Some(namespace))
    }

    fn host(&self, name: &str) -> &Host {
        self.hosts
            .get(name)
            .unwrap_or_else(|| panic!("the test names no host '{name}'"))
    }

    fn namespace(&self, host: &str) -> Result<&Namespace> {
        self.host(host)
            .namespace
            .as_ref()
            .context("there are no networks on loopback")
    }

    fn switch(&self) -> Result<&Namespace> {
        self.switch.as_ref().context("there is no switch on loopback")
    }
}
