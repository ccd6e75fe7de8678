//! The page while time passes: the keyboard's way through it, and what a refresh keeps and changes.

use std::path::Path;

use crate::devtools::Tab;
use crate::house::{House, consume, daemon};

/// Waits until it was refreshed: the made-up daemon counts how often it is looked at.
fn refreshed(tab: &mut Tab) {
    const LOOKS: &str = "Array.from(document.querySelectorAll('dt'))\
                         .find((it) => it.textContent === 'received').nextSibling.textContent";
    let before = tab.ask(LOOKS);
    tab.until(&format!("{LOOKS} !== {before}"));
}

fn focus(tab: &mut Tab) -> String {
    tab.ask("document.activeElement.id").as_str().unwrap().to_owned()
}

pub(crate) fn tab_leads_through_the_page_in_its_order_and_past_what_is_closed(
    program: &Path,
    house: &House,
) {
    let mut tab = Tab::open(program, &format!("{}?refresh=off", house.url()));
    let way: Vec<_> = (0..16).map(|_| tab.tab()).collect();
    let wanted = [
        "Skip to the content",
        "Refresh every 5 s",
        "to-orders",
        "to-shards",
        "to-service",
        "to-letters",
        "to-settings",
        "orders-table",
        "shards-table",
        "letters-table",
        "settings-count",
        "status",
        "metrics",
        "livez",
        "readyz",
        "startupz",
    ];
    assert_eq!(way, wanted);
    // The first key on the page skips what every page begins with.
    tab.go(&house.url());
    assert_eq!(tab.tab(), "Skip to the content");
    assert_eq!(tab.ask("document.activeElement.getBoundingClientRect().left >= 0"), true);
    tab.enter();
    assert_eq!((focus(&mut tab), tab.tab()), ("main".to_owned(), "orders-table".to_owned()));
    tab.is_quiet();
}

pub(crate) fn refresh_keeps_the_focus_and_what_is_open_and_brings_what_is_new(
    program: &Path,
    house: &House,
) {
    let mut tab = Tab::open(program, &house.url());
    tab.ask("document.getElementById('shards-table').focus()");
    refreshed(&mut tab);
    assert_eq!(focus(&mut tab), "shards-table");
    tab.ask("document.getElementById('settings-count').focus()");
    tab.enter();
    refreshed(&mut tab);
    assert_eq!(focus(&mut tab), "settings-count");
    // Nor is it scrolled, up or down or in a table.
    tab.ask("document.getElementById('main').style.width = '20rem'");
    tab.ask("(scrollTo(0, 300), document.getElementById('orders-table').scrollLeft = 40)");
    refreshed(&mut tab);
    let scrolled = "[scrollY, document.getElementById('orders-table').scrollLeft]";
    assert_eq!(tab.ask(scrolled), serde_json::json!([300, 40]));
    // The same pod, begun anew with other settings.
    let other = daemon("0.0.0", 17);
    consume(&other);
    house.moves_in(&other);
    tab.until("document.getElementById('settings-table').textContent.includes('prefetch17')");
    assert_eq!(tab.ask("document.getElementById('all-settings').open"), true);
    assert_eq!(focus(&mut tab), "settings-count");
    // Nobody's place is lost while he reads.
    let marked = "getSelection().selectAllChildren(document.querySelector('#live td'))";
    tab.ask(marked);
    tab.ask("window.before = document.getElementById('live')");
    let passed = "new Promise((done) => setTimeout(() => \
                  done(document.getElementById('live') === window.before), 6000))";
    assert_eq!(tab.ask(passed), true, "nothing is swapped while somebody selects");
    tab.is_quiet();
}

pub(crate) fn page_of_a_pod_that_starts_becomes_that_of_one_that_works(
    program: &Path,
    house: &House,
) {
    let starting = daemon("0.0.0", 16);
    house.moves_in(&starting);
    let mut tab = Tab::open(program, &house.url());
    assert_eq!(tab.ask("document.getElementById('to-orders')"), serde_json::Value::Null);
    assert_eq!(tab.ask("document.getElementById('state').className"), "state fair");
    consume(&starting);
    tab.until("document.getElementById('to-orders') !== null");
    assert_eq!(tab.ask("document.getElementById('orders-table') !== null"), true);
    assert_eq!(tab.ask("document.title"), "pod-1: Not ready – orderwright");
    tab.is_quiet();
}

pub(crate) fn page_that_is_open_over_a_rollout_shows_the_new_version(
    program: &Path,
    house: &House,
) {
    let mut tab = Tab::open(program, &house.url());
    assert_eq!(tab.ask("document.getElementById('version').textContent"), "0.0.0");
    let next = daemon("0.0.1", 18);
    consume(&next);
    house.moves_in(&next);
    tab.until("document.getElementById('version').textContent === '0.0.1'");
    tab.until("document.getElementById('settings-table').textContent.includes('prefetch18')");
    // Its script is that of the new version, and goes on.
    tab.until("document.readyState === 'complete' && document.querySelector('dt') !== null");
    refreshed(&mut tab);
}
