//! `holdfast-agent`: the program on each node.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use holdfast_agent::guard;
use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;

/// Keeps this machine in the state that its operators approved.
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Undo a change unless it is confirmed in time; started by the agent itself
    Guard(GuardArgs),
}

#[derive(Debug, clap::Args)]
struct GuardArgs {
    /// The pending commit: <state dir>/guard/<id>.armed
    file: PathBuf,
    /// Leave the session of whoever starts this, so that its end is not ours
    #[arg(long)]
    own_session: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
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
    }
}

async fn guard(args: &GuardArgs) -> anyhow::Result<ExitCode> {
    if args.own_session {
        rustix::process::setsid().context("cannot begin a session of our own")?;
    }
    guard::run::run(&SystemFiles, &SystemClock, &args.file).await?;
    Ok(ExitCode::SUCCESS)
}
