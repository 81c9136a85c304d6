//! A fleet: a world with a hub in it, nodes with agents, and an operator at the hub's console.
//!
//! The binaries are the ones built beside this test, or in `HOLDFAST_BIN_DIR`. Hub and agents can be killed and
//! started again; their state stays in their host's directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::node::Node;
use crate::process::{self, Outcome, Process};
use crate::socket::{self, Reach};
use crate::wait;
use crate::world::World;

/// The hub's host, where the operator sits too: 10.77.0.1.
pub const HUB: &str = "hub";
/// The hub's port.
pub const PORT: u16 = 8443;
/// The nodes' realm.
pub const TRUST_DOMAIN: &str = "lab.example";

/// The first node is 10.77.0.11.
const FIRST_NODE: u8 = 11;

/// How long a hub, an agent or a change may take before something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// An operator's command may wait for a whole fleet, undoing included.
const COMMAND_LIMIT: Duration = Duration::from_secs(150);

/// How soon agents undo and repair here: sooner than in life, where a minute is fine.
pub(crate) const HASTE: [&str; 4] = ["--guard-time", "10s", "--look-every", "3s"];

/// A hub, nodes, and what they run on.
#[derive(Debug)]
pub struct Fleet {
    hub: Option<Process>,
    agents: BTreeMap<String, Process>,
    /// What agents are started with, beside state directory, name and token.
    pub agent_options: Vec<String>,
    /// The hosts. Dropped last: the processes above live in it.
    pub world: World,
}

impl Fleet {
    /// A fleet without nodes, its hub initialised and serving.
    ///
    /// # Errors
    /// If the hub does not come up; with the end of its log.
    pub fn new(label: &str) -> Result<Self> {
        Self::within(World::new(label)?)
    }

    /// The same in a world that is there already.
    ///
    /// # Errors
    /// If the hub does not come up; with the end of its log.
    pub fn within(mut world: World) -> Result<Self> {
        world.add_host(HUB, 1)?;
        let agent_options = HASTE.map(str::to_owned).to_vec();
        let mut fleet = Self {
            hub: None,
            agents: BTreeMap::new(),
            agent_options,
            world,
        };
        fleet.init()?.ok()?;
        fleet.start_hub()?;
        Ok(fleet)
    }

