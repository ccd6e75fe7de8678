//! The HTTP edge: one GET, one PATCH, the URL of an order, and the token.
//!
//! Retries nothing, except for a request that was refused for its token and is sent once more with another,
//! and for one of a batch that was refused as a whole, which is then sent by itself.

mod batch;
mod client;
mod csrf;
mod dealing;
mod file;
mod gatherer;
mod grant;
mod kept;
mod lanes;
mod multipart;
mod probe;
mod retry_after;
mod sending;
mod source;
#[cfg(test)]
mod tests;
mod token;
pub mod url;

pub use client::{Client, Error};
pub use grant::Refusal;
pub use probe::{Probe, State, Step};
