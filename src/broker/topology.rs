//! Which exchanges, queues and bindings there are. Pure: names and arguments, no socket.
//!
//! ```text
//! {p}.updates ─▶ {p}.shards.g1 (x-consistent-hash) ─▶ {p}.shard.g1.000 …  ─▶ {p}.dead-letters
//!      └ unroutable ─▶ {p}.unroutable      {p}.forward ─▶┘      (delivery limit, expiry)
//!                                              ├───────▶ {p}.generations, {p}.journal (streams)
//!                                              └───────▶ {p}.parking (a stream, where dead letters park)
//! ```

mod crs;
mod object;
mod print;
mod retention;

use lapin::types::{AMQPValue, FieldTable};

use super::generation::LAST_ROUND;
use super::{Generation, Generations, Order, Source};
use crate::config;
pub use object::{Binding, Destination, Exchange, Kind, Part, Queue};
pub(super) use print::arguments;
use retention::Retention;

/// A limit that no message reaches. RabbitMQ 4 dead-letters at the 20th return unless told
/// otherwise, and what is already a dead letter would be dropped there; `-1` means no limit on 4 but
/// *no return at all* on 3.10, so a number that means the same on all versions is used.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;

/// The broker objects of one deployment, with one generation of shard queues.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    generation: Generation,
    delivery_limit: u32,
    intake: Vec<(String, Order)>,
    parks: bool,
    journal: Retention,
}

impl Topology {
    /// The objects that these settings ask for where there are none yet.
    pub fn new(settings: &config::Topology) -> Self {
        let ordered = settings.intake.iter().map(|name| (name.clone(), Order::Kept));
        let unordered = settings.intake_unordered.iter().map(|name| (name.clone(), Order::Any));
        Self {
            prefix: settings.prefix.clone(),
            generation: Generation { number: 1, shards: settings.shards },
            delivery_limit: settings.delivery_limit,
            intake: ordered.chain(unordered).collect(),
            parks: false,
            journal: Retention {
                age_max: settings.journal_age_max,
                bytes_max: settings.journal_bytes_max,
            },
        }
    }

    /// The objects that all these settings ask for together.
    pub fn of_all(settings: &config::Settings) -> Self {
        Self { parks: settings.dead_letter.parks(), ..Self::new(&settings.topology) }
    }

    /// The same with this generation of shard queues.
    #[must_use]
    pub fn of(&self, generation: Generation) -> Self {
        Self { generation, ..self.clone() }
    }

    /// What the name of every object begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The generation of the shard queues.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Queues of somebody else's that are consumed from as well.
    pub fn intake(&self) -> impl Iterator<Item = (&str, Order)> {
        self.intake.iter().map(|(name, order)| (name.as_str(), *order))
    }

    /// The stream that tells of all generations.
    pub fn generations(&self) -> String {
        format!("{}.generations", self.prefix)
    }

    /// The stream that tells which orders stand still. There is none unless dead letters park.
    pub fn parking(&self) -> String {
        format!("{}.parking", self.prefix)
    }

    /// The streams that are read from the first record on by everybody, and never shortened.
    pub fn streams(&self) -> Vec<String> {
        let mut streams = vec![self.generations()];
        streams.extend(self.parks.then(|| self.parking()));
        streams
    }

    /// The stream of what operators do with dead letters.
    pub fn journal(&self) -> String {
        format!("{}.journal", self.prefix)
    }

    /// The exclusive queue of whoever changes where the entry leads to.
    pub fn lock(&self) -> String {
        format!("{}.lock", self.prefix)
    }

    /// The queue of dead letters that were discarded: they can be restored from there for a while.
    pub fn archive(&self) -> String {
        format!("{}.archive", self.dead_letters())
    }

    /// The exclusive queue of whoever looks at dead letters: what one operator holds, another cannot see.
    pub fn operator_lock(&self) -> String {
        format!("{}.lock", self.dead_letters())
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
        format!("{}.shard.g{}.{shard:03}", self.prefix, self.generation.number)
    }

