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
        DraftKind::Authority => publish_authority(session, envelope).await.with_context(refused),
        DraftKind::Release => publish_release(session, envelope).await.with_context(refused),
        DraftKind::Epoch => {
            let request = v1::RaiseEpochRequest { raise: document };
            answered(session.client.raise_epoch(request).await).with_context(refused)?;
            // Read back by its proofs, and remembered.
            session.epoch().await?;
            Ok(())
        }
        DraftKind::JoinGrant => {
            let request = v1::CreateTokenRequest { grant: document };
            answered(session.client.create_token(request).await).with_context(refused)?;
            Ok(())
        }
        DraftKind::Labels => {
            let request = v1::PublishLabelsRequest { document };
            answered(session.client.publish_labels(request).await).with_context(refused)?;
            Ok(())
        }
    }
}

async fn publish_authority(session: &mut Session, envelope: &Envelope) -> anyhow::Result<()> {
    let reached = session.authority.advance(envelope)?;
    let request = v1::PublishAuthorityRequest {
        authority: Some(envelope.into()),
    };
    let reply = answered(session.client.publish_authority(request).await)?;
    let dir = session.dir().clone();
    dir.remember_authority(&mut session.context, std::slice::from_ref(&reached))?;
    session.authority = reached;
    if reply.release_needs_endorsement {
        output::remark(
            "warning: the current release is no longer signed as this version asks, so that a node which enrols now or \
             comes back would refuse it: `holdfast policy endorse`",
        );
    }
    Ok(())
}

async fn publish_release(session: &mut Session, envelope: &Envelope) -> anyhow::Result<()> {
    let now_secs = session.clock.unix_secs();
    let verified = session.authority.verify(envelope, &Act::Release, now_secs)?;
    let request = v1::PublishReleaseRequest {
        manifest: Some(envelope.into()),
    };
    answered(session.client.publish_release(request).await)?;
    session.remember(&verified)
}
