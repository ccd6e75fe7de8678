//! That the documents are true, as far as a machine can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::files::{ROOT, read, rust, tidy, walk};

pub(crate) fn documents() -> Vec<String> {
    let mut documents: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(String::from).into();
    for folder in ["docs", "deploy", "tests/schemas"] {
        walk(folder, &mut documents);
    }
    documents.retain(|file| is_markdown(file));
    documents
}

fn is_markdown(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|it| it == "md")
}

/// What stands between backticks, with its place. Blocks of code are left out.
fn quoted(document: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in read(document).lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let place = format!("{document}:{}", number + 1);
            // Code that goes on in the next line would turn all that follows inside out.
            let odd = line.matches('`').count() % 2 == 1;
            assert!(!odd, "{place}: close every backtick in the line that opens it");
            let each = line.split('`').skip(1).step_by(2);
            found.extend(each.map(|text| (place.clone(), text.to_owned())));
        }
    }
    found
}

/// The rows of the first table below a heading, without its head, cell by cell.
pub(crate) fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let below = text.lines().skip_while(|line| *line != heading).skip(1);
    let below = below.skip_while(|line| !line.starts_with('|') && !line.starts_with('#'));
    let rows = below.take_while(|line| line.starts_with('|')).skip(2);
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = rows.map(|row| row.trim_matches('|').split('|').map(cell).collect());
    let rows: Vec<Vec<String>> = rows.collect();
    assert!(!rows.is_empty(), "{document}: no table below {heading:?}");
    rows
}

/// The first two columns of a table.
fn pairs(document: &str, heading: &str) -> BTreeMap<String, String> {
    let rows = table(document, heading);
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// Compares a table with what the code has.
fn agree(document: &str, heading: &str, source: &str, wanted: &BTreeMap<String, String>) {
    let written = pairs(document, heading);
    let mut findings = Vec::new();
    for (name, meaning) in wanted {
        match written.get(name) {
            None => findings.push(format!("{document}: {heading:?} lacks `{name}` of {source}")),
            Some(text) if text != meaning => findings.push(format!(
                "{document}: {heading:?} says of `{name}`: {text:?}, and {source} says {meaning:?}"
            )),
            Some(_) => {}
        }
    }
    for name in written.keys().filter(|name| !wanted.contains_key(*name)) {
        findings.push(format!("{document}: {heading:?} has `{name}`, and {source} has not"));
    }
    tidy(&findings);
}

#[test]
fn paths_that_the_documents_name_exist() {
    const TOP: [&str; 5] = ["src/", "tests/", "docs/", "deploy/", ".ci/"];
    let mut findings = Vec::new();
    let exists = |path: &str| Path::new(ROOT).join(path).exists();
    for document in documents() {
        for (place, text) in quoted(&document) {
            let is_path = TOP.iter().any(|top| text.starts_with(top)) || is_markdown(&text);
            if is_path && !text.contains(char::is_whitespace) && !exists(&text) {
                findings.push(format!("{place}: `{text}` does not exist: name what does"));
            }
        }
    }
    tidy(&findings);
}

#[test]
fn settings_that_the_documents_name_exist() {
    let mut known = BTreeSet::new();
    let mut section = String::new();
    for line in read("docs/config-reference.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            known.insert(section.clone());
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ") {
            known.insert(format!("{section}.{name}"));
        }
    }
    let sections: BTreeSet<_> =
        known.iter().filter_map(|key| key.split('.').next()).map(str::to_owned).collect();
    let mut findings = Vec::new();
    for document in documents() {
        for (place, text) in quoted(&document) {
            let key = text.split(" = ").next().unwrap_or_default();
            let is_key = key.split_once('.').is_some_and(|(first, rest)| {
                sections.contains(first)
                    && rest.bytes().all(|it| it.is_ascii_lowercase() || b"._".contains(&it))
            });
            if is_key && !known.contains(key) {
                findings.push(format!("{place}: `{key}` is no key of docs/config-reference.toml"));
            }
        }
    }
    tidy(&findings);
}

/// The settings whose documentation says so. A sentence there may go over the end of a line.
fn equal_on_all_pods() -> BTreeSet<String> {
    let (mut equal, mut section, mut about) = (BTreeSet::new(), String::new(), String::new());
    for line in read("docs/config-reference.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            about.clear();
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ")
            && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
        {
            if about.contains("Must be equal on all pods") {
                equal.insert(format!("{section}.{name}"));
            }
            about.clear();
        } else {
            about = format!("{about} {}", line.trim_start_matches('#').trim());
        }
    }
    equal
}

