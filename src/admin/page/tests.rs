use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};

use super::super::report::{Letters, Order};
use super::super::tests::{admin, consuming};
use super::*;

/// The page, as it is sent.
async fn sent(admin: &Admin, query: Option<&str>) -> String {
    let body = page(admin, query).into_body();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Every tag closed, every value quoted: then all parsers agree on what it says.
fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn all<'a>(page: &'a Document<'_>, name: &str) -> Vec<Node<'a, 'a>> {
    page.descendants().filter(|node| node.has_tag_name(name)).collect()
}

/// Every name once, and every link to one that is there.
fn assert_links_lead_somewhere(page: &Document<'_>) {
    let names: Vec<_> = page.descendants().filter_map(|it| it.attribute("id")).collect();
    let distinct: BTreeSet<_> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len(), "{names:?}");
    let meant = page.descendants().flat_map(|it| {
        let link = it.attribute("href").and_then(|link| link.strip_prefix('#'));
        link.into_iter().chain(it.attribute("aria-labelledby"))
    });
    let dangling: Vec<_> = meant.filter(|name| !distinct.contains(name)).collect();
    assert!(dangling.is_empty(), "{dangling:?}");
}

fn order(order: &str, etag: &str) -> Order {
    Order {
        order: order.to_owned(),
        state: "patch",
        meaning: "its PATCH is on the wire",
        state_seconds: 1.5,
        held_seconds: 75.0,
        oldest_seconds: 7500.0,
        attempt: 2,
        etag: Some(etag.to_owned()),
        behind: 3,
    }
}

fn letters(order: &str) -> Letters {
    Letters {
        fingerprint: "v1-0123456789ab".to_owned(),
        reason: "not_found",
        count: 7,
        last: jiff::Timestamp::UNIX_EPOCH,
        order: Some(order.to_owned()),
    }
}

#[tokio::test]
async fn page_has_landmarks_headings_and_tables_that_can_be_read_out() {
    let (admin, fake) = consuming();
    {
        let mut report = fake.0.lock().unwrap();
        report.orders = vec![order("USMF/SO-1", "W/\"1\"")];
        report.dead_letters = vec![letters("USMF/SO-2")];
        report.target.state = "down";
        report.target.reason = Some("gateway");
    }
    let text = sent(&admin, None).await;
    let page = parsed(&text);
    assert_eq!(page.root_element().attribute("lang"), Some("en"));
    for landmark in ["header", "nav", "main", "footer", "h1"] {
        assert_eq!(all(&page, landmark).len(), 1, "{landmark}");
    }
    let level = |node: Node<'_, '_>| node.tag_name().name().strip_prefix('h')?.parse::<u32>().ok();
    let levels: Vec<_> = page.descendants().filter_map(level).collect();
    assert!(levels.len() > 8 && levels.windows(2).all(|it| it[1] <= it[0] + 1), "{levels:?}");
    let tables = all(&page, "table");
    assert_eq!(tables.len(), 4, "orders, shards, dead letters, settings");
    for table in tables {
        let has = |name: &str| table.children().any(|it| it.has_tag_name(name));
        assert!(has("caption") && has("thead") && has("tbody"));
        let heads: Vec<_> = table.descendants().filter(|it| it.has_tag_name("th")).collect();
        assert!(heads.iter().all(|it| matches!(it.attribute("scope"), Some("col" | "row"))));
        // It may be wider than the window: then it must be reached by keyboard.
        let around = table.parent().unwrap();
        assert_eq!(
            (around.attribute("role"), around.attribute("tabindex")),
            (Some("region"), Some("0"))
        );
        assert!(around.attribute("aria-label").is_some());
    }
    assert_links_lead_somewhere(&page);
    // Said when it changes; nothing else speaks by itself.
    let speaks =
        |it: &Node<'_, '_>| it.attribute("role") == Some("status") || it.has_attribute("aria-live");
    let speaking: Vec<_> = page.descendants().filter(speaks).collect();
    assert_eq!(speaking.len(), 1);
    assert_eq!(speaking[0].text(), Some("Works, with trouble around it"));
    assert!(text.contains("<li>the service is down: gateway</li>"), "{text}");
    assert!(text.contains("2 h 5 min") && text.contains("v1-0123456789ab"), "{text}");
}

#[tokio::test]
async fn page_takes_nothing_from_elsewhere_and_has_nothing_inline() {
    let (admin, _) = consuming();
    let text = sent(&admin, None).await;
    let page = parsed(&text);
    for node in page.descendants() {
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(name != "style" && !name.starts_with("on"), "{name}={value}");
            let leads = ["href", "src", "action", "srcset"].contains(&name);
            assert!(!leads || !value.contains(':') && !value.starts_with('/'), "{name}={value}");
        }
    }
    assert!(all(&page, "style").is_empty() && all(&page, "form").is_empty());
    let scripts = all(&page, "script");
    assert!(scripts.iter().all(|it| it.attribute("src").is_some() && it.text().is_none()));
    let css = include_str!("page.css");
    assert!(!css.contains("url(") && !css.contains("@import"));
    assert!(!include_str!("page.js").contains("://"));
}

