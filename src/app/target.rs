//! A look at the target, for operators.

use std::sync::Arc;

use crate::broker::{Generation, Topology};
use crate::config::{self, Settings};
use crate::dispatch::Trail;
use crate::odata::{self, Probe, Step};
use crate::order::{KeyValue, Literal, OrderKey};
use crate::shard::shard_of;

/// Looks at the target step by step. `key` is the values of an order's key, joined by `/`, as
/// publishers write them in a routing key; without one, the first order is looked at.
///
/// # Errors
/// The client cannot be made; or, in words, what is wrong with the key.
pub async fn probe(
    settings: &Settings,
    instance: &str,
    key: Option<&str>,
) -> Result<Result<Vec<Step>, String>, odata::Error> {
    let probe = Probe::new(settings, instance)?;
    let key = match key.map(|key| order_key(&settings.order, key)).transpose() {
        Ok(key) => key,
        Err(text) => return Ok(Err(text)),
    };
    let uuid = || uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid();
    let trail = Trail { walk: uuid(), attempt: uuid() };
    Ok(Ok(probe.run(key, trail).await))
}

/// The canonical key of the order that has these values. The error says in words what is wrong with them.
pub(crate) fn canonical(settings: &config::Order, text: &str) -> Result<Arc<str>, String> {
    Ok(order_key(settings, text)?.canonical().clone())
}

/// The shard of an order, and its queue.
pub(crate) fn home(order: &str, topology: &Topology, live: Generation) -> (u16, String) {
    let shard = shard_of(order, live.shards);
    (shard, topology.of(live).shard_queue(shard))
}

fn order_key(settings: &config::Order, text: &str) -> Result<OrderKey, String> {
    let names = &settings.key;
    let values = key_values(names, text)?;
    let value = |(name, value): (&String, String)| KeyValue {
        property: name.as_str().into(),
        literal: Literal::Text(value),
    };
    let folding = || settings.key_fold_case.iter().chain(&settings.key_guid);
    let folds = |name: &str| folding().any(|it| it == name);
    Ok(OrderKey::new(names.iter().zip(values).map(value).collect(), folds))
}

/// The values of a `--key`, one for each name. The error says in words how many are wanted.
pub(crate) fn key_values(names: &[String], text: &str) -> Result<Vec<String>, String> {
    let unescape = |value: &str| value.replace("%2F", "/").replace("%25", "%");
    let values: Vec<_> = text.split('/').map(unescape).collect();
    if values.len() == names.len() {
        return Ok(values);
    }
    Err(format!(
        "--key has {} value(s), and the key is {}: give {} values joined by `/`",
        values.len(),
        names.join("/"),
        names.len()
    ))
}