#[test]
fn settings_that_must_be_equal_on_all_pods_are_those_that_their_documentation_calls_so() {
    const DOCUMENT: &str = "deploy/README.md";
    let text = read(DOCUMENT);
    let paragraph = text
        .split("\n\n")
        .find(|it| it.starts_with("**Settings that must be equal on all pods**"))
        .unwrap_or_else(|| panic!("{DOCUMENT}: the paragraph is gone"));
    let quoted = paragraph.split('`').skip(1).step_by(2);
    let written: BTreeSet<_> = quoted.filter(|it| it.contains('.')).map(str::to_owned).collect();
    let wanted = equal_on_all_pods();
    assert!(wanted.contains("order.key"), "the settings say it in another way: {wanted:?}");
    assert_eq!(written, wanted, "{DOCUMENT}, left, must list the settings, right");
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let mut tests = BTreeSet::new();
    for file in rust(&["src", "tests"]) {
        let text = read(&file);
        for (index, _) in text.match_indices("fn ") {
            let marked = text[..index].trim_end().trim_end_matches("async").trim_end();
            let attribute = marked.rsplit('\n').next().unwrap_or_default().trim();
            if attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test") {
                let name = text[index + 3..].split('(').next().unwrap_or_default();
                tests.insert(name.to_owned());
            }
        }
    }
    let mut findings = Vec::new();
    let rows = table("README.md", "## The guarantee");
    for row in &rows {
        let names: Vec<&str> = row[1].split('`').map(|it| it.trim_matches([',', ' '])).collect();
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() {
            findings.push(format!("README.md: no test proves {:?}: write one or drop it", row[0]));
        }
        for name in names.into_iter().filter(|name| !tests.contains(*name)) {
            findings.push(format!(
                "README.md: no test is named {name}: name one that proves {:?}",
                row[0]
            ));
        }
    }
    tidy(&findings);
}

#[test]
fn decode_errors_are_documented_and_each_goes_over_a_real_broker() {
    const SOURCE: &str = "src/decode.rs";
    let text = read(SOURCE);
    let code = |line: &str| {
        let rest = line.trim().strip_prefix("Self::")?.split_once("=> \"")?.1;
        rest.strip_suffix("\",").map(str::to_owned)
    };
    let codes: BTreeSet<String> = text.lines().filter_map(code).collect();
    assert!(codes.len() > 10, "{SOURCE}: the codes are written in another way: {codes:?}");
    let rows = table("docs/MESSAGES.md", "## Decode errors");
    let written: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, codes, "docs/MESSAGES.md, left, must list the codes of {SOURCE}, right");
    let it = read("tests/it/dead_letters.rs");
    let untested: Vec<_> =
        codes.iter().filter(|code| !it.contains(&format!("\"{code}\""))).collect();
    assert!(untested.is_empty(), "tests/it/dead_letters.rs has no case for {untested:?}");
}

#[test]
fn dead_letter_headers_are_documented() {
    let headers = orderwright::dead_letter::HEADERS;
    let wanted = headers.map(|(name, meaning)| (name.to_owned(), meaning.to_owned())).into();
    agree("docs/MESSAGES.md", "## Headers of a dead letter", "src/dead_letter/record.rs", &wanted);
}

#[test]
fn replay_headers_are_documented() {
    let headers = orderwright::dead_letter::REPLAY_HEADERS;
    let cell = |text: &str| text.trim_matches('`').to_owned();
    let wanted = headers.map(|(name, meaning)| (name.to_owned(), cell(meaning))).into();
    agree(
        "docs/MESSAGES.md",
        "## Headers of a replayed message",
        "src/dead_letter/replay.rs",
        &wanted,
    );
}

#[test]
fn states_of_the_topology_check_are_documented() {
    let states = orderwright::broker::doctor::STATES;
    let wanted = states.map(|(name, meaning)| (name.to_owned(), meaning.to_owned())).into();
    agree("docs/OPERATIONS.md", "### What the check can say", "src/broker/doctor.rs", &wanted);
}

