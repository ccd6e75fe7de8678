//! Writes that need a CSRF token.

use super::*;

async fn strict() -> Service {
    let simulator = simulator::Settings { profile: Profile::Strict, ..Default::default() };
    let mut service = Service::new(simulator).await;
    service.settings.target.csrf = true;
    service
}

#[tokio::test]
async fn csrf_token_is_fetched_once_and_again_when_it_is_refused() {
    let service = strict().await;
    let client = service.client();
    for day in 1..=3 {
        let tag = etag(&client).await;
        assert_eq!(status(&patch(&client, &tag, day).await), 204);
    }
    assert_eq!(service.patches().await, 3, "none was refused");
    service.ask(Method::DELETE, "sessions", json!({})).await;
    let tag = etag(&client).await;
    assert_eq!(status(&patch(&client, &tag, 4).await), 204);
    assert_eq!(service.patches().await, 5, "one was refused and sent again");
}

#[tokio::test]
async fn service_that_wants_a_csrf_token_and_is_not_given_one_refuses_the_write() {
    let mut service = strict().await;
    service.settings.target.csrf = false;
    let client = service.client();
    let tag = etag(&client).await;
    assert_eq!(status(&patch(&client, &tag, 1).await), 403);
    // One that gives none, though it is asked for: nothing is written without.
    let mut service = Service::new(simulator::Settings::default()).await;
    service.settings.target.csrf = true;
    let client = service.client();
    let tag = etag(&client).await;
    assert!(matches!(patch(&client, &tag, 1).await, Err(Fault::Csrf)));
    assert_eq!(service.patches().await, 0);
}

#[tokio::test]
async fn write_that_was_never_sent_is_not_applied_whatever_the_fetch_of_its_token_is_answered() {
    for (status, body) in [("204 No Content", ""), ("206 Partial Content", "{}"), ("200 OK", "{}")]
    {
        let (mut settings, _serving) = answering(status, body).await;
        settings.target.csrf = true;
        let client = Client::new(&settings, "test").unwrap();
        let told = patch(&client, &ETag::new("\"1\"").unwrap(), 1).await;
        assert!(matches!(told, Err(Fault::Csrf)), "{status}: {told:?}");
    }
    let (mut settings, _serving) = answering("503 Service Unavailable", "").await;
    settings.target.csrf = true;
    let client = Client::new(&settings, "test").unwrap();
    assert_eq!(status(&patch(&client, &ETag::new("\"1\"").unwrap(), 1).await), 503);
}
