//! What messages say to the gate of the parked orders, in headers.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Parked;
use crate::properties;

/// The AMQP type of a message that asks for a release.
pub const RELEASE_TYPE: &str = "orderwright.release";

/// On a replayed message: the head of its order. It passes the gate.
pub const UNPARK: &str = "orderwright-unpark";

/// On a replayed message: the dead letter that it was before.
const REPLAY_OF: &str = "orderwright-replay-of";

/// On a replayed message: the dead letter that it was first.
const FIRST_DEAD_LETTER: &str = "orderwright-first-dead-letter";

/// Longest canonical order key, in bytes: it is the routing key.
const ORDER_BYTES_MAX: usize = 255;

const ORDER: &str = "orderwright-order";
const HEAD: &str = "orderwright-release-head";
const LETTERS: &str = "orderwright-release-letters";

/// What an operator knows of an order that he wants to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Canonical order key.
    pub order: Box<str>,
    /// The letter that it stands behind.
    pub head: Uuid,
    /// How many letters of it he has dealt with.
    pub letters: u64,
}

impl Release {
    /// For an order as it is now.
    #[must_use]
    pub fn of(order: &str, parked: &Parked) -> Self {
        Self { order: order.into(), head: parked.head, letters: parked.letters }
    }

    /// Whether the order is as he thinks.
    #[must_use]
    pub fn fits(&self, parked: &Parked) -> bool {
        parked.head == self.head && parked.letters == self.letters
    }

    /// The message that asks for it: empty, to be published as an update of the order is.
    #[must_use]
    pub fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        let mut put = |name: &str, value: &str| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        put(ORDER, &self.order);
        put(HEAD, &self.head.to_string());
        put(LETTERS, &self.letters.to_string());
        BasicProperties::default().with_type(RELEASE_TYPE.into()).with_headers(headers)
    }

    /// What a message asks for. `None` if it asks for no release; an error says what is wrong with one
    /// that does.
    #[must_use]
    pub fn asked(properties: &BasicProperties) -> Option<Result<Self, String>> {
        let kind = properties.kind().as_ref()?;
        (kind.as_str() == RELEASE_TYPE).then(|| Self::read(properties))
    }

    fn read(properties: &BasicProperties) -> Result<Self, String> {
        let need = |name| header(properties, name).ok_or_else(|| format!("no header {name}"));
        let odd = |name, value: &str| format!("header {name} makes no sense: {value:?}");
        let (order, head, letters) = (need(ORDER)?, need(HEAD)?, need(LETTERS)?);
        if order.len() > ORDER_BYTES_MAX {
            return Err(format!("header {ORDER} has {} bytes", order.len()));
        }
        Ok(Self {
            order: order.into(),
            head: Uuid::parse_str(head).map_err(|_error| odd(HEAD, head))?,
            letters: letters.parse().map_err(|_error| odd(LETTERS, letters))?,
        })
    }
}

/// The head behind which this message has a right to pass, if it says so.
#[must_use]
pub fn unparks(properties: &BasicProperties) -> Option<Uuid> {
    header(properties, UNPARK).and_then(|head| Uuid::parse_str(head).ok())
}

/// Whether it is this dead letter once more, however often it has died since.
#[must_use]
pub fn is_replay_of(properties: &BasicProperties, letter: Uuid) -> bool {
    let names = |name| header(properties, name).map(Uuid::parse_str) == Some(Ok(letter));
    names(REPLAY_OF) || names(FIRST_DEAD_LETTER)
}

/// Whether the message was a dead letter before.
#[must_use]
pub fn is_replay(properties: &BasicProperties) -> bool {
    header(properties, REPLAY_OF).is_some()
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    properties::header(properties, name)?.ok()
}
