//! What a shared parallel port needs of the kernel: the arbiter that IRPs and threads wait in, port
//! I/O, the interrupt, and the C side of the routines that parallel.h promises to kernel clients.

pub(super) mod arbiter;
pub(super) mod callbacks;
pub(super) mod interrupt;
pub(super) mod io_port;
