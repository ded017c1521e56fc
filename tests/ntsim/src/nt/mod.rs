//! The kernel's exported functions.
//!
//! Each is an `extern "efiapi"` function in the file of its prefix, and one line in [`table`]: name,
//! the IRQLs at which it may be called (the stricter of its page and Driver Verifier's rule), and
//! whether fault injection can make it fail. [`on_call`] sees every call first.

#[cfg_attr(target_arch = "aarch64", path = "../arm64/copy.rs")]
pub(crate) mod copy;
pub(crate) mod csq;
pub(crate) mod ex;
pub(crate) mod interrupt;
pub(crate) mod io;
pub(crate) mod ke;
pub(crate) mod mm;
pub(crate) mod ob;
pub(crate) mod po;
pub(crate) mod remlock;
pub(crate) mod rtl;
pub(crate) mod types;
pub(crate) mod usbd;
pub(crate) mod work;
pub(crate) mod zw;

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::etw;
use crate::mem::{Va, peek};
use crate::rules;
use crate::state::{DriverId, Kernel, fail, with};
use crate::trace::EventKind;
use crate::walk::Place;

pub(crate) const PASSIVE: u8 = 0;
pub(crate) const APC: u8 = 1;
pub(crate) const DISPATCH: u8 = 2;
const HIGH: u8 = 15;

/// One exported function.
pub(crate) struct Export {
    pub name: &'static str,
    entry: Va,
    min: u8,
    max: u8,
    fails: bool,
    raw: bool,
    /// Runs on the driver's stack: it may go on in an exception handler of the driver.
    direct: bool,
}

