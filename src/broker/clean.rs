//! Whether the former holder of a shard has left a request on the wire.
//!
//! Who gives a shard back with nothing on the wire says so to the other pods, and names the first message
//! that goes back, with how often that one had been handed out before. The broker counts on, and hands that
//! message to the next holder first of all. So whoever is handed it with the next count knows that nobody had
//! the shard in between, though hints are lost, late, or overtake each other: another holder would have
//! raised the count, or settled the message, and then another one comes first.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How old a word may be when the shard's messages arrive. They come within moments, and a message that
/// is published once more, byte for byte, begins to count at nothing.
const WORD_AGE_MAX: Duration = Duration::from_millis(500);

/// How often the broker counts earlier deliveries of a message as failed (`x-delivery-count`; quorum
/// queues).
pub(super) fn delivery_count(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    match count {
        Some(AMQPValue::LongLongInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongInt(count)) => u64::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongUInt(count)) => u64::from(*count),
        Some(_) | None => 0,
    }
}

/// One handing out of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handing {
    /// Tells the message from its neighbours. Another build may compute another number: then nobody is
    /// believed.
    message: u64,
    /// How often it had been handed out before.
    count: u64,
}

impl Handing {
    pub(super) fn of(delivery: &lapin::message::Delivery) -> Self {
        let mut hasher = DefaultHasher::new();
        let id = delivery.properties.message_id().as_ref();
        id.map(lapin::types::ShortString::as_str).hash(&mut hasher);
        delivery.properties.timestamp().hash(&mut hasher);
        delivery.exchange.as_str().hash(&mut hasher);
        delivery.routing_key.as_str().hash(&mut hasher);
        delivery.data.hash(&mut hasher);
        Self { message: hasher.finish(), count: delivery_count(&delivery.properties) }
    }

    /// Whether nobody was handed the message between that time and this one.
    fn is_next_after(self, that: Self) -> bool {
        self.message == that.message && self.count == that.count + 1
    }
}

/// That nothing of a shard is on the wire any more, as its holder said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// The first message that went back.
    pub(super) first: Handing,
    /// When it was heard.
    pub(super) at: Instant,
}

/// What one lease inherits from the former holders of its shard.
#[derive(Debug)]
pub(super) struct Inheritance {
    word: watch::Receiver<Option<Word>>,
    handed: Mutex<Option<Handed>>,
}

/// Messages that somebody held before.
#[derive(Debug, Clone, Copy)]
struct Handed {
    first: Handing,
    since: Instant,
    last: Instant,
}

impl Handed {
    fn follows(&self, word: &Word) -> bool {
        self.first.is_next_after(word.first) && word.at + WORD_AGE_MAX >= self.since
    }
}

impl Inheritance {
    pub(super) fn new(word: watch::Receiver<Option<Word>>) -> Self {
        Self { word, handed: Mutex::default() }
    }

    /// Notes a message that somebody held before.
    pub(super) fn note(&self, handing: Handing, now: Instant) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        match handed.as_mut() {
            Some(handed) => handed.last = now,
            None => *handed = Some(Handed { first: handing, since: now, last: now }),
        }
    }

    fn handed(&self) -> Option<Handed> {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `window` after `arrived`, or for word that there is nothing to wait for.
    pub(super) async fn wait(&self, arrived: Instant, window: Duration) {
        let (mut word, handed) = (self.word.clone(), self.handed());
        let told = word.wait_for(
            |word| matches!((handed, word), (Some(handed), Some(word)) if handed.follows(word)),
        );
        tokio::select! { biased;
            () = sleep_until(arrived + window) => {}
            // A sender that is gone brings no word.
            Ok(_) = told => {}
        }
    }

    /// Whether a request of a former holder may still be at work: somebody held what came to us, nobody
    /// said that he had finished, and it is not long enough ago.
    pub(super) fn is_haunted(&self, now: Instant, window: Duration) -> bool {
        let Some(handed) = self.handed() else { return false };
        let is_told = self.word.borrow().is_some_and(|word| handed.follows(&word));
        !is_told && now < handed.last + window
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);

    fn handing(message: u64, count: u64) -> Handing {
        Handing { message, count }
    }

    fn said(first: Handing) -> Word {
        Word { first, at: Instant::now() }
    }

    /// A lease that was handed these messages, all at once, after this was said.
    fn heir(
        word: impl Into<Option<Word>>,
        handed: &[Handing],
    ) -> (watch::Sender<Option<Word>>, Inheritance) {
        let word = watch::Sender::new(word.into());
        let inheritance = Inheritance::new(word.subscribe());
        for handing in handed {
            inheritance.note(*handing, Instant::now());
        }
        (word, inheritance)
    }

    fn waits(heir: &Inheritance, arrived: Instant) -> bool {
        heir.wait(arrived, WINDOW).now_or_never().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn word_of_who_held_the_first_message_just_before_is_believed_for_all() {
        for count in [0, 1, 7] {
            let after = [handing(1, count + 1), handing(2, 1), handing(3, 4)];
            let (_word, heir) = heir(said(handing(1, count)), &after);
            assert!(!waits(&heir, Instant::now()));
            assert!(!heir.is_haunted(Instant::now(), WINDOW), "and so is ours");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn word_is_void_once_somebody_else_had_the_shard_whatever_became_of_the_messages() {
        let word = || said(handing(1, 0));
        // He held the first one, settled it and held the second, or held it while we did not look.
        for after in
            [handing(1, 2), handing(2, 2), handing(2, 1), handing(1, 0), handing(1, 1 << 40)]
        {
            let (_word, heir) = heir(word(), &[after, handing(1, 1)]);
            assert!(waits(&heir, Instant::now()), "{after:?}");
            assert!(heir.is_haunted(Instant::now(), WINDOW), "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn word_that_is_old_is_not_believed_and_one_that_comes_late_is() {
        let old = said(handing(1, 0));
        advance(WORD_AGE_MAX + Duration::from_millis(1)).await;
        let arrived = Instant::now();
        let (word, heir) = heir(old, &[handing(1, 1)]);
        assert!(waits(&heir, arrived));
        advance(Duration::from_secs(2)).await;
        word.send_replace(Some(said(handing(1, 0))));
        assert!(!waits(&heir, arrived));
        // Our own lease broke meanwhile.
        word.send_replace(None);
        assert!(waits(&heir, arrived));
    }

    #[tokio::test(start_paused = true)]
    async fn lease_is_haunted_until_the_window_of_the_last_message_is_over() {
        let (_word, heir) = heir(None, &[handing(1, 1)]);
        advance(Duration::from_secs(3)).await;
        heir.note(handing(2, 1), Instant::now());
        let last = Instant::now();
        advance(WINDOW.saturating_sub(Duration::from_millis(1))).await;
        assert!(heir.is_haunted(Instant::now(), WINDOW) && waits(&heir, last));
        advance(Duration::from_millis(1)).await;
        assert!(!heir.is_haunted(Instant::now(), WINDOW) && !waits(&heir, last));
        // What was never out has no former holder.
        let fresh = Inheritance::new(watch::Sender::new(None).subscribe());
        assert!(!fresh.is_haunted(Instant::now(), WINDOW));
    }
}
