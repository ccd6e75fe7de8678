//! Brings the broker's objects about, or looks whether they are as they should be.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};

use super::connection::said;
use super::{Binding, Destination, Error, Exchange, Kind, Queue};

/// AMQP reply codes (AMQP 0-9-1, section 1.2 of its generated reference).
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const COMMAND_INVALID: u16 = 503;

/// What was found of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There, and as it should be.
    Fine,
    /// Not there.
    Missing,
    /// There, with another type or other arguments. Holds the broker's words.
    Drifted(String),
    /// There, but we may not ask for its shape.
    Unverified(String),
    /// We may not look at it or make it.
    Denied(String),
    /// The broker does not know the exchange type.
    NoPlugin(String),
    /// Several consumers at once may take from it.
    ManyActive,
}

/// What was found of all objects, in the order of the topology.
#[derive(Debug, Default)]
pub struct Report {
    /// Kind of object, name, finding.
    pub findings: Vec<(&'static str, String, Finding)>,
}

impl Report {
    /// Those that stand in the way of a start.
    pub fn faults(&self) -> impl Iterator<Item = &(&'static str, String, Finding)> {
        let fine = |finding: &Finding| matches!(finding, Finding::Fine | Finding::Unverified(_));
        self.findings.iter().filter(move |(_, _, finding)| !fine(finding))
    }
}

/// Whether the broker says that something does not exist.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    said(error).is_some_and(|(code, _)| code == NOT_FOUND)
}

/// Looks, and declares nothing that is missing.
///
/// What exists is declared again with its own arguments, which changes nothing and is the one way in
/// AMQP to have them compared. Bindings cannot be seen over AMQP and are not looked at.
///
/// # Errors
/// [`Error::Ended`] if the connection breaks.
pub(super) async fn check(
    connection: &Connection,
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
) -> Result<Report, Error> {
    let mut look = Look::new(connection).await?;
    for exchange in exchanges {
        let mut finding = look.exchange(&exchange, true).await?;
        if finding == Finding::Fine {
            finding = look.exchange(&exchange, false).await?.of_existing();
        }
        look.report.findings.push(("exchange", exchange.name, finding));
    }
    for queue in queues {
        let mut finding = look.queue(&queue, true).await?;
        if finding == Finding::Fine {
            finding = look.queue(&queue, false).await?.of_existing();
        }
        look.report.findings.push(("queue", queue.name, finding));
    }
    look.close().await
}

/// Declares whatever is missing. Idempotent. Objects that exist with another shape are reported and
/// left alone.
///
/// # Errors
/// [`Error::Ended`] if the connection breaks.
pub(super) async fn make(
    connection: &Connection,
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
) -> Result<Report, Error> {
    let mut look = Look::new(connection).await?;
    for exchange in exchanges {
        let finding = look.exchange(&exchange, false).await?;
        let unknown_type = matches!(finding, Finding::NoPlugin(_));
        look.report.findings.push(("exchange", exchange.name, finding));
        if unknown_type {
            // The broker has closed the connection over it.
            return Ok(look.report);
        }
    }
    for queue in queues {
        let finding = look.queue(&queue, false).await?;
        if finding == Finding::Missing {
            // A declaration makes what is missing: it is there, and not up yet after a restart.
            return Err(Error::NotUp { queue: queue.name });
        }
        look.report.findings.push(("queue", queue.name, finding));
    }
    look.close().await
}

/// Makes bindings, in this order.
///
/// # Errors
/// [`Error::Ended`] if the broker refuses one.
pub(super) async fn bind(connection: &Connection, bindings: &[Binding]) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    for binding in bindings {
        let (to, from) = (binding.destination.as_str(), binding.source.as_str());
        let (key, none) = (binding.routing_key.as_str(), FieldTable::default());
        match binding.leads_to {
            Destination::Queue => {
                let options = QueueBindOptions::default();
                channel.queue_bind(to.into(), from.into(), key.into(), options, none).await?;
            }
            Destination::Exchange => {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to.into(), from.into(), key.into(), options, none).await?;
            }
        }
    }
    Ok(channel.close(200, "done".into()).await?)
}

/// Undoes one binding, if it is there.
///
/// # Errors
/// [`Error::Ended`] if the broker refuses.
pub(super) async fn unbind(connection: &Connection, binding: &Binding) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    let (to, from) = (binding.destination.as_str(), binding.source.as_str());
    let (key, none) = (binding.routing_key.as_str(), FieldTable::default());
    match binding.leads_to {
        Destination::Queue => {
            channel.queue_unbind(to.into(), from.into(), key.into(), none).await?;
        }
        Destination::Exchange => {
            let options = ExchangeUnbindOptions::default();
            channel.exchange_unbind(to.into(), from.into(), key.into(), options, none).await?;
        }
    }
    Ok(channel.close(200, "done".into()).await?)
}

impl Finding {
    /// An object that is known to exist and may not be declared again is just not verified.
    fn of_existing(self) -> Self {
        match self {
            Self::Denied(text) => Self::Unverified(text),
            other @ (Self::Fine
            | Self::Missing
            | Self::Drifted(_)
            | Self::Unverified(_)
            | Self::NoPlugin(_)
            | Self::ManyActive) => other,
        }
    }
}

/// A channel to ask on. Each "no" of the broker closes it, so a new one is opened then.
struct Look<'a> {
    connection: &'a Connection,
    channel: Channel,
    report: Report,
}

impl<'a> Look<'a> {
    async fn new(connection: &'a Connection) -> Result<Self, Error> {
        let channel = connection.create_channel().await?;
        Ok(Self { connection, channel, report: Report::default() })
    }

    async fn close(self) -> Result<Report, Error> {
        self.channel.close(200, "done".into()).await?;
        Ok(self.report)
    }

    async fn exchange(&mut self, exchange: &Exchange, passive: bool) -> Result<Finding, Error> {
        let kind = match exchange.kind {
            Kind::Fanout => ExchangeKind::Fanout,
            Kind::Direct => ExchangeKind::Direct,
            Kind::ConsistentHash => ExchangeKind::Custom("x-consistent-hash".to_owned()),
        };
        let options =
            ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
        let (name, arguments) = (exchange.name.as_str().into(), exchange.arguments.clone());
        let answer = self.channel.exchange_declare(name, kind, options, arguments).await;
        self.finding(answer).await
    }

    async fn queue(&mut self, queue: &Queue, passive: bool) -> Result<Finding, Error> {
        let options =
            QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
        let (name, arguments) = (queue.name.as_str().into(), queue.arguments.clone());
        let answer = self.channel.queue_declare(name, options, arguments).await;
        self.finding(answer.map(|_| ())).await
    }

    async fn finding(&mut self, answer: lapin::Result<()>) -> Result<Finding, Error> {
        let Err(error) = answer else { return Ok(Finding::Fine) };
        let finding = match said(&error) {
            Some((NOT_FOUND, _)) => Finding::Missing,
            Some((PRECONDITION_FAILED, text)) => Finding::Drifted(text),
            Some((ACCESS_REFUSED, text)) => Finding::Denied(text),
            Some((COMMAND_INVALID, text)) => return Ok(Finding::NoPlugin(text)),
            Some(_) | None => return Err(error.into()),
        };
        self.channel = self.connection.create_channel().await?;
        Ok(finding)
    }
}
