//! The `holdfast` command: one file per noun, each a thin client of the hub's Operator service.
//!
//! Data goes to stdout, progress and prompts to stderr. What the hub says is verified against this operator's own pins
//! ([`session`]) before it is shown or built upon, and nothing is signed that the hub composed.

mod ask;
mod audit;
mod authority;
mod connect;
mod context;
mod cosign;
mod document;
mod draft;
mod epoch;
mod labels;
mod login;
mod node;
mod operator;
mod output;
mod passphrase;
mod pins;
mod policy;
#[cfg(feature = "server")]
mod server;
mod session;
pub(crate) mod signer;
mod ssh_agent;
mod status;
#[cfg(test)]
mod testing;
mod time;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use holdfast_pki::clock::SystemClock;
use holdfast_pki::files::SystemFiles;
use holdfast_proto::ids::Name;
use tonic::Code;

pub use output::Format;

/// How a command ended, as its exit code says it (README, Exit codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// Done, or nothing to do.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// There are changes, or something is not as it should be.
    Changes = 3,
    /// It waits for the signatures of other operators.
    Waiting = 4,
    /// The hub denied it.
    Denied = 5,
    /// Nobody saw how it ended.
    Unknown = 6,
}

/// Keeps a fleet of Proxmox nodes, VPSes and guests in the state that its operators signed.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        holdfast init --dir /var/lib/holdfast --trust-domain lab.example --listen 0.0.0.0:8443 --advertise hub.lab.example:8443\n  \
        holdfast serve --dir /var/lib/holdfast\n  \
        holdfast token create --label role=db --uses 3 --ttl 1h > db.token\n  \
        holdfast policy plan ./policy && holdfast policy apply ./policy\n\n\
        Exit codes: 0 done, 1 error, 2 usage, 3 changes found, 4 waits for signatures, \
        5 denied, 6 outcome unknown."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a hub, and its first operator outside the hub's directory
    #[cfg(feature = "server")]
    Init(server::Init),
    /// Serve the hub in a directory
    #[cfg(feature = "server")]
    Serve(server::Serve),
    /// Put a copy of a hub's directory in place of a lost one
    #[cfg(feature = "server")]
    Restore(server::Restore),
    /// Say how the hub is
    Status(status::Status),
    /// Join tokens, by which machines enrol themselves
    #[command(subcommand)]
    Token(token::Token),
    /// The fleet's nodes
    #[command(subcommand)]
    Node(node::Node),
    /// Check, plan and apply a policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Who may sign what: the document that every node follows
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Documents that wait for more operators to sign them
    #[command(subcommand)]
    Draft(draft::DraftCommand),
    /// Where a history begins anew, after a restore
    #[command(subcommand)]
    Epoch(epoch::EpochCommand),
    /// Who may sign and who has access
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// The fleets that this machine knows, and how it gets in
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// What was changed, by whom and from where
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// What every operator's command takes.
#[derive(Debug, Args)]
pub struct Operator {
    /// Directory with the operator's contexts [default: ~/.config/holdfast]
    #[arg(long, env = "HOLDFAST_OPERATOR_DIR", value_name = "DIR")]
    operator_dir: Option<PathBuf>,
    /// Which fleet, as `holdfast context list` names it [default: the current one]
    #[arg(long, env = "HOLDFAST_CONTEXT", value_name = "NAME")]
    context: Option<Name>,
    #[command(flatten)]
    signing: Signing,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Where the signing key's passphrase comes from.
#[derive(Debug, Clone, Args)]
pub struct Signing {
    /// File with the signing key's passphrase; asked on the terminal if not given
    #[arg(long, env = "HOLDFAST_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Command whose first line of output is the passphrase, such as 'pass show holdfast'; run without a shell
    #[arg(
        long,
        env = "HOLDFAST_PASSPHRASE_COMMAND",
        value_name = "COMMAND",
        conflicts_with = "passphrase_file"
    )]
    passphrase_command: Option<String>,
}

