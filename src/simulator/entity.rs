//! The entity: which properties an order has, which values they take, and which changes are lawful.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{self, Date};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Number, Value as Json};

use super::key::{COMPANY, ENTITY_SET, Key, NUMBER};
use super::reply::Refusal;

/// How Finance & Operations writes an empty date.
const EMPTY_DATE: Date = civil::date(1900, 1, 1);
const ENTITY_TYPE: &str = "Microsoft.Dynamics.DataEntities.SalesOrderHeaderV2";

/// Position of `SalesStatus` in the schema.
const STATUS: usize = 0;
/// Position of `DeliveryModeCode` in the schema, which the outside actor sets.
pub const DELIVERY_MODE: usize = 1;
/// Position of the property that tells updates of one order apart.
pub const SEQUENCE: usize = 2;

/// What a property holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Enum(&'static [&'static str]),
    Text { chars_max: usize },
    Date,
    Decimal,
    Integer,
}

/// The value of a property, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A member of an enumeration.
    Enum(&'static str),
    /// A string.
    Text(Box<str>),
    /// A day, written as noon UTC.
    Date(Date),
    /// A decimal, exactly as it was sent.
    Decimal(Number),
    /// An `Edm.Int64`.
    Integer(i64),
}

/// The properties of an order beside its key. Values of an order stand in the same positions.
#[derive(Debug)]
pub struct Schema {
    properties: Vec<(Arc<str>, Kind)>,
}

/// New values of some properties, by position.
pub type Changes = Vec<(usize, Value)>;

const STATUSES: &[&str] = &["Backorder", "Delivered", "Invoiced", "Canceled"];

/// From which status to which other an order may go. Staying is always lawful.
const TRANSITIONS: &[(&str, &str)] =
    &[("Backorder", "Delivered"), ("Backorder", "Canceled"), ("Delivered", "Invoiced")];

impl Schema {
    /// The entity, with `sequence_property` as the name of the property that orders updates.
    /// `None` if another property already has that name.
    pub fn new(sequence_property: &str) -> Option<Self> {
        let properties: Vec<(Arc<str>, Kind)> = [
            ("SalesStatus", Kind::Enum(STATUSES)),
            ("DeliveryModeCode", Kind::Text { chars_max: 10 }),
            (sequence_property, Kind::Integer),
            ("DeliveryDate", Kind::Date),
            ("RequestedShippingDate", Kind::Date),
            ("ConfirmedShippingDate", Kind::Date),
            ("CustomersOrderReference", Kind::Text { chars_max: 60 }),
            ("TotalDiscountPercentage", Kind::Decimal),
            ("OverrideSalesTax", Kind::Enum(&["No", "Yes"])),
        ]
        .map(|(name, kind)| (name.into(), kind))
        .into();
        let taken = properties.iter().filter(|(name, _)| **name == *sequence_property).count() > 1;
        let is_key = [COMPANY, NUMBER, ""].contains(&sequence_property);
        (!taken && !is_key).then_some(Self { properties })
    }

    /// Gives a property another name, as an upgrade of the service may. False where none has the first name,
    /// or another one has the second.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let is_free = ![COMPANY, NUMBER, ""].contains(&to) && self.position(to).is_err();
        let renamed = self.properties.iter_mut().find(|(name, _)| is_free && **name == *from);
        renamed.map(|(name, _)| *name = to.into()).is_some()
    }

    /// The values of a new order.
    pub fn initial(&self) -> Vec<Value> {
        self.properties.iter().map(|(_, kind)| kind.initial()).collect()
    }

    /// Checks the properties of a request body. Annotations (`@odata.…`) are skipped.
    pub fn read(&self, body: &Map<String, Json>) -> Result<Changes, Refusal> {
        let mut changes = Vec::with_capacity(body.len());
        for (name, json) in body.iter().filter(|(name, _)| !name.contains('@')) {
            if name == COMPANY || name == NUMBER {
                let message = format!("The property '{name}' is part of the key and is read-only.");
                return Err(Refusal::bad_request(message));
            }
            let position = self.position(name)?;
            let (_, kind) = self.properties.get(position).ok_or_else(|| unknown(name))?;
            changes.push((position, kind.read(name, json)?));
        }
        Ok(changes)
    }

    /// Refuses a name of `$select` that the entity does not have.
    pub fn check_select(&self, name: &str) -> Result<(), Refusal> {
        if ["*", COMPANY, NUMBER].contains(&name) { Ok(()) } else { self.position(name).map(drop) }
    }

    /// Where a property stands.
    fn position(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.properties.iter().position(|(known, _)| **known == *name);
        found.ok_or_else(|| unknown(name))
    }

    /// The name of the property at a position.
    pub fn name(&self, position: usize) -> &str {
        self.properties.get(position).map_or("", |(name, _)| name)
    }

    /// The business rule: an order moves through its statuses in one direction.
    pub fn check_write(values: &[Value], changes: &Changes, key: &Key) -> Result<(), Refusal> {
        let wanted = changes.iter().find(|(position, _)| *position == STATUS);
        let (Some(Value::Enum(from)), Some((_, Value::Enum(to)))) = (values.get(STATUS), wanted)
        else {
            return Ok(());
        };
        if from == to || TRANSITIONS.contains(&(from, to)) {
            return Ok(());
        }
        Err(Refusal::write_failed(&format!(
            "Warning: Sales order {} with status {from} cannot be changed to {to}.; \
             Warning: validateWrite failed on data source 'SalesTable (SalesTable)'.",
            key.number
        )))
    }
}

