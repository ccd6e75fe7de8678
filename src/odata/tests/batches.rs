//! Requests that are gathered, against the simulator. Whoever asks fills the batch or waits an hour.

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::config::BatchMode;

/// A client whose batches are sent when so many requests have come together, and not before.
pub(super) fn gathering(service: &Service, operations_max: usize) -> Client {
    let mut settings = service.settings.clone();
    settings.target.batch.mode = BatchMode::On;
    settings.target.batch.operations_max = operations_max;
    settings.target.batch.wait = Duration::from_hours(1);
    Client::new(&settings, "test").unwrap().gathering(&settings, watch::channel(1).1)
}

pub(super) fn number(order: u32) -> OrderKey {
    key(&format!("SO-{order:06}"))
}

pub(super) fn trail(walk: u128) -> Trail {
    Trail { walk: uuid::Uuid::from_u128(walk), attempt: uuid::Uuid::from_u128(walk) }
}

async fn write(client: &Client, order: u32, etag: &ETag, may_write: bool) -> Reply {
    let body = json!({"UpdateSequence": order}).to_string();
    let leave = Arc::new(Leave::new(move || may_write, |_| {}));
    let reply = client.patch(&number(order), etag, &body, trail(order.into()), &leave).await;
    reply.unwrap_or(Err(Fault::Unreachable))
}

pub(super) async fn read(client: &Client, key: &OrderKey, walk: u128) -> Reply {
    client.get(&update(key), trail(walk), &Arc::new(Leave::granted())).await.unwrap()
}

/// The tags of the three orders, got in one batch.
async fn tags(client: &Client) -> Vec<ETag> {
    let keys = [number(1), number(2), number(3)];
    let gets = (1..).zip(&keys).map(|(walk, key)| read(client, key, walk));
    let replies = join_all(gets).await;
    assert_eq!(replies.iter().map(status).collect::<Vec<_>>(), [200; 3]);
    replies.into_iter().map(|reply| reply.unwrap().etag.unwrap()).collect()
}

impl Service {
    async fn totals(&self) -> Value {
        self.ask(Method::GET, "ledger", json!({})).await
    }

    /// The orders that were written, by their numbers.
    async fn written(&self) -> Vec<u64> {
        let changes = self.ask(Method::GET, "ledger/changes?after=0&limit=100", json!({})).await;
        let all = changes["changes"].as_array().unwrap().iter();
        all.map(|change| change["changed"]["UpdateSequence"].as_u64().unwrap()).collect()
    }
}

#[tokio::test]
async fn orders_are_read_and_written_together_each_under_its_own_tag() {
    let service = Service::new(simulator::Settings::default()).await;
    let client = gathering(&service, 3);
    let mut tags = tags(&client).await;
    tags[1] = ETag::new("W/\"stale\"").unwrap();
    let writes = (1..).zip(&tags).map(|(order, tag)| write(&client, order, tag, true));
    let replies: Vec<_> = join_all(writes).await;
    assert_eq!(replies.iter().map(status).collect::<Vec<_>>(), [204, 412, 204]);
    assert!(replies.iter().all(|reply| reply.as_ref().unwrap().service_request_id.is_some()));
    assert_eq!(service.totals().await["requests"], 2, "one batch of GETs, one of PATCHes");
    assert_eq!(service.written().await, [1, 3]);
}

#[tokio::test]
async fn what_is_given_up_before_its_batch_is_written_is_not_written() {
    let service = Service::new(simulator::Settings::default()).await;
    let client = gathering(&service, 3);
    let tags = tags(&client).await;
    // Given up by whoever waits; given up by the message's own channel, which nobody has noticed yet.
    let left = write(&client, 1, &tags[0], true);
    tokio::select! { biased;
        _reply = left => panic!("nobody has joined it"),
        () = tokio::task::yield_now() => {}
    }
    let dead = write(&client, 2, &tags[1], false).fuse();
    let (again, third) = (write(&client, 1, &tags[0], true), write(&client, 3, &tags[2], true));
    let (_means_nothing, again, third) = tokio::join!(dead, again, third);
    assert_eq!((status(&again), status(&third)), (204, 204));
    assert_eq!(service.patches().await, 2);
    let mut written = service.written().await;
    written.sort_unstable();
    assert_eq!(written, [1, 3]);
}

