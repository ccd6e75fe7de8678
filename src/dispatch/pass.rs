//! How anything is waited for: for as long as the message may be worked on here.

use std::future::Future;

use futures_util::FutureExt;

use super::{Effects, Held, Shared};

impl<E: Effects> Shared<E> {
    /// Lets something pass. `None` on a drain, or when the message is to be given back: neither waits
    /// for anything. What is large is pinned by the caller: this has room for it twice.
    pub(super) async fn pass<T>(&self, held: &E::Held, wait: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(wait);
        if self.stop.is_cancelled() || !held.may_begin() {
            return None;
        }
        // Most have nothing to wait for: no need then to be told of an end.
        if let Some(done) = wait.as_mut().now_or_never() {
            return Some(done);
        }
        tokio::select! { biased; // Stop wins over new work.
            () = self.stop.cancelled() => None,
            () = held.ending() => None,
            done = wait => Some(done),
        }
    }
}
