//! The rules that a driver must keep, each with the name under which a failure reports it.
//!
//! `id` is the group of the rule book (I = IRP life, Q = IRQL, M = memory, L = locks, K = remove
//! lock, F = forwarding, P = power, A = AddDevice and objects, U = user memory, handles and MDLs,
//! B = USB requests, N = unload, X = processor faults, H = hangs); `code` is the bug check that
//! Driver Verifier raises for it (`C9/226` = bug check 0xC9, parameter 1 = 0x226), or another bug
//! check's name.

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its constant in this module, such as `UNHANDLED_IRP`.
    pub name: &'static str,
    /// Group and number in the rule book, such as `I1`.
    pub id: &'static str,
    /// Windows' bug check for it.
    pub code: &'static str,
    /// What is required or was violated, in a few words.
    pub text: &'static str,
}

macro_rules! rules {
    ($($name:ident = $id:literal, $code:literal, $text:literal;)*) => {
        $(
            #[doc = $text]
            #[allow(clippy::doc_markdown, reason = "the text is a message first")]
            pub const $name: Rule = Rule {
                name: stringify!($name),
                id: $id,
                code: $code,
                text: $text,
            };
        )*
        /// Every rule that a machine can report.
        pub const CATALOGUE: &[Rule] = &[$($name),*];
    };
}

