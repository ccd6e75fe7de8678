//! What a client has sent, read as AMQP 0-9-1: frames, and the life of each channel that consumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a client opens with (section 4.2.2 of the specification).
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// The octet behind each frame (section 4.2.3).
const FRAME_END: u8 = 0xCE;
/// The frame type of a method.
const METHOD: u8 = 1;

/// A method: class and number in its class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Method(pub(crate) u16, pub(crate) u16);

pub(crate) const CONNECTION_CLOSE: Method = Method(10, 50);
pub(crate) const CHANNEL_OPEN: Method = Method(20, 10);
pub(crate) const CHANNEL_OPEN_OK: Method = Method(20, 11);
pub(crate) const CHANNEL_CLOSE: Method = Method(20, 40);
pub(crate) const CHANNEL_CLOSE_OK: Method = Method(20, 41);
pub(crate) const BASIC_QOS: Method = Method(60, 10);
pub(crate) const BASIC_CONSUME: Method = Method(60, 20);
pub(crate) const BASIC_CANCEL: Method = Method(60, 30);
pub(crate) const BASIC_DELIVER: Method = Method(60, 60);
pub(crate) const BASIC_ACK: Method = Method(60, 80);
pub(crate) const BASIC_REJECT: Method = Method(60, 90);
pub(crate) const BASIC_RECOVER_ASYNC: Method = Method(60, 100);
pub(crate) const BASIC_RECOVER: Method = Method(60, 110);
pub(crate) const BASIC_NACK: Method = Method(60, 120);

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            CONNECTION_CLOSE => "connection.close",
            CHANNEL_OPEN => "channel.open",
            CHANNEL_CLOSE => "channel.close",
            BASIC_QOS => "basic.qos",
            BASIC_CONSUME => "basic.consume",
            BASIC_CANCEL => "basic.cancel",
            CHANNEL_OPEN_OK => "channel.open-ok",
            CHANNEL_CLOSE_OK => "channel.close-ok",
            BASIC_DELIVER => "basic.deliver",
            BASIC_ACK => "basic.ack",
            BASIC_REJECT => "basic.reject",
            BASIC_RECOVER_ASYNC => "basic.recover-async",
            BASIC_RECOVER => "basic.recover",
            BASIC_NACK => "basic.nack",
            Self(class, method) => return write!(f, "({class}, {method})"),
        };
        f.write_str(name)
    }
}

/// A frame that holds a method.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) method: Method,
    pub(crate) arguments: Vec<u8>,
}

impl Frame {
    /// One whole frame, if it holds a method.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let payload = &frame[7..frame.len() - 1];
        (frame[0] == METHOD).then(|| Self {
            channel: channel_of(frame),
            method: Method(number(payload, 0), number(payload, 2)),
            arguments: payload[4..].to_vec(),
        })
    }

    /// Whether it hands over an update that was published to the entry exchange.
    pub(crate) fn delivers_an_update(&self) -> bool {
        let published = self.arguments.windows(8).any(|window| window == b".updates");
        self.method == BASIC_DELIVER && published
    }

    /// The first argument, where that is a short text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.arguments[1..=usize::from(self.arguments[0])]
    }
}

/// The channel that a frame belongs to.
pub(crate) fn channel_of(frame: &[u8]) -> u16 {
    number(frame, 1)
}

/// The frame by which a broker ends a subscription, and awaits no answer.
pub(crate) fn cancel(channel: u16, tag: &[u8]) -> Vec<u8> {
    let Method(class, method) = BASIC_CANCEL;
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    payload.push(u8::try_from(tag.len()).unwrap());
    payload.extend([tag, &[1]].concat());
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[METHOD], &channel.to_be_bytes()[..], &size, &payload, &[FRAME_END]].concat()
}

