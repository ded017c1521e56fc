//! The control codes, as the bench sends them.

/// Completed at once.
pub const PLAIN: u32 = 0x0022_2000;
/// Completed at once, between acquiring and releasing the remove lock.
pub const HELD: u32 = 0x0022_2004;
