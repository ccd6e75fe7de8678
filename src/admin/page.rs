//! The page for people. Rendered here; without a script it reloads itself, with one it changes in place.
//!
//! The template escapes every text. What comes from messages and from the service is a text.

use askama::Template;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::chart::Chart;
use super::history::History;
use super::status::Status;
use super::{Admin, Phase};

/// Nothing from elsewhere, nothing inline, in nobody's frame, and no form.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// The query that asks for a page that stands still.
const STILL: &str = "refresh=off";

/// What stands in for nothing.
const NOTHING: &str = "–";

#[derive(Template)]
#[template(path = "status.html")]
struct Page<'a> {
    status: &'a Status,
    state: String,
    /// How good that is: `good`, `fair` or `bad`.
    mood: &'static str,
    /// What is amiss, a sentence each.
    troubles: Vec<String>,
    charts: Vec<Chart>,
    /// The time that the charts span, once there is one.
    span: Option<String>,
    counts: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    reloads: bool,
}

/// The page. `query` is what was asked for behind the `?`.
pub(super) fn page(admin: &Admin, query: Option<&str>) -> Response {
    let status = Status::of(admin);
    let (charts, span) = {
        let history = admin.history();
        let span = history.span();
        (charts(&history), (!span.is_zero()).then(|| seconds(&span.as_secs_f64())))
    };
    let (state, mood) = state(&status);
    let page = Page {
        state,
        mood,
        troubles: troubles(&status),
        charts,
        span,
        counts: status.report.as_ref().map(|report| flat(&report.counts)).unwrap_or_default(),
        settings: flat(&status.identity.configuration),
        reloads: query != Some(STILL),
        status: &status,
    };
    match page.render() {
        Ok(text) => file(HTML, text),
        Err(error) => {
            tracing::error!(%error, "a bug: the page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

pub(super) fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css").to_owned())
}

pub(super) fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/page.js").to_owned())
}

fn file(kind: &'static str, text: String) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text).into_response()
}

/// All in one sentence.
fn state(status: &Status) -> (String, &'static str) {
    let is_paused = status.report.as_ref().is_some_and(|report| report.broker.paused);
    let (text, mood) = match status.phase {
        _ if !status.live.ok => ("Broken: it should be started anew", "bad"),
        Phase::Starting => ("Starting: the broker is not reached yet", "fair"),
        Phase::Subscribing | Phase::Consuming if is_paused => ("Paused by an operator", "fair"),
        Phase::Draining => ("Draining: it finishes what is on the wire, and ends", "fair"),
        Phase::Subscribing | Phase::Consuming if !status.ready.ok => ("Not ready", "bad"),
        Phase::Subscribing | Phase::Consuming if !status.ready.degraded.is_empty() => {
            ("Works, with trouble around it", "fair")
        }
        Phase::Subscribing => ("Subscribing to its shards", "fair"),
        Phase::Consuming => ("Works", "good"),
    };
    (text.to_owned(), mood)
}

fn troubles(status: &Status) -> Vec<String> {
    let draining = status.phase == Phase::Draining;
    let known = |text: &&String| !(draining && *text == "it drains");
    let all = status.live.because.iter().chain(&status.ready.because).chain(&status.ready.degraded);
    all.filter(known).cloned().collect()
}

fn charts(history: &History) -> Vec<Chart> {
    vec![
        Chart::new("Received a second", &history.rates(|it| it.received)),
        Chart::new("Settled a second", &history.rates(|it| it.settled)),
        Chart::new("Conflicts a second", &history.rates(|it| it.conflicts)),
        Chart::new("Failures a second", &history.rates(|it| it.failures)),
        Chart::new("Dead letters a second", &history.rates(|it| it.dead_letters)),
        Chart::new("Attempts under way", &history.values(|it| it.in_flight)),
    ]
}

/// Names and values, one level deep: what has members is shown as JSON.
fn flat(object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => NOTHING.to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), text(value))).collect()
}

/// A time, in the two largest units that matter.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "what a template hands over")]
fn seconds(seconds: &f64) -> String {
    if !seconds.is_finite() || *seconds < 0.0 {
        return NOTHING.to_owned();
    }
    if *seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// The same where there may be none.
#[expect(clippy::ref_option, reason = "what a template hands over")]
fn maybe(time: &Option<f64>) -> String {
    time.as_ref().map_or_else(|| NOTHING.to_owned(), seconds)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what a template hands over")]
fn yes(is_so: &bool) -> &'static str {
    if *is_so { "yes" } else { "no" }
}

#[cfg(test)]
mod tests;
