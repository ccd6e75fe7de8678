//! What goes wrong, and when: by a rate, scripted for the next request that matches, or by name.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::catalogue::{At, Name};
use super::rates::Rates;
use super::switch::{self, Setting, Switches};
use super::throttle::{self, Limits};

/// Longest list of scripted faults, so that a script that loops fails instead of filling the
/// memory.
pub const NEXT_MAX: usize = 10_000;

/// The operations that a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Reading an order.
    Get,
    /// Changing an order.
    Patch,
}

/// One thing that goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The request is carried out, then the connection is cut.
    LostReply {},
    /// The connection is cut before anything happened.
    Cut {},
    /// The request is carried out, and the connection is cut in the middle of the answer's body.
    CutBody {},
    /// Answered with this status.
    Status {
        /// HTTP status.
        status: u16,
        /// The `Retry-After` header, as written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// `innererror.message` of the body: a deadlock, a business error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Whether the request is carried out all the same.
        #[serde(default)]
        applied: bool,
    },
    /// An outside actor changes the order: just before a PATCH, or just after a GET.
    Conflict {},
    /// The request waits this long before it is carried out, even if its client has left by then.
    Stall {
        /// How long.
        #[serde(rename = "for", with = "humantime_serde", default = "stall_default")]
        duration: Duration,
    },
    /// Answered 200 with a login page, and not carried out.
    Html {},
    /// Answered 200 with half a JSON document, and not carried out.
    BadJson {},
    /// A GET is answered without ETag, neither as header nor as annotation.
    NoEtag {},
    /// A GET is answered with the annotation `@odata.etag`, but without the header.
    NoEtagHeader {},
    /// A GET is answered with the header, but without the annotation.
    NoEtagInBody {},
    /// A PATCH is answered 204, but changes nothing.
    Ignore {},
    /// The order is deleted just before the request is carried out.
    Delete {},
    /// Answered 401; every token given out so far is dead.
    RevokeTokens {},
    /// Answered 200 with what is no JSON, and not carried out.
    InvalidJson {},
    /// Answered 200 with 50 MB of JSON, and not carried out.
    HugeJson {},
    /// The answer's body is compressed.
    Gzip {},
    /// After the answer the connection is closed without a word.
    CloseIdle {
        /// How long after.
        #[serde(rename = "for", with = "humantime_serde", default)]
        duration: Duration,
    },
    /// The answer's body comes drop by drop.
    SlowDrip {
        /// From the first drop to the last.
        #[serde(rename = "for", with = "humantime_serde")]
        duration: Duration,
    },
    /// A PATCH is answered 200 with the order.
    BodyForNoContent {},
    /// The answer to a `$batch` lacks its last part.
    MissingParts {},
    /// Every part of the answer to a `$batch` has the Content-ID 1.
    WrongContentId {},
    /// Members of a change set that was rolled back are answered as if written.
    OkInFailedGroup {},
}

/// Longer than any sensible client waits.
const fn stall_default() -> Duration {
    Duration::from_mins(2)
}

/// A fault that waits for its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The operation that it strikes.
    pub on: On,
    /// The only order that it strikes, such as `USMF/SO-000001`; any order if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// Everything that goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Faults {
    /// By rate.
    #[serde(flatten)]
    pub rates: Rates,
    /// Scripted. Each is used up by the first request that it matches, the oldest first.
    pub next: VecDeque<Next>,
    /// By name.
    #[serde(skip)]
    pub switches: Switches,
}

/// A change of the faults. What is absent stays as it is; `next`, `throttle` and the switches of
/// one name, if given, replace what there was. A name that is none of these is refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Update {
    conflict_rate: Option<f64>,
    conflict_as_409: Option<f64>,
    conflict_as_text: Option<f64>,
    error_rate: Option<f64>,
    reset_rate: Option<f64>,
    next: Option<VecDeque<Next>>,
    /// What is too much from now on.
    pub throttle: Option<Limits>,
    #[serde(flatten)]
    switches: BTreeMap<Name, Setting>,
}

