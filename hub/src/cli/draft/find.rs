//! Finding a draft: by its file, or by the beginning of its digest on the hub.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use holdfast_pki::authority::TrustedAuthority;
use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::{Envelope, parse_payload};
use holdfast_policy::release::Manifest;
use holdfast_proto::ids::Digest;
use holdfast_proto::v1;
use serde_json::{Value, json};

use crate::cli::cosign::{Known, Proposal, Standing, file};
use crate::cli::output;
use crate::cli::session::Session;

/// A draft that was found. Nothing in it is verified but what `proposal`'s own signatures prove.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) proposal: Proposal,
    /// Its file; none for one on the hub.
    pub(super) file: Option<PathBuf>,
    /// Who put it there, as the hub says.
    pub(super) put_by: String,
    /// When, as the hub says.
    pub(super) at_secs: u64,
}

impl Found {
    pub(super) fn digest(&self) -> Digest {
        self.proposal.envelope.digest()
    }

    /// The draft in the shape that docs/json.md describes.
    pub(super) fn to_json(&self, authority: &TrustedAuthority, is_overtaken: bool) -> Value {
        let Proposal { kind, envelope, .. } = &self.proposal;
        json!({
            "kind": kind,
            "digest": envelope.digest(),
            "standing": Standing::of(authority, *kind, envelope).to_json(),
            "file": self.file,
            "overtaken": is_overtaken,
            "put_by": self.put_by,
            "at_secs": self.at_secs,
        })
    }
}

/// The draft that is meant; of kind `only`, if one is given.
pub(super) async fn find(
    session: &mut Session,
    what: &str,
    only: Option<DraftKind>,
) -> anyhow::Result<Found> {
    let found = if Path::new(what).exists() {
        in_file(Path::new(what))?
    } else {
        let drafts = on_hub(session).await?;
        named(drafts, what)?
    };
    must_be(&found.proposal, only)?;
    Ok(found)
}

/// The draft in a file.
pub(super) fn in_file(path: &Path) -> anyhow::Result<Found> {
    Ok(Found {
        proposal: file::read(path)?,
        file: Some(path.to_owned()),
        put_by: String::new(),
        at_secs: 0,
    })
}

/// Refuses a draft of another kind than `only`, if one is given.
pub(super) fn must_be(proposal: &Proposal, only: Option<DraftKind>) -> anyhow::Result<()> {
    let kind = proposal.kind;
    ensure!(
        only.is_none_or(|only| only == kind),
        "this draft is of kind '{}': use `holdfast draft`",
        kind.as_str()
    );
    Ok(())
}

/// Whether another document of its kind came into force since it was made, so that it never can.
pub(super) fn is_overtaken(known: Known<'_>, proposal: &Proposal) -> bool {
    match proposal.kind {
        DraftKind::Authority => known.authority.read_next(&proposal.envelope).is_err(),
        DraftKind::Release => {
            let current = known.context.highest.as_ref().map(|seen| seen.manifest);
            let is_current = current == Some(proposal.envelope.digest());
            let manifest = parse_payload::<Manifest>(&proposal.envelope.payload);
            !is_current && manifest.is_ok_and(|manifest| manifest.previous != current)
        }
        // Only the hub knows what is in force of these.
        DraftKind::Epoch | DraftKind::JoinGrant | DraftKind::Labels => false,
    }
}

fn named(drafts: Vec<Found>, what: &str) -> anyhow::Result<Found> {
    let mut meant: Vec<_> = drafts
        .into_iter()
        .filter(|draft| !what.is_empty() && draft.digest().to_string().starts_with(what))
        .collect();
    match (meant.pop(), meant.len()) {
        (Some(found), 0) => Ok(found),
        (Some(_), more) => bail!("{} drafts begin with {what}: give more of the digest", more + 1),
        (None, _) => bail!(
            "there is no file '{what}', and no draft on the hub that begins so: `holdfast draft list` shows those there are"
        ),
    }
}

/// The drafts that the hub has. Each goes by the digest of its own bytes; what cannot be read is left out, and told.
pub(super) async fn on_hub(session: &mut Session) -> anyhow::Result<Vec<Found>> {
    let reply = session
        .client
        .list_drafts(v1::ListDraftsRequest {})
        .await?
        .into_inner();
    let mut drafts = Vec::new();
    for draft in reply.drafts {
        match (DraftKind::of(&draft.kind), Envelope::try_from(draft.envelope)) {
            (Some(kind), Ok(envelope)) => drafts.push(Found {
                proposal: Proposal {
                    kind,
                    envelope,
                    slices: Vec::new(),
                },
                file: None,
                put_by: draft.put_by,
                at_secs: draft.at_secs,
            }),
            _ => output::remark(&format!(
                "warning: the hub shows a draft of kind '{}' that this Holdfast cannot read",
                output::clean(&draft.kind)
            )),
        }
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(payload: &[u8]) -> Found {
        Found {
            proposal: Proposal {
                kind: DraftKind::Release,
                envelope: Envelope::unsigned(payload.to_vec()),
                slices: Vec::new(),
            },
            file: None,
            put_by: "ann".to_owned(),
            at_secs: 0,
        }
    }

    #[test]
    fn a_draft_goes_by_an_unambiguous_beginning_of_its_digest() {
        let one = draft(b"one").digest().to_string();
        let drafts = || vec![draft(b"one"), draft(b"two")];
        assert_eq!(named(drafts(), &one[..6]).unwrap().digest().to_string(), one);
        assert_eq!(named(drafts(), &one).unwrap().digest().to_string(), one);
        assert!(named(drafts(), "").is_err());
        assert!(named(drafts(), &format!("{one}0")).is_err());
        let twice = || vec![draft(b"one"), draft(b"one")];
        let refused = named(twice(), &one[..6]).unwrap_err().to_string();
        assert!(refused.starts_with("2 drafts begin with"), "{refused}");
    }
}
