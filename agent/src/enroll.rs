//! Enrolment: a join token becomes an identity. Waits for a hub that is not up, for as long as it takes.
//!
//! The hub is pinned by the token before anything is sent, and the token's grant is verified by the newest authority before
//! its secret is. The key is on disk before the first try, so that a try whose answer was lost is repeated as the same node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::authority::{Act, AuthorityPin, Followed, RefuseEnvelope, TrustedAuthority};
use holdfast_pki::clock::Clock;
use holdfast_pki::csr;
use holdfast_pki::envelope::Verified;
use holdfast_pki::files::Files;
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::random::Random;
use holdfast_pki::spiffe::{self, Identity as SpiffeIdentity, SpiffeId};
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::{Name, NodeId};
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::authority_chain::{self, AskError};
use crate::backoff::Backoff;
use crate::dial::{Connector, DialError, Dialer};
use crate::host::Chain;
use crate::identity::{Identity, IdentityDir, IdentityError};
use crate::inventory::{self, HostRoot, interfaces};
use crate::ledger::{Ledger, LedgerError};

/// How long a hub may take over one question: it writes to its disk, and others may be before us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest pause before a node that waits for admission asks again.
const ADMISSION_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What an enrolment works with.
#[derive(Debug)]
pub struct Enrolment<'a> {
    /// Where this node's state is.
    pub state_dir: &'a Path,
    /// Disk.
    pub files: &'a dyn Files,
    /// Time.
    pub clock: &'a Arc<dyn Clock>,
    /// Chance.
    pub random: &'a dyn Random,
    /// What this machine is read from.
    pub root: &'a HostRoot,
    /// How hubs are reached.
    pub connector: &'a Arc<dyn Connector>,
}

/// Why this node cannot enrol by this token.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The disk, or the key on it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No hub was reached. Tried again.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The hub refused, for good.
    #[error("the hub refused the enrolment: {0}")]
    Refused(String),
    /// The hub could not answer. Tried again.
    #[error("the hub could not answer: {0}")]
    Unanswered(String),
    /// An operator has to decide first. Asked again.
    #[error(
        "this node waits for admission; its fingerprint is {node_id}, to be compared with what `holdfast node pending` shows ({told})"
    )]
    Waits {
        /// The digest of its key.
        node_id: NodeId,
        /// What the hub says.
        told: String,
    },
    /// Operators do not stand by the token any more: they dropped who signed it, or their authority has ended.
    #[error(
        "the join token is not good, so its secret was not sent: make a new one with `holdfast token create`"
    )]
    Token(#[source] RefuseEnvelope),
    /// What the hub answered is not what the token promises.
    #[error("the hub's answer is not what the join token promises: {0}")]
    Answer(String),
}

impl From<AskError> for EnrollError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unanswered(status) => Self::Unanswered(status.message().to_owned()),
            AskError::Envelope(_) => wrong(&error),
        }
    }
}

impl EnrollError {
    /// Whether waiting may mend it.
    const fn is_retryable(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Unanswered(_) | Self::Waits { .. })
    }
}

