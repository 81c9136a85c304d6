//! Operators who log in, and what the audit list says of it.

use holdfast_pki::access::AccessRequest;
use holdfast_pki::csr;
use holdfast_pki::signing_key::SigningKey;
use holdfast_pki::spiffe::Identity;
use holdfast_proto::ids::Digest;
use holdfast_proto::payload::Payload as _;
use holdfast_proto::v1;
use tonic::Status;

use super::{TestHub, caller, fleet, signed};
use crate::acceptor::Caller;
use crate::api::authz::{authorize, row};
use crate::store::audit::{AuditEntry, Outcome, PENDING};
use crate::store::key::Span;

/// What an operator sends to log in, before it is signed.
pub(crate) struct Wish {
    pub(crate) request: AccessRequest,
    pub(crate) csr_der: Vec<u8>,
}

impl Wish {
    /// Signed with `key`.
    pub(crate) fn signed(&self, key: &SigningKey) -> v1::LoginRequest {
        v1::LoginRequest {
            access_request: Some((&signed(&self.request, &[key])).into()),
            csr_der: self.csr_der.clone().into(),
        }
    }
}

impl TestHub {
    /// What the operator `name` sends to log in now, with a new API key.
    pub(crate) fn wish(&self, name: &str) -> Wish {
        let csr_der = new_csr();
        let request = AccessRequest {
            kind: AccessRequest::KIND.to_owned(),
            format: AccessRequest::FORMAT,
            trust_domain: fleet(),
            operator: name.parse().unwrap(),
            csr: Digest::of(&csr_der),
            challenge: self.hub.login_challenge().challenge.to_vec(),
        };
        Wish { request, csr_der }
    }

    /// The operator `name`, logged in with `key`.
    pub(crate) async fn logged_in(&self, name: &str, key: &SigningKey) -> Caller {
        let wish = self.wish(name).signed(key);
        let reply = self.hub.login(&caller(None), wish).await.unwrap();
        shows(name, &reply)
    }

    /// Whether the table lets `caller` call `rpc` of the Operator service.
    pub(crate) async fn may(&self, caller: &Caller, rpc: &str) -> Result<(), Status> {
        let (_, who) = row(&format!("/holdfast.v1.Operator/{rpc}")).unwrap();
        authorize(&self.hub, caller, who).await
    }

    /// The refusals in the audit list, oldest first.
    pub(crate) async fn denied(&self) -> Vec<AuditEntry> {
        let page = self.store.range(&Span::prefix(PENDING), 512).await.unwrap();
        assert!(page.rest.is_none(), "more entries than a test looks at");
        let entries = page.entries.iter();
        entries
            .map(|found| AuditEntry::from_bytes(&found.value).unwrap())
            .filter(|entry| entry.outcome == Outcome::Denied)
            .collect()
    }
}

/// A CSR (DER) of a new key.
pub(crate) fn new_csr() -> Vec<u8> {
    csr::create(&csr::new_key().unwrap()).unwrap()
}

/// Whoever shows the certificate that was answered to the operator `name`.
pub(crate) fn shows(name: &str, reply: &v1::AccessReply) -> Caller {
    Caller {
        certificate: Some(Digest::of(&reply.certificate_chain_der[0])),
        ..caller(Some(Identity::Operator(name.parse().unwrap())))
    }
}
