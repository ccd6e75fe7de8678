//! Shows a failure a few times, and then how often it came.
//!
//! A broker that is away is one fact and a thousand lines. What names an order is shown always: each is a
//! fact of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::field;

/// Lines of one place in the code that are shown before their number is.
const SHOWN_MAX: u64 = 20;

/// Characters of a line that stand for those that are not shown.
const SAID_MAX: usize = 200;

/// What one place in the code has said since it was last told.
#[derive(Debug, Default)]
struct Place {
    times: u64,
    said: String,
}

/// Counts warnings and errors by the place in the code that they come from: as many as there are.
#[derive(Debug, Default)]
pub(super) struct Flood {
    places: Mutex<HashMap<tracing::callsite::Identifier, Place>>,
}

impl Flood {
    /// Whether one more is shown.
    fn shows(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.fields().field(field::ORDER).is_some() {
            return true;
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_default();
        place.times += 1;
        if place.times == SHOWN_MAX + 1 {
            let mut said = Said(String::new());
            event.record(&mut said);
            place.said = said.0;
        }
        place.times <= SHOWN_MAX
    }

    /// Says how often each was said that was not shown, and begins to count anew.
    pub(super) fn tell(&self) {
        let places =
            std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
        for place in places.into_values().filter(|place| place.times > SHOWN_MAX) {
            tracing::warn!(
                { field::TIMES } = place.times - SHOWN_MAX,
                { field::SAID } = place.said,
                "said more often than is shown"
            );
        }
    }
}

/// The message of an event.
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}").chars().take(SAID_MAX).collect();
        }
    }
}

/// Hands a layer what is shown. No filter: the one of the library that sees events forgets to be asked
/// anew for the next one.
pub(super) struct Damped<L> {
    pub(super) flood: Arc<Flood>,
    pub(super) inner: L,
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Damped<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.flood.shows(event) {
            self.inner.on_event(event, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A log that a test can read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn flood_of_one_failure_is_shown_a_few_times_and_then_counted() {
        let (flood, written) = (Arc::new(Flood::default()), Written::default());
        let writer = written.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let layer = Damped { flood: flood.clone(), inner: layer };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for order in 0..50 {
                tracing::warn!("the broker is away");
                tracing::warn!({ field::ORDER } = order, "dead-lettered");
                tracing::info!("as usual");
            }
            flood.tell();
            flood.tell();
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(count("the broker is away"), 21, "20 and what they are counted by: {text}");
        assert_eq!((count("dead-lettered"), count("as usual")), (50, 50));
        assert_eq!(count("said more often than is shown times=30"), 1, "{text}");
    }
}