macro_rules! exports {
    ($($name:ident = $f:path, $min:expr, $max:expr $(, $flag:ident)?;)*) => {
        vec![$({
            #[allow(unused_mut, reason = "not all rows have a flag")]
            let mut export = Export {
                name: stringify!($name),
                entry: $f as *const () as usize,
                min: $min,
                max: $max,
                fails: false,
                raw: false,
                direct: false,
            };
            $(export.$flag = true;)?
            export
        }),*]
    };
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn build() -> Vec<Export> {
    exports! {
        ExAllocatePool2 = ex::ex_allocate_pool2, PASSIVE, DISPATCH, fails;
        ExFreePool = ex::ex_free_pool, PASSIVE, DISPATCH;
        ExFreePoolWithTag = ex::ex_free_pool_with_tag, PASSIVE, DISPATCH;
        ExInitializeRundownProtection = ex::ex_initialize_rundown_protection, PASSIVE, APC;
        ExReInitializeRundownProtection = ex::ex_initialize_rundown_protection, PASSIVE, APC;
        ExAcquireRundownProtection = ex::ex_acquire_rundown_protection, PASSIVE, DISPATCH;
        ExReleaseRundownProtection = ex::ex_release_rundown_protection, PASSIVE, DISPATCH;
        ExWaitForRundownProtectionRelease = ex::ex_wait_for_rundown_protection_release, PASSIVE, APC;
        ExRundownCompleted = ex::ex_rundown_completed, PASSIVE, APC;
        ExInitializeFastMutex = ex::ex_initialize_fast_mutex, PASSIVE, DISPATCH;
        ExAcquireFastMutex = ex::ex_acquire_fast_mutex, PASSIVE, APC;
        ExTryToAcquireFastMutex = ex::ex_try_to_acquire_fast_mutex, PASSIVE, APC;
        ExReleaseFastMutex = ex::ex_release_fast_mutex, APC, APC;
        ExAllocateTimer = ke::ex_allocate_timer, PASSIVE, DISPATCH, fails;
        ExSetTimer = ke::ex_set_timer, PASSIVE, DISPATCH;
        ExCancelTimer = ke::ex_cancel_timer, PASSIVE, DISPATCH;
        ExDeleteTimer = ke::ex_delete_timer, PASSIVE, DISPATCH;
        ExGetPreviousMode = ex::ex_get_previous_mode, PASSIVE, DISPATCH;

        IoCreateDevice = io::io_create_device, PASSIVE, PASSIVE, fails;
        IoDeleteDevice = io::io_delete_device, PASSIVE, APC;
        IoAttachDeviceToDeviceStack = io::io_attach_device_to_device_stack, PASSIVE, DISPATCH, fails;
        IoDetachDevice = io::io_detach_device, PASSIVE, PASSIVE;
        IoCreateSymbolicLink = io::io_create_symbolic_link, PASSIVE, PASSIVE, fails;
        IoCreateUnprotectedSymbolicLink = io::io_create_symbolic_link, PASSIVE, PASSIVE, fails;
        IoDeleteSymbolicLink = io::io_delete_symbolic_link, PASSIVE, PASSIVE;
        IoRegisterDeviceInterface = io::io_register_device_interface, PASSIVE, PASSIVE, fails;
        IoSetDeviceInterfaceState = io::io_set_device_interface_state, PASSIVE, PASSIVE;
        IoOpenDeviceRegistryKey = io::io_open_device_registry_key, PASSIVE, PASSIVE, fails;
        IoOpenDriverRegistryKey = io::io_open_driver_registry_key, PASSIVE, PASSIVE, fails;
        IoGetDeviceProperty = io::io_get_device_property, PASSIVE, PASSIVE, fails;
        IoSetDevicePropertyData = io::io_set_device_property_data, PASSIVE, PASSIVE, fails;
        IoInvalidateDeviceRelations = io::io_invalidate_device_relations, PASSIVE, DISPATCH;
        IoInvalidateDeviceState = io::io_invalidate_device_state, PASSIVE, DISPATCH;
        IoGetAttachedDeviceReference = io::io_get_attached_device_reference, PASSIVE, DISPATCH;
        IoGetDeviceObjectPointer = io::io_get_device_object_pointer, PASSIVE, PASSIVE, fails;
        IoConnectInterruptEx = interrupt::io_connect_interrupt_ex, PASSIVE, PASSIVE, fails;
        IoDisconnectInterruptEx = interrupt::io_disconnect_interrupt_ex, PASSIVE, PASSIVE;
        IofCompleteRequest = io::iof_complete_request, PASSIVE, HIGH;
        IofCallDriver = io::iof_call_driver, PASSIVE, DISPATCH;
        IoCancelIrp = io::io_cancel_irp, PASSIVE, DISPATCH;
        IoAcquireCancelSpinLock = io::io_acquire_cancel_spin_lock, PASSIVE, DISPATCH;
        IoReleaseCancelSpinLock = io::io_release_cancel_spin_lock, DISPATCH, DISPATCH;
        IoAllocateIrp = io::io_allocate_irp, PASSIVE, DISPATCH, fails;
        IoFreeIrp = io::io_free_irp, PASSIVE, DISPATCH;
        IoReuseIrp = io::io_reuse_irp, PASSIVE, DISPATCH;
        IoBuildDeviceIoControlRequest = io::io_build_device_io_control_request, PASSIVE, APC, fails;
        IoForwardIrpSynchronously = io::io_forward_irp_synchronously, PASSIVE, APC;
        IoIs32bitProcess = io::io_is32bit_process, PASSIVE, DISPATCH;
        IoAllocateWorkItem = work::io_allocate_work_item, PASSIVE, DISPATCH, fails;
        IoQueueWorkItem = work::io_queue_work_item, PASSIVE, DISPATCH;
        IoQueueWorkItemEx = work::io_queue_work_item_ex, PASSIVE, DISPATCH;
        IoFreeWorkItem = work::io_free_work_item, PASSIVE, DISPATCH;
        IoInitializeRemoveLockEx = remlock::io_initialize_remove_lock_ex, PASSIVE, PASSIVE;
        IoAcquireRemoveLockEx = remlock::io_acquire_remove_lock_ex, PASSIVE, DISPATCH;
        IoReleaseRemoveLockEx = remlock::io_release_remove_lock_ex, PASSIVE, DISPATCH;
        IoReleaseRemoveLockAndWaitEx = remlock::io_release_remove_lock_and_wait_ex, PASSIVE, PASSIVE;
        IoCsqInitialize = csq::io_csq_initialize, PASSIVE, HIGH;
        IoCsqInitializeEx = csq::io_csq_initialize_ex, PASSIVE, HIGH;
        IoCsqInsertIrp = csq::io_csq_insert_irp, PASSIVE, DISPATCH;
        IoCsqInsertIrpEx = csq::io_csq_insert_irp_ex, PASSIVE, DISPATCH;
        IoCsqRemoveIrp = csq::io_csq_remove_irp, PASSIVE, DISPATCH;
        IoCsqRemoveNextIrp = csq::io_csq_remove_next_irp, PASSIVE, DISPATCH;

        IoAllocateErrorLogEntry = etw::io_allocate_error_log_entry, PASSIVE, DISPATCH, fails;
        IoFreeErrorLogEntry = etw::io_free_error_log_entry, PASSIVE, DISPATCH;
        IoWriteErrorLogEntry = etw::io_write_error_log_entry, PASSIVE, DISPATCH;

        EtwRegister = etw::etw_register, PASSIVE, PASSIVE, fails;
        EtwUnregister = etw::etw_unregister, PASSIVE, PASSIVE;
        EtwSetInformation = etw::etw_set_information, PASSIVE, PASSIVE, fails;
        EtwWriteTransfer = etw::etw_write_transfer, PASSIVE, HIGH;

        KeGetCurrentIrql = ke::ke_get_current_irql, PASSIVE, HIGH;
        KfRaiseIrql = ke::kf_raise_irql, PASSIVE, HIGH;
        KeRaiseIrqlToDpcLevel = ke::ke_raise_irql_to_dpc_level, PASSIVE, DISPATCH;
        KeLowerIrql = ke::ke_lower_irql, PASSIVE, HIGH;
        KeInitializeSpinLock = ke::ke_initialize_spin_lock, PASSIVE, HIGH;
        KeAcquireSpinLockRaiseToDpc = ke::ke_acquire_spin_lock_raise_to_dpc, PASSIVE, DISPATCH;
        KeReleaseSpinLock = ke::ke_release_spin_lock, DISPATCH, DISPATCH;
        KeAcquireSpinLockAtDpcLevel = ke::ke_acquire_spin_lock_at_dpc_level, DISPATCH, DISPATCH;
        KeReleaseSpinLockFromDpcLevel = ke::ke_release_spin_lock_from_dpc_level, DISPATCH, DISPATCH;
        KeAcquireInStackQueuedSpinLock = ke::ke_acquire_in_stack_queued_spin_lock, PASSIVE, DISPATCH;
        KeReleaseInStackQueuedSpinLock = ke::ke_release_in_stack_queued_spin_lock, DISPATCH, DISPATCH;
        KeAcquireInterruptSpinLock = interrupt::ke_acquire_interrupt_spin_lock, PASSIVE, HIGH;
        KeReleaseInterruptSpinLock = interrupt::ke_release_interrupt_spin_lock, PASSIVE, HIGH;
        KeSynchronizeExecution = interrupt::ke_synchronize_execution, PASSIVE, HIGH;
        KeInitializeEvent = ke::ke_initialize_event, PASSIVE, HIGH;
        KeSetEvent = ke::ke_set_event, PASSIVE, DISPATCH;
        KeResetEvent = ke::ke_reset_event, PASSIVE, DISPATCH;
        KeClearEvent = ke::ke_reset_event, PASSIVE, DISPATCH;
        KeReadStateEvent = ke::ke_read_state_event, PASSIVE, DISPATCH;
        KeInitializeSemaphore = ke::ke_initialize_semaphore, PASSIVE, PASSIVE;
        KeReleaseSemaphore = ke::ke_release_semaphore, PASSIVE, DISPATCH;
        KeInitializeMutex = ke::ke_initialize_mutex, PASSIVE, HIGH;
        KeReleaseMutex = ke::ke_release_mutex, PASSIVE, DISPATCH;
        KeWaitForSingleObject = ke::ke_wait_for_single_object, PASSIVE, DISPATCH;
        KeWaitForMultipleObjects = ke::ke_wait_for_multiple_objects, PASSIVE, DISPATCH;
        KeDelayExecutionThread = ke::ke_delay_execution_thread, PASSIVE, APC;
        KeStallExecutionProcessor = ke::ke_stall_execution_processor, PASSIVE, HIGH;
        KeQueryPerformanceCounter = ke::ke_query_performance_counter, PASSIVE, HIGH;
        KeQueryUnbiasedInterruptTime = ke::ke_query_unbiased_interrupt_time, PASSIVE, HIGH;
        KeInitializeTimer = ke::ke_initialize_timer, PASSIVE, DISPATCH;
        KeInitializeTimerEx = ke::ke_initialize_timer_ex, PASSIVE, DISPATCH;
        KeSetTimer = ke::ke_set_timer, PASSIVE, DISPATCH;
        KeSetTimerEx = ke::ke_set_timer_ex, PASSIVE, DISPATCH;
        KeCancelTimer = ke::ke_cancel_timer, PASSIVE, DISPATCH;
        KeInitializeDpc = ke::ke_initialize_dpc, PASSIVE, HIGH;
        KeInsertQueueDpc = ke::ke_insert_queue_dpc, PASSIVE, HIGH;
        KeRemoveQueueDpc = ke::ke_remove_queue_dpc, PASSIVE, HIGH;
        KeFlushQueuedDpcs = ke::ke_flush_queued_dpcs, PASSIVE, PASSIVE;
        KeSetPriorityThread = ke::ke_set_priority_thread, PASSIVE, PASSIVE;
        KeEnterCriticalRegion = ke::ke_enter_critical_region, PASSIVE, APC;
        KeLeaveCriticalRegion = ke::ke_leave_critical_region, PASSIVE, APC;
        KeBugCheckEx = ke::ke_bug_check_ex, PASSIVE, HIGH;
        KeBugCheck = ke::ke_bug_check, PASSIVE, HIGH;
        KeGetCurrentThread = ke::ke_get_current_thread, PASSIVE, HIGH;

        DbgPrint = rtl::dbg_print, PASSIVE, HIGH;
        DbgPrintEx = rtl::dbg_print_ex, PASSIVE, HIGH;

        PsCreateSystemThread = ob::ps_create_system_thread, PASSIVE, PASSIVE, fails;
        PsTerminateSystemThread = ob::ps_terminate_system_thread, PASSIVE, PASSIVE;
        PsGetCurrentProcess = ob::io_get_current_process, PASSIVE, HIGH;
        IoGetCurrentProcess = ob::io_get_current_process, PASSIVE, HIGH;
        ObReferenceObjectByHandle = ob::ob_reference_object_by_handle, PASSIVE, PASSIVE;
        ObfReferenceObject = ob::obf_reference_object, PASSIVE, DISPATCH;
        ObfDereferenceObject = ob::obf_dereference_object, PASSIVE, DISPATCH;
        ObReferenceObjectByPointer = ob::ob_reference_object_by_pointer, PASSIVE, DISPATCH;
        ObOpenObjectByPointer = ob::ob_open_object_by_pointer, PASSIVE, PASSIVE, fails;

        ZwSetSecurityObject = zw::zw_set_security_object, PASSIVE, PASSIVE, fails;
        ZwCreateFile = zw::zw_create_file, PASSIVE, PASSIVE, fails;
        ZwOpenFile = zw::zw_open_file, PASSIVE, PASSIVE, fails;
        ZwClose = zw::zw_close, PASSIVE, PASSIVE;
        ZwWaitForSingleObject = zw::zw_wait_for_single_object, PASSIVE, PASSIVE;
        ZwOpenKey = zw::zw_open_key, PASSIVE, PASSIVE, fails;
        ZwCreateKey = zw::zw_create_key, PASSIVE, PASSIVE, fails;
        ZwQueryValueKey = zw::zw_query_value_key, PASSIVE, PASSIVE, fails;
        ZwSetValueKey = zw::zw_set_value_key, PASSIVE, PASSIVE, fails;
        ZwDeleteValueKey = zw::zw_delete_value_key, PASSIVE, PASSIVE;

        RtlInitUnicodeString = rtl::rtl_init_unicode_string, PASSIVE, DISPATCH;
        RtlFreeUnicodeString = rtl::rtl_free_unicode_string, PASSIVE, APC;
        RtlCopyUnicodeString = rtl::rtl_copy_unicode_string, PASSIVE, HIGH;
        RtlCompareUnicodeString = rtl::rtl_compare_unicode_string, PASSIVE, PASSIVE;
        RtlEqualUnicodeString = rtl::rtl_equal_unicode_string, PASSIVE, PASSIVE;
        RtlAppendUnicodeToString = rtl::rtl_append_unicode_to_string, PASSIVE, HIGH;
        RtlCompareMemory = rtl::rtl_compare_memory, PASSIVE, HIGH;
        MmGetSystemRoutineAddress = rtl::mm_get_system_routine_address, PASSIVE, PASSIVE;

        ProbeForRead = mm::probe_for_read, PASSIVE, APC, direct;
        ProbeForWrite = mm::probe_for_write, PASSIVE, APC, direct;
        ExRaiseStatus = mm::ex_raise_status, PASSIVE, APC, direct;
        ExRaiseAccessViolation = mm::ex_raise_access_violation, PASSIVE, APC, direct;
        IoAllocateMdl = mm::io_allocate_mdl, PASSIVE, DISPATCH, fails;
        IoFreeMdl = mm::io_free_mdl, PASSIVE, DISPATCH;
        IoBuildPartialMdl = mm::io_build_partial_mdl, PASSIVE, DISPATCH;
        MmProbeAndLockPages = mm::mm_probe_and_lock_pages, PASSIVE, DISPATCH, direct;
        MmUnlockPages = mm::mm_unlock_pages, PASSIVE, DISPATCH;
        MmBuildMdlForNonPagedPool = mm::mm_build_mdl_for_non_paged_pool, PASSIVE, DISPATCH;
        MmMapLockedPagesSpecifyCache = mm::mm_map_locked_pages_specify_cache, PASSIVE, DISPATCH, fails;
        MmUnmapLockedPages = mm::mm_unmap_locked_pages, PASSIVE, DISPATCH;

        PoSetPowerState = po::po_set_power_state, PASSIVE, DISPATCH;
        PoRequestPowerIrp = po::po_request_power_irp, PASSIVE, DISPATCH, fails;
        PoStartNextPowerIrp = po::po_start_next_power_irp, PASSIVE, DISPATCH;
        PoCallDriver = io::iof_call_driver, PASSIVE, DISPATCH;

        USBD_CreateConfigurationRequestEx = usbd::create_configuration_request_ex, PASSIVE, DISPATCH, fails;
        USBD_GetUSBDIVersion = usbd::get_usbdi_version, PASSIVE, DISPATCH;
        USBD_ParseConfigurationDescriptorEx = usbd::parse_configuration_descriptor_ex, PASSIVE, APC;
        USBD_ParseDescriptors = usbd::parse_descriptors, PASSIVE, APC;

        memcpy = copy::memmove, PASSIVE, HIGH, raw;
        memmove = copy::memmove, PASSIVE, HIGH, raw;
        memset = copy::memset, PASSIVE, HIGH, raw;
        memcmp = copy::memcmp, PASSIVE, HIGH, raw;
        RtlCopyMemory = copy::memmove, PASSIVE, HIGH, raw;
        RtlMoveMemory = copy::memmove, PASSIVE, HIGH, raw;
        RtlFillMemory = copy::fill, PASSIVE, HIGH, raw;
        RtlZeroMemory = copy::zero, PASSIVE, HIGH, raw;
        __chkstk = rtl::chkstk, PASSIVE, HIGH, raw;
        __C_specific_handler = crate::seh::c_specific_handler, PASSIVE, HIGH, raw;
    }
}

pub(crate) fn table() -> &'static [Export] {
    static TABLE: OnceLock<Vec<Export>> = OnceLock::new();
    TABLE.get_or_init(build)
}

