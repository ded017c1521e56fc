use core::marker::PhantomData;

/// Proof that the code runs at `PASSIVE_LEVEL`, where it may block and touch pageable memory.
///
/// Only this room makes one, where the kernel guarantees the level: `DriverEntry`, `AddDevice`,
/// PnP and file requests, work items, system threads. The lifetime keeps it from being stored; not
/// being `Send` keeps it out of the critical section of a [`SpinLock`](super::SpinLock), which
/// runs at `DISPATCH_LEVEL`.
#[derive(Clone, Copy)]
pub(crate) struct Passive<'irql>(PhantomData<*const &'irql ()>);

impl Passive<'_> {
    /// # Safety
    /// The caller runs at `PASSIVE_LEVEL` for as long as the token lives.
    pub(super) const unsafe fn new() -> Self {
        Self(PhantomData)
    }
}
