//! Applies order updates from RabbitMQ to Dynamics 365, or any OData V4 service with ETags, with
//! one writer per order.
//!
//! ```text
//! publisher ──▶ exchange ──consistent hash──▶ shard queue ──▶ delivery
//!   delivery ──decode──▶ update ──route by order key──▶ mailbox (queue, one runner)
//!   runner ──▶ GET ─▶ PATCH ─▶ settle
//!               ▲       │
//!               └ wait ◀┘
//!   settle = ack | dead-letter (publish, await confirm, then ack) | release (the broker keeps it)
//! ```

pub mod admin;
pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod dead_letter;
pub mod decode;
pub mod dispatch;
pub mod fuzzing;
pub mod measuring;
pub mod odata;
pub mod order;
pub mod parking;
pub mod properties;
pub mod protocol;
pub mod shard;
pub mod simulator;
pub mod telemetry;
