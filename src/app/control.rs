//! Does what an operator asks of the running daemon.

use std::sync::Arc;

use crate::admin::Control;
use crate::broker::Consumer;

/// What can be asked.
#[derive(Debug)]
pub(super) struct Helm(pub(super) Arc<Consumer>);

impl Control for Helm {
    fn pause(&self) -> bool {
        self.0.halt()
    }

    fn resume(&self) -> bool {
        self.0.go_on()
    }

    fn hand_back(&self, shard: u16) -> Option<(Arc<str>, usize)> {
        self.0.hand_back(shard)
    }
}
