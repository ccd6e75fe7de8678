use std::sync::Mutex;

use super::super::tests::{admin, ask, consuming};
use super::super::{Serving, obey};
use super::*;

const TOKEN: &str = "0123456789abcdef-t0ken";

/// Writes down what it is asked to do.
#[derive(Default)]
struct Obedient(Mutex<Vec<String>>);

impl Control for Obedient {
    fn pause(&self) -> bool {
        self.0.lock().unwrap().push("pause".to_owned());
        true
    }

    fn resume(&self) -> bool {
        self.0.lock().unwrap().push("resume".to_owned());
        false
    }

    fn hand_back(&self, shard: u16) -> Option<(Arc<str>, usize)> {
        self.0.lock().unwrap().push(format!("hand back {shard}"));
        (shard < 8).then(|| ("q".into(), 2))
    }
}

async fn serving(admin: Arc<Admin>) -> Serving {
    let set_level = |level: &str| if level == "debug" { Ok(()) } else { Err("no".to_owned()) };
    let actions = Actions::new(admin, TOKEN, set_level);
    obey("127.0.0.1:0".parse().unwrap(), actions).await.unwrap()
}

/// A request with these headers; the status and the body.
async fn request(serving: &Serving, line: &str, headers: &str, body: &str) -> (String, String) {
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    let answer = ask(serving.address, text.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned())
}

async fn with_token(serving: &Serving, line: &str, body: &str) -> (String, String) {
    request(serving, line, &format!("authorization: Bearer {TOKEN}\r\n"), body).await
}

#[tokio::test]
async fn without_the_token_nothing_is_done_and_nothing_is_told() {
    let (admin, _) = consuming();
    let control = Arc::new(Obedient::default());
    admin.obey(control.clone());
    let serving = serving(admin).await;
    let longer = format!("authorization: Bearer {TOKEN}x\r\n");
    let shorter = format!("authorization: Bearer {}\r\n", &TOKEN[..TOKEN.len() - 1]);
    let basic = format!("authorization: Basic {TOKEN}\r\n");
    for headers in ["", "authorization: Bearer \r\n", &longer, &shorter, &basic] {
        for line in [
            "POST /pause",
            "POST /shards/1/hand-back",
            "PUT /log-level",
            "GET /explain?order=a/b",
            "GET /none",
        ] {
            let (status, body) = request(&serving, line, headers, "").await;
            assert_eq!(status, "401", "{line} with {headers}");
            assert!(!body.contains(TOKEN) && body.contains("Authorization: Bearer"), "{body}");
        }
    }
    assert!(control.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn actions_are_done_once_and_say_what_came_of_them() {
    let (admin, _) = consuming();
    let control = Arc::new(Obedient::default());
    admin.obey(control.clone());
    let serving = serving(admin).await;
    for (line, body, status, answer) in [
        ("POST /pause", "", "200", r#"{"changed":true,"paused":true}"#),
        ("POST /resume", "", "200", r#"{"changed":false,"paused":false}"#),
        ("POST /shards/3/hand-back", "", "202", r#"{"at_work":2,"queue":"q","shard":3}"#),
        (
            "POST /shards/9/hand-back",
            "",
            "404",
            r#"{"error":"this pod is not subscribed to that shard"}"#,
        ),
        ("PUT /log-level", r#"{"level":"debug"}"#, "200", r#"{"level":"debug"}"#),
        ("GET /explain", "", "400", r#"{"error":"which order? ask for ?order=KEY"}"#),
        ("GET /explain?order=a", "", "400", r#"{"error":"--key has 1 value(s)"}"#),
        ("GET /none", "", "404", r#"{"error":"there is no such action"}"#),
    ] {
        assert_eq!(
            with_token(&serving, line, body).await,
            (status.to_owned(), answer.to_owned()),
            "{line}"
        );
    }
    assert_eq!(with_token(&serving, "GET /pause", "").await.0, "405", "a look never acts");
    let (status, body) = with_token(&serving, "PUT /log-level", r#"{"level":"inof"}"#).await;
    assert!(status == "400" && body.contains("must be one of off, error"), "{status} {body}");
    let (status, body) = with_token(&serving, "GET /explain?order=USMF%2FSO-1", "").await;
    assert!(
        status == "200"
            && body.contains(r#""instance":"pod-1","version":"0","order":"USMF/SO-1","shard":3"#),
        "{body}"
    );
    let done = control.0.lock().unwrap().clone();
    assert_eq!(done, ["pause", "resume", "hand back 3", "hand back 9"]);
}

#[tokio::test]
async fn daemon_that_starts_cannot_be_paused_yet() {
    let serving = serving(admin()).await;
    for line in
        ["POST /pause", "POST /resume", "POST /shards/0/hand-back", "GET /explain?order=a/b"]
    {
        let (status, body) = with_token(&serving, line, "").await;
        assert_eq!((status.as_str(), body.contains("not reached yet")), ("503", true), "{line}");
    }
}
