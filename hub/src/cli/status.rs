//! `holdfast status`: how the hub is.

use clap::Args;
use holdfast_proto::v1;
use serde_json::json;

use super::{Ending, Format, Operator, output};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast status -o json")]
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
        let release = session.release().await?;
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
                "release": generation,
                "authority": { "version": authority.version, "expires_secs": authority.expires_secs },
            })),
            Format::Table => {
                let age = session.clock.unix_secs().saturating_sub(hub.serving_since_secs);
                let days = authority.expires_secs.saturating_sub(session.clock.unix_secs()) / 86_400;
                let release =
                    generation.map_or_else(|| "none yet".to_owned(), |generation| generation.to_string());
                let rows = [
                    ("trust domain", output::clean(&hub.trust_domain)),
                    (
                        "hub",
                        format!("version {}, serving for {age} s", output::clean(&hub.hub_version)),
                    ),
                    ("nodes", format!("{}, {} connected", hub.nodes, hub.connected)),
                    ("release", release),
                    (
                        "authority",
                        format!("version {}, {days} days left", authority.version),
                    ),
                ];
                for (what, value) in rows {
                    output::say(&format!("{what:13} {value}"));
                }
            }
        }
        Ok(Ending::Done)
    }
}
