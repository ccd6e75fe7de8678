//! The settings of the admin listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The listener for probes, metrics and people: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port; empty is no listener, port 0 one that the system chooses.
    ///
    /// Only this machine unless set otherwise: what is shown names orders, and there is no TLS. In
    /// Kubernetes probes and scrapes come to the pod's own address, so set `0.0.0.0:9464` there.
    pub listen: String,
    /// Whether order keys are shown as they are. Otherwise each is shown as a short hash, which stays the
    /// same for an order as long as this program's version does.
    pub show_orders: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned(), show_orders: true }
    }
}
