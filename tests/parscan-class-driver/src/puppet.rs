//! The commands. Each is a buffered control code of its own: [`WORDS`] 64-bit words and then data
//! go in, [`RESULTS`] words and then data come out, all little-endian. The data that come out fill
//! the output buffer; what the command did not write is [`UNTOUCHED`].
//!
//! A command ends with `STATUS_SUCCESS` if it could be carried out; what came of it is in the
//! words. `STATUS_INVALID_PARAMETER` means a command that makes no sense.

/// Words before the data of a command.
pub const WORDS: usize = 10;
/// Words before the data of an answer.
pub const RESULTS: usize = 8;
/// What fills memory that a command or the port driver is to write.
pub const UNTOUCHED: u8 = 0xCA;

/// `CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800 + function, METHOD_BUFFERED, FILE_ANY_ACCESS)`
const fn code(function: u32) -> u32 {
    0x22 << 16 | (0x800 + function) << 2
}

/// Opens a device. Words: slot; 1 to keep the device object alone, as a driver that is attached to it,
/// and no open of it. Data: its name in UTF-16. Results: status.
pub const OPEN: u32 = code(0);
/// Closes what a slot has open. Words: slot.
pub const CLOSE: u32 = code(1);
/// Sends a control request. Words: slot, control code, [`send`] flags, output length, IRQL (0
/// unless asynchronous), interrupt client, its [`isr`] options. Data: input. Results: status,
/// Information, status that the dispatch routine returned, number for [`RESULT`].
pub const SEND: u32 = code(2);
/// Asks what became of an asynchronous request, and forgets it if it is finished. Words: number.
/// Results as of [`SEND`], but the last is 1 if it is finished.
pub const RESULT: u32 = code(3);
/// `IoCancelIrp`. Words: number. Results: what it returned.
pub const CANCEL: u32 = code(4);
/// Calls a routine of a table that a slot keeps, with the table's context as first argument. Words:
/// slot, [`table`], offset of the pointer, IRQL, [`argument`] kinds (4 bits each), four arguments.
/// Data: the beginning of the buffer, which is as large as the output's. Results: rax, the count,
/// 1 if there was a routine to call.
pub const CALL: u32 = code(5);
/// The bytes of a table that a slot keeps. Words: slot, [`table`].
pub const TABLE: u32 = code(6);
/// Reads a register at an address that the port driver told. Words: slot, [`table`], offset of the
/// address, register. Results: value.
pub const REGISTER: u32 = code(7);
/// What the interrupt and deferred routines noted, oldest first, and forgets it. Results: number.
/// Data: [`note`]s, a word each.
pub const NOTES: u32 = code(8);
/// A class driver's whole day. Words: slot, forward modes, reverse modes, bytes of the name, bytes
/// to read. Data: name, bytes to write. Data that come out: the statuses of [`step`]s, the
/// numbers of bytes written and read, 32 bits each; bytes read.
pub const TRANSFER: u32 = code(9);
/// Many clients want one port until it has been granted so many times. Words: clients, grants,
/// seed. Data: name of the port object. Results: as [`contention`]. Data: grants of each, 32 bits
/// each.
pub const CONTEND: u32 = code(10);
/// How far [`CONTEND`] is. Results: grants so far.
pub const PROGRESS: u32 = code(11);
/// Where the image of the driver is whose device a slot has open. Words: slot. Results: first
/// address, size.
pub const IMAGE: u32 = code(12);

