//! The network between the pods and the broker: connections, and how each side learns that one is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::Id;
use crate::stage::{Event, Stage, Way};

/// After so much silence the broker gives a connection up: 2.8 heartbeats (measured: 27.6 to 28.1 s with
/// a heartbeat of 10 s, on 3.10, 4.0 and 4.3).
pub(crate) fn silence_max(heartbeat: Duration) -> Duration {
    heartbeat.mul_f64(2.8)
}

/// A way on which nothing overtakes: one direction of a TCP connection.
struct Pipe {
    free: Instant,
    /// What waits for a cut to heal.
    held: Vec<Event>,
}

pub(crate) struct Channel {
    pub(crate) arrivals: mpsc::UnboundedSender<Result<Delivery, lapin::Error>>,
    pub(crate) is_open: bool,
}

pub(crate) struct Tcp {
    pub(crate) pod: usize,
    up: Pipe,
    down: Pipe,
    /// Whether each side takes it for alive.
    pub(crate) by_pod: bool,
    pub(crate) by_broker: bool,
    pub(crate) channels: BTreeMap<u64, Channel>,
    pub(crate) hears_hints: Option<mpsc::UnboundedSender<Vec<u8>>>,
}

impl Stage {
    pub(crate) fn connect(&mut self, pod: usize) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let pipe = || Pipe { free: Instant::now(), held: Vec::new() };
        let (up, down, channels) = (pipe(), pipe(), BTreeMap::new());
        let tcp = Tcp { pod, up, down, by_pod: true, by_broker: true, channels, hears_hints: None };
        self.tcps.insert(number, tcp);
        number
    }

    /// The pod sends something, and this happens when the broker has it.
    pub(crate) fn up(&mut self, tcp: u64, event: impl FnOnce(&mut Self) + Send + 'static) {
        let wait = self.on_the_way();
        let Some(it) = self.tcps.get_mut(&tcp) else { return };
        let event: Event = Box::new(move |stage| {
            if stage.is_up && stage.tcps.get(&tcp).is_some_and(|it| it.by_broker) {
                event(stage);
            }
        });
        if self.around.get(it.pod).is_some_and(|it| it.cut[Way::ToBroker as usize] > 0) {
            return it.up.held.push(event);
        }
        it.up.free = it.up.free.max(Instant::now() + wait);
        let at = it.up.free;
        self.at(at, event);
    }

    /// The broker sends something, and this happens when the pod has it.
    pub(crate) fn down(&mut self, tcp: u64, event: impl FnOnce(&mut Self) + Send + 'static) {
        let wait = self.on_the_way();
        let Some(it) = self.tcps.get_mut(&tcp) else { return };
        let event: Event = Box::new(move |stage| {
            if stage.tcps.get(&tcp).is_some_and(|it| it.by_pod) {
                event(stage);
            }
        });
        if self.around.get(it.pod).is_some_and(|it| it.cut[Way::FromBroker as usize] > 0) {
            return it.down.held.push(event);
        }
        it.down.free = it.down.free.max(Instant::now() + wait);
        let at = it.down.free;
        self.at(at, event);
    }

    /// The pod's side is gone: closed, or its process is.
    pub(crate) fn hang_up(&mut self, tcp: u64) {
        let Some(it) = self.tcps.get_mut(&tcp) else { return };
        if !std::mem::replace(&mut it.by_pod, false) {
            return;
        }
        it.channels.clear();
        it.hears_hints = None;
        self.up(tcp, move |stage| stage.forget(tcp));
        // Where the goodbye does not get through, silence tells.
        let wait = silence_max(self.plan.settings().broker.heartbeat);
        self.after(wait, move |stage| stage.forget(tcp));
    }

    /// The broker drops the connections of a pod, or of all. A pod that cannot hear of it works on for up to
    /// two heartbeats, and one that stands still may send once more when it goes on: then the ETag alone
    /// guards the order (README, "Not promised").
    pub(crate) fn drop_all(&mut self, pod: Option<usize>) {
        let mut pods = pod.map_or(0..self.around.len(), |pod| pod..pod + 1);
        if pods.any(|pod| self.is_deaf(pod)) {
            self.book.etag_alone();
        }
        for tcp in self.tcps_of(pod) {
            self.forget(tcp);
        }
    }

    pub(crate) fn is_deaf(&self, pod: usize) -> bool {
        let stands = self.around.get(pod).is_some_and(|around| around.stands);
        stands || self.is_cut(pod, Way::FromBroker)
    }

    /// The broker's side is gone: what the connection held goes back. The pod learns of it, if it can.
    pub(crate) fn forget(&mut self, tcp: u64) {
        let Some(it) = self.tcps.get_mut(&tcp) else { return };
        if !std::mem::replace(&mut it.by_broker, false) {
            return;
        }
        self.trace.note("forgets", [tcp, 0, 0]);
        for id in self.ids(tcp) {
            self.leaves(id);
        }
        self.down(tcp, move |stage| {
            let Some(it) = stage.tcps.get_mut(&tcp) else { return };
            it.by_pod = false;
            for channel in std::mem::take(&mut it.channels).into_values() {
                let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                drop(channel.arrivals.send(Err(reset.into())));
            }
            it.hears_hints = None;
        });
    }

    /// The broker drops one of a pod's connections.
    pub(crate) fn drop_one(&mut self, pod: usize) {
        let tcps: Vec<u64> = self.tcps_of(Some(pod));
        let live = tcps.iter().filter(|tcp| self.tcps.get(tcp).is_some_and(|it| it.by_broker));
        let live: Vec<u64> = live.copied().collect();
        let Some(tcp) = self.rng.choice(&live).copied() else { return };
        if self.is_deaf(pod) {
            self.book.etag_alone();
        }
        self.forget(tcp);
    }

    fn ids(&self, tcp: u64) -> Vec<Id> {
        let channels = self.tcps.get(&tcp).map(|it| it.channels.keys().copied().collect());
        let known: Vec<u64> = channels.unwrap_or_default();
        let mut ids: Vec<Id> = known.into_iter().map(|channel| (tcp, channel)).collect();
        // Those that the pod has forgotten, and the broker has not.
        ids.extend(self.broker.ids(tcp));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// All connections of a pod, or of all.
    pub(crate) fn tcps_of(&self, pod: Option<usize>) -> Vec<u64> {
        let is_it = |it: &Tcp| pod.is_none_or(|pod| it.pod == pod);
        self.tcps.iter().filter(|(_, it)| is_it(it)).map(|(number, _)| *number).collect()
    }

    /// Cuts a way, or heals it.
    pub(crate) fn cut(&mut self, pod: usize, way: Way, is_cut: bool) {
        let Some(around) = self.around.get_mut(pod) else { return };
        around.disturbed = Some(Instant::now());
        let count = &mut around.cut[way as usize];
        *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            match way {
                Way::ToBroker | Way::FromBroker => self.release(pod, way),
                Way::ToTarget | Way::FromTarget => self.release_requests(pod, way),
            }
        }
        self.silence(pod);
    }

    fn release(&mut self, pod: usize, way: Way) {
        for tcp in self.tcps_of(Some(pod)) {
            let Some(it) = self.tcps.get_mut(&tcp) else { continue };
            let pipe = if way == Way::ToBroker { &mut it.up } else { &mut it.down };
            let held = std::mem::take(&mut pipe.held);
            for event in held {
                let wait = self.on_the_way();
                let Some(it) = self.tcps.get_mut(&tcp) else { continue };
                let pipe = if way == Way::ToBroker { &mut it.up } else { &mut it.down };
                pipe.free = pipe.free.max(Instant::now() + wait);
                let at = pipe.free;
                self.at(at, event);
            }
        }
    }

    /// The pod stands still, or goes on.
    pub(crate) fn stand(&mut self, pod: usize, stands: bool) {
        if let Some(around) = self.around.get_mut(pod) {
            around.stands = stands;
            around.disturbed = Some(Instant::now());
        }
        self.silence(pod);
    }

    /// Looks whether the broker hears a pod, and gives it up in time if not.
    fn silence(&mut self, pod: usize) {
        let Some(around) = self.around.get_mut(pod) else { return };
        let is_silent = around.stands || around.cut[Way::ToBroker as usize] > 0;
        if !is_silent {
            around.silent = None;
        } else if around.silent.is_none() {
            let since = Instant::now();
            around.silent = Some(since);
            let wait = silence_max(self.plan.settings().broker.heartbeat);
            self.after(wait, move |stage| {
                if stage.around.get(pod).is_some_and(|around| around.silent == Some(since)) {
                    for tcp in stage.tcps_of(Some(pod)) {
                        stage.forget(tcp);
                    }
                    // And whatever is connected later, meanwhile.
                    if let Some(around) = stage.around.get_mut(pod) {
                        around.silent = None;
                    }
                    stage.silence(pod);
                }
            });
        }
    }
}
