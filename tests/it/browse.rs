//! Looking at a queue takes nothing out of it and moves nothing in it, however the look ends.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection};
use orderwright::broker::{self as edge, Ahead, Browser, Error, Link, Topology};
use orderwright::config;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::{PATIENCE, orderwright};
use crate::proxy::Proxy;
use crate::stage::{Raw, Stage};

/// So small that a few thousand letters take as many consumers as any number does.
const SMALL: Ahead = Ahead { first: 7, bytes: 10 };

/// A queue of dead letters, by numbers.
pub(crate) struct Queue {
    pub(crate) stage: Stage,
    pub(crate) raw: Raw,
    topology: Topology,
}

impl Queue {
    pub(crate) async fn with(name: &str, letters: u32) -> Self {
        let stage = Stage::new(name, &[]).await;
        let settings = stage.settings(&[]).await;
        let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
        assert!(declared.status.success(), "{declared:?}");
        let topology = Topology::new(&config::Topology {
            prefix: stage.prefix().to_owned(),
            ..config::Topology::default()
        });
        let raw = stage.channel().await;
        let queue = Self { stage, raw, topology };
        queue.add(0..letters).await;
        queue
    }

    pub(crate) async fn add(&self, numbers: std::ops::Range<u32>) {
        let queue = self.topology.dead_letters();
        let mut confirms = Vec::new();
        for number in numbers {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let (options, body) = (BasicPublishOptions::default(), number.to_string());
            let key = queue.as_str().into();
            let sent = self.raw.channel.basic_publish(
                "".into(),
                key,
                options,
                body.as_bytes(),
                properties,
            );
            confirms.push(sent.await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_ack());
        }
    }

    async fn connect(&self, url: &str) -> Connection {
        let settings = config::Broker { url: url.parse().unwrap(), ..config::Broker::default() };
        edge::connect(&Link::new(&settings, "browse").unwrap()).await.unwrap()
    }

    async fn connection(&self) -> Connection {
        self.connect(&self.stage.url().await).await
    }

    async fn open(&self, connection: &Connection) -> Result<Browser, Error> {
        Browser::open(connection, &self.topology, &self.topology.dead_letters(), SMALL).await
    }

    /// All that is there, in order.
    async fn numbers(&self) -> Vec<u32> {
        let connection = self.connection().await;
        // The lock of a look that was cut off is released beside its letters, maybe after them.
        let opened = async {
            loop {
                match self.open(&connection).await {
                    Err(Error::OperatorAtWork) => {}
                    opened => break opened.unwrap(),
                }
            }
        };
        let mut browser = timeout(PATIENCE, opened).await.expect("the lock is free");
        let numbers = read(&mut browser).await;
        browser.close().await.unwrap();
        edge::close(&connection, PATIENCE).await;
        numbers
    }

    /// Waits until so many are ready.
    pub(crate) async fn ready(&self, letters: u32) {
        let reached = async { while self.raw.depth("dead-letters").await != letters {} };
        timeout(PATIENCE, reached).await.expect("all letters are back");
    }
}

