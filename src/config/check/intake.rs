//! The rules of the queues that updates are taken from besides the shards.

use std::collections::BTreeSet;

use super::{Finding, finding};
use crate::config::{Settings, Topology};

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let Topology { intake, intake_unordered, .. } = &settings.topology;
    let mut findings = Vec::new();
    for (key, names) in
        [("topology.intake", intake), ("topology.intake_unordered", intake_unordered)]
    {
        let mut known = BTreeSet::new();
        if let Some(name) = names.iter().find(|name| !known.insert(*name)) {
            findings.push(finding(key, format!("{name} stands there twice")));
        }
    }
    if let Some(name) = intake.iter().find(|name| intake_unordered.contains(name)) {
        let rule = format!("{name} stands in both: its messages keep their order, or do not");
        let keys = vec!["topology.intake", "topology.intake_unordered"];
        findings.push(Finding { keys, rule });
    }
    findings
}
