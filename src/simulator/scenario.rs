//! What goes wrong when: a script for a whole run.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::faults::Update;

/// Longest script, so that one that was generated wrongly is refused.
const STEPS_MAX: usize = 10_000;

/// A script. Its steps are carried out in the order of their times.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How much faster than written it runs: with 60 a minute takes a second.
    #[serde(default = "one")]
    speed: f64,
    #[serde(default, rename = "step")]
    steps: Vec<Step>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, after the start.
    #[serde(with = "humantime_serde")]
    at: Duration,
    /// Whether all that goes wrong ends first.
    #[serde(default)]
    clear: bool,
    /// As in PUT /sim/faults.
    #[serde(default)]
    set: Map<String, Json>,
    /// As in PUT /sim/tokens.
    #[serde(default)]
    tokens: Option<Map<String, Json>>,
    /// Whether every token given out so far is dead from now on.
    #[serde(default)]
    revoke_tokens: bool,
}

/// What a step changes.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// Whether all that goes wrong ends first.
    pub(super) clear: bool,
    pub(super) faults: Update,
    pub(super) tokens: Option<Map<String, Json>>,
    pub(super) revoke_tokens: bool,
}

/// Why a script is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no TOML, or says what nobody understands.
    #[error("the scenario: {0}")]
    Toml(#[from] toml::de::Error),
    /// A step sets what does not exist.
    #[error("the scenario, step {number}: {error}")]
    Step {
        /// Its place, from 1.
        number: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A speed is more than 0.
    #[error("the scenario: the speed must be more than 0")]
    Speed,
    /// See [`STEPS_MAX`].
    #[error("the scenario: more than {STEPS_MAX} steps")]
    TooLong,
}

impl Default for Scenario {
    fn default() -> Self {
        Self { speed: one(), steps: Vec::new() }
    }
}

const fn one() -> f64 {
    1.0
}

impl Scenario {
    /// Reads a script, and refuses one of which a step could not be carried out.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.hasten(1.0)?;
        if scenario.steps.len() > STEPS_MAX {
            return Err(Error::TooLong);
        }
        for (index, step) in scenario.steps.iter().enumerate() {
            step.update().map_err(|error| Error::Step { number: index + 1, error })?;
        }
        scenario.steps.sort_by_key(|step| step.at);
        Ok(scenario)
    }

    /// Lets it run so many times as fast.
    pub fn hasten(&mut self, speed: f64) -> Result<(), Error> {
        let speed = self.speed * speed;
        if !(speed > 0.0 && speed.is_finite()) {
            return Err(Error::Speed);
        }
        self.speed = speed;
        Ok(())
    }

    /// What is to be done, and when after the start, by our own clock.
    pub(super) fn acts(&self) -> Vec<(Duration, Act)> {
        let acts = self.steps.iter().filter_map(|step| {
            let mut faults = step.update().ok()?;
            faults.hasten(self.speed);
            let (clear, revoke_tokens) = (step.clear, step.revoke_tokens);
            let act = Act { clear, faults, tokens: step.tokens.clone(), revoke_tokens };
            Some((step.at.div_f64(self.speed), act))
        });
        acts.collect()
    }
}

impl Step {
    fn update(&self) -> serde_json::Result<Update> {
        serde_json::from_value(Json::Object(self.set.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_the_order_of_their_times_and_faster_if_wanted() {
        let text = r#"
            speed = 60
            [[step]]
            at = "2m"
            clear = true
            [[step]]
            at = "90s"
            set = { f18_maintenance = { lasts = "30s" }, conflict_rate = 0.1 }
        "#;
        let acts = Scenario::parse(text).unwrap().acts();
        let seen: Vec<_> = acts.iter().map(|(at, act)| (at.as_millis(), act.clear)).collect();
        assert_eq!(seen, [(1_500, false), (2_000, true)]);
    }

    #[test]
    fn what_nobody_understands_is_refused_before_the_run() {
        for bad in [
            "speed = 0",
            "[[step]]\nat = \"1s\"\nset = { f99_nonsense = 1 }",
            "[[step]]\nat = \"soon\"",
            "[[step]]\nat = \"1s\"\nsets = {}",
        ] {
            assert!(Scenario::parse(bad).is_err(), "{bad}");
        }
        assert!(Scenario::parse("").unwrap().acts().is_empty());
    }
}
