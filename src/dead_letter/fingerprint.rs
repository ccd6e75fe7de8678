//! The same trouble has the same fingerprint, whatever order it befell.
//!
//! ```text
//! reason | HTTP status | the service's error code | message without values ──SHA-256──▶ v1-0123456789ab
//! ```
//!
//! **A version never changes.** Operators keep fingerprints in tickets and runbooks. The golden vectors in
//! the tests are the definition of version 1: another rule is another version. It can always be computed
//! anew from what else a dead letter says, so letters of two versions can still be put together.

use sha2::{Digest, Sha256};

/// Which rule this is.
const VERSION: &str = "v1";

/// Characters of the normalised message that count: what differs behind them is mostly the rest of a
/// stack or a list.
const CHARACTERS_MAX: usize = 256;

/// What stands for a value that was taken out.
const VALUE: char = '#';

/// What a fingerprint is made of.
#[derive(Debug, Clone, Copy)]
pub struct Trouble<'a> {
    /// The stable reason code.
    pub reason: &'a str,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// The service's own code or type of the error.
    pub error_code: Option<&'a str>,
    /// What was said about it.
    pub message: &'a str,
    /// The canonical order key, whose parts may be words without a digit.
    pub order: Option<&'a str>,
}

/// The fingerprint: the version, a dash, and 12 hexadecimal digits.
#[must_use]
pub fn fingerprint(trouble: &Trouble<'_>) -> String {
    let status = trouble.status.map(|status| status.to_string()).unwrap_or_default();
    let code = normalised(trouble.error_code.unwrap_or_default(), None);
    let message = normalised(trouble.message, trouble.order);
    let text = [trouble.reason, &status, &code, &message].join("\u{1f}");
    let digest = Sha256::digest(text.as_bytes());
    let first = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{VERSION}-{first:012x}")
}

/// The message in lower case, with `#` for everything that differs from order to order: quoted values,
/// whatever holds a digit (numbers, GUIDs, dates, order numbers), parts of the order's key.
///
/// A quoted name of a property stays, as it tells one trouble from another: a word with a capital inside
/// it (`'SalesStatus'`), or one beside a word such as `property` or `field`.
#[must_use]
pub fn normalised(message: &str, order: Option<&str>) -> String {
    let parts: Vec<String> = order.unwrap_or_default().split('/').map(str::to_lowercase).collect();
    let mut words: Vec<String> = Vec::new();
    for piece in pieces(message) {
        let word = match piece {
            Piece::Quoted(text) if is_property(text, words.last()) => text.to_lowercase(),
            Piece::Quoted(_) => VALUE.to_string(),
            Piece::Word(word) => {
                let lower = word.to_lowercase();
                let is_value = has_value(word) || parts.contains(&lower);
                if is_value { VALUE.to_string() } else { lower }
            }
            Piece::Mark(mark) => mark.to_string(),
        };
        words.push(word);
    }
    let words = without_months(&words);
    let mut text = String::new();
    let mut last = None;
    for word in &words {
        // One value may be written in several pieces, or several values as a list.
        if last == Some(VALUE) && word.starts_with(VALUE) {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        last = word.chars().next();
    }
    text.chars().take(CHARACTERS_MAX).collect()
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    /// Between quotes, without them.
    Quoted(&'a str),
    /// Up to the next blank or mark.
    Word(&'a str),
    /// A character that is no part of a word and says something.
    Mark(char),
}

fn closing(open: char) -> Option<char> {
    match open {
        '\'' | '"' | '`' => Some(open),
        '“' | '„' => Some('”'),
        '‘' => Some('’'),
        '«' => Some('»'),
        '‹' => Some('›'),
        _ => None,
    }
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        if let Some((quoted, behind)) = closing(first).and_then(|close| quoted(after, close)) {
            pieces.push(Piece::Quoted(quoted));
            rest = behind;
        } else if is_of_word(first) {
            // An apostrophe inside a word opens nothing.
            let end = rest.find(|it: char| !is_of_word(it) && it != '\'').unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            let word = word.trim_matches(|it: char| !it.is_alphanumeric());
            pieces.push(if word.is_empty() { Piece::Mark(first) } else { Piece::Word(word) });
            rest = behind;
        } else {
            // Separators differ with the language of numbers and lists, and say nothing.
            if matches!(first, '=' | '<' | '>' | '!' | '?') {
                pieces.push(Piece::Mark(first));
            }
            rest = after;
        }
    }
    pieces
}

/// Up to the quote that ends it: one that is followed by no letter, so that `'O'Brien'` is one value.
fn quoted(after: &str, close: char) -> Option<(&str, &str)> {
    after.match_indices(close).find_map(|(at, found)| {
        let behind = after.get(at + found.len()..)?;
        let ends = !behind.chars().next().is_some_and(char::is_alphanumeric);
        ends.then(|| (after.get(..at).unwrap_or_default(), behind))
    })
}

/// What can stand inside a number, a date, a GUID, an order key, a URL or a name.
fn is_of_word(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '_' | '-' | '+' | '.' | ',' | ':' | '/' | '%' | '@' | '\\')
}

fn has_value(word: &str) -> bool {
    word.contains('@') || (word.chars().any(char::is_numeric) && !is_error_number(word))
}

/// Numbers that name a trouble and not an order: HRESULTs (`0x80040217`) and Entra's (`AADSTS7000215`).
fn is_error_number(word: &str) -> bool {
    let is_hresult = |hex: &str| {
        hex.len() == 8 && hex.starts_with('8') && hex.bytes().all(|it| it.is_ascii_hexdigit())
    };
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|it| it.is_ascii_digit());
    let word = word.trim_end_matches([':', ',', '.']);
    word.strip_prefix("0x").is_some_and(is_hresult)
        || word.strip_prefix("AADSTS").is_some_and(is_number)
}

