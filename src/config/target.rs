//! The settings of the HTTP side: where the service is, and how long and how much it may answer.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Auth, Batch, Profile, secret};

/// The OData service that the updates are applied to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Target {
    /// Which product the service is: `fo` (Finance & Operations), `dataverse`, `bc` (Business
    /// Central), `sap` (Gateway and S/4HANA, OData V4), or `odata` for any other.
    ///
    /// It chooses the defaults of `cross_company`, `prefer_minimal` and `csrf`, and of
    /// `order.entity_set`, `order.key`, `order.key_fold_case` and `order.key_guid`, and does nothing
    /// else: what is set by hand wins, and `config show` tells what came from the profile. Must be
    /// equal on all pods.
    pub profile: Profile,
    /// The service root, such as `https://contoso.operations.dynamics.com/data`: http or https,
    /// without user, query and fragment. A slash at its end makes no difference.
    #[serde(serialize_with = "secret::masked_url")]
    pub url: Url,
    /// Whether every request carries `cross-company=true`.
    ///
    /// Without it, Dynamics finds only the orders of its user's own company, and answers 404 for
    /// all others. `false` for a service that is not Dynamics.
    pub cross_company: bool,
    /// Whether a PATCH asks the service not to send the order back (`Prefer: return=minimal`).
    pub prefer_minimal: bool,
    /// Whether a GET asks only for the properties that its update is judged by (`$select`): the key, what it
    /// changes and expects, and `guard.sequence_property`.
    ///
    /// The rest of an order would be sent, read and thrown away. Names that are more than the name of a
    /// property, and values with parts, are not asked for like that. A service that answers 400 or 501, or
    /// without an ETag, is asked for the whole order, at once: where that is so for every GET, `false` spares it.
    pub select: bool,
    /// Whether a PATCH needs a CSRF token and the cookies that came with it, as SAP wants it.
    ///
    /// They are fetched by a GET of the order (`X-CSRF-Token: Fetch`), kept, and fetched anew when
    /// the service refuses them. No cookie is kept otherwise.
    pub csrf: bool,
    /// The bearer token sent with every request, if any, with `target.auth.kind = bearer`: printable
    /// ASCII without spaces, at most 16384 bytes. One in a file is read anew after a 401, and every
    /// few minutes.
    #[serde(serialize_with = "secret::masked_text")]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub bearer_token: Option<SecretString>,
    /// The file that the token stood in, if any.
    #[serde(skip)]
    pub bearer_token_file: Option<PathBuf>,
    /// Which HTTP the service is spoken to in: `http1`, `http2`, or `auto`, which is what the service prefers of both
    /// over https, else HTTP/1.1.
    ///
    /// With HTTP/1.1 each request has a connection to itself. With HTTP/2 all share one: a lost packet holds up all, and
    /// requests beyond what the service lets in at once (100 as a rule) wait in the library, where one that was given
    /// up may still be written when its update is somebody else's. So keep `dispatch.concurrency_max` below that.
    /// `http2` without TLS needs a service that expects it.
    pub http_version: HttpVersion,
    /// How long a TCP and TLS connection to the service may take to open.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
    pub connect_timeout: Duration,
    /// How long one GET may take, from the connection to the last byte of the answer.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub get_timeout: Duration,
    /// How long one PATCH may take. After this its outcome is unknown, and a GET looks first.
    ///
    /// Long, because an update runs the order's business rules while we wait, and giving up early
    /// only adds load. Not longer, because with the default budgets of 7 attempts, each a GET and a
    /// PATCH, one delivery is held for about 12 minutes at most, and must stay below half of
    /// `broker.consumer_timeout`, which is 15 minutes.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub patch_timeout: Duration,
    /// Largest answer that is read, in bytes. A larger one counts as a failure.
    ///
    /// An order with all its fields takes some ten thousand bytes; the limit bounds what a broken
    /// proxy can make us read, times `dispatch.concurrency_max`.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub body_bytes_max: usize,
    /// How long an idle connection is kept open.
    ///
    /// Just below the 60 s after which many load balancers drop one silently: a request sent on a
    /// dropped connection is a failure whose outcome is unknown.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub pool_idle_timeout: Duration,
    /// Most idle connections kept open; 0 opens one for every request.
    ///
    /// No less than `dispatch.concurrency_max` avoids opening connections again in steady work.
    #[schemars(range(min = 0, max = 4096))]
    pub pool_idle_max: usize,
    /// Whether several orders go in one request.
    pub batch: Batch,
    /// How we prove to the service who we are.
    pub auth: Auth,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename_all = "lowercase")]
pub enum HttpVersion {
    /// HTTP/1.1, whatever the service offers.
    #[default]
    Http1,
    /// HTTP/2 and nothing else, also without TLS (RFC 9113, 3.3).
    Http2,
    /// What the service prefers (ALPN, RFC 7301); HTTP/1.1 without TLS.
    Auto,
}

impl Target {
    /// Where the default points: a simulator on this machine.
    fn url_default() -> Url {
        #[expect(clippy::expect_used, reason = "a constant, and every test loads it")]
        Url::parse("http://127.0.0.1:8090/data").expect("a constant URL")
    }
}

impl Default for Target {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            url: Self::url_default(),
            cross_company: true,
            prefer_minimal: true,
            select: true,
            csrf: false,
            bearer_token: None,
            bearer_token_file: None,
            http_version: HttpVersion::default(),
            connect_timeout: Duration::from_secs(5),
            get_timeout: Duration::from_secs(30),
            patch_timeout: Duration::from_mins(1),
            body_bytes_max: 4_194_304,
            pool_idle_timeout: Duration::from_secs(55),
            pool_idle_max: 64,
            batch: Batch::default(),
            auth: Auth::default(),
        }
    }
}
