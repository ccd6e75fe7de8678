//! Acks that count, also where the channel ends right behind them.
//!
//! The broker writes an ack down before it counts, and a channel of it has no more than 32 such commands under
//! way to one quorum queue. What comes then it keeps to itself, and it forgets that when the channel is closed: the
//! messages were acked, and return all the same (seen on 4.0.5, where the disk was slow: of 500 letters 83). No
//! answer of AMQP belongs to an ack. So a few are sent at a time, and behind them a question that the broker
//! answers only once it has written them down.

use lapin::Channel;
use lapin::options::BasicGetOptions;

use super::super::{Error, answered};

/// Acks that may be under way: half of what the channel passes on at once.
const UNDER_WAY_MAX: u32 = 16;

/// Acks of one channel to one queue.
#[derive(Debug, Default)]
pub(super) struct Acks {
    under_way: u32,
}

impl Acks {
    /// One was sent. Now and then, all by now are waited for.
    pub(super) async fn one_more(&mut self, channel: &Channel, queue: &str) -> Result<(), Error> {
        self.under_way += 1;
        if self.under_way < UNDER_WAY_MAX {
            return Ok(());
        }
        self.done(channel, queue).await
    }

    /// Waits until all that were sent are written down.
    pub(super) async fn done(&mut self, channel: &Channel, queue: &str) -> Result<(), Error> {
        if self.under_way == 0 {
            return Ok(());
        }
        // A quorum queue does it in the order of its log, behind the acks. It brings nothing where a consumer
        // takes what is ready; what it brings otherwise returns with all else.
        let asking = channel.basic_get(queue.into(), BasicGetOptions::default());
        let _returns_at_the_end = answered(asking).await?;
        self.under_way = 0;
        Ok(())
    }
}
