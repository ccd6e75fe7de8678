//! What goes on beside the shards of a session.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Consumer;
use crate::broker::Generation;
use crate::broker::balancer::Balancer;
use crate::broker::pulse::Session;
use crate::broker::slot::Slot;
use crate::broker::watchdog::Watchdog;
use crate::broker::wire::Tie;

impl Consumer {
    /// They end with it.
    pub(super) fn helpers(
        self: Arc<Self>,
        connection: &Arc<impl Tie>,
        session: &Session,
        slots: &[Arc<Slot>],
        live: Generation,
    ) -> JoinSet<()> {
        let mut helpers = JoinSet::new();
        let (pulse, beating) = (session.clone(), connection.clone());
        helpers.spawn(connection.task(async move { pulse.watch(&*beating).await }));
        let outbox = session.outbox.clone();
        helpers.spawn(connection.task(async move { outbox.run().await }));
        let (me, followed) = (self.clone(), connection.clone());
        helpers.spawn(connection.task(async move {
            if let Some(followed) = followed.lapin() {
                me.follow(followed).await;
            }
        }));
        if let Some(parking) = self.parking.clone() {
            let (me, followed) = (self.clone(), connection.clone());
            helpers.spawn(connection.task(async move {
                if let Some(followed) = followed.lapin() {
                    me.follow_parking(&parking, followed).await;
                }
            }));
        }
        let (me, slots) = (self, slots.to_vec());
        let watched = connection.clone();
        helpers.spawn(connection.task(async move {
            let Consumer { peers, balance: settings, .. } = &*me;
            let (answer_max, shards) = (me.settings.connect_timeout, live.shards);
            let (prefetch, fired) = (me.settings.prefetch, &me.counts.watchdog);
            let dog =
                Watchdog { slots: &slots, peers, settings, prefetch, answer_max, shards, fired };
            let watching = async {
                if let Some(watched) = watched.lapin() {
                    dog.run(watched).await;
                }
            };
            if settings.enabled {
                let balancer = Balancer::new(&slots, peers, settings, answer_max, shards);
                tokio::join!(balancer.run(), watching);
            } else {
                watching.await;
            }
        }));
        helpers
    }
}
