//! The settings of the sign-in: how a token for the service is come by.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::secret;

/// How we prove to the service who we are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Where the token comes from: `bearer` sends `target.bearer_token`, if there is one, and never
    /// another; `client_secret` and `workload_identity` ask Microsoft Entra for tokens and renew
    /// them (OAuth 2.0 client credentials).
    ///
    /// `workload_identity` reads what it needs from the variables that Azure's webhook gives a pod
    /// (AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE, AZURE_AUTHORITY_HOST), unless
    /// it is given here.
    pub kind: AuthKind,
    /// The tenant in which the application is registered: its identifier or its domain. ASCII
    /// letters, digits, `.` and `-`, at most 128. Not for `bearer`.
    pub tenant: String,
    /// The application's (client's) identifier, at most 128 printable ASCII characters without
    /// spaces. Not for `bearer`.
    pub client_id: String,
    /// The application's secret, at most 4096 bytes: its value, not its identifier. For
    /// `client_secret` alone. One in a file is read anew for every token, so that a new one needs no
    /// restart.
    #[serde(serialize_with = "secret::masked_text")]
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub client_secret: Option<SecretString>,
    /// The file that the secret stood in, if any.
    #[serde(skip)]
    pub client_secret_file: Option<PathBuf>,
    /// The file with the token that the cluster gives this workload. For `workload_identity` alone.
    /// It is read anew for every token: the cluster replaces it now and then.
    pub federated_token_file: String,
    /// Where tokens are asked for, without the tenant: http or https, without user, query and
    /// fragment. Another one in national clouds.
    #[serde(serialize_with = "secret::masked_url")]
    pub authority: Url,
    /// Which of Entra's two token endpoints is asked: `v2` (`/oauth2/v2.0/token`) for a `scope`, or
    /// `v1` (`/oauth2/token`) for a `resource`, as older guides have it.
    pub endpoint: AuthEndpoint,
    /// What the token is for, where it is not what `target.url` says: the scope (`v2`, ends in
    /// `/.default`) or the resource (`v1`).
    ///
    /// Empty: scheme, host and port of `target.url`, in lower case and without a slash at the end,
    /// which is what Dynamics asks for.
    pub scope: String,
    /// How long a request for a token may take. Not longer than `target.get_timeout`: a GET that has
    /// no token waits for it within its own time.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "100ms", "x-maximum" = "1m"))]
    pub timeout: Duration,
    /// How long before its end a token is renewed; at most half of its life, and up to a fifth less
    /// by chance, so that pods that started together do not ask together.
    ///
    /// Long enough to outlive a short outage of the token endpoint: meanwhile the old token is used.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("x-minimum" = "0s", "x-maximum" = "30m"))]
    pub renew_ahead: Duration,
}

/// Where the token comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename_all = "snake_case")]
pub enum AuthKind {
    /// A fixed token, or none.
    #[default]
    Bearer,
    /// Client credentials with a secret.
    ClientSecret,
    /// Client credentials with a token of the cluster's.
    WorkloadIdentity,
}

/// The token endpoints of Microsoft Entra.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename_all = "snake_case")]
pub enum AuthEndpoint {
    /// Asked for a scope.
    #[default]
    V2,
    /// Asked for a resource.
    V1,
}

impl Auth {
    /// The variables that Azure's workload identity gives a pod, and the key that each stands for.
    pub(super) const AZURE: [(&str, &str); 4] = [
        ("AZURE_CLIENT_ID", "target.auth.client_id"),
        ("AZURE_TENANT_ID", "target.auth.tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", "target.auth.federated_token_file"),
        ("AZURE_AUTHORITY_HOST", "target.auth.authority"),
    ];

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        let authority = self.authority.as_str().trim_end_matches('/');
        let endpoint = match self.endpoint {
            AuthEndpoint::V2 => "oauth2/v2.0/token",
            AuthEndpoint::V1 => "oauth2/token",
        };
        format!("{authority}/{}/{endpoint}", self.tenant)
    }

    /// What a token is asked for, as a field of the form. `target` is the service root.
    pub fn scope(&self, target: &Url) -> (&'static str, String) {
        let root = target.origin().ascii_serialization();
        let given = |otherwise: String| {
            if self.scope.is_empty() { otherwise } else { self.scope.clone() }
        };
        match self.endpoint {
            AuthEndpoint::V2 => ("scope", given(format!("{root}/.default"))),
            AuthEndpoint::V1 => ("resource", given(root)),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a constant, and every test loads it")]
        let authority = Url::parse("https://login.microsoftonline.com").expect("a constant URL");
        Self {
            kind: AuthKind::default(),
            tenant: String::new(),
            client_id: String::new(),
            client_secret: None,
            client_secret_file: None,
            federated_token_file: String::new(),
            authority,
            endpoint: AuthEndpoint::default(),
            scope: String::new(),
            timeout: Duration::from_secs(10),
            renew_ahead: Duration::from_mins(5),
        }
    }
}