    /// Whether this is a shard queue of ours, or the exchange before them, of whatever generation.
    pub fn is_of_a_generation(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.starts_with(".shard.g") || rest.starts_with(".shards.g"))
    }

    /// The routing key of a marker. The last one has a key of its own: by then nothing else may get into
    /// the queue any more.
    pub fn marker_key(&self, shard: u16, round: u8) -> String {
        let queue = self.shard_queue(shard);
        if round >= LAST_ROUND { format!("{queue}.end") } else { queue }
    }

    /// The ways into the shard queues but for the ring: the one for what is sent on, and the one for last
    /// markers.
    pub fn ways_in(&self) -> impl Iterator<Item = (Binding, Binding)> + '_ {
        (0..self.generation.shards).map(|shard| {
            let queue = self.shard_queue(shard);
            let end = self.marker_key(shard, LAST_ROUND);
            (
                to_queue(self.forward(), queue.clone(), &queue),
                to_queue(self.forward(), queue.clone(), &end),
            )
        })
    }

    /// All queues that are consumed from.
    pub fn sources(&self, generations: &Generations) -> Vec<(Source, String)> {
        let live = self.of(generations.live);
        let shard = |number| Source::Shard { number, of: generations.live };
        let mut sources: Vec<_> = (0..generations.live.shards)
            .map(|number| (shard(number), live.shard_queue(number)))
            .collect();
        sources
            .extend(self.intake().map(|(name, order)| (Source::Intake { order }, name.to_owned())));
        if let Some(left) = generations.left {
            let strayed = |number| Source::Left { number, of: left };
            let queue = |number| self.of(left).shard_queue(number);
            sources.extend((0..left.shards).map(|number| (strayed(number), queue(number))));
        }
        sources
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

    /// The exchange that spreads over the shard queues. None is needed for a single shard.
    pub fn spread(&self) -> Option<String> {
        let name = || format!("{}.shards.g{}", self.prefix, self.generation.number);
        (self.generation.shards > 1).then(name)
    }

    /// The shard queues, in the order in which they are bound.
    pub fn shard_queues(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.generation.shards).map(|shard| self.shard_queue(shard))
    }

    /// All exchanges, targets before the exchanges that name them.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let Part { mut exchanges, .. } = self.shared();
        exchanges.extend(self.own().exchanges);
        exchanges
    }

    /// All queues.
    pub fn queues(&self) -> Vec<Queue> {
        let Part { mut queues, .. } = self.shared();
        queues.extend(self.own().queues);
        queues
    }

    /// All bindings, in the order in which they must be made.
    pub fn bindings(&self) -> Vec<Binding> {
        let Part { mut bindings, .. } = self.shared();
        bindings.extend(self.own().bindings);
        // Last: nothing flows before everything behind it stands.
        bindings.extend([self.catch(), self.entry()]);
        bindings
    }

    /// What all generations share, but for the bindings that decide where new messages go.
    pub fn shared(&self) -> Part {
        let plain = |name| Exchange { name, kind: Kind::Fanout, arguments: FieldTable::default() };
        let exchanges = vec![
            plain(self.dead_letters()),
            plain(self.unroutable()),
            plain(self.peers()),
            Exchange { kind: Kind::Direct, ..plain(self.forward()) },
            Exchange { arguments: self.caught(), ..plain(self.updates()) },
        ];
        let keeping = table(&[
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(NO_DELIVERY_LIMIT)),
        ]);
        let mut queues = vec![
            Queue { name: self.dead_letters(), arguments: keeping.clone() },
            Queue { name: self.archive(), arguments: keeping.clone() },
            Queue { name: self.unroutable(), arguments: keeping },
            Queue { name: self.journal(), arguments: self.journal.arguments() },
        ];
        let mut bindings = vec![
            to_queue(self.dead_letters(), self.dead_letters(), ""),
            to_queue(self.forward(), self.journal(), &self.journal()),
        ];
        for name in self.streams() {
            bindings.push(to_queue(self.forward(), name.clone(), &name));
            queues.push(Queue { name, arguments: table(&[("x-queue-type", text("stream"))]) });
        }
        Part { exchanges, queues, bindings }
    }

    /// What this generation has for itself. Its bindings in order: a consistent-hash ring is an order
    /// of bindings.
    pub fn own(&self) -> Part {
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
        let queue = |name| Queue { name, arguments: shard.clone() };
        let queues = self.shard_queues().map(queue).collect();
        let (mut exchanges, mut bindings) = (Vec::new(), Vec::new());
        if let Some(name) = self.spread() {
            bindings.extend(self.shard_queues().map(|queue| to_queue(name.clone(), queue, "1")));
            exchanges.push(Exchange { name, kind: Kind::ConsistentHash, arguments: self.caught() });
        }
        let own = self.shard_queues().map(|queue| to_queue(self.forward(), queue.clone(), &queue));
        bindings.extend(own);
        Part { exchanges, queues, bindings }
    }

    /// What is not routed is caught. The entry and the exchange that spreads both need it: an exchange
    /// that is bound counts as routed to, though it may have no queue itself.
    fn caught(&self) -> FieldTable {
        table(&[("alternate-exchange", text(&self.unroutable()))])
    }

    /// From the entry to this generation.
    pub fn entry(&self) -> Binding {
        self.leading_here(self.updates())
    }

    /// From the exchange that takes what the entry cannot route, to this generation: while the entry
    /// leads nowhere, everything goes this way.
    pub fn detour(&self) -> Binding {
        self.leading_here(self.unroutable())
    }

    /// What the entry cannot route is kept for an operator.
    pub fn catch(&self) -> Binding {
        to_queue(self.unroutable(), self.unroutable(), "")
    }

    fn leading_here(&self, source: String) -> Binding {
        match self.spread() {
            None => to_queue(source, self.shard_queue(0), ""),
            Some(destination) => Binding {
                source,
                destination,
                leads_to: Destination::Exchange,
                routing_key: String::new(),
            },
        }
    }
}

fn to_queue(source: String, destination: String, routing_key: &str) -> Binding {
    Binding {
        source,
        destination,
        leads_to: Destination::Queue,
        routing_key: routing_key.to_owned(),
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
    fn stream_of_the_parked_orders_is_there_where_dead_letters_park_and_nowhere_else() {
        let mut settings = config::Settings::default();
        for (on_dead_letter, streams) in [
            (config::OnDeadLetter::Continue, vec!["orderwright.generations"]),
            (config::OnDeadLetter::Park, vec!["orderwright.generations", "orderwright.parking"]),
        ] {
            settings.dead_letter.on_dead_letter = on_dead_letter;
            let topology = Topology::of_all(&settings);
            assert_eq!(topology.streams(), streams);
            let queues: Vec<_> = topology.queues().into_iter().map(|it| it.name).collect();
            let bound: Vec<_> = topology.bindings().into_iter().map(|it| it.destination).collect();
            let found = |names: &[String]| names.iter().any(|name| *name == topology.parking());
            let parks = settings.dead_letter.parks();
            assert_eq!((found(&queues), found(&bound)), (parks, parks));
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
