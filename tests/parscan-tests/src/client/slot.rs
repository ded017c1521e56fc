//! An open device, and what the client does with it.

use std::ops::Range;

use ntsim::{IoResult, NtStatus, Pending};

use super::{
    Answer, Callback, Client, PASSIVE, Reply,
    callback::Call,
    puppet::{self, Flag, Table, argument},
    size,
};
use crate::{
    MS, check,
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, modes},
    parallel_h::{self, ParclassInformation, PnpInformation, PortInformation},
};

/// A control request for a slot to send.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Control code.
    pub code: u32,
    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`, not `IRP_MJ_DEVICE_CONTROL`.
    pub internal: bool,
    /// With the file object in the stack location. `IoBuildDeviceIoControlRequest` alone puts none
    /// there.
    pub file: bool,
    /// `RequestorMode` is `UserMode`.
    pub user_mode: bool,
    /// At which the request is sent; [`PASSIVE`] for [`Slot::send`].
    pub irql: u8,
    /// What goes in.
    pub input: &'a [u8],
    /// Length of the output buffer.
    pub output: usize,
}

impl<'a> Request<'a> {
    /// An internal request as a class driver sends it.
    #[must_use]
    pub const fn internal(code: u32, input: &'a [u8], output: usize) -> Self {
        Self {
            code,
            internal: true,
            file: true,
            user_mode: false,
            irql: PASSIVE,
            input,
            output,
        }
    }

    /// A request that a program could send, too.
    #[must_use]
    pub const fn plain(code: u32, input: &'a [u8], output: usize) -> Self {
        Self {
            internal: false,
            ..Self::internal(code, input, output)
        }
    }
}

/// A callback under way in its own thread.
pub struct PendingCall(Pending);

/// A device that the client has open.
pub struct Slot<'a> {
    pub(super) client: &'a Client,
    pub(super) number: u32,
}

impl<'a> Slot<'a> {
    #[track_caller]
    fn command(&self, code: u32, words: &[u64], data: &[u8], output: usize) -> Reply {
        let mut all = vec![u64::from(self.number)];
        all.extend_from_slice(words);
        self.client.command(code, &all, data, output)
    }

    fn words(request: &Request<'_>, more: u64) -> [u64; 4] {
        let flag = |set: bool, flag: Flag| if set { flag.bit() } else { 0 };
        let flags = flag(request.internal, Flag::Internal)
            | flag(request.file, Flag::File)
            | flag(request.user_mode, Flag::UserMode)
            | more;
        [
            request.code.into(),
            flags,
            request.output as u64,
            request.irql.into(),
        ]
    }

    /// `IoBuildDeviceIoControlRequest`, `IoCallDriver`, and waits.
    #[track_caller]
    pub fn send(&self, request: &Request<'_>) -> IoResult {
        let began = self.client.machine.now();
        let words = Self::words(request, 0);
        let reply = self.command(puppet::SEND, &words, request.input, request.output);
        self.result(reply, began)
    }

    fn result(&self, reply: Reply, began: u64) -> IoResult {
        IoResult {
            status: reply.status(0),
            information: size(reply.words[1]),
            output: reply.data,
            took: self.client.machine.now() - began,
        }
    }

    /// [`Slot::send`] of an internal request.
    #[track_caller]
    pub fn internal(&self, code: u32, input: &[u8], output: usize) -> IoResult {
        self.send(&Request::internal(code, input, output))
    }

    /// [`Slot::send`] of a request that a program could send, too.
    #[track_caller]
    pub fn plain(&self, code: u32, input: &[u8], output: usize) -> IoResult {
        self.send(&Request::plain(code, input, output))
    }

    /// [`Slot::internal`] without buffers: its status.
    #[track_caller]
    pub fn order(&self, code: u32) -> NtStatus {
        self.internal(code, &[], 0).status
    }

    /// Sends an IRP of the client's own, and does not wait.
    #[must_use]
    #[track_caller]
    pub fn start(&self, request: &Request<'_>) -> Asynchronous<'a> {
        let words = Self::words(request, Flag::Asynchronous.bit());
        let began = self.client.machine.now();
        let reply = self.command(puppet::SEND, &words, request.input, request.output);
        Asynchronous {
            client: self.client,
            slot: self.number,
            number: reply.words[3],
            output: request.output,
            dispatched: reply.status(2),
            began,
        }
    }

    /// [`Slot::start`] of an internal request without buffers.
    #[must_use]
    #[track_caller]
    pub fn start_order(&self, code: u32) -> Asynchronous<'a> {
        self.start(&Request::internal(code, &[], 0))
    }

    /// Has the port allocated, which is free.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn allocate(&self) {
        let code = parallel_h::IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE;
        assert_eq!(self.order(code), NtStatus::SUCCESS, "PORT_ALLOCATE");
    }

    /// Asks for the port, which another has, and does not wait for it.
    ///
    /// # Panics
    /// If the request does not wait.
    #[must_use]
    #[track_caller]
    pub fn wait_for_port(&self) -> Asynchronous<'a> {
        let waiting = self.start_order(parallel_h::IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE);
        assert_eq!(waiting.dispatched, NtStatus::PENDING);
        waiting
    }

    /// Frees the port by a request.
    ///
    /// # Panics
    /// If the client does not have it.
    #[track_caller]
    pub fn free(&self) {
        let code = parallel_h::IOCTL_INTERNAL_PARALLEL_PORT_FREE;
        assert_eq!(self.order(code), NtStatus::SUCCESS, "PORT_FREE");
    }

    /// Sends an IRP of the client's own, and waits. The result has the whole system buffer, and
    /// Information whatever the status.
    #[track_caller]
    pub fn irp(&self, request: &Request<'_>) -> IoResult {
        self.start(request).finish()
    }

    /// `PARALLEL_CONNECT_INTERRUPT` or `_DISCONNECT_INTERRUPT` with a routine of the client. The
    /// client is 0 to 7, its options are of [`puppet::isr`].
    #[track_caller]
    pub fn interrupt(&self, code: u32, client: usize, options: u64) -> IoResult {
        let began = self.client.machine.now();
        let output = if code == parallel_h::IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT {
            parallel_h::INTERRUPT_INFORMATION
        } else {
            0
        };
        let request = Request::internal(code, &[], output);
        let [code, flags, length, irql] = Self::words(&request, Flag::Isr.bit());
        let words = [code, flags, length, irql, client as u64, options];
        let reply = self.command(puppet::SEND, &words, &[], output);
        self.result(reply, began)
    }

    /// `IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT` of a client, 0 to 7: its status.
    #[track_caller]
    pub fn disconnect_interrupt(&self, client: usize) -> NtStatus {
        let code = parallel_h::IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT;
        self.interrupt(code, client, 0).status
    }

    /// `IOCTL_INTERNAL_PARCLASS_CONNECT`
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn connect(&self) -> ParclassInformation {
        let code = parallel_h::IOCTL_INTERNAL_PARCLASS_CONNECT;
        ParclassInformation::parse(&self.internal(code, &[], parallel_h::PARCLASS_INFORMATION))
    }

    /// `GET_PARALLEL_PORT_INFO`
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn port_information(&self) -> PortInformation {
        let code = parallel_h::IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO;
        PortInformation::parse(&self.internal(code, &[], parallel_h::PORT_INFORMATION))
    }

    /// `GET_PARALLEL_PNP_INFO`
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn pnp_information(&self) -> PnpInformation {
        let code = parallel_h::IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO;
        PnpInformation::parse(&self.internal(code, &[], parallel_h::PNP_INFORMATION))
    }

    /// `IOCTL_INTERNAL_LOCK_PORT`
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn lock(&self) {
        assert_eq!(
            self.order(parallel_h::IOCTL_INTERNAL_LOCK_PORT),
            NtStatus::SUCCESS
        );
    }

    /// `IOCTL_INTERNAL_UNLOCK_PORT`
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn unlock(&self) {
        assert_eq!(
            self.order(parallel_h::IOCTL_INTERNAL_UNLOCK_PORT),
            NtStatus::SUCCESS
        );
    }

    /// Chooses modes by `IOCTL_IEEE1284_NEGOTIATE`, as a program does; 0 leaves one as it is.
    ///
    /// # Panics
    /// If the driver does not choose them.
    #[track_caller]
    pub fn choose(&self, read: u16, write: u16) {
        let offered = modes::mask(read, write);
        let chosen = self.plain(IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS, "{read:#06x} {write:#06x}");
    }

    /// Calls a routine of the table that the device gave last.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn call(&self, callback: Callback<'_>, irql: u8) -> Answer {
        let pending = self.start_call(callback, irql);
        self.finish_call(&pending)
    }

    /// [`Slot::call`] with null for the context.
    ///
    /// # Panics
    /// If there is no such routine.
    #[track_caller]
    pub fn call_without_context(&self, callback: Callback<'_>, irql: u8) -> Answer {
        let mut call = callback.call();
        call.kinds |= argument::NO_CONTEXT;
        self.finish_call(&self.begin_call(&call, irql))
    }

    /// [`Slot::call`] in a thread of its own. Nothing runs before the machine does.
    #[must_use]
    pub fn start_call(&self, callback: Callback<'_>, irql: u8) -> PendingCall {
        self.begin_call(&callback.call(), irql)
    }

    fn begin_call(&self, call: &Call, irql: u8) -> PendingCall {
        let (table, offset) = call.place;
        let mut words = vec![
            u64::from(self.number),
            table as u64,
            offset as u64,
            irql.into(),
            call.kinds,
        ];
        words.extend_from_slice(&call.values);
        PendingCall(
            self.client
                .start(puppet::CALL, &words, &call.data, call.buffer),
        )
    }

    /// Whether a call has returned.
    #[must_use]
    pub fn has_returned(&self, pending: &PendingCall) -> bool {
        self.client.machine.is_done(&pending.0)
    }

    /// Runs the machine until a call has returned.
    ///
    /// # Panics
    /// If there was no routine to call.
    #[track_caller]
    pub fn finish_call(&self, pending: &PendingCall) -> Answer {
        let reply = self.client.finish(&pending.0);
        let [value, count, called, ..] = reply.words;
        assert_eq!(called, 1, "the table has no such routine");
        Answer {
            value,
            count: u32::try_from(count).expect("a ULONG"),
            data: reply.data,
        }
    }

    /// Reads a register of the port at the address that `GET_PARALLEL_PORT_INFO` told.
    #[must_use]
    #[track_caller]
    pub fn register(&self, register: u8) -> u8 {
        let words = [
            Table::Port as u64,
            parallel_h::CONTROLLER as u64,
            register.into(),
        ];
        let [value, ..] = self.command(puppet::REGISTER, &words, &[], 0).words[0].to_le_bytes();
        value
    }

    /// Where the image of the driver is that made the device.
    #[must_use]
    #[track_caller]
    pub fn image(&self) -> Range<u64> {
        let [start, size, ..] = self.command(puppet::IMAGE, &[], &[], 0).words;
        start..start + size
    }

    /// Gives the file object's last reference back: CLEANUP, CLOSE. The client keeps the tables.
    #[track_caller]
    pub fn close(self) {
        self.give_back();
    }

    /// As [`Slot::close`], for one that others still refer to. It is not to be used again.
    #[track_caller]
    pub fn give_back(&self) {
        self.command(puppet::CLOSE, &[], &[], 0);
        let slots = self.client.slots.get();
        self.client.slots.set(slots & !(1 << self.number));
    }
}

/// An IRP of the client's own, under way.
pub struct Asynchronous<'a> {
    client: &'a Client,
    slot: u32,
    number: u64,
    output: usize,
    /// What the dispatch routine returned.
    pub dispatched: NtStatus,
    began: u64,
}

impl Asynchronous<'_> {
    /// What came of it; `None` as long as it is pending. Not to be asked again after that.
    #[must_use]
    #[track_caller]
    pub fn poll(&self) -> Option<IoResult> {
        let reply = self
            .client
            .command(puppet::RESULT, &[self.number], &[], self.output);
        (reply.words[3] == 1).then(|| {
            let slot = Slot {
                client: self.client,
                number: self.slot,
            };
            slot.result(reply, self.began)
        })
    }

    /// Runs the machine until it is finished.
    ///
    /// # Panics
    /// If it is not after a minute of the machine's.
    #[track_caller]
    pub fn finish(self) -> IoResult {
        for _ in 0..60_000 {
            if let Some(result) = self.poll() {
                return result;
            }
            check(self.client.machine.run_for(MS));
        }
        panic!("the request does not end");
    }

    /// `IoCancelIrp`: whether a cancel routine ran.
    #[track_caller]
    pub fn cancel(&self) -> bool {
        self.client
            .command(puppet::CANCEL, &[self.number], &[], 0)
            .words[0]
            != 0
    }
}