impl Kind {
    fn initial(self) -> Value {
        match self {
            Self::Enum(members) => Value::Enum(members.first().copied().unwrap_or_default()),
            Self::Text { .. } => Value::Text("".into()),
            Self::Date => Value::Date(EMPTY_DATE),
            Self::Decimal => Value::Decimal(0.into()),
            Self::Integer => Value::Integer(0),
        }
    }

    /// Takes a JSON value if it fits. A null clears a string or a date, as X++ knows no null.
    fn read(self, name: &str, json: &Json) -> Result<Value, Refusal> {
        let clears = json.is_null() && matches!(self, Self::Text { .. } | Self::Date);
        if clears {
            return Ok(self.initial());
        }
        let value = match self {
            Self::Enum(members) => json
                .as_str()
                .and_then(|text| members.iter().find(|member| **member == text))
                .map(|member| Value::Enum(member)),
            Self::Text { chars_max } => json
                .as_str()
                .filter(|text| text.chars().count() <= chars_max)
                .map(|text| Value::Text(text.into())),
            Self::Date => json.as_str().and_then(day).map(Value::Date),
            Self::Decimal => json.as_number().cloned().map(Value::Decimal),
            Self::Integer => json.as_i64().map(Value::Integer),
        };
        value.ok_or_else(|| {
            let edm = match self {
                Self::Enum(_) => "Microsoft.Dynamics.DataEntities enumeration",
                Self::Text { .. } => "Edm.String",
                Self::Date => "Edm.DateTimeOffset",
                Self::Decimal => "Edm.Decimal",
                Self::Integer => "Edm.Int64",
            };
            Refusal::bad_request(format!(
                "Cannot convert the literal '{json}' of the property '{name}' to the expected type \
                 '{edm}'."
            ))
        })
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::bad_request(format!(
        "The property '{name}' does not exist on type '{ENTITY_TYPE}'. Make sure to only use \
         property names that are defined by the type."
    ))
}

/// `2025-02-08`, or a date-time with offset, of which the day in UTC is kept.
fn day(text: &str) -> Option<Date> {
    if text.len() == "2025-02-08".len() {
        return text.parse().ok();
    }
    let at: Timestamp = text.parse().ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).date())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Enum(member) => serializer.serialize_str(member),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Date(date) => serializer.collect_str(&format_args!("{date}T12:00:00Z")),
            Self::Decimal(number) => number.serialize(serializer),
            Self::Integer(number) => serializer.serialize_i64(*number),
        }
    }
}

/// Some properties of an order, written as a JSON object.
#[derive(Debug)]
pub struct Properties<'a> {
    /// Names them.
    pub schema: &'a Schema,
    /// Positions and values.
    pub values: Vec<(usize, &'a Value)>,
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.values.iter().map(|(at, value)| (self.schema.name(*at), value)))
    }
}

/// A whole order, written as OData writes an entity.
#[derive(Debug)]
pub struct Entity<'a> {
    /// Names the properties.
    pub schema: &'a Schema,
    /// The key.
    pub key: &'a Key,
    /// All values, in the schema's positions.
    pub values: &'a [Value],
    /// The `@odata.etag` annotation, unless a fault keeps it back.
    pub etag: Option<&'a str>,
    /// The value of `$select`: only these properties.
    pub select: Option<&'a [String]>,
}

impl Serialize for Entity<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let selected = |name: &str| {
            self.select
                .is_none_or(|names| names.iter().any(|wanted| wanted == name || wanted == "*"))
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_key("@odata.context")?;
        map.serialize_value(&format_args!("$metadata#{ENTITY_SET}/$entity"))?;
        if let Some(etag) = self.etag {
            map.serialize_entry("@odata.etag", etag)?;
        }
        for (name, value) in [(COMPANY, &self.key.company), (NUMBER, &self.key.number)] {
            if selected(name) {
                map.serialize_entry(name, value)?;
            }
        }
        for ((name, _), value) in self.schema.properties.iter().zip(self.values) {
            if selected(name) {
                map.serialize_entry(&**name, value)?;
            }
        }
        map.end()
    }
}