#[tokio::test]
async fn what_comes_from_messages_and_from_the_service_is_text() {
    const EVIL: &str = "\"><script>alert('1')</script><b x='&amp;";
    let (admin, fake) = consuming();
    {
        let mut report = fake.0.lock().unwrap();
        report.orders = vec![order(EVIL, EVIL)];
        report.dead_letters = vec![Letters { fingerprint: EVIL.to_owned(), ..letters(EVIL) }];
        report.shards[0].queue = EVIL.to_owned();
        report.shards[0].is_missing = true;
        report.counts = serde_json::json!({EVIL: EVIL});
    }
    let text = sent(&admin, None).await;
    let page = parsed(&text);
    assert_eq!(all(&page, "script").len(), 1, "the page's own");
    assert!(all(&page, "b").is_empty());
    let said = page.descendants().filter(|it| it.is_text() && it.text() == Some(EVIL)).count();
    // Order, ETag, fingerprint, last order, queue, and a count's name and value.
    assert_eq!(said, 7, "{text}");
    assert!(text.contains("is not subscribed to"), "the queue is named among the troubles");
}

#[tokio::test]
async fn page_reloads_without_a_script_unless_it_is_told_to_stand_still() {
    let (admin, _) = consuming();
    let reloads = |text: &str| {
        let page = parsed(text);
        let metas = all(&page, "meta");
        let is_it = |it: &&Node<'_, '_>| it.attribute("http-equiv") == Some("refresh");
        // With a script, it would take away what the script keeps.
        metas.iter().find(is_it).map(|it| it.parent().unwrap().tag_name().name().to_owned())
    };
    assert_eq!(reloads(&sent(&admin, None).await).as_deref(), Some("noscript"));
    let still = sent(&admin, Some("refresh=off")).await;
    assert!(reloads(&still).is_none() && still.contains("reload every 10 s"), "{still}");
}

#[tokio::test]
async fn page_is_there_before_the_broker_is_and_says_so() {
    let text = sent(&admin(), None).await;
    let page = parsed(&text);
    assert_eq!(all(&page, "main").len(), 1);
    assert_links_lead_somewhere(&page);
    assert!(text.contains("Starting: the broker is not reached yet"), "{text}");
}

/// Relative luminance as WCAG 2 defines it.
fn luminance(colour: &str) -> f64 {
    let wide = |it: &str| if it.len() == 1 { it.repeat(2) } else { it.to_owned() };
    let digits = colour.trim_start_matches('#');
    let part = digits.len() / 3;
    let channel = |at: usize| {
        let value = u8::from_str_radix(&wide(&digits[at * part..][..part]), 16).unwrap();
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
}

#[test]
fn every_colour_of_text_can_be_read_on_every_ground_in_light_and_dark() {
    let css = include_str!("page.css");
    let schemes: Vec<_> = css.split("--page: ").skip(1).collect();
    assert_eq!(schemes.len(), 2, "light and dark");
    for scheme in schemes {
        let scheme = format!("--page: {scheme}");
        let colour = |name: &str| {
            let rest = scheme.split(&format!("--{name}: ")).nth(1).unwrap();
            luminance(rest.split(';').next().unwrap())
        };
        for text in ["text", "faint", "accent", "good", "fair", "bad"] {
            for ground in ["page", "panel"] {
                let (one, other) = (colour(text), colour(ground));
                let ratio = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(ratio >= 4.5, "--{text} on --{ground}: {ratio:.2}");
            }
        }
    }
}

#[test]
fn times_are_said_in_the_two_units_that_matter() {
    let said = [0.04, 9.94, 59.4, 61.0, 3_725.0, 90_061.0, -1.0].map(|it| seconds(&it));
    assert_eq!(said, ["0.0 s", "9.9 s", "59 s", "1 min 1 s", "1 h 2 min", "1 d 1 h", "–"]);
    assert_eq!(maybe(&None), "–");
}

#[test]
fn what_has_members_is_shown_as_it_is_written() {
    let shown = flat(&serde_json::json!({"a": null, "b": "x", "c": {"d": 1}, "e": true}));
    let shown: Vec<_> = shown.iter().map(|(name, value)| format!("{name} {value}")).collect();
    assert_eq!(shown, ["a –", "b x", r#"c {"d":1}"#, "e true"]);
}
