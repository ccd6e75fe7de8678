//! The end of a pod: nothing more is begun, what is on the wire is finished.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::dispatch::{Dispatch, Effects};

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything started was settled.
    Drained,
    /// The grace period ran out with this many orders at work.
    Abandoned(usize),
    /// The consumer ended by itself: a bug.
    Failed,
}

impl Ended {
    /// The exit code.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::Drained => exit::OK,
            Self::Abandoned(_) => exit::GRACE,
            Self::Failed => exit::BUG,
        }
    }
}

/// Begins nothing more, finishes what is on the wire, gives up every backoff: for as long as the grace.
pub(super) async fn drain<E: Effects>(
    dispatch: &Dispatch<E>,
    tasks: &mut JoinSet<()>,
    (stop, force): (&CancellationToken, &CancellationToken),
    grace: Duration,
) -> Ended {
    stop.cancel();
    tracing::info!(orders = dispatch.running(), grace = ?grace, "draining");
    // A shard closes its channel as soon as nothing of it is at work, forwarding included.
    let drained = async {
        dispatch.drained().await;
        while tasks.join_next().await.is_some() {}
    };
    let ended = match timeout(grace, drained).await {
        Ok(()) => Ended::Drained,
        Err(_elapsed) => Ended::Abandoned(dispatch.running()),
    };
    // What still has a channel open now is abandoned.
    force.cancel();
    ended
}

/// Whether the consumer ended before it was asked to. It never does: a daemon that idles would look
/// healthy.
pub(super) async fn ends_by_itself(
    consumer: &mut JoinSet<()>,
    asked: impl Future<Output = ()>,
) -> bool {
    tokio::select! { biased;
        () = asked => false,
        _ended = consumer.join_next() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn consumer_that_ends_by_itself_or_panics_is_a_bug_and_no_drain() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        assert!(ends_by_itself(&mut tasks, pending()).await);
        tasks.spawn(async { panic!("as the test asked") });
        assert!(ends_by_itself(&mut tasks, pending()).await);
        tasks.spawn(pending());
        assert!(!ends_by_itself(&mut tasks, ready(())).await);
        assert_eq!(Ended::Failed.exit(), 70);
        assert_eq!((Ended::Drained.exit(), Ended::Abandoned(1).exit()), (0, 75));
    }
}
