//! `holdfast audit`: what was changed.

use clap::{Args, Subcommand};
use holdfast_proto::v1;
use serde_json::json;

use super::{Ending, Format, Operator, output};

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List every change, oldest first
    List(List),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast audit list -o json")]
pub(super) struct List {
    #[command(flatten)]
    operator: Operator,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        let Self::List(List { operator }) = self;
        let mut session = operator.session().await?;
        let mut entries = Vec::new();
        let mut page_after = String::new();
        loop {
            let request = v1::ListAuditRequest {
                page_after,
                page_size: 0,
            };
            let page = session.client.list_audit(request).await?.into_inner();
            entries.extend(page.entries);
            page_after = page.next_page_after;
            if page_after.is_empty() {
                break;
            }
        }
        match operator.output {
            Format::Json => output::json(json!({ "entries": entries.iter().map(|entry| json!({
                "id": entry.id,
                "at_secs": entry.at_secs,
                "who": entry.who,
                "what": entry.what,
                "on": entry.on,
                "from": entry.from,
                "digest": entry.digest,
                "outcome": entry.outcome,
                "correlation_id": entry.correlation_id,
            })).collect::<Vec<_>>() })),
            Format::Table => {
                let at = |secs| {
                    humantime::format_rfc3339_seconds(
                        std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs),
                    )
                };
                let rows: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        let who = entry
                            .who
                            .rsplit_once("//")
                            .map_or(entry.who.as_str(), |(_, who)| who);
                        let who = who.split_once('/').map_or(who, |(_, who)| who);
                        let short = |text: &str| output::clean(text).chars().take(28).collect::<String>();
                        vec![
                            at(entry.at_secs).to_string(),
                            short(who),
                            output::clean(&entry.what),
                            output::clean(&entry.outcome),
                            output::clean(&entry.on),
                        ]
                    })
                    .collect();
                output::say(&output::table(&["AT", "WHO", "WHAT", "OUTCOME", "ON"], &rows));
            }
        }
        Ok(Ending::Done)
    }
}
