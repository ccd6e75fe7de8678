//! The settings, in the words of the dispatch and of the protocol.

use crate::config::{self, Settings};
use crate::dispatch::Limits;
use crate::protocol::backoff::Retry;
use crate::protocol::guard::Transition;
use crate::protocol::{Guard, Rules, Superseded};

/// Losses of its holder from which on a message is worked on alone. Every message that was prefetched
/// counts when its pod goes, so a few deployments in a row must not be enough.
const LOSSES_SUSPECT: u64 = 8;

/// How much is done at once, and how often.
pub(super) fn limits(settings: &Settings) -> Limits {
    // Half of the broker's own limit: ours has a reason of its own, and says what it knows.
    let losses_max = u64::from(settings.topology.delivery_limit / 2);
    let retry = |retries: &config::Retries| Retry {
        retries_max: retries.retries_max,
        wait_min: retries.wait_min,
        wait_max: retries.wait_max,
    };
    Limits {
        concurrency_max: settings.dispatch.concurrency_max,
        settle_window: settings.dispatch.settle_window,
        losses_suspect: LOSSES_SUSPECT,
        losses_max,
        rules: Rules {
            conflicts: retry(&settings.retry.conflicts),
            failures: retry(&settings.retry.failures),
            jitter: settings.retry.jitter,
            retry_after_max: settings.retry.retry_after_max,
            superseded: match settings.guard.superseded {
                config::Superseded::Settle => Superseded::Settle,
                config::Superseded::DeadLetter => Superseded::DeadLetter,
            },
        },
    }
}

/// What an update must not be written over.
pub(super) fn guard(settings: &Settings) -> Guard {
    let property = settings.guard.sequence_property.as_str();
    let transition = |[property, from, to]: config::Transition<'_>| Transition {
        property: property.into(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    Guard {
        sequence_property: (!property.is_empty()).then(|| property.into()),
        // What is not written as it must be has ended the start.
        transitions: settings.guard.transitions().flatten().map(transition).collect(),
    }
}