    /// Runs `holdfast init` for this fleet's hub, also a second time.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn init(&self) -> Result<Outcome> {
        let at = format!("{}:{PORT}", self.world.v4(HUB));
        let (dir, operator) = (self.hub_dir(), self.operator_dir());
        let mut init = self.world.command(HUB, binary("holdfast")?);
        init.arg("init")
            .arg("--dir")
            .arg(dir)
            .arg("--operator-dir")
            .arg(operator);
        // No key derivation: it would cost every one of the operator's commands here half a second.
        init.args([
            "--trust-domain",
            TRUST_DOMAIN,
            "--listen",
            &at,
            "--advertise",
            &at,
            "--kdf",
            "none",
        ]);
        process::run(&init, COMMAND_LIMIT, "")
    }

    /// Starts the hub and waits until it accepts connections.
    ///
    /// # Errors
    /// If it does not; with the end of its log.
    pub fn start_hub(&mut self) -> Result<()> {
        let mut serve = self.world.command(HUB, binary("holdfast")?);
        serve.arg("serve").arg("--dir").arg(self.hub_dir());
        let mut hub = self.world.spawn(HUB, "holdfast", serve)?;
        let at = (self.world.v4(HUB), PORT).into();
        let up = wait::until("the hub to accept connections", PATIENCE, || {
            if let Some(status) = hub.exited() {
                return Err(format!("it ended with {status}"));
            }
            match self.world.inside(HUB, || socket::reach(socket::connect(at))) {
                Ok(Ok(Reach::Open)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        up.map_err(|error| anyhow!("{error:#}\n{}", hub.tail()))?;
        self.hub = Some(hub);
        Ok(())
    }

    /// The running hub.
    ///
    /// # Errors
    /// If it was stopped.
    pub fn hub(&mut self) -> Result<&mut Process> {
        self.hub.as_mut().context("the hub does not run")
    }

    /// Ends the hub with SIGKILL.
    pub fn kill_hub(&mut self) {
        // Dropped, a process is killed and buried.
        self.hub = None;
    }

    /// Adds a host and an agent that enrols with a token of its own, and waits until it is connected.
    ///
    /// # Errors
    /// If it does not connect; with the end of its log.
    pub fn add_node(&mut self, name: &str, labels: &[&str]) -> Result<()> {
        self.add_node_host(name)?;
        let token = self.token(labels, &[])?;
        self.start_agent(name, Some(&token))?;
        self.wait_for(name, "be connected", Node::is_connected).map(drop)
    }

    /// Adds the host of a node, without an agent.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn add_node_host(&mut self, name: &str) -> Result<()> {
        let taken = u8::try_from(self.world.hosts() - 1).context("too many hosts")?;
        self.world.add_host(name, FIRST_NODE + taken)
    }

    /// A join token.
    ///
    /// # Errors
    /// If the hub refuses.
    pub fn token(&self, labels: &[&str], options: &[&str]) -> Result<String> {
        let mut words = vec!["token", "create"];
        for label in labels {
            words.extend(["--label", label]);
        }
        words.extend(options);
        Ok(self.holdfast(&words)?.ok()?.trim().to_owned())
    }

    /// Starts the agent of `name`; with a token if it has yet to enrol.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_agent(&mut self, name: &str, token: Option<&str>) -> Result<()> {
        let mut run = self.agent_command(name, name, &self.agent_dir(name))?;
        if let Some(token) = token {
            let path = self.world.dir(name).join("token");
            write(&path, token)?;
            run.arg("--token-file").arg(path);
        }
        let agent = self.world.spawn(name, "holdfast-agent", run)?;
        self.agents.insert(name.to_owned(), agent);
        Ok(())
    }

    /// `holdfast-agent run`, not yet started, on `host`: there can be more than one.
    ///
    /// # Errors
    /// If there is no such binary.
    pub fn agent_command(&self, host: &str, name: &str, state: &Path) -> Result<Command> {
        let mut run = self.world.command(host, binary("holdfast-agent")?);
        run.arg("run")
            .arg("--state-dir")
            .arg(state)
            .args(["--name", name]);
        run.args(&self.agent_options);
        Ok(run)
    }

    /// The running agent of `name`.
    ///
    /// # Errors
    /// If it was never started, or killed.
    pub fn agent(&mut self, name: &str) -> Result<&mut Process> {
        self.agents
            .get_mut(name)
            .with_context(|| format!("no agent runs on '{name}'"))
    }

    /// Ends the agent of `name` with SIGKILL. Its guard, if one is armed, lives on.
    pub fn kill_agent(&mut self, name: &str) {
        self.agents.remove(name);
    }

    /// An operator's command, given in the hub's network with the operator's credentials.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is for the caller to judge.
    pub fn holdfast<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Outcome> {
        let mut command = self.operator_command()?;
        command.args(words);
        process::run(&command, COMMAND_LIMIT, "")
    }

    /// `holdfast`, not yet started, in the hub's network with the operator's credentials.
    ///
    /// # Errors
    /// If there is no such binary.
    pub fn operator_command(&self) -> Result<Command> {
        let mut command = self.world.command(HUB, binary("holdfast")?);
        command.env("HOLDFAST_OPERATOR_DIR", self.operator_dir());
        Ok(command)
    }

    /// A command of another operator, whose directory is `dir`, given in the hub's network.
    ///
    /// # Errors
    /// If it cannot be run; how it ended is for the caller to judge.
    pub fn holdfast_as<S: AsRef<OsStr>>(&self, dir: &Path, words: &[S]) -> Result<Outcome> {
        self.run_as(dir, None, words)
    }

    /// The same by an operator whose signing key is in the ssh-agent at a socket.
    pub(crate) fn run_as<S: AsRef<OsStr>>(
        &self,
        dir: &Path,
        ssh_agent: Option<&Path>,
        words: &[S],
    ) -> Result<Outcome> {
        let mut command = self.world.command(HUB, binary("holdfast")?);
        command.env("HOLDFAST_OPERATOR_DIR", dir).args(words);
        command.envs(ssh_agent.map(|socket| ("SSH_AUTH_SOCK", socket)));
        process::run(&command, COMMAND_LIMIT, "")
    }

    /// Runs `holdfast policy VERB DIR OPTIONS`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn policy(&self, verb: &str, dir: &Path, options: &[&str]) -> Result<Outcome> {
        let mut words = vec![OsStr::new("policy"), OsStr::new(verb), dir.as_os_str()];
        words.extend(options.iter().map(OsStr::new));
        self.holdfast(&words)
    }

    /// A fresh policy directory with these files.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn policy_dir(&self, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
        let dir = self.world.dir(HUB).join("policies").join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (file, text) in files {
            write(&dir.join(file), text)?;
        }
        Ok(dir)
    }

    /// What the hub knows of its nodes.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        Node::read_list(&self.holdfast(&["node", "list", "-o", "json"])?.ok()?)
    }

    /// What the hub knows of one node.
    ///
    /// # Errors
    /// If it does not answer, or has no such node.
    pub fn node(&self, name: &str) -> Result<Node> {
        let found = self.nodes()?.into_iter().find(|node| node.name() == name);
        found.with_context(|| format!("the hub knows no node '{name}'"))
    }

    /// Waits until `name` is as wanted.
    ///
    /// # Errors
    /// After [`PATIENCE`], with the last state seen and the end of the agent's log.
    pub fn wait_for(&self, name: &str, wanted: &str, is_so: impl Fn(&Node) -> bool) -> Result<Node> {
        let seen = wait::until(&format!("{name} to {wanted}"), PATIENCE, || {
            match self.node(name) {
                Ok(node) if is_so(&node) => Ok(node),
                Ok(node) => Err(node.to_string()),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        seen.map_err(|error| {
            let log = self
                .agents
                .get(name)
                .map_or_else(|| "no agent runs there".to_owned(), Process::tail);
            anyhow!("{error:#}\n{log}")
        })
    }

    /// The hub's directory: keys and store.
    #[must_use]
    pub fn hub_dir(&self) -> PathBuf {
        self.world.dir(HUB).join("state")
    }

    /// The operator's directory, with a context for this fleet.
    #[must_use]
    pub fn operator_dir(&self) -> PathBuf {
        self.world.dir(HUB).join("operator")
    }

    /// The operator's context: signing key, credential, pins.
    #[must_use]
    pub fn context_dir(&self) -> PathBuf {
        self.operator_dir().join("contexts").join(TRUST_DOMAIN)
    }

    /// The state directory of `name`'s agent.
    #[must_use]
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.world.dir(name).join("state")
    }
}

/// The path of a binary of this build.
///
/// # Errors
/// If it is not there.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binary_dir()?.join(name);
    if !path.is_file() {
        bail!("{} is missing; run `cargo build --workspace`", path.display());
    }
    Ok(path)
}

/// Where the binaries of this build are.
///
/// # Errors
/// If nobody can tell where this program lies.
pub fn binary_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HOLDFAST_BIN_DIR") {
        return Ok(dir.into());
    }
    let exe = std::env::current_exe().context("cannot tell where this program lies")?;
    let dir = exe.parent().context("this program has no directory")?;
    // Tests lie one directory deeper than binaries.
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "test input, which need not survive a crash"
)]
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
