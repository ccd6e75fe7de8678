//! The stream that keeps what operators did.

use orderwright::broker::{Link, Publisher, Topology, connect, journal};
use orderwright::config;

use tokio::time::timeout;

use crate::daemon::{PATIENCE, orderwright};
use crate::stage::Stage;

struct Journal {
    stage: Stage,
    topology: Topology,
    publisher: Publisher,
    connection: lapin::Connection,
}

async fn opened(name: &str) -> Journal {
    let stage = Stage::new(name, &["--orders", "1"]).await;
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
    Journal { stage, topology, publisher, connection }
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_keeps_what_was_confirmed_and_gives_back_the_newest() {
    let Journal { stage: _stage, topology, publisher, connection } = opened("journal").await;
    assert!(journal::read(&connection, &topology, 10).await.unwrap().is_empty());
    for number in 1..=5 {
        journal::append(&publisher, &topology, vec![number]).await.unwrap();
    }
    assert_eq!(journal::read(&connection, &topology, 3).await.unwrap(), [[3], [4], [5]]);
    assert_eq!(journal::read(&connection, &topology, 10).await.unwrap().len(), 5);
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_that_is_written_without_a_pause_is_read_up_to_where_it_was() {
    let Journal { stage: _stage, topology, publisher, connection } = opened("journal-busy").await;
    for number in 0..200 {
        journal::append(&publisher, &topology, vec![number]).await.unwrap();
    }
    let writing = async {
        loop {
            journal::append(&publisher, &topology, vec![255]).await.unwrap();
        }
    };
    let reading = timeout(PATIENCE, journal::read(&connection, &topology, 100_000));
    let read = tokio::select! { biased;
        read = reading => read.expect("it comes to an end").unwrap(),
        never = writing => never,
    };
    let before: Vec<u8> = read.iter().map(|record| record[0]).filter(|it| *it != 255).collect();
    assert_eq!(before, (0..200).collect::<Vec<_>>(), "all that was there");
    publisher.close().await;
}
