//! What goes wrong, and when: by a rate, or scripted for the next request that matches.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reply::Spelling;

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

/// Shares of requests that something goes wrong with, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// PATCHes before which an outside actor changes the order, so that the ETag is stale.
    pub conflict_rate: f64,
    /// Conflicts that are answered 409 instead of 412.
    pub conflict_as_409: f64,
    /// Conflicts that are answered 400 with the update-conflict text instead of 412.
    pub conflict_as_text: f64,
    /// Requests that are answered 503 with a page, and not carried out.
    pub error_rate: f64,
    /// Requests whose connection is cut. Of the PATCHes, half have been applied by then.
    pub reset_rate: f64,
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
    /// A PATCH is answered 204, but changes nothing.
    Ignore {},
    /// The order is deleted just before the request is carried out.
    Delete {},
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
}

/// A change of the faults. What is absent stays as it is; `next`, if given, replaces the list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    conflict_rate: Option<f64>,
    conflict_as_409: Option<f64>,
    conflict_as_text: Option<f64>,
    error_rate: Option<f64>,
    reset_rate: Option<f64>,
    next: Option<VecDeque<Next>>,
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
}

impl Fault {
    /// What an overloaded gateway does: 503 with a page, and nothing carried out.
    pub const fn unavailable() -> Self {
        Self::Status { status: 503, retry_after: None, message: None, applied: false }
    }
}

impl Rates {
    /// Refuses what is no share. The two spellings of a conflict share one whole.
    pub fn check(&self) -> Result<(), Error> {
        let spelled = self.conflict_as_409 + self.conflict_as_text;
        for (name, value) in [
            ("conflict_rate", self.conflict_rate),
            ("conflict_as_409", self.conflict_as_409),
            ("conflict_as_text", self.conflict_as_text),
            ("conflict_as_409 plus conflict_as_text", spelled),
            ("error_rate", self.error_rate),
            ("reset_rate", self.reset_rate),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Share { name, value });
            }
        }
        Ok(())
    }

    /// How a conflict is said this time.
    pub fn spelling(&self, rng: &mut fastrand::Rng) -> Spelling {
        let drawn = rng.f64();
        if drawn < self.conflict_as_409 {
            Spelling::Conflict
        } else if drawn < self.conflict_as_409 + self.conflict_as_text {
            Spelling::Text
        } else {
            Spelling::PreconditionFailed
        }
    }

    /// One draw per rate, whatever the others say, so that raising one rate moves no other.
    fn draw(&self, on: On, rng: &mut fastrand::Rng) -> Option<Fault> {
        let (reset, error, conflict) = (rng.f64(), rng.f64(), rng.f64());
        let applied = rng.bool();
        match on {
            On::Patch if reset < self.reset_rate && applied => Some(Fault::LostReply {}),
            On::Get | On::Patch if reset < self.reset_rate => Some(Fault::Cut {}),
            On::Get | On::Patch if error < self.error_rate => Some(Fault::unavailable()),
            On::Patch if conflict < self.conflict_rate => Some(Fault::Conflict {}),
            On::Get | On::Patch => None,
        }
    }
}

impl Faults {
    /// Takes over a change, or nothing of it.
    pub fn update(&mut self, update: Update) -> Result<(), Error> {
        let now = self.rates;
        let rates = Rates {
            conflict_rate: update.conflict_rate.unwrap_or(now.conflict_rate),
            conflict_as_409: update.conflict_as_409.unwrap_or(now.conflict_as_409),
            conflict_as_text: update.conflict_as_text.unwrap_or(now.conflict_as_text),
            error_rate: update.error_rate.unwrap_or(now.error_rate),
            reset_rate: update.reset_rate.unwrap_or(now.reset_rate),
        };
        rates.check()?;
        if let Some(next) = update.next {
            check_next(&next)?;
            self.next = next;
        }
        self.rates = rates;
        Ok(())
    }

    /// What goes wrong with this request, if anything. A scripted fault wins over the dice.
    pub fn choose(&mut self, on: On, order: &str, rng: &mut fastrand::Rng) -> Option<Fault> {
        let drawn = self.rates.draw(on, rng);
        let strikes =
            |next: &Next| next.on == on && next.order.as_ref().is_none_or(|wanted| wanted == order);
        let scripted = self.next.iter().position(strikes).and_then(|at| self.next.remove(at));
        scripted.map_or(drawn, |next| Some(next.fault))
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
        faults.update(serde_json::from_str(next).unwrap()).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut choose = |on, order| faults.choose(on, order, &mut rng);
        assert_eq!(choose(On::Patch, "A/2"), None);
        assert_eq!(choose(On::Get, "A/2"), Some(Fault::Html {}));
        assert_eq!(choose(On::Patch, "A/1"), Some(Fault::Cut {}));
        assert_eq!(choose(On::Patch, "A/1"), None);
    }

    #[test]
    fn update_keeps_what_it_does_not_name_and_is_all_or_nothing() {
        let mut faults = Faults::default();
        let mut update = |json: &str| faults.update(serde_json::from_str(json).unwrap());
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
        let mut faults = Faults { rates, next: VecDeque::new() };
        let mut rng = fastrand::Rng::with_seed(9);
        let drawn: Vec<_> =
            (0..10_000).filter_map(|_| faults.choose(On::Patch, "A/1", &mut rng)).collect();
        let share =
            |wanted: fn(&Fault) -> bool| drawn.iter().filter(|&fault| wanted(fault)).count();
        assert!((900..1100).contains(&share(|fault| *fault == Fault::Cut {})));
        assert!((900..1100).contains(&share(|fault| *fault == Fault::LostReply {})));
        assert!((700..900).contains(&share(|fault| matches!(fault, Fault::Status { .. }))));
    }
}
