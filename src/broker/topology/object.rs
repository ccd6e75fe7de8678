//! Exchanges, queues and bindings, as values.

use lapin::types::FieldTable;

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

/// A queue. All are durable quorum queues, but for the stream of the generations.
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

/// Some of the objects.
#[derive(Debug, Clone)]
pub struct Part {
    /// Exchanges.
    pub exchanges: Vec<Exchange>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Bindings, in the order in which they must be made.
    pub bindings: Vec<Binding>,
}
