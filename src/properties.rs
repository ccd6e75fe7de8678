//! AMQP properties of a message that is published once more: as a dead letter, or to another queue.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};

/// Header of a forwarded message: the exchange that it was published to before anything was forwarded.
pub const FORWARDED_EXCHANGE: &str = "orderwright-forwarded-exchange";

/// Header of a forwarded message: the routing key that it was published with then.
pub const FORWARDED_ROUTING_KEY: &str = "orderwright-forwarded-routing-key";

/// A header as text, of either kind. An error where it is there and is no text.
#[must_use]
pub fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<Result<&'a str, NoText>> {
    let value = properties.headers().as_ref()?.inner().get(name)?;
    Some(text(value).ok_or(NoText))
}

/// It is there, and says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoText;

fn text(value: &AMQPValue) -> Option<&str> {
    let long = value.as_long_string().and_then(|text| std::str::from_utf8(text.as_bytes()).ok());
    long.or_else(|| value.as_short_string().map(ShortString::as_str))
}

/// The properties that mean the same in a second life.
///
/// Left behind: the headers, of which the caller
/// knows more; the expiration, which would delete a dead letter and was meant for another queue; the
/// user id, which the broker checks against *our* user; the delivery mode, which the publisher sets;
/// the priority, by which a quorum queue would hand it out before what came earlier.
#[must_use]
pub fn republished(original: &BasicProperties) -> BasicProperties {
    let reply = (original.reply_to().clone(), original.correlation_id().clone());
    republished_for(original, reply)
}

/// The same, with another place for the answer, and what it is known by there.
#[must_use]
pub fn republished_for(
    original: &BasicProperties,
    (reply_to, correlation_id): (Option<ShortString>, Option<ShortString>),
) -> BasicProperties {
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, With); 8] = [
        (original.content_type(), BasicProperties::with_content_type),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (&correlation_id, BasicProperties::with_correlation_id),
        (&reply_to, BasicProperties::with_reply_to),
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
    fn header_is_read_as_text_of_either_kind_and_nothing_else() {
        let mut headers = lapin::types::FieldTable::default();
        for (name, value) in [
            ("long", AMQPValue::LongString("a".into())),
            ("short", AMQPValue::ShortString("b".into())),
            ("number", AMQPValue::LongInt(7)),
            ("bytes", AMQPValue::LongString(vec![0xff].into())),
        ] {
            headers.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_headers(headers);
        let read = |name| header(&properties, name);
        assert_eq!((read("long"), read("short")), (Some(Ok("a")), Some(Ok("b"))));
        assert_eq!((read("number"), read("bytes")), (Some(Err(NoText)), Some(Err(NoText))));
        assert_eq!((read("none"), header(&BasicProperties::default(), "long")), (None, None));
    }

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
