//! What arrives at the broker, and what it hands out.

use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::mpsc;

use crate::book::State;
use crate::broker::Id;
use crate::network::Channel;
use crate::stage::{DEAD_LETTERS, Message, Stage};

/// After so long in an outage, no letter tells of what was before: all retries take less.
const OUTAGE_KNOWN: Duration = Duration::from_secs(30);

/// What the broker says of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Confirmed,
    Returned,
    Refused,
}

impl Stage {
    /// A pod publishes.
    pub(crate) fn publish_for_pod(&mut self, message: Message) -> Said {
        if self.rng.u8(..10) < self.refused_of_ten {
            return Said::Refused;
        }
        if self.publish(message) { Said::Confirmed } else { Said::Returned }
    }

    pub(crate) fn open(
        &mut self,
        (tcp, channel): Id,
        arrivals: mpsc::UnboundedSender<Result<Delivery, lapin::Error>>,
    ) {
        if let Some(it) = self.tcps.get_mut(&tcp) {
            it.channels.insert(channel, Channel { arrivals, is_open: true });
        }
    }

    /// Whether the pod takes this channel for open.
    pub(crate) fn is_open(&self, (tcp, channel): Id) -> bool {
        self.tcps.get(&tcp).is_some_and(|it| {
            it.by_pod && it.channels.get(&channel).is_some_and(|channel| channel.is_open)
        })
    }

    pub(crate) fn shut(&mut self, (tcp, channel): Id) {
        let it = self.tcps.get_mut(&tcp).and_then(|it| it.channels.get_mut(&channel));
        if let Some(channel) = it {
            channel.is_open = false;
        }
    }

    pub(crate) fn hear_hints(&mut self, tcp: u64, hints: mpsc::UnboundedSender<Vec<u8>>) {
        if let Some(it) = self.tcps.get_mut(&tcp) {
            it.hears_hints = Some(hints);
        }
    }

    pub(crate) fn hint(&mut self, body: &[u8]) {
        for tcp in self.tcps_of(None) {
            let body = body.to_vec();
            if self.tcps.get(&tcp).is_some_and(|it| it.hears_hints.is_some()) {
                self.down(tcp, move |stage| {
                    let it = stage.tcps.get(&tcp).and_then(|it| it.hears_hints.as_ref());
                    if let Some(hints) = it {
                        drop(hints.send(body));
                    }
                });
            }
        }
    }

    /// A channel is gone.
    pub(crate) fn leaves(&mut self, id: Id) {
        let Some(queue) = self.broker.queue_of(id).map(str::to_owned) else { return };
        self.let_clerk_go(id);
        self.trace.note("leaves", [id.0, id.1, self.broker.unacked(id) as u64]);
        self.book.left(id);
        for dead in self.broker.leave(id) {
            // At-least-once dead-lettering by the broker.
            self.book.letter(dead.update, "delivery_limit");
            self.book.settled(dead.update, self.begun.elapsed());
            self.broker.publish(DEAD_LETTERS, dead);
        }
        self.hand_out(&queue);
    }

    /// A pod acks. Where the broker has given its channel up, the ack arrives nowhere.
    pub(crate) fn ack(&mut self, id: Id, tag: u64, multiple: bool) {
        if self.broker.queue_of(id).is_none() {
            self.book.saw(State::VoidAck);
        }
        self.up(id.0, move |stage| stage.acked(id, tag, multiple));
    }

    pub(crate) fn hand_out(&mut self, queue: &str) {
        if !self.is_up {
            return;
        }
        for handed in self.broker.hand_out(queue) {
            let (tcp, channel) = handed.to;
            let update = handed.message.body.update;
            let what = update.map_or(u64::MAX, |update| update as u64);
            self.trace.note("hands", [tcp, handed.tag, what]);
            let pod = self.tcps.get(&tcp).map(|it| it.pod).unwrap_or_default();
            self.book.served(queue, pod);
            self.book.handed(handed.to, handed.tag, update, self.begun.elapsed());
            self.down(tcp, move |stage| {
                let it = stage.tcps.get(&tcp).and_then(|it| it.channels.get(&channel));
                if let Some(channel) = it {
                    let delivery = crate::wire::delivery(handed.tag, handed.message);
                    drop(channel.arrivals.send(Ok(delivery)));
                }
            });
        }
    }

    /// Takes a message. False if it is returned.
    pub(crate) fn publish(&mut self, message: Message) -> bool {
        let queue = message.queue.clone();
        let now = self.begun.elapsed();
        let (update, is_letter) = (message.update, queue == DEAD_LETTERS);
        if is_letter {
            let reason = crate::wire::reason(&message);
            self.book.letter(update, reason);
            let is_down = self.down_since.is_some_and(|since| now > since + OUTAGE_KNOWN);
            if is_down && reason == "gateway" && !self.plan.delays_letters() {
                self.book.complain(now, "an update was dead-lettered in an outage");
            }
        } else {
            self.book.stored(update);
        }
        self.trace.note("takes", [u64::from(is_letter), update.map_or(0, |it| it as u64), 0]);
        let is_taken = self.broker.publish(&queue, message);
        if !is_taken {
            self.book.complain(now, "a message was published to a queue that is not there");
        }
        self.hand_out(&queue);
        is_taken
    }

    /// The publishers', in order, as soon as the broker takes them.
    pub(crate) fn publish_waiting(&mut self) {
        while self.is_up
            && let Some(message) = self.publishing.pop_front()
        {
            self.publish(message);
        }
    }

    /// The node that all are connected to is gone, and another one answers after a while. What was
    /// confirmed is kept; what was on the way, in either direction, is lost.
    pub(crate) fn fail_over(&mut self, wait: Duration) {
        self.is_up = false;
        for tcp in self.tcps_of(None) {
            let pod = self.tcps.get(&tcp).map(|it| it.pod).unwrap_or_default();
            if self.is_deaf(pod) {
                self.drop_all(Some(pod));
            } else if self.rng.bool()
                && let Some(it) = self.tcps.get_mut(&tcp)
            {
                // Nothing that was sent arrives, and the reset does.
                it.by_broker = false;
                it.by_pod = false;
                for channel in std::mem::take(&mut it.channels).into_values() {
                    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    drop(channel.arrivals.send(Err(reset.into())));
                }
                it.hears_hints = None;
                for id in self.broker.ids(tcp) {
                    self.leaves(id);
                }
            } else {
                self.forget(tcp);
            }
        }
        self.after(wait, |stage| {
            stage.is_up = true;
            let queues: Vec<String> = stage.broker.names().map(str::to_owned).collect();
            for queue in &queues {
                stage.hand_out(queue);
            }
            stage.publish_waiting();
        });
    }
}
