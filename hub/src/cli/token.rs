//! `holdfast token`: join tokens, composed and signed here. The hub gets the grant and the digest of the secret.
//!
//! A token is good once its grant is signed enough and registered. Until then its secret lies in this context
//! ([`unfinished`]): a grant that waits for others, or whose answer was lost, is not lost itself.

mod finish;
mod unfinished;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::grant::{Admission, JoinGrant, NamePattern};
use holdfast_pki::random::{Random as _, SystemRandom};
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::{Digest, Generation};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload as _;
use ipnet::IpNet;
use serde_json::json;

use super::cosign::{self, Finished, Place, Proposal};
use super::{Ending, Format, Operator, ending_of, output};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a join token and print it: one line, with a secret in it
    Create(Create),
    /// Print a token whose grant waited for the signatures of others
    Finish(finish::Finish),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    holdfast token create --label role=db --uses 3 --ttl 1h > db.token\n  \
    holdfast token create --label role=web --name-pattern 'web-*' --address-within 10.77.0.0/24\n  \
    holdfast token create --label role=db --admit manual > db.token\n\n\
    Give the token to a machine in a file that only root reads:\n  \
    holdfast-agent run --token-file db.token")]
pub(super) struct Create {
    /// Label of every node that joins by it, key=value; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_and_value)]
    labels: Vec<(String, String)>,
    /// How many nodes may join by it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
    /// How long it is good for, such as 30m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// The names that nodes may take: a name, or its beginning and '*'
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    name_pattern: NamePattern,
    /// Network that nodes must enrol from and have their addresses in; may be given several times
    #[arg(long, value_name = "NETWORK")]
    address_within: Vec<IpNet>,
    /// Whether the token is enough (automatic), or an operator admits each node (manual: `holdfast node pending`)
    #[arg(long, value_name = "automatic|manual", default_value_t = Admission::Automatic)]
    admit: Admission,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    operator: Operator,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("key=value wanted, such as role=db")?;
    Labels::try_from(BTreeMap::from([(key.to_owned(), value.to_owned())]))
        .map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Token {
    pub(super) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Finish(finish) => finish.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<Ending> {
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels {
            if let Some(other) = labels.insert(key.clone(), value.clone()) {
                anyhow::bail!("--label {key}= is given twice, as '{other}' and '{value}'");
            }
        }
        let mut session = self.operator.session().await?;
        // The floor below which a node that joins now is never served: the newest release this machine knows of.
        session.release().await?;
        let epoch = session.epoch().await?;
        let highest = session.context.highest.as_ref();
        let mut secret = vec![0; 32];
        SystemRandom.fill(&mut secret);
        let grant = JoinGrant {
            kind: JoinGrant::KIND.to_owned(),
            format: JoinGrant::FORMAT,
            trust_domain: session.context.trust_domain.clone(),
            id: SystemRandom.unique_id(),
            uses: self.uses,
            not_after_secs: session.clock.unix_secs().saturating_add(self.ttl.as_secs()),
            labels: labels.try_into()?,
            name_pattern: self.name_pattern,
            within: self.address_within,
            // What was seen in an epoch that is over is above nothing of this one.
            least_generation: highest
                .map_or(Generation::default(), |seen| seen.generation)
                .max(Generation { epoch, number: 0 }),
            admission: self.admit,
            secret_digest: Digest::of(&secret),
        };
        let envelope = Envelope::unsigned(serde_json::to_vec(&grant).expect("a struct of texts and numbers"));
        let mut token = JoinToken {
            trust_domain: session.context.trust_domain.clone(),
            hubs: session.context.hubs.clone(),
            node_roots: session.authority.document().node_roots.clone(),
            authority: session.authority.pin(),
            grant: envelope.clone(),
            secret,
        };
        unfinished::keep(session.dir(), &grant.id, &token)?;
        let proposal = Proposal {
            kind: DraftKind::JoinGrant,
            envelope,
            slices: Vec::new(),
        };
        match cosign::finish(&mut session, proposal, &self.operator.signing, &self.place).await {
            Ok(Finished::Published(signed)) => {
                token.grant = signed;
                print(&token, &grant, self.operator.output);
                unfinished::forget(session.dir(), &grant.id)?;
                Ok(Ending::Done)
            }
            Ok(Finished::Waiting(waiting)) => {
                if self.operator.output == Format::Json {
                    output::json(json!({ "draft": waiting.to_json(), "grant_id": grant.id }));
                } else {
                    // Standard output is where the token would be.
                    output::remark(&waiting.text());
                }
                output::remark(&format!(
                    "then get the token here with: holdfast token finish {}",
                    grant.id
                ));
                Ok(Ending::Waiting)
            }
            Err(error) if ending_of(&error) == Ending::Unknown => Err(error.context(format!(
                "look whether there is a token: `holdfast token finish {}`",
                grant.id
            ))),
            Err(error) => {
                unfinished::forget(session.dir(), &grant.id)?;
                Err(error)
            }
        }
    }
}

/// Prints the token: the one line that is data.
fn print(token: &JoinToken, grant: &JoinGrant, format: Format) {
    match format {
        Format::Table => output::say(&token.to_text()),
        Format::Json => output::json(json!({
            "token": *token.to_text(),
            "grant_id": grant.id,
            "not_after_secs": grant.not_after_secs,
            "uses": grant.uses,
            "admission": grant.admission,
        })),
    }
}
