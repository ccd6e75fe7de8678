//! How a simulated pod publishes.

use std::sync::Arc;
use std::time::Duration;

use orderwright::broker::wire::{Publish, Wire as _};
use orderwright::broker::{Error, Outgoing};
use tokio::time::timeout;

use crate::desk::Said;
use crate::stage::{DEAD_LETTERS, Message};
use crate::wire::{Call, Phone};

/// Publishes dead letters, and what is forwarded.
#[derive(Debug)]
pub(crate) struct Press {
    phone: Phone,
    call: tokio::sync::Mutex<Option<Call>>,
    confirm_max: Duration,
}

impl Press {
    pub(crate) fn new(phone: Phone, confirm_max: Duration) -> Self {
        Self { phone, call: tokio::sync::Mutex::new(None), confirm_max }
    }

    async fn call(&self) -> Result<Call, Error> {
        let mut kept = self.call.lock().await;
        if let Some(call) = kept.as_ref().filter(|call| call.is_up()) {
            return Ok(call.clone());
        }
        let call = self.phone.connect().await?;
        *kept = Some(call.clone());
        Ok(call)
    }
}

impl Publish for Press {
    type Lane<'a> = ();

    async fn lane(&self) -> Option<()> {
        Some(())
    }

    async fn publish(
        &self,
        _lane: Self::Lane<'_>,
        message: &Outgoing,
        still: impl Fn() -> bool + Send,
        _withdrawn: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let call = self.call().await?;
        if !still() {
            return Err(Error::Withdrawn);
        }
        let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.to_string());
        let id = message.properties.message_id().as_ref().map(ToString::to_string);
        let message = Message {
            update: id.and_then(|id| id.parse().ok()),
            queue: match exchange.as_str() {
                DEAD_LETTERS => DEAD_LETTERS.to_owned(),
                _forwarded => routing_key.clone(),
            },
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            properties: message.properties.clone(),
            body: Arc::new(message.body.clone()),
        };
        // Confirmed when it is in the queue; one that no queue takes is returned, and confirmed as well.
        let asked = call.ask(move |stage| stage.publish_for_pod(message));
        match timeout(self.confirm_max, asked).await {
            Ok(Ok(Said::Confirmed)) => Ok(()),
            Ok(Ok(Said::Returned)) => Err(Error::Returned { exchange, routing_key }),
            Ok(Ok(Said::Refused)) => Err(Error::Nacked),
            Ok(Err(error)) => Err(Error::Ended(error)),
            Err(_elapsed) => Err(Error::Unconfirmed { seconds: self.confirm_max.as_secs() }),
        }
    }

    fn task<F: Future + Send>(&self, task: F) -> impl Future<Output = F::Output> + Send + use<F> {
        self.phone.gate.task(task)
    }
}
