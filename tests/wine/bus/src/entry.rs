//! DriverEntry, unload, dispatch, and what a Rust image without std needs.

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    ptr,
    sync::atomic::{AtomicPtr, Ordering::SeqCst},
};

use windows_sys::{
    Wdk::System::SystemServices::{
        IoCreateSymbolicLink, IoDeleteSymbolicLink, PsRemoveLoadImageNotifyRoutine,
        PsSetLoadImageNotifyRoutine,
    },
    Win32::{
        Foundation::UNICODE_STRING,
        System::{
            LibraryLoader::{
                GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN,
                GetModuleHandleExW,
            },
            Memory::{GetProcessHeap, HeapAlloc, HeapFree},
        },
    },
};

use crate::{
    bench, bus, deferred, filter, hooks, irql,
    lock::Lock,
    nt::{self, DEVICE_OBJECT, DRIVER_OBJECT, Device, IRP, Irp, Role, SUCCESS, Status},
    port, port_io,
    report::say,
    usb,
};

/// This driver.
static DRIVER: AtomicPtr<DRIVER_OBJECT> = AtomicPtr::new(ptr::null_mut());

pub(crate) fn driver() -> *mut DRIVER_OBJECT {
    DRIVER.load(SeqCst)
}

/// The control device.
static CONTROL: Lock<Option<Device>> = Lock::new(None);

/// `TRUE` of `DllMain`
const TRUE: Status = 1;
/// The last `DLL_` reason of a call to `DllMain`.
const LAST_REASON: usize = 3;

/// The entry point of the image. Wine calls it twice over: as `DllMain`, since the image imports from
/// kernel32.dll, where the second argument is a small number; and as DriverEntry, with a string.
///
/// # Safety
/// Wine calls it.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(
    driver: *mut DRIVER_OBJECT,
    path: *const UNICODE_STRING,
) -> Status {
    if path.addr() <= LAST_REASON {
        return TRUE;
    }
    DRIVER.store(driver, SeqCst);
    irql::initialize();
    // SAFETY: the I/O manager's object, for this driver to fill.
    unsafe {
        (*driver).MajorFunction = [Some(dispatch); 28];
        (*driver).DriverUnload = Some(unload);
        (*(*driver).DriverExtension).AddDevice = Some(bus::add_device);
    }
    let control = match Device::create(driver, Role::Bench, Some(&nt::wide(bench::NAME)), false) {
        Ok(it) => it,
        Err(status) => return status,
    };
    let (name, link) = (nt::wide(bench::NAME), nt::wide(bench::LINK));
    let (name, link) = (nt::unicode(&name), nt::unicode(&link));
    // SAFETY: both names are only read.
    let status = unsafe { IoCreateSymbolicLink(&raw const link, &raw const name) };
    if status < 0 {
        control.delete();
        return status;
    }
    control.finish();
    *CONTROL.lock() = Some(control);
    port::initialize();
    stay();
    if !(port_io::start() && deferred::start() && usb::start()) {
        say!("no thread or exception handler");
    }
    // SAFETY: this image stays.
    unsafe { PsSetLoadImageNotifyRoutine(Some(hooks::image_loaded)) };
    say!("version {}", env!("CARGO_PKG_VERSION"));
    SUCCESS
}

/// Keeps this image in the process. Wine stops all drivers of a process in the order of their
/// names, and then ends the process: those that call into this one may go later than it does. So
/// the handler, the threads and the functions in import tables stay.
fn stay() {
    let mut module = ptr::null_mut();
    // SAFETY: the flags say that the name is an address in the image.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            (&raw const DRIVER).cast(),
            &raw mut module,
        )
    };
}

unsafe extern "system" fn unload(_driver: *const DRIVER_OBJECT) {
    // SAFETY: set by DriverEntry.
    unsafe { PsRemoveLoadImageNotifyRoutine(Some(hooks::image_loaded)) };
    let link = nt::wide(bench::LINK);
    let link = nt::unicode(&link);
    // SAFETY: the name is only read.
    unsafe { IoDeleteSymbolicLink(&raw const link) };
    if let Some(control) = CONTROL.lock().take() {
        control.delete();
    }
}

unsafe extern "system" fn dispatch(device: *const DEVICE_OBJECT, irp: *mut IRP) -> Status {
    // SAFETY: the I/O manager's arguments; the device is this driver's.
    let (device, irp) = unsafe { (Device::from_raw(device.cast_mut()), Irp::from_raw(irp)) };
    match device.role() {
        Role::Bench => bench::dispatch(irp),
        Role::Bus(lower) => bus::dispatch_root(device, lower, irp),
        Role::Child(which) => bus::dispatch_child(device, which, irp),
        Role::Filter(it) => filter::dispatch(device, it, irp),
    }
}

type Unload = unsafe extern "system" fn(*const DRIVER_OBJECT);

/// Drivers under test, and their own unload routines.
static WATCHED: Lock<Vec<(usize, Unload)>> = Lock::new(Vec::new());

/// Will look what a driver leaves behind when it is unloaded.
pub(crate) fn watch_unload(driver: *mut DRIVER_OBJECT) {
    let mut watched = WATCHED.lock();
    // SAFETY: a live driver object.
    let routine = unsafe { (*driver).DriverUnload };
    if let Some(routine) = routine
        && watched.iter().all(|(it, _)| *it != driver.addr())
    {
        watched.push((driver.addr(), routine));
        // SAFETY: likewise.
        unsafe { (*driver).DriverUnload = Some(unload_watched) };
    }
}

unsafe extern "system" fn unload_watched(driver: *const DRIVER_OBJECT) {
    let routine = {
        let mut watched = WATCHED.lock();
        let at = watched.iter().position(|(it, _)| *it == driver.addr());
        at.map(|at| watched.swap_remove(at).1)
    };
    if let Some(routine) = routine {
        // SAFETY: the driver's own routine.
        unsafe { routine(driver) };
    }
    let last = WATCHED.lock().is_empty();
    let left = hooks::summary();
    let more = if last {
        ""
    } else {
        " (another instance is loaded)"
    };
    say!(
        "parscan.sys unloaded{more}; blocks left: {}",
        left.trim_end()
    );
}

/// The process's heap.
struct Heap;

#[global_allocator]
static HEAP: Heap = Heap;

// SAFETY: the heap's blocks are aligned to 16 bytes, and no more is given for any layout.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        const ALIGNMENT: usize = 16;
        if layout.align() > ALIGNMENT {
            return ptr::null_mut();
        }
        // SAFETY: no requirements.
        unsafe { HeapAlloc(GetProcessHeap(), 0, layout.size()) }.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: from `alloc`.
        unsafe { HeapFree(GetProcessHeap(), 0, block.cast()) };
    }
}

/// The handler that compiled-in libraries name in their unwind tables. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "system" fn __CxxFrameHandler3() -> i32 {
    /// `ExceptionContinueSearch`
    const CONTINUE_SEARCH: i32 = 1;
    CONTINUE_SEARCH
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("panic: {info}");
    // SAFETY: ends the process.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}
