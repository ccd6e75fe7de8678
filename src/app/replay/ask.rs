//! Asks what became of letters whose outcome does not come: its notice may be lost with the daemon that was to send
//! it, or none is sent at all (`broker.notices_max`).
//!
//! ```text
//! it stands in the queue again ─────▶ dead-lettered
//! the order shows what it wants ────▶ already applied: should its message still wait, it changes nothing
//! the service does not answer ──────▶ ask again: all wait while it is down
//! none of these, for long enough ───▶ unknown: the letter stays, and the next replay finds out
//! ```

use jiff::Timestamp;
use tokio::time::Instant;

use super::Prospect;
use super::check::Behind;
use super::run::{Error, Told};
use super::under_way::UnderWay;
use crate::app::notice;

/// Letters that are asked about in one go.
const AT_ONCE: usize = 16;

impl<T: Fn(Told)> UnderWay<'_, T> {
    /// Asks about some of those that are on their way; about others the next time.
    pub(super) async fn ask_around(&mut self) -> Result<(), Error> {
        let turns = self.course.in_flight().min(AT_ONCE);
        let awaited: Vec<usize> =
            (0..turns).filter_map(|turn| self.course.awaited(self.asked + turn)).collect();
        self.asked = self.asked.wrapping_add(turns);
        for index in awaited {
            if !self.ask(index).await? {
                break;
            }
        }
        Ok(())
    }

    /// False where the service does not answer, so that it need not be asked about others.
    async fn ask(&mut self, index: usize) -> Result<bool, Error> {
        let Some(candidate) = self.candidates.get(index) else { return Ok(true) };
        let mut found = notice::Told {
            outcome: String::new(),
            reason: None,
            order: candidate.letter.order.clone(),
            message_id: None,
            dead_letter_id: None,
            replay_id: Some(self.run.replay.to_string()),
            etag: None,
            at: Timestamp::now(),
        };
        if let Some(again) = self.hold.again(candidate.letter.id) {
            "dead_lettered".clone_into(&mut found.outcome);
            found.reason = Some(again.reason);
            found.dead_letter_id = Some(again.id.to_string());
            self.heard(index, &found).await?;
            return Ok(true);
        }
        // The loop that hears outcomes waits for this one.
        if self.run.checker.left_alone_for().is_some() {
            return Ok(false);
        }
        let chain = self.chain_of(index).cloned();
        let behind = Behind { chain: chain.as_deref(), is_sure: !self.unsure.contains(&index) };
        let checked = self.run.checker.look_once(candidate, self.run.allowed, behind).await;
        match checked.prospect {
            Prospect::AlreadyApplied => {
                "already_applied".clone_into(&mut found.outcome);
                self.heard(index, &found).await?;
            }
            Prospect::Unknown => {
                self.not_yet.remove(&index);
                return Ok(false);
            }
            Prospect::WouldApply
            | Prospect::Superseded
            | Prospect::NeverSeen
            | Prospect::OrderMissing
            | Prospect::Refused
            | Prospect::Held => {
                let since = *self.not_yet.entry(index).or_insert_with(Instant::now);
                if since.elapsed() >= self.outcome_max {
                    self.give_up(index).await?;
                }
            }
        }
        Ok(true)
    }

    /// Nobody knows what became of it: it stays, and so does what is behind it.
    async fn give_up(&mut self, index: usize) -> Result<(), Error> {
        self.course.give_up(index);
        self.unknown(index).await
    }
}
