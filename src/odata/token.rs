//! The token that every request carries: asked for when it is needed, renewed before its end.
//!
//! ```text
//! no token ───────────▶ ask: one at a time, the others wait for it
//! token, not due ─────▶ use it
//! token, due ─────────▶ one asks, the others go on with the old one; so does all if that fails
//! answered with 401 ──▶ give it up and ask, once for each request
//! asking failed ──────▶ the same answer for a while, without asking
//! ```
//!
//! Time is the monotonic clock, and counts from when the token was asked for: nothing here depends on
//! whether our clock agrees with the endpoint's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use super::Error;
use super::grant::{Grant, Refusal, renew_after};
use super::kept::Kept;
use super::source::Source;
use crate::config::Target;
use crate::protocol::SignIn;
use crate::telemetry::field;

/// How long a refusal counts. Somebody is to mend something, so a look now and then is enough.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long trouble counts that passes by itself, unless the endpoint asks for more.
const TROUBLED_FOR: Duration = Duration::from_secs(1);
/// The longest that the endpoint can ask for.
const TROUBLED_FOR_MAX: Duration = Duration::from_mins(1);

/// A token, ready to be sent. `Debug` hides it: the header is marked as sensitive.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    renew_at: Instant,
    ends: Instant,
}

/// Where tokens come from.
#[derive(Debug)]
pub(super) enum Tokens {
    /// Requests carry none, or always the same.
    Fixed(Option<Arc<Token>>),
    /// Asked for.
    Renewed(Box<Renewed>),
}

/// Tokens that are asked for, and what came of asking.
#[derive(Debug)]
pub(super) struct Renewed {
    source: Source,
    timeout: Duration,
    renew_ahead: Duration,
    kept: Kept<Token>,
    failed: Mutex<Option<(Instant, Refusal)>>,
}

impl Tokens {
    pub(super) fn new(target: &Target, instance: &str) -> Result<Self, Error> {
        let auth = &target.auth;
        let Some(source) = Source::new(target, instance)? else {
            let token = target.bearer_token.as_ref().map(Token::fixed);
            return Ok(Self::Fixed(token.transpose()?.map(Arc::new)));
        };
        Ok(Self::Renewed(Box::new(Renewed {
            source,
            timeout: auth.timeout,
            renew_ahead: auth.renew_ahead,
            kept: Kept::default(),
            failed: Mutex::new(None),
        })))
    }

    /// The token for a request that must be answered by `deadline`.
    pub(super) async fn get(&self, deadline: Instant) -> Result<Option<Arc<Token>>, SignIn> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Renewed(renewed) => renewed.get(deadline).await.map(Some),
        }
    }

    /// Gives up a token that the service does not take. False if there will be no other.
    pub(super) fn give_up(&self, token: Option<&Arc<Token>>) -> bool {
        match (self, token) {
            (Self::Renewed(renewed), Some(token)) => {
                renewed.kept.give_up(token);
                true
            }
            (Self::Renewed(_) | Self::Fixed(_), _) => false,
        }
    }

    /// How long the present one may still be used, where it is renewed.
    pub(super) fn left(&self) -> Option<Duration> {
        match self {
            Self::Fixed(_) => None,
            Self::Renewed(renewed) => renewed.kept.now().map(|token| token.left()),
        }
    }

    /// Why asking failed, as long as that counts.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Fixed(_) => None,
            Self::Renewed(renewed) => renewed.refusal(),
        }
    }
}

impl Token {
    fn header(token: &SecretString) -> Result<HeaderValue, Error> {
        let header = format!("Bearer {}", token.expose_secret());
        let mut header = HeaderValue::from_str(&header).map_err(|_invalid| Error::Token)?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn fixed(token: &SecretString) -> Result<Self, Error> {
        let now = Instant::now();
        Ok(Self { header: Self::header(token)?, renew_at: now, ends: now })
    }

    /// How long it may still be used.
    pub(super) fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }
}

impl Renewed {
    async fn get(&self, deadline: Instant) -> Result<Arc<Token>, SignIn> {
        let now = Instant::now();
        let old = self.kept.now().filter(|token| now < token.ends);
        if let Some(token) = old.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.clone());
        }
        let turn = match &old {
            None => timeout_at(deadline, self.kept.turn()).await.ok().flatten(),
            Some(_) => self.kept.turn_now(),
        };
        if turn.is_none() {
            // With an old token: somebody renews it just now. Without: our time is over.
            return old.ok_or(SignIn::Unavailable);
        }
        let now = Instant::now();
        if let Some(token) = self.kept.now().filter(|token| now < token.renew_at) {
            return Ok(token);
        }
        if let Some(refusal) = self.refusal() {
            return old.ok_or(refusal.why);
        }
        // A renewal must not take the time of the request that happens to make it.
        let spare = deadline.saturating_duration_since(now);
        let spare = if old.is_some() { spare / 2 } else { spare };
        match self.ask(now + spare.min(self.timeout)).await {
            Ok(token) => Ok(token),
            Err(refusal) => old.ok_or(refusal.why),
        }
    }

    /// Asks, and remembers what came of it.
    async fn ask(&self, deadline: Instant) -> Result<Arc<Token>, Refusal> {
        let begun = Instant::now();
        let asked = timeout_at(deadline, self.source.ask()).await;
        let late = || Refusal::new(SignIn::Unavailable, "no answer within target.auth.timeout");
        let token =
            asked.unwrap_or_else(|_elapsed| Err(late())).and_then(|Grant { token, life }| {
                let unfit = |_| Refusal::new(SignIn::Unavailable, "the token fits into no header");
                let header = Token::header(&token).map_err(unfit)?;
                let renew_at = begun + renew_after(life, self.renew_ahead, fastrand::f64());
                Ok(Token { header, renew_at, ends: begun + life })
            });
        match token {
            Ok(token) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let token = self.kept.keep(token);
                self.source.tell(token.left());
                Ok(token)
            }
            Err(refusal) => {
                let counts = match refusal.why {
                    SignIn::Config => REFUSED_FOR,
                    SignIn::Unavailable => refusal
                        .retry_after
                        .unwrap_or_default()
                        .clamp(TROUBLED_FOR, TROUBLED_FOR_MAX),
                };
                tracing::warn!(
                    error = %refusal,
                    { field::SERVICE_REQUEST_ID } = refusal.trace_id,
                    hint = refusal.hint(),
                    ask_again_in = ?counts,
                    "cannot sign in"
                );
                let failed = (Instant::now() + counts, refusal.clone());
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                Err(refusal)
            }
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = failed.as_ref().filter(|(until, _)| Instant::now() < *until);
        counts.map(|(_, refusal)| refusal.clone())
    }
}