#[tokio::test]
async fn of_what_is_on_the_wire_only_the_waiting_ends() {
    let service = Service::new(simulator::Settings::default()).await;
    let client = gathering(&service, 3);
    let tags = tags(&client).await;
    let stall = json!({"rate": 1, "next": 1, "for": "300ms", "on": "batch"});
    service.fault("f4_stall_then_apply", stall).await;
    let mut others = Box::pin(async {
        tokio::join!(write(&client, 2, &tags[1], true), write(&client, 3, &tags[2], true))
    });
    {
        let mut left = Box::pin(write(&client, 1, &tags[0], true));
        while service.patches().await < 3 {
            tokio::select! { biased;
                _reply = &mut left => panic!("it is on the wire"),
                _reply = &mut others => panic!("it is on the wire"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let (second, third) = others.await;
    assert_eq!((status(&second), status(&third)), (204, 204));
    let mut written = service.written().await;
    written.sort_unstable();
    assert_eq!(written, [1, 2, 3], "it was too late to keep it");
}

#[tokio::test]
async fn token_that_is_refused_is_replaced_once_for_a_whole_batch() {
    let service = Service::guarded().await;
    let client = gathering(&service, 3);
    let before = tags(&client).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert_eq!(tags(&client).await, before);
    assert_eq!(service.asked().await, 2);
    service.fault("f8_unauthorized", json!(1)).await;
    let keys = [number(1), number(2), number(3)];
    let gets = (1..).zip(&keys).map(|(walk, key)| read(&client, key, walk));
    let replies = join_all(gets).await;
    assert_eq!(replies.iter().map(status).collect::<Vec<_>>(), [401; 3], "as for a single request");
}

#[tokio::test]
async fn csrf_token_goes_with_the_batch_of_a_service_that_wants_one() {
    let strict = simulator::Settings { profile: Profile::Strict, ..Default::default() };
    let mut service = Service::new(strict).await;
    service.settings.target.csrf = true;
    let client = gathering(&service, 3);
    let tags = tags(&client).await;
    service.ask(Method::DELETE, "sessions", json!({})).await;
    let writes = (1..).zip(&tags).map(|(order, tag)| write(&client, order, tag, true));
    let replies: Vec<_> = join_all(writes).await;
    assert!(replies.iter().all(|reply| status(reply) < 300), "{replies:?}");
}

#[tokio::test]
async fn orders_whose_batch_failed_are_judged_by_answers_of_their_own() {
    let service = Service::new(simulator::Settings::default()).await;
    let client = gathering(&service, 3);
    let tags = tags(&client).await;
    let broken = json!({"rate": 1, "on": "batch", "status": 502, "applied": true});
    service.fault("f5_gateway_page", broken).await;
    let write = async |order: u32| write(&client, order, &tags[order as usize - 1], true).await;
    let (one, two, three) = tokio::join!(write(1), write(2), write(3));
    assert_eq!([one, two, three].map(|reply| status(&reply)), [502; 3]);
    // Nobody joins it, and it does not wait.
    let reply = timeout(Duration::from_secs(30), read(&client, &number(1), 1)).await;
    let reply = reply.expect("it waits for nobody").unwrap();
    assert_ne!(reply.etag.unwrap(), tags[0], "it was written all the same");
}

#[tokio::test]
async fn batches_that_are_refused_are_not_sent_again_for_a_while() {
    for (kind, status_of_it) in [("f21_refused", 501), ("f21_refused", 404), ("f21_refused", 413)] {
        let service = Service::new(simulator::Settings::default()).await;
        let client = gathering(&service, 3);
        service.fault(kind, json!({"rate": 1, "status": status_of_it})).await;
        let tags = tags(&client).await;
        assert_eq!(service.totals().await["requests"], 4, "{status_of_it}: and each by itself");
        // Of three, the half is one.
        let alone = timeout(Duration::from_secs(30), write(&client, 1, &tags[0], true)).await;
        assert_eq!(status(&alone.expect("it waits for nobody")), 204);
        assert_eq!(service.totals().await["requests"], 5, "{status_of_it}");
    }
}

#[tokio::test]
async fn no_more_requests_are_on_the_wire_at_a_time_than_the_settings_allow() {
    let slow = simulator::Settings { get_latency: "20ms".parse().unwrap(), ..Default::default() };
    let mut service = Service::new(slow).await;
    service.settings.target.batch.requests_max = 2;
    service.fault("f21_refused", json!(1)).await;
    let client = gathering(&service, 3);
    let keys = [1, 2, 3].map(number);
    let gets = (0..12).map(|walk| read(&client, &keys[walk % 3], walk as u128));
    let replies = join_all(gets).await;
    assert!(replies.iter().all(|reply| status(reply) == 200), "{replies:?}");
    assert_eq!(service.totals().await["in_flight_max"], 2);
}

#[tokio::test]
async fn batches_that_something_on_the_way_takes_offence_at_are_not_sent_for_a_while() {
    for fault in [
        ("f8_forbidden", json!({"on": "batch", "rate": 1})),
        ("f5_gateway_page", json!({"on": "batch", "rate": 1, "status": 502, "applied": false})),
        ("f21_missing_parts", json!(1)),
    ] {
        let service = Service::new(simulator::Settings::default()).await;
        service.fault(fault.0, fault.1).await;
        let client = gathering(&service, 3);
        let keys = [1, 2, 3].map(number);
        for round in 0..3 {
            let gets = (1..).zip(&keys).map(|(walk, key)| read(&client, key, round * 10 + walk));
            let replies = join_all(gets).await;
            assert!(replies.iter().any(|reply| status(reply) != 200), "{} {round}", fault.0);
            // One of them goes by itself now, and is answered.
            let again = if status(&replies[2]) == 200 { 1 } else { 3 };
            let again = read(&client, &keys[2], round * 10 + again).await;
            assert_eq!(status(&again), 200, "{} {round}", fault.0);
        }
        // Nobody joins it, and it does not wait.
        let alone = timeout(Duration::from_secs(30), read(&client, &keys[0], 99)).await;
        assert_eq!(status(&alone.expect("it waits for nobody")), 200, "{}", fault.0);
    }
}
