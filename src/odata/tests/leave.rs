//! Requests that could not be written, or must not be any more: those that wait in a batch hear why.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::batches::{gathering, number, read, trail};
use super::*;

async fn writes(client: &Client) -> Vec<Option<Reply>> {
    let keys = [1, 2, 3].map(number);
    let tag = ETag::new("W/\"1\"").unwrap();
    let write = async |walk: usize| {
        let leave = Arc::new(Leave::granted());
        client.patch(&keys[walk], &tag, "{}", trail(walk as u128), &leave).await
    };
    join_all((0..3).map(write)).await
}

#[tokio::test]
async fn batch_for_which_no_token_can_be_had_says_so_to_each_and_leaves_nobody_in_doubt() {
    for (fault, why) in
        [("f22_token_error", SignIn::Unavailable), ("f22_token_unauthorized", SignIn::Config)]
    {
        let service = Service::guarded().await;
        service.fault(fault, json!(1)).await;
        let client = gathering(&service, 3);
        let keys = [1, 2, 3].map(number);
        let gets = (0..3).map(|walk| read(&client, &keys[walk], walk as u128));
        for reply in join_all(gets).await {
            assert!(matches!(reply, Err(Fault::SignIn(is)) if is == why), "{fault}: {reply:?}");
        }
        for reply in writes(&client).await {
            let is_why = matches!(reply, Some(Err(Fault::SignIn(is))) if is == why);
            assert!(is_why, "{fault}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn batch_for_which_no_csrf_token_can_be_had_says_so_to_each() {
    // Asked for a token, it gives none.
    let mut service = Service::new(simulator::Settings::default()).await;
    service.settings.target.csrf = true;
    for reply in writes(&gathering(&service, 3)).await {
        assert!(matches!(reply, Some(Err(Fault::Csrf))), "{reply:?}");
    }
    assert_eq!(service.patches().await, 0);
    // Asked for one, it fails: each hears it for itself.
    service.fault("f18_maintenance", json!(1)).await;
    for reply in writes(&gathering(&service, 3)).await {
        assert_eq!(reply.as_ref().map(status), Some(503), "{reply:?}");
    }
}

#[tokio::test]
async fn request_that_waits_for_its_token_is_not_written_once_its_leave_is_gone() {
    let service = Service::guarded().await;
    service.fault("f22_token_slow", json!({"next": 1, "for": "300ms"})).await;
    for client in [service.client(), gathering(&service, 3)] {
        // Asked for the first time when there is a token.
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        let may = move || {
            count.fetch_add(1, Ordering::SeqCst);
            false
        };
        let (leave, granted) = (Arc::new(Leave::new(may, |_| {})), Arc::new(Leave::granted()));
        let updates = [1, 2, 3].map(|order| update(&number(order)));
        let (one, two, three) = tokio::join!(
            client.get(&updates[0], trail(1), &leave),
            client.get(&updates[1], trail(2), &granted),
            client.get(&updates[2], trail(3), &granted),
        );
        assert!(one.is_none() && leave.written().is_none(), "{one:?}");
        assert_eq!([two, three].map(|it| status(&it.unwrap())), [200; 2]);
        assert!(asked.load(Ordering::SeqCst) > 0 && granted.written().is_some());
    }
}

#[tokio::test]
async fn part_of_a_refused_batch_is_not_sent_by_itself_once_its_leave_is_withdrawn() {
    let service = Service::new(simulator::Settings::default()).await;
    service.fault("f21_refused", json!(1)).await;
    service.fault("f4_stall_then_apply", json!({"next": 1, "on": "batch", "for": "300ms"})).await;
    let client = gathering(&service, 3);
    let (leave, keys) = (Arc::new(Leave::granted()), [1, 2, 3].map(number));
    let updates = keys.each_ref().map(update);
    let (one, two, three, ()) = tokio::join!(
        client.get(&updates[0], trail(1), &leave),
        read(&client, &keys[1], 2),
        read(&client, &keys[2], 3),
        async {
            while !leave.is_on_the_wire() {
                tokio::task::yield_now().await;
            }
            assert!(!leave.withdraw(), "it is on the wire");
        },
    );
    assert!(one.is_none() && !leave.is_on_the_wire(), "{one:?}");
    assert_eq!([two, three].map(|it| status(&it)), [200; 2]);
    // The others alone; and nobody who waits for a part that is not carried out waits in vain.
    let ledger = service.ask(Method::GET, "ledger", json!({})).await;
    assert_eq!(ledger["requests"], 3, "the batch, and the others each by itself: {ledger}");
    let reply = timeout(Duration::from_secs(30), client.get(&updates[0], trail(4), &leave)).await;
    assert!(reply.expect("it is told at once").is_none());
}
