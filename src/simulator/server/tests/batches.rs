//! `$batch` over a socket: parts, change sets, and what goes wrong with them.

use super::*;

const KEY: &str = "SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-00000";

fn get(order: u32) -> String {
    format!("GET {KEY}{order}')?cross-company=true HTTP/1.1\r\nAccept: application/json\r\n\r\n")
}

fn patch(order: u32, tag: &str, sequence: u32) -> String {
    let body = json!({ "UpdateSequence": sequence });
    format!(
        "PATCH /data/{KEY}{order}')?cross-company=true HTTP/1.1\r\nIf-Match: {tag}\r\n\
         x-ms-client-session-id: w{order}\r\nContent-Type: application/json\r\n\r\n{body}"
    )
}

fn part(id: usize, content: &str) -> String {
    format!(
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\
         Content-ID: {id}\r\n\r\n{content}\r\n"
    )
}

fn parts(contents: &[String]) -> Vec<String> {
    contents.iter().enumerate().map(|(at, content)| part(at + 1, content)).collect()
}

fn framed(mark: &str, pieces: &[String]) -> String {
    let each: Vec<_> = pieces.iter().map(|piece| format!("--{mark}\r\n{piece}")).collect();
    format!("{}--{mark}--\r\n", each.concat())
}

fn change_set(members: &[String]) -> String {
    let inner = framed("c", &parts(members));
    format!("Content-Type: multipart/mixed; boundary=c\r\n\r\n{inner}\r\n")
}

/// One answer inside the answer.
#[derive(Debug)]
struct Answer {
    content_id: Option<String>,
    status: u16,
    text: String,
}

/// The answers, those in change sets among them.
fn answers(text: &str) -> Vec<Answer> {
    let each = text.split("Content-Type: application/http\r\n").skip(1);
    let answer = |text: &str| {
        let (head, rest) = text.split_once("HTTP/1.1 ").unwrap();
        let id = head.lines().find_map(|line| line.strip_prefix("Content-ID: "));
        Answer {
            content_id: id.map(str::to_owned),
            status: rest[..3].parse().unwrap(),
            text: rest.split("\r\n--").next().unwrap().to_owned(),
        }
    };
    each.map(answer).collect()
}

async fn three() -> Sim {
    sim(Settings { orders: 3, ..Settings::default() }).await
}

impl Sim {
    fn batch(&self, pieces: &[String]) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, "/data/$batch").body(framed("b", pieces));
        request.header("Content-Type", "multipart/mixed; boundary=b")
    }

    async fn answers(&self, pieces: &[String]) -> Vec<Answer> {
        let batch = self.batch(pieces).header("Prefer", "odata.continue-on-error");
        let reply = batch.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(header(&reply, "content-type").starts_with("multipart/mixed; boundary=batch"));
        answers(&reply.text().await.unwrap())
    }

    async fn statuses(&self, pieces: &[String]) -> Vec<u16> {
        self.answers(pieces).await.iter().map(|answer| answer.status).collect()
    }
}

fn tag_of(answer: &Answer) -> String {
    answer.text.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned()
}

#[tokio::test]
async fn gets_and_then_patches_of_different_orders_each_with_its_own_tag() {
    let sim = three().await;
    let got = sim.answers(&parts(&[get(1), get(2), get(9)])).await;
    assert_eq!(got.iter().map(|it| it.status).collect::<Vec<_>>(), [200, 200, 404]);
    let ids: Vec<_> = got.iter().map(|it| it.content_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert!(got[1].text.contains("\"SalesOrderNumber\":\"SO-000002\""));
    let (one, two) = (tag_of(&got[0]), tag_of(&got[1]));
    let patches = parts(&[patch(1, &one, 7), patch(2, "W/\"stale\"", 7), patch(3, "*", 7)]);
    assert_eq!(sim.statuses(&patches).await, [204, 412, 204]);
    assert_eq!(sim.statuses(&parts(&[patch(2, &two, 7)])).await, [204]);

    let ledger = sim.get_json("/sim/ledger").await;
    let count = |name: &str| ledger[name].as_u64().unwrap();
    assert_eq!((count("requests"), count("gets"), count("patches")), (3, 3, 4));
    assert_eq!((count("applied"), count("conflicts"), count("overlaps")), (3, 1, 0));
    let changes = sim.get_json("/sim/ledger/changes").await;
    assert_eq!(changes["changes"][0]["client"], "w1");
    assert_eq!(changes["last"], 3);
}

#[tokio::test]
async fn first_refused_part_ends_the_batch_unless_the_client_prefers_otherwise() {
    let sim = three().await;
    let pieces = parts(&[patch(1, "*", 1), patch(2, "\"stale\"", 1), patch(3, "*", 1)]);
    let reply = sim.batch(&pieces).send().await.unwrap();
    let seen: Vec<_> = answers(&reply.text().await.unwrap()).iter().map(|it| it.status).collect();
    assert_eq!(seen, [204, 412]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 1);
}

#[tokio::test]
async fn change_set_is_all_or_nothing() {
    let sim = three().await;
    let bad = change_set(&[patch(1, "*", 1), patch(2, "\"stale\"", 1)]);
    let failed = sim.answers(&[bad]).await;
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].status, failed[0].content_id.as_deref()), (412, Some("1")));
    let twice = change_set(&[patch(1, "*", 1), patch(1, "*", 2)]);
    assert_eq!(sim.statuses(&[twice]).await, [412]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 0);
    let good = change_set(&[patch(1, "*", 1), patch(2, "*", 1)]);
    assert_eq!(sim.statuses(&[good]).await, [204, 204]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 2);
}

