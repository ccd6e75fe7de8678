//! A link to the broker that a test holds in its hand: it records what the client sends, and it can
//! be made mute in either direction, healed, and cut. What the broker sends can be changed, frame by
//! frame.
//!
//! A mute direction is what a cut cable is: bytes, and the ends of connections, get in and do not
//! come out. They are kept, as TCP itself keeps and repeats them, and arrive when the link is healed.
//! What the client says into a mute link is recorded all the same.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most bytes that a mute direction keeps for each connection. What is sent beyond waits in the
/// sockets.
const KEPT_MAX: usize = 1 << 20;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// A listener whose connections go on to one address. Dropping it cuts them all.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    _accepting: JoinSet<()>,
}

/// What all connections have in common.
#[derive(Debug)]
struct Link {
    upstream: String,
    to_broker: watch::Sender<bool>,
    to_client: watch::Sender<bool>,
    /// Cuts the connections that exist; replaced with each cut.
    cut: Mutex<CancellationToken>,
    recorded: watch::Sender<Vec<Vec<u8>>>,
    trap: Mutex<Option<Trap>>,
    tamper: Mutex<Option<Tamper>>,
}

/// Gets the number of the connection and a whole frame of the broker, and says what goes on instead:
/// nothing, the same, or more.
type Change = dyn FnMut(usize, &[u8]) -> Vec<u8> + Send;

/// A change, in a box that can be printed.
struct Tamper(Box<Change>);

/// Pauses a direction at the moment when one connection has sent what is looked for.
struct Trap(Way, Wanted);

/// Looks at all that one connection has sent so far.
type Wanted = Box<dyn Fn(&[u8]) -> bool + Send>;

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trap").field(&self.0).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tamper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tamper").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens before the broker with this URL.
    pub(crate) async fn before(url: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let link = Arc::new(Link {
            upstream: authority(url).to_owned(),
            to_broker: watch::Sender::new(true),
            to_client: watch::Sender::new(true),
            cut: Mutex::default(),
            recorded: watch::Sender::default(),
            trap: Mutex::default(),
            tamper: Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, link.clone()));
        Ok(Self { address, link, _accepting: accepting })
    }

    /// The broker's URL by way of this link.
    pub(crate) fn url(&self, of_broker: &str) -> String {
        of_broker.replacen(authority(of_broker), &self.address.to_string(), 1)
    }

    /// Lets nothing out in this direction, on connections that exist and on new ones.
    pub(crate) fn pause(&self, way: Way) {
        self.link.gate(way).send_replace(false);
    }

    /// Pauses this direction as soon as all that one connection has sent so far is as `wanted`, and
    /// before the last of it goes on.
    pub(crate) fn pause_when(&self, way: Way, wanted: impl Fn(&[u8]) -> bool + Send + 'static) {
        *lock(&self.link.trap) = Some(Trap(way, Box::new(wanted)));
    }

    /// Changes what the broker sends, on all connections, from now on.
    pub(crate) fn tamper(&self, with: impl FnMut(usize, &[u8]) -> Vec<u8> + Send + 'static) {
        *lock(&self.link.tamper) = Some(Tamper(Box::new(with)));
    }

    /// Lets everything out again, first of all what was kept.
    pub(crate) fn resume(&self, way: Way) {
        self.link.gate(way).send_replace(true);
    }

    /// Silence both ways, and no sign of it: a cable is cut.
    pub(crate) fn mute(&self) {
        self.pause(Way::ToBroker);
        self.pause(Way::ToClient);
    }

    /// Undoes [`Proxy::mute`].
    pub(crate) fn heal(&self) {
        self.resume(Way::ToBroker);
        self.resume(Way::ToClient);
    }

    /// Resets every connection there is, at both ends. New ones may come at once.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *lock(&self.link.cut)).cancel();
    }

    /// What the client has sent so far, for each connection in the order of their coming.
    pub(crate) fn recorded(&self) -> Vec<Vec<u8>> {
        self.link.recorded.borrow().clone()
    }

    /// Waits until what the client has sent is as `wanted`.
    pub(crate) async fn records(&self, wanted: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
        let mut recorded = self.link.recorded.subscribe();
        let found = recorded.wait_for(|recorded| wanted(recorded)).await;
        found.map(|recorded| recorded.clone()).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Link {
    fn gate(&self, way: Way) -> &watch::Sender<bool> {
        match way {
            Way::ToBroker => &self.to_broker,
            Way::ToClient => &self.to_client,
        }
    }

    fn record(&self, connection: usize, bytes: &[u8]) {
        let mut sprung = None;
        self.recorded.send_modify(|recorded| {
            let Some(record) = recorded.get_mut(connection) else { return };
            record.extend_from_slice(bytes);
            sprung = lock(&self.trap).take_if(|Trap(_, wanted)| wanted(record));
        });
        if let Some(Trap(way, _)) = sprung {
            self.gate(way).send_replace(false);
        }
    }

    /// What goes on in the place of this frame.
    fn tampered(&self, connection: usize, frame: &[u8]) -> Vec<u8> {
        match lock(&self.tamper).as_mut() {
            Some(Tamper(with)) => with(connection, frame),
            None => frame.to_vec(),
        }
    }
}

/// `host:port` of `amqp://user:password@host:port/vhost`.
fn authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let cut = lock(&link.cut).clone();
                    carried.spawn(carry(client, link.clone(), cut));
                }
                // Out of descriptors, or a client that is gone again: the next one may do better.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_ended) = carried.join_next() => {}
        }
    }
}

