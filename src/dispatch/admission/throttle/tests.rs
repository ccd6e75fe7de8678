use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

const SETTINGS: Throttling = Throttling {
    told: [SECOND, Duration::from_mins(10)],
    untold: [Duration::from_secs(10), Duration::from_mins(3)],
    quota: None,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn told_wait_is_clamped_and_never_shorter_than_told() {
    for (told, dice, wait) in
        [(0, 0.0, 1_000), (30, 0.0, 30_000), (30, 1.0, 36_000), (86_400, 0.0, 600_000)]
    {
        let mut throttle = Throttle::new(SETTINGS, 52);
        throttle.refused(at(1), Some(at(told)), dice, at(2));
        assert_eq!(throttle.shut_until(), at(2) + wait * MILLISECOND, "{told}");
        assert!(throttle.due() >= throttle.shut_until());
    }
}

#[test]
fn untold_waits_double_up_to_the_longest_and_begin_anew_when_something_is_accepted() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    let mut now = at(1);
    let mut waits = Vec::new();
    for _ in 0..6 {
        throttle.refused(now, None, 0.0, now);
        waits.push(throttle.shut_until().saturating_sub(now).as_secs());
        now = throttle.shut_until();
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 180]);
    throttle.accepted(now, 1, now);
    throttle.refused(now, None, 0.0, now);
    assert_eq!(throttle.shut_until().saturating_sub(now).as_secs(), 10);
}

#[test]
fn untold_wait_is_spread_upwards_the_longest_one_too_and_several_refused_together_wait_once() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    for (wait, spread) in [(10, 12), (20, 24), (40, 48), (80, 96), (160, 192), (180, 216)] {
        let now = throttle.shut_until();
        assert!(throttle.refused(now, None, 1.0, now));
        for _ in 0..30 {
            assert!(!throttle.refused(now, None, 0.5, now + MILLISECOND), "sent together");
        }
        assert_eq!(throttle.shut_until().saturating_sub(now), at(spread), "{wait} s and a fifth");
    }
}

#[test]
fn refusals_of_what_was_sent_together_count_as_one() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    for late in 0..20 {
        throttle.refused(at(1), Some(at(1)), 0.0, at(2) + late * MILLISECOND);
    }
    assert!((throttle.limit() - 26.0).abs() < 0.01, "halved once: {}", throttle.limit());
    throttle.refused(at(5), Some(at(1)), 0.0, at(6));
    assert!((throttle.limit() - 13.0).abs() < 0.01, "{}", throttle.limit());
}

#[test]
fn limit_falls_to_one_at_the_least_and_rises_with_what_is_accepted() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    for step in 1..20 {
        throttle.refused(at(2 * step), Some(at(1)), 0.0, at(2 * step) + MILLISECOND);
    }
    assert!(throttle.has_room(0) && !throttle.has_room(1));
    for _ in 0..10_000 {
        throttle.accepted(at(60), 52, at(60));
    }
    assert!(throttle.has_room(51) && !throttle.has_room(52));
}

#[test]
fn limit_that_is_not_made_use_of_does_not_rise() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    throttle.refused(at(1), Some(at(1)), 0.0, at(1));
    for _ in 0..10_000 {
        throttle.accepted(at(30), 3, at(30));
    }
    assert!(throttle.limit() < 27.0);
}

#[test]
fn target_that_came_back_is_met_with_little_and_soon_with_all() {
    let mut throttle = Throttle::new(SETTINGS, 32);
    throttle.slow_start();
    assert!(throttle.has_room(1) && !throttle.has_room(2));
    for answered in 1..=30 {
        throttle.accepted(at(1), 32, at(1));
        assert!(throttle.has_room(1 + answered), "{answered}");
    }
    assert!(!throttle.has_room(32));
}

#[test]
fn refusal_before_anything_was_accepted_is_no_measure() {
    let mut throttle = Throttle::new(SETTINGS, 52);
    assert!(throttle.refused(at(100), Some(at(1)), 0.0, at(101)));
    assert!(!throttle.refused(at(100), Some(at(1)), 0.0, at(101)), "sent together");
    let rate = throttle.rate(at(102)).unwrap();
    assert!((rate - 26.0).abs() < 0.1, "{rate}: a guess, that doubles soon");
}

#[test]
fn pace_is_given_up_in_the_end() {
    let mut throttle = Throttle::new(SETTINGS, 8);
    throttle.refused(at(1), Some(at(1)), 0.0, at(1));
    throttle.accepted(at(300), 1, at(300));
    assert!(throttle.rate(at(300)).is_some());
    throttle.accepted(at(303), 1, at(303));
    assert_eq!(throttle.rate(at(303)), None);
}

