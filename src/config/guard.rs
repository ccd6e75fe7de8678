//! The settings of the guards: what may not be written, judged on the order that was fetched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list;

/// What is looked at on the fetched order before every write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// The order's property that holds the `sequence` of the update written last, as the service
    /// spells it: an integer of 64 bits that our user may write and nobody else does. Empty looks
    /// at no sequence.
    ///
    /// An update with a `sequence` is then written together with it, under the same ETag, and only
    /// to an order that holds none or a lower one. An update without one is written as ever. Must be
    /// equal on all pods. A letter or `_`, then letters, digits and `_`, at most 128; none of
    /// `order.key`.
    pub sequence_property: String,
    /// What comes of an update whose order holds the sequence of a newer one: `settle` acks it,
    /// `dead_letter` dead-letters it with the code `superseded`. Either way nothing is written.
    ///
    /// `settle`, because an update that was written and comes again after a crash, with newer ones
    /// written since, looks just like one that came too late: after every crash operators would
    /// have to judge dead letters of updates that were applied. It is counted and logged.
    /// `dead_letter` where updates of one order change different properties, so that what is
    /// skipped is missing, and no publisher would notice.
    pub superseded: Superseded,
    /// The only changes that the values of a property may make, each written as
    /// `SalesStatus: Backorder -> Delivered`. Any other of this property is dead-lettered with the
    /// code `transition_refused`.
    ///
    /// To stay is always allowed, and so is every change of a property that is not named here. From
    /// a value that no entry begins with, no change is allowed. A text stands without its quotes,
    /// any other value as JSON writes it. In the environment: separated by commas.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 256))]
    pub transitions: Vec<String>,
}

/// What comes of an update that is older than its order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename_all = "snake_case")]
pub enum Superseded {
    /// Acked and counted.
    #[default]
    Settle,
    /// Dead-lettered.
    DeadLetter,
}

/// An allowed change, taken apart: property, value before, value after.
pub(crate) type Transition<'a> = [&'a str; 3];

impl Guard {
    /// The allowed changes. `None` stands for an entry that is not written as it must be.
    pub(crate) fn transitions(&self) -> impl Iterator<Item = Option<Transition<'_>>> {
        self.transitions.iter().map(|entry| {
            let (property, ways) = entry.split_once(':')?;
            let (from, to) = ways.split_once("->")?;
            let parts = [property, from, to].map(str::trim);
            (!parts.contains(&"") && !to.contains("->")).then_some(parts)
        })
    }
}