/// Index of an exported function. The HAL's functions live in the kernel image on present Windows.
pub(crate) fn find_export(module: &str, name: &str) -> Option<usize> {
    static NAMES: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        table()
            .iter()
            .enumerate()
            .map(|(i, e)| (e.name, i))
            .collect()
    });
    let module = module.to_ascii_lowercase();
    let here = match module.as_str() {
        "ntoskrnl.exe" | "hal.dll" => !name.starts_with("USBD_"),
        "usbd.sys" => name.starts_with("USBD_"),
        _ => false,
    };
    if !here {
        return None;
    }
    names.get(name).copied()
}

/// Functions that take part in the calling sequence itself, or that the compiler calls, are bound
/// directly.
pub(crate) fn raw_entry(index: usize) -> Option<Va> {
    table().get(index).filter(|e| e.raw).map(|e| e.entry)
}

/// The variables that ntoskrnl exports: name and content (an address of an object type, or a value).
pub(crate) fn data_exports(k: &mut Kernel) -> HashMap<&'static str, Va> {
    let mut map = HashMap::new();
    for name in [
        "PsThreadType",
        "PsProcessType",
        "IoDeviceObjectType",
        "IoFileObjectType",
        "IoDriverObjectType",
        "ExEventObjectType",
    ] {
        let kind = k.system_alloc(16, name);
        let slot = k.system_alloc(8, name);
        crate::mem::poke(slot, kind);
        map.insert(name, slot);
    }
    let probe = crate::user::PROBE;
    for (name, value) in [
        ("MmUserProbeAddress", probe),
        ("MmHighestUserAddress", probe - 1),
        ("MmSystemRangeStart", probe + 0x1_0000),
    ] {
        let slot = k.system_alloc(8, name);
        crate::mem::poke(slot, value);
        map.insert(name, slot);
    }
    map
}