/// Why faults are refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A rate is a share.
    #[error("{name} is {value}, which is not between 0 and 1")]
    Share {
        /// The rate.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// See [`NEXT_MAX`].
    #[error("{len} scripted faults, the limit is {NEXT_MAX}")]
    TooMany {
        /// Faults given.
        len: usize,
    },
    /// HTTP knows three digits, and 1xx is no answer.
    #[error("{status} is not an HTTP status that can end a request")]
    Status {
        /// The status given.
        status: u16,
    },
    /// A switch makes no sense.
    #[error(transparent)]
    Switch(#[from] switch::Error),
    /// A limit makes no sense.
    #[error(transparent)]
    Throttle(#[from] throttle::Error),
}

impl Fault {
    /// What an overloaded gateway does: 503 with a page, and nothing carried out.
    pub const fn unavailable() -> Self {
        Self::Status { status: 503, retry_after: None, message: None, applied: false }
    }

    /// Whether it can strike a part of a `$batch`, which has no connection of its own.
    const fn strikes_parts(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::Conflict {}
            | Self::NoEtag {}
            | Self::NoEtagHeader {}
            | Self::NoEtagInBody {}
            | Self::Ignore {}
            | Self::Delete {}
            | Self::BodyForNoContent {} => true,
            Self::LostReply {}
            | Self::Cut {}
            | Self::CutBody {}
            | Self::Stall { .. }
            | Self::Html {}
            | Self::BadJson {}
            | Self::RevokeTokens {}
            | Self::InvalidJson {}
            | Self::HugeJson {}
            | Self::Gzip {}
            | Self::CloseIdle { .. }
            | Self::SlowDrip { .. }
            | Self::MissingParts {}
            | Self::WrongContentId {}
            | Self::OkInFailedGroup {} => false,
        }
    }
}

/// Where a fault may strike.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    /// On what.
    pub at: At,
    /// Whether it is a part of a `$batch`.
    pub is_part: bool,
    /// The order's name; empty if it is none.
    pub order: &'a str,
    /// When.
    pub now: Timestamp,
}

impl Update {
    /// Lets what ends by itself end so many times as early.
    pub(super) fn hasten(&mut self, speed: f64) {
        self.switches.values_mut().for_each(|setting| setting.hasten(speed));
    }
}

impl Faults {
    /// Takes over a change, or nothing of it. The limits are the caller's to take over.
    pub fn update(
        &mut self,
        update: Update,
        has_way_back: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let old = self.rates;
        let rates = Rates {
            conflict_rate: update.conflict_rate.unwrap_or(old.conflict_rate),
            conflict_as_409: update.conflict_as_409.unwrap_or(old.conflict_as_409),
            conflict_as_text: update.conflict_as_text.unwrap_or(old.conflict_as_text),
            error_rate: update.error_rate.unwrap_or(old.error_rate),
            reset_rate: update.reset_rate.unwrap_or(old.reset_rate),
        };
        rates.check()?;
        if let Some(limits) = &update.throttle {
            limits.check()?;
        }
        if let Some(next) = &update.next {
            check_next(next)?;
        }
        self.switches.set(update.switches, has_way_back, now)?;
        if let Some(next) = update.next {
            self.next = next;
        }
        self.rates = rates;
        Ok(())
    }

    /// Ends everything. What has struck stays counted.
    pub fn clear(&mut self) {
        self.rates = Rates::default();
        self.next.clear();
        self.switches.clear();
    }

    /// What goes wrong with this request, if anything. A scripted fault wins over a switch, and a
    /// switch over the dice.
    pub fn choose(&mut self, spot: Spot<'_>, rng: &mut fastrand::Rng) -> Option<Fault> {
        let Spot { at, is_part, order, now } = spot;
        let draw = rng.clone().u64(..);
        let drawn = self.rates.draw(at, is_part, rng);
        let strikes = |next: &Next| {
            let here = matches!((next.on, at), (On::Get, At::Get) | (On::Patch, At::Patch));
            here && (!is_part || next.fault.strikes_parts())
                && next.order.as_ref().is_none_or(|wanted| wanted == order)
        };
        let scripted = self.next.iter().position(strikes).and_then(|at| self.next.remove(at));
        if let Some(next) = scripted {
            return Some(next.fault);
        }
        let strike = self.switches.choose(at, is_part, order, now, draw);
        let mut dice = fastrand::Rng::with_seed(draw);
        strike.map_or(drawn, |strike| strike.name.fault(&strike.switch, now, &mut dice))
    }
}

