//! The AMQP edge: everything that knows RabbitMQ.
//!
//! ```text
//! session = one connection ── shard 0: one channel = one lease ──▶ deliveries ──▶ intake
//!                          ├─ shard 1: …
//!                          └─ …
//! publisher = a connection of its own, for dead letters
//! ```
//!
//! Two connections, because a broker under a memory or disk alarm stops reading from connections
//! that publish: acks must not stand behind a blocked dead letter. The library's own recovery is
//! off: it hides the loss of a channel, and a mailbox must know of it.

mod answer;
mod balance;
mod balancer;
mod browse;
mod clean;
mod connection;
mod declare;
mod delivery;
mod depth;
pub mod doctor;
mod forward;
mod generation;
mod history;
pub mod journal;
mod lease;
mod management;
mod marker;
mod notices;
mod outbox;
mod parking;
mod peers;
mod prepare;
mod publisher;
mod pulse;
mod reshard;
mod restore;
mod session;
mod shard;
mod single_active;
mod slot;
mod standing;
mod stream;
mod topology;
mod unsettled;
mod watchdog;
pub mod wire;

pub use answer::answered;
pub use browse::{Ahead, Browser, Held, Taker, Ticket, Wear};
pub use connection::{Link, close, connect};
pub use declare::{Finding, Report};
pub use delivery::{Begun, Delivery, Receipt, SettleError};
pub use depth::{Depth, depth};
pub use forward::{Forwarder, Home, origin};
pub use generation::{Generation, Generations};
pub use management::{Management, Subscriber};
pub use notices::{Notice, Notices};
pub use parking::Parking;
pub use prepare::{declare, generations, inspect};
pub use publisher::{Bulk, Outgoing, Publisher, Sent};
pub use reshard::{Patience, Progress, SHARDS_MAX, Step, Wanted, reshard, steps};
pub use session::{Consumer, Intake, Stops};
pub use slot::{Order, Source};
pub use standing::{Consumed, Standing};
pub use topology::{Binding, Destination, Exchange, Kind, Part, Queue, Topology};

/// What can go wrong between us and the broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that the AMQP library understands.
    #[error("broker.url is not an AMQP URL: {0}")]
    Url(String),
    /// The HTTP client for the management API could not be made, such as for want of certificates.
    #[error("the client of the management API cannot be set up")]
    Management(#[source] reqwest::Error),
    /// Nobody answered, or not in AMQP. Time may heal it.
    #[error("the broker at {address} cannot be reached")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker accepted the connection and said nothing.
    #[error("the broker at {address} did not answer within {seconds} s")]
    Silent {
        /// Host and port.
        address: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The broker knows us not, or not there. Time will not heal it.
    #[error("the broker at {address} refuses user {user:?} on virtual host {vhost:?}: {text}")]
    Refused {
        /// Host and port.
        address: String,
        /// User name.
        user: String,
        /// Virtual host.
        vhost: String,
        /// The broker's words.
        text: String,
    },
    /// A channel or connection ended.
    #[error("the broker ended the conversation")]
    Ended(#[from] lapin::Error),
    /// A message was returned so often that its queue will give it up.
    #[error(
        "a message of this queue was delivered and returned {returns} times, and the queue gives it up after \
         {limit}: nothing more is looked at. Raise its delivery-limit by a policy, or take all of them (--all), \
         which returns none"
    )]
    WornOut {
        /// How often.
        returns: u64,
        /// How often it may be.
        limit: u64,
    },
    /// The broker returned a message that no queue took.
    #[error("no queue is bound where exchange {exchange:?} routes key {routing_key:?}")]
    Returned {
        /// Published to.
        exchange: String,
        /// Published with.
        routing_key: String,
    },
    /// The broker did not take responsibility for a message.
    #[error("the broker refused the message: a queue is full")]
    Nacked,
    /// A queue is there, and the broker has not brought it up yet.
    #[error("queue {queue} is there, and not up yet")]
    NotUp {
        /// Its name.
        queue: String,
    },
    /// Somebody else changes where the entry leads to.
    #[error("somebody else is at it: another reshard, or a pod that starts")]
    Locked,
    /// Another reshard comes first.
    #[error(
        "a reshard to {shards} shards is not finished: run `orderwright topology reshard --shards \
         {shards}`, which goes on where it stopped"
    )]
    Unfinished {
        /// To how many.
        shards: u16,
    },
    /// A pod could not open a channel for each.
    #[error(
        "{live} shards now and {next} then are more than the {most} that a pod can hold at once, by its \
         channels and by broker.prefetch times order.body_bytes_max: go by way of a smaller number"
    )]
    TooManyShards {
        /// Of now.
        live: u16,
        /// Asked for.
        next: u16,
        /// Of both together.
        most: u16,
    },
    /// Another operator holds the dead letters.
    #[error("another operator is at work on the dead letters: what they hold cannot be seen")]
    OperatorAtWork,
    /// There is no such queue, or no more.
    #[error("there is no queue {queue}, or it went away")]
    NoQueue {
        /// Its name.
        queue: String,
    },
    /// Messages are there and do not come.
    #[error("the broker holds messages in {queue} and has handed out none for {seconds} s")]
    NotHandedOut {
        /// Its name.
        queue: String,
        /// How long we waited.
        seconds: u64,
    },
    /// An object is not as it should be.
    #[error("{what} {name} is in the way: {found}")]
    InTheWay {
        /// Kind of object.
        what: &'static str,
        /// Its name.
        name: String,
        /// What was found.
        found: String,
    },
    /// The first records are gone.
    #[error("the beginning of stream {stream} is gone: what it told is not known")]
    Incomplete {
        /// Its name.
        stream: String,
    },
    /// A record was confirmed and does not come back.
    #[error("a record that was written to stream {stream} is not read back")]
    Unread {
        /// Its name.
        stream: String,
    },
    /// The message is not ours any more; nothing was sent.
    #[error("the message comes again by itself")]
    Withdrawn,
    /// The broker takes no messages at present, and ours comes again by itself.
    #[error("the broker has raised an alarm and takes no messages")]
    Alarm,
    /// No answer came in time: what was asked for may or may not be done.
    #[error("the broker did not answer within {seconds} s")]
    Unanswered {
        /// How long we waited.
        seconds: u64,
    },
    /// No confirm came in time: the message may or may not be there.
    #[error("the broker did not confirm within {seconds} s")]
    Unconfirmed {
        /// How long we waited.
        seconds: u64,
    },
}

impl Error {
    /// Of a publication: whether the message may get where it was to go, now or later.
    #[must_use]
    pub(crate) const fn leaves_doubt(&self) -> bool {
        !matches!(self, Self::Withdrawn | Self::Nacked | Self::Returned { .. })
    }

    /// Whether trying again can help.
    #[must_use]
    pub const fn may_heal(&self) -> bool {
        match self {
            Self::Url(_)
            | Self::Management(_)
            | Self::Refused { .. }
            | Self::Unfinished { .. }
            | Self::TooManyShards { .. }
            | Self::NoQueue { .. }
            | Self::WornOut { .. }
            | Self::InTheWay { .. } => false,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Ended(_)
            | Self::Returned { .. }
            | Self::Withdrawn
            | Self::Locked
            | Self::NotUp { .. }
            | Self::OperatorAtWork
            | Self::NotHandedOut { .. }
            | Self::Incomplete { .. }
            | Self::Unread { .. }
            | Self::Alarm
            | Self::Nacked
            | Self::Unanswered { .. }
            | Self::Unconfirmed { .. } => true,
        }
    }
}
