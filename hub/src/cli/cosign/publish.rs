//! Publishing a document that is signed enough, by its kind's own call, and remembering what is in force then.

use anyhow::Context as _;
use holdfast_pki::authority::Act;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_proto::v1;

use crate::cli::session::Session;
use crate::cli::{answered, output};

/// Brings a document into force.
///
/// # Errors
/// The hub's refusal, or that its answer was lost.
pub(super) async fn publish(
    session: &mut Session,
    kind: DraftKind,
    envelope: &Envelope,
) -> anyhow::Result<()> {
    let refused = || format!("the hub did not take the {}", kind.as_str());
    let document = Some(envelope.into());
    match kind {
        DraftKind::Authority => {
            let reached = session.authority.advance(envelope)?;
            let request = v1::PublishAuthorityRequest { authority: document };
            let reply = answered(session.client.publish_authority(request).await).with_context(refused)?;
            session.hold_authority(reached);
            if reply.release_needs_endorsement {
                output::remark(
                    "warning: the current release is not signed as this version asks, so that a node which enrols now \
                     or comes back would refuse it, and the next one cannot be made upon it: `holdfast policy endorse`",
                );
            }
        }
        DraftKind::Release => {
            let now_secs = session.clock.unix_secs();
            let verified = session.authority.verify(envelope, &Act::Release, now_secs)?;
            let request = v1::PublishReleaseRequest { manifest: document };
            answered(session.client.publish_release(request).await).with_context(refused)?;
            session.remember(&verified);
        }
        DraftKind::Epoch => {
            let request = v1::RaiseEpochRequest { raise: document };
            answered(session.client.raise_epoch(request).await).with_context(refused)?;
            // Read back by its proofs, and remembered.
            session.epoch().await?;
        }
        DraftKind::JoinGrant => {
            let request = v1::CreateTokenRequest { grant: document };
            answered(session.client.create_token(request).await).with_context(refused)?;
        }
        DraftKind::Labels => {
            let request = v1::PublishLabelsRequest { document };
            answered(session.client.publish_labels(request).await).with_context(refused)?;
        }
    }
    Ok(())
}
