//! What a look at the target says of one that is not as it should be.

use super::*;

async fn steps(settings: &Settings, key: Option<OrderKey>) -> Vec<Step> {
    Probe::new(settings, "test").unwrap().run(key, TRAIL).await
}

fn names(steps: &[Step]) -> Vec<(&'static str, State)> {
    let seen =
        steps.iter().filter(|step| !["dns", "tcp", "tls", "certificate"].contains(&step.name));
    seen.map(|step| (step.name, step.state)).collect()
}

async fn ends_with(service: &Service, name: &str, state: State) -> Step {
    let last = steps(&service.settings, Some(key("SO-000001"))).await.pop().unwrap();
    assert_eq!((last.name, last.state), (name, state), "{last:?}");
    last
}

#[tokio::test]
async fn target_that_is_as_it_should_be_is_fine_in_every_step_and_nothing_is_written() {
    let service = Service::guarded().await;
    let steps = steps(&service.settings, Some(key("SO-000001"))).await;
    let wanted = ["token", "permission", "order", "etag", "latency"];
    assert_eq!(names(&steps), wanted.map(|name| (name, State::Fine)));
    let token = steps.iter().find(|step| step.name == "token").unwrap();
    assert!(token.detail.contains("/tenant/oauth2/v2.0/token"), "{token:?}");
    assert_eq!(service.patches().await, 0);
}

#[tokio::test]
async fn refused_sign_in_is_told_with_entras_number_and_what_to_do() {
    let mut service = Service::guarded().await;
    service.settings.target.auth.client_secret = Some(SecretString::from("wr0ng-s3cret"));
    let token = ends_with(&service, "token", State::Wrong).await;
    assert!(token.detail.contains("401 invalid_client (AADSTS7000215)"), "{token:?}");
    assert!(token.detail.contains("trace id ") && token.hint.contains("value"), "{token:?}");
    assert!(!format!("{token:?}").contains("wr0ng-s3cret"), "{token:?}");
    service.settings.target.auth.authority = "http://127.0.0.1:9".parse().unwrap();
    ends_with(&service, "token", State::Unavailable).await;
}

#[tokio::test]
async fn each_thing_that_is_not_as_it_should_be_is_told_by_its_step() {
    let mut service = Service::new(simulator::Settings::default()).await;
    for (fault, name, state) in [
        ("f8_unauthorized", "permission", State::Wrong),
        ("f8_forbidden", "permission", State::Wrong),
        ("f9_redirect", "permission", State::Wrong),
        ("f10_login_page", "permission", State::Wrong),
        ("f7_no_retry_after", "permission", State::Unavailable),
        ("f2_cut", "permission", State::Unavailable),
    ] {
        service.fault(fault, json!(1)).await;
        let step = ends_with(&service, name, state).await;
        assert!(!step.hint.is_empty(), "{fault}: {step:?}");
        service.ask(Method::DELETE, "faults", json!({})).await;
    }
    service.fault("f15_no_etag_header", json!(1)).await;
    let all = steps(&service.settings, Some(key("SO-000001"))).await;
    let tag = all.iter().find(|step| step.name == "etag").unwrap();
    assert!(tag.detail.ends_with("in the body"), "{tag:?}");
    service.ask(Method::DELETE, "faults", json!({})).await;

    let plain = service.settings.target.url.clone();
    service.settings.target.url = plain.as_str().replace("http:", "https:").parse().unwrap();
    let tls = ends_with(&service, "tls", State::Wrong).await;
    assert!(tls.detail.starts_with("it is not TLS that answers"), "{tls:?}");
    service.settings.target.url = plain;
    service.settings.order.entity_set = "Nowhere".to_owned();
    ends_with(&service, "entity_set", State::Wrong).await;
    service.settings.target.url = "http://127.0.0.1:9/data".parse().unwrap();
    let tcp = steps(&service.settings, None).await;
    let last = tcp.last().unwrap();
    assert!(last.state == State::Unavailable && !last.hint.is_empty(), "{tcp:?}");
}

/// Answers every GET of an entity set and of one order.
async fn small_service(set: &'static str, order: &'static str) -> (Settings, JoinSet<()>) {
    tiny(move |first| {
        let body = if first.contains("$top=1") { set } else { order };
        (if body.is_empty() { "404 Not Found" } else { "200 OK" }, body)
    })
    .await
}

#[tokio::test]
async fn without_a_key_the_first_order_is_looked_at() {
    let set = r#"{"value":[{"dataAreaId":"usmf","SalesOrderNumber":"7"}]}"#;
    let (settings, _serving) = small_service(set, r#"{"@odata.etag":"W/\"1\"","A":1}"#).await;
    let all = steps(&settings, None).await;
    let order = all.iter().find(|step| step.name == "order").unwrap();
    assert_eq!((order.state, &*order.detail), (State::Fine, "usmf/7 is there"));
    let wanted = ["token", "permission", "entity_set", "order", "etag", "latency"];
    assert_eq!(names(&all).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn missing_order_is_told_from_a_missing_set_and_a_missing_etag_from_both() {
    let set = r#"{"value":[{"Number":1.5}]}"#;
    let (mut settings, _serving) = small_service(set, "").await;
    let last = steps(&settings, Some(key("7"))).await.pop().unwrap();
    assert_eq!((last.name, last.state), ("order", State::NoOrder));
    let last = steps(&settings, None).await.pop().unwrap();
    assert_eq!((last.name, last.state), ("key", State::Wrong));

    let (untagged, _serving) = small_service(set, r#"{"A":1}"#).await;
    settings.target.url = untagged.target.url;
    let all = steps(&settings, Some(key("7"))).await;
    let tag = all.iter().find(|step| step.name == "etag").unwrap();
    assert_eq!(tag.state, State::Wrong, "{all:?}");

    let (empty, _serving) = small_service(r#"{"value":[]}"#, "").await;
    let last = steps(&empty, None).await.pop().unwrap();
    assert_eq!((last.name, last.state), ("entity_set", State::Skipped));
}
