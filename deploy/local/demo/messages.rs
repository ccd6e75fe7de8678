//! What the demo publishes: good updates of many orders, and a few messages of every bad kind.

/// The simulator is told to have this many orders.
pub(crate) const ORDERS: u64 = 200;
/// Good updates of each order.
pub(crate) const UPDATES_PER_ORDER: u64 = 5;
/// Bad messages stand this far apart, so that good ones of the same orders surround them.
const BAD_EVERY: usize = 140;

/// All messages, in the order in which they are published.
///
/// `UpdateSequence` rises with each update of an order. The ledger tells by it whether the updates
/// of an order were written in the order in which they were published.
pub(crate) fn all() -> Vec<String> {
    let mut messages: Vec<String> = (1..=UPDATES_PER_ORDER)
        .flat_map(|sequence| (1..=ORDERS).map(move |order| update(order, sequence)))
        .collect();
    for (index, message) in bad().into_iter().enumerate() {
        messages.insert(messages.len().min(index * BAD_EVERY), message);
    }
    messages
}

fn update(order: u64, sequence: u64) -> String {
    let day = 1 + (order + sequence * 7) % 28;
    message(
        &format!("SO-{order:06}"),
        &format!(r#"{{"DeliveryDate":"2025-02-{day:02}","UpdateSequence":{sequence}}}"#),
    )
}

/// The shape of every update: which order, and what to write to it.
fn message(order: &str, changes: &str) -> String {
    format!(r#"{{"key":{{"dataAreaId":"USMF","SalesOrderNumber":"{order}"}},"changes":{changes}}}"#)
}

/// None of these can ever be applied, each for a reason of its own.
fn bad() -> Vec<String> {
    let known = "SO-000001";
    let unknown = "SO-999999";
    let date = r#"{"DeliveryDate":"2025-02-08"}"#;
    vec![
        // From Backorder an order must be delivered before it is invoiced: a business rule.
        message(known, r#"{"SalesStatus":"Invoiced"}"#),
        // Cut off in the middle.
        message(known, date).chars().take(70).collect(),
        // A field that the message contract does not have.
        message(known, date).replacen('{', r#"{"urgent":true,"#, 1),
        // An order that does not exist.
        message(unknown, date),
        // A property that the order does not have.
        message(known, r#"{"ColourOfTheBox":"green"}"#),
        message(unknown, r#"{"SalesStatus":"Delivered"}"#),
        "not JSON at all".to_owned(),
    ]
}
