//! How the keeper keeps the confirmed state: it looks at the host, and puts right what differs.

use holdfast_policy::render::{DesiredState, render};

use super::{Keeper, MEMBERS};
use crate::ceiling::{Permitted, RefuseCeiling};
use crate::change::Ended;
use crate::firewall::resource::FirewallTable;
use crate::host::Chain;
use crate::reconcile::{Outcome, Resource as _, converge};

impl Keeper {
    /// What the confirmed release comes to now; none before the first.
    fn confirmed_state(&self) -> Result<Option<DesiredState>, String> {
        let Some(held) = &self.ledger.confirmed else {
            return Ok(None);
        };
        let slices = held.slices().map_err(|error| Chain(&error).to_string())?;
        render(&slices, &self.members)
            .map(Some)
            .map_err(|error| Chain(&error).to_string())
    }

    /// Asks root's ceiling, before anything is applied and before anything is repaired: the one place that does.
    pub(super) async fn permit(&self, desired: DesiredState) -> Result<Permitted, RefuseCeiling> {
        // A table that cannot be listed may be there.
        let is_there = desired.firewall.is_none() && self.firewall.is_there().await.unwrap_or(true);
        self.ceiling.permit(desired, is_there)
    }

    /// Looks at the host and puts right what differs from the confirmed state. Quiet if nothing does.
    pub(super) async fn look(&mut self, activation: &'static str) {
        let desired = match self.confirmed_state() {
            Ok(Some(desired)) => desired,
            // Before the first release nothing here is ours.
            Ok(None) => return,
            Err(detail) => return self.trouble(activation, "failed", detail).await,
        };
        let permitted = match self.permit(desired).await {
            Ok(permitted) => permitted,
            // What is there stays as it is, and nobody repairs it.
            Err(error) => {
                let detail = Chain(&error).to_string();
                return self.trouble(activation, "refused", detail).await;
            }
        };
        match converge(&mut self.firewall, &permitted.state().firewall).await {
            Ok(Outcome::InSync) => self.last_trouble = None,
            // Members that changed are no drift: the hub knows, it said so.
            Ok(Outcome::Repaired(_)) if activation == MEMBERS => {
                self.last_trouble = None;
                tracing::info!(resource = FirewallTable::NAME, "group members changed");
            }
            Ok(Outcome::Repaired(plan)) => {
                self.last_trouble = None;
                tracing::info!(resource = FirewallTable::NAME, %plan, "repaired");
                let detail = plan.to_string();
                self.report_confirmed(
                    activation,
                    Ended {
                        outcome: "repaired",
                        detail,
                        keeps: Vec::new(),
                    },
                )
                .await;
            }
            Ok(Outcome::StillDrifted { left, .. }) => {
                self.trouble(activation, "drifted", left.to_string()).await
            }
            Err(error) => {
                self.trouble(activation, "failed", Chain(&error).to_string())
                    .await
            }
        }
    }

    /// Reports what a look could not mend: once, not at every look.
    async fn trouble(&mut self, activation: &'static str, outcome: &'static str, detail: String) {
        if self.last_trouble.as_ref() != Some(&detail) {
            tracing::error!(
                resource = FirewallTable::NAME,
                outcome,
                detail,
                "cannot keep the confirmed state"
            );
            self.last_trouble = Some(detail.clone());
            self.report_confirmed(
                activation,
                Ended {
                    outcome,
                    detail,
                    keeps: Vec::new(),
                },
            )
            .await;
        }
    }
}
