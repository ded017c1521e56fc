//! IRQLs: proofs of the level that code runs at, and sections at a higher one.

use core::marker::PhantomData;

use wdk_sys::{
    KIRQL,
    ntddk::{KeLowerIrql, KfRaiseIrql},
};

/// `APC_LEVEL`: the highest level at which code may block.
const APC_LEVEL: u64 = 1;

/// A routine of this driver that the kernel has called, as a value on its stack: proofs of its IRQL
/// are borrowed from it, so none outlives the call.
pub(in crate::kernel) struct Routine(PhantomData<*const ()>);

impl Routine {
    /// # Safety
    /// The caller is a routine that the kernel, or another driver, has called. The value stays a
    /// variable of it.
    pub(in crate::kernel) const unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// Proof that the code runs at `PASSIVE_LEVEL`, where it may block and touch pageable memory.
///
/// Only `kernel` makes one, where the kernel guarantees the level: `DriverEntry`, `AddDevice`,
/// PnP and file requests, work items, system threads. The lifetime, that of the [`Routine`], keeps
/// it from being stored; not being `Send` keeps it out of the critical section of a
/// [`SpinLock`](crate::kernel::SpinLock), which runs at `DISPATCH_LEVEL`.
#[derive(Clone, Copy)]
pub(crate) struct Passive<'irql>(PhantomData<*const &'irql ()>);

impl<'irql> Passive<'irql> {
    /// # Safety
    /// The routine is called at `PASSIVE_LEVEL`.
    pub(in crate::kernel) const unsafe fn of(_: &'irql Routine) -> Self {
        Self(PhantomData)
    }

    /// The token, if the routine happens to run at `PASSIVE_LEVEL`: for requests of kernel clients,
    /// which may come at any level up to `DISPATCH_LEVEL`.
    pub(in crate::kernel) fn now(_: &'irql Routine) -> Option<Self> {
        is_passive().then_some(Self(PhantomData))
    }

    /// What may block at `PASSIVE_LEVEL` may do so.
    pub(crate) const fn blocking(self) -> Blocking<'irql> {
        Blocking(self.0)
    }
}

/// Proof that the code runs at `APC_LEVEL` or below, where it may wait, and no more than that. Like
/// [`Passive`] it cannot be stored, nor carried into a critical section.
#[derive(Clone, Copy)]
pub(crate) struct Blocking<'irql>(PhantomData<*const &'irql ()>);

impl<'irql> Blocking<'irql> {
    /// The token, if the routine happens to run low enough: for those that kernel clients call.
    pub(in crate::kernel) fn now(_: &'irql Routine) -> Option<Self> {
        (level() <= APC_LEVEL).then_some(Self(PhantomData))
    }
}

/// `DISPATCH_LEVEL`: no other thread gets the processor.
const DISPATCH_LEVEL: KIRQL = 2;

/// Runs `section` at `DISPATCH_LEVEL`, for 50 us at most: no other thread gets the processor
/// meanwhile. Being `Send`, it cannot hold a [`Passive`], and so it cannot wait. At
/// <= `DISPATCH_LEVEL`.
pub(crate) fn unpreempted<T: Send>(section: impl FnOnce() -> T + Send) -> T {
    // SAFETY: <= DISPATCH_LEVEL.
    let before = unsafe { KfRaiseIrql(DISPATCH_LEVEL) };
    let result = section();
    // SAFETY: the level from before.
    unsafe { KeLowerIrql(before) };
    result
}

/// Whether the code runs at `PASSIVE_LEVEL` now.
pub(in crate::kernel) fn is_passive() -> bool {
    level() == 0
}

/// The current IRQL. On x64 it is the task priority register, and `KeGetCurrentIrql` an inline
/// function that reads it.
#[cfg(target_arch = "x86_64")]
fn level() -> u64 {
    let level: u64;
    // SAFETY: reads a register; kernel mode may.
    unsafe {
        core::arch::asm!("mov {}, cr8", out(reg) level, options(nomem, nostack, preserves_flags));
    }
    level
}

/// The current IRQL. On ARM64 the kernel keeps it, and exports `KeGetCurrentIrql`.
#[cfg(target_arch = "aarch64")]
fn level() -> u64 {
    // SAFETY: callable at any IRQL.
    u64::from(unsafe { wdk_sys::ntddk::KeGetCurrentIrql() })
}
