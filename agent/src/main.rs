//! `holdfast-agent`: the program on each node.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use holdfast_agent::dial::TcpConnector;
use holdfast_agent::host::Chain;
use holdfast_agent::inventory::HostRoot;
use holdfast_agent::{guard, run};
use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;
use holdfast_pki::random::SystemRandom;
use holdfast_proto::ids::Name;
use tokio::signal::unix::{SignalKind, signal};

/// Keeps this machine in the state that its operators approved.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-agent",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        holdfast-agent run --token-file /root/db.token        the first time: enrols, then runs\n  \
        holdfast-agent run                                    from then on\n\n\
        Exit codes: 0 stopped by a signal, 1 error, 2 usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol if need be, then keep the confirmed state and the link to a hub
    Run(RunArgs),
    /// Undo a change unless it is confirmed in time; started by the agent itself
    Guard(GuardArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// This node's state
    #[arg(
        long,
        env = "HOLDFAST_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/holdfast-agent"
    )]
    state_dir: PathBuf,
    /// File with a join token, or '-' for standard input; only needed to enrol
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The name to enrol under [default: this host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// How long a change may stay unconfirmed before it is undone
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = guard_time)]
    guard_time: Duration,
    /// How often to look for drift
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = look_every)]
    look_every: Duration,
    /// Where root on this machine says what may be applied here: allow = ["firewall", ..]
    #[arg(long, value_name = "FILE", default_value = holdfast_agent::ceiling::FILE)]
    config: PathBuf,
}

/// Below this a busy machine could not confirm in time; above it an operator would wait too long for the way back.
fn guard_time(text: &str) -> Result<Duration, String> {
    time_between(text, Duration::from_secs(5), Duration::from_secs(3600))
}

fn look_every(text: &str) -> Result<Duration, String> {
    time_between(text, Duration::from_secs(1), Duration::from_secs(86_400))
}

fn time_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < least || time > most {
        let (least, most) = (
            humantime::format_duration(least),
            humantime::format_duration(most),
        );
        return Err(format!("from {least} to {most} wanted"));
    }
    Ok(time)
}

#[derive(Debug, clap::Args)]
struct GuardArgs {
    /// The pending commit: <state dir>/guard/<id>.armed
    file: PathBuf,
    /// Leave the session of whoever starts this, so that its end is not ours
    #[arg(long)]
    own_session: bool,
}

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Each cause once, and no backtrace: what failed, on what, why, what to do.
            let _ = writeln!(std::io::stderr(), "error: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A guard whose reader died with the agent must go on: by default a failed log line is told on stderr, and panics.
        .log_internal_errors(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::builder()
                .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
                .from_env_lossy(),
        )
        .init();
    // One thread: the agent waits nearly always, and each further one costs memory on every node.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match cli.command {
        Command::Guard(args) => runtime.block_on(guard(&args)),
        Command::Run(args) => runtime.block_on(keep(args)),
    }
}

async fn keep(args: RunArgs) -> anyhow::Result<ExitCode> {
    let settings = run::Settings {
        state_dir: args.state_dir,
        token_file: args.token_file,
        name: args.name,
        guard_time: args.guard_time,
        look_every: args.look_every,
        ceiling: args.config,
    };
    let machine = run::Machine {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        files: Arc::new(SystemFiles),
        root: HostRoot::default(),
        connector: Arc::new(TcpConnector),
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run::run(settings, machine, stop).await?;
    Ok(ExitCode::SUCCESS)
}

async fn guard(args: &GuardArgs) -> anyhow::Result<ExitCode> {
    if args.own_session {
        rustix::process::setsid().context("cannot begin a session of our own")?;
    }
    guard::run::run(&SystemFiles, &SystemClock, &args.file).await?;
    Ok(ExitCode::SUCCESS)
}