async fn read(browser: &mut Browser) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(held) = timeout(PATIENCE, browser.next()).await.unwrap().unwrap() {
        numbers.push(String::from_utf8(held.body).unwrap().parse().unwrap());
    }
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_looked_at_stay_in_their_places_however_the_look_ends() {
    const LETTERS: u32 = 3_000;
    let all: Vec<_> = (0..LETTERS).collect();
    let queue = Queue::with("browse", LETTERS).await;
    assert_eq!(queue.numbers().await, all);
    assert_eq!(queue.raw.depth("dead-letters").await, LETTERS, "there for the next to see");

    // Given up in the middle, twice: what has returned before stands apart from what has not.
    for part in [2, 3] {
        let connection = queue.connection().await;
        let mut browser = queue.open(&connection).await.unwrap();
        for number in 0..LETTERS / part {
            assert_eq!(browser.next().await.unwrap().unwrap().body, number.to_string().as_bytes());
        }
        browser.close().await.unwrap();
        edge::close(&connection, PATIENCE).await;
        assert_eq!(queue.numbers().await, all);
    }

    // Cut off, as a process that is killed.
    let url = queue.stage.url().await;
    let proxy = Proxy::before(&url).await.unwrap();
    let connection = queue.connect(&proxy.url(&url)).await;
    let mut browser = queue.open(&connection).await.unwrap();
    assert_eq!(read(&mut browser).await, all);
    proxy.cut();
    queue.ready(LETTERS).await;
    assert_eq!(queue.numbers().await, all);

    // Cut off in the middle, all are there; their order is not promised.
    let connection = queue.connection().await;
    let mut browser = queue.open(&connection).await.unwrap();
    for _ in 0..LETTERS / 2 {
        browser.next().await.unwrap().unwrap();
    }
    drop(browser);
    queue.ready(LETTERS).await;
    let mut left = queue.numbers().await;
    left.sort_unstable();
    assert_eq!(left, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn letter_that_is_taken_out_leaves_the_others_in_their_places() {
    let queue = Queue::with("ack", 300).await;
    let connection = queue.connection().await;
    let mut browser = queue.open(&connection).await.unwrap();
    let mut receipts = Vec::new();
    while let Some(held) = browser.next().await.unwrap() {
        if held.position % 100 == 50 {
            receipts.push(held.receipt);
        }
    }
    queue.add(300..400).await;
    for (index, receipt) in (400..).zip(receipts) {
        browser.ack(receipt).await.unwrap();
        queue.add(index..index + 1).await;
    }
    assert!(browser.next().await.unwrap().is_none());
    browser.close().await.unwrap();
    let left: Vec<_> = (0..403).filter(|number| *number >= 300 || number % 100 != 49).collect();
    assert_eq!(queue.numbers().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_taken_out_are_gone_once_the_look_is_closed_however_slow_the_broker_is() {
    const LETTERS: u32 = 500;
    let mut operators = JoinSet::new();
    // Side by side, so that the broker has more to write down than it can at once.
    for _ in 0..24 {
        operators.spawn(async {
            let queue = Queue::with("ack-many", LETTERS).await;
            let connection = queue.connection().await;
            let mut browser = queue.open(&connection).await.unwrap();
            let mut receipts = Vec::new();
            while let Some(held) = browser.next().await.unwrap() {
                if held.position % 100 > 0 {
                    receipts.push(held.receipt);
                }
            }
            for receipt in receipts {
                browser.ack(receipt).await.unwrap();
            }
            browser.close().await.unwrap();
            edge::close(&connection, PATIENCE).await;
            queue.numbers().await
        });
    }
    let left: Vec<_> = (1..=LETTERS / 100).map(|hundreds| hundreds * 100 - 1).collect();
    for numbers in operators.join_all().await {
        assert_eq!(numbers, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_come_later_are_not_looked_at() {
    let queue = Queue::with("mark", 20).await;
    let connection = queue.connection().await;
    let mut browser = queue.open(&connection).await.unwrap();
    assert_eq!(browser.next().await.unwrap().unwrap().position, 1);
    queue.add(20..40).await;
    assert_eq!(browser.mark(), 20);
    assert_eq!(read(&mut browser).await, (1..20).collect::<Vec<_>>());
    browser.close().await.unwrap();
    assert_eq!(queue.numbers().await, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_operator_is_told_and_gets_in_when_the_first_is_gone() {
    let queue = Queue::with("operators", 5).await;
    let (first, second) = (queue.connection().await, queue.connection().await);
    let browser = queue.open(&first).await.unwrap();
    let refused = queue.open(&second).await;
    assert!(matches!(refused, Err(Error::OperatorAtWork)), "{refused:?}");
    browser.close().await.unwrap();
    let mut browser = queue.open(&second).await.unwrap();
    assert_eq!(read(&mut browser).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_somebody_else_takes_end_the_look_and_do_not_hang_it() {
    let queue = Queue::with("others", 50).await;
    let mut letters = queue.stage.letters().await;
    let connection = queue.connection().await;
    let mut browser = queue.open(&connection).await.unwrap();
    assert_eq!((browser.mark(), browser.others()), (0, 1), "they hold everything");
    letters.take(50).await;
    assert!(read(&mut browser).await.is_empty());
}
