//! A draft in a file: how a document goes from one operator's machine to another's without a hub between them.

use std::path::{Path, PathBuf};

use holdfast_pki::draft::DraftKind;
use holdfast_pki::envelope::Envelope;
use holdfast_pki::files::{Files, read_bounded};
use holdfast_policy::slice::{InvalidSlice, Slice};
use holdfast_proto::payload::format_1;
use serde::{Deserialize, Serialize};

use super::Proposal;

const KIND: &str = "draft";
/// The largest file that is read: a release of a hundred large slices.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftFile {
    kind: String,
    #[serde(deserialize_with = "format_1")]
    format: u32,
    draft_kind: DraftKind,
    envelope: Envelope,
    /// The slices of a release, as the texts that its manifest names by digest.
    slices: Vec<String>,
}

/// Why a file is no draft.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum DraftFileError {
    #[error("cannot {doing} the draft {}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has more than the {BYTES_MAX} bytes that a draft may have", .0.display())]
    Size(PathBuf),
    #[error("{} is no draft of Holdfast", .path.display())]
    Content {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} is no draft, but a '{kind}'", .path.display())]
    Kind { path: PathBuf, kind: String },
    #[error("a slice in {} cannot be used", .path.display())]
    Slice {
        path: PathBuf,
        source: Box<InvalidSlice>,
    },
}

/// Reads a draft. Nothing is known of its signatures then.
pub(in crate::cli) fn read(path: &Path) -> Result<Proposal, DraftFileError> {
    // It came from somewhere else, and is no file of ours yet.
    let bytes = read_bounded(path, BYTES_MAX).map_err(|source| DraftFileError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Proposal, DraftFileError> {
    let at = || path.to_owned();
    let file: DraftFile =
        serde_json::from_slice(bytes).map_err(|source| DraftFileError::Content { path: at(), source })?;
    if file.kind != KIND {
        let kind = file.kind.chars().take(40).collect();
        return Err(DraftFileError::Kind { path: at(), kind });
    }
    let slices = file.slices.iter().map(|text| Slice::parse(text.as_bytes()));
    Ok(Proposal {
        kind: file.draft_kind,
        envelope: file.envelope,
        slices: slices
            .collect::<Result<_, _>>()
            .map_err(|source| DraftFileError::Slice {
                path: at(),
                source: Box::new(source),
            })?,
    })
}

/// Writes a draft, replacing what was there. It holds no secret: a join grant names its secret by digest alone.
pub(in crate::cli) fn write(
    files: &dyn Files,
    path: &Path,
    proposal: &Proposal,
) -> Result<(), DraftFileError> {
    let text = |slice: &Slice| String::from_utf8(slice.to_bytes()).expect("a slice is JSON");
    let file = DraftFile {
        kind: KIND.to_owned(),
        format: 1,
        draft_kind: proposal.kind,
        envelope: proposal.envelope.clone(),
        slices: proposal.slices.iter().map(text).collect(),
    };
    let bytes = serde_json::to_vec_pretty(&file).expect("texts and numbers");
    if bytes.len() as u64 > BYTES_MAX {
        return Err(DraftFileError::Size(path.to_owned()));
    }
    files
        .write_atomic(path, &bytes, 0o644)
        .map_err(|source| DraftFileError::Io {
            doing: "write",
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pki::files::SystemFiles;
    use holdfast_policy::parse::load;
    use proptest::prelude::*;

    #[test]
    fn a_draft_reads_back_as_it_was_written_and_nothing_else_reads() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("release.draft");
        let text = "policies: [{ select: all, inbound: [{ allow: { tcp: [22], from: [10.77.0.1] } }] }]";
        let policy = load(&[("all.yaml", text)]).unwrap();
        let proposal = Proposal {
            kind: DraftKind::Release,
            envelope: Envelope::unsigned(b"{}".to_vec()),
            slices: policy.slices().to_vec(),
        };
        write(&SystemFiles, &path, &proposal).unwrap();
        let back = read(&path).unwrap();
        assert_eq!((back.kind, &back.envelope), (proposal.kind, &proposal.envelope));
        assert_eq!(back.slices, proposal.slices);

        let written = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"draft\"", "\"release\""),
            ("\"format\": 1", "\"format\": 2"),
            ("\"draft_kind\"", "\"more\": 1, \"draft_kind\""),
            ("all.yaml", "all .yaml\\n"),
        ] {
            assert!(written.contains(from), "{from}");
            std::fs::write(&path, written.replacen(from, to, 1)).unwrap();
            assert!(read(&path).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_reading_it_ends(bytes: Vec<u8>, kind in "draft|release", number in 0..3_u8) {
            let path = Path::new("x.draft");
            prop_assert!(parse(path, &bytes).is_err());
            let near = format!(
                r#"{{"kind":"{kind}","format":{number},"draft_kind":"epoch","envelope":{{"payload":"","signatures":[]}},"slices":[]}}"#
            );
            let fits = (kind.as_str(), number) == ("draft", 1);
            prop_assert_eq!(parse(path, near.as_bytes()).is_ok(), fits, "{}", near);
        }
    }
}
