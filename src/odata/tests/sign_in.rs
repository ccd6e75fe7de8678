//! Tokens: asked for once, renewed in time, given up when they are refused.

use super::*;

/// Twenty GETs at once.
async fn twenty(client: &Client) -> Vec<Reply> {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { get(&client).await });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn one_token_serves_all_requests_and_is_renewed_once_before_its_end() {
    let service = Service::guarded().await;
    let client = service.client();
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 1);
    // 3599 s of life, renewed from 299 s to 240 s before its end.
    pass(Duration::from_secs(3_250)).await;
    assert_eq!(status(&get(&client).await), 200);
    assert_eq!(service.asked().await, 1);
    pass(Duration::from_mins(2)).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 2);
}

#[tokio::test]
async fn token_that_is_refused_is_replaced_once_for_all_who_used_it_and_the_request_sent_again() {
    let service = Service::guarded().await;
    let client = service.client();
    let tag = etag(&client).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert_eq!(status(&patch(&client, &tag, 3).await), 204, "with the same ETag");
    assert_eq!(service.asked().await, 2);
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 3);
}

#[tokio::test]
async fn second_401_in_a_row_is_told() {
    let service = Service::guarded().await;
    let client = service.client();
    service.fault("f8_unauthorized", json!(1)).await;
    assert_eq!(status(&get(&client).await), 401);
    assert_eq!(service.asked().await, 2);
}

#[tokio::test]
async fn fixed_token_is_sent_as_it_is_and_a_401_is_told_at_once() {
    let token = Some("fixed".to_owned());
    let simulator = simulator::Settings { bearer_token: token, ..Default::default() };
    let mut service = Service::new(simulator).await;
    assert_eq!(status(&get(&service.client()).await), 401);
    service.settings.target.bearer_token = Some(SecretString::from("fixed"));
    assert_eq!(status(&get(&service.client()).await), 200);
}

#[tokio::test]
async fn refusal_of_the_token_endpoint_is_told_to_all_and_asked_for_again_after_a_while() {
    let mut service = Service::guarded().await;
    service.settings.target.auth.client_secret = Some(SecretString::from("wrong"));
    let client = service.client();
    let refused = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Config)));
    assert!(twenty(&client).await.iter().all(refused));
    assert_eq!(service.asked().await, 1);
    // Mended at the endpoint.
    service.ask(Method::PUT, "tokens", json!({"client_secret": "wrong"})).await;
    assert!(refused(&get(&client).await));
    pass(Duration::from_secs(11)).await;
    assert_eq!(status(&get(&client).await), 200);
}

