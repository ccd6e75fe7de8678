//! Switches a named fault on: for a share of the requests, for the next few, for one order, for a
//! time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::catalogue::{At, Name};

/// Most switches that are on, since each request asks all of them.
pub const SWITCHES_MAX: usize = 1_000;

/// How often a named fault strikes, and what. Without `rate` it strikes whatever matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// Share of the matching requests, from 0 to 1.
    pub rate: f64,
    /// Off after so many strikes; no end if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The only place where it strikes; wherever the fault can if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<At>,
    /// The only order that it strikes, such as `USMF/SO-000001`; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Off after this time; no end if absent.
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub lasts: Option<Duration>,
    /// A time that belongs to the fault: how long to stall, how long to drip.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub how_long: Option<Duration>,
    /// The status, where the fault leaves a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Retry-After` header, where the fault leaves a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// The text of the answer, where the fault leaves a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the request is carried out, where the fault leaves a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
    /// When `lasts` is over.
    #[serde(skip)]
    until: Option<Timestamp>,
}

/// What may be given for a fault: a rate, one switch, or several for different orders. A rate of 0
/// and an empty list switch it off.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "Json")]
pub struct Setting(pub Vec<Switch>);

/// Why a switch is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A rate is a share.
    #[error("{name}: the rate is {rate}, which is not between 0 and 1")]
    Rate {
        /// The fault.
        name: &'static str,
        /// What was given.
        rate: f64,
    },
    /// A lost reply to a GET is nothing, for example.
    #[error("{name} cannot strike there")]
    Place {
        /// The fault.
        name: &'static str,
    },
    /// HTTP knows three digits, and 1xx is no answer.
    #[error("{name}: {status} is not an HTTP status that can end a request")]
    Status {
        /// The fault.
        name: &'static str,
        /// The status given.
        status: u16,
    },
    /// See [`SWITCHES_MAX`].
    #[error("more than {SWITCHES_MAX} switches")]
    TooMany,
    /// Nobody could open it again.
    #[error("f18_refuse_connections needs 'lasts', unless /sim/ has a port of its own")]
    NoWayBack,
}

/// A named fault that strikes a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Strike {
    /// Which.
    pub name: Name,
    /// With what is set for it.
    pub switch: Switch,
}

/// Whether connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// They are.
    Open,
    /// They are refused until this moment; until it is opened if absent.
    Shut(Option<Timestamp>),
}

/// All switches that are on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Switches {
    on: Vec<(Name, Switch)>,
    struck: BTreeMap<Name, u64>,
}

impl Door {
    /// Whether connections are refused.
    pub const fn is_shut(self) -> bool {
        matches!(self, Self::Shut(_))
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            rate: 1.0,
            next: None,
            on: None,
            order: None,
            lasts: None,
            how_long: None,
            status: None,
            retry_after: None,
            message: None,
            applied: None,
            until: None,
        }
    }
}

impl TryFrom<Json> for Setting {
    type Error = serde_json::Error;

    fn try_from(json: Json) -> Result<Self, serde_json::Error> {
        match json {
            Json::Array(list) => {
                let each = list.into_iter().map(serde_json::from_value);
                each.collect::<Result<_, _>>().map(Self)
            }
            Json::Number(_) => {
                let rate = serde_json::from_value(json)?;
                Ok(Self(vec![Switch { rate, ..Switch::default() }]))
            }
            Json::Null | Json::Bool(_) | Json::String(_) | Json::Object(_) => {
                serde_json::from_value(json).map(|switch| Self(vec![switch]))
            }
        }
    }
}

impl Setting {
    /// Lets what ends by itself end so many times as early.
    pub(super) fn hasten(&mut self, speed: f64) {
        for lasts in self.0.iter_mut().filter_map(|switch| switch.lasts.as_mut()) {
            *lasts = lasts.div_f64(speed);
        }
    }
}

