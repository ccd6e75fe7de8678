//! The settings of an order update: what names an order, and how large an update may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list;

/// What an order update may look like, and what names an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// The OData entity set that holds the orders, as the service spells it. Case matters.
    ///
    /// A letter or `_`, then letters, digits and `_`: at most 128.
    pub entity_set: String,
    /// The key properties, in the order in which they are joined to a routing key.
    ///
    /// 1 to 8 different names, as the service spells them; the entity's whole key, since Dynamics
    /// refuses a part of it. Must be equal on all pods and publishers. In the environment:
    /// separated by commas.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(min = 1, max = 8))]
    pub key: Vec<String>,
    /// Those of `key` whose letter case does not matter: to Dynamics, `USMF` and `usmf` are one
    /// company.
    ///
    /// A property that is missing here lets two spellings of one order be worked on at once; one
    /// too many makes two orders wait for each other. Must be equal on all pods. In the
    /// environment: separated by commas.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 8))]
    pub key_fold_case: Vec<String>,
    /// Those of `key` whose values are GUIDs, which stand in the URL without quotes; one that is the
    /// whole key stands there without its name, too: `salesorders(3f2504e0-…)`.
    ///
    /// Their letter case does not matter either. Must be equal on all pods. In the environment:
    /// separated by commas.
    #[serde(deserialize_with = "list::text")]
    #[schemars(length(max = 8))]
    pub key_guid: Vec<String>,
    /// Largest message body, in bytes. A larger one is dead-lettered unparsed.
    ///
    /// An update names a handful of fields; the limit keeps one message from taking the memory.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub body_bytes_max: usize,
    /// Deepest nesting of arrays and objects in a body. A deeper one is dead-lettered.
    ///
    /// The parser's stack grows with it.
    #[schemars(range(min = 2, max = 64))]
    pub nesting_max: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            entity_set: "SalesOrderHeadersV2".to_owned(),
            key: vec!["dataAreaId".to_owned(), "SalesOrderNumber".to_owned()],
            key_fold_case: vec!["dataAreaId".to_owned()],
            key_guid: Vec::new(),
            body_bytes_max: 65_536,
            nesting_max: 16,
        }
    }
}
