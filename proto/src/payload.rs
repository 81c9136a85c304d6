//! What every signed document begins with.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};

use crate::ids::TrustDomain;

/// A document that an operator signs: JSON with unknown fields refused, `kind` and `format` first.
///
/// The signature covers the exact bytes under a domain that names [`Payload::KIND`], so that a document of one kind can
/// never be passed off as another. Implementors derive `Serialize` and `Deserialize` with `deny_unknown_fields`.
pub trait Payload: DeserializeOwned {
    /// The document's kind, as written in its first field and in the signature's domain.
    const KIND: &'static str;
    /// The format number this build reads and writes.
    const FORMAT: u32;
    /// The largest payload that is read at all, in bytes.
    const BYTES_MAX: usize;
    /// The kind that was written in the document.
    fn kind(&self) -> &str;
    /// The format number that was written in the document.
    fn format(&self) -> u32;
    /// The fleet that the document is for.
    fn trust_domain(&self) -> &TrustDomain;
}

/// Reads the format number of a stored record: 1, and nothing else is understood.
///
/// # Errors
/// For any other number: a newer Holdfast wrote it.
pub fn format_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        1 => Ok(1),
        other => Err(D::Error::custom(format!(
            "format {other} is not known here; a newer Holdfast wrote it"
        ))),
    }
}
