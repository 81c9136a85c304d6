//! Loads and lists our table by the program `nft`.
//!
//! The crate nftables has a helper for this, but it lets nft's complaints go to our own standard error and knows no time
//! limit; so its types make the JSON and [`exec`] runs the program.

use std::time::Duration;

use serde_json::Value;

use super::nft::TABLE;
use crate::host::exec::{self, ExecError};
use crate::reconcile::HostError;

/// Loading 10,000 rules takes half a second; a busy small machine may take ten times that.
const LIMIT: Duration = Duration::from_secs(20);

/// Carries out one transaction: all of it or nothing.
///
/// # Errors
/// [`HostError::Exec`] with nft's own words.
pub async fn load(json: &str) -> Result<(), HostError> {
    exec::run("nft", &["-j", "-f", "-"], json.as_bytes(), LIMIT)
        .await
        .map(drop)
        .map_err(|source| HostError::Exec {
            task: "load table inet holdfast",
            source,
        })
}

/// Our table as nft lists it: the array under `nftables`. `None` if there is no such table.
///
/// # Errors
/// [`HostError`] if nft could not look or its answer is no listing.
pub async fn list() -> Result<Option<Vec<Value>>, HostError> {
    let answer = match exec::run("nft", &["-j", "list", "table", "inet", TABLE], b"", LIMIT).await {
        Ok(answer) => answer,
        Err(ExecError::Failed { stderr, .. }) if stderr.contains("No such file or directory") => {
            return Ok(None);
        }
        Err(source) => {
            return Err(HostError::Exec {
                task: "list table inet holdfast",
                source,
            });
        }
    };
    let malformed = |detail: String| HostError::Answer {
        program: "nft",
        detail,
    };
    let mut listing: Value = serde_json::from_slice(&answer).map_err(|error| malformed(error.to_string()))?;
    match listing.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(Some(objects)),
        _ => Err(malformed("no list under 'nftables'".to_owned())),
    }
}