/// The operator's directory if none was named: `$XDG_CONFIG_HOME/holdfast` or `~/.config/holdfast`.
fn default_operator_dir() -> anyhow::Result<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let home = || {
        std::env::var_os("HOME")
            .filter(|dir| !dir.is_empty())
            .map(|home| PathBuf::from(home).join(".config"))
    };
    let config = config.or_else(home);
    Ok(config
        .ok_or_else(|| anyhow::anyhow!("neither HOME nor XDG_CONFIG_HOME is set: give --operator-dir"))?
        .join("holdfast"))
}

impl Operator {
    fn dir(&self) -> anyhow::Result<crate::operator_dir::OperatorDir> {
        let path = self.operator_dir.clone().map_or_else(default_operator_dir, Ok)?;
        Ok(crate::operator_dir::OperatorDir::new(path, Arc::new(SystemFiles)))
    }

    /// The context that is meant.
    fn context_dir(&self) -> anyhow::Result<crate::operator_dir::ContextDir> {
        Ok(self.dir()?.choose(self.context.as_ref())?)
    }

    async fn session(&self) -> anyhow::Result<session::Session> {
        let context = self.context_dir()?;
        session::Session::open(context, Arc::new(SystemClock), &self.signing).await
    }
}

/// Runs the command that the process was called with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = runtime().and_then(|runtime| runtime.block_on(run(cli.command)));
    match ended {
        Ok(ending) => ExitCode::from(ending as u8),
        Err(error) => {
            output::complain(&error);
            ExitCode::from(ending_of(&error) as u8)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    #[cfg(feature = "server")]
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    #[cfg(not(feature = "server"))]
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

async fn run(command: Command) -> anyhow::Result<Ending> {
    match command {
        #[cfg(feature = "server")]
        Command::Init(init) => init.run().await,
        #[cfg(feature = "server")]
        Command::Serve(serve) => serve.run().await,
        #[cfg(feature = "server")]
        Command::Restore(restore) => restore.run().await,
        Command::Status(status) => status.run().await,
        Command::Token(token) => token.run().await,
        Command::Node(node) => node.run().await,
        Command::Policy(policy) => policy.run().await,
        Command::Authority(authority) => authority.run().await,
        Command::Draft(draft) => draft.run().await,
        Command::Epoch(epoch) => epoch.run().await,
        Command::Operator(operator) => operator.run().await,
        Command::Context(context) => context.run().await,
        Command::Audit(audit) => audit.run().await,
    }
}

/// A change that was sent and whose answer never came: it happened or it did not.
#[derive(Debug, thiserror::Error)]
#[error(
    "no answer came: it was done or it was not; look before you try again (`holdfast status`, `holdfast audit list`)"
)]
struct UnknownOutcome(#[source] tonic::Status);

/// The hub's answer to a change; one that may have been lost on its way is told apart from a refusal.
fn answered<T>(reply: Result<tonic::Response<T>, tonic::Status>) -> anyhow::Result<T> {
    reply
        .map(tonic::Response::into_inner)
        .map_err(|status| match status.code() {
            // The hub's own word that nothing was changed, such as on a full disk; not a connection that broke.
            Code::Unavailable if std::error::Error::source(&status).is_none() => status.into(),
            Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => {
                UnknownOutcome(status).into()
            }
            _ => status.into(),
        })
}

/// The ending that an error's cause calls for.
fn ending_of(error: &anyhow::Error) -> Ending {
    if error.chain().any(|cause| cause.is::<UnknownOutcome>()) {
        return Ending::Unknown;
    }
    let status = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<tonic::Status>());
    match status.map(tonic::Status::code) {
        Some(Code::PermissionDenied | Code::Unauthenticated) => Ending::Denied,
        _ => Ending::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn a_lost_answer_is_told_from_a_hub_that_says_no() {
        let ending = |status| ending_of(&answered::<()>(Err(status)).unwrap_err());
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(
            ending(tonic::Status::from_error(Box::new(broken))),
            Ending::Unknown
        );
        let mut unavailable = tonic::Status::unavailable("the connection broke");
        assert_eq!(ending(unavailable.clone()), Ending::Failed, "the hub said so");
        unavailable.set_source(std::sync::Arc::new(std::io::Error::from(
            std::io::ErrorKind::ConnectionReset,
        )));
        assert_eq!(ending(unavailable), Ending::Unknown);
        assert_eq!(ending(tonic::Status::permission_denied("no")), Ending::Denied);
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
