//! The URL of an order. Pure.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::order::{Literal, OrderKey};

/// Everything but the unreserved characters of RFC 3986, section 2.3. More than a path needs: `/`,
/// `#`, `?`, `+` and `%` inside a key value must not be taken for syntax by anything on the way.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Builds the URLs of one entity set.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Up to and including the opening parenthesis.
    head: String,
    /// From the closing parenthesis on.
    tail: &'static str,
    /// Properties whose values are GUIDs.
    guids: Vec<String>,
}

impl Orders {
    /// `service` is the service root, with or without a slash at its end. `cross_company` lets
    /// Finance & Operations look beyond the user's own company.
    #[must_use]
    pub fn new(service: &::url::Url, entity_set: &str, cross_company: bool) -> Self {
        let service = service.as_str().trim_end_matches('/');
        Self {
            head: format!("{service}/{entity_set}("),
            tail: if cross_company { ")?cross-company=true" } else { ")" },
            guids: Vec::new(),
        }
    }

    /// Writes the values of these properties as GUIDs: without quotes.
    #[must_use]
    pub fn with_guids(mut self, guids: &[String]) -> Self {
        self.guids = guids.to_vec();
        self
    }

    /// The URL of the first order, whichever that is.
    #[must_use]
    pub fn first(&self) -> String {
        let set = self.head.trim_end_matches('(');
        let query = self.tail.trim_start_matches(')');
        let separator = if query.is_empty() { "?" } else { "&" };
        format!("{set}{query}{separator}$top=1")
    }

    /// Where batches are posted.
    #[must_use]
    pub fn batch(&self) -> String {
        let service = self.head.rsplit_once('/').map_or("", |(service, _)| service);
        format!("{service}/$batch")
    }

