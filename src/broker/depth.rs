//! How full one queue is, for those who ask.

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::Error;
use super::declare::is_missing;

/// A queue in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that nobody has been handed.
    pub messages: u32,
    /// Subscriptions.
    pub consumers: u32,
}

/// Looks at a queue; `None` if there is none. Not bounded in time: the library waits without end for an
/// answer that the loss of the connection overtook.
///
/// # Errors
/// Any of the broker's.
pub async fn depth(connection: &Connection, queue: &str) -> Result<Option<Depth>, Error> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Ok(found) => {
            let depth =
                Depth { messages: found.message_count(), consumers: found.consumer_count() };
            channel.close(200, "done".into()).await?;
            Ok(Some(depth))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
