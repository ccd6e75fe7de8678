//! What is guarded on the fetched order, and what goes together with that.

use super::{Finding, IDENTIFIER, finding, identifier};
use crate::config::{Coalesce, Settings, Superseded};

pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let (guard, key) = (&settings.guard, &settings.order.key);
    let property = guard.sequence_property.as_str();
    let mut findings = Vec::new();
    if !property.is_empty() && !identifier(property) {
        let rule = format!("must be empty, or {IDENTIFIER}");
        findings.push(finding("guard.sequence_property", rule));
    }
    if key.iter().any(|name| name == property) {
        let keys = vec!["guard.sequence_property", "order.key"];
        let rule = "the first must be none of the second: a key cannot be written".to_owned();
        findings.push(Finding { keys, rule });
    }
    // Our own stamp is none of the publisher's changes, and a key does not change.
    let may_change =
        |name: &str| identifier(name) && name != property && !key.iter().any(|key| key == name);
    let is_well = |way: Option<[&str; 3]>| way.is_some_and(|[name, ..]| may_change(name));
    if !guard.transitions().all(is_well) {
        let rule = "each must be PROPERTY: FROM -> TO, such as SalesStatus: Backorder -> \
                    Delivered, of a property that is neither part of the key nor the \
                    sequence_property";
        findings.push(finding("guard.transitions", rule));
    }
    let merges = match settings.dispatch.coalesce {
        Coalesce::Merge => true,
        Coalesce::Off => false,
    };
    if merges && settings.guard.superseded == Superseded::DeadLetter {
        let keys = vec!["dispatch.coalesce", "guard.superseded"];
        let rule = "cannot be merge and dead_letter at once: a pod that is lost right after a common \
                    write would have each of its updates but the last found superseded";
        findings.push(Finding { keys, rule: rule.to_owned() });
    }
    findings
}
