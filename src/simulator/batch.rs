//! A `$batch`: several requests in one, and what becomes of them.
//!
//! A change set is all or nothing: its members are judged first, and written only if none of them
//! is refused.

use std::sync::Arc;

use hyper::{HeaderMap, Method, Uri};
use jiff::Timestamp;

use super::answer::Visit;
use super::faults::{Fault, Spot};
use super::key::Key;
use super::multipart::{Writer, headers, pieces};
use super::reply::{Body, Outcome, Refusal, Reply, Spelling};
use super::request::{BATCH, Request, Session};
use super::world::World;

/// The requests of a `$batch`.
#[derive(Debug, Clone)]
pub struct Batch {
    items: Vec<Item>,
    /// Whether a refused request ends the batch or not.
    goes_on: bool,
}

#[derive(Debug, Clone)]
enum Item {
    One(Box<Part>),
    Group(Vec<Part>),
}

#[derive(Debug, Clone)]
struct Part {
    content_id: Option<String>,
    request: Request,
}

/// What the parts share with the whole.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) authorization: Option<&'a str>,
    pub(super) session: Option<&'a Session>,
    pub(super) writer: &'a Arc<str>,
    pub(super) goes_on: bool,
}

impl Batch {
    /// Reads a body.
    pub(super) fn read(
        body: &[u8],
        boundary: Option<&str>,
        whole: &Whole<'_>,
    ) -> Result<Self, &'static str> {
        let boundary = boundary.ok_or("A batch must be multipart/mixed with a boundary.")?;
        let mut items = Vec::new();
        for piece in pieces(body, boundary)? {
            items.push(match piece.boundary() {
                None => {
                    Item::One(Box::new(part(piece.header("content-id"), piece.content, whole)?))
                }
                Some(inner) => {
                    let members = pieces(piece.content, inner)?;
                    let each = members
                        .iter()
                        .map(|member| part(member.header("content-id"), member.content, whole));
                    Item::Group(each.collect::<Result<_, _>>()?)
                }
            });
        }
        Ok(Self { items, goes_on: whole.goes_on })
    }

    /// All requests in their order.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        let parts = self.items.iter().flat_map(|item| match item {
            Item::One(part) => std::slice::from_ref(&**part),
            Item::Group(parts) => parts,
        });
        parts.map(|part| &part.request)
    }
}

/// One request, as it stands in a part. Its URL may be relative to the service, absolute, or whole.
fn part(content_id: Option<&str>, content: &[u8], whole: &Whole<'_>) -> Result<Part, &'static str> {
    const BAD: &str = "A part of the batch is no HTTP request.";
    let end = content.iter().position(|byte| *byte == b'\n').map_or(content.len(), |at| at + 1);
    let (line, rest) = content.split_at(end);
    let line = std::str::from_utf8(line.trim_ascii()).map_err(|_| BAD)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BAD)?;
    let path = target.split_once("://").map_or(target, |(_, rest)| {
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
    });
    let relative = path.strip_prefix("/data/").unwrap_or(path);
    let uri: Uri = format!("/data/{relative}").parse().map_err(|_| BAD)?;
    let segment = uri.path().strip_prefix("/data/").ok_or(BAD)?.to_owned();
    // A batch in a batch could be so deep that reading it ends the program.
    if segment == BATCH {
        return Err(BAD);
    }
    let (headers, len): (HeaderMap, usize) = headers(rest)?;
    let body = rest.get(len..).unwrap_or_default();
    let mut request = Request::read(&method, &segment, &uri, &headers, whole.writer, body);
    request.authorization = whole.authorization.map(str::to_owned);
    request.session = whole.session.cloned().map(Box::new);
    Ok(Part { content_id: content_id.map(str::to_owned), request })
}

