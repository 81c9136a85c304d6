//! Enrolment: a join token becomes an identity. Waits for a hub that is not up, for as long as it takes.
//!
//! The hub is pinned by the token before anything is sent; the grant and the authority are verified here before they are
//! believed. The key is on disk before the first try, so that a try whose answer was lost is repeated as the same node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_pki::authority::{Act, TrustedAuthority};
use holdfast_pki::clock::Clock;
use holdfast_pki::csr;
use holdfast_pki::envelope::{Envelope, Verified};
use holdfast_pki::files::Files;
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::random::Random;
use holdfast_pki::spiffe::{self, Identity as SpiffeIdentity, SpiffeId};
use holdfast_pki::token::JoinToken;
use holdfast_proto::ids::{Name, NodeId};
use holdfast_proto::v1;
use holdfast_proto::v1::enrollment_client::EnrollmentClient;
use tonic::Code;

use crate::authority_chain;
use crate::backoff::Backoff;
use crate::dial::{Connector, DialError, Dialer};
use crate::host::Chain;
use crate::identity::{Identity, IdentityDir, IdentityError};
use crate::inventory::{self, HostRoot, interfaces};
use crate::ledger::{Ledger, LedgerError};

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
    /// What the hub answered is not what the token promises.
    #[error("the hub's answer is not what the join token promises: {0}")]
    Answer(String),
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
        let claimed = token
            .claimed_grant()
            .map_err(|error| EnrollError::Answer(Chain(&error).to_string()))?;
        let start = usize::try_from(self.random.below(1 << 16)).unwrap_or(0);
        let connection = dialer.dial(start).await?;
        let request = v1::EnrollRequest {
            grant_id: claimed.id.to_string(),
            secret: token.secret.clone().into(),
            csr_der: csr_der.into(),
            name: name.to_string(),
            boot_id: self.clock.boot_id(),
            inventory: Some(inventory::collect(self.root, interfaces::read())),
        };
        let reply = EnrollmentClient::new(connection.channel).enroll(request).await;
        let reply = reply.map_err(|status| refused(&status, node_id))?.into_inner();
        self.keep(identity, token, node_id, reply)
    }

    /// Verifies the hub's answer and writes it down: the ledger first, the identity last.
    fn keep(
        &self,
        identity: &IdentityDir<'_>,
        token: &JoinToken,
        node_id: NodeId,
        reply: v1::EnrollReply,
    ) -> Result<Identity, EnrollError> {
        let wrong = |error: &dyn std::error::Error| EnrollError::Answer(Chain(error).to_string());
        let versions: Vec<Envelope> = reply
            .authority
            .into_iter()
            .map(Envelope::try_from)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&error))?;
        let pinned = versions
            .iter()
            .position(|envelope| envelope.digest() == token.authority.digest);
        let pinned =
            pinned.ok_or_else(|| EnrollError::Answer("the pinned authority is not in it".to_owned()))?;
        let authority = TrustedAuthority::from_pin(&versions[pinned], &token.authority)
            .and_then(|authority| authority.walk(&versions[pinned + 1..]))
            .map_err(|error| wrong(&error))?;
        let now = self.clock.unix_secs();
        let grant: Verified<JoinGrant> = authority
            .verify(&token.grant, &Act::Join, now)
            .map_err(|error| wrong(&error))?;
        if grant.value().trust_domain != token.trust_domain {
            return Err(EnrollError::Answer(
                "the grant is for another trust domain".to_owned(),
            ));
        }
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
            enrolled_secs: now,
        };
        authority_chain::append(versions[pinned..].to_vec(), self.state_dir, self.files);
        Ledger::new(&authority, &grant).save(self.state_dir, self.files)?;
        identity.enrolled(&enrolled, &chain)?;
        Ok(enrolled)
    }
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
