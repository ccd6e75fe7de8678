//! The token endpoint of an Entra tenant, and which tokens are live.
//!
//! A token has the form of a JWT, but nobody may read it: it is live because it is in the list.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::catalogue::Name;
use super::switch::Strike;
use refusal::{
    BAD_ASSERTION, BAD_GRANT, BAD_RESOURCE, BAD_SCOPE, BAD_SECRET, BAD_TENANT, NO_APPLICATION,
    NO_CREDENTIAL, Refusal, broken, refused,
};

mod refusal;

/// Tokens that are remembered; the oldest are forgotten, and thereby dead.
const LIVE_MAX: usize = 10_000;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long a short-lived token lives.
const SHORT: Duration = Duration::from_mins(1);
/// How far the clocks differ.
const SKEW: Duration = Duration::from_mins(5);
/// Longer than any sensible client waits.
const SLOW: Duration = Duration::from_mins(2);

/// Who gets a token, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The tenant in the path.
    pub tenant: String,
    /// The application.
    pub client_id: String,
    /// Its secret; none is accepted if absent.
    pub client_secret: Option<String>,
    /// The federated assertion that is accepted, byte for byte; none if absent.
    pub client_assertion: Option<String>,
    /// What a token must have been asked for to be let in: the service's URL without a slash at its
    /// end. Any if absent.
    pub audience: Option<String>,
    /// How long a token lives.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
}

/// A request for a token.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) tenant: &'a str,
    pub(super) version: Version,
    pub(super) form: HashMap<String, String>,
}

/// The two endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Asked for a resource; numbers come as strings.
    V1,
    /// Asked for a scope.
    V2,
}

/// What the endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<String>,
    /// The body.
    pub body: String,
    /// Whether the body is JSON, not a page.
    pub is_json: bool,
}

/// What the endpoint did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests for a token.
    pub asked: u64,
    /// Tokens given out.
    pub issued: u64,
    /// Requests that were refused, for a reason or by a fault.
    pub refused: u64,
    /// Tokens that are remembered: live, or past their time.
    pub known: u64,
}

#[derive(Debug)]
struct Grant {
    audience: String,
    until: Timestamp,
}

/// The endpoint.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: Settings,
    known: HashMap<String, Grant>,
    order: VecDeque<String>,
    counts: Counts,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenant: "tenant".to_owned(),
            client_id: "client".to_owned(),
            client_secret: None,
            client_assertion: None,
            audience: None,
            lifetime: Duration::from_secs(3_599),
        }
    }
}

impl<'a> Ask<'a> {
    /// Reads a request, if its path is that of a token endpoint.
    pub(super) fn read(path: &'a str, body: &[u8]) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let tenant = segments.next()?;
        let version = match (segments.next()?, segments.next()?, segments.next()) {
            ("oauth2", "token", None) => Version::V1,
            ("oauth2", "v2.0", Some("token")) => Version::V2,
            _ => return None,
        };
        let form = url::form_urlencoded::parse(body).into_owned().collect();
        segments.next().is_none().then_some(Self { tenant, version, form })
    }

    fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    /// What the token is asked for.
    fn audience(&self) -> Result<&str, Refusal> {
        let is_url = |text: &&str| text.starts_with("https://") || text.starts_with("http://");
        match self.version {
            Version::V1 => Some(self.field("resource")).filter(is_url).ok_or(BAD_RESOURCE),
            Version::V2 => {
                let audience = self.field("scope").strip_suffix("/.default");
                audience.filter(is_url).ok_or(BAD_SCOPE)
            }
        }
    }
}

impl Tokens {
    pub(super) fn new(settings: Settings) -> Self {
        let counts = Counts::default();
        Self { settings, known: HashMap::new(), order: VecDeque::new(), counts }
    }

    /// What the endpoint did.
    pub(super) fn counts(&self) -> Counts {
        Counts { known: self.known.len() as u64, ..self.counts }
    }

    /// Changes who gets tokens: what is given replaces what there was, and null takes it away.
    /// Tokens given out stay live.
    pub(super) fn update(&mut self, update: Map<String, Json>) -> serde_json::Result<()> {
        let mut settings = serde_json::to_value(&self.settings)?;
        if let Some(settings) = settings.as_object_mut() {
            settings.extend(update);
        }
        self.settings = serde_json::from_value(settings)?;
        Ok(())
    }

