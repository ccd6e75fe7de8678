//! What the token endpoint says: a token and how long it lives, or why there is none. Pure.
//!
//! Sources: RFC 6749, sections 4.4 and 5; the token endpoints of Microsoft Entra, both versions.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::protocol::SignIn;

/// How long a token is used whose life is not told, or makes no sense: the shortest that an Entra
/// policy can set.
const LIFE_UNTOLD: Duration = Duration::from_mins(10);
/// A token of less would be renewed with every request. One that dies sooner is answered with 401.
const LIFE_MIN: Duration = Duration::from_secs(10);
/// The longest that a policy can set.
const LIFE_MAX: Duration = Duration::from_hours(24);

/// A token.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: SecretString,
    /// From when it was asked for.
    pub(super) life: Duration,
}

/// Why there is no token. Holds nothing secret: every text in it is of a few letters and digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it means for us.
    pub why: SignIn,
    /// HTTP status. `None` where no answer came.
    pub status: Option<u16>,
    /// OAuth's error, such as `invalid_client`, or in our words what is wrong.
    pub error: String,
    /// Entra's number of the error, as in AADSTS7000215.
    pub number: Option<u64>,
    /// Entra's name of the request, to be quoted to its support.
    pub trace_id: String,
    /// How long the endpoint asked to be left alone.
    pub retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
    error_codes: Vec<u64>,
    trace_id: String,
}

/// Reads an answer of the token endpoint.
pub(super) fn read(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<Grant, Refusal> {
    let refusal = |why, error: &str| {
        let refusal = Refusal::new(why, error);
        Err(Refusal { status: Some(status), retry_after, ..refusal })
    };
    if status == 200 {
        // A page of something that stands between us and the endpoint.
        let Ok(granted) = serde_json::from_slice::<Granted>(body) else {
            return refusal(SignIn::Unavailable, "the answer holds no token");
        };
        let kind = granted.token_type.as_deref().unwrap_or("Bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return refusal(SignIn::Config, "the token is no bearer token");
        }
        let life = life(granted.expires_in.as_ref());
        return Ok(Grant { token: granted.access_token, life });
    }
    let told: Refused = serde_json::from_slice(body).unwrap_or_default();
    Err(Refusal {
        why: why(status, &told.error),
        status: Some(status),
        error: word(&told.error),
        number: told.error_codes.first().copied().or(number(&told.error_description)),
        trace_id: word(&told.trace_id),
        retry_after,
    })
}

/// Trouble that passes by itself, or a refusal that only a change of the settings ends?
fn why(status: u16, error: &str) -> SignIn {
    match (status, error) {
        (_, "temporarily_unavailable" | "server_error" | "slow_down")
        | (408 | 425 | 429 | 500..=599, _) => SignIn::Unavailable,
        // A redirect as well: the endpoint itself never sends one.
        (0..=407 | 409..=424 | 426..=428 | 430..=499 | 600.., _) => SignIn::Config,
    }
}

/// A token's life, as a number or as text, whatever it is.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let told = seconds.filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    told.map_or(LIFE_UNTOLD, |seconds| {
        Duration::try_from_secs_f64(seconds).unwrap_or(LIFE_MAX).clamp(LIFE_MIN, LIFE_MAX)
    })
}

/// When a token is due for renewal, from when it was asked for. `dice` is a draw from `0.0..1.0`.
pub(super) fn renew_after(life: Duration, ahead: Duration, dice: f64) -> Duration {
    let ahead = ahead.min(life / 2);
    life.saturating_sub(ahead.mul_f64(1.0 - 0.2 * dice.clamp(0.0, 1.0)))
}

/// Entra's number at the beginning of its description.
fn number(description: &str) -> Option<u64> {
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// A short name, for the log. Whatever stands between us and the endpoint may send anything, what
/// we sent included.
fn word(text: &str) -> String {
    let plain = |it: &char| it.is_ascii_alphanumeric() || "_-".contains(*it);
    text.chars().take_while(plain).take(64).collect()
}

impl Refusal {
    /// One that no answer tells of.
    pub(super) fn new(why: SignIn, error: &str) -> Self {
        let (error, trace_id) = (error.to_owned(), String::new());
        Self { why, status: None, error, number: None, trace_id, retry_after: None }
    }

    /// What to do about it, in plain words. Empty where the error says it all.
    pub fn hint(&self) -> &'static str {
        let known = self.number.and_then(|number| HINTS.iter().find(|(it, _)| *it == number));
        match (known, self.why, &*self.error) {
            (Some((_, hint)), _, _) => hint,
            (None, SignIn::Unavailable, _) => {
                "the token endpoint is in trouble, or something stands between us and it: try again"
            }
            (None, SignIn::Config, "invalid_client") => {
                "check target.auth.client_id, and the secret or the federated credential"
            }
            (None, SignIn::Config, "unauthorized_client") => {
                "check target.auth.client_id and target.auth.tenant"
            }
            (None, SignIn::Config, "invalid_scope" | "invalid_resource" | "invalid_target") => {
                "check target.url, or target.auth.scope if it is set"
            }
            (None, SignIn::Config, _) => "check the section target.auth",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        f.write_str(if self.error.is_empty() { "without a reason" } else { &self.error })?;
        self.number.map_or(Ok(()), |number| write!(f, " (AADSTS{number})"))
    }
}

/// The numbers that a sign-in of this kind meets. Only for people: no decision is made by them.
const HINTS: [(u64, &str); 17] = [
    (7_000_215, "the client secret is wrong: give its value, not its identifier"),
    (7_000_222, "the client secret has expired: make a new one in the app registration"),
    (7_000_218, "the request held no credential: set target.auth.client_secret"),
    (7_000_112, "the application is disabled in this tenant"),
    (
        700_016,
        "there is no such application in this tenant: check target.auth.client_id and .tenant",
    ),
    (700_024, "the federated token has expired: is its file still replaced by the cluster?"),
    (700_027, "the federated token's signature is not accepted: check the credential's issuer"),
    (70_021, "no federated credential matches: check its issuer, subject and audience"),
    (700_211, "no federated credential has this issuer: check the cluster's issuer URL"),
    (700_212, "no federated credential has this audience: it is api://AzureADTokenExchange mostly"),
    (700_213, "no federated credential has this subject: check namespace and service account"),
    (90_002, "there is no such tenant: check target.auth.tenant"),
    (900_023, "target.auth.tenant is neither an identifier nor a domain of a tenant"),
    (
        500_011,
        "the tenant knows no such service: check target.url, or target.auth.scope if it is set",
    ),
    (70_011, "the scope makes no sense: it is the service's address and /.default"),
    (1_002_012, "the scope must end in /.default"),
    (53_003, "a conditional access policy of the tenant forbids it"),
];

#[cfg(test)]
mod tests;
