//! `holdfast status`: how the hub is.

use clap::Args;
use holdfast_proto::v1;
use serde_json::json;

use super::{Ending, Format, Operator, output};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast status -o json\n\nExit code 3 if the hub holds its releases.")]
pub(super) struct Status {
    #[command(flatten)]
    operator: Operator,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        let mut session = self.operator.session().await?;
        let hub = session
            .client
            .get_status(v1::GetStatusRequest {})
            .await?
            .into_inner();
        // A hub that holds has nothing to show, and says why; anything else that does not verify is an error.
        let release = match hub.hold.is_empty() {
            true => session.release().await?,
            false => None,
        };
        let generation = release
            .as_ref()
            .map(|release| release.manifest.value().generation());
        let authority = session.authority.document();
        match self.operator.output {
            Format::Json => output::json(json!({
                "trust_domain": hub.trust_domain,
                "hub_version": hub.hub_version,
                "instance": hub.instance_id,
                "serving_since_secs": hub.serving_since_secs,
                "nodes": hub.nodes,
                "connected": hub.connected,
                "pending": hub.pending,
                "drafts": hub.drafts,
                "release": generation,
                "epoch": hub.epoch,
                "hold": (!hub.hold.is_empty()).then_some(&hub.hold),
                "authority": { "version": authority.version, "expires_secs": authority.expires_secs },
            })),
            Format::Table => {
                let now = session.clock.unix_secs();
                let left = authority.expires_secs.saturating_sub(now);
                let released = match generation {
                    Some(generation) => generation.to_string(),
                    None if hub.hold.is_empty() => "none yet".to_owned(),
                    None => "none is served".to_owned(),
                };
                let count = |count: u64, what: &str, how: &str| match count {
                    0 => String::new(),
                    1 => format!(", 1 {what} waits ({how})"),
                    _ => format!(", {count} {what}s wait ({how})"),
                };
                let pending = count(hub.pending, "machine", "`holdfast node pending`");
                let drafts = count(hub.drafts, "draft", "`holdfast draft list`");
                let rows = [
                    ("trust domain", output::clean(&hub.trust_domain)),
                    (
                        "hub",
                        format!(
                            "version {}, serving for {}",
                            output::clean(&hub.hub_version),
                            output::left(now.saturating_sub(hub.serving_since_secs))
                        ),
                    ),
                    (
                        "nodes",
                        format!("{}, {} connected{pending}", hub.nodes, hub.connected),
                    ),
                    ("release", format!("{released}, epoch {}", hub.epoch)),
                    (
                        "authority",
                        match left {
                            0 => format!("version {}, ended{drafts}", authority.version),
                            _ => format!(
                                "version {}, {} left{drafts}",
                                authority.version,
                                output::left(left)
                            ),
                        },
                    ),
                ];
                for (what, value) in rows {
                    output::say(&format!("{what:13} {value}"));
                }
                if !hub.hold.is_empty() {
                    let hold = output::clean(&hub.hold);
                    output::say(&format!("{} {hold}", output::paint("HOLD         ", "31;1")));
                    output::remark(
                        "no release is served until an admin raises the epoch: `holdfast epoch raise`",
                    );
                }
            }
        }
        Ok(match hub.hold.is_empty() {
            true => Ending::Done,
            false => Ending::Changes,
        })
    }
}