#[test]
fn log_fields_are_documented() {
    const SOURCE: &str = "src/telemetry.rs";
    let text = read(SOURCE);
    let mut wanted = BTreeMap::new();
    let mut doc = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = format!("{doc} {text}").trim().to_owned();
            continue;
        }
        if let Some((_, value)) = line.split_once(": &str = ") {
            let name = value.trim_matches(['"', ';']).to_owned();
            wanted.insert(name, doc.clone());
        }
        doc.clear();
    }
    assert!(wanted.len() > 10, "{SOURCE}: the fields are written in another way: {wanted:?}");
    agree("docs/TELEMETRY.md", "## Log fields", SOURCE, &wanted);
}

#[test]
fn instruments_are_documented() {
    use orderwright::telemetry::{instruments::INSTRUMENTS, metrics::prometheus_name};
    let attributes = |names: &[&str]| match names {
        [] => "-".to_owned(),
        names => names.join("`, `"),
    };
    let row = |it: &orderwright::telemetry::instruments::Instrument| {
        let of = attributes(it.attributes);
        let texts = [it.name, it.kind.as_str(), it.unit, &of, &prometheus_name(it), it.help];
        texts.map(str::to_owned).to_vec()
    };
    let wanted: Vec<_> = INSTRUMENTS.iter().map(row).collect();
    let written = table("docs/TELEMETRY.md", "## Metrics");
    for (written, wanted) in written.iter().zip(&wanted) {
        assert_eq!(written, wanted, "docs/TELEMETRY.md, left, must say what the table has, right");
    }
    assert_eq!(written.len(), wanted.len(), "docs/TELEMETRY.md must list every instrument");
}

#[test]
fn states_of_an_order_are_documented() {
    let states = orderwright::dispatch::Doing::ALL;
    let wanted = states.map(|it| (it.as_str().to_owned(), it.meaning().to_owned())).into();
    let heading = "### What is done for an order";
    agree("docs/TELEMETRY.md", heading, "src/dispatch/card.rs", &wanted);
}

#[test]
fn exit_codes_have_a_paragraph_each() {
    const DOCUMENT: &str = "docs/OPERATIONS.md";
    let source = read("src/app/exit.rs");
    let code = |line: &str| {
        let value = line.trim().strip_prefix("pub const ")?.split_once(": u8 = ")?.1;
        Some(value.trim_end_matches(';').to_owned())
    };
    let codes: BTreeSet<String> = source.lines().filter_map(code).collect();
    let text = read(DOCUMENT);
    let below = text.lines().skip_while(|line| *line != "## Exit codes").skip(1);
    let section: Vec<_> = below.take_while(|line| !line.starts_with("## ")).collect();
    let heading = |line: &&str| line.strip_prefix("### ")?.split(':').next().map(str::to_owned);
    let written: BTreeSet<String> = section.iter().filter_map(heading).collect();
    assert_eq!(
        written, codes,
        "{DOCUMENT}, left, must explain the codes of src/app/exit.rs, right"
    );
}

#[test]
fn counts_of_the_summary_are_documented() {
    let snapshot = orderwright::dispatch::Tally::default().snapshot();
    let value = serde_json::to_value(snapshot).unwrap();
    let wanted: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
    let written: BTreeSet<String> =
        pairs("docs/OPERATIONS.md", "## The summary at the end").into_keys().collect();
    assert_eq!(written, wanted, "docs/OPERATIONS.md, left, must list the counts, right");
}

#[test]
fn every_fault_of_the_simulator_has_a_test_that_bears_its_number() {
    use orderwright::simulator::catalogue::CATALOGUE;
    const FOLDER: &str = "tests/it/faults";
    // Strikes a change set, and the daemon sends none.
    const NOT_MET: &str = "f21_ok_in_failed_group";
    let mut tests: Vec<(String, String)> = Vec::new();
    let batches = "tests/it/batch.rs".to_owned();
    for file in rust(&[FOLDER]).into_iter().chain([batches]) {
        for part in read(&file).split("async fn ").skip(1) {
            let (name, body) = part.split_once('(').unwrap();
            tests.push((name.to_owned(), body.to_owned()));
        }
    }
    let mut findings = Vec::new();
    for (_, name, _) in CATALOGUE.iter().filter(|(_, name, _)| *name != NOT_MET) {
        let number: u32 = name[1..].split('_').next().unwrap().parse().unwrap();
        let prefix = format!("f{number:02}_");
        let is_met = |(test, body): &(String, String)| {
            test.starts_with(&prefix) && body.contains(&format!("\"{name}\""))
        };
        if !tests.iter().any(is_met) {
            findings.push(format!("{FOLDER}: no test {prefix}… lets {name} strike: write one"));
        }
    }
    tidy(&findings);
}

