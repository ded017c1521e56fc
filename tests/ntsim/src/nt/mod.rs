//! The kernel's exported functions.
//!
//! Each is an `extern "efiapi"` function in the file of its prefix, and one line in [`table`], in the
//! group of its IRQLs: those at which it may be called (the stricter of its page and Driver
//! Verifier's rule). The groups also tell whether fault injection can make it fail. [`on_call`] sees
//! every call first.

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

use crate::NtStatus;
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
#[derive(Clone, Copy)]
pub(crate) struct Export {
    pub name: &'static str,
    entry: Va,
    min: u8,
    max: u8,
    how: How,
}

/// What is particular about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    /// Fault injection can make it fail.
    Fails,
    /// Bound without a check: it takes part in the calling sequence, or the compiler calls it.
    Raw,
    /// Runs on the driver's stack: it may go on in an exception handler of the driver.
    Direct,
}

/// Exported functions, grouped by what is particular about their calls, and by the lowest and the
/// highest IRQL.
macro_rules! exports {
    ($($how:ident, $min:ident to $max:ident { $($name:ident => $f:path,)* })*) => {
        [$([$((stringify!($name), $f as *const () as usize)),*]
            .map(|(name, entry)| Export { name, entry, min: $min, max: $max, how: How::$how })
            .as_slice()),*]
        .concat()
    };
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn build() -> Vec<Export> {
    exports! {
        Plain, PASSIVE to PASSIVE {
            IoDetachDevice => io::io_detach_device,
            IoDeleteSymbolicLink => io::io_delete_symbolic_link,
            IoSetDeviceInterfaceState => io::io_set_device_interface_state,
            IoDisconnectInterruptEx => interrupt::io_disconnect_interrupt_ex,
            IoInitializeRemoveLockEx => remlock::io_initialize_remove_lock_ex,
            IoReleaseRemoveLockAndWaitEx => remlock::io_release_remove_lock_and_wait_ex,
            EtwUnregister => etw::etw_unregister,
            KeInitializeSemaphore => ke::ke_initialize_semaphore,
            KeFlushQueuedDpcs => ke::ke_flush_queued_dpcs,
            KeSetPriorityThread => ke::ke_set_priority_thread,
            PsTerminateSystemThread => ob::ps_terminate_system_thread,
            ObReferenceObjectByHandle => ob::ob_reference_object_by_handle,
            ZwClose => zw::zw_close,
            ZwWaitForSingleObject => zw::zw_wait_for_single_object,
            ZwDeleteValueKey => zw::zw_delete_value_key,
            RtlCompareUnicodeString => rtl::rtl_compare_unicode_string,
            RtlEqualUnicodeString => rtl::rtl_equal_unicode_string,
            MmGetSystemRoutineAddress => rtl::mm_get_system_routine_address,
        }
        Plain, PASSIVE to APC {
            ExInitializeRundownProtection => ex::ex_initialize_rundown_protection,
            ExReInitializeRundownProtection => ex::ex_initialize_rundown_protection,
            ExWaitForRundownProtectionRelease => ex::ex_wait_for_rundown_protection_release,
            ExRundownCompleted => ex::ex_rundown_completed,
            ExAcquireFastMutex => ex::ex_acquire_fast_mutex,
            ExTryToAcquireFastMutex => ex::ex_try_to_acquire_fast_mutex,
            IoDeleteDevice => io::io_delete_device,
            IoForwardIrpSynchronously => io::io_forward_irp_synchronously,
            KeDelayExecutionThread => ke::ke_delay_execution_thread,
            KeEnterCriticalRegion => ke::ke_enter_critical_region,
            KeLeaveCriticalRegion => ke::ke_leave_critical_region,
            RtlFreeUnicodeString => rtl::rtl_free_unicode_string,
            USBD_ParseConfigurationDescriptorEx => usbd::parse_configuration_descriptor_ex,
            USBD_ParseDescriptors => usbd::parse_descriptors,
        }
        Plain, PASSIVE to DISPATCH {
            ExFreePool => ex::ex_free_pool,
            ExFreePoolWithTag => ex::ex_free_pool_with_tag,
            ExAcquireRundownProtection => ex::ex_acquire_rundown_protection,
            ExReleaseRundownProtection => ex::ex_release_rundown_protection,
            ExInitializeFastMutex => ex::ex_initialize_fast_mutex,
            ExSetTimer => ke::ex_set_timer,
            ExCancelTimer => ke::ex_cancel_timer,
            ExDeleteTimer => ke::ex_delete_timer,
            ExGetPreviousMode => ex::ex_get_previous_mode,
            IoInvalidateDeviceRelations => io::io_invalidate_device_relations,
            IoInvalidateDeviceState => io::io_invalidate_device_state,
            IoGetAttachedDeviceReference => io::io_get_attached_device_reference,
            IofCallDriver => io::iof_call_driver,
            IoCancelIrp => io::io_cancel_irp,
            IoAcquireCancelSpinLock => io::io_acquire_cancel_spin_lock,
            IoFreeIrp => io::io_free_irp,
            IoReuseIrp => io::io_reuse_irp,
            IoIs32bitProcess => io::io_is32bit_process,
            IoQueueWorkItem => work::io_queue_work_item,
            IoQueueWorkItemEx => work::io_queue_work_item_ex,
            IoFreeWorkItem => work::io_free_work_item,
            IoAcquireRemoveLockEx => remlock::io_acquire_remove_lock_ex,
            IoReleaseRemoveLockEx => remlock::io_release_remove_lock_ex,
            IoCsqInsertIrp => csq::io_csq_insert_irp,
            IoCsqInsertIrpEx => csq::io_csq_insert_irp_ex,
            IoCsqRemoveIrp => csq::io_csq_remove_irp,
            IoCsqRemoveNextIrp => csq::io_csq_remove_next_irp,
            IoFreeErrorLogEntry => etw::io_free_error_log_entry,
            IoWriteErrorLogEntry => etw::io_write_error_log_entry,
            KeRaiseIrqlToDpcLevel => ke::ke_raise_irql_to_dpc_level,
            KeAcquireSpinLockRaiseToDpc => ke::ke_acquire_spin_lock_raise_to_dpc,
            KeAcquireInStackQueuedSpinLock => ke::ke_acquire_in_stack_queued_spin_lock,
            KeSetEvent => ke::ke_set_event,
            KeResetEvent => ke::ke_reset_event,
            KeClearEvent => ke::ke_reset_event,
            KeReadStateEvent => ke::ke_read_state_event,
            KeReleaseSemaphore => ke::ke_release_semaphore,
            KeReleaseMutex => ke::ke_release_mutex,
            KeWaitForSingleObject => ke::ke_wait_for_single_object,
            KeWaitForMultipleObjects => ke::ke_wait_for_multiple_objects,
            KeInitializeTimer => ke::ke_initialize_timer,
            KeInitializeTimerEx => ke::ke_initialize_timer_ex,
            KeSetTimer => ke::ke_set_timer,
            KeSetTimerEx => ke::ke_set_timer_ex,
            KeCancelTimer => ke::ke_cancel_timer,
            ObfReferenceObject => ob::obf_reference_object,
            ObfDereferenceObject => ob::obf_dereference_object,
            ObReferenceObjectByPointer => ob::ob_reference_object_by_pointer,
            RtlInitUnicodeString => rtl::rtl_init_unicode_string,
            IoFreeMdl => mm::io_free_mdl,
            IoBuildPartialMdl => mm::io_build_partial_mdl,
            MmUnlockPages => mm::mm_unlock_pages,
            MmBuildMdlForNonPagedPool => mm::mm_build_mdl_for_non_paged_pool,
            MmUnmapLockedPages => mm::mm_unmap_locked_pages,
            PoSetPowerState => po::po_set_power_state,
            PoStartNextPowerIrp => po::po_start_next_power_irp,
            PoCallDriver => io::iof_call_driver,
            USBD_GetUSBDIVersion => usbd::get_usbdi_version,
        }
        Plain, PASSIVE to HIGH {
            IofCompleteRequest => io::iof_complete_request,
            EtwWriteTransfer => etw::etw_write_transfer,
            KeGetCurrentIrql => ke::ke_get_current_irql,
            KfRaiseIrql => ke::kf_raise_irql,
            KeLowerIrql => ke::ke_lower_irql,
            KeInitializeSpinLock => ke::ke_initialize_spin_lock,
            KeAcquireInterruptSpinLock => interrupt::ke_acquire_interrupt_spin_lock,
            KeReleaseInterruptSpinLock => interrupt::ke_release_interrupt_spin_lock,
            KeSynchronizeExecution => interrupt::ke_synchronize_execution,
            KeInitializeEvent => ke::ke_initialize_event,
            KeInitializeMutex => ke::ke_initialize_mutex,
            KeStallExecutionProcessor => ke::ke_stall_execution_processor,
            KeQueryPerformanceCounter => ke::ke_query_performance_counter,
            KeQueryUnbiasedInterruptTime => ke::ke_query_unbiased_interrupt_time,
            KeInitializeDpc => ke::ke_initialize_dpc,
            KeInsertQueueDpc => ke::ke_insert_queue_dpc,
            KeRemoveQueueDpc => ke::ke_remove_queue_dpc,
            KeBugCheckEx => ke::ke_bug_check_ex,
            KeBugCheck => ke::ke_bug_check,
            KeGetCurrentThread => ke::ke_get_current_thread,
            DbgPrint => rtl::dbg_print,
            DbgPrintEx => rtl::dbg_print_ex,
            PsGetCurrentProcess => ob::io_get_current_process,
            IoGetCurrentProcess => ob::io_get_current_process,
            RtlCopyUnicodeString => rtl::rtl_copy_unicode_string,
            RtlAppendUnicodeToString => rtl::rtl_append_unicode_to_string,
            RtlCompareMemory => rtl::rtl_compare_memory,
        }
        Plain, APC to APC {
            ExReleaseFastMutex => ex::ex_release_fast_mutex,
        }
        Plain, DISPATCH to DISPATCH {
            IoReleaseCancelSpinLock => io::io_release_cancel_spin_lock,
            KeReleaseSpinLock => ke::ke_release_spin_lock,
            KeAcquireSpinLockAtDpcLevel => ke::ke_acquire_spin_lock_at_dpc_level,
            KeReleaseSpinLockFromDpcLevel => ke::ke_release_spin_lock_from_dpc_level,
            KeReleaseInStackQueuedSpinLock => ke::ke_release_in_stack_queued_spin_lock,
        }
        Fails, PASSIVE to PASSIVE {
            IoCreateDevice => io::io_create_device,
            IoCreateSymbolicLink => io::io_create_symbolic_link,
            IoCreateUnprotectedSymbolicLink => io::io_create_symbolic_link,
            IoRegisterDeviceInterface => io::io_register_device_interface,
            IoOpenDeviceRegistryKey => io::io_open_device_registry_key,
            IoOpenDriverRegistryKey => io::io_open_driver_registry_key,
            IoGetDeviceProperty => io::io_get_device_property,
            IoSetDevicePropertyData => io::io_set_device_property_data,
            IoGetDeviceObjectPointer => io::io_get_device_object_pointer,
            IoConnectInterruptEx => interrupt::io_connect_interrupt_ex,
            EtwRegister => etw::etw_register,
            EtwSetInformation => etw::etw_set_information,
            PsCreateSystemThread => ob::ps_create_system_thread,
            ObOpenObjectByPointer => ob::ob_open_object_by_pointer,
            ZwSetSecurityObject => zw::zw_set_security_object,
            ZwCreateFile => zw::zw_create_file,
            ZwOpenFile => zw::zw_open_file,
            ZwOpenKey => zw::zw_open_key,
            ZwCreateKey => zw::zw_create_key,
            ZwQueryValueKey => zw::zw_query_value_key,
            ZwSetValueKey => zw::zw_set_value_key,
        }
        Fails, PASSIVE to APC {
            IoBuildDeviceIoControlRequest => io::io_build_device_io_control_request,
        }
        Fails, PASSIVE to HIGH {
            IoCsqInitialize => csq::initialize::<{ csq::TYPE_CSQ }>,
            IoCsqInitializeEx => csq::initialize::<{ csq::TYPE_CSQ_EX }>,
        }
        Fails, PASSIVE to DISPATCH {
            ExAllocatePool2 => ex::ex_allocate_pool2,
            ExAllocateTimer => ke::ex_allocate_timer,
            IoAttachDeviceToDeviceStack => io::io_attach_device_to_device_stack,
            IoAllocateIrp => io::io_allocate_irp,
            IoAllocateWorkItem => work::io_allocate_work_item,
            IoAllocateErrorLogEntry => etw::io_allocate_error_log_entry,
            IoAllocateMdl => mm::io_allocate_mdl,
            MmMapLockedPagesSpecifyCache => mm::mm_map_locked_pages_specify_cache,
            PoRequestPowerIrp => po::po_request_power_irp,
            USBD_CreateConfigurationRequestEx => usbd::create_configuration_request_ex,
        }
        Direct, PASSIVE to APC {
            ProbeForRead => mm::probe_for_read,
            ProbeForWrite => mm::probe_for_write,
            ExRaiseStatus => mm::ex_raise_status,
            ExRaiseAccessViolation => mm::ex_raise_access_violation,
        }
        Direct, PASSIVE to DISPATCH {
            MmProbeAndLockPages => mm::mm_probe_and_lock_pages,
        }
        Raw, PASSIVE to HIGH {
            memcpy => copy::memmove,
            memmove => copy::memmove,
            memset => copy::memset,
            memcmp => copy::memcmp,
            RtlCopyMemory => copy::memmove,
            RtlMoveMemory => copy::memmove,
            RtlFillMemory => copy::fill,
            RtlZeroMemory => copy::zero,
            __chkstk => rtl::chkstk,
            __C_specific_handler => crate::seh::c_specific_handler,
        }
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
    table()
        .get(index)
        .filter(|e| e.how == How::Raw)
        .map(|e| e.entry)
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
        if export.how == How::Fails && k.inject_into.is_none_or(|d| d == caller) {
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
    if export.how == How::Fails
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
    export.entry | usize::from(export.how == How::Direct) << crate::cpu::DIRECT
}

/// What a function returns that gives an `NTSTATUS`.
pub(crate) fn answer(result: Result<(), NtStatus>) -> i32 {
    result.err().unwrap_or(NtStatus::SUCCESS).raw()
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
