//! Where made-up daemons are served from: one address, and one daemon after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use orderwright::admin::{Admin, Identity, Phase, Serving, serve};
use orderwright::telemetry::metrics::Metrics;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::made_up::MadeUp;

/// A thread with a runtime of its own: whoever steers the browser waits for it, and nobody else may.
pub(crate) struct House {
    serving: UnboundedSender<(Arc<Admin>, Sender<()>)>,
    address: SocketAddr,
}

impl House {
    /// Opens with one that has some minutes behind it: samples are taken at its own pace, which a clock
    /// that stands still lets pass at once.
    pub(crate) fn open() -> Self {
        let (serving, mut asked) = unbounded_channel::<(Arc<Admin>, Sender<()>)>();
        let (ready, address) = channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let admin = daemon("0.0.0", 16);
                consume(&admin);
                tokio::time::pause();
                let _elapsed = tokio::time::timeout(Duration::from_mins(11), admin.watch()).await;
                tokio::time::resume();
                let mut now: Serving = serve("127.0.0.1:0".parse().unwrap(), admin).await.unwrap();
                let address = now.address;
                ready.send(address).unwrap();
                while let Some((admin, done)) = asked.recv().await {
                    drop(now);
                    // The one before moves out when the runtime comes round to it.
                    now = loop {
                        match serve(address, admin.clone()).await {
                            Ok(serving) => break serving,
                            Err(_taken) => tokio::task::yield_now().await,
                        }
                    };
                    done.send(()).unwrap();
                }
            });
        });
        Self { serving, address: address.recv().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Another one moves in, at the same address.
    pub(crate) fn moves_in(&self, admin: &Arc<Admin>) {
        let (done, there) = channel();
        self.serving.send((admin.clone(), done)).unwrap();
        there.recv().unwrap();
    }
}

/// One that starts.
pub(crate) fn daemon(version: &'static str, prefetch: u32) -> Arc<Admin> {
    let configuration =
        json!({"broker.url": "amqp://guest:***@127.0.0.1:5672/%2f", "broker.prefetch": prefetch});
    let identity = Identity { instance: "pod-1".to_owned(), version, configuration };
    let metrics = Metrics::new("pod-1", ("localhost", 80), None).unwrap();
    Arc::new(Admin::new(identity, Arc::new(metrics)))
}

/// It has come up.
pub(crate) fn consume(admin: &Admin) {
    admin.show(Arc::new(MadeUp::default()));
    admin.enter(Phase::Consuming);
}
