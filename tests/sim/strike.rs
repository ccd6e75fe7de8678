//! Faults of the network, the broker and the target, as they strike.

use std::time::Duration;

use serde_json::json;

use crate::fault::{Fault, SERVICE};
use crate::plan::key;
use crate::stage::{Stage, Way};

impl Stage {
    pub(crate) fn strike(&mut self, fault: Fault) {
        let faults = |stage: &mut Self, what: serde_json::Value| {
            let update = serde_json::from_value(what).expect("faults that the target knows");
            let wall = stage.wall();
            stage.world.set_faults(update, wall).expect("rates between 0 and 1");
        };
        match fault {
            Fault::CutBroker(pod, [to, from], wait) => {
                let ways = [to.then_some(Way::ToBroker), from.then_some(Way::FromBroker)];
                self.cut_for(pod, ways, wait);
            }
            Fault::CutTarget(pod, [to, from], wait) => {
                let ways = [to.then_some(Way::ToTarget), from.then_some(Way::FromTarget)];
                self.cut_for(pod, ways, wait);
            }
            Fault::Reset(pod, false) => self.drop_all(Some(pod)),
            Fault::Reset(pod, true) => self.drop_one(pod),
            Fault::Refuse(of_ten, wait) => {
                self.refused_of_ten = of_ten;
                self.after(wait, |stage| stage.refused_of_ten = 0);
            }
            Fault::FailOver(wait) => self.fail_over(wait),
            Fault::Slow(by, wait) => {
                self.visits.weather.slower = by;
                self.after(wait, |stage| stage.visits.weather.slower = Duration::ZERO);
            }
            Fault::LoseReplies(of_ten, wait) => {
                self.visits.weather.lost_of_ten = of_ten;
                self.after(wait, |stage| stage.visits.weather.lost_of_ten = 0);
            }
            Fault::Double(of_ten, wait) => {
                self.visits.weather.doubled_of_ten = of_ten;
                self.after(wait, |stage| stage.visits.weather.doubled_of_ten = 0);
            }
            Fault::Outage(wait) => {
                faults(self, json!({"error_rate": 1.0}));
                self.down_since = self.down_since.or(Some(self.now()));
                self.after(wait, move |stage| {
                    stage.down_since = None;
                    faults(stage, json!({"error_rate": 0.0}));
                });
            }
            Fault::Throttle(wait) => {
                let too_many = json!({"throttle": {"requests": 1, "window": "2s"}});
                self.throttle(Some(too_many));
                self.after(wait, |stage| stage.throttle(None));
            }
            Fault::Conflicts(of_ten, wait) => {
                faults(self, json!({"conflict_rate": f64::from(of_ten) / 10.0}));
                self.after(wait, move |stage| faults(stage, json!({"conflict_rate": 0.0})));
            }
            Fault::Service(which, order, wait) => {
                let (name, on) = SERVICE[which];
                let lasts = format!("{}ms", wait.as_millis());
                let mut switch = json!({"on": on, "lasts": lasts});
                if let Some(order) = order {
                    switch["order"] = key(order).into();
                }
                let mut what = serde_json::Map::new();
                what.insert(name.to_owned(), switch);
                faults(self, what.into());
            }
            Fault::Clock(pod, seconds) => {
                if let Some(around) = self.around.get_mut(pod) {
                    around.skew = jiff::SignedDuration::from_secs(seconds);
                }
            }
            Fault::Kill(..) | Fault::Term(..) | Fault::Stop(..) => {}
        }
    }

    fn throttle(&mut self, what: Option<serde_json::Value>) {
        let what = what.unwrap_or_else(|| json!({"throttle": {}}));
        let update = serde_json::from_value(what).expect("limits that the target knows");
        let wall = self.wall();
        self.world.set_faults(update, wall).expect("limits that make sense");
    }

    fn cut_for(&mut self, pod: usize, ways: [Option<Way>; 2], wait: Duration) {
        for way in ways.into_iter().flatten() {
            self.cut(pod, way, true);
            self.after(wait, move |stage| stage.cut(pod, way, false));
        }
    }
}
