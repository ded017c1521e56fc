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

/// A flag among others.
const fn bit(number: u32) -> u64 {
    1 << number
}

/// Opens a device. Words: slot; 1 to keep the device object alone, as a driver that is attached to it,
/// and no open of it. Data: its name in UTF-16. Results: status.
pub const OPEN: u32 = code(0);
/// Closes what a slot has open. Words: slot.
pub const CLOSE: u32 = code(1);
/// Sends a control request. Words: slot, control code, [`Flag`]s, output length, IRQL (0
/// unless asynchronous), interrupt client, its [`isr`] options. Data: input. Results: status,
/// Information, status that the dispatch routine returned, number for [`RESULT`].
pub const SEND: u32 = code(2);
/// Asks what became of an asynchronous request, and forgets it if it is finished. Words: number.
/// Results as of [`SEND`], but the last is 1 if it is finished.
pub const RESULT: u32 = code(3);
/// `IoCancelIrp`. Words: number. Results: what it returned.
pub const CANCEL: u32 = code(4);
/// Calls a routine of a table that a slot keeps, with the table's context as first argument, or
/// null. Words: slot, [`Table`], offset of the pointer, IRQL, [`argument`] kinds (4 bits each), four
/// arguments.
/// Data: the beginning of the buffer, which is as large as the output's. Results: rax, the count,
/// 1 if there was a routine to call.
pub const CALL: u32 = code(5);
/// The bytes of a table that a slot keeps. Words: slot, [`Table`].
pub const TABLE: u32 = code(6);
/// Reads a register at an address that the port driver told. Words: slot, [`Table`], offset of the
/// address, register. Results: value.
pub const REGISTER: u32 = code(7);
/// What the interrupt and deferred routines noted, oldest first, and forgets it. Results: number.
/// Data: [`Note`]s, a word each.
pub const NOTES: u32 = code(8);
/// A class driver's whole day. Words: slot, forward modes, reverse modes, bytes of the name, bytes
/// to read. Data: name, bytes to write. Data that come out: the statuses of [`Step`]s, the
/// numbers of bytes written and read, 32 bits each; bytes read.
pub const TRANSFER: u32 = code(9);
/// Many clients want one port until it has been granted so many times. Words: clients, grants,
/// seed. Data: name of the port object. Results: as [`Contention`]. Data: grants of each, 32 bits
/// each.
pub const CONTEND: u32 = code(10);
/// How far [`CONTEND`] is. Results: grants so far.
pub const PROGRESS: u32 = code(11);
/// Where the image of the driver is whose device a slot has open. Words: slot. Results: first
/// address, size.
pub const IMAGE: u32 = code(12);

/// Flags of [`SEND`], a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`; else `IRP_MJ_DEVICE_CONTROL`.
    Internal,
    /// With the file object in the stack location.
    File,
    /// An IRP of its own, with a completion routine; else `IoBuildDeviceIoControlRequest` and wait.
    Asynchronous,
    /// `RequestorMode` is `UserMode`.
    UserMode,
    /// The input is a `PARALLEL_INTERRUPT_SERVICE_ROUTINE` of this driver.
    Isr,
}

impl Flag {
    /// Its bit.
    #[must_use]
    pub const fn bit(self) -> u64 {
        bit(self as u32)
    }

    /// Whether it is set.
    #[must_use]
    pub const fn is_in(self, flags: u64) -> bool {
        flags & self.bit() != 0
    }
}

/// The tables that a slot keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `PARCLASS_INFORMATION`
    Parclass,
    /// `PARALLEL_PORT_INFORMATION`
    Port,
    /// `PARALLEL_PNP_INFORMATION`
    Pnp,
    /// `PARALLEL_INTERRUPT_INFORMATION`
    Interrupt,
}

/// How many [`Table`]s there are.
pub const TABLES: usize = 4;

/// What an argument of [`CALL`] is.
pub mod argument {
    /// The word itself.
    pub const VALUE: u64 = 0;
    /// The address of the buffer.
    pub const BUFFER: u64 = 1;
    /// The address of a `ULONG`, which holds [`UNTOUCHED`](super::UNTOUCHED) before.
    pub const COUNT: u64 = 2;
    /// Beside the kinds of the four arguments: null is passed in the place of the table's context.
    pub const NO_CONTEXT: u64 = super::bit(16);
}

/// Options of an interrupt client.
pub mod isr {
    use super::bit;

    /// The routine returns TRUE: the interrupt was its own.
    pub const CLAIM: u64 = bit(0);
    /// It tries to allocate the port,
    pub const TRY: u64 = bit(1);
    /// and, if it got it, frees it.
    pub const FREE: u64 = bit(2);
    /// It has no deferred port check routine.
    pub const NO_DEFERRED: u64 = bit(3);
    /// Its deferred routine takes the port and frees it, [`TAKES`] times since it was connected.
    pub const TAKE: u64 = bit(4);
    /// See [`TAKE`].
    pub const TAKES: u64 = 40;
    /// How many interrupt clients there are.
    pub const CLIENTS: usize = 8;
}

/// Kinds of note: bits 16 up; the client is in bits 8 to 15, the result in bits 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The interrupt routine was called; the result is the IRQL.
    Isr,
    /// It tried to allocate the port; the result is what the callback returned.
    Tried,
    /// The deferred routine was called; the result is the IRQL.
    Deferred,
}

/// Steps of [`TRANSFER`], in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `IoGetDeviceObjectPointer`
    Open,
    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    Connect,
    /// `IOCTL_INTERNAL_LOCK_PORT`
    Lock,
    /// `NegotiateIeeeMode`
    Negotiate,
    /// `ParallelWrite`
    Write,
    /// `IeeeFwdToRevMode`
    Reverse,
    /// `ParallelRead`
    Read,
    /// `TerminateIeeeMode`
    Terminate,
    /// `IOCTL_INTERNAL_UNLOCK_PORT`
    Unlock,
    /// `IOCTL_INTERNAL_PARCLASS_DISCONNECT`
    Disconnect,
    /// The file object's last reference is given back.
    Close,
}

impl Step {
    /// How many there are.
    pub const COUNT: usize = 11;
    /// In place of the status of a step that was not taken.
    pub const NOT_TAKEN: u32 = u32::MAX;
}

/// Results of [`CONTEND`], in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contention {
    /// Grants.
    Grants,
    /// Grants while another client had the port, and frees by a client that had not.
    TwoOwners,
    /// Grants before a request that had been queued earlier.
    OutOfOrder,
    /// The most grants to others that a queued request saw before its own.
    LongestWait,
    /// Requests that ended with an error.
    Failed,
    /// The status of the last of them, or of opening the port.
    Status,
    /// Times that the data register had changed while a client had the port.
    Intrusions,
    /// Grants at `DISPATCH_LEVEL`.
    AtDispatch,
}

/// The most clients of [`CONTEND`].
pub const CONTENDERS: usize = 8;
