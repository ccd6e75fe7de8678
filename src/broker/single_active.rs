//! Whether a queue of somebody else's has a single active consumer, as far as AMQP tells.
//!
//! The one way in AMQP to have a queue's arguments compared is to declare it. What is asked for here has a
//! type that no broker knows: a queue that is not there is not made by it. Of one that is there the broker
//! names the first argument that differs, in an order of its own, in which the type comes behind the single
//! active consumer. What differs before is asked for as well, as the broker says that it is.

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::connection::said;
use super::{Error, Finding, Order, Topology};

/// No broker's.
const NO_TYPE: &str = "orderwright-asks";

/// Arguments of a queue that come before the one in question. The broker knows fewer.
const BEFORE_MAX: usize = 16;

/// AMQP reply codes.
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;

/// What is found of each queue that is taken from in order. One that is not there is not named.
///
/// # Errors
/// [`Error::Ended`] if the connection breaks.
pub(super) async fn look(
    connection: &Connection,
    topology: &Topology,
) -> Result<Vec<(&'static str, String, Finding)>, Error> {
    let mut findings = Vec::new();
    for (name, _) in topology.intake().filter(|(_, order)| *order == Order::Kept) {
        if let Some(finding) = ask(connection, name).await? {
            findings.push(("queue", name.to_owned(), finding));
        }
    }
    Ok(findings)
}

async fn ask(connection: &Connection, name: &str) -> Result<Option<Finding>, Error> {
    let mut options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut asked = FieldTable::default();
    asked.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    asked.insert("x-queue-type".into(), AMQPValue::LongString(NO_TYPE.into()));
    let mut last = String::new();
    for _ in 0..BEFORE_MAX {
        // Each "no" of the broker closes its channel.
        let channel = connection.create_channel().await?;
        let Err(error) = channel.queue_declare(name.into(), options, asked.clone()).await else {
            return Ok(Some(Finding::Unverified("it has a type of our own making".to_owned())));
        };
        let text = match said(&error) {
            Some((PRECONDITION_FAILED, text)) => text,
            Some((ACCESS_REFUSED, text)) => return Ok(Some(Finding::Unverified(text))),
            Some(_) | None => return Err(error.into()),
        };
        match Difference::of(&text) {
            // Of a queue that is not there the broker says that the type makes no sense.
            None => return Ok(None),
            Some(Difference { argument: "x-single-active-consumer", .. }) => {
                return Ok(Some(Finding::ManyActive));
            }
            Some(Difference { argument: "x-queue-type", .. }) => return Ok(Some(Finding::Fine)),
            Some(Difference { argument: "durable", .. }) if options.durable => {
                options.durable = false;
            }
            Some(Difference { argument, current: Some(current) })
                if !asked.contains_key(argument) =>
            {
                asked.insert(argument.into(), current);
            }
            Some(_) => return Ok(Some(Finding::Unverified(text))),
        }
        last = text;
    }
    Ok(Some(Finding::Unverified(last)))
}

/// An argument that is not as it was asked for.
#[derive(Debug, PartialEq)]
struct Difference<'a> {
    argument: &'a str,
    /// As it is. `None` where the broker does not say it in a way that we know.
    current: Option<AMQPValue>,
}

impl<'a> Difference<'a> {
    /// Reads the broker's words, such as `inequivalent arg 'x-max-length' for queue 'q' in vhost '/':
    /// received none but current is the value '9' of type 'long'`.
    fn of(text: &'a str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let value = || {
            let (_, rest) = rest.rsplit_once("current is the value '")?;
            let (value, kind) = rest.rsplit_once("' of type '")?;
            match kind.trim_end_matches('\'') {
                "longstr" => Some(AMQPValue::LongString(value.into())),
                "bool" => value.parse().ok().map(AMQPValue::Boolean),
                // Whole numbers of any size; the broker compares their values.
                _ => value.parse().ok().map(AMQPValue::LongLongInt),
            }
        };
        Some(Self { argument, current: value() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_what_is_there_are_read_from_the_brokers_words() {
        let text = |rest: &str| format!("PRECONDITION_FAILED - inequivalent arg {rest}");
        let value = |kind: &str, of: &str| {
            let words = "for queue 'q' in vhost '/': received none but current is the value";
            text(&format!("'x-a' {words} '{of}' of type '{kind}'"))
        };
        for (words, argument, current) in [
            (value("longstr", "it's"), "x-a", Some(AMQPValue::LongString("it's".into()))),
            (value("long", "9"), "x-a", Some(AMQPValue::LongLongInt(9))),
            (value("signedint", "-1"), "x-a", Some(AMQPValue::LongLongInt(-1))),
            (value("bool", "true"), "x-a", Some(AMQPValue::Boolean(true))),
            (value("table", "[]"), "x-a", None),
            (
                text(
                    "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                ),
                "durable",
                None,
            ),
        ] {
            assert_eq!(Difference::of(&words), Some(Difference { argument, current }), "{words}");
        }
        assert_eq!(Difference::of("PRECONDITION_FAILED - invalid arg 'x-queue-type'"), None);
    }
}
