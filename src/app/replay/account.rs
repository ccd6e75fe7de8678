//! Of every letter the journal says what came of it, also of those that were not sent.

use super::Candidate;
use super::run::{Error, Told};
use super::under_way::UnderWay;
use crate::dead_letter::journal::{Event, NAMED_MAX, Named};
use crate::dead_letter::{End, Fate};

impl<T: Fn(Told)> UnderWay<'_, T> {
    /// Writes down what is not written down yet: of every letter it must be known what came of it.
    pub(super) async fn account(&mut self, end: End) -> Result<(), Error> {
        let (mut behind, mut waiting) = (Vec::new(), Vec::new());
        for (index, Candidate { letter, .. }) in self.candidates.iter().enumerate() {
            if self.noted.contains(&index) {
                continue;
            }
            let named = Named { letter: letter.id.to_string(), order: letter.order.clone() };
            match self.course.fates().get(&index) {
                Some(Fate::Unknown) => self.unknown(index).await?,
                Some(
                    Fate::Left
                    | Fate::Applied
                    | Fate::AlreadyApplied
                    | Fate::Superseded
                    | Fate::Failed,
                ) => behind.push(named),
                None => waiting.push(named),
            }
        }
        let why = "a letter of its order before it was not written";
        self.unsent(behind, why.to_owned()).await?;
        let end = serde_json::json!(end);
        let why = format!("not begun: {}", end.as_str().unwrap_or_default());
        self.unsent(waiting, why).await
    }

    async fn unsent(&self, letters: Vec<Named>, why: String) -> Result<(), Error> {
        for letters in letters.chunks(NAMED_MAX) {
            let (replay, letters, why) = (self.run.replay, letters.to_vec(), why.clone());
            self.run.note(Event::Unsent { replay, letters, why }).await?;
        }
        Ok(())
    }

    /// Writes down that the outcome of a letter is not known.
    pub(super) async fn unknown(&mut self, index: usize) -> Result<(), Error> {
        let Some(candidate) = self.candidates.get(index) else { return Ok(()) };
        if !self.noted.insert(index) {
            return Ok(());
        }
        let letter = &candidate.letter;
        self.run
            .note(Event::Replayed {
                replay: self.run.replay,
                letter: letter.id.to_string(),
                order: letter.order.clone(),
                outcome: "unknown".to_owned(),
                reason: None,
                new_letter: None,
                etag: None,
            })
            .await?;
        (self.tell)(Told::Fate(letter.id, Fate::Unknown));
        Ok(())
    }
}
