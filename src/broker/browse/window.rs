//! How many messages each consumer of a look takes. Pure.

/// Consumers of one look. The broker gives the messages of several consumers back in the order in which
/// these subscribed, as long as they are no more than 32: beyond, its table of them has no order
/// (measured on 4.0.5).
const CONSUMERS_MAX: u64 = 30;

/// How much is sent ahead.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    /// Messages of the first consumer, before anything is known of their size.
    pub first: u16,
    /// Bytes of bodies that the later ones should have, by the sizes seen so far.
    pub bytes: u64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { first: 64, bytes: 8 * 1024 * 1024 }
    }
}

/// Prefetch of the next consumer.
pub(super) fn window(ahead: Ahead, mark: u64, seen: u64, seen_bytes: u64, begun: u64) -> u16 {
    let left = mark.saturating_sub(seen).max(1);
    let mean = seen_bytes.checked_div(seen).map(|mean| mean.max(1));
    let fits = mean.map_or(u64::from(ahead.first), |mean| (ahead.bytes / mean).max(1));
    // So that the consumers that are left suffice for what is left.
    let needed = left.div_ceil(CONSUMERS_MAX.saturating_sub(begun).max(1));
    let wanted = if begun == 0 { fits } else { fits.max(needed) };
    u16::try_from(wanted.min(left)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefetches until the mark is reached, for messages of one size.
    fn windows(ahead: Ahead, mark: u64, size: u64) -> Vec<u16> {
        let mut windows = Vec::new();
        let mut seen = 0;
        while seen < mark {
            let begun = u64::try_from(windows.len()).unwrap();
            let window = window(ahead, mark, seen, seen * size, begun);
            seen += u64::from(window);
            windows.push(window);
        }
        windows
    }

    #[test]
    fn small_queue_takes_one_consumer_and_no_more_than_it_holds() {
        assert_eq!(windows(Ahead::default(), 3, 400), [3]);
        assert_eq!(windows(Ahead::default(), 64, 400), [64]);
    }

    #[test]
    fn large_queue_takes_few_enough_consumers_to_return_in_order() {
        for (mark, size) in [(100_000, 400), (100_000, 60_000), (1_500_000, 300), (65, 1 << 24)] {
            let windows = windows(Ahead::default(), mark, size);
            assert!(windows.len() <= 30, "{mark} of {size}: {}", windows.len());
        }
    }

    #[test]
    fn what_is_sent_ahead_fits_the_bytes_while_consumers_suffice() {
        let windows = windows(Ahead::default(), 5_000, 40_000);
        let most = 8 * 1024 * 1024 / 40_000;
        assert!(windows.iter().all(|window| u64::from(*window) <= most), "{windows:?}");
    }
}