/// Runs before every call of a driver into the kernel. Returns the function's address.
pub(crate) extern "efiapi" fn on_call(selector: u32, return_slot: usize, rbp: usize) -> usize {
    let place = Place {
        rip: 0,
        rsp: return_slot + 8,
        rbp,
    };
    let export = &table()[(selector & 0xFFFF) as usize];
    let caller = DriverId((selector >> 16) as usize);
    let site: Va = peek(return_slot);
    let irql = with(|k| {
        let t = k.sched.thread();
        (t.call, t.call_place, t.caller) = (site, place, Some(caller));
        let cost = k.config.call_ns;
        k.now += cost;
        k.cpu_time += cost;
        k.inject = false;
        k.calls += 1;
        k.count_call(caller, export.name);
        if k.config.trace_calls {
            // A tail call returns to the machine itself: no place in the driver.
            let rva = k.locate(site).map_or(0, |(_, rva)| rva);
            k.event(EventKind::Call {
                name: export.name,
                rva,
            });
        }
        if export.fails && k.inject_into.is_none_or(|d| d == caller) {
            k.failable += 1;
            let by_stack = k.seen_stacks.clone().is_some_and(|seen| {
                // Which driver, and the stack from here to the kernel code that called drivers.
                let stack = k.own_stack();
                let offsets = stack.iter().filter_map(|va| Some(k.locate(*va)?.1));
                seen.note(core::iter::once(selector >> 16).chain(offsets).collect())
            });
            if by_stack || k.fail_at.contains(&k.failable) {
                k.inject = true;
                let place = k.site_name(crate::state::Site(site));
                k.note(format!("fault injection: {} from {place}", export.name));
                k.failed_calls.push(format!("{} {place}", export.name));
            }
        }
        k.sched.thread().irql
    });
    if export.fails
        && with(|k| k.points.is_some() && k.inject_into.is_none_or(|d| d == caller))
        && crate::points::reach(crate::Point::Call)
    {
        with(|k| {
            k.inject = true;
            let place = k.site_name(crate::state::Site(site));
            k.note(format!("fault injection: {} from {place}", export.name));
            k.failed_calls.push(format!("{} {place}", export.name));
        });
    }
    if irql < export.min || irql > export.max {
        let name = export.name;
        let rule = match name {
            _ if name.starts_with("Zw") => rules::IRQL_CALL_ZW,
            "KeReleaseSpinLock"
            | "KeReleaseSpinLockFromDpcLevel"
            | "KeReleaseInStackQueuedSpinLock" => rules::LOCK_NOT_HELD,
            _ => rules::IRQL_CALL,
        };
        fail(
            rule,
            format!(
                "{name} at IRQL {irql}, allowed {} to {}",
                export.min, export.max
            ),
        );
    }
    if let Some((rule, what)) = with(|k| crate::power::check_call(k, export.name)) {
        fail(rule, what);
    }
    let left = with(|k| return_slot.saturating_sub(k.sched.thread().stack().0));
    if left < crate::stack::LEAF {
        fail(
            rules::STACK_OVERFLOW,
            format!("{left} bytes left at {}", export.name),
        );
    }
    let inject = with(|k| k.inject);
    crate::sched::tick();
    crate::watch::at_call(export.name);
    with(|k| {
        k.inject = inject;
        let t = k.sched.thread();
        (t.call, t.call_place, t.caller) = (site, place, Some(caller));
    });
    if cfg!(target_arch = "aarch64") {
        return export.entry;
    }
    export.entry | usize::from(export.direct) << crate::cpu::DIRECT
}

