//! Kernel functions that replace Wine's in the import table of the driver under test, before its
//! DriverEntry runs: those that Wine 8.0 lacks, those that are empty there, and those through which
//! this driver sees what happens.

mod etw;
mod ex;
mod io;
mod ke;
mod mm;
mod po;
mod pool;

use core::ffi::{c_char, c_void};

use windows_sys::{
    Wdk::System::SystemServices::IMAGE_INFO,
    Win32::{
        Foundation::{HANDLE, UNICODE_STRING},
        System::Memory::{PAGE_READWRITE, VirtualProtect},
    },
};

use crate::{
    nt,
    report::{broken, say},
};

pub(crate) use mm::{USER_PROBE_ADDRESS, address as mdl_address};
pub(crate) use pool::{give_away, summary};

/// An import and what it becomes: a function's address, or that of a variable.
type Hook = (&'static str, *const ());

/// Functions by the names of the imports that they replace.
macro_rules! functions {
    ($($name:literal => $function:path,)*) => {
        [$(($name, $function as *const ())),*]
    };
}

fn hooks() -> impl Iterator<Item = Hook> {
    let functions = functions! {
        "ExInitializeRundownProtection" => ex::ex_initialize_rundown_protection,
        "ExReInitializeRundownProtection" => ex::ex_reinitialize_rundown_protection,
        "ExAcquireRundownProtection" => ex::ex_acquire_rundown_protection,
        "ExReleaseRundownProtection" => ex::ex_release_rundown_protection,
        "ExWaitForRundownProtectionRelease" => ex::ex_wait_for_rundown_protection_release,
        "EtwRegister" => etw::etw_register,
        "EtwUnregister" => etw::etw_unregister,
        "EtwSetInformation" => etw::etw_set_information,
        "EtwWriteTransfer" => etw::etw_write_transfer,
        "IoAttachDeviceToDeviceStack" => io::io_attach_device_to_device_stack,
        "IofCompleteRequest" => io::iof_complete_request,
        "IoCsqInitializeEx" => io::io_csq_initialize_ex,
        "IoCsqInsertIrpEx" => io::io_csq_insert_irp_ex,
        "IoCsqRemoveNextIrp" => io::io_csq_remove_next_irp,
        "IoOpenDriverRegistryKey" => io::io_open_driver_registry_key,
        "KfRaiseIrql" => ke::kf_raise_irql,
        "KeLowerIrql" => ke::ke_lower_irql,
        "ExAllocateTimer" => ke::ex_allocate_timer,
        "ExSetTimer" => ke::ex_set_timer,
        "ExDeleteTimer" => ke::ex_delete_timer,
        "KeAcquireSpinLockRaiseToDpc" => ke::ke_acquire_spin_lock_raise_to_dpc,
        "KeReleaseSpinLock" => ke::ke_release_spin_lock,
        "KeWaitForSingleObject" => ke::ke_wait_for_single_object,
        "KeDelayExecutionThread" => ke::ke_delay_execution_thread,
        "KeStallExecutionProcessor" => ke::ke_stall_execution_processor,
        "KeQueryUnbiasedInterruptTime" => ke::ke_query_unbiased_interrupt_time,
        "KeSetTimer" => ke::ke_set_timer,
        "KeCancelTimer" => ke::ke_cancel_timer,
        "KeFlushQueuedDpcs" => ke::ke_flush_queued_dpcs,
        "IoBuildPartialMdl" => mm::io_build_partial_mdl,
        "MmMapLockedPagesSpecifyCache" => mm::mm_map_locked_pages_specify_cache,
        "MmUnmapLockedPages" => mm::mm_unmap_locked_pages,
        "PoRequestPowerIrp" => po::po_request_power_irp,
        "ExAllocatePool2" => pool::ex_allocate_pool2,
        "ExFreePoolWithTag" => pool::ex_free_pool_with_tag,
    };
    let variable = ("MmUserProbeAddress", (&raw const USER_PROBE_ADDRESS).cast());
    functions.into_iter().chain([variable])
}

/// `PLOAD_IMAGE_NOTIFY_ROUTINE`
///
/// # Safety
/// Wine's loader calls it, with an image that it has just mapped and linked.
pub(crate) unsafe extern "system" fn image_loaded(
    name: *const UNICODE_STRING,
    _process: HANDLE,
    info: *const IMAGE_INFO,
) {
    // SAFETY: the loader's string.
    let name = unsafe { nt::units(name) };
    if !is_under_test(name) {
        return;
    }
    // SAFETY: the loader's structure.
    let base = unsafe { (*info).ImageBase }.cast::<u8>();
    // SAFETY: a mapped image.
    let replaced = unsafe { relink(base) };
    say!("parscan.sys loaded, {replaced} imports replaced");
}

/// Whether a path ends in `parscan….sys`.
fn is_under_test(path: &[u16]) -> bool {
    let file = path
        .rsplit(|unit| *unit == u16::from(b'\\') || *unit == u16::from(b'/'))
        .next()
        .unwrap_or_default();
    let lower = |text: &[u16]| -> alloc::vec::Vec<u16> {
        let small =
            |unit: &u16| u8::try_from(*unit).map_or(*unit, |it| it.to_ascii_lowercase().into());
        text.iter().map(small).collect()
    };
    let file = lower(file);
    file.starts_with(&nt::wide("parscan")) && file.ends_with(&nt::wide(".sys"))
}

/// An entry of the import directory.
#[repr(C)]
struct Import {
    names: u32,
    stamp: u32,
    chain: u32,
    module: u32,
    slots: u32,
}

/// An address in an image; its tables are aligned as their members are.
fn at(base: *mut u8, offset: u32) -> *mut c_void {
    base.wrapping_add(offset as usize).cast()
}

/// Replaces the imports of an image that have a hook; gives how many.
///
/// # Safety
/// `base` is where an x64 image is mapped.
unsafe fn relink(base: *mut u8) -> usize {
    /// From the PE signature to the import directory's address.
    const IMPORT_DIRECTORY: usize = 24 + 112 + 8;
    // SAFETY: an image has these headers.
    let mut import = unsafe {
        let header = base.add(0x3C).cast::<u32>().read_unaligned() as usize;
        let directory = base
            .add(header + IMPORT_DIRECTORY)
            .cast::<u32>()
            .read_unaligned();
        if directory == 0 {
            return 0;
        }
        at(base, directory).cast::<Import>()
    };
    let mut replaced = 0;
    // SAFETY: the directory ends with an entry without a module, each table with a zero.
    unsafe {
        while (*import).module != 0 {
            let mut name = at(base, (*import).names).cast::<usize>();
            let mut slot = at(base, (*import).slots).cast::<*const ()>();
            while *name != 0 {
                // Two bytes of hint come before the text.
                let text = base.wrapping_add(*name + 2).cast::<c_char>();
                if (*name).cast_signed() > 0
                    && let Some((_, to)) = hooks().find(|(name, _)| nt::is_name(text, name))
                {
                    set_slot(slot, to);
                    replaced += 1;
                }
                name = name.add(1);
                slot = slot.add(1);
            }
            import = import.add(1);
        }
    }
    replaced
}

/// # Safety
/// `slot` is in the import table of an image whose code does not run yet.
unsafe fn set_slot(slot: *mut *const (), to: *const ()) {
    let mut before = 0;
    // SAFETY: the page of the slot.
    if unsafe {
        VirtualProtect(
            slot.cast(),
            size_of_val(&to),
            PAGE_READWRITE,
            &raw mut before,
        )
    } == 0
    {
        broken!("an import cannot be replaced");
        return;
    }
    // SAFETY: writable now.
    unsafe { slot.write(to) };
    // SAFETY: as it was.
    unsafe { VirtualProtect(slot.cast(), size_of_val(&to), before, &raw mut before) };
}
