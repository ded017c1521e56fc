//! The I/O manager's objects: the driver, its devices, their opens, IRPs from dispatch to
//! completion, and what they wait in or run on: cancel-safe queues, worker threads, work items.

pub(super) mod cancel;
pub(super) mod device;
pub(super) mod dispatch;
pub(super) mod driver;
pub(super) mod irp;
pub(super) mod open;
pub(super) mod pending;
pub(super) mod queue;
pub(super) mod shared_list;
pub(super) mod user;
pub(super) mod work;
pub(super) mod worker;