fn is_property(text: &str, before: Option<&String>) -> bool {
    const BESIDE: [&str; 9] = [
        "property",
        "properties",
        "field",
        "column",
        "attribute",
        "parameter",
        "type",
        "member",
        "element",
    ];
    let is_name = text.chars().all(|it| it.is_ascii_alphabetic() || "_.".contains(it));
    let has_capital_inside = text
        .as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    let is_beside = before.is_some_and(|word| BESIDE.contains(&word.as_str()));
    is_name && !text.is_empty() && (has_capital_inside || is_beside)
}

/// Names of months and days beside a number are parts of a date.
fn without_months(words: &[String]) -> Vec<String> {
    const NAMES: [&str; 19] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon",
        "tue", "wed", "thu", "fri", "sat", "sun",
    ];
    let is_value = |word: Option<&String>| word.is_some_and(|word| word.starts_with(VALUE));
    let is_name = |word: &str| {
        let is_ascii = word.bytes().all(|it| it.is_ascii_alphabetic());
        is_ascii && word.get(..3).is_some_and(|first| NAMES.contains(&first)) && is_date_word(word)
    };
    let beside = |index: usize| {
        is_value(words.get(index + 1))
            || is_value(index.checked_sub(1).and_then(|it| words.get(it)))
    };
    let kept = |(index, word): (usize, &String)| {
        let is_date = is_name(word) && beside(index);
        if is_date { VALUE.to_string() } else { word.clone() }
    };
    words.iter().enumerate().map(kept).collect()
}