/// The methods among the frames of one connection, in the order sent. A frame that has not arrived
/// in full yet is left out; anything that is not AMQP fails the test.
pub(crate) fn methods(sent: &[u8]) -> Vec<Frame> {
    if sent.is_empty() {
        return Vec::new();
    }
    let mut rest = sent.strip_prefix(PROTOCOL_HEADER).expect("it begins with AMQP's header");
    let mut frames = Vec::new();
    while let Some((head, body)) = rest.split_first_chunk::<7>() {
        let size = usize::try_from(u32::from_be_bytes(head[3..].try_into().unwrap())).unwrap();
        let Some((payload, after)) = body.split_at_checked(size) else { break };
        let Some((end, after)) = after.split_first() else { break };
        assert_eq!(*end, FRAME_END, "behind frame {} of {size} bytes", frames.len());
        if head[0] == METHOD {
            let method = Method(number(payload, 0), number(payload, 2));
            let arguments = payload[4..].to_vec();
            frames.push(Frame { channel: number(head, 1), method, arguments });
        }
        rest = after;
    }
    frames
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// One life of a channel that consumes: everything sent on it, up to its number's next use.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Which connection, by the order of their coming.
    pub(crate) connection: usize,
    /// The queue consumed from.
    pub(crate) queue: String,
    pub(crate) sent: Vec<Method>,
    /// The deliveries that it has acked, by their tags, which count from 1.
    acked: BTreeSet<u64>,
}

impl Lease {
    /// How many deliveries were acked.
    pub(crate) fn acks(&self) -> usize {
        self.acked.len()
    }

    /// Reads an ack: a delivery tag, and a bit that settles all earlier ones as well.
    fn ack(&mut self, arguments: &[u8]) {
        let (tag, bits) = arguments.split_first_chunk().expect("a tag");
        let (tag, before) = (u64::from_be_bytes(*tag), self.acked.len());
        assert_eq!(bits.len(), 1);
        self.acked.extend(if bits[0] & 1 == 1 { 1..=tag } else { tag..=tag });
        assert!(self.acked.len() > before, "{tag} is acked twice: {self:?}");
    }

    /// The broker closed the channel over the subscription, as where the queue does not exist.
    pub(crate) fn is_refused(&self) -> bool {
        self.sent.last() == Some(&CHANNEL_CLOSE_OK)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sent.last() == Some(&CHANNEL_CLOSE)
    }
}

/// All leases, in the order of their beginning on each connection.
pub(crate) fn leases(recorded: &[Vec<u8>]) -> Vec<Lease> {
    let mut leases = Vec::new();
    for (connection, sent) in recorded.iter().enumerate() {
        let mut lives: Vec<Lease> = Vec::new();
        let mut living: BTreeMap<u16, usize> = BTreeMap::new();
        for Frame { channel, method, arguments } in methods(sent) {
            if method == CHANNEL_OPEN {
                living.insert(channel, lives.len());
                let (queue, sent, acked) = (String::new(), Vec::new(), BTreeSet::new());
                lives.push(Lease { connection, queue, sent, acked });
            }
            // Channel 0 is the connection itself.
            let Some(life) = living.get(&channel).and_then(|life| lives.get_mut(*life)) else {
                assert_eq!(channel, 0, "{method:?} on a channel that is not open");
                continue;
            };
            if method == BASIC_CONSUME {
                life.queue = queue(&arguments);
            }
            if method == BASIC_ACK {
                life.ack(&arguments);
            }
            life.sent.push(method);
        }
        leases.extend(lives.into_iter().filter(|life| life.sent.contains(&BASIC_CONSUME)));
    }
    leases
}

/// The queue of a `basic.consume`: behind a reserved number, a length and so many bytes.
fn queue(arguments: &[u8]) -> String {
    let length = usize::from(arguments[2]);
    String::from_utf8(arguments[3..3 + length].to_vec()).unwrap()
}

#[test]
fn frames_are_read_up_to_the_one_that_has_not_arrived() {
    let mut sent = PROTOCOL_HEADER.to_vec();
    // A heartbeat, channel.open on channel 3, and a basic.cancel whose last octet is missing.
    sent.extend([8, 0, 0, 0, 0, 0, 0, FRAME_END]);
    sent.extend([1, 0, 3, 0, 0, 0, 5, 0, 20, 0, 10, 0, FRAME_END]);
    sent.extend([1, 0, 3, 0, 0, 0, 6, 0, 60, 0, 30, 0, 0]);
    let read = |sent: &[u8]| {
        let frames = methods(sent).into_iter();
        frames.map(|frame| (frame.channel, frame.method)).collect::<Vec<_>>()
    };
    assert_eq!(read(&sent), [(3, CHANNEL_OPEN)]);
    sent.push(FRAME_END);
    assert_eq!(read(&sent), [(3, CHANNEL_OPEN), (3, BASIC_CANCEL)]);
}
