//! What everything else in `kernel` stands on: IRQL tokens, locks and waits, time, pool, strings.

pub(super) mod guid;
pub(super) mod irql;
pub(super) mod layout;
pub(super) mod pool;
pub(super) mod string;
pub(super) mod sync;
pub(super) mod time;
pub(super) mod wait;
