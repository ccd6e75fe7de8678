//! Signing in to the target, and looking at it: the programs as they are started.

use serde_json::{Value, json};

use crate::daemon::{Daemon, orderwright};
use crate::stage::{Stage, update};

pub(crate) const SECRET: &str = "s3cr3t-0f-the-app";
const GUARD: [&str; 8] =
    ["--orders", "2", "--client-id", "app", "--client-secret", SECRET, "--tenant", "contoso.com"];

pub(crate) fn signing_in<'a>(authority: &'a str, secret: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("TARGET__AUTH__KIND", "client_secret"),
        ("TARGET__AUTH__TENANT", "contoso.com"),
        ("TARGET__AUTH__CLIENT_ID", "app"),
        ("TARGET__AUTH__CLIENT_SECRET", secret),
        ("TARGET__AUTH__AUTHORITY", authority),
        ("TARGET__AUTH__TIMEOUT", "5s"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_signs_in_and_a_dead_token_costs_no_update_and_no_secret_is_logged() {
    let stage = Stage::new("sign-in", &GUARD).await;
    let mut settings = signing_in(stage.simulator_url(), SECRET).to_vec();
    settings.push(("LOG__LEVEL", "trace"));
    let daemon = stage.daemon(&settings).await;
    stage.publish(&[update(1, 1)]).await;
    stage.applied(1).await;
    stage.simulator.revoke_tokens().await.unwrap();
    stage.publish(&[update(1, 2), update(2, 1)]).await;
    stage.applied(3).await;
    let ended = daemon.stop().await;
    let summary = ended.summary.unwrap();
    assert_eq!((&summary["dead_lettered"], &summary["failures"]), (&json!({}), &json!(0)));
    assert!(ended.log.contains("signed in"), "{}", ended.log);
    for secret in [SECRET, "eyJ"] {
        assert!(!ended.log.contains(secret), "{secret} in {}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_signs_in_as_its_workload_and_takes_what_the_cluster_puts_into_the_file_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("azure-identity-token");
    let (first, second) = ("h.first-0f-the-cluster.s", "h.second-0f-the-cluster.s");
    std::fs::write(&file, first).unwrap();
    let who = ["--client-id", "app", "--tenant", "contoso.com", "--client-assertion", first];
    let stage = Stage::new("workload", &[&who[..], &["--orders", "2"]].concat()).await;
    let ours = [("TARGET__AUTH__KIND", "workload_identity"), ("TARGET__AUTH__TIMEOUT", "5s")];
    let mut settings = stage.settings(&[&ours[..], &[("LOG__LEVEL", "trace")]].concat()).await;
    // As Azure's webhook gives them to a pod.
    settings.extend(
        [
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_TENANT_ID", "contoso.com"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
            ("AZURE_AUTHORITY_HOST", stage.simulator_url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let (code, stdout, stderr) = check(&settings, &["--key", "USMF/SO-000001"]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let daemon = Daemon::start(&settings).await;
    stage.publish(&[update(1, 1)]).await;
    stage.applied(1).await;

    std::fs::write(&file, second).unwrap();
    stage.simulator.tokens(&json!({"client_assertion": second})).await.unwrap();
    stage.simulator.revoke_tokens().await.unwrap();
    stage.publish(&[update(1, 2), update(2, 1)]).await;
    stage.applied(3).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("failures"), ended.count("applied")), (0, 3), "{}", ended.log);
    for secret in [first, second, "eyJ"] {
        assert!(!ended.log.contains(secret), "{secret} in {}", ended.log);
    }
}

async fn check(settings: &[(String, String)], more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["check", "target"], more].concat();
    let output = orderwright(settings).args(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_the_target_says_what_works_and_its_exit_code_says_whether_all_does() {
    let stage = Stage::new("check", &GUARD).await;
    let authority = stage.simulator_url();
    let settings = stage.settings(&signing_in(authority, SECRET)).await;
    let key = ["--key", "USMF/SO-000001", "--output", "json"];
    let (code, stdout, stderr) = check(&settings, &key).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let steps: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for name in ["token", "permission", "order", "etag", "latency"] {
        let step = steps.iter().find(|step| step["step"] == name).unwrap();
        assert_eq!(step["state"], "fine", "{stdout}");
    }
    let (code, stdout, _) = check(&settings, &["--key", "USMF/SO-000009"]).await;
    assert_eq!(code, Some(65), "{stdout}");
    let (code, _, stderr) = check(&settings, &["--key", "USMF"]).await;
    assert!(code == Some(64) && stderr.contains("dataAreaId/SalesOrderNumber"), "{stderr}");

    let wrong = stage.settings(&signing_in(authority, "wr0ng-0ne")).await;
    let (code, stdout, stderr) = check(&wrong, &key[..2]).await;
    assert_eq!(code, Some(78), "{stdout}");
    assert!(stdout.contains("AADSTS7000215") && stdout.contains("its value"), "{stdout}");
    assert!(!stdout.contains("wr0ng-0ne") && !stderr.contains("wr0ng-0ne"), "{stdout}{stderr}");

    let nobody = stage.settings(&[("TARGET__URL", "http://127.0.0.1:9/data")]).await;
    assert_eq!(check(&nobody, &key[..2]).await.0, Some(69));
    assert_eq!(stage.applied(0).await.patches, 0, "it never writes");
}
