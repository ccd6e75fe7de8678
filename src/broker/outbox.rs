//! Acks on their way out, those of a connection together.
//!
//! Each ack by itself would wake the library's thread, be a packet of its own, wake the broker's reader, and be a command
//! of its own to the replicas of the queue. Here those that come soon after others wait for more, and go as one packet
//! for all channels. Where all that was delivered first by a channel is to be acked, one speaks for all of it. One
//! behind a gap waits for the gap to close, then goes alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::lease::Lease;

/// How long an ack waits for others of its connection, after all that waited were last sent. One behind a gap waits for
/// as long for the gap to close, and then for the next time that all are sent. It is what a pod that dies leaves to be
/// done again, beside what is at work: so it is short beside a request.
const PATIENCE: Duration = Duration::from_millis(20);

/// The acks of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    gathered: Mutex<Gathered>,
    due: Notify,
    /// What was delivered by the connection and is not decided, at work or not.
    to_do: AtomicUsize,
    /// So much of it is taken for enough until the next sweep, whichever channels it came by.
    plenty: usize,
}

#[derive(Debug, Default)]
struct Gathered {
    /// Those that have acks which wait, each once.
    leases: Vec<Arc<Lease>>,
    /// When all were last asked for those that nothing is missing before.
    swept: Option<Instant>,
    /// The task knows that some wait.
    told: bool,
}

impl Gathered {
    /// Whether the last sweep is so long ago that nothing is gained by more waiting.
    fn is_due(&self, now: Instant) -> bool {
        self.swept.is_none_or(|at| now.saturating_duration_since(at) >= PATIENCE)
    }

    /// Sends what waits, but for those behind a gap that have not waited for it long enough.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        self.leases.retain(|lease| lease.pass(now, PATIENCE));
    }
}

impl Outbox {
    /// Of a connection of whose updates so many are worked on at the same time.
    pub(super) fn new(workers: usize) -> Self {
        // What an ack makes the broker send arrives while the other half is worked on.
        let plenty = workers.saturating_mul(2);
        Self { gathered: Mutex::default(), due: Notify::new(), to_do: AtomicUsize::new(0), plenty }
    }

