//! Which exchanges, queues and bindings there are. Pure: names and arguments, no socket.
//!
//! ```text
//! {p}.updates ─▶ {p}.shards.g1 (x-consistent-hash) ─▶ {p}.shard.g1.000 …  ─▶ {p}.dead-letters
//!      └ unroutable ─▶ {p}.unroutable      {p}.forward ─▶┘      (delivery limit, expiry)
//! ```

mod crs;
mod print;

use lapin::types::{AMQPValue, FieldTable};

use super::Source;
use crate::config;
pub(super) use print::arguments;

/// Generation of the shard queues. A change of their number opens the next one.
const GENERATION: u32 = 1;

/// A limit that no message reaches. RabbitMQ 4 dead-letters at the 20th return unless told
/// otherwise, and what is already a dead letter would be dropped there; `-1` means no limit on 4 but
/// *no return at all* on 3.10, so a number that means the same on all versions is used.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;

/// An exchange type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To everything bound.
    Fanout,
    /// To what is bound with the same routing key.
    Direct,
    /// Spread by a hash of the routing key; the plugin `rabbitmq_consistent_hash_exchange`.
    ConsistentHash,
}

/// An exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A queue. All are durable quorum queues.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// What a binding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A queue.
    Queue,
    /// Another exchange.
    Exchange,
}

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// From this exchange.
    pub source: String,
    /// To this queue or exchange.
    pub destination: String,
    /// Which of the two.
    pub leads_to: Destination,
    /// Empty, the weight on a consistent-hash exchange, or a queue's name on a direct one.
    pub routing_key: String,
}

/// The broker objects of one deployment.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    shards: u16,
    delivery_limit: u32,
    intake: Vec<String>,
}

