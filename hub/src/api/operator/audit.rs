//! The audit list.

use holdfast_proto::v1;
use tonic::Status;

use super::page_size;
use crate::acceptor::Caller;
use crate::api::{Hub, told};
use crate::registry::RegistryError;
use crate::store::audit::{AuditEntry, Outcome, PENDING};
use crate::store::key::Span;

const fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

impl Hub {
    pub(super) async fn list_audit(
        &self,
        _: &Caller,
        request: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditReply, Status> {
        let mut span = Span::prefix(PENDING);
        if !request.page_after.is_empty() {
            span = span.after(&format!("{PENDING}{}", request.page_after).into());
        }
        let page = self
            .registry
            .store()
            .range(&span, page_size(request.page_size))
            .await;
        let page = page.map_err(RegistryError::from)?;
        let mut entries = Vec::new();
        for found in &page.entries {
            let id = found.key.strip_prefix(PENDING).unwrap_or_default().to_owned();
            let entry =
                AuditEntry::from_bytes(&found.value).map_err(|error| Status::data_loss(told(&error)))?;
            entries.push(v1::AuditEntry {
                id,
                at_secs: entry.at_secs,
                who: entry.who,
                what: entry.what,
                on: entry.on,
                from: entry.from,
                digest: entry.digest.map(|digest| digest.to_string()).unwrap_or_default(),
                outcome: outcome_text(entry.outcome).to_owned(),
                correlation_id: entry.correlation_id.to_string(),
            });
        }
        let last = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
        let next_page_after = if page.rest.is_some() { last } else { String::new() };
        Ok(v1::ListAuditReply {
            entries,
            next_page_after,
        })
    }
}