impl World {
    /// Carries a batch out, one request after the other.
    pub(super) fn batch(&mut self, batch: &Batch, visit: &mut Visit<'_>) -> Result<Reply, Refusal> {
        let manners = self.manners();
        if batch.requests().count() > manners.batch_parts_max {
            let status = manners.batch_too_long;
            return Err(Refusal::TooLong { status, max: manners.batch_parts_max });
        }
        let mut answers = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let answer = match item {
                Item::One(part) => Answered::One(part, self.part(&part.request, visit)),
                Item::Group(parts) => self.group(parts, visit),
            };
            let is_refused = answer.is_refused();
            answers.push(answer);
            if is_refused && !batch.goes_on {
                break;
            }
        }
        if visit.is_struck(&Fault::MissingParts {}) {
            answers.pop();
        }
        Ok(written(&answers, visit))
    }

    /// One request by itself. Of the faults only those strike it that need no connection.
    fn part(&mut self, request: &Request, visit: &mut Visit<'_>) -> Reply {
        let mut rng = visit.rng.fork();
        let fault = self.part_fault(request, visit.now, &mut rng);
        match self.struck(fault.as_ref(), request, &mut rng, visit.now) {
            Outcome::Reply(reply) => reply,
            // No fault of a part cuts anything.
            Outcome::Cut | Outcome::CutInBody(_) => Reply::empty(500),
        }
    }

    fn part_fault(
        &mut self,
        request: &Request,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<Fault> {
        let at = request.at()?;
        let order = request.target.as_ref().map(Key::to_string).unwrap_or_default();
        let fault = self.faults.choose(Spot { at, is_part: true, order: &order, now }, rng)?;
        self.ledger.strike(&fault);
        Some(fault)
    }

    /// A change set.
    fn group<'a>(&mut self, parts: &'a [Part], visit: &mut Visit<'_>) -> Answered<'a> {
        let mut judged = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            let same = |other: &Part| other.request.target == part.request.target;
            // The second write of one order would find the tag of the first.
            let is_twice = parts.iter().take(at).any(same);
            let fault = self.part_fault(&part.request, visit.now, visit.rng);
            if let Some(Fault::Status { status, message, retry_after, .. }) = &fault {
                let (message, retry_after) = (message.as_deref(), retry_after.clone());
                let reply = Reply::fault(self.manners(), *status, message, retry_after);
                return Answered::Failed { parts, at, reply };
            }
            if let Ok(key) = &part.request.target {
                let mut struck = Visit { fault: fault.as_ref(), rng: visit.rng, now: visit.now };
                self.outside_change(key, &mut struck);
            }
            let verdict = if is_twice {
                Err(Refusal::Conflict(Spelling::PreconditionFailed))
            } else {
                self.judged(&part.request, visit.rng)
            };
            match verdict {
                Ok(changes) => judged.push((part, changes, fault)),
                Err(refusal) => {
                    return Answered::Failed { parts, at, reply: self.refuse(refusal) };
                }
            }
        }
        let mut replies = Vec::with_capacity(judged.len());
        for (part, changes, fault) in judged {
            let mut struck = Visit { fault: fault.as_ref(), rng: visit.rng, now: visit.now };
            let wrote = match &part.request.target {
                Ok(key) => self.write(key, changes, &part.request, &mut struck),
                Err(error) => Err(Refusal::bad_key(error)),
            };
            replies.push((part, wrote.unwrap_or_else(|refusal| self.refuse(refusal))));
        }
        Answered::Group(replies)
    }
}

/// What became of one item.
#[derive(Debug)]
enum Answered<'a> {
    One(&'a Part, Reply),
    Group(Vec<(&'a Part, Reply)>),
    /// A change set that was not written, because of the member at this place.
    Failed {
        parts: &'a [Part],
        at: usize,
        reply: Reply,
    },
}

impl Answered<'_> {
    fn is_refused(&self) -> bool {
        match self {
            Self::One(_, reply) => reply.status >= 400,
            Self::Group(_) => false,
            Self::Failed { .. } => true,
        }
    }
}

/// The answers as one.
fn written(answers: &[Answered<'_>], visit: &mut Visit<'_>) -> Reply {
    let mut name = |kind: &str| format!("{kind}_{:032x}", visit.rng.u128(..));
    let mut writer = Writer::new(name("batchresponse"));
    let is_wrong = visit.fault == Some(&Fault::WrongContentId {});
    let is_lying = visit.fault == Some(&Fault::OkInFailedGroup {});
    let id = |part: &Part| if is_wrong { Some("1".to_owned()) } else { part.content_id.clone() };
    for answer in answers {
        match answer {
            Answered::One(part, reply) => writer.reply(id(part).as_deref(), reply),
            Answered::Group(members) => {
                let mut inner = Writer::new(name("changesetresponse"));
                for (part, reply) in members {
                    inner.reply(id(part).as_deref(), reply);
                }
                writer.nested(inner);
            }
            Answered::Failed { parts, at, reply } => {
                let mut inner = Writer::new(name("changesetresponse"));
                if is_lying {
                    for (place, part) in parts.iter().enumerate() {
                        let well = Reply::empty(204);
                        inner.reply(id(part).as_deref(), if place == *at { reply } else { &well });
                    }
                } else {
                    // Seen in a dump: one part for all, and always this id.
                    inner.reply(Some("1"), reply);
                }
                writer.nested(inner);
            }
        }
    }
    let boundary = writer.boundary.clone();
    let body = Body::Multipart { boundary, bytes: writer.finish() };
    Reply { body, ..Reply::empty(200) }
}