impl Topology {
    /// The objects that these settings ask for.
    pub fn new(settings: &config::Topology) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            shards: settings.shards,
            delivery_limit: settings.delivery_limit,
            intake: settings.intake.clone(),
        }
    }

    /// What the name of every object begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The exchange by which a worker sends a message on to its order's own shard queue, whose name
    /// is the routing key.
    pub fn forward(&self) -> String {
        format!("{}.forward", self.prefix)
    }

    /// The exchange over which pods tell each other that they are there.
    pub fn peers(&self) -> String {
        format!("{}.peers", self.prefix)
    }

    /// The queue of one shard.
    pub fn shard_queue(&self, shard: u16) -> String {
        format!("{}.shard.g{GENERATION}.{shard:03}", self.prefix)
    }

    /// Whether this is a shard queue of ours, or the exchange before them, of whatever generation.
    pub fn is_of_a_generation(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.starts_with(".shard.g") || rest.starts_with(".shards.g"))
    }

    /// All queues that are consumed from.
    pub fn sources(&self) -> impl Iterator<Item = (Source, String)> + '_ {
        let shards = (0..self.shards).map(|shard| (Source::Shard(shard), self.shard_queue(shard)));
        let intake = (0..).zip(&self.intake);
        shards.chain(intake.map(|(index, queue)| (Source::Intake(index), queue.clone())))
    }

    /// The exchange that publishers publish to. The one name they know.
    pub fn updates(&self) -> String {
        format!("{}.updates", self.prefix)
    }

    /// The exchange, and the queue of the same name, that dead letters go to.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// The exchange and queue that catch what the entry exchange cannot route.
    pub fn unroutable(&self) -> String {
        format!("{}.unroutable", self.prefix)
    }

    /// The exchange that spreads over the shard queues. Not used with a single shard.
    fn spread(&self) -> String {
        format!("{}.shards.g{GENERATION}", self.prefix)
    }

    /// The shard queues, in the order in which they are bound.
    pub fn shard_queues(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.shards).map(|shard| self.shard_queue(shard))
    }

    /// All exchanges, targets before the exchanges that name them.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let plain = |name| Exchange { name, kind: Kind::Fanout, arguments: FieldTable::default() };
        // With both an alternate exchange is needed: an exchange that is bound counts as routed to,
        // though it may have no queue itself.
        let caught = table(&[("alternate-exchange", text(&self.unroutable()))]);
        let mut exchanges =
            vec![plain(self.dead_letters()), plain(self.unroutable()), plain(self.peers())];
        exchanges.push(Exchange { kind: Kind::Direct, ..plain(self.forward()) });
        if self.shards > 1 {
            let (name, arguments) = (self.spread(), caught.clone());
            exchanges.push(Exchange { name, kind: Kind::ConsistentHash, arguments });
        }
        let name = self.updates();
        exchanges.push(Exchange { name, kind: Kind::Fanout, arguments: caught });
        exchanges
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Queue> {
        let keeping = table(&[
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(NO_DELIVERY_LIMIT)),
        ]);
        let limit = i32::try_from(self.delivery_limit).unwrap_or(i32::MAX);
        let shard = table(&[
            ("x-queue-type", text("quorum")),
            // One pod at a time: the broker's half of "one order, one task".
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            // Even a message that kills its worker ends, and ends in sight.
            ("x-delivery-limit", AMQPValue::LongInt(limit)),
            ("x-dead-letter-exchange", text(&self.dead_letters())),
            // At least once needs reject-publish: the broker's condition for not losing any.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]);
        let mut queues = vec![
            Queue { name: self.dead_letters(), arguments: keeping.clone() },
            Queue { name: self.unroutable(), arguments: keeping },
        ];
        let shards = self.shard_queues().map(|name| Queue { name, arguments: shard.clone() });
        queues.extend(shards);
        queues
    }

    /// All bindings, in the order in which they must be made: a consistent-hash ring is an order of
    /// bindings.
    pub fn bindings(&self) -> Vec<Binding> {
        let to_queue = |source: String, destination, routing_key: &str| Binding {
            source,
            destination,
            leads_to: Destination::Queue,
            routing_key: routing_key.to_owned(),
        };
        let mut bindings = vec![
            to_queue(self.dead_letters(), self.dead_letters(), ""),
            to_queue(self.unroutable(), self.unroutable(), ""),
        ];
        let (entry, weight) =
            if self.shards > 1 { (self.spread(), "1") } else { (self.updates(), "") };
        bindings.extend(self.shard_queues().map(|queue| to_queue(entry.clone(), queue, weight)));
        let own = self.shard_queues().map(|queue| to_queue(self.forward(), queue.clone(), &queue));
        bindings.extend(own);
        if self.shards > 1 {
            // Last: nothing flows before everything behind it stands.
            bindings.push(Binding {
                source: self.updates(),
                destination: self.spread(),
                leads_to: Destination::Exchange,
                routing_key: String::new(),
            });
        }
        bindings
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(shards: u16) -> Topology {
        Topology::new(&config::Topology { shards, ..config::Topology::default() })
    }

    #[test]
    fn every_name_that_is_bound_is_declared() {
        for shards in [1, 2, 64] {
            let topology = topology(shards);
            let exchanges: Vec<_> = topology.exchanges().into_iter().map(|it| it.name).collect();
            let queues: Vec<_> = topology.queues().into_iter().map(|it| it.name).collect();
            for binding in topology.bindings() {
                assert!(exchanges.contains(&binding.source), "{binding:?}");
                let targets = match binding.leads_to {
                    Destination::Queue => &queues,
                    Destination::Exchange => &exchanges,
                };
                assert!(targets.contains(&binding.destination), "{binding:?}");
            }
        }
    }

    #[test]
    fn single_shard_needs_no_plugin() {
        let kinds: Vec<_> = topology(1).exchanges().into_iter().map(|it| it.kind).collect();
        assert!(!kinds.contains(&Kind::ConsistentHash), "{kinds:?}");
        let kinds: Vec<_> = topology(2).exchanges().into_iter().map(|it| it.kind).collect();
        assert!(kinds.contains(&Kind::ConsistentHash));
    }
}