/// Calls a routine that a driver registered: a driver's own on its stack, the machine's (as a
/// dispatch routine of the bus is) on this one. Preserves which kernel call was running around it.
pub(crate) fn guest(routine: Va, args: &[usize]) -> usize {
    if routine == 0 {
        fail(
            rules::NULL_ACCESS,
            "a routine registered by the driver is null",
        );
    }
    let (context, left) = with(|k| {
        let own = k.is_internal(routine);
        let t = k.sched.thread();
        let call = core::mem::take(&mut t.call);
        t.outer.push((call, t.call_place, t.caller.take()));
        let left = t.stack_left();
        ((!own).then(|| t.context()), left)
    });
    let result = if let Some(context) = context {
        if left < crate::stack::LEAF {
            fail(
                rules::STACK_OVERFLOW,
                format!("{left} bytes left at a call of a driver"),
            );
        }
        crate::stack::enter(routine, args, context)
    } else {
        call(routine, args)
    };
    with(|k| {
        let t = k.sched.thread();
        (t.call, t.call_place, t.caller) = t.outer.pop().unwrap_or_default();
    });
    result
}

/// Calls a routine of the machine that stands for one of a driver.
fn call(routine: Va, args: &[usize]) -> usize {
    type F2 = extern "efiapi" fn(usize, usize) -> usize;
    type F3 = extern "efiapi" fn(usize, usize, usize) -> usize;
    let pointer: *const () = core::ptr::with_exposed_provenance(routine);
    match *args {
        [a, b] => {
            // SAFETY: `Kernel::is_internal` knows the machine's own dispatch routines.
            let routine = unsafe { core::mem::transmute::<*const (), F2>(pointer) };
            routine(a, b)
        }
        [a, b, c] => {
            // SAFETY: and the machine's own completion routines.
            let routine = unsafe { core::mem::transmute::<*const (), F3>(pointer) };
            routine(a, b, c)
        }
        _ => unreachable!("the machine has no such routine"),
    }
}

