//! The protocols between pods, broker and service as small models, of which every state is looked at:
//! ownership, hand-over and the settle window; resharding; parking. Beside each model stands one that is
//! broken on purpose, in which a state must be found that breaks the promise.
//!
//! Bounds stand with each model. More by `MODEL_DEEP=1 cargo test --release --test model`.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on must fail, and say where; how much was looked at is printed"
)]

#[path = "explore.rs"]
mod explore;
#[path = "ownership.rs"]
mod ownership;
#[path = "parking.rs"]
mod parking;
#[path = "reshard.rs"]
mod reshard;