    /// The URL of an order of which only these properties are wanted.
    #[must_use]
    pub fn narrow(&self, key: &OrderKey, names: &[impl AsRef<str>]) -> String {
        let mut url = self.url(key);
        url.push(if self.tail.contains('?') { '&' } else { '?' });
        url.push_str("$select=");
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                url.push(',');
            }
            url.extend(utf8_percent_encode(name.as_ref(), ENCODED));
        }
        url
    }

    fn is_guid(&self, property: &str) -> bool {
        self.guids.iter().any(|guid| guid == property)
    }

    /// The URL of one order, with the key's values as sent. In a string literal a quote is doubled
    /// (OData 4.01 URL Conventions, section 5.1.1.14.1), and all of it is percent-encoded. A GUID that
    /// is the whole key stands alone, as Dataverse and Business Central have it.
    #[must_use]
    pub fn url(&self, key: &OrderKey) -> String {
        let mut url = String::with_capacity(self.head.len() + 96);
        url.push_str(&self.head);
        for (index, value) in key.values().iter().enumerate() {
            if index > 0 {
                url.push(',');
            }
            let guid = self.is_guid(&value.property);
            if !(guid && key.values().len() == 1) {
                url.push_str(&value.property);
                url.push('=');
            }
            match &value.literal {
                Literal::Text(text) if guid => url.extend(utf8_percent_encode(text, ENCODED)),
                Literal::Text(text) => {
                    url.push('\'');
                    for piece in text.split_inclusive('\'') {
                        url.extend(utf8_percent_encode(piece, ENCODED));
                        if piece.ends_with('\'') {
                            url.push_str("%27");
                        }
                    }
                    url.push('\'');
                }
                Literal::Integer(number) => {
                    // Writing to a String cannot fail.
                    let _infallible = write!(url, "{number}");
                }
            }
        }
        url.push_str(self.tail);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::KeyValue;

    fn url(number: &str) -> String {
        let service = "https://acme.example/data/".parse().unwrap();
        let text = |property: &str, value: &str| KeyValue {
            property: property.into(),
            literal: Literal::Text(value.to_owned()),
        };
        let values = vec![text("dataAreaId", "usmf"), text("SalesOrderNumber", number)];
        Orders::new(&service, "SalesOrderHeadersV2", true)
            .url(&OrderKey::new(values, |name| name == "dataAreaId"))
    }

    fn number_in_url(number: &str) -> String {
        let url = url(number);
        let head =
            "https://acme.example/data/SalesOrderHeadersV2(dataAreaId='usmf',SalesOrderNumber='";
        let rest = url.strip_prefix(head).expect(&url);
        rest.strip_suffix("')?cross-company=true").expect(&url).to_owned()
    }

    #[test]
    fn key_values_are_sent_as_they_came_whatever_they_hold() {
        for (number, encoded) in [
            ("SO-2025-0145", "SO-2025-0145"),
            ("O'Neill", "O%27%27Neill"),
            ("''", "%27%27%27%27"),
            ("100%", "100%25"),
            ("a/b", "a%2Fb"),
            ("#1", "%231"),
            ("1+1", "1%2B1"),
            ("a b", "a%20b"),
            ("?x=1&y", "%3Fx%3D1%26y"),
            ("..", ".."),
            ("Größe", "Gr%C3%B6%C3%9Fe"),
            ("訂單", "%E8%A8%82%E5%96%AE"),
        ] {
            assert_eq!(number_in_url(number), encoded, "{number}");
            let parsed: ::url::Url = url(number).parse().unwrap();
            assert_eq!(
                parsed.as_str().replace("%27%27", "''"),
                url(number).replace("%27%27", "''")
            );
        }
    }

    #[test]
    fn integer_is_written_bare_and_one_key_is_enough() {
        let service = "http://localhost:1/odata".parse().unwrap();
        let value = KeyValue { property: "Id".into(), literal: Literal::Integer(-7) };
        let key = OrderKey::new(vec![value], |_| false);
        let orders = Orders::new(&service, "Orders", false);
        assert_eq!(orders.url(&key), "http://localhost:1/odata/Orders(Id=-7)");
        assert_eq!(orders.first(), "http://localhost:1/odata/Orders?$top=1");
        let narrow = "http://localhost:1/odata/Orders(Id=-7)?$select=Id,Gr%C3%B6%C3%9Fe";
        assert_eq!(orders.narrow(&key, &["Id", "Größe"]), narrow);
        assert_eq!(orders.batch(), "http://localhost:1/odata/$batch");
        let orders = Orders::new(&service, "Orders", true);
        let narrow = "http://localhost:1/odata/Orders(Id=-7)?cross-company=true&$select=Id";
        assert_eq!(orders.narrow(&key, &["Id"]), narrow);
        assert_eq!(orders.first(), "http://localhost:1/odata/Orders?cross-company=true&$top=1");
    }

    #[test]
    fn guid_is_written_without_quotes_and_alone_without_its_name() {
        let service = "https://org.example/api/data/v9.2".parse().unwrap();
        let text = |property: &str, text: &str| KeyValue {
            property: property.into(),
            literal: Literal::Text(text.to_owned()),
        };
        let guid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
        let orders = Orders::new(&service, "salesorders", false).with_guids(&["id".to_owned()]);
        let root = "https://org.example/api/data/v9.2/salesorders";
        let alone = OrderKey::new(vec![text("id", guid)], |_| true);
        assert_eq!(orders.url(&alone), format!("{root}({guid})"));
        let both = OrderKey::new(vec![text("company", "a"), text("id", guid)], |_| true);
        assert_eq!(orders.url(&both), format!("{root}(company='a',id={guid})"));
        // Whatever stands in for a GUID stays inside the parentheses.
        let other = OrderKey::new(vec![text("id", "1)/x?y='")], |_| true);
        assert_eq!(orders.url(&other), format!("{root}(1%29%2Fx%3Fy%3D%27)"));
        assert_eq!(orders.first(), format!("{root}?$top=1"));
        let fo = Orders::new(&service, "salesorders", true);
        assert_eq!(fo.first(), format!("{root}?cross-company=true&$top=1"));
    }
}
