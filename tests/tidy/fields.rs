//! That log lines bear no other fields than those that are documented.

use std::collections::BTreeMap;

use crate::files::{before_tests, is_tests, read, rust, tidy};

const SOURCE: &str = "src/telemetry.rs";

/// The constants of `field`, by their names in the code.
fn constants() -> BTreeMap<String, String> {
    let text = read(SOURCE);
    let constant = |line: &str| {
        let (name, value) = line.trim().strip_prefix("pub const ")?.split_once(": &str = ")?;
        Some((name.to_owned(), value.trim_matches(['"', ';']).to_owned()))
    };
    let constants: BTreeMap<_, _> = text.lines().filter_map(constant).collect();
    assert!(constants.len() > 10, "{SOURCE}: the fields are written in another way");
    constants
}

/// What stands between the parentheses of a macro, up to its message, split at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0_u32, vec![String::new()]);
    for it in text.chars() {
        match it {
            // The message: what follows is no field.
            '"' if depth == 0 && parts.last().is_some_and(|part| part.trim().is_empty()) => break,
            ')' | ']' | '}' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(it);
        }
    }
    let parts = parts.iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

/// The name of a field: what is before its value, or the variable that it is.
fn name(argument: &str, constants: &BTreeMap<String, String>) -> Result<String, String> {
    let before = argument.split('=').next().unwrap_or_default().trim();
    if let Some(constant) = before.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
        let constant = constant.trim().rsplit("::").next().unwrap_or_default();
        return constants.get(constant).cloned().ok_or_else(|| constant.to_owned());
    }
    Ok(before.trim_start_matches(['%', '?']).to_owned())
}

#[test]
fn log_lines_bear_documented_fields_alone() {
    let constants = constants();
    let (mut findings, mut seen) = (Vec::new(), 0);
    let is_daemons = |file: &&String| {
        !file.starts_with("src/simulator") && !file.starts_with("src/bin/") && !is_tests(file)
    };
    for file in rust(&["src"]).iter().filter(is_daemons) {
        let text = read(file);
        let text = before_tests(&text);
        for level in ["trace", "debug", "info", "warn", "error"] {
            for (at, begin) in text.match_indices(&format!("tracing::{level}!(")) {
                let line = text[..at].matches('\n').count() + 1;
                for argument in arguments(&text[at + begin.len()..]) {
                    if argument.starts_with("target:") || argument.starts_with("parent:") {
                        continue;
                    }
                    seen += 1;
                    let (Ok(name) | Err(name)) = name(&argument, &constants);
                    if !constants.values().any(|known| *known == name) {
                        findings.push(format!(
                            "{file}:{line}: the field {name} is in no document: give it a constant with a \
                             comment in {SOURCE}, and a row in docs/TELEMETRY.md, or use one that is there"
                        ));
                    }
                }
            }
        }
    }
    assert!(seen > 100, "the macros are written in another way: {seen} fields");
    tidy(&findings);
}
