//! GETs that ask for part of an order, and what is done where that does not do.

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::dispatch::Moment;

const ORDER: &str = r#"{"@odata.etag":"W/\"1\"","DeliveryDate":"2025-01-01"}"#;

/// The settings for a service that answers a GET with `$select` like this, and any other one well; with what was asked
/// for.
async fn narrowed(
    status: &'static str,
    body: &'static str,
) -> (Settings, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let (settings, serving) = tiny(move |line| {
        let query = line.split_once('?').and_then(|(_, rest)| rest.split(' ').next());
        heard.lock().unwrap().push(query.unwrap_or_default().to_owned());
        if line.contains("$select") { (status, body) } else { ("200 OK", ORDER) }
    })
    .await;
    (settings, asked, serving)
}

/// Takes the next request, and leaves it unanswered: its first line, and whom to answer.
async fn taken(listener: &TcpListener) -> (String, BufReader<TcpStream>) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await.unwrap();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    (first, stream)
}

const NARROW: &str = "cross-company=true&$select=dataAreaId,SalesOrderNumber,DeliveryDate";
const WHOLE: &str = "cross-company=true";

#[tokio::test]
async fn whole_order_is_asked_for_where_the_service_shows_no_part_of_it() {
    for (answer, body, asks) in [
        ("200 OK", ORDER, &[NARROW][..]),
        ("200 OK", r#"{"@etag":"1","DeliveryDate":"2025-01-01"}"#, &[NARROW]),
        ("200 OK", r#"{"DeliveryDate":"2025-01-01"}"#, &[NARROW, WHOLE]),
        // No order, so nothing that a whole one would mend.
        ("200 OK", r#"{"DeliveryDate":"2025-"#, &[NARROW]),
        ("200 OK", "<html>", &[NARROW]),
        ("400 Bad Request", "{}", &[NARROW, WHOLE]),
        ("501 Not Implemented", "{}", &[NARROW, WHOLE]),
        ("404 Not Found", "{}", &[NARROW]),
        ("500 Internal Server Error", "{}", &[NARROW]),
    ] {
        let (settings, asked, _serving) = narrowed(answer, body).await;
        let client = Client::new(&settings, "test").unwrap();
        let reply = get(&client).await;
        assert_eq!(*asked.lock().unwrap(), asks, "{answer} {body}");
        let shown = if asks.len() == 2 { ORDER } else { body };
        assert_eq!(reply.unwrap().body, shown, "{answer}");
    }
}

#[tokio::test]
async fn service_that_tags_only_whole_orders_is_asked_for_those_from_then_on() {
    for (answer, body, then) in [
        ("200 OK", r#"{"DeliveryDate":"2025-01-01"}"#, &[WHOLE][..]),
        ("400 Bad Request", "{}", &[NARROW, WHOLE]),
    ] {
        let (settings, asked, _serving) = narrowed(answer, body).await;
        let client = Client::new(&settings, "test").unwrap();
        for asks in [&[NARROW, WHOLE][..], then] {
            assert_eq!(status(&get(&client).await), 200);
            assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), asks, "{answer}");
        }
    }
}

#[tokio::test]
async fn whole_order_is_not_asked_for_where_it_is_not_to_be_written_any_more() {
    let (settings, asked, _serving) = narrowed("400 Bad Request", "{}").await;
    let client = Client::new(&settings, "test").unwrap();
    let (times, told) = (AtomicU32::new(0), Arc::new(Mutex::new(Vec::new())));
    let heard = told.clone();
    let may = move || times.fetch_add(1, Ordering::SeqCst) == 0;
    let leave = Arc::new(Leave::new(may, move |moment| heard.lock().unwrap().push(moment)));
    let reply = client.get(&update(&key("SO-000001")), TRAIL, &leave).await;
    assert!(reply.is_none() && !leave.is_on_the_wire(), "{reply:?}");
    assert_eq!(*asked.lock().unwrap(), [NARROW]);
    assert_eq!(*told.lock().unwrap(), [Moment::Written, Moment::Waits]);
}

#[tokio::test]
async fn part_of_an_order_is_asked_for_unless_the_settings_say_no() {
    let (mut settings, asked, _serving) = narrowed("200 OK", ORDER).await;
    settings.target.select = false;
    let client = Client::new(&settings, "test").unwrap();
    assert_eq!(status(&get(&client).await), 200);
    assert_eq!(*asked.lock().unwrap(), [WHOLE]);
}

#[tokio::test]
async fn both_requests_have_the_time_of_one() {
    const ONE: Duration = Duration::from_mins(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::default();
    let root = format!("http://{}/data", listener.local_addr().unwrap());
    settings.target.url = root.parse().unwrap();
    settings.target.get_timeout = ONE;
    let client = Client::new(&settings, "test").unwrap();
    let mut asking = pin!(get(&client));
    let (narrow, mut stream) = tokio::select! {
        reply = &mut asking => panic!("{reply:?}"),
        taken = taken(&listener) => taken,
    };
    assert!(narrow.contains(NARROW), "{narrow}");
    let since = Instant::now();
    pass(ONE * 2 / 3).await;
    let tagless = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                   content-length: 2\r\n\r\n{}";
    stream.write_all(tagless.as_bytes()).await.unwrap();
    let (whole, _unanswered) = tokio::select! {
        reply = &mut asking => panic!("{reply:?}"),
        taken = taken(&listener) => taken,
    };
    assert!(!whole.contains("$select"), "{whole}");
    // Nothing is on its way any more, so time goes on to the next moment that somebody waits for.
    tokio::time::pause();
    let reply = asking.await;
    assert!(matches!(reply, Err(Fault::Timeout)), "{reply:?}");
    // A timer goes by whole milliseconds. The narrow one was written a moment before it was taken.
    let (took, moment) = (since.elapsed(), Duration::from_millis(2));
    assert!(took > ONE * 2 / 3 && took <= ONE + moment, "{took:?}");
}
