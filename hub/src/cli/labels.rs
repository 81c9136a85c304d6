//! The signed document behind a node's labels: its join grant, or the newest change.

use anyhow::{Context as _, ensure};
use holdfast_pki::authority::{Act, RefuseEnvelope};
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_pki::grant::JoinGrant;
use holdfast_pki::labels::LabelChange;
use holdfast_proto::ids::{Digest, Name, NodeId};
use holdfast_proto::labels::Labels;
use holdfast_proto::payload::Payload;
use holdfast_proto::v1;

use super::session::Session;

/// The version of the labels that a join grant gives.
const GRANTED: u64 = 1;

/// The newest signed labels of a node, as the hub shows them. That a join grant is this node's own is the hub's word: the
/// node refuses what was made from another.
#[derive(Debug)]
pub(super) struct Held {
    /// Whose they are.
    pub(super) node: NodeId,
    /// Counts from 1, the join grant's.
    pub(super) version: u64,
    /// What the node itself said that it holds, as the hub tells: above `version` if the hub forgot a change.
    pub(super) version_on_node: u64,
    /// The digest of the document: what the next change names as its previous.
    pub(super) digest: Digest,
    pub(super) labels: Labels,
    /// Who signed them; or why that is not known, most often since whoever did is not listed any more.
    pub(super) signers: Result<Vec<Name>, RefuseEnvelope>,
}

impl Held {
    /// The version of the next change.
    ///
    /// One that is made from what is held follows it; a set that is stated outright goes above what the node holds, too.
    /// None at the last version there can be.
    pub(super) fn next(&self, is_stated_outright: bool) -> Option<u64> {
        let held = match is_stated_outright {
            true => self.version.max(self.version_on_node),
            false => self.version,
        };
        held.checked_add(1)
    }
}

/// Gets the newest labels of the node that the hub knows by `name`, and verifies them by the newest authority.
pub(super) async fn held(session: &mut Session, name: &str) -> anyhow::Result<Held> {
    let request = v1::GetLabelsRequest {
        name: name.to_owned(),
    };
    let reply = session.client.get_labels(request).await;
    let reply = reply
        .with_context(|| format!("the hub does not show the labels of '{name}'"))?
        .into_inner();
    let node: NodeId = reply.node_id.parse()?;
    let envelope = Envelope::try_from(reply.document)?;
    let (version, digest) = (reply.version, envelope.digest());
    let (trust_domain, labels, signers) = if version == GRANTED {
        let grant: JoinGrant = parse_payload(&envelope.payload)?;
        let signers = signers::<JoinGrant>(session, &Act::Join, &envelope);
        (grant.trust_domain, grant.labels, signers)
    } else {
        let change: LabelChange = parse_payload(&envelope.payload)?;
        ensure!(
            change.node == node && change.version == version,
            "the hub shows labels of another node or version: {} version {}",
            change.node,
            change.version
        );
        let signers = signers::<LabelChange>(session, &Act::Label, &envelope);
        (change.trust_domain, change.labels, signers)
    };
    let fleet = &session.context.trust_domain;
    ensure!(
        trust_domain == *fleet,
        "the hub shows labels of {trust_domain}, this context is {fleet}"
    );
    Ok(Held {
        node,
        version,
        version_on_node: reply.version_on_node,
        digest,
        labels,
        signers,
    })
}

fn signers<T: Payload>(
    session: &Session,
    act: &Act,
    envelope: &Envelope,
) -> Result<Vec<Name>, RefuseEnvelope> {
    let now_secs = session.clock.unix_secs();
    let verified = session.authority.verify::<T>(envelope, act, now_secs)?;
    Ok(verified.signers().to_vec())
}
