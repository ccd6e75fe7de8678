//! What there is to say of the process at one moment.

use serde::Serialize;

use super::{Admin, Health, Identity, Phase, Report};

/// What `/status` says, and the page shows.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    pub(super) identity: Identity,
    pub(super) phase: Phase,
    pub(super) up_seconds: f64,
    pub(super) live: Health,
    pub(super) ready: Health,
    /// Nothing before the broker was reached.
    #[serde(flatten)]
    pub(super) report: Option<Report>,
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        Self {
            identity: admin.identity.clone(),
            phase: admin.phase(),
            up_seconds: admin.born.elapsed().as_secs_f64(),
            live: admin.live(),
            ready: admin.ready(),
            report: admin.report(),
        }
    }
}
