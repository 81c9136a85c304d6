//! Operators' documents about themselves: the request to be added to the authority, and the request for access to a hub.
//!
//! The first travels to an admin, who compares its fingerprint with what the new operator's own machine shows. The second
//! goes to a hub at each login: it binds an API key to the operator's signing key, and a challenge of the hub makes it
//! fresh. Access is no authority: an API certificate signs nothing.

use holdfast_proto::ids::{Digest, Name, TrustDomain};
use holdfast_proto::payload::Payload;
use serde::{Deserialize, Serialize};

use crate::authority::{RefuseEnvelope, TrustedAuthority, key_id};
use crate::envelope::{
    Algorithm, Envelope, SIGNATURES_MAX, Verified, base64_text, parse_payload, signed_bytes,
};

/// What a new operator's machine says of its signing key: signed with that key, which proves possession and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// Always `operator-request`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet that the operator wants to join.
    pub trust_domain: TrustDomain,
    /// The name to be listed under.
    pub name: Name,
    /// How the key signs.
    pub algorithm: Algorithm,
    /// The public key.
    #[serde(with = "base64_text")]
    pub public: Vec<u8>,
}

impl Payload for OperatorRequest {
    const KIND: &'static str = "operator-request";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 8 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// Why an operator's request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RefuseRequest {
    /// It is not signed with the key in it.
    #[error(
        "the request is not signed with the key in it: it was changed on its way, or made by something else"
    )]
    Signature,
    /// It cannot be read.
    #[error(transparent)]
    Payload(#[from] crate::envelope::InvalidPayload),
}

impl OperatorRequest {
    /// Reads a request and checks that it is signed with the key in it.
    ///
    /// Who made it is told by its fingerprint alone ([`Envelope::digest`]), compared with the new operator in person.
    ///
    /// # Errors
    /// [`RefuseRequest`].
    pub fn verify(envelope: &Envelope) -> Result<Self, RefuseRequest> {
        // The key stands in the document: nothing is used before the signature over these same bytes held.
        let request: Self = parse_payload(&envelope.payload)?;
        let id = key_id(request.algorithm, &request.public);
        if !signed_by(envelope, Self::KIND, request.algorithm, &request.public, id) {
            return Err(RefuseRequest::Signature);
        }
        Ok(request)
    }
}

/// An operator's wish for an API certificate, signed with the signing key that the authority lists under the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRequest {
    /// Always `access-request`.
    pub kind: String,
    /// Always 1.
    pub format: u32,
    /// The fleet.
    pub trust_domain: TrustDomain,
    /// The operator.
    pub operator: Name,
    /// The digest of the CSR (DER) of the API key.
    pub csr: Digest,
    /// What the hub gave to be signed.
    #[serde(with = "base64_text")]
    pub challenge: Vec<u8>,
}

impl Payload for AccessRequest {
    const KIND: &'static str = "access-request";
    const FORMAT: u32 = 1;
    const BYTES_MAX: usize = 4 * 1024;
    fn kind(&self) -> &str {
        &self.kind
    }
    fn format(&self) -> u32 {
        self.format
    }
    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

impl TrustedAuthority {
    /// Verifies that the operator whom an access request names signed it, in whatever role.
    ///
    /// The authority's expiry is not looked at: who lets it pass must still get in, to publish the next.
    ///
    /// # Errors
    /// [`RefuseEnvelope`] if it cannot be read, or no listed key of that name signed it.
    pub fn verify_access(&self, envelope: &Envelope) -> Result<Verified<AccessRequest>, RefuseEnvelope> {
        // The name stands in the document: nothing is used before the signature over these same bytes held.
        let request: AccessRequest = parse_payload(&envelope.payload)?;
        let good = self
            .operator(&request.operator)
            .is_some_and(|key| signed_by(envelope, AccessRequest::KIND, key.algorithm, &key.public, key.id));
        if !good {
            return Err(RefuseEnvelope::Access {
                operator: request.operator,
                version: self.document().version,
            });
        }
        let request = self.of_this_fleet(request)?;
        let signers = vec![request.operator.clone()];
        Ok(Verified::new(request, envelope.clone(), signers))
    }
}

fn signed_by(envelope: &Envelope, kind: &str, algorithm: Algorithm, public: &[u8], id: Digest) -> bool {
    let message = signed_bytes(kind, &envelope.payload);
    envelope.signatures.iter().take(SIGNATURES_MAX).any(|signature| {
        signature.key_id == id
            && signature.algorithm == algorithm
            && algorithm.verify(public, &message, &signature.signature)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing_key::SigningKey;

    fn request(key: &SigningKey) -> Envelope {
        let request = OperatorRequest {
            kind: OperatorRequest::KIND.to_owned(),
            format: 1,
            trust_domain: "lab.example".parse().unwrap(),
            name: "bob".parse().unwrap(),
            algorithm: Algorithm::Ed25519,
            public: key.public(),
        };
        Envelope::unsigned(serde_json::to_vec(&request).unwrap())
    }

    #[test]
    fn a_request_is_taken_only_with_the_signature_of_the_key_in_it() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let mut good = request(&key);
        assert!(OperatorRequest::verify(&good).is_err(), "unsigned");
        key.sign(OperatorRequest::KIND, &mut good);
        assert_eq!(OperatorRequest::verify(&good).unwrap().name.as_str(), "bob");
        let mut forged = request(&key);
        other.sign(OperatorRequest::KIND, &mut forged);
        forged.signatures[0].key_id = key.key_id();
        assert!(matches!(
            OperatorRequest::verify(&forged),
            Err(RefuseRequest::Signature)
        ));
        let mut elsewhere = request(&key);
        key.sign(AccessRequest::KIND, &mut elsewhere);
        assert!(
            OperatorRequest::verify(&elsewhere).is_err(),
            "signed as another kind"
        );
    }
}
