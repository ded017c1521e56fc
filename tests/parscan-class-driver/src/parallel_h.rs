//! What this driver needs of parallel.h: codes, and offsets in the structures on x64.

pub(crate) const IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE: u32 = 0x0016_002C;
pub(crate) const IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO: u32 = 0x0016_0030;
pub(crate) const IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT: u32 = 0x0016_0034;
pub(crate) const IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO: u32 = 0x0016_0054;
pub(crate) const IOCTL_INTERNAL_PARCLASS_CONNECT: u32 = 0x0016_0078;
pub(crate) const IOCTL_INTERNAL_PARCLASS_DISCONNECT: u32 = 0x0016_007C;
pub(crate) const IOCTL_INTERNAL_LOCK_PORT: u32 = 0x0016_0094;
pub(crate) const IOCTL_INTERNAL_UNLOCK_PORT: u32 = 0x0016_0098;
pub(crate) const IOCTL_INTERNAL_PARALLEL_PORT_FREE: u32 = 0x0016_00A0;

/// `SAFE_MODE`
pub(crate) const SAFE_MODE: u64 = 0;

/// `sizeof(PARCLASS_INFORMATION)`, and offsets in it.
pub(crate) const PARCLASS_INFORMATION: usize = 120;
pub(crate) const NEGOTIATE_IEEE_MODE: u64 = 0x20;
pub(crate) const TERMINATE_IEEE_MODE: u64 = 0x28;
pub(crate) const IEEE_FWD_TO_REV_MODE: u64 = 0x30;
pub(crate) const PARALLEL_READ: u64 = 0x40;
pub(crate) const PARALLEL_WRITE: u64 = 0x48;

/// `sizeof(PARALLEL_PORT_INFORMATION)`, and offsets in it.
pub(crate) const PORT_INFORMATION: usize = 56;
pub(crate) const CONTROLLER: u64 = 0x08;
pub(crate) const TRY_ALLOCATE_PORT: u64 = 0x18;
pub(crate) const FREE_PORT: u64 = 0x20;

/// `sizeof(PARALLEL_PNP_INFORMATION)`
pub(crate) const PNP_INFORMATION: usize = 112;

/// `sizeof(PARALLEL_INTERRUPT_INFORMATION)`, and offsets in it.
pub(crate) const INTERRUPT_INFORMATION: usize = 32;
pub(crate) const TRY_ALLOCATE_PORT_AT_INTERRUPT_LEVEL: u64 = 0x08;
pub(crate) const FREE_PORT_FROM_INTERRUPT_LEVEL: u64 = 0x10;