/// One connection, until both its directions have ended or it is cut.
async fn carry(client: TcpStream, link: Arc<Link>, cut: CancellationToken) {
    // A new connection does not come about over a mute link either, as far as the broker can see.
    let mut open = link.to_broker.subscribe();
    let reached = async {
        opened(&mut open).await;
        TcpStream::connect(&link.upstream).await
    };
    let broker = tokio::select! { biased;
        () = cut.cancelled() => return reset(&client),
        broker = reached => match broker {
            Ok(broker) => broker,
            Err(_refused) => return reset(&client),
        },
    };
    let number = {
        let mut number = 0;
        link.recorded.send_modify(|recorded| {
            number = recorded.len();
            recorded.push(Vec::new());
        });
        number
    };
    let record = |bytes: &[u8]| {
        link.record(number, bytes);
        bytes.to_vec()
    };
    let mut arrived = Vec::new();
    let frames = |bytes: &[u8]| {
        arrived.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while let Some(length) = frame_length(&arrived) {
            let frame: Vec<_> = arrived.drain(..length).collect();
            passed.extend(link.tampered(number, &frame));
        }
        passed
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let there = pump(&mut from_client, &mut to_broker, link.to_broker.subscribe(), record);
    let back = pump(&mut from_broker, &mut to_client, link.to_client.subscribe(), frames);
    let ended = async { tokio::join!(there, back) };
    tokio::select! { biased;
        () = cut.cancelled() => {}
        _both = ended => return,
    }
    // The halves share their sockets: the loss is told to both ends when the last of each is gone.
    reset(from_client.as_ref());
    reset(from_broker.as_ref());
}

/// The length of the first frame, with its head of seven octets and the one behind it, if it has
/// arrived in full (AMQP 0-9-1, section 4.2.3). A broker sends nothing but frames.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let (head, _) = bytes.split_first_chunk::<7>()?;
    let [_, _, _, size @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(size)).ok()?.checked_add(8)?;
    (bytes.len() >= length).then_some(length)
}

/// Makes the end of this socket a reset: what is on its way is lost, as with a crash.
fn reset(socket: &TcpStream) {
    let _gone = socket.set_zero_linger();
}

/// Carries bytes one way until they end.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
    mut pass: impl FnMut(&[u8]) -> Vec<u8>,
) {
    let mut kept = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut ended = false;
    while !ended || !kept.is_empty() {
        let (head, _) = kept.as_slices();
        // Both branches may be dropped half-way: neither a read nor a single write has begun then.
        let step = tokio::select! {
            read = from.read(&mut buffer), if !ended && kept.len() < KEPT_MAX => Step::Read(read),
            written = write(to, head, &mut open), if !kept.is_empty() => Step::Written(written),
        };
        match step {
            Step::Read(Ok(read)) if read > 0 => {
                let bytes = buffer.get(..read).unwrap_or_default();
                kept.extend(pass(bytes));
            }
            // A reset ends a direction as its orderly end does.
            Step::Read(_) => ended = true,
            Step::Written(Ok(written)) => drop(kept.drain(..written)),
            // Nobody takes it any more. What is still said is recorded all the same.
            Step::Written(Err(_)) => kept.clear(),
        }
    }
    opened(&mut open).await;
    let _gone = to.shutdown().await;
}

enum Step {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
}

async fn write(
    to: &mut OwnedWriteHalf,
    bytes: &[u8],
    open: &mut watch::Receiver<bool>,
) -> io::Result<usize> {
    opened(open).await;
    to.write(bytes).await
}

/// Waits until this direction lets bytes out. If the link is gone, its end comes otherwise.
async fn opened(open: &mut watch::Receiver<bool>) {
    drop(open.wait_for(|open| *open).await);
}
