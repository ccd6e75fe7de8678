//! What `crate::measuring` reaches in here.

use std::fmt;
use std::sync::Arc;

use super::mailbox::Waiting;
use super::router::{Routed, Router};
use crate::order::Sequence;

/// The mailboxes alone, whose runners are the caller.
#[derive(Default)]
pub(crate) struct Alone(Router<u32>);

impl Waiting for u32 {
    fn sequence(&self) -> Option<Sequence> {
        None
    }

    fn goes_ahead(&self) {}
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alone").field(&self.0.mailboxes()).finish()
    }
}

impl Alone {
    /// Two items come to an order at rest, and are taken until it is at rest again. Whether it went like that.
    pub(crate) fn come_and_go(&self, order: &Arc<str>) -> bool {
        let push = |item| self.0.push(order, item, |_| true);
        let next = || self.0.next(order, |_| true);
        matches!(push(1), Routed::Start(1, _))
            && matches!(push(2), Routed::Queued)
            && next() == Some(2)
            && next().is_none()
    }
}
