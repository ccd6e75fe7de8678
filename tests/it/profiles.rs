//! Every product that there is a profile for, each with its own manners, and the daemon set to it; one by one
//! and in batches.

use serde_json::json;

use crate::stage::{Stage, message, updates};

const MODES: [&[(&str, &str)]; 2] = [&[], &crate::batch::BATCH];

/// The simulator shows one entity set, whatever it imitates.
const SET: [(&str, &str); 4] = [
    ("ORDER__ENTITY_SET", "SalesOrderHeadersV2"),
    ("ORDER__KEY", "dataAreaId,SalesOrderNumber"),
    ("ORDER__KEY_FOLD_CASE", "dataAreaId"),
    ("ORDER__KEY_GUID", ""),
];

/// Updates that meet other writers are written once and in their order, and an order that is not there is
/// dead-lettered and not made.
async fn works(profile: &str, product: &[&str]) {
    for mode in MODES {
        let name = format!("profile-{profile}");
        let stage = Stage::new(&name, &[&["--orders", "20"], product].concat()).await;
        // Each order once: should few come first, they would use up their retries on any ten.
        let once =
            |order| json!({"on": "patch", "order": format!("USMF/SO-{order:06}"), "next": 1});
        let busy: Vec<_> = (1..=10).map(once).collect();
        stage.simulator.faults(&json!({"f11_conflict_storm": busy})).await.unwrap();
        let settings = [&[("TARGET__PROFILE", profile)], &SET[..], mode].concat();
        let daemon = stage.daemon(&settings).await;
        let mut letters = stage.letters().await;
        stage.publish(&updates(20, 3)).await;
        stage.applied(60).await;
        // As after a restart of the service: where there are sessions, they are over.
        stage.simulator.end_sessions().await.unwrap();
        let nobody = message("SO-404", &json!({"UpdateSequence": 1}));
        stage.publish(&[updates(20, 4).split_off(60), vec![nobody]].concat()).await;
        assert_eq!(letters.next().await.reason(), "not_found", "{profile}");
        let ledger = stage.applied(80).await;
        let ended = daemon.stop().await;
        let wrong = (ledger.overlaps, ledger.out_of_order, ledger.applied_twice);
        assert_eq!(wrong, (0, 0, 0), "{}", stage.simulator.bad_orders().await.unwrap());
        assert!(stage.simulator.order("USMF", "SO-404").await.is_err(), "{profile} made an order");
        assert_eq!(ended.count("applied"), 80, "{ended:?}");
        assert!(ended.count("conflicts_overcome") > 0, "{ended:?}");
        assert_eq!((ended.count("failures"), ended.count("outages")), (0, 0), "{}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finance_and_operations() {
    works("fo", &["--profile", "fo", "--conflict-as-text", "0.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dataverse_is_never_made_to_create_an_order() {
    works("dataverse", &["--profile", "dataverse"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn business_central() {
    works("bc", &["--profile", "bc", "--conflict-as-text", "0.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sap_with_its_csrf_tokens() {
    works("sap", &["--profile", "strict"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_odata_service_that_wants_tags() {
    works("odata", &["--profile", "strict", "--no-csrf"]).await;
}
