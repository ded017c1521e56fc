//! A double of the kernel: the types and functions of `wdk-sys` that the mounted files of
//! `src/kernel` use, on threads of this process. What the driver's memory looks like to the kernel
//! is as in Windows: locks, events, IRPs and their lists are places that several threads change.
//!
//! Miri sees each access of either side.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    reason = "the names are Microsoft's"
)]
#![allow(
    clippy::missing_panics_doc,
    clippy::missing_safety_doc,
    clippy::must_use_candidate,
    clippy::multiple_unsafe_ops_per_block,
    clippy::pub_underscore_fields,
    clippy::too_many_arguments,
    clippy::undocumented_unsafe_blocks,
    clippy::wildcard_imports,
    unreachable_pub,
    reason = "each is the kernel's, whose pages say what it is and asks for"
)]

use core::{ffi::c_void, ptr};

pub type KIRQL = u8;
pub type PKIRQL = *mut KIRQL;
pub type KSPIN_LOCK = u64;
pub type NTSTATUS = i32;
pub type PVOID = *mut c_void;
pub type POOL_FLAGS = u64;
pub type SIZE_T = u64;
pub type PIRP = *mut IRP;
pub type PIO_CSQ = *mut IO_CSQ;
pub type PDRIVER_CANCEL = Option<unsafe extern "C" fn(*mut DEVICE_OBJECT, *mut IRP)>;

pub const STATUS_SUCCESS: NTSTATUS = 0;
pub const POOL_FLAG_NON_PAGED: POOL_FLAGS = 0x40;
pub const POOL_FLAG_PAGED: POOL_FLAGS = 0x100;

pub mod _EVENT_TYPE {
    pub type Type = i32;
    pub const NotificationEvent: Type = 0;
    pub const SynchronizationEvent: Type = 1;
}

pub mod _KWAIT_REASON {
    pub const Executive: i32 = 0;
}

pub mod _WAIT_TYPE {
    pub const WaitAny: i32 = 1;
}

pub struct DEVICE_OBJECT;

pub struct FILE_OBJECT;

#[derive(Default)]
pub struct KEVENT {
    kind: i32,
    signalled: bool,
}

pub struct KWAIT_BLOCK;

#[derive(Default)]
pub struct EX_RUNDOWN_REF {
    /// Twice the number of holders, and 1 while it is run down.
    count: u64,
}

#[derive(Clone, Copy)]
pub struct LARGE_INTEGER {
    pub QuadPart: i64,
}

#[derive(Clone, Copy)]
pub struct LIST_ENTRY {
    pub Flink: *mut LIST_ENTRY,
    pub Blink: *mut LIST_ENTRY,
}

impl Default for LIST_ENTRY {
    fn default() -> Self {
        Self {
            Flink: ptr::null_mut(),
            Blink: ptr::null_mut(),
        }
    }
}

pub struct IO_STACK_LOCATION {
    pub FileObject: *mut FILE_OBJECT,
}

/// What the mounted files and the double use of an IRP.
pub struct IRP {
    pub Status: NTSTATUS,
    pub Cancel: u8,
    pub CancelIrql: KIRQL,
    pub CancelRoutine: PDRIVER_CANCEL,
    pub Tail: Tail,
}

pub struct Tail {
    pub Overlay: Overlay,
}

pub struct Overlay {
    pub __bindgen_anon_1: OverlayFirst,
    pub __bindgen_anon_2: OverlaySecond,
}

pub struct OverlayFirst {
    pub __bindgen_anon_1: OverlayWords,
}

pub struct OverlayWords {
    pub DriverContext: [PVOID; 4],
}

pub struct OverlaySecond {
    pub ListEntry: LIST_ENTRY,
    pub __bindgen_anon_1: OverlayCurrent,
}

pub struct OverlayCurrent {
    pub CurrentStackLocation: *mut IO_STACK_LOCATION,
}