#[tokio::test]
async fn f21_batch_lacks_a_part_confuses_its_ids_or_lies_about_a_failed_group() {
    let sim = three().await;
    let pieces = parts(&[patch(1, "*", 1), patch(2, "*", 1)]);
    sim.set(json!({"f21_missing_parts": {"next": 1}})).await;
    assert_eq!(sim.statuses(&pieces).await, [204]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 2);
    sim.set(json!({"f21_wrong_content_id": {"next": 1}})).await;
    let confused = sim.answers(&pieces).await;
    assert!(confused.iter().all(|it| it.content_id.as_deref() == Some("1")), "{confused:?}");
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 4);
    sim.set(json!({"f21_ok_in_failed_group": {"next": 1}})).await;
    let group = change_set(&[patch(1, "*", 2), patch(2, "\"stale\"", 2)]);
    assert_eq!(sim.statuses(&[group]).await, [204, 412]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 4);
}

#[tokio::test]
async fn faults_of_a_connection_strike_the_batch_and_those_of_an_order_its_part() {
    let sim = three().await;
    let pieces = parts(&[patch(1, "*", 1), patch(2, "*", 1)]);
    sim.set(json!({"f1_lost_reply": {"next": 1}})).await;
    assert!(sim.batch(&pieces).send().await.is_err());
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 2);
    sim.set(json!({"f13_business_error": {"order": "USMF/SO-000002"}})).await;
    assert_eq!(sim.statuses(&pieces).await, [204, 500]);
    let group = change_set(&[patch(1, "*", 1), patch(2, "*", 1)]);
    assert_eq!(sim.statuses(&[group]).await, [500]);
    assert_eq!(sim.get_json("/sim/ledger").await["applied"], 3);
    sim.set(json!({"f13_business_error": 0, "f24_deleted_between": {"next": 1}})).await;
    assert_eq!(sim.statuses(&parts(&[patch(3, "W/\"x\"", 1)])).await, [412]);
    assert_eq!(sim.statuses(&parts(&[get(3)])).await, [404]);
}

#[tokio::test]
async fn what_is_no_batch_is_refused_whole() {
    let sim = three().await;
    let nested = part(1, "POST $batch HTTP/1.1\r\n\r\n");
    let status = async |pieces: &[String]| sim.batch(pieces).send().await.unwrap().status();
    assert_eq!(status(&[nested]).await, 400);
    assert_eq!(status(&["no header\r\n\r\n".to_owned()]).await, 400);
    assert_eq!(status(&[part(1, "GET")]).await, 400);
    let json = sim.request(Method::POST, "/data/$batch").body("{}").send().await.unwrap();
    assert_eq!(json.status(), 400);
    let deleted = parts(&[format!("DELETE {KEY}1')?cross-company=true HTTP/1.1\r\n\r\n")]);
    assert_eq!(sim.statuses(&deleted).await, [405]);
}

#[tokio::test]
async fn too_long_a_batch_is_429_without_retry_after_in_the_strict_profile() {
    let settings = Settings { profile: Profile::Strict, csrf: Some(false), ..Settings::default() };
    let sim = sim(settings).await;
    let gets: Vec<String> = (0..101).map(|_| get(1)).collect();
    let reply = sim.batch(&parts(&gets)).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), header(&reply, "retry-after")), (429, ""));
    assert_eq!(read(reply).await["error"]["code"], "BATCH_TOO_MANY_REQ");
    assert_eq!(sim.statuses(&parts(&gets[..100])).await.len(), 100);
}
