//! The HTTP edge: one GET, one PATCH, and the URL of an order. Retries nothing.

mod client;
mod retry_after;
pub mod url;

pub use client::{Client, Error};