/// State that a routine of the driver must leave as it found it.
pub(crate) struct Entry {
    irql: u8,
    critical: i32,
    guarded: i32,
    locks: usize,
}

impl Entry {
    pub(crate) fn now() -> Self {
        with(|k| {
            let t = k.sched.thread();
            Self {
                irql: t.irql,
                critical: t.critical,
                guarded: t.guarded,
                locks: t.locks.len(),
            }
        })
    }

    /// Compares after `what` returned.
    pub(crate) fn check(&self, what: &str) {
        self.check_as(what, rules::IRQL_CHANGED, rules::APC_CHANGED);
    }

    /// The same for a completion routine, which has rules of its own.
    pub(crate) fn check_completion(&self) {
        self.check_as(
            "completion routine",
            rules::COMPLETION_IRQL,
            rules::COMPLETION_APC,
        );
    }

    fn check_as(&self, what: &str, irql: rules::Rule, apc: rules::Rule) {
        let now = Self::now();
        if now.locks > self.locks {
            let lock = with(|k| k.sched.thread().locks.last().map_or(0, |l| l.lock));
            fail(
                rules::LOCK_HELD_RETURN,
                format!("{what} returned with lock {lock:#x} held"),
            );
        }
        if now.irql != self.irql {
            fail(
                irql,
                format!(
                    "{what} entered at IRQL {}, returned at {}",
                    self.irql, now.irql
                ),
            );
        }
        if now.critical != self.critical || now.guarded != self.guarded {
            fail(apc, what.to_owned());
        }
    }
}
