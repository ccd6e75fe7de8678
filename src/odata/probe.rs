//! Looks at the service step by step, as an update would meet it, and writes nothing.

mod encryption;
mod network;

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::client::Client;
use super::grant::Refusal;
use crate::config::{AuthKind, Settings};
use crate::dispatch::Trail;
use crate::order::{KeyValue, Literal, OrderKey};
use crate::protocol::verdict::verdict;
use crate::protocol::{Answer, Complaint, Fault, Fetched, Reply, Request, SignIn, Texts, Verdict};

/// GETs whose median is the latency.
const GETS: usize = 5;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Fine,
    /// Not looked at.
    Skipped,
    /// A thing that time may heal.
    Unavailable,
    /// The settings, or what the service grants us, must change.
    Wrong,
    /// There is no order of the key that was given.
    NoOrder,
}

/// One step, and what was found.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name. Never reworded.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it. Empty where nothing is to be done.
    pub hint: String,
    /// How long it took.
    pub took: Duration,
}

/// Performs the steps.
#[derive(Debug)]
pub struct Probe<'a> {
    settings: &'a Settings,
    client: Client,
    steps: Vec<Step>,
}

impl<'a> Probe<'a> {
    /// A probe of the configured service, with the client that updates would use.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(settings: &'a Settings, instance: &str) -> Result<Self, super::Error> {
        Ok(Self { settings, client: Client::new(settings, instance)?, steps: Vec::new() })
    }

    /// All steps up to the first that fails. Without a key, the first order of the set is looked at.
    pub async fn run(mut self, key: Option<OrderKey>, trail: Trail) -> Vec<Step> {
        // Each says whether the next one makes sense.
        let _ended = self.walk(key, trail).await;
        self.steps
    }

    async fn walk(&mut self, key: Option<OrderKey>, trail: Trail) -> Option<()> {
        self.network().await?;
        self.encryption().await?;
        self.token().await?;
        let key = match key {
            Some(key) => key,
            None => self.first(trail).await?,
        };
        let begun = Instant::now();
        let reply = self.client.probe(Some(&key), trail).await;
        let took = begun.elapsed();
        let answer = self.answered(&reply, took)?;
        let order = if answer.status == 404 { None } else { Fetched::read(&answer.body) };
        let Some(order) = order else { return self.missing(&key, answer, trail).await };
        self.note("order", State::Fine, format!("{} is there", key.canonical()), "", took);
        let in_header = answer.etag.is_some();
        if let Some(etag) = answer.etag.clone().or_else(|| order.etag()) {
            let place = if in_header { "header" } else { "body" };
            let detail = format!("{} in the {place}", etag.as_str());
            self.note("etag", State::Fine, detail, "", Duration::ZERO);
        } else {
            let hint = "updates need one: the entity must have a property for concurrency";
            self.note("etag", State::Wrong, "none".to_owned(), hint, Duration::ZERO);
            return None;
        }
        self.latency(&key, trail, took).await
    }

    fn note(
        &mut self,
        name: &'static str,
        state: State,
        detail: String,
        hint: &str,
        took: Duration,
    ) {
        self.steps.push(Step { name, state, detail, hint: hint.to_owned(), took });
    }

    async fn token(&mut self) -> Option<()> {
        let auth = &self.settings.target.auth;
        let begun = Instant::now();
        let got = self.client.tokens.get(begun + self.settings.target.get_timeout).await;
        let took = begun.elapsed();
        let (state, detail, hint) = match (got, auth.kind) {
            (Ok(Some(_)), AuthKind::Bearer) => {
                (State::Skipped, "a fixed token is sent".to_owned(), String::new())
            }
            (Ok(None), _) => (State::Skipped, "no token is sent".to_owned(), String::new()),
            (Ok(Some(token)), AuthKind::ClientSecret | AuthKind::WorkloadIdentity) => {
                let left = Duration::from_secs(token.left().as_secs());
                let left = humantime::format_duration(left);
                (State::Fine, format!("{} gave one for {left}", auth.token_url()), String::new())
            }
            (Err(why), _) => {
                let refusal = self.client.tokens.refusal();
                let refusal = refusal.unwrap_or_else(|| Refusal::new(why, "no answer in time"));
                let trace = match &*refusal.trace_id {
                    "" => String::new(),
                    trace => format!(", trace id {trace}"),
                };
                let state = match why {
                    SignIn::Config => State::Wrong,
                    SignIn::Unavailable => State::Unavailable,
                };
                let detail = match auth.kind {
                    AuthKind::Bearer => refusal.to_string(),
                    AuthKind::ClientSecret | AuthKind::WorkloadIdentity => {
                        format!("{}: {refusal}{trace}", auth.token_url())
                    }
                };
                (state, detail, refusal.hint().to_owned())
            }
        };
        self.note("token", state, detail, &hint, took);
        matches!(state, State::Fine | State::Skipped).then_some(())
    }

    /// The key of the first order of the set.
    async fn first(&mut self, trail: Trail) -> Option<OrderKey> {
        let begun = Instant::now();
        let reply = self.client.probe(None, trail).await;
        let took = begun.elapsed();
        let answer = self.answered(&reply, took)?;
        let set = &self.settings.order.entity_set;
        if answer.status == 404 {
            self.no_such_set(answer, took);
            return None;
        }
        let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(order) = page.pointer("/value/0") else {
            let hint = "give --key to look at one order";
            self.note("entity_set", State::Skipped, format!("{set} shows no order"), hint, took);
            return None;
        };
        self.note("entity_set", State::Fine, format!("{set} is there"), "", took);
        let value = |name: &String| {
            let literal = match order.get(name)? {
                Value::String(text) => Literal::Text(text.clone()),
                Value::Number(number) => Literal::Integer(number.as_i64()?),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
            };
            Some(KeyValue { property: name.as_str().into(), literal })
        };
        let names = &self.settings.order.key;
        let values: Option<Vec<_>> = names.iter().map(value).collect();
        if values.is_none() {
            let detail = format!("an order does not hold {} as text or number", names.join(", "));
            self.note("key", State::Wrong, detail, "check order.key, and its case", Duration::ZERO);
        }
        // Which spellings are one order matters to nobody here.
        values.map(|values| OrderKey::new(values, |_| false))
    }

    /// The answer, if it is one that says something about orders: success or 404.
    fn answered<'r>(&mut self, reply: &'r Reply, took: Duration) -> Option<&'r Answer> {
        let fo = self.settings.target.cross_company;
        let (state, detail, hint) = match (reply, verdict(Request::Get, reply, &Texts::default())) {
            (Ok(answer), Verdict::Done) => {
                if !self.steps.iter().any(|step| step.name == "permission") {
                    self.note("permission", State::Fine, "we may read".to_owned(), "", took);
                }
                return Some(answer);
            }
            (Ok(answer), Verdict::Not(_)) if answer.status == 404 => return Some(answer),
            (Ok(answer), Verdict::Not(trouble)) => {
                let said = Complaint::read(&answer.body).message;
                let said = if said.is_empty() { said } else { format!(": {said}") };
                let (state, hint) = advice(answer.status, fo);
                (state, format!("{} ({}){said}", answer.status, trouble.code().as_str()), hint)
            }
            (Err(fault), _) => {
                let (detail, hint) = silence(*fault);
                (State::Unavailable, detail.to_owned(), hint)
            }
        };
        self.note("permission", state, detail, hint, took);
        None
    }

    fn no_such_set(&mut self, answer: &Answer, took: Duration) {
        let set = &self.settings.order.entity_set;
        let said = Complaint::read(&answer.body).message;
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let detail = format!("404, there is no {set}{said}");
        let hint = "check order.entity_set, whose case matters, and the path of target.url";
        self.note("entity_set", State::Wrong, detail, hint, took);
    }

    /// A 404: is it the order, or the set?
    async fn missing(&mut self, key: &OrderKey, answer: &Answer, trail: Trail) -> Option<()> {
        let begun = Instant::now();
        let set = self.client.probe(None, trail).await;
        let took = begun.elapsed();
        if set.as_ref().is_ok_and(|set| set.status == 404) {
            self.no_such_set(answer, took);
            return None;
        }
        let hint = if self.settings.target.cross_company {
            "check the key and its case; our user must be allowed to see its company"
        } else {
            "check the key and its case; an order of another company of Finance & Operations needs \
             target.cross_company"
        };
        let detail = format!("404, there is no {}", key.canonical());
        self.note("order", State::NoOrder, detail, hint, took);
        None
    }

    async fn latency(&mut self, key: &OrderKey, trail: Trail, first: Duration) -> Option<()> {
        let mut took = vec![first];
        while took.len() < GETS {
            let begun = Instant::now();
            let reply = self.client.probe(Some(key), trail).await;
            took.push(begun.elapsed());
            if verdict(Request::Get, &reply, &Texts::default()) != Verdict::Done {
                let detail = format!("GET {} of {GETS} failed", took.len());
                let hint = "the service answers now and then only";
                self.note("latency", State::Unavailable, detail, hint, Duration::ZERO);
                return None;
            }
        }
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let detail = format!("median of {GETS} GETs");
        self.note("latency", State::Fine, detail, "", median);
        Some(())
    }
}