    /// Every token given out so far is dead.
    pub(super) fn revoke(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    /// Whether a token is let in.
    pub(super) fn is_live(&self, token: &str, now: Timestamp) -> bool {
        self.known.get(token).is_some_and(|grant| {
            let wanted = self.settings.audience.as_deref();
            grant.until > now && wanted.is_none_or(|wanted| wanted == grant.audience)
        })
    }

    /// Answers a request for a token.
    pub(super) fn answer(
        &mut self,
        ask: &Ask<'_>,
        strike: Option<&Strike>,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Answer {
        self.counts.asked += 1;
        let granted = match strike.and_then(broken) {
            Some(answer) => Err(answer),
            None => self.judge(ask).map_err(|refusal| refused(&refusal, rng)),
        };
        match granted {
            Ok(audience) => self.grant(ask, audience, strike, now, rng),
            Err(answer) => {
                self.counts.refused += 1;
                answer
            }
        }
    }

    /// The audience of the token, or why there is none.
    fn judge(&self, ask: &Ask<'_>) -> Result<String, Refusal> {
        if ask.tenant != self.settings.tenant {
            return Err(BAD_TENANT);
        }
        if ask.field("grant_type") != "client_credentials" {
            return Err(BAD_GRANT);
        }
        if ask.field("client_id") != self.settings.client_id {
            return Err(NO_APPLICATION);
        }
        match (ask.form.get("client_secret"), ask.form.get("client_assertion")) {
            (Some(secret), None) if self.settings.client_secret.as_ref() == Some(secret) => {}
            (None, Some(assertion))
                if self.settings.client_assertion.as_ref() == Some(assertion)
                    && ask.field("client_assertion_type") == ASSERTION_TYPE => {}
            (Some(_), _) => return Err(BAD_SECRET),
            (None, Some(_)) => return Err(BAD_ASSERTION),
            (None, None) => return Err(NO_CREDENTIAL),
        }
        ask.audience().map(str::to_owned)
    }

    fn grant(
        &mut self,
        ask: &Ask<'_>,
        audience: String,
        strike: Option<&Strike>,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Answer {
        let name = strike.map(|strike| strike.name);
        let how_long = strike.and_then(|strike| strike.switch.how_long);
        let told = match name {
            Some(Name::F22ExpiresInShort) => how_long.unwrap_or(SHORT),
            Some(_) | None => self.settings.lifetime,
        };
        let lives = match name {
            Some(Name::F22ClockSkew) => told.saturating_sub(how_long.unwrap_or(SKEW)),
            Some(_) | None => told,
        };
        let until = |time| now.checked_add(time).unwrap_or(Timestamp::MAX);
        let token = token(&self.settings, &audience, until(told), rng);
        let as_text = ask.version == Version::V1 || name == Some(Name::F22ExpiresInText);
        let number = |it: u64| if as_text { json!(it.to_string()) } else { json!(it) };
        let mut body = Map::new();
        body.insert("token_type".to_owned(), json!("Bearer"));
        if name != Some(Name::F22ExpiresInMissing) {
            body.insert("expires_in".to_owned(), number(told.as_secs()));
            body.insert("ext_expires_in".to_owned(), number(told.as_secs()));
        }
        if ask.version == Version::V1 {
            let at = until(told).as_second().to_string();
            body.insert("expires_on".to_owned(), json!(at));
            body.insert("resource".to_owned(), json!(audience));
        }
        body.insert("access_token".to_owned(), json!(token));
        self.remember(token, Grant { audience, until: until(lives) });
        self.counts.issued += 1;
        Answer {
            status: 200,
            retry_after: None,
            body: Json::Object(body).to_string(),
            is_json: true,
        }
    }

    fn remember(&mut self, token: String, grant: Grant) {
        if self.order.len() == LIVE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(token.clone());
        self.known.insert(token, grant);
    }
}

/// How long the token endpoint takes.
pub(super) fn delay(strike: Option<&Strike>) -> Duration {
    let slow = strike.filter(|strike| strike.name == Name::F22TokenSlow);
    slow.map_or(Duration::ZERO, |strike| strike.switch.how_long.unwrap_or(SLOW))
}

/// A new token: what a JWT looks like, signed by nobody.
fn token(settings: &Settings, audience: &str, until: Timestamp, rng: &mut fastrand::Rng) -> String {
    let claims = json!({
        "aud": audience, "tid": settings.tenant, "appid": settings.client_id,
        "exp": until.as_second(),
    });
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let head = encode(br#"{"typ":"JWT","alg":"none"}"#);
    let claims = encode(claims.to_string().as_bytes());
    format!("{head}.{claims}.{}", encode(&rng.u128(..).to_le_bytes()))
}

#[cfg(test)]
mod tests;