impl Enrolment<'_> {
    /// Enrols under `name`, and keeps what came of it. Tries for as long as a hub may come up.
    ///
    /// # Errors
    /// [`EnrollError`] that no waiting mends.
    pub async fn run(&self, token: &JoinToken, name: &Name) -> Result<Identity, EnrollError> {
        let identity = IdentityDir::new(self.state_dir, self.files);
        let dialer = Dialer::new(
            self.connector.clone(),
            token.hubs.clone(),
            token.trust_domain.clone(),
            token.node_roots.clone(),
            None,
            self.clock.clone(),
            0,
        )?;
        let mut backoff = Backoff::default();
        let mut last_told = String::new();
        loop {
            match self.enroll_once(&identity, &dialer, token, name).await {
                Ok(identity) => return Ok(identity),
                Err(error) if error.is_retryable() => {
                    let told = Chain(&error).to_string();
                    if told != last_told {
                        tracing::warn!(reason = told, "not enrolled yet");
                        last_told = told;
                    }
                    let pause = match error {
                        EnrollError::Waits { .. } => self.admission_pause(),
                        _ => backoff.next(self.random),
                    };
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Soon enough for an operator who has just admitted this node and looks for it; spread, since a
    /// rack of new nodes may wait at once.
    fn admission_pause(&self) -> Duration {
        let spread = ADMISSION_PAUSE_MAX / 2;
        let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        spread + Duration::from_millis(self.random.below(millis))
    }

    async fn enroll_once(
        &self,
        identity: &IdentityDir<'_>,
        dialer: &Dialer,
        token: &JoinToken,
        name: &Name,
    ) -> Result<Identity, EnrollError> {
        let key = identity.key()?;
        let csr_der = csr::create(&key).map_err(|error| EnrollError::Answer(error.to_string()))?;
        let node_id = csr::verify(&csr_der)
            .map_err(|error| EnrollError::Answer(error.to_string()))?
            .node_id();
        let start = usize::try_from(self.random.below(1 << 16)).unwrap_or(0);
        let connection = dialer.dial(start).await?;
        let promised = self.verify(token, &connection.channel).await?;
        let request = v1::EnrollRequest {
            grant_id: promised.grant.value().id.to_string(),
            secret: token.secret.clone().into(),
            csr_der: csr_der.into(),
            name: name.to_string(),
            boot_id: self.clock.boot_id(),
            inventory: Some(inventory::collect(self.root, interfaces::read())),
        };
        let mut client = EnrollmentClient::new(connection.channel);
        let reply = in_time(client.enroll(request)).await?;
        let reply = reply.map_err(|status| refused(&status, node_id))?.into_inner();
        self.keep(identity, token, node_id, &promised, &reply)
    }

    /// Verifies the token's grant by the newest authority that the hub has, walking there from the version that the token
    /// pins. Nothing secret was sent by then.
    async fn verify(&self, token: &JoinToken, hub: &Channel) -> Result<Promised, EnrollError> {
        let authority = walk(&token.authority, hub).await?;
        let newest = authority.last().expect("the pinned version is there");
        let grant: Verified<JoinGrant> = newest
            .verify(&token.grant, &Act::Join, self.clock.unix_secs())
            .map_err(EnrollError::Token)?;
        let fleet = &newest.document().trust_domain;
        if *fleet != token.trust_domain {
            return Err(EnrollError::Answer(format!("its authority is that of {fleet}")));
        }
        Ok(Promised { authority, grant })
    }

    /// Verifies the hub's answer and writes it down: the ledger first, the identity last.
    fn keep(
        &self,
        identity: &IdentityDir<'_>,
        token: &JoinToken,
        node_id: NodeId,
        promised: &Promised,
        reply: &v1::EnrollReply,
    ) -> Result<Identity, EnrollError> {
        let chain: Vec<Vec<u8>> = reply
            .certificate_chain_der
            .iter()
            .map(|der| der.to_vec())
            .collect();
        let leaf = chain
            .first()
            .ok_or_else(|| EnrollError::Answer("it holds no certificate".to_owned()))?;
        let ours = SpiffeId {
            trust_domain: token.trust_domain.clone(),
            identity: SpiffeIdentity::Node(node_id),
        };
        let issued = spiffe::of_certificate(leaf).map_err(|error| wrong(&error))?;
        if issued != ours {
            return Err(EnrollError::Answer(format!("the certificate is for {issued}")));
        }
        let enrolled = Identity {
            format: 1,
            node_id,
            name: reply
                .name
                .parse()
                .map_err(|error: holdfast_proto::ids::InvalidId| wrong(&error))?,
            trust_domain: token.trust_domain.clone(),
            hubs: token.hubs.clone(),
            enrolled_secs: self.clock.unix_secs(),
        };
        let Promised { authority, grant } = promised;
        authority_chain::append(authority, self.state_dir, self.files);
        let newest = authority.last().expect("the pinned version is there");
        Ledger::new(newest, grant).save(self.state_dir, self.files)?;
        identity.enrolled(&enrolled, &chain)?;
        Ok(enrolled)
    }
}

/// What a token promises, once it is known to be so.
struct Promised {
    /// Every version of the authority from the one that the token pins to the newest.
    authority: Vec<TrustedAuthority>,
    /// The token's grant.
    grant: Verified<JoinGrant>,
}

/// Walks from the pinned version to the newest that the hub has, a few at a time.
async fn walk(pin: &AuthorityPin, hub: &Channel) -> Result<Vec<TrustedAuthority>, EnrollError> {
    let before = pin.version.saturating_sub(1);
    let mut versions = in_time(authority_chain::ask(hub, before)).await??;
    let first = versions.first().ok_or_else(|| {
        let told = format!("it does not have authority version {}", pin.version);
        EnrollError::Answer(told)
    })?;
    let mut walked = vec![TrustedAuthority::from_pin(first, pin).map_err(|error| wrong(&error))?];
    loop {
        let reached = walked.last().expect("the first is there");
        let Followed { steps, refused } = reached.follow(&versions);
        if let Some(refused) = refused {
            return Err(wrong(&refused));
        }
        // A hub that hands out the same versions again and again ends here as well.
        let Some(newest) = steps.last() else {
            return Ok(walked);
        };
        let held = newest.document().version;
        walked.extend(steps);
        versions = in_time(authority_chain::ask(hub, held)).await??;
    }
}

/// A hub that takes the connection and does not answer is not waited for: another may.
async fn in_time<T>(asked: impl Future<Output = T>) -> Result<T, EnrollError> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked)
        .await
        .map_err(|_| EnrollError::Unanswered(format!("nothing came within {} s", ANSWER_TIMEOUT.as_secs())))
}

fn wrong(error: &dyn std::error::Error) -> EnrollError {
    EnrollError::Answer(Chain(error).to_string())
}

fn refused(status: &tonic::Status, node_id: NodeId) -> EnrollError {
    let told = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied | Code::AlreadyExists | Code::ResourceExhausted | Code::InvalidArgument => {
            EnrollError::Refused(told)
        }
        Code::FailedPrecondition => EnrollError::Waits { node_id, told },
        _ => EnrollError::Unanswered(told),
    }
}

#[cfg(test)]
mod tests;