    /// Notes a delivery.
    pub(super) fn delivered(&self) {
        self.to_do.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that so many deliveries will not be decided any more.
    pub(super) fn forgotten(&self, count: usize) {
        self.to_do.fetch_sub(count, Ordering::Relaxed);
    }

    /// Takes an ack. It is sent at once where it is `hurried`, where many of its channel wait and the connection has not
    /// much left to do, or where the last sweep is some time ago and no ack before it is missing; else later, or by
    /// [`Self::send`].
    pub(super) fn add(&self, lease: &Arc<Lease>, tag: u64, hurried: bool) {
        let (now, mut gathered) = (Instant::now(), self.gathered());
        // Nothing waits twice.
        let Some(waiting) = lease.unsettled.done(tag, now) else { return };
        let left = self.to_do.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        if waiting == 1 {
            gathered.leases.push(lease.clone());
        }
        // The broker is to send more of this channel before there is nothing left to do.
        let is_wanted = waiting >= lease.acks_max && left < self.plenty;
        if is_wanted || gathered.is_due(now) {
            gathered.sweep(now);
        }
        if hurried || (is_wanted && lease.unsettled.waiting() >= lease.acks_max) {
            lease.pass(now, Duration::ZERO);
            gathered.leases.retain(|other| !Arc::ptr_eq(other, lease));
        }
        if !gathered.leases.is_empty() && !std::mem::replace(&mut gathered.told, true) {
            drop(gathered);
            self.due.notify_one();
        }
    }

    /// Puts all that has gathered into the line of what is to be sent, behind which the close of a channel comes.
    pub(super) fn send(&self) {
        let now = Instant::now();
        // Under the lock: what is told to be sent stands in the line.
        self.gathered().leases.retain(|lease| lease.pass(now, Duration::ZERO));
    }

    /// Sends what nobody else did, until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            self.due.notified().await;
            while let Some(next) = self.look() {
                sleep_until(next).await;
            }
        }
    }

    /// Sends what is due. When to look again, if some wait still.
    fn look(&self) -> Option<Instant> {
        let (now, mut gathered) = (Instant::now(), self.gathered());
        if gathered.is_due(now) {
            gathered.sweep(now);
        }
        gathered.told = !gathered.leases.is_empty();
        gathered.swept.filter(|_| gathered.told).map(|at| at + PATIENCE)
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::poll;
    use proptest::prelude::*;
    use tokio::sync::watch;
    use tokio::time::advance;
    use tokio_util::sync::CancellationToken;

    use super::super::clean::Inheritance;
    use super::super::delivery::Receipt;
    use super::super::pulse::Pulse;
    use super::super::wire::{Acker, Acks};
    use super::*;

    const STEP: Duration = Duration::from_millis(5);

    /// Keeps what is acked, until it is closed.
    #[derive(Debug, Default)]
    struct Channel {
        acks: Mutex<Vec<(u64, bool)>>,
        closed: AtomicBool,
    }

    impl Acks for Channel {
        fn is_open(&self) -> bool {
            !self.closed.load(Ordering::Relaxed)
        }

        fn ack(&self, tag: u64, multiple: bool) -> bool {
            self.acks.lock().unwrap().push((tag, multiple));
            self.is_open()
        }
    }

    impl Channel {
        fn sent(&self) -> Vec<(u64, bool)> {
            std::mem::take(&mut self.acks.lock().unwrap())
        }
    }

    /// There are always more workers than updates.
    fn of_many() -> Arc<Outbox> {
        Arc::new(Outbox::new(1_000))
    }

    /// Nine were delivered by a channel on which 28 may be unsettled.
    fn leased(outbox: &Arc<Outbox>) -> (Arc<Lease>, Arc<Channel>) {
        let channel = Arc::<Channel>::default();
        let pulse = Arc::new(Pulse::new(Duration::from_secs(10), Duration::from_secs(5)));
        let lost = CancellationToken::new();
        let carried = (pulse, outbox.clone());
        let inheritance = Inheritance::new(watch::channel(None).1);
        let lease = Lease::new(0, "shard".into(), lost, carried, 28, inheritance);
        lease.acker.set(Acker::Simulated(channel.clone())).unwrap();
        for tag in 1..=9 {
            let handing = serde_json::from_value(serde_json::json!({"message": 7, "count": 0}));
            lease.hold(tag, Instant::now(), handing.unwrap());
        }
        (Arc::new(lease), channel)
    }

    #[tokio::test(start_paused = true)]
    async fn first_ack_goes_out_at_once_and_those_that_come_soon_after_it_as_one() {
        let outbox = of_many();
        let (lease, channel) = leased(&outbox);
        let running = outbox.run();
        tokio::pin!(running);
        outbox.add(&lease, 1, false);
        assert_eq!(channel.sent(), [(1, false)]);
        for tag in [4, 2, 3] {
            outbox.add(&lease, tag, false);
            assert!(poll!(running.as_mut()).is_pending());
        }
        advance(PATIENCE.saturating_sub(Duration::from_millis(1))).await;
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(channel.sent(), [], "they wait for each other");
        advance(STEP).await;
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(channel.sent(), [(4, true)]);
        // The task has nothing to look for any more, and is told anew.
        advance(STEP).await;
        assert!(poll!(running.as_mut()).is_pending());
        for tag in [5, 6] {
            outbox.add(&lease, tag, false);
            assert!(poll!(running.as_mut()).is_pending());
        }
        for _ in 0..6 {
            advance(STEP).await;
            assert!(poll!(running.as_mut()).is_pending());
        }
        assert_eq!(channel.sent(), [(6, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn ack_behind_one_that_is_at_work_goes_with_it_or_after_a_while_alone() {
        let outbox = of_many();
        let (lease, channel) = leased(&outbox);
        let running = outbox.run();
        tokio::pin!(running);
        for tag in [2, 5] {
            outbox.add(&lease, tag, false);
            assert!(poll!(running.as_mut()).is_pending());
        }
        assert_eq!(channel.sent(), [], "1 is at work");
        advance(STEP).await;
        outbox.add(&lease, 1, false);
        advance(PATIENCE.saturating_sub(STEP + Duration::from_millis(1))).await;
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(channel.sent(), [], "they wait for each other");
        advance(STEP).await;
        assert!(poll!(running.as_mut()).is_pending());
        assert_eq!(channel.sent(), [(2, true), (5, false)], "3 and 4 are at work");
        assert_eq!(lease.unsettled.len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn acks_of_all_channels_go_together() {
        let outbox = of_many();
        let [(lease, channel), (other, others)] = [leased(&outbox), leased(&outbox)];
        let running = outbox.run();
        tokio::pin!(running);
        outbox.add(&other, 1, false);
        assert_eq!(others.sent(), [(1, false)]);
        advance(STEP).await;
        for (lease, tag) in [(&lease, 1), (&other, 2), (&lease, 2)] {
            outbox.add(lease, tag, false);
            assert!(poll!(running.as_mut()).is_pending());
        }
        advance(PATIENCE.saturating_sub(STEP)).await;
        assert_eq!((channel.sent(), others.sent()), (vec![], vec![]), "the first was not long ago");
        // Whoever comes next takes all along.
        outbox.add(&other, 3, false);
        assert_eq!((channel.sent(), others.sent()), (vec![(2, true)], vec![(3, true)]));
        assert!(outbox.gathered().leases.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_and_hurried_acks_go_at_once_and_those_of_other_channels_wait_on() {
        let outbox = of_many();
        let [(lease, channel), (other, others)] = [leased(&outbox), leased(&outbox)];
        outbox.add(&other, 3, false);
        for tag in (3..9).rev() {
            outbox.add(&lease, tag, false);
        }
        assert_eq!(channel.sent(), [], "1 and 2 are at work");
        outbox.add(&lease, 9, false);
        let alone = [8, 7, 6, 5, 4, 3, 9].map(|tag| (tag, false));
        assert_eq!(channel.sent(), alone, "a seventh waits no longer");
        let hurried = Receipt::new(lease.clone(), 2);
        hurried.hurry();
        hurried.ack().unwrap();
        assert_eq!(channel.sent(), [(2, false)]);
        assert_eq!(others.sent(), []);
        Receipt::new(other.clone(), 9).send_acks();
        assert_eq!(others.sent(), [(3, false)]);
        outbox.add(&other, 3, false);
        outbox.send();
        assert_eq!(others.sent(), [], "an unknown tag would end the channel");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_acks_without_a_gap_go_as_one() {
        let outbox = of_many();
        let (lease, channel) = leased(&outbox);
        for tag in 1..=8 {
            outbox.add(&lease, tag, false);
        }
        assert_eq!(channel.sent(), [(1, false), (8, true)]);
        advance(PATIENCE + STEP).await;
        outbox.add(&lease, 9, false);
        assert_eq!(channel.sent(), [(9, false)], "also without the task");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_acks_wait_with_the_others_as_long_as_there_is_enough_to_do() {
        let outbox = Arc::new(Outbox::new(4));
        let [(lease, channel), (other, others)] = [leased(&outbox), leased(&outbox)];
        outbox.add(&other, 1, false);
        assert_eq!(others.sent(), [(1, false)]);
        for tag in 1..=9 {
            outbox.add(&lease, tag, false);
        }
        outbox.add(&other, 2, false);
        assert_eq!((channel.sent(), others.sent()), (vec![], vec![]), "the other has enough");
        for tag in 3..=8 {
            outbox.add(&other, tag, false);
        }
        let sent = (channel.sent(), others.sent());
        assert_eq!(sent, (vec![(9, true)], vec![(8, true)]), "one is left");
        let (third, _channel) = leased(&outbox);
        assert_eq!(outbox.to_do.load(Ordering::Relaxed), 10);
        drop([lease, other, third]);
        assert_eq!(outbox.to_do.load(Ordering::Relaxed), 0, "they come again, by another channel");
    }

    #[tokio::test(start_paused = true)]
    async fn lease_whose_channel_takes_no_ack_is_lost_and_the_others_go_on() {
        let outbox = of_many();
        let [(lease, channel), (other, others)] = [leased(&outbox), leased(&outbox)];
        for lease in [&lease, &other] {
            for tag in [2, 3] {
                outbox.add(lease, tag, false);
            }
        }
        channel.closed.store(true, Ordering::Relaxed);
        outbox.send();
        assert!(lease.lost.is_cancelled());
        assert_eq!((channel.sent(), lease.unsettled.len()), (vec![(2, false)], 9));
        assert!(!other.lost.is_cancelled());
        assert_eq!(others.sent(), [(2, false), (3, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_settled_only_once_its_ack_stands_in_the_line() {
        let outbox = of_many();
        let (lease, _channel) = leased(&outbox);
        outbox.add(&lease, 2, false);
        assert_eq!(lease.unsettled.len(), 9, "a marker behind it must wait for that");
        outbox.send();
        assert_eq!(lease.unsettled.len(), 8);
    }

    /// What was added to one of three channels, and is not sent yet: its tag, and when that was.
    type Waiting = Vec<(u64, Instant)>;

    /// Takes out what these acks speak for.
    fn spoken_for(waiting: &mut Waiting, sent: Vec<(u64, bool)>) {
        for (sent, multiple) in sent {
            let before = waiting.len();
            waiting.retain(|(tag, _)| *tag != sent && !(multiple && *tag < sent));
            assert!(waiting.len() < before, "nobody asked for an ack of {sent}");
        }
    }

    async fn play(workers: usize, steps: Vec<(usize, prop::sample::Index, bool, u64)>) {
        let outbox = Arc::new(Outbox::new(workers));
        let channels: [_; 3] = std::array::from_fn(|_| leased(&outbox));
        let mut unsent: [Waiting; 3] = Default::default();
        let mut left: [Vec<u64>; 3] = std::array::from_fn(|_| (1..=9).collect());
        let running = outbox.run();
        tokio::pin!(running);
        let look = |unsent: &mut [Waiting; 3]| {
            for ((lease, channel), waiting) in channels.iter().zip(unsent) {
                spoken_for(waiting, channel.sent());
                let longest = waiting.iter().map(|(_, since)| since.elapsed()).max();
                assert!(longest <= Some(2 * PATIENCE + Duration::from_millis(1)), "{longest:?}");
                let gathered = outbox.gathered();
                let count = gathered.leases.iter().filter(|it| Arc::ptr_eq(it, lease)).count();
                assert_eq!(count, usize::from(!waiting.is_empty()));
                assert!(gathered.told || gathered.leases.is_empty(), "the task sleeps");
            }
        };
        for (number, tag, hurried, pause) in steps {
            if !left[number].is_empty() {
                let tag = left[number].remove(tag.index(left[number].len()));
                unsent[number].push((tag, Instant::now()));
                outbox.add(&channels[number].0, tag, hurried);
            }
            look(&mut unsent);
            let to_do = left.iter().map(Vec::len).sum::<usize>();
            assert_eq!(outbox.to_do.load(Ordering::Relaxed), to_do);
            assert!(
                to_do >= 2 * workers || unsent[number].len() < 7,
                "there will be nothing to do"
            );
            for _ in 0..pause {
                assert!(poll!(running.as_mut()).is_pending());
                advance(Duration::from_millis(1)).await;
                assert!(poll!(running.as_mut()).is_pending());
                look(&mut unsent);
            }
        }
    }

    proptest! {
        #[test]
        fn no_ack_of_any_channel_waits_for_too_long(
            workers in 0..15_usize,
            steps in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), prop::bool::weighted(0.1), 0..30_u64), 1..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(play(workers, steps));
        }
    }
}
