//! `holdfast context`: the fleets that this machine knows, and how it gets into them.

mod add;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clap::{Args, Subcommand};
use holdfast_pki::clock::{Clock, SystemClock};
use holdfast_pki::issue::validity;
use holdfast_proto::ids::Name;
use serde_json::{Value, json};

use super::session::Session;
use super::{Ending, Format, Operator, output};
use crate::operator_dir::ContextDir;

#[derive(Debug, Subcommand)]
pub(super) enum ContextCommand {
    /// List the contexts of this machine
    List(Here),
    /// Show what this machine knows of a fleet; no hub is asked
    Show(Here),
    /// Use a context when none is named
    Use(Named),
    /// Begin in a fleet: pin its authority, make this operator's key, and write the request for an admin
    Add(add::Add),
    /// Get a new API certificate with the signing key
    Login(Here),
    /// Forget a fleet, its keys too
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdfast context list\n  holdfast context show --context lab.example")]
pub(super) struct Here {
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast context use lab.example")]
pub(super) struct Named {
    /// The context
    name: Name,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast context remove old.example --yes")]
pub(super) struct Remove {
    /// The context
    name: Name,
    /// Delete its signing key, too, without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: Operator,
}

impl ContextCommand {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::List(Here { operator }) => list(&operator),
            Self::Show(Here { operator }) => show(&operator),
            Self::Use(Named { name, operator }) => {
                let dir = operator.dir()?;
                dir.choose(Some(&name))?;
                dir.set_current(&name)?;
                output::remark(&format!("'{name}' is used when no context is named"));
                Ok(Ending::Done)
            }
            Self::Add(add) => add.run().await,
            Self::Login(Here { operator }) => login(&operator).await,
            Self::Remove(remove) => remove.run(),
        }
    }
}

/// One context as it lies on this machine.
struct Known {
    dir: ContextDir,
    json: Value,
    row: Vec<String>,
}

fn known(dir: ContextDir, current: bool) -> anyhow::Result<Known> {
    let context = dir.context()?;
    let authority = dir.authority(&context.authority)?;
    let listed = authority.operator(&context.operator);
    let role = listed.map(|key| key.role);
    let now = SystemClock.unix_secs();
    let until = dir
        .api_credential()?
        .and_then(|credential| validity(credential.chain.first()?))
        .and_then(|(_, until)| Some(until.duration_since(UNIX_EPOCH).ok()?.as_secs()));
    let access = until.filter(|until| *until > now);
    let pin = authority.pin();
    let json = json!({
        "name": dir.name(),
        "current": current,
        "path": dir.path(),
        "trust_domain": context.trust_domain,
        "operator": context.operator,
        "role": role,
        "key_id": listed.map(|key| key.id),
        "hubs": context.hubs,
        "authority": { "version": pin.version, "digest": pin.digest, "expires_secs": authority.document().expires_secs },
        "highest": context.highest.as_ref().map(|seen| seen.generation),
        "access_until_secs": access,
    });
    let row = vec![
        format!("{}{}", dir.name(), if current { " *" } else { "" }),
        context.operator.to_string(),
        role.map_or_else(|| "not listed".to_owned(), |role| role.to_string()),
        format!("{}", pin.version),
        access.map_or_else(|| "-".to_owned(), |until| output::left(until - now)),
        output::clean(&context.hubs.join(",")),
    ];
    Ok(Known { dir, json, row })
}

fn list(operator: &Operator) -> anyhow::Result<Ending> {
    let dir = operator.dir()?;
    let current = dir.choose(None).ok().map(|current| current.name().clone());
    let mut contexts = Vec::new();
    for name in dir.names()? {
        let is_current = current.as_ref() == Some(&name);
        contexts.push(known(dir.context(&name), is_current)?);
    }
    match operator.output {
        Format::Json => {
            let contexts: Vec<_> = contexts.into_iter().map(|known| known.json).collect();
            output::json(json!({ "contexts": contexts }));
        }
        Format::Table if contexts.is_empty() => output::remark(
            "there is no context yet: make a hub with `holdfast init`, or join a fleet with `holdfast context add`",
        ),
        Format::Table => {
            let rows: Vec<_> = contexts.into_iter().map(|known| known.row).collect();
            output::say(&output::table(
                &["NAME", "OPERATOR", "ROLE", "AUTHORITY", "ACCESS FOR", "HUBS"],
                &rows,
            ));
        }
    }
    Ok(Ending::Done)
}

fn show(operator: &Operator) -> anyhow::Result<Ending> {
    let dir = operator.dir()?;
    let chosen = dir.choose(operator.context.as_ref())?;
    let is_current = dir
        .choose(None)
        .is_ok_and(|current| current.name() == chosen.name());
    let known = known(chosen, is_current)?;
    if operator.output == Format::Json {
        output::json(json!({ "context": known.json }));
        return Ok(Ending::Done);
    }
    let text = |field: &Value| match field {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::clean(text),
        Value::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| item.as_str().unwrap_or_default())
                .collect();
            output::clean(&items.join(", "))
        }
        other => other.to_string(),
    };
    let authority = &known.json["authority"];
    let pin = format!("{}:{}", authority["version"], text(&authority["digest"]));
    let access = known.json["access_until_secs"].as_u64();
    let access = access.map_or_else(
        || "none: the next command logs in".to_owned(),
        |until| {
            format!(
                "for {}",
                output::left(until.saturating_sub(SystemClock.unix_secs()))
            )
        },
    );
    let highest = known.dir.context()?.highest;
    for (what, value) in [
        ("name", text(&known.json["name"])),
        ("path", known.dir.path().display().to_string()),
        ("trust domain", text(&known.json["trust_domain"])),
        (
            "operator",
            format!(
                "{} ({})",
                text(&known.json["operator"]),
                text(&known.json["role"])
            ),
        ),
        ("key id", text(&known.json["key_id"])),
        ("hubs", text(&known.json["hubs"])),
        ("authority", pin),
        (
            "highest seen",
            highest.map_or_else(|| "-".to_owned(), |seen| seen.generation.to_string()),
        ),
        ("access", access),
    ] {
        output::say(&format!("{what:13} {value}"));
    }
    Ok(Ending::Done)
}

async fn login(operator: &Operator) -> anyhow::Result<Ending> {
    let context = operator.dir()?.choose(operator.context.as_ref())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Session::log_in(&context, &clock, &operator.signing).await?;
    let known = known(context, false)?;
    match operator.output {
        Format::Json => output::json(json!({ "access_until_secs": known.json["access_until_secs"] })),
        Format::Table => output::say(&format!("logged in for {}", known.row[4])),
    }
    Ok(Ending::Done)
}

impl Remove {
    fn run(self) -> anyhow::Result<Ending> {
        let dir = self.operator.dir()?;
        let context = dir.choose(Some(&self.name))?;
        if !self.yes {
            anyhow::bail!(
                "{} holds a signing key that may be the only one of its operator: give --yes to delete it all",
                context.path().display()
            );
        }
        std::fs::remove_dir_all(context.path())
            .map_err(|error| anyhow::anyhow!("cannot remove {}: {error}", context.path().display()))?;
        output::remark(&format!("context '{}' is gone from this machine", self.name));
        Ok(Ending::Done)
    }
}
