//! AMQP properties of a message that is published once more: as a dead letter, or to another queue.

use lapin::BasicProperties;
use lapin::types::ShortString;

/// Header of a forwarded message: the exchange that it was published to before anything was forwarded.
pub const FORWARDED_EXCHANGE: &str = "orderwright-forwarded-exchange";

/// Header of a forwarded message: the routing key that it was published with then.
pub const FORWARDED_ROUTING_KEY: &str = "orderwright-forwarded-routing-key";

/// The properties that mean the same in a second life.
///
/// Left behind: the headers, of which the caller
/// knows more; the expiration, which would delete a dead letter and was meant for another queue; the
/// user id, which the broker checks against *our* user; the delivery mode, which the publisher sets;
/// the priority, by which a quorum queue would hand it out before what came earlier.
#[must_use]
pub fn republished(original: &BasicProperties) -> BasicProperties {
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, With); 8] = [
        (original.content_type(), BasicProperties::with_content_type),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
        (original.cluster_id(), BasicProperties::with_cluster_id),
    ];
    let mut kept = BasicProperties::default();
    for (value, with) in texts {
        if let Some(value) = value {
            kept = with(kept, value.clone());
        }
    }
    if let Some(timestamp) = original.timestamp() {
        kept = kept.with_timestamp(*timestamp);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_keeps_what_it_says_and_loses_what_the_broker_acts_on() {
        let original = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_timestamp(7)
            .with_priority(9)
            .with_expiration("1000".into())
            .with_user_id("somebody".into())
            .with_delivery_mode(1);
        let kept = BasicProperties::default().with_message_id("m-1".into()).with_timestamp(7);
        assert_eq!(republished(&original), kept);
    }
}