fn check_next(next: &VecDeque<Next>) -> Result<(), Error> {
    if next.len() > NEXT_MAX {
        return Err(Error::TooMany { len: next.len() });
    }
    for scripted in next {
        if let Fault::Status { status, .. } = scripted.fault
            && !(200..=599).contains(&status)
        {
            return Err(Error::Status { status });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn spot(at: At, order: &str) -> Spot<'_> {
        Spot { at, is_part: false, order, now: NOW }
    }

    fn parse(json: &str) -> serde_json::Result<Next> {
        serde_json::from_str(json)
    }

    #[test]
    fn scripted_faults_are_read_and_written_in_one_form() {
        for json in [
            r#"{"on":"patch","do":"lost_reply"}"#,
            r#"{"on":"get","order":"USMF/SO-000001","do":"no_etag"}"#,
            r#"{"on":"patch","do":"status","status":503,"retry_after":"1","applied":true}"#,
            r#"{"on":"patch","do":"stall","for":"30s"}"#,
        ] {
            assert_eq!(serde_json::to_string(&parse(json).unwrap()).unwrap(), json);
        }
        assert!(parse(r#"{"on":"patch","do":"stall"}"#).is_ok());
    }

    #[test]
    fn misspelled_field_of_a_scripted_fault_is_refused() {
        assert!(parse(r#"{"on":"patch","do":"status","status":503,"retry-after":"1"}"#).is_err());
        assert!(parse(r#"{"on":"patch","do":"cut","order_key":"x"}"#).is_err());
        assert!(parse(r#"{"on":"post","do":"cut"}"#).is_err());
        assert!(parse(r#"{"on":"get","do":"explode"}"#).is_err());
    }

    #[test]
    fn scripted_fault_strikes_once_its_operation_and_its_order() {
        let next = r#"{"next":[{"on":"patch","order":"A/1","do":"cut"},{"on":"get","do":"html"}]}"#;
        let mut faults = Faults::default();
        faults.update(serde_json::from_str(next).unwrap(), false, NOW).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut choose = |at, order| faults.choose(spot(at, order), &mut rng);
        assert_eq!(choose(At::Patch, "A/2"), None);
        assert_eq!(choose(At::Get, "A/2"), Some(Fault::Html {}));
        assert_eq!(choose(At::Patch, "A/1"), Some(Fault::Cut {}));
        assert_eq!(choose(At::Patch, "A/1"), None);
    }

    #[test]
    fn update_keeps_what_it_does_not_name_and_is_all_or_nothing() {
        let mut faults = Faults::default();
        let mut update =
            |json: &str| faults.update(serde_json::from_str(json).unwrap(), false, NOW);
        update(r#"{"conflict_rate":0.5,"next":[{"on":"get","do":"cut"}]}"#).unwrap();
        update(r#"{"error_rate":0.25}"#).unwrap();
        let bad = update(r#"{"error_rate":0.75,"next":[{"on":"get","do":"status","status":99}]}"#);
        assert_eq!(bad, Err(Error::Status { status: 99 }));
        assert!(update(r#"{"conflict_as_409":0.6,"conflict_as_text":0.6}"#).is_err());
        assert!(update(r#"{"reset_rate":1.5}"#).is_err());
        assert_eq!((faults.rates.conflict_rate, faults.rates.error_rate), (0.5, 0.25));
        assert_eq!(faults.next.len(), 1);
    }

    #[test]
    fn rates_strike_as_often_as_they_say() {
        let rates = Rates { error_rate: 0.1, reset_rate: 0.2, ..Rates::default() };
        let mut faults = Faults { rates, ..Faults::default() };
        let mut rng = fastrand::Rng::with_seed(9);
        let drawn: Vec<_> =
            (0..10_000).filter_map(|_| faults.choose(spot(At::Patch, "A/1"), &mut rng)).collect();
        let share =
            |wanted: fn(&Fault) -> bool| drawn.iter().filter(|&fault| wanted(fault)).count();
        assert!((900..1100).contains(&share(|fault| *fault == Fault::Cut {})));
        assert!((900..1100).contains(&share(|fault| *fault == Fault::LostReply {})));
        assert!((700..900).contains(&share(|fault| matches!(fault, Fault::Status { .. }))));
    }
}
