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

/// Queues and reasons that one place in the code is told apart by; all others count together.
const SUBJECTS_MAX: usize = 8;

/// What a line is about, where it says that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Subject {
    queue: Option<String>,
    reason: Option<String>,
}

/// What was said about one thing since it was last told.
#[derive(Debug, Default)]
struct Count {
    subject: Subject,
    times: u64,
    said: String,
}

/// What one place in the code has said.
#[derive(Debug, Default)]
struct Place {
    known: Vec<Count>,
    others: Count,
}

impl Place {
    /// Where this is counted.
    fn count(&mut self, subject: Subject) -> &mut Count {
        let Self { known, others } = self;
        let at = known.iter().position(|count| count.subject == subject);
        if at.is_none() && known.len() < SUBJECTS_MAX {
            known.push(Count { subject, ..Count::default() });
            return known.last_mut().unwrap_or(others);
        }
        at.and_then(|at| known.get_mut(at)).unwrap_or(others)
    }
}

/// Counts warnings and errors by the place in the code that they come from, of which there are as many as
/// there are, and by what they are about.
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
        let mut line = Line::default();
        event.record(&mut line);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let count = places.entry(metadata.callsite()).or_default().count(line.subject);
        count.times += 1;
        if count.times == SHOWN_MAX + 1 {
            count.said = line.said;
        }
        count.times <= SHOWN_MAX
    }

    /// Says how often each was said that was not shown, and begins to count anew.
    pub(super) fn tell(&self) {
        let places =
            std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
        let counts = places.into_values().flat_map(|it| it.known.into_iter().chain([it.others]));
        for Count { subject, times, said } in counts.filter(|count| count.times > SHOWN_MAX) {
            tracing::warn!(
                { field::TIMES } = times - SHOWN_MAX,
                { field::SAID } = said,
                { field::QUEUE } = subject.queue,
                { field::REASON } = subject.reason,
                "said more often than is shown"
            );
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Line {
    subject: Subject,
    said: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = || format!("{value:?}").chars().take(SAID_MAX).collect::<String>();
        match field.name() {
            "message" => self.said = text(),
            field::QUEUE => self.subject.queue = Some(text()),
            field::REASON => self.subject.reason = Some(text()),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
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
            for number in 0..600 {
                let queue = format!("q{}", number % 20);
                tracing::warn!({ field::QUEUE } = %queue, "cannot subscribe");
            }
            flood.tell();
            flood.tell();
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(count("the broker is away"), 21, "20 and what they are counted by: {text}");
        assert_eq!((count("dead-lettered"), count("as usual")), (50, 50));
        assert_eq!(count("said more often than is shown times=30"), 1, "{text}");
        // Of 20 queues, 30 lines each: eight are told apart, the others counted together.
        assert_eq!(count(" cannot subscribe queue=q"), 9 * 20, "{text}");
        for queue in 0..8 {
            let told = format!("times=10 said=\"cannot subscribe\" queue=\"q{queue}\"");
            assert_eq!(count(&told), 1, "{told} in {text}");
        }
        assert_eq!(count("times=340 said=\"cannot subscribe\""), 1, "{text}");
    }
}