type Insert = Option<unsafe extern "C" fn(PIO_CSQ, PIRP, PVOID) -> NTSTATUS>;
type Remove = Option<unsafe extern "C" fn(PIO_CSQ, PIRP)>;
type Peek = Option<unsafe extern "C" fn(PIO_CSQ, PIRP, PVOID) -> PIRP>;
type Acquire = Option<unsafe extern "C" fn(PIO_CSQ, PKIRQL)>;
type Release = Option<unsafe extern "C" fn(PIO_CSQ, KIRQL)>;

#[derive(Default)]
pub struct IO_CSQ {
    list: CsqList,
    lock: CsqLock,
    complete: Remove,
}

#[derive(Default)]
struct CsqList {
    insert: Insert,
    remove: Remove,
    peek: Peek,
}

#[derive(Default)]
struct CsqLock {
    acquire: Acquire,
    release: Release,
}

pub mod ntddk {
    use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering::SeqCst};
    use std::{
        alloc::{Layout, alloc_zeroed, dealloc},
        cell::Cell,
        collections::HashMap,
        sync::{Condvar, Mutex, PoisonError},
        thread::yield_now,
    };

    use super::*;

    std::thread_local! {
        static IRQL: Cell<KIRQL> = const { Cell::new(0) };
    }

    pub unsafe fn KfRaiseIrql(new: KIRQL) -> KIRQL {
        IRQL.replace(new)
    }

    pub unsafe fn KeLowerIrql(new: KIRQL) {
        IRQL.set(new);
    }

    pub fn KeGetCurrentIrql() -> KIRQL {
        IRQL.get()
    }

    // Pool. What is not freed is a leak to Miri.

    static POOL: Mutex<Option<HashMap<usize, Layout>>> = Mutex::new(None);

    pub unsafe fn ExAllocatePool2(_flags: POOL_FLAGS, bytes: SIZE_T, _tag: u32) -> PVOID {
        let layout = Layout::from_size_align(usize::try_from(bytes).unwrap(), 16).unwrap();
        let memory = unsafe { alloc_zeroed(layout) };
        let mut pool = POOL.lock().unwrap();
        pool.get_or_insert_default().insert(memory.addr(), layout);
        memory.cast()
    }

    pub unsafe fn ExFreePoolWithTag(memory: PVOID, _tag: u32) {
        let mut pool = POOL.lock().unwrap();
        let pool = pool.as_mut().expect("pool");
        let layout = pool.remove(&memory.addr()).expect("a live allocation");
        if pool.is_empty() {
            pool.shrink_to_fit();
        }
        unsafe { dealloc(memory.cast(), layout) };
    }

    // Spin locks.

    pub unsafe fn KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> KIRQL {
        let before = IRQL.replace(2);
        let lock = unsafe { AtomicU64::from_ptr(lock) };
        while lock.swap(1, SeqCst) != 0 {
            yield_now();
        }
        before
    }

    pub unsafe fn KeReleaseSpinLock(lock: *mut KSPIN_LOCK, irql: KIRQL) {
        let lock = unsafe { AtomicU64::from_ptr(lock) };
        assert_eq!(lock.swap(0, SeqCst), 1, "released twice");
        IRQL.set(irql);
    }

    static CANCEL_LOCK: AtomicU64 = AtomicU64::new(0);

    pub unsafe fn IoAcquireCancelSpinLock(irql: PKIRQL) {
        let before = unsafe { KeAcquireSpinLockRaiseToDpc(CANCEL_LOCK.as_ptr()) };
        unsafe { irql.write(before) };
    }

    pub unsafe fn IoReleaseCancelSpinLock(irql: KIRQL) {
        unsafe { KeReleaseSpinLock(CANCEL_LOCK.as_ptr(), irql) };
    }

    // Events.

    static DISPATCHER: Mutex<()> = Mutex::new(());
    static CHANGED: Condvar = Condvar::new();

    pub unsafe fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: u8) {
        let new = KEVENT {
            kind,
            signalled: state != 0,
        };
        unsafe { event.write(new) };
    }

    pub unsafe fn KeSetEvent(event: *mut KEVENT, _increment: i32, _wait: u8) -> i32 {
        let _locked = DISPATCHER.lock().unwrap();
        let before = unsafe { core::mem::replace(&mut (*event).signalled, true) };
        CHANGED.notify_all();
        i32::from(before)
    }

    pub unsafe fn KeResetEvent(event: *mut KEVENT) -> i32 {
        let _locked = DISPATCHER.lock().unwrap();
        i32::from(unsafe { core::mem::replace(&mut (*event).signalled, false) })
    }

    pub unsafe fn KeWaitForMultipleObjects(
        count: u32,
        objects: *mut PVOID,
        _kind: i32,
        _reason: i32,
        _mode: i8,
        _alertable: u8,
        timeout: *mut LARGE_INTEGER,
        _blocks: *mut KWAIT_BLOCK,
    ) -> NTSTATUS {
        let mut locked = DISPATCHER.lock().unwrap();
        loop {
            for index in 0..count {
                let event: *mut KEVENT = unsafe { objects.add(index as usize).read() }.cast();
                if unsafe { (*event).signalled } {
                    let keeps = unsafe { (*event).kind } == _EVENT_TYPE::NotificationEvent;
                    unsafe { (*event).signalled = keeps };
                    return i32::try_from(index).unwrap();
                }
            }
            if !timeout.is_null() {
                // STATUS_TIMEOUT; nothing here waits for longer than no time.
                return 0x102;
            }
            assert!(IRQL.get() < 2, "a wait at DISPATCH_LEVEL");
            locked = CHANGED.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub unsafe fn KeWaitForSingleObject(
        mut object: PVOID,
        reason: i32,
        mode: i8,
        alertable: u8,
        timeout: *mut LARGE_INTEGER,
    ) -> NTSTATUS {
        let (kind, none) = (_WAIT_TYPE::WaitAny, ptr::null_mut());
        unsafe {
            KeWaitForMultipleObjects(
                1,
                &raw mut object,
                kind,
                reason,
                mode,
                alertable,
                timeout,
                none,
            )
        }
    }

    // Rundown protection.

    unsafe fn count<'a>(rundown: *mut EX_RUNDOWN_REF) -> &'a AtomicU64 {
        unsafe { AtomicU64::from_ptr(&raw mut (*rundown).count) }
    }

    pub unsafe fn ExInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        unsafe { count(rundown) }.store(0, SeqCst);
    }

    pub unsafe fn ExReInitializeRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        assert_eq!(unsafe { count(rundown) }.swap(0, SeqCst), 1, "not run down");
    }

    pub unsafe fn ExAcquireRundownProtection(rundown: *mut EX_RUNDOWN_REF) -> u8 {
        let count = unsafe { count(rundown) };
        let free = |now: u64| (now & 1 == 0).then(|| now + 2);
        u8::from(count.fetch_update(SeqCst, SeqCst, free).is_ok())
    }

    pub unsafe fn ExReleaseRundownProtection(rundown: *mut EX_RUNDOWN_REF) {
        assert!(unsafe { count(rundown) }.fetch_sub(2, SeqCst) >= 2);
    }

    pub unsafe fn ExWaitForRundownProtectionRelease(rundown: *mut EX_RUNDOWN_REF) {
        let count = unsafe { count(rundown) };
        count.fetch_or(1, SeqCst);
        while count.load(SeqCst) != 1 {
            yield_now();
        }
    }

    // IRPs and cancel-safe queues, as their pages tell.

    unsafe fn cancel_routine<'a>(irp: PIRP) -> &'a AtomicPtr<()> {
        unsafe { AtomicPtr::from_ptr((&raw mut (*irp).CancelRoutine).cast()) }
    }

    unsafe fn cancel_flag<'a>(irp: PIRP) -> &'a AtomicU8 {
        unsafe { AtomicU8::from_ptr(&raw mut (*irp).Cancel) }
    }

    pub unsafe fn IoCancelIrp(irp: PIRP) -> u8 {
        let mut irql = 0;
        unsafe { IoAcquireCancelSpinLock(&raw mut irql) };
        unsafe { cancel_flag(irp) }.store(1, SeqCst);
        let routine = unsafe { cancel_routine(irp) }.swap(ptr::null_mut(), SeqCst);
        if routine.is_null() {
            unsafe { IoReleaseCancelSpinLock(irql) };
            return 0;
        }
        unsafe { (*irp).CancelIrql = irql };
        let routine = unsafe { core::mem::transmute::<*mut (), PDRIVER_CANCEL>(routine) };
        unsafe { routine.expect("a routine")(ptr::null_mut(), irp) };
        1
    }

    pub unsafe fn IoCsqInitializeEx(
        csq: PIO_CSQ,
        insert: Insert,
        remove: Remove,
        peek: Peek,
        acquire: Acquire,
        release: Release,
        complete: Remove,
    ) -> NTSTATUS {
        let new = IO_CSQ {
            list: CsqList {
                insert,
                remove,
                peek,
            },
            lock: CsqLock { acquire, release },
            complete,
        };
        unsafe { csq.write(new) };
        STATUS_SUCCESS
    }

    unsafe fn locked<T>(csq: PIO_CSQ, section: impl FnOnce() -> T) -> T {
        let mut irql = 0;
        unsafe { (*csq).lock.acquire.expect("a callback")(csq, &raw mut irql) };
        let result = section();
        unsafe { (*csq).lock.release.expect("a callback")(csq, irql) };
        result
    }

    unsafe fn remove(csq: PIO_CSQ, irp: PIRP) {
        unsafe { (*csq).list.remove.expect("a callback")(csq, irp) };
    }

    pub unsafe fn IoCsqInsertIrpEx(
        csq: PIO_CSQ,
        irp: PIRP,
        _context: PVOID,
        insert_context: PVOID,
    ) -> NTSTATUS {
        let (status, cancelled) = unsafe {
            locked(csq, || {
                let status = (*csq).list.insert.expect("a callback")(csq, irp, insert_context);
                if status != STATUS_SUCCESS {
                    return (status, false);
                }
                // The last word is the queue functions' own.
                let words = &raw mut (*irp).Tail.Overlay.__bindgen_anon_1.__bindgen_anon_1;
                (&raw mut (*words).DriverContext[3]).write(csq.cast());
                cancel_routine(irp).store(csq_cancel as *mut (), SeqCst);
                let cancelled = cancel_flag(irp).load(SeqCst) != 0
                    && !cancel_routine(irp).swap(ptr::null_mut(), SeqCst).is_null();
                if cancelled {
                    remove(csq, irp);
                }
                (status, cancelled)
            })
        };
        if cancelled {
            unsafe { (*csq).complete.expect("a callback")(csq, irp) };
        }
        status
    }

    pub unsafe fn IoCsqRemoveNextIrp(csq: PIO_CSQ, peek_context: PVOID) -> PIRP {
        unsafe {
            locked(csq, || {
                let mut irp = ptr::null_mut();
                loop {
                    irp = (*csq).list.peek.expect("a callback")(csq, irp, peek_context);
                    if irp.is_null() {
                        return irp;
                    }
                    // One whose routine was taken is being cancelled.
                    if !cancel_routine(irp).swap(ptr::null_mut(), SeqCst).is_null() {
                        remove(csq, irp);
                        return irp;
                    }
                }
            })
        }
    }

    unsafe extern "C" fn csq_cancel(_device: *mut DEVICE_OBJECT, irp: PIRP) {
        unsafe { IoReleaseCancelSpinLock((*irp).CancelIrql) };
        let words = unsafe { &raw mut (*irp).Tail.Overlay.__bindgen_anon_1.__bindgen_anon_1 };
        let csq: PIO_CSQ = unsafe { (&raw const (*words).DriverContext[3]).read() }.cast();
        unsafe { locked(csq, || remove(csq, irp)) };
        unsafe { (*csq).complete.expect("a callback")(csq, irp) };
    }
}