/// A server that takes so many requests a second, a tenth of a second's worth at once.
struct Server {
    rate: f64,
    burst: f64,
    tokens: f64,
}

impl Server {
    fn tick(&mut self) {
        self.tokens = (self.tokens + self.rate / 1_000.0).min(self.burst);
    }

    /// How long to wait, in whole seconds, if it is too much.
    fn ask(&mut self) -> Option<Duration> {
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64(((1.0 - self.tokens) / self.rate).ceil()))
    }
}

/// A request on its way: when it was sent, when it is answered, whether a PATCH follows, and the
/// answer.
struct Sent(Duration, Duration, bool, Option<Duration>);

/// A client that always has something to do.
struct Client {
    throttle: Throttle,
    in_flight: Vec<Sent>,
    /// PATCHes that wait for their place in the pace.
    writes: Vec<Duration>,
    begun: usize,
}

impl Client {
    fn tick(&mut self, server: &mut Server, rng: &mut fastrand::Rng, now: Duration) -> [u32; 2] {
        let mut counts = [0, 0];
        let (done, left): (Vec<_>, Vec<_>) =
            self.in_flight.drain(..).partition(|sent| sent.1 <= now);
        self.in_flight = left;
        for Sent(sent, _, is_get, refusal) in done {
            if let Some(told) = refusal {
                counts[1] += 1;
                self.begun -= 1;
                self.throttle.refused(sent, Some(told), rng.f64(), now);
                continue;
            }
            counts[0] += 1;
            self.throttle.accepted(sent, self.begun, now);
            if is_get && now >= self.throttle.shut_until() {
                self.writes.push(self.throttle.write(now));
            } else {
                self.begun -= 1;
            }
        }
        let mut send = |is_get, in_flight: &mut Vec<Sent>| {
            let takes = if is_get { 20..120 } else { 40..300 };
            let takes = MILLISECOND * rng.u32(takes);
            in_flight.push(Sent(now, now + takes, is_get, server.ask()));
        };
        let due = self.writes.extract_if(.., |at| *at <= now).count();
        for _ in 0..due {
            send(false, &mut self.in_flight);
        }
        while self.throttle.due() <= now && self.throttle.has_room(self.begun) {
            self.throttle.begin(now);
            self.begun += 1;
            send(true, &mut self.in_flight);
        }
        counts
    }
}

/// Share of the allowed rate that was used, and share of the requests that were refused, over five
/// minutes after the first two.
fn steady(clients: usize, rate: f64, burst: f64) -> (f64, f64) {
    let mut server = Server { rate, burst, tokens: 1.0 };
    let mut rng = fastrand::Rng::with_seed(7);
    let client = |_| Client {
        throttle: Throttle::new(SETTINGS, 52),
        in_flight: Vec::new(),
        writes: Vec::new(),
        begun: 0,
    };
    let mut clients: Vec<_> = (0..clients).map(client).collect();
    let (mut taken, mut refused) = (0, 0);
    for step in 0..420_000_u32 {
        server.tick();
        for client in &mut clients {
            let [more_taken, more_refused] = client.tick(&mut server, &mut rng, MILLISECOND * step);
            if step >= 120_000 {
                taken += more_taken;
                refused += more_refused;
            }
        }
    }
    let (taken, refused) = (f64::from(taken), f64::from(refused));
    (taken / (300.0 * rate), refused / (taken + refused))
}

#[test]
fn throttled_at_a_fixed_rate_one_and_four_pods_settle_just_below_it() {
    for (pods, rate) in [(1, 2.0), (1, 5.0), (1, 10.0), (1, 100.0), (4, 50.0), (4, 200.0)] {
        let (used, refused) = steady(pods, rate, (rate / 10.0).max(1.0));
        assert!(used > 0.9, "{pods} pods at {rate}/s: only {used:.3} is used");
        assert!(refused < 0.05, "{pods} pods at {rate}/s: {refused:.3} refused");
    }
}

#[test]
fn few_requests_a_second_are_found_where_the_target_takes_some_at_once() {
    for (pods, rate, burst) in [(1, 1.0, 2.0), (4, 4.0, 4.0), (4, 8.0, 4.0)] {
        let (used, refused) = steady(pods, rate, burst);
        assert!(used > 0.9, "{pods} pods at {rate}/s: only {used:.3} is used");
        assert!(refused < 0.05, "{pods} pods at {rate}/s: {refused:.3} refused");
    }
    // Where it takes no two at once, one a second leaves the least room.
    let (used, refused) = steady(1, 1.0, 1.0);
    assert!(used > 0.7 && refused < 0.05, "only {used:.3} is used, {refused:.3} refused");
}
