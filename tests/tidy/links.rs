//! That links between the documents lead somewhere: to a file that is there, and to a heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::documents::{anchor, documents};
use crate::files::{ROOT, read, tidy};

/// The headings of a document as links name them. Of equal ones the second ends in `-1`.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fenced = false;
    let mut all = BTreeSet::new();
    for line in read(document).lines() {
        fenced ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if fenced || heading == line || !heading.starts_with(' ') {
            continue;
        }
        let name = anchor(heading.trim());
        let before = seen.entry(name.clone()).or_default();
        all.insert(if *before == 0 { name } else { format!("{name}-{before}") });
        *before += 1;
    }
    all
}

/// `docs/MESSAGES.md` for `../docs/MESSAGES.md` in `deploy/README.md`.
fn resolve(document: &str, link: &str) -> String {
    if link.is_empty() {
        return document.to_owned();
    }
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|it| *it != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading_that_are_there() {
    let mut findings = Vec::new();
    let mut looked_at = 0;
    for document in documents() {
        for (number, line) in read(&document).lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let file = resolve(&document, file);
                let place = format!("{document}:{}", number + 1);
                if !Path::new(ROOT).join(&file).exists() {
                    findings.push(format!("{place}: the link to {link} leads nowhere"));
                } else if !heading.is_empty() && !anchors(&file).contains(heading) {
                    findings.push(format!("{place}: {file} has no heading for #{heading}"));
                }
                looked_at += usize::from(!heading.is_empty());
            }
        }
    }
    assert!(looked_at > 10, "{looked_at} links to headings: they are written in another way");
    tidy(&findings);
}
