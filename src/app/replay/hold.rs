//! The letters of a replay as the broker holds them for us.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use lapin::{BasicProperties, Connection};
use uuid::Uuid;

use super::Candidate;
use crate::broker::{Ahead, Browser, Error, Ticket, Topology};
use crate::dead_letter::{Found, Letter};

/// A look, and the rights to take its letters away.
#[derive(Debug)]
pub struct Hold {
    /// Absent only while one look ends and the next begins.
    browser: Option<Browser>,
    tickets: Vec<Option<Ticket>>,
    /// The replay whose letters are looked out for, and those that died again, by what they were before.
    watched: Option<(Uuid, Returned)>,
}

/// Letters that died again.
type Returned = Arc<Mutex<BTreeMap<Uuid, Again>>>;

/// A letter that died again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    pub(super) id: Uuid,
    pub(super) reason: String,
}

/// Notes a letter of this replay. There are no more of them than were sent.
fn note(returned: &Returned, replay: Uuid, letter: &Letter) {
    if let (true, Some(of)) = (letter.replays.replay_id == Some(replay), letter.replays.replay_of) {
        let again = Again { id: letter.id, reason: letter.reason.clone() };
        returned.lock().unwrap_or_else(PoisonError::into_inner).insert(of, again);
    }
}

fn of_headers(properties: &BasicProperties) -> Letter {
    Letter::read(Found { properties, exchange: "", routing_key: "", body: &[] })
}

impl Hold {
    /// `tickets` are in the order of the candidates.
    #[must_use]
    pub fn new(browser: Browser, tickets: impl IntoIterator<Item = Ticket>) -> Self {
        let tickets = tickets.into_iter().map(Some).collect();
        Self { browser: Some(browser), tickets, watched: None }
    }

    /// From now on, letters that come in and are of this replay are noted: the daemon that was to tell of them
    /// may be gone.
    pub(super) async fn watch(&mut self, replay: Uuid) -> Result<(), Error> {
        let (_, returned) = self.watched.get_or_insert_with(|| (replay, Returned::default()));
        let returned = returned.clone();
        match &mut self.browser {
            Some(browser) => {
                browser.watch(move |it| note(&returned, replay, &of_headers(it))).await
            }
            None => Ok(()),
        }
    }

    /// What this letter became, if it came back.
    pub(super) fn again(&self, letter: Uuid) -> Option<Again> {
        let (_, returned) = self.watched.as_ref()?;
        returned.lock().unwrap_or_else(PoisonError::into_inner).get(&letter).cloned()
    }

    /// Whether this letter is in the queue, and ours to take away.
    pub(super) fn has(&self, index: usize) -> bool {
        self.tickets.get(index).is_some_and(Option::is_some)
    }

    /// Takes a letter out of the queue. One that is not ours any more is gone already.
    pub(super) async fn ack(&mut self, index: usize) -> Result<(), Error> {
        let ticket = self.tickets.get_mut(index).and_then(Option::take);
        match (&mut self.browser, ticket) {
            (Some(browser), Some(ticket)) => browser.ack(ticket).await,
            (_, _) => Ok(()),
        }
    }

    /// Gives everything back and takes it anew: the broker would take it from us.
    pub(super) async fn renew(
        &mut self,
        connection: &Connection,
        topology: &Topology,
        candidates: &[Candidate],
    ) -> Result<(), Error> {
        let mut wanted: HashMap<Uuid, VecDeque<usize>> = HashMap::new();
        for (index, ticket) in self.tickets.iter_mut().enumerate() {
            if let (Some(_), Some(candidate)) = (ticket.take(), candidates.get(index)) {
                wanted.entry(candidate.letter.id).or_default().push_back(index);
            }
        }
        if let Some(browser) = self.browser.take() {
            browser.close().await?;
        }
        let queue = topology.dead_letters();
        let opened = Browser::open(connection, topology, &queue, Ahead::default()).await?;
        let browser = self.browser.insert(opened);
        while let Some(held) = browser.next().await? {
            let found = Found {
                properties: &held.properties,
                exchange: held.exchange.as_str(),
                routing_key: held.routing_key.as_str(),
                body: &held.body,
            };
            let letter = Letter::read(found);
            if let Some((replay, returned)) = &self.watched {
                note(returned, *replay, &letter);
            }
            let indices = wanted.get_mut(&letter.id);
            if let Some(index) = indices.and_then(VecDeque::pop_front)
                && let Some(ticket) = self.tickets.get_mut(index)
            {
                *ticket = Some(held.receipt);
            }
        }
        match self.watched.as_ref().map(|(replay, _)| *replay) {
            Some(replay) => self.watch(replay).await,
            None => Ok(()),
        }
    }

    /// Gives back what is left, in its order.
    ///
    /// # Errors
    /// As [`Browser::close`].
    pub async fn close(mut self) -> Result<(), Error> {
        match self.browser.take() {
            Some(browser) => browser.close().await,
            None => Ok(()),
        }
    }
}
