//! `holdfast init`, `serve` and `restore`: the commands that run beside the hub's own files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::random::SystemRandom;
use holdfast_proto::ids::{Name, TrustDomain};
use tokio::signal::unix::{SignalKind, signal};

use super::signer::NewKey;
use super::{Ending, Signing, default_operator_dir, output};
use crate::init::{self, Made, Plan};
use crate::restore;
use crate::serve::{self, Machine};

fn machine() -> Machine {
    Machine {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        files: Arc::new(SystemFiles),
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast init --dir /var/lib/holdfast --trust-domain lab.example \\\n    \
    --listen 0.0.0.0:8443 --advertise hub.lab.example:8443"
)]
pub(super) struct Init {
    /// The hub's directory, new or empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The fleet's trust domain, such as lab.example
    #[arg(long, value_name = "NAME")]
    trust_domain: TrustDomain,
    /// Where the hub listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where agents and operators reach it; may be given several times
    #[arg(long, value_name = "HOST:PORT", required = true, value_parser = host_and_port)]
    advertise: Vec<String>,
    /// The first operator's directory, outside --dir [default: ~/.config/holdfast]
    #[arg(long, env = "HOLDFAST_OPERATOR_DIR", value_name = "DIR")]
    operator_dir: Option<PathBuf>,
    /// The first operator's name
    #[arg(long, value_name = "NAME", default_value = "admin")]
    operator_name: Name,
    #[command(flatten)]
    key: NewKey,
    #[command(flatten)]
    signing: Signing,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("host:port wanted, such as hub.lab.example:8443")?;
    if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err("host:port wanted, such as hub.lab.example:8443 or [2001:db8::1]:8443".to_owned());
    }
    Ok(text.to_owned())
}

impl Init {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        let plan = Plan {
            operator_dir: self.operator_dir.map_or_else(default_operator_dir, Ok)?,
            dir: self.dir,
            operator: self.operator_name,
            trust_domain: self.trust_domain,
            listen: self.listen,
            advertise: self.advertise,
        };
        let key = || self.key.make(&self.signing, &SystemRandom);
        match init::init(&plan, &machine(), key).await? {
            Made::AlreadyThere => {
                output::say(&format!(
                    "{} already holds a hub of {}; nothing was changed",
                    plan.dir.display(),
                    plan.trust_domain
                ));
            }
            Made::New => {
                output::say(&format!(
                    "hub of {} made in {}",
                    plan.trust_domain,
                    plan.dir.display()
                ));
                output::say(&format!(
                    "operator '{}' made in {}",
                    plan.operator,
                    plan.operator_dir.display()
                ));
                output::say(self.key.what_to_keep());
                output::say(&format!("next: holdfast serve --dir {}", plan.dir.display()));
            }
        }
        Ok(Ending::Done)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast serve --dir /var/lib/holdfast\n\nRUST_LOG sets what is logged, such as RUST_LOG=debug."
)]
pub(super) struct Serve {
    /// The hub's directory, as `holdfast init` made it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve::serve(self.dir, machine(), None, stop).await?;
        Ok(Ending::Done)
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdfast restore --dir /var/lib/holdfast --from /backup/holdfast-2026-11-20\n\n\
    Restore the newest copy there is: what happened since it was made is not in it. The hub that serves from it serves no \
    release until an admin has looked at the fleet and raised the epoch. Operators log in anew: `holdfast context login`."
)]
pub(super) struct Restore {
    /// The hub's directory, new or empty
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// A copy of a hub's directory, made while no hub served from it
    #[arg(long, value_name = "COPY")]
    from: PathBuf,
}

impl Restore {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        let restored = restore::restore(&self.dir, &self.from, &machine()).await?;
        let release = restored
            .release
            .map_or_else(|| "no release".to_owned(), |release| format!("release {release}"));
        output::say(&format!(
            "hub of {} restored in {}: epoch {}, {release}",
            restored.trust_domain,
            self.dir.display(),
            restored.epoch
        ));
        output::say("it serves no release until an admin has looked at the fleet and raised the epoch");
        output::say(&format!(
            "next: holdfast serve --dir {}, then from an operator's machine: holdfast context login, holdfast epoch raise",
            self.dir.display()
        ));
        Ok(Ending::Done)
    }
}
