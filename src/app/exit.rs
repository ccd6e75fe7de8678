//! Exit codes of all commands: a subset of BSD's `sysexits.h`.

/// Done, or drained clean.
pub const OK: u8 = 0;
/// A replay came to its end, and letters of it died again, or nobody knows what became of them.
pub const FAILED: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 64;
/// Data that was given makes no sense.
pub const DATA: u8 = 65;
/// Something that is needed cannot be reached.
pub const UNAVAILABLE: u8 = 69;
/// A bug.
pub const BUG: u8 = 70;
/// The grace period ran out before the drain was done. Nothing is lost: the broker redelivers.
pub const GRACE: u8 = 75;
/// The configuration, or the broker's objects, are not as they should be.
pub const CONFIG: u8 = 78;
