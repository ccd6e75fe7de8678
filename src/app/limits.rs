//! The settings, in the words of the dispatch and of the protocol.

use crate::config::{self, BatchMode, Coalesce, Settings};
use crate::dispatch::{Allowance, Breaking, Limits, Throttling};
use crate::protocol::backoff::Retry;
use crate::protocol::guard::Transition;
use crate::protocol::{Guard, Rules, Superseded, Texts};

/// Losses of its holder from which on a message is worked on alone. Every message that was prefetched
/// counts when its pod goes, so a few deployments in a row must not be enough.
const LOSSES_SUSPECT: u64 = 8;

/// And at most this part of those that it may have: an innocent one is settled before the guilty one in every
/// second loss, so each that is left makes it twice as sure to survive.
const SUSPECT_PART: u64 = 3;

/// How much is done at once, and how often.
pub(super) fn limits(settings: &Settings) -> Limits {
    // Half of the broker's own limit: ours has a reason of its own, and says what it knows.
    let losses_max = u64::from(settings.topology.delivery_limit / 2);
    let retry = |retries: &config::Retries| Retry {
        retries_max: retries.retries_max,
        wait_min: retries.wait_min,
        wait_max: retries.wait_max,
    };
    let (throttle, breaker) = (&settings.throttle, &settings.breaker);
    // Where requests are gathered, only the gatherer knows how many there are.
    let (requests, window) = (throttle.quota_requests, throttle.quota_window);
    let quota = match settings.target.batch.mode {
        BatchMode::Off => Allowance::new(requests, window, throttle.quota_pods),
        BatchMode::On => None,
    };
    Limits {
        concurrency_max: settings.dispatch.concurrency_max,
        throttling: Throttling {
            told: [throttle.told_wait_min, throttle.told_wait_max],
            untold: [throttle.untold_wait_min, throttle.untold_wait_max],
            quota,
        },
        breaking: Breaking {
            orders_min: breaker.orders_min,
            silence_min: breaker.silence_min,
            probe_interval: breaker.probe_interval,
        },
        settle_window: settings.dispatch.settle_window,
        merged_bytes_max: match settings.dispatch.coalesce {
            Coalesce::Off => None,
            Coalesce::Merge => Some(settings.order.body_bytes_max),
        },
        losses_suspect: LOSSES_SUSPECT.min(losses_max / SUSPECT_PART),
        losses_max,
        rules: Rules {
            conflicts: retry(&settings.retry.conflicts),
            failures: retry(&settings.retry.failures),
            not_found: retry(&settings.retry.not_found.retries()),
            jitter: settings.retry.jitter,
            superseded: match settings.guard.superseded {
                config::Superseded::Settle => Superseded::Settle,
                config::Superseded::DeadLetter => Superseded::DeadLetter,
            },
        },
    }
}

/// What the service's error texts mean.
pub(super) fn texts(settings: &Settings) -> Texts {
    let answers = &settings.answers;
    Texts::new(
        &answers.update_conflict,
        &answers.deadlock,
        &answers.business_rule,
        &answers.wrong_address,
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_have_losses_left_to_be_told_apart_whatever_the_limit() {
        for (delivery_limit, suspect, max) in [(20, 3, 10), (48, 8, 24), (100, 8, 50)] {
            let mut settings = Settings::default();
            settings.topology.delivery_limit = delivery_limit;
            let limits = limits(&settings);
            assert_eq!((limits.losses_suspect, limits.losses_max), (suspect, max));
        }
    }
}
