//! A queue that gives a message up once it was returned too often: RabbitMQ 4 does, after 20 times, unless it is told
//! otherwise. Every look at a queue returns all of it, so looks are numbered there.

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;

use super::super::{Error, answered};
use super::held::Held;

/// Returns that are left to others, at most: a consumer that fails needs some as well.
const LEFT_MAX: u64 = 5;

/// How many returns a queue allows a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wear {
    limit: u64,
}

/// What may be done with a message.
#[derive(Debug)]
pub(super) enum Worn {
    /// It may be returned.
    Fine,
    /// It may be returned, and not for much longer: this look ends.
    Nearly(Error),
    /// It may not.
    Out(Error),
}

impl Wear {
    /// Of a queue with this limit.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit }
    }

    pub(super) fn judge(self, held: &Held) -> Worn {
        self.after(held.returns)
    }

    fn after(self, returns: u64) -> Worn {
        let left = (self.limit / 4).clamp(1, LEFT_MAX);
        let error = Error::WornOut { returns, limit: self.limit };
        if returns >= self.limit {
            Worn::Out(error)
        } else if returns.saturating_add(left) >= self.limit {
            Worn::Nearly(error)
        } else {
            Worn::Fine
        }
    }
}

/// Puts a message into its queue anew, at the end, and takes the old one away: returned, it would be gone.
pub(super) async fn renew(asks: &Channel, queue: &str, held: Held) -> Result<(), Error> {
    let mut headers = FieldTable::default();
    for (name, value) in held.properties.headers().iter().flat_map(FieldTable::inner) {
        if !["x-delivery-count", "x-acquired-count"].contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let properties = held.properties.clone().with_headers(headers);
    answered(asks.confirm_select(ConfirmSelectOptions::default())).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sending = asks.basic_publish("".into(), queue.into(), options, &held.body, properties);
    let confirm = answered(answered(sending).await?).await?;
    if !confirm.is_ack() || confirm.take_message().is_some() {
        return Err(Error::Nacked);
    }
    answered(held.receipt.acker.ack(BasicAckOptions::default())).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(limit: u64, returns: u64) -> u8 {
        match Wear::new(limit).after(returns) {
            Worn::Fine => 0,
            Worn::Nearly(_) => 1,
            Worn::Out(_) => 2,
        }
    }

    #[test]
    fn looks_end_while_a_message_may_still_be_returned_a_few_times() {
        let of = |limit| (0..=limit + 1).map(|returns| judged(limit, returns)).collect::<Vec<_>>();
        assert_eq!(of(20), [[0; 15].as_slice(), &[1; 5], &[2; 2]].concat());
        assert_eq!(of(3), [0, 0, 1, 2, 2]);
        assert_eq!(of(1), [1, 2, 2]);
        assert_eq!(of(0), [2, 2]);
    }
}
