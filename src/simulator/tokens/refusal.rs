//! How the token endpoint refuses, in the words of Entra.

use serde_json::json;

use super::Answer;
use crate::simulator::catalogue::Name;
use crate::simulator::switch::Strike;

const PAGE: &str = "<html><body><h1>Our services aren't available right now</h1></body></html>";
/// Why there is no token: status, OAuth's error, Entra's number and text.
pub(super) type Refusal = (u16, &'static str, u32, &'static str);

pub(super) const NO_APPLICATION: Refusal =
    (400, "unauthorized_client", 700_016, "Application was not found.");
pub(super) const BAD_SECRET: Refusal =
    (401, "invalid_client", 7_000_215, "Invalid client secret provided.");
pub(super) const BAD_ASSERTION: Refusal =
    (401, "invalid_client", 700_024, "Client assertion is not within its valid time range.");
pub(super) const NO_CREDENTIAL: Refusal = (
    401,
    "invalid_client",
    7_000_218,
    "The request body must contain client_assertion or client_secret.",
);
pub(super) const BAD_SCOPE: Refusal =
    (400, "invalid_scope", 70_011, "The provided value for scope is not valid.");
pub(super) const BAD_RESOURCE: Refusal =
    (400, "invalid_resource", 500_011, "The resource principal was not found in the tenant.");
pub(super) const BAD_TENANT: Refusal = (400, "invalid_request", 90_002, "Tenant not found.");
pub(super) const BAD_GRANT: Refusal =
    (400, "unsupported_grant_type", 70_003, "The grant type is not supported.");

/// The faults that are refusals.
const BROKEN: [(Name, Refusal); 3] = [
    (Name::F22TokenBadRequest, NO_APPLICATION),
    (Name::F22TokenUnauthorized, BAD_SECRET),
    (Name::F22TokenThrottled, (429, "temporarily_unavailable", 90_010, "Too many requests.")),
];

/// The answer of a fault that gives out no token.
pub(super) fn broken(strike: &Strike) -> Option<Answer> {
    let switch = &strike.switch;
    if strike.name == Name::F22TokenError {
        let (status, retry_after) = (switch.status.unwrap_or(500), switch.retry_after.clone());
        return Some(Answer { status, retry_after, body: PAGE.to_owned(), is_json: false });
    }
    let (_, refusal) = BROKEN.iter().find(|(name, _)| *name == strike.name)?;
    let usual = (strike.name == Name::F22TokenThrottled).then(|| "1".to_owned());
    let retry_after = switch.retry_after.clone().or(usual);
    let mut rng = fastrand::Rng::with_seed(0);
    Some(Answer { retry_after, ..refused(refusal, &mut rng) })
}

/// An error as Entra words it.
pub(super) fn refused((status, error, number, text): &Refusal, rng: &mut fastrand::Rng) -> Answer {
    let mut id = || uuid::Builder::from_random_bytes(rng.u128(..).to_le_bytes()).into_uuid();
    let (trace, correlation) = (id(), id());
    let description =
        format!("AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation}");
    let body = json!({
        "error": error,
        "error_description": description,
        "error_codes": [number],
        "trace_id": trace,
        "correlation_id": correlation,
    });
    Answer { status: *status, retry_after: None, body: body.to_string(), is_json: true }
}