rules! {
    UNHANDLED_IRP = "I1", "C9/226", "dispatch routine returned without completing, forwarding or pending the IRP";
    DOUBLE_COMPLETION = "I1", "44", "IRP completed more than once";
    IRP_TOUCHED = "I1", "C9/44", "IRP or its system buffer touched after completion";
    NOT_AN_IRP = "I1", "C9/03", "not an IRP";
    PENDING_NOT_MARKED = "I2", "C9/23D", "STATUS_PENDING returned without IoMarkIrpPending";
    MARKED_NOT_PENDING = "I2", "C9/23E", "IRP marked pending but another status returned";
    FORWARD_STATUS = "I2", "C9/224b", "returned status is not the one that the lower driver returned";
    COMPLETED_PENDING = "I3", "C9/06", "completed with STATUS_PENDING or -1";
    STATUS_MISMATCH = "I3", "C9/224", "returned status differs from IoStatus.Status";
    SUSPICIOUS_STATUS = "I3", "C9/21B", "dispatch routine returned 0xFFFFFFFF";
    INFORMATION_TOO_LARGE = "I3", "C9/312", "Information larger than the output buffer";
    CANCEL_ROUTINE_SET = "I4", "C9/07", "completed with the cancel routine still set";
    COMPLETE_IRQL = "I4", "C9/0E", "IoCompleteRequest above DISPATCH_LEVEL";
    FORWARD_CANCEL = "I5", "C9/203", "forwarded with the cancel routine set";
    FORWARD_LOCATION = "I5", "C9/212", "next stack location not copied or skipped properly";
    FORWARD_SKIP_ROUTINE = "I5", "C9/206", "completion routine set together with IoSkipCurrentIrpStackLocation";
    FORWARD_ROUTINE_COPIED = "I5", "C9/207", "completion routine copied along to the next stack location";
    FORWARD_NO_LOCATION = "I5", "C9/208", "no stack location left";
    FORWARD_TARGET = "I5", "C9/211", "forwarded to another device than the next lower one";
    FORWARD_BAD_DEVICE = "I5", "C9/04", "IoCallDriver with an invalid device object";
    FORWARD_IRQL = "I5", "C9/23A", "forwarded at DISPATCH_LEVEL, which the request's major does not allow";
    FORWARD_BELOW = "I5", "C9/205", "forwarded or completed an IRP that is queued below";
    COMPLETION_NOT_MARKED = "I6", "C9/228", "completion routine did not propagate the pending flag";
    COMPLETION_IRQL = "I6", "C4/FA", "completion routine changed the IRQL";
    COMPLETION_PAGED = "I6", "C9/227", "completion routine in pageable code";
    COMPLETION_APC = "I6", "C4/FB", "completion routine changed the APC disable count";
    OWN_IRP = "I7", "C9/20A", "IRP made by this driver freed, completed or reused wrongly";
    OWN_IRP_POOL = "I7", "C4/105", "IRP freed as pool";
    THREADED_IRP = "I7", "C9/0D", "event or status block of a threaded IRP gone before completion";
    THREADED_APC = "I7", "C9/302", "threaded IRP sent where the APC that completes it cannot run";
    THREADED_SIGNALLED = "I7", "C9/307", "threaded IRP sent with an event that is already signalled";
    CANCEL_TIMEOUT = "I8", "C4/135", "cancelled IRP not completed in time";
    CLEANUP_LEFT = "I8", "C4/135c", "IRP of a closed file object not completed after IRP_MJ_CLEANUP";
    IRQL_CALL = "Q1", "C4/E5", "kernel function called at the wrong IRQL";
    IRQL_CALL_ZW = "Q1", "C4/E6", "Zw function called above PASSIVE_LEVEL or with special kernel APCs disabled";
    IRQL_WAIT = "Q1", "C4/121", "wait at DISPATCH_LEVEL with a time-out other than zero";
    WAIT_USER_MODE = "Q1", "C4/123", "wait in UserMode for an object on the kernel stack, which may be paged out";
    IRQL_RAISE = "Q1", "C4/30", "KeRaiseIrql to a lower level";
    IRQL_LOWER = "Q1", "C4/31", "KeLowerIrql to a higher level";
    IRQL_CHANGED = "Q2", "C9/05", "routine returned at another IRQL";
    APC_CHANGED = "Q2", "C4/C5", "routine returned with another APC disable count";
    APC_LEAVE = "Q2", "C4/3E", "critical region left that was not entered";
    PAGED_AT_DISPATCH = "Q3", "D1", "paged memory touched at DISPATCH_LEVEL";
    POOL_ZERO = "M1", "C4/00", "zero-byte pool allocation";
    POOL_IRQL = "M1", "C4/01", "paged pool allocated above APC_LEVEL";
    POOL_TAG = "M1", "C4/16t", "pool tag zero or blank";
    POOL_OVERRUN = "M1", "CD", "access beyond the end of a block";
    POOL_CORRUPT = "M1", "C1", "bytes next to a block overwritten";
    POOL_AFTER_FREE = "M1", "CC", "freed block touched";
    POOL_DOUBLE_FREE = "M1", "C4/13", "block freed twice";
    POOL_BAD_FREE = "M1", "C4/10", "freed an address that was never allocated";
    POOL_TAG_MISMATCH = "M1", "C4/16", "freed with another tag than allocated";
    POOL_FREE_IRQL = "M1", "C4/11", "paged pool freed above APC_LEVEL";
    LEAK = "M2", "C4/62", "something allocated was left at unload";
    FREED_BUSY = "M3", "C7", "freed block holds a live kernel object";
    EX_TIMER_GONE = "M3", "C7/0", "EX_TIMER that was not allocated, or was deleted";
    EX_TIMER_MISUSED = "M3", "C7/E", "EX_TIMER with attributes or parameters that exclude each other";
    DPC_BUSY = "M3", "C7/1", "DPC freed or initialised while it is queued";
    POOL_EXECUTABLE = "M4", "C4/2000", "executable pool";
    INFORMATION_LEAK = "M5", "ntsim/leak", "uninitialised kernel memory returned to the caller";
    LOCK_RECURSION = "L1", "C4/1000", "lock acquired by its owner again";
    LOCK_ORDER = "L1", "C4/1001", "lock order violation";
    LOCK_UNINITIALISED = "L1", "C4/1002", "lock not initialised";
    LOCK_OUT_OF_ORDER = "L1", "C4/1003", "lock released out of order";
    LOCK_OWNER = "L1", "C4/1004", "lock released by another thread";
    LOCK_REINIT = "L1", "C4/1005", "lock initialised while in use";
    LOCK_NOT_HELD = "L1", "C4/1007", "lock released that is not held";
    LOCK_HELD_CALL = "L2", "SpinLockSafe", "IoCompleteRequest or IoCallDriver with a spin lock held";
    LOCK_FAMILY = "L3", "C4/1008", "lock released by another family of functions than acquired";
    LOCK_HELD_RETURN = "L4", "C4/40007", "routine returned with a lock held";
    LOCK_HELD_THREAD = "L4", "C4/100A", "thread ended with a lock held";
    REMLOCK_REINIT = "K1", "C4/D7", "remove lock initialised twice";
    REMLOCK_PLACE = "K1", "C4/D7p", "remove lock outside a device extension";
    REMLOCK_TAG = "K2", "C4/D5", "remove lock released with a tag that was not acquired";
    REMLOCK_WAIT = "K3", "C4/D6", "IoReleaseRemoveLockAndWait with a wrong tag or at the wrong place";
    PNP_TOUCHED = "F1", "C9/213", "Status or Information changed on an IRP that the driver does not handle";
    PNP_UNHANDLED = "F1", "C9/217", "required PnP IRP left unhandled";
    PNP_FAILED_FORWARDED = "F1", "C9/215", "failed PnP IRP passed down";
    PNP_NOT_FORWARDED = "F1", "C9/22E", "PnP IRP completed instead of passed down";
    PDO_TOUCHED = "F2", "C9/213p", "PDO changed the status of an IRP that it does not handle";
    PDO_UNHANDLED = "F2", "C9/22A", "required PnP IRP left unhandled by a PDO";
    NOT_SUPPORTED_SET = "F3", "C9/216", "earlier status turned into STATUS_NOT_SUPPORTED";
    MUST_NOT_FAIL = "F3", "C9/247", "failed an IRP that must not fail";
    POWER_FORWARDING = "F4", "C9/230", "power IRP changed, failed-and-forwarded or not passed down";
    POWER_WAIT = "F4", "ntsim/power-wait", "wait while a power IRP is being dispatched";
    POWER_NOT_PENDED = "P1", "MarkPower", "SET_POWER not pended by a function driver";
    POWER_FAILED = "P1", "PowerDownFail", "SET_POWER failed, which the lower drivers completed with success";
    POWER_POLICY = "P1", "ntsim/policy", "system power IRP completed without the device power IRP that follows from it";
    POWER_CHILDREN = "P1", "ntsim/policy-children", "system power IRP to S0 completed before its device has power, though it has children";
    POWER_UNTOLD = "P1", "ntsim/power-untold", "PoSetPowerState not called before the power goes, after it came, at START or at REMOVE";
    POWER_EARLY = "P1", "ntsim/power-early", "PoSetPowerState for D0 before the bus gave the power";
    POWER_REQUEST = "P1", "C4/4100B", "PoRequestPowerIrp or PoSetPowerState with wrong arguments";
    POWER_ALLOCATE = "P1", "PowerDownAllocate", "memory allocated while a power IRP that takes power away is being dispatched";
    POWER_ACCESS = "P1", "ntsim/power-access", "port of a device without power accessed";
    POWER_TIMEOUT = "P1", "9F", "power IRP not completed in time";
    WMI_FORWARDING = "F5", "C9/220", "IRP_MJ_SYSTEM_CONTROL completed by a driver that is not the provider";
    OWN_PNP_STATUS = "F6", "C9/20E", "PnP, power or WMI IRP sent without initial STATUS_NOT_SUPPORTED";
    OWN_CAPABILITIES = "F6", "C9/233", "IRP_MN_QUERY_CAPABILITIES sent with Size, Version, Address or UINumber not initialised";
    OWN_RESERVED = "F6", "C9/237", "PnP IRP sent that only the system may send";
    NO_DISPATCH = "F7", "C9/21F", "dispatch routine missing for a required major";
    DEVICE_INITIALIZING = "A1", "C9/243", "DO_DEVICE_INITIALIZING left set by AddDevice";
    POWER_PAGABLE = "A1", "C9/23F", "DO_POWER_PAGABLE not inherited";
    BUFFER_FLAGS = "A1", "C9/245", "DO_BUFFERED_IO and DO_DIRECT_IO both set";
    BUFFER_INHERIT = "A1", "C9/244", "DO_BUFFERED_IO or DO_DIRECT_IO not copied from the lower device";
    DELETE_ATTACHED = "A2", "C9/21D", "device deleted while still attached to a lower device";
    DELETE_BELOW = "A2", "C9/201", "device deleted with a device still above it";
    DELETE_TWICE = "A2", "C9/240", "device deleted twice";
    REMOVE_KEPT = "A2", "C9/21E", "IRP_MN_REMOVE_DEVICE finished without delete";
    DETACH_TWICE = "A2", "C9/202", "device detached twice";
    DELETE_SURPRISE = "A2", "C9/242", "detached or deleted during IRP_MN_SURPRISE_REMOVAL";
    PDO_DELETED_EARLY = "A2", "C9/221", "PDO deleted though not reported missing";
    RELATION_NOT_PDO = "A3", "C9/248", "device relations hold something that is not a PDO";
    RELATION_DUPLICATE = "A3", "C9/249", "two PDOs with one device id";
    RELATION_REFERENCE = "A3", "CA/5", "PDO in device relations without reference";
    BAD_ID = "A3", "CA/3", "illegal device or hardware id string";
    REFERENCE = "A3", "C4/3F", "reference count went below zero or came back from zero";
    USER_UNGUARDED = "U1", "3B", "user memory touched without an exception handler";
    USER_CONTEXT = "U1", "ntsim/context", "user memory touched outside its requester's thread";
    USER_IRQL = "U1", "0A", "user memory touched at DISPATCH_LEVEL or above";
    USER_FETCHED_TWICE = "U1", "DoubleFetch", "user memory read twice in one request";
    MDL_STATE = "U3", "C4/B0", "MDL built, locked, mapped, unlocked or freed in a wrong state";
    MDL_BUG_CHECK = "U3", "C4/82", "MmMapLockedPagesSpecifyCache with BugCheckOnFailure";
    MDL_LEFT_LOCKED = "U3", "CB", "pages left locked by an MDL";
    MDL_EXECUTABLE = "M4", "C4/2002", "MDL mapped without MdlMappingNoExecute";
    HANDLE_KIND = "U2", "C4/F6", "user handle opened in the system, OBJ_KERNEL_HANDLE missing";
    HANDLE_UNKNOWN = "U2", "C4/3C", "ObReferenceObjectByHandle with a handle that is not open";
    STRING_MALFORMED = "U2", "C4/E4", "malformed UNICODE_STRING given to a kernel function";
    HANDLE_BAD = "U2", "93", "closed or used a handle that is not open";
    INTERRUPT_LEFT = "N1", "ntsim/interrupt", "interrupt still connected after the device stopped or went, or at unload";
    INTERRUPT_VERSION = "N1", "CA/9", "interrupt disconnected with another version than connected";
    URB_MEMORY = "B1", "FE/m", "URB outside nonpaged kernel memory, or beyond the end of its block";
    URB_LENGTH = "B1", "FE/l", "UrbHeader.Length or Interface.Length does not fit the request";
    URB_FUNCTION = "B1", "FE/f", "URB function that does not exist";
    URB_RESERVED = "B1", "FE/r", "reserved member of a URB is not zero";
    URB_BUSY = "B2", "FE/b", "URB submitted again before its completion";
    URB_TOUCHED = "B2", "FE/t", "URB or the data that it sends changed before its completion";
    URB_FREED = "B2", "FE/x", "URB or its transfer buffer freed before its completion";
    URB_BUFFER = "B3", "FE/d", "transfer buffer missing, doubled, too short, or not resident kernel memory";
    URB_MDL = "B3", "FE/M", "TransferBufferMDL not locked, or too short";
    URB_CONFIG = "B3", "FE/c", "configuration descriptor beyond the end of its memory";
    URB_FLAGS = "B4", "FE/F", "TransferFlags or SETUP packet do not fit the endpoint or each other";
    URB_PIPE = "B4", "FE/p", "pipe or configuration handle that is not open";
    URB_STATE = "B5", "FE/s", "URB to a device that is not started, not configured or not in D0";
    URB_PENDING = "B5", "FE/P", "reset, configuration change, power-down or removal with URBs pending";
    URB_IRQL = "B6", "FE/i", "synchronous USB request above PASSIVE_LEVEL";
    IDLE_REQUEST = "B7", "FE/I", "idle request that is malformed, a second one, or of a device that is not in D0";
    IDLE_CALLBACK = "B7", "FE/C", "idle callback that does not have its device in D2 when it returns, or another device power state asked for while it runs";
    IDLE_LEFT = "B7", "FE/L", "idle request out when the device stops or is removed";
    WAKE_REQUEST = "B8", "FE/w", "IRP_MN_WAIT_WAKE asked for above PASSIVE_LEVEL, while a power IRP is being dispatched, or without a callback routine";
    WAKE_LEFT = "B8", "FE/W", "IRP_MN_WAIT_WAKE out when the device stops, is removed, or goes to a state that it cannot wake up from";
    THREAD_PRIORITY = "N2", "ntsim/thread", "priority of a thread that no driver created, or one that there is not";
    ETW_HANDLE = "N2", "ntsim/etw-handle", "ETW function with a handle that is not registered";
    ETW_EVENT = "N2", "ntsim/etw-event", "event that no tool can decode";
    ERROR_LOG = "N2", "ntsim/error-log", "error log entry allocated, filled or freed wrongly";
    UNLOAD_LEFT = "N1", "CE", "driver unloaded with devices, links, threads, timers, work items or IRPs left";
    FAULT = "X1", "1E", "processor fault in kernel mode";
    STACK_OVERFLOW = "X1", "7F/8", "kernel stack overflow";
    NULL_ACCESS = "X1", "50", "access to an address that is not mapped";
    DRIVER_BUGCHECK = "X2", "KeBugCheckEx", "the driver stopped the machine";
    UNSUPPORTED = "X3", "ntsim", "not simulated";
    HANG = "H1", "ntsim/hang", "no progress: deadlock, endless loop or virtual time limit";
}
