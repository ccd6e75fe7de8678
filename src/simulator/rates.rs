//! What goes wrong by a rate alone: the outside actor, the overloaded gateway, the bad network.

use serde::{Deserialize, Serialize};

use super::catalogue::At;
use super::faults::{Error, Fault};
use super::reply::Spelling;

/// Shares of requests that something goes wrong with, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// PATCHes before which an outside actor changes the order, so that the ETag is stale.
    pub conflict_rate: f64,
    /// Conflicts that are answered 409 instead of 412.
    pub conflict_as_409: f64,
    /// Conflicts that are answered 400 with the update-conflict text instead of 412.
    pub conflict_as_text: f64,
    /// Requests that are answered 503 with a page, and not carried out.
    pub error_rate: f64,
    /// Requests whose connection is cut. Of the PATCHes, half have been applied by then.
    pub reset_rate: f64,
}

impl Rates {
    /// Refuses what is no share. The two spellings of a conflict share one whole.
    pub fn check(&self) -> Result<(), Error> {
        let spelled = self.conflict_as_409 + self.conflict_as_text;
        for (name, value) in [
            ("conflict_rate", self.conflict_rate),
            ("conflict_as_409", self.conflict_as_409),
            ("conflict_as_text", self.conflict_as_text),
            ("conflict_as_409 plus conflict_as_text", spelled),
            ("error_rate", self.error_rate),
            ("reset_rate", self.reset_rate),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Share { name, value });
            }
        }
        Ok(())
    }

    /// How a conflict is said this time.
    pub fn spelling(&self, rng: &mut fastrand::Rng) -> Spelling {
        let drawn = rng.f64();
        if drawn < self.conflict_as_409 {
            Spelling::Conflict
        } else if drawn < self.conflict_as_409 + self.conflict_as_text {
            Spelling::Text
        } else {
            Spelling::PreconditionFailed
        }
    }

    /// One draw per rate, whatever the others say, so that raising one rate moves no other. The
    /// outside actor strikes the parts of a batch, all else the batch as a whole.
    pub(super) fn draw(&self, at: At, is_part: bool, rng: &mut fastrand::Rng) -> Option<Fault> {
        let (reset, error, conflict) = (rng.f64(), rng.f64(), rng.f64());
        let applied = rng.bool();
        let drawn = match at {
            At::Patch | At::Batch if reset < self.reset_rate && applied => {
                Some(Fault::LostReply {})
            }
            At::Get | At::Patch | At::Batch if reset < self.reset_rate => Some(Fault::Cut {}),
            At::Get | At::Patch | At::Batch if error < self.error_rate => {
                Some(Fault::unavailable())
            }
            At::Get | At::Patch | At::Batch | At::Token => None,
        };
        let is_stale = at == At::Patch && conflict < self.conflict_rate;
        drawn.filter(|_| !is_part).or_else(|| is_stale.then_some(Fault::Conflict {}))
    }
}
