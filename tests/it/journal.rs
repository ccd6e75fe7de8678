//! The stream that keeps what operators did.

use orderwright::broker::{Link, Publisher, Topology, connect, journal};
use orderwright::config;

use crate::daemon::orderwright;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn journal_keeps_what_was_confirmed_and_gives_back_the_newest() {
    let stage = Stage::new("journal", &["--orders", "1"]).await;
    let settings = stage.settings(&[]).await;
    let declared = orderwright(&settings).args(["topology", "declare"]).output().await.unwrap();
    assert!(declared.status.success(), "{declared:?}");
    let url = stage.url().await.parse().unwrap();
    let broker = config::Broker { url, ..config::Broker::default() };
    let prefix = stage.prefix().to_owned();
    let topology = Topology::new(&config::Topology { prefix, ..config::Topology::default() });
    let link = Link::new(&broker, "journal").unwrap();
    let publisher = Publisher::new(link.clone(), broker.publish_timeout);
    let connection = connect(&link).await.unwrap();

    assert!(journal::read(&connection, &topology, 10).await.unwrap().is_empty());
    for number in 1..=5 {
        journal::append(&publisher, &topology, vec![number]).await.unwrap();
    }
    assert_eq!(journal::read(&connection, &topology, 3).await.unwrap(), [[3], [4], [5]]);
    assert_eq!(journal::read(&connection, &topology, 10).await.unwrap().len(), 5);
    publisher.close().await;
}
