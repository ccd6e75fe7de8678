//! A message in our hands, as the dispatch sees it.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

/// A message in our hands, with the right to settle it once.
pub trait Held: Send + Sync + 'static {
    /// Says, while it lives, that the message is being worked on: its channel is not given back.
    type Begun: Send + Sync;

    /// Begins work on the message. `None` if its channel is gone or about to be given back: the
    /// broker hands the message out again, and this copy must not start anything.
    fn begin(&self) -> Option<Self::Begun>;

    /// Whether [`Self::begin`] would do.
    fn may_begin(&self) -> bool;

    /// Whether the channel that it came by still lives. If not, nothing may be written any more.
    fn is_live(&self) -> bool;

    /// Whether a request may be written, for those who ask later and may outlive the message: the channel lives, and
    /// nobody else can have got the message and be at work on it.
    fn life(&self) -> impl Fn() -> bool + Send + Sync + 'static;

    /// Completes once a request may be written, or the channel is gone.
    fn may_ask(&self) -> impl Future<Output = ()> + Send;

    /// Completes when the channel is gone: what is on the wire must be aborted.
    fn lost(&self) -> impl Future<Output = ()> + Send;

    /// Completes when the channel is gone or about to be given back: a wait is over.
    fn ending(&self) -> impl Future<Output = ()> + Send;

    /// Completes when no request of a former owner of the message can be at work any more.
    fn settled(&self) -> impl Future<Output = ()> + Send;

    /// How often a holder of the message was lost while it held it.
    fn losses(&self) -> u64;

    /// When it arrived.
    fn arrived(&self) -> Instant;

    /// The queue that it came from.
    fn queue(&self) -> &Arc<str>;

    /// Its publisher's name for it.
    fn message_id(&self) -> Option<&str>;

    /// The span of its handling. Of what could not be decoded the order is not known.
    fn span(&self, order: Option<&str>) -> tracing::Span;

    /// Once it is settled, nobody may find it unsettled who finds that of what is settled later: as where it is handled
    /// before others of its order that came earlier, and could be handed out again and be written over them.
    fn hurry(&self);

    /// For a message that can neither be settled nor skipped: the broker hands out again all that
    /// came by its channel, in order.
    fn give_up_channel(begun: &Self::Begun);

    /// A request of unknown outcome may still be at work: whoever gets the channel's messages next
    /// must wait for it.
    fn doubt(begun: &Self::Begun);
}
