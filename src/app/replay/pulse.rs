//! When it is told that no outcome comes, and when it is asked what became of those awaited.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is told that nothing comes, and asked about what does not come.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(5);

/// When something is told, and asked.
pub(super) struct Pulse {
    ask_after: Duration,
    told: Instant,
    asked: Instant,
    heard: Instant,
    /// No outcome comes, and asking helps: then it need not be waited for as long as otherwise.
    is_mute: bool,
}

impl Pulse {
    pub(super) fn new(ask_after: Duration) -> Self {
        let now = Instant::now();
        Self { ask_after, told: now, asked: now, heard: now, is_mute: false }
    }

    fn ask_every(&self) -> Duration {
        self.ask_after.min(TELL_EVERY)
    }

    pub(super) fn due(&self) -> Instant {
        (self.told + TELL_EVERY).min(self.asked + self.ask_every())
    }

    pub(super) fn heard(&mut self) {
        (self.heard, self.is_mute) = (Instant::now(), false);
    }

    pub(super) fn is_time_to_tell(&mut self) -> bool {
        let is_time = self.told.elapsed() >= TELL_EVERY;
        if is_time {
            self.told = Instant::now();
        }
        is_time
    }

    /// `waiting`: how long the first one is on its way.
    pub(super) fn is_time_to_ask(&mut self, waiting: Duration) -> bool {
        if self.asked.elapsed() < self.ask_every() {
            return false;
        }
        self.asked = Instant::now();
        let patience = if self.is_mute { self.ask_every() } else { self.ask_after };
        self.heard.elapsed().min(waiting) >= patience
    }

    pub(super) fn asked(&mut self, has_helped: bool) {
        self.is_mute |= has_helped;
        self.asked = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn asking_begins_after_a_silence_and_goes_on_in_short_steps_while_it_helps() {
        let mut pulse = Pulse::new(30 * SECOND);
        advance(29 * SECOND).await;
        assert!(!pulse.is_time_to_ask(29 * SECOND));
        advance(5 * SECOND).await;
        assert!(!pulse.is_time_to_ask(SECOND), "what was just sent is waited for");
        advance(5 * SECOND).await;
        assert!(pulse.is_time_to_ask(39 * SECOND));
        pulse.asked(true);
        advance(4 * SECOND).await;
        assert!(!pulse.is_time_to_ask(4 * SECOND));
        advance(SECOND).await;
        assert!(pulse.is_time_to_ask(5 * SECOND), "no notice comes, and asking helps");
        pulse.heard();
        advance(5 * SECOND).await;
        assert!(!pulse.is_time_to_ask(44 * SECOND), "one has come");
    }
}