#[tokio::test]
async fn trouble_of_the_token_endpoint_is_told_apart_and_its_retry_after_is_kept_to() {
    let service = Service::guarded().await;
    let client = service.client();
    let troubled = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Unavailable)));
    for (fault, switch) in [
        ("f22_token_error", json!({"next": 1})),
        ("f22_token_throttled", json!({"next": 1, "retry_after": "7"})),
    ] {
        service.fault(fault, switch).await;
        let asked = service.asked().await;
        assert!(troubled(&get(&client).await), "{fault}");
        assert!(troubled(&get(&client).await), "{fault}");
        assert_eq!(service.asked().await, asked + 1, "{fault}");
        pass(Duration::from_secs(2)).await;
        if fault == "f22_token_throttled" {
            assert!(troubled(&get(&client).await), "before Retry-After is over");
            pass(Duration::from_secs(6)).await;
        }
        assert_eq!(status(&get(&client).await), 200, "{fault}");
        service.ask(Method::DELETE, "tokens", json!({})).await;
        // So that the next one must ask: the old token is dead, and given up with its 401.
        service.fault("f22_token_error", json!({"next": 1})).await;
        assert!(troubled(&get(&client).await), "{fault}");
        pass(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn slow_token_endpoint_is_given_up_in_time() {
    let mut service = Service::guarded().await;
    service.settings.target.auth.timeout = Duration::from_millis(200);
    service.fault("f22_token_slow", json!({"next": 1, "for": "1m"})).await;
    let client = service.client();
    let late = get(&client).await;
    assert!(matches!(late, Err(Fault::SignIn(SignIn::Unavailable))), "{late:?}");
}

#[tokio::test]
async fn old_token_is_used_while_no_new_one_can_be_had() {
    let service = Service::guarded().await;
    let client = service.client();
    assert_eq!(status(&get(&client).await), 200);
    service.fault("f22_token_error", json!(1)).await;
    pass(Duration::from_secs(3_400)).await;
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    assert_eq!(service.asked().await, 2, "one asked in vain, the others were told");
    pass(Duration::from_mins(5)).await;
    let ended = get(&client).await;
    assert!(matches!(ended, Err(Fault::SignIn(SignIn::Unavailable))), "{ended:?}");
}

#[tokio::test]
async fn life_that_is_text_or_untold_is_understood_with_either_endpoint() {
    let mut service = Service::guarded().await;
    for (endpoint, fault, due) in [
        (AuthEndpoint::V2, "f22_expires_in_text", 3_400),
        (AuthEndpoint::V2, "f22_expires_in_missing", 400),
        (AuthEndpoint::V1, "f22_expires_in_text", 3_400),
    ] {
        service.settings.target.auth.endpoint = endpoint;
        service.fault(fault, json!(1)).await;
        let (client, asked) = (service.client(), service.asked().await);
        assert_eq!(status(&get(&client).await), 200);
        pass(Duration::from_secs(due / 2 - 60)).await;
        assert_eq!(status(&get(&client).await), 200);
        assert_eq!(service.asked().await, asked + 1, "{endpoint:?} {fault}");
        pass(Duration::from_secs(due / 2 + 60)).await;
        assert_eq!(status(&get(&client).await), 200);
        assert_eq!(service.asked().await, asked + 2, "{endpoint:?} {fault}");
        service.ask(Method::DELETE, "faults", json!({})).await;
    }
}

#[tokio::test]
async fn federated_token_is_read_anew_for_every_token() {
    let mut service = Service::guarded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let auth = &mut service.settings.target.auth;
    auth.kind = AuthKind::WorkloadIdentity;
    auth.federated_token_file = file.to_str().unwrap().to_owned();
    let client = service.client();
    let refused = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Config)));
    assert!(refused(&get(&client).await), "there is no file");
    assert_eq!(service.asked().await, 0);
    std::fs::write(&file, "first\n").unwrap();
    pass(Duration::from_secs(11)).await;
    assert_eq!(status(&get(&client).await), 200);
    // The cluster replaces it, and the endpoint takes the new one alone.
    std::fs::write(&file, "second").unwrap();
    service.ask(Method::PUT, "tokens", json!({"client_assertion": "second"})).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    assert_eq!(status(&get(&client).await), 200);
    assert_eq!(service.asked().await, 2);
}

#[tokio::test]
async fn secret_in_a_file_may_be_replaced_while_we_run() {
    let mut service = Service::guarded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hush\n").unwrap();
    let auth = &mut service.settings.target.auth;
    auth.client_secret = Some(SecretString::from("of the start"));
    auth.client_secret_file = Some(file.clone());
    let client = service.client();
    assert_eq!(status(&get(&client).await), 200);
    // It expires before somebody has replaced it.
    service.ask(Method::PUT, "tokens", json!({"client_secret": "fresh"})).await;
    service.ask(Method::DELETE, "tokens", json!({})).await;
    let refused = |reply: &Reply| matches!(reply, Err(Fault::SignIn(SignIn::Config)));
    assert!(refused(&get(&client).await));
    std::fs::write(&file, "fresh").unwrap();
    assert!(refused(&get(&client).await), "nobody asks again for a while");
    pass(Duration::from_secs(11)).await;
    assert_eq!(status(&get(&client).await), 200);
}

#[tokio::test]
async fn bearer_token_in_a_file_is_read_again_after_a_401_and_every_few_minutes() {
    let token = Some("right".to_owned());
    let simulator = simulator::Settings { bearer_token: token, ..Default::default() };
    let mut service = Service::new(simulator).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "wrong").unwrap();
    service.settings.target.bearer_token_file = Some(file.clone());
    let client = service.client();
    assert_eq!(status(&get(&client).await), 401);
    std::fs::write(&file, "right\n").unwrap();
    assert!(twenty(&client).await.iter().all(|reply| status(reply) == 200));
    std::fs::remove_file(&file).unwrap();
    pass(Duration::from_mins(9)).await;
    assert_eq!(status(&get(&client).await), 200, "the old one, as long as it counts");
    pass(Duration::from_mins(2)).await;
    assert!(matches!(get(&client).await, Err(Fault::SignIn(SignIn::Config))));
}
