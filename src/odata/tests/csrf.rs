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
