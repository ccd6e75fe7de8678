//! What the products want that we talk to: other defaults, and nothing that could not be set by hand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A product, whose manners are the defaults of some settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename_all = "lowercase")]
pub enum Profile {
    /// Dynamics 365 Finance & Operations.
    #[default]
    Fo,
    /// Dataverse: Dynamics 365 Sales, Customer Service and others.
    Dataverse,
    /// Dynamics 365 Business Central.
    Bc,
    /// SAP Gateway and S/4HANA, OData V4.
    Sap,
    /// Any other OData V4 service.
    Odata,
}

impl Profile {
    /// As it is written in the settings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fo => "fo",
            Self::Dataverse => "dataverse",
            Self::Bc => "bc",
            Self::Sap => "sap",
            Self::Odata => "odata",
        }
    }

    /// Values of keys that nobody gave. What is missing here has its general default, which is that
    /// of Finance & Operations.
    ///
    /// The GUID of an order is one key in both products that have it, whatever its letters' case.
    pub(super) fn defaults(self) -> Vec<(&'static str, Value)> {
        let order = |entity_set: &str, key: &str, guids: &[&str]| {
            vec![
                ("target.cross_company", json!(false)),
                ("order.entity_set", json!(entity_set)),
                ("order.key", json!([key])),
                ("order.key_fold_case", json!(guids)),
                ("order.key_guid", json!(guids)),
            ]
        };
        match self {
            Self::Fo => Vec::new(),
            Self::Dataverse => order("salesorders", "salesorderid", &["salesorderid"]),
            Self::Bc => {
                let mut values = order("salesOrders", "id", &["id"]);
                // It answers with the order whatever is preferred, and documents no preference.
                values.push(("target.prefer_minimal", json!(false)));
                values
            }
            Self::Sap => {
                let mut values = order("SalesOrder", "SalesOrder", &[]);
                values.push(("target.csrf", json!(true)));
                values
            }
            Self::Odata => {
                vec![("target.cross_company", json!(false)), ("order.key_fold_case", json!([]))]
            }
        }
    }
}
