//! The settings of the admin listener.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secret;

/// The listener for probes, metrics and people: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/status`, and
/// a page at `/`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    /// What an operator may ask of the daemon while it runs.
    pub actions: Actions,
}

/// What an operator may ask of the daemon while it runs: to pause, to go on, to hand back a shard, to log
/// more or less. On a listener of its own, and off unless it is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Actions {
    /// Address and port; empty is no listener, port 0 one that the system chooses. Without TLS: keep it on
    /// this machine, and reach it through what the platform has for that.
    pub listen: String,
    /// What is to be sent as `Authorization: Bearer`: 16 to 1024 printable ASCII characters without
    /// spaces. Read once, at the start.
    #[serde(serialize_with = "secret::masked_text")]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub token: Option<SecretString>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned(), show_orders: true, actions: Actions::default() }
    }
}