/// What no answer says, though the port is open.
const fn silence(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Unreachable => ("no connection", "check target.url"),
        Fault::Untrusted => ("its certificate is not trusted", "is target.url the service itself?"),
        Fault::Timeout => ("no answer in target.get_timeout", "is it that slow?"),
        Fault::Broken => (
            "the connection broke",
            "is it HTTP that answers at target.url, and of target.http_version?",
        ),
        Fault::TooLarge => ("the answer is too large", "raise target.body_bytes_max"),
        Fault::SignIn(_) => ("401, and then no new token", "see target.auth"),
        Fault::Csrf => ("the CSRF token is refused", "see target.csrf"),
    }
}

/// What an answer other than success and 404 says about the settings.
fn advice(status: u16, is_fo: bool) -> (State, &'static str) {
    match status {
        401 if is_fo => (
            State::Wrong,
            "the token is not taken: is the application entered in Finance & Operations (Microsoft \
             Entra ID applications), and is target.url its environment?",
        ),
        401 => (State::Wrong, "the token is not taken: is it for this service? See target.auth"),
        403 => (State::Wrong, "the user of the application lacks a right, or a role"),
        300..=399 => (State::Wrong, "a redirect, most likely to a login page: check target.url"),
        200..=299 => (State::Wrong, "the answer is no JSON: is it a login or a maintenance page?"),
        408 | 425 | 429 | 500..=599 => (State::Unavailable, "the service is in trouble: try again"),
        0..=199 | 400 | 402 | 404..=407 | 409..=424 | 426..=428 | 430..=499 | 600.. => {
            (State::Wrong, "check order.entity_set, order.key and the path of target.url")
        }
    }
}