impl Switch {
    fn check(&self, fault: Name) -> Result<(), Error> {
        let name = fault.as_str();
        if !(0.0..=1.0).contains(&self.rate) {
            return Err(Error::Rate { name, rate: self.rate });
        }
        if self.on.is_some_and(|at| !fault.places().contains(&at)) {
            return Err(Error::Place { name });
        }
        match self.status {
            Some(status) if !(200..=599).contains(&status) => Err(Error::Status { name, status }),
            Some(_) | None => Ok(()),
        }
    }

    fn matches(&self, at: At, order: &str) -> bool {
        self.on.is_none_or(|only| only == at)
            && self.order.as_ref().is_none_or(|only| only == order)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn is_off(&self) -> bool {
        self.rate == 0.0 || self.next == Some(0)
    }
}

impl Switches {
    /// Takes over what is given for each fault, or nothing of it. Faults that are not given stay.
    pub fn set(
        &mut self,
        settings: BTreeMap<Name, Setting>,
        has_way_back: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut on = self.on.clone();
        for (name, Setting(switches)) in settings {
            on.retain(|(known, _)| *known != name);
            for mut switch in switches {
                switch.check(name)?;
                if switch.is_off() {
                    continue;
                }
                if name == Name::F18RefuseConnections && switch.lasts.is_none() && !has_way_back {
                    return Err(Error::NoWayBack);
                }
                let ends = |lasts| now.checked_add(lasts).unwrap_or(Timestamp::MAX);
                switch.until = switch.lasts.map(ends);
                on.push((name, switch));
            }
        }
        if on.len() > SWITCHES_MAX {
            return Err(Error::TooMany);
        }
        self.on = on;
        Ok(())
    }

    /// Switches everything off. What has struck stays counted.
    pub fn clear(&mut self) {
        self.on.clear();
    }

    /// The fault that strikes this request, if any. Each switch has a draw of its own, made from
    /// `draw`, so that one more switch moves none of the others.
    pub fn choose(
        &mut self,
        at: At,
        is_part: bool,
        order: &str,
        now: Timestamp,
        draw: u64,
    ) -> Option<Strike> {
        if self.on.is_empty() {
            return None;
        }
        self.on.retain(|(_, switch)| !switch.is_over(now));
        let found = self.on.iter().position(|(name, switch)| {
            let here = name.places().contains(&at) && (!is_part || name.strikes_parts());
            here && switch.matches(at, order) && hits(switch.rate, *name, draw)
        })?;
        let (name, switch) = self.on.get_mut(found)?;
        if let Some(next) = &mut switch.next {
            *next = next.saturating_sub(1);
        }
        let strike = Strike { name: *name, switch: switch.clone() };
        if switch.is_off() {
            self.on.remove(found);
        }
        *self.struck.entry(strike.name).or_default() += 1;
        Some(strike)
    }

    /// Whether the port takes connections.
    pub fn door(&self, now: Timestamp) -> Door {
        let refusing = self
            .on
            .iter()
            .find(|(name, switch)| *name == Name::F18RefuseConnections && !switch.is_over(now));
        refusing.map_or(Door::Open, |(_, switch)| Door::Shut(switch.until))
    }

    /// What is on, by name.
    pub fn view(&self) -> BTreeMap<Name, Vec<&Switch>> {
        let mut view: BTreeMap<Name, Vec<&Switch>> = BTreeMap::new();
        for (name, switch) in &self.on {
            view.entry(*name).or_default().push(switch);
        }
        view
    }