/// The fields that serde expects, as it says when it meets one that it does not.
fn fields<T: serde::de::DeserializeOwned>() -> BTreeSet<String> {
    let error = serde_json::from_str::<T>(r#"{"?":0}"#).err().unwrap().to_string();
    let expected = error.split("expected one of ").nth(1).unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn faults_profiles_switches_and_calls_of_the_simulator_are_documented() {
    use orderwright::simulator::{catalogue::CATALOGUE, profile::PROFILES};
    use orderwright::simulator::{switch::Switch, throttle::Limits};
    const DOCUMENT: &str = "docs/SIMULATOR.md";
    // As the cells of a table are read.
    let cell = |text: &str| text.trim_matches('`').to_owned();
    let faults = CATALOGUE.iter().map(|(_, name, meaning)| (cell(name), cell(meaning)));
    agree(DOCUMENT, "## Faults", "src/simulator/catalogue.rs", &faults.collect());

    let written = |heading| pairs(DOCUMENT, heading).into_keys().collect::<BTreeSet<_>>();
    let profiles: BTreeSet<_> = PROFILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(written("## Profiles"), profiles, "{DOCUMENT}, left, must list the profiles");
    assert_eq!(written("### Switches"), fields::<Switch>(), "{DOCUMENT}, left, must list these");
    assert_eq!(written("### Throttling"), fields::<Limits>(), "{DOCUMENT}, left, must list these");

    let source = read("src/simulator/admin.rs");
    let route = |line: &str| {
        let (method, rest) = line.trim().strip_prefix("(\"")?.split_once("\", [")?;
        let path: Vec<_> = rest.split(']').next()?.split(", ").collect();
        let segment = |it: &str| match it.strip_prefix('"') {
            Some(word) => word.trim_end_matches('"').to_owned(),
            None => format!("{{{it}}}"),
        };
        let path: Vec<_> = path.into_iter().map(segment).collect();
        Some(format!("{method} /sim/{}", path.join("/")))
    };
    let calls: BTreeSet<String> = source.lines().filter_map(route).collect();
    assert!(calls.len() > 10, "src/simulator/admin.rs: the calls are written in another way");
    assert_eq!(written("## Over HTTP"), calls, "{DOCUMENT}, left, must list the calls");
}

/// The anchor that a heading gets where Markdown is shown.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = |it: &char| it.is_alphanumeric() || " -_".contains(*it);
    heading.to_lowercase().chars().filter(kept).map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn every_alert_has_its_section_its_link_and_its_unit_test() {
    const RULES: &str = "deploy/observability/rules.yaml";
    const DOCUMENT: &str = "docs/OPERATIONS.md";
    let (rules, tests) = (read(RULES), read("deploy/observability/rules_test.yaml"));
    let text = read(DOCUMENT);
    let below = text.lines().skip_while(|line| *line != "## Alerts").skip(1);
    let section: Vec<_> = below.take_while(|line| !line.starts_with("## ")).collect();
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in section {
        match line.strip_prefix("### ") {
            Some(name) => sections.push((name, String::new())),
            None => sections.last_mut().into_iter().for_each(|(_, text)| *text += line),
        }
    }
    let mut findings = Vec::new();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 10, "{RULES}: the alerts are written in another way");
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        names.insert(name);
        let link = format!("runbook_url: {DOCUMENT}#{}", anchor(name));
        if !alert.lines().any(|line| line.trim() == link) {
            findings.push(format!("{RULES}: {name} lacks {link:?}"));
        }
        let fires = |test: &str| {
            test.lines().next() == Some(name)
                && test.contains("exp_alerts:\n          - exp_labels")
        };
        if !tests.split("- alertname: ").skip(1).any(fires) {
            findings.push(format!("{RULES}: no unit test lets {name} fire"));
        }
        let found = sections.iter().find(|(section, _)| *section == name);
        for part in ["*Meaning.*", "*First look.*", "*Fix.*"] {
            if !found.is_some_and(|(_, text)| text.contains(part)) {
                findings.push(format!("{DOCUMENT}: section {name} lacks {part}"));
            }
        }
    }
    for (name, _) in sections.iter().filter(|(name, _)| !names.contains(name)) {
        findings.push(format!("{DOCUMENT}: {RULES} has no alert {name}"));
    }
    tidy(&findings);
}