fn is_date_word(word: &str) -> bool {
    const LONG: [&str; 20] = [
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "sept",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "tues",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    word.len() == 3 || LONG.contains(&word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(message: &str) -> String {
        fingerprint(&Trouble {
            reason: "rejected",
            status: Some(400),
            error_code: None,
            message,
            order: Some("USMF/SO-2025-0145"),
        })
    }

    #[test]
    fn rule_of_version_1_never_changes() {
        let vectors = [
            ("", "v1-90d03985fe43"),
            ("Field 'SalesStatus' must not be 'Delivered'.", "v1-f7e1197793bc"),
            ("The record was locked by user jdoe at 2025-02-08T10:15:00Z", "v1-0e8367bd2836"),
            ("Größe „XL“ gibt es für Auftrag SO-2025-0145 nicht", "v1-941a6a6151c7"),
        ];
        let found = vectors.map(|(message, _)| (message, of(message)));
        assert_eq!(found, vectors.map(|(message, golden)| (message, golden.to_owned())));
    }

    #[test]
    fn what_is_taken_out_and_what_stays() {
        let cases = [
            ("Order SO-2025-0145 is locked", "order # is locked"),
            ("Customer 'O'Brien & Sons' can't be found", "customer # can't be found"),
            (
                "value \"12,5\" for field 'Weight' is too large",
                "value # for field weight is too large",
            ),
            (
                "Property 'ColourOfTheBox' on type 'SalesOrder'",
                "property colourofthebox on type salesorder",
            ),
            (
                "id 6f9619ff-8b86-d011-b42d-00c04fc964ff, at Sat, 08 Feb 2025 10:00:00 GMT",
                "id # at # gmt",
            ),
            (
                "0x80040217 Account With Id = 12 Does Not Exist",
                "0x80040217 account with id = # does not exist",
            ),
            ("AADSTS7000215: wrong secret for app 'a1'", "aadsts7000215 wrong secret for app #"),
            (
                "company USMF: SalesOrders(dataAreaId='USMF',No='x')",
                "company # salesorders dataareaid = # no = #",
            ),
            ("mail to jane.doe@contoso.com", "mail to #"),
            ("1, 2, 3 and 4", "# and #"),
            ("it may pass", "it may pass"),
        ];
        for (message, wanted) in cases {
            assert_eq!(normalised(message, Some("USMF/SO-2025-0145")), wanted, "{message}");
        }
    }

    #[test]
    fn different_trouble_is_told_apart() {
        let messages = [
            "The property 'SalesStatus' does not exist on type 'SalesOrder'.",
            "The property 'DeliveryDate' does not exist on type 'SalesOrder'.",
            "The order is locked by another session.",
            "The order cannot be changed in its present status.",
            "0x80040217 failed",
            "0x80040265 failed",
        ];
        let distinct: std::collections::BTreeSet<_> = messages.map(of).into_iter().collect();
        assert_eq!(distinct.len(), messages.len());
        let base = Trouble {
            reason: "rejected",
            status: Some(400),
            error_code: Some("Validation"),
            message: "no",
            order: None,
        };
        let others = [
            Trouble { reason: "business_rule", ..base },
            Trouble { status: Some(500), ..base },
            Trouble { status: None, ..base },
            Trouble { error_code: Some("Locked"), ..base },
            Trouble { message: "yes", ..base },
        ];
        for other in others {
            assert_ne!(fingerprint(&other), fingerprint(&base), "{other:?}");
        }
    }

    /// A sentence with gaps.
    const SENTENCES: [(&str, &str, &str); 4] = [
        ("Order ", " cannot be changed: status is ", "."),
        ("Record ", " was locked by another user since ", ""),
        ("(", ") Quantity must not exceed ", " pieces"),
        ("Cannot find '", "' for value '", "' in table."),
    ];

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Z]{2,4}[-_]?[0-9]{1,12}",
            "-?[0-9]{1,9}([.,][0-9]{1,4})?",
            "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[012][0-9]:[0-5][0-9]:[0-5][0-9]Z",
            "[0-3]?[0-9] (Jan|Feb|Mar|Apr|May|June|Sept|December) 20[0-9]{2}",
            "[A-Z]{4}/SO-[0-9]{4}-[0-9]{4}",
        ]
    }

    proptest! {
        #[test]
        fn same_trouble_of_different_orders_groups(
            sentence in 0..SENTENCES.len(),
            values in prop::array::uniform4(value()),
        ) {
            let (a, b, c) = SENTENCES[sentence];
            let one = format!("{a}{}{b}{}{c}", values[0], values[1]);
            let two = format!("{a}{}{b}{}{c}", values[2], values[3]);
            prop_assert_eq!(normalised(&one, None), normalised(&two, None));
            let (other, ..) = SENTENCES[(sentence + 1) % SENTENCES.len()];
            let three = format!("{other}{}", values[0]);
            prop_assert_ne!(of(&one), of(&three));
        }

        #[test]
        fn any_text_gives_a_short_fingerprint_that_is_its_own_normal_form(text in ".{0,400}") {
            let fingerprint = of(&text);
            prop_assert_eq!(fingerprint.len(), "v1-".len() + 12);
            prop_assert_eq!(&fingerprint, &of(&text));
            prop_assert!(normalised(&text, None).chars().count() <= CHARACTERS_MAX);
        }

        #[test]
        fn parts_of_the_key_are_taken_out_wherever_they_stand(
            company in "[A-Z]{4}", number in "[A-Z]{6}",
        ) {
            let order = format!("{company}/{number}");
            let said = format!("Order {number} of company {company} is on hold");
            prop_assert_eq!(normalised(&said, Some(&order)), "order # of company # is on hold");
        }
    }
}