    /// How often each fault has struck.
    pub const fn struck(&self) -> &BTreeMap<Name, u64> {
        &self.struck
    }
}

/// Dice of their own for each fault: the multiplier keeps their seeds far apart, and the first draw
/// of neighbouring seeds is alike.
fn hits(rate: f64, name: Name, draw: u64) -> bool {
    if rate >= 1.0 {
        return true;
    }
    let apart = (name as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut dice = fastrand::Rng::with_seed(draw ^ apart);
    dice.u64(..);
    dice.f64() < rate
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn later(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    fn set(switches: &mut Switches, settings: Json) -> Result<(), Error> {
        switches.set(serde_json::from_value(settings).unwrap(), false, START)
    }

    fn switches(settings: Json) -> Switches {
        let mut switches = Switches::default();
        set(&mut switches, settings).unwrap();
        switches
    }

    fn strikes(switches: &mut Switches, at: At, order: &str) -> Option<Name> {
        switches.choose(at, false, order, START, 7).map(|strike| strike.name)
    }

    #[test]
    fn switch_strikes_the_next_few_of_its_place_and_order() {
        let mut it = switches(json!({
            "f2_cut": {"next": 2, "on": "get"},
            "f13_business_error": [{"order": "A/1"}, {"order": "A/2", "next": 1}],
        }));
        assert_eq!(strikes(&mut it, At::Get, "A/9"), Some(Name::F2Cut));
        assert_eq!(strikes(&mut it, At::Patch, "A/9"), None);
        assert_eq!(strikes(&mut it, At::Patch, "A/2"), Some(Name::F13BusinessError));
        assert_eq!(strikes(&mut it, At::Patch, "A/2"), None);
        assert_eq!(strikes(&mut it, At::Get, "A/1"), Some(Name::F2Cut));
        for _ in 0..10 {
            assert_eq!(strikes(&mut it, At::Get, "A/1"), Some(Name::F13BusinessError));
        }
        assert_eq!(it.struck()[&Name::F2Cut], 2);
        assert_eq!(it.view().len(), 1);
    }

    #[test]
    fn switch_ends_with_its_time_and_with_a_rate_of_0() {
        let mut it = switches(json!({"f18_maintenance": {"lasts": "2m"}, "f9_redirect": 1}));
        let mut at = |now| it.choose(At::Get, false, "", now, 1).map(|strike| strike.name);
        assert_eq!(at(later(119)), Some(Name::F9Redirect));
        set(&mut it, json!({"f9_redirect": 0})).unwrap();
        let mut at = |now| it.choose(At::Get, false, "", now, 1).map(|strike| strike.name);
        assert_eq!(at(later(119)), Some(Name::F18Maintenance));
        assert_eq!(at(later(120)), None);
    }

    #[test]
    fn rates_strike_as_often_as_they_say_and_apart_from_each_other() {
        let both = json!({"f2_cut": 0.2, "f9_redirect": 0.1});
        let (mut one, mut two) = (switches(json!({"f2_cut": 0.2})), switches(both));
        let (mut cuts, mut redirects) = (0, 0);
        for draw in 0..10_000 {
            let choose = |it: &mut Switches| it.choose(At::Get, false, "", START, draw);
            let alone = choose(&mut one).map(|strike| strike.name);
            let among = choose(&mut two).map(|strike| strike.name);
            cuts += u32::from(alone.is_some());
            redirects += u32::from(among == Some(Name::F9Redirect));
            assert_eq!(alone.is_some(), among == Some(Name::F2Cut));
        }
        assert!((1_850..2_150).contains(&cuts), "{cuts}");
        assert!((700..900).contains(&redirects), "{redirects}");
    }

    #[test]
    fn what_a_connection_does_cannot_strike_a_part_of_a_batch() {
        let mut it = switches(json!({"f2_cut": 1, "f14_ignored_write": 1}));
        let part = it.choose(At::Patch, true, "", START, 1).unwrap();
        assert_eq!(part.name, Name::F14IgnoredWrite);
    }

    #[test]
    fn senseless_switches_are_refused_and_change_nothing() {
        let mut it = switches(json!({"f2_cut": 1}));
        for bad in [
            json!({"f2_cut": 0, "f9_redirect": 1.5}),
            json!({"f2_cut": 0, "f9_redirect": {"on": "token"}}),
            json!({"f2_cut": 0, "f9_redirect": {"status": 99}}),
            json!({"f2_cut": 0, "f18_refuse_connections": 1}),
        ] {
            assert!(set(&mut it, bad).is_err());
            assert_eq!(strikes(&mut it, At::Get, ""), Some(Name::F2Cut));
        }
        let parse = |json: Json| serde_json::from_value::<BTreeMap<Name, Setting>>(json);
        assert!(parse(json!({"f25_nonsense": 1})).is_err());
        assert!(parse(json!({"f2_cut": {"nxt": 1}})).is_err());
        assert!(parse(json!({"f2_cut": true})).is_err());
    }
}