/// Flags of [`SEND`].
pub mod send {
    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`; else `IRP_MJ_DEVICE_CONTROL`.
    pub const INTERNAL: u64 = 1;
    /// With the file object in the stack location.
    pub const FILE: u64 = 2;
    /// An IRP of its own, with a completion routine; else `IoBuildDeviceIoControlRequest` and wait.
    pub const ASYNCHRONOUS: u64 = 4;
    /// `RequestorMode` is `UserMode`.
    pub const USER_MODE: u64 = 8;
    /// The input is a `PARALLEL_INTERRUPT_SERVICE_ROUTINE` of this driver.
    pub const ISR: u64 = 16;
}

/// The tables that a slot keeps.
pub mod table {
    /// `PARCLASS_INFORMATION`
    pub const PARCLASS: usize = 0;
    /// `PARALLEL_PORT_INFORMATION`
    pub const PORT: usize = 1;
    /// `PARALLEL_PNP_INFORMATION`
    pub const PNP: usize = 2;
    /// `PARALLEL_INTERRUPT_INFORMATION`
    pub const INTERRUPT: usize = 3;
    /// How many.
    pub const COUNT: usize = 4;
}

/// What an argument of [`CALL`] is.
pub mod argument {
    /// The word itself.
    pub const VALUE: u64 = 0;
    /// The address of the buffer.
    pub const BUFFER: u64 = 1;
    /// The address of a `ULONG`, which holds [`UNTOUCHED`](super::UNTOUCHED) before.
    pub const COUNT: u64 = 2;
}

/// Options of an interrupt client.
pub mod isr {
    /// The routine returns TRUE: the interrupt was its own.
    pub const CLAIM: u64 = 1;
    /// It tries to allocate the port,
    pub const TRY: u64 = 2;
    /// and, if it got it, frees it.
    pub const FREE: u64 = 4;
    /// It has no deferred port check routine.
    pub const NO_DEFERRED: u64 = 8;
    /// Its deferred routine takes the port and frees it, [`TAKES`] times since it was connected.
    pub const TAKE: u64 = 16;
    /// See [`TAKE`].
    pub const TAKES: u64 = 40;
    /// How many interrupt clients there are.
    pub const CLIENTS: usize = 8;
}

/// Kinds of note: bits 16 up; the client is in bits 8 to 15, the result in bits 0 to 7.
pub mod note {
    /// The interrupt routine was called; the result is the IRQL.
    pub const ISR: u64 = 1;
    /// It tried to allocate the port; the result is what the callback returned.
    pub const TRIED: u64 = 2;
    /// The deferred routine was called; the result is the IRQL.
    pub const DEFERRED: u64 = 3;
}

/// Steps of [`TRANSFER`], in their order.
pub mod step {
    /// `IoGetDeviceObjectPointer`
    pub const OPEN: usize = 0;
    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    pub const CONNECT: usize = 1;
    /// `IOCTL_INTERNAL_LOCK_PORT`
    pub const LOCK: usize = 2;
    /// `NegotiateIeeeMode`
    pub const NEGOTIATE: usize = 3;
    /// `ParallelWrite`
    pub const WRITE: usize = 4;
    /// `IeeeFwdToRevMode`
    pub const REVERSE: usize = 5;
    /// `ParallelRead`
    pub const READ: usize = 6;
    /// `TerminateIeeeMode`
    pub const TERMINATE: usize = 7;
    /// `IOCTL_INTERNAL_UNLOCK_PORT`
    pub const UNLOCK: usize = 8;
    /// `IOCTL_INTERNAL_PARCLASS_DISCONNECT`
    pub const DISCONNECT: usize = 9;
    /// The file object's last reference is given back.
    pub const CLOSE: usize = 10;
    /// How many.
    pub const COUNT: usize = 11;
    /// In place of the status of a step that was not taken.
    pub const NOT_TAKEN: u32 = u32::MAX;
}

/// Results of [`CONTEND`].
pub mod contention {
    /// Grants.
    pub const GRANTS: usize = 0;
    /// Grants while another client had the port, and frees by a client that had not.
    pub const TWO_OWNERS: usize = 1;
    /// Grants before a request that had been queued earlier.
    pub const OUT_OF_ORDER: usize = 2;
    /// The most grants to others that a queued request saw before its own.
    pub const LONGEST_WAIT: usize = 3;
    /// Requests that ended with an error.
    pub const FAILED: usize = 4;
    /// The status of the last of them, or of opening the port.
    pub const STATUS: usize = 5;
    /// Times that the data register had changed while a client had the port.
    pub const INTRUSIONS: usize = 6;
    /// Grants at `DISPATCH_LEVEL`.
    pub const AT_DISPATCH: usize = 7;
    /// The most clients.
    pub const CLIENTS: usize = 8;
}
