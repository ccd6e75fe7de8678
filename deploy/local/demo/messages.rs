//! What the demo publishes: good updates of many orders, and a few messages of every bad kind.

use serde_json::json;

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
    json!({
        "key": { "dataAreaId": "USMF", "SalesOrderNumber": format!("SO-{order:06}") },
        "changes": { "DeliveryDate": format!("2025-02-{day:02}"), "UpdateSequence": sequence },
    })
    .to_string()
}

/// None of these can ever be applied, each for a reason of its own.
fn bad() -> Vec<String> {
    let key = json!({ "dataAreaId": "USMF", "SalesOrderNumber": "SO-000001" });
    let unknown = json!({ "dataAreaId": "USMF", "SalesOrderNumber": "SO-999999" });
    vec![
        // From Backorder an order must be delivered before it is invoiced: a business rule.
        json!({ "key": key, "changes": { "SalesStatus": "Invoiced" } }).to_string(),
        // Cut off in the middle.
        r#"{"key":{"dataAreaId":"USMF","SalesOrderNumber":"SO-000001"},"changes":{"Deli"#
            .to_owned(),
        // A field that the message contract does not have.
        json!({ "key": key, "changes": { "DeliveryDate": "2025-02-08" }, "urgent": true })
            .to_string(),
        // An order that does not exist.
        json!({ "key": unknown, "changes": { "DeliveryDate": "2025-02-08" } }).to_string(),
        // A property that the order does not have.
        json!({ "key": key, "changes": { "ColourOfTheBox": "green" } }).to_string(),
        json!({ "key": unknown, "changes": { "SalesStatus": "Delivered" } }).to_string(),
        "not JSON at all".to_owned(),
    ]
}
