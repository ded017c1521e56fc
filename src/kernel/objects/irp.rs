//! IRPs as values: what one asks, and the ways in which it ends.

mod transfer;

pub(in crate::kernel) use transfer::{KeptHold, submit_urb};

use core::{ffi::c_void, mem::ManuallyDrop, ptr::NonNull, slice};

use wdk_sys::{
    CCHAR, DEVICE_OBJECT, FILE_DIRECTORY_FILE, FILE_OBJECT, IO_STACK_LOCATION, IO_STATUS_BLOCK,
    IRP, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_DEVICE_CONTROL, IRP_MJ_FLUSH_BUFFERS,
    IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_QUERY_INFORMATION, IRP_MJ_READ, IRP_MJ_WRITE, NTSTATUS,
    PIO_COMPLETION_ROUTINE, PVOID, STATUS_SUCCESS,
    ntddk::{IofCallDriver, IofCompleteRequest},
};

use crate::ioctl::Status;
use crate::kernel::{
    KERNEL_MODE, Lower, Passive, Shared, device::RemoveLock, irql::Routine, open::OpenRef,
};

/// What became of an [`Irp`]; a dispatch routine returns it. Only completing, forwarding and
/// queueing make one.
#[must_use = "a dispatch routine returns what became of its IRP"]
pub(crate) struct Disposition(NTSTATUS);

impl Disposition {
    /// What the dispatch routine tells the I/O manager.
    pub(in crate::kernel) const fn status(self) -> NTSTATUS {
        self.0
    }

    /// Whether the request ended well, or has not ended yet.
    pub(in crate::kernel) const fn is_success(&self) -> bool {
        wdk::nt_success(self.0)
    }

    /// The same for an IRP that was marked as pending first.
    pub(in crate::kernel) fn pending(self) -> Self {
        let Self(_completed) = self;
        Self(Status::PENDING.0)
    }
}

/// An I/O request packet, owned by this driver at this moment.
///
/// It holds the remove lock of its device from its arrival to its end, so the device object and
/// its state outlive it.
///
/// To drop one is to forget a request. No path does: in a release build its drop calls a function
/// that there is not, so a driver with such a path does not link.
#[must_use = "an IRP must be completed, forwarded or queued"]
pub(crate) struct Irp {
    raw: NonNull<IRP>,
    lock: RemoveLock,
}

#[cfg(not(debug_assertions))]
unsafe extern "C" {
    /// Nowhere defined: the linker names it where an [`Irp`] could be dropped.
    fn parscan_an_irp_is_forgotten();
}

impl Drop for Irp {
    fn drop(&mut self) {
        // Without optimization the linker is shown paths that there are not.
        #[cfg(debug_assertions)]
        unreachable!("an IRP is forgotten");
        // SAFETY: never called, for an image with this call does not link.
        #[cfg(not(debug_assertions))]
        unsafe {
            parscan_an_irp_is_forgotten();
        }
    }
}

// SAFETY: an IRP belongs to the owner of the value, in any thread.
unsafe impl Send for Irp {}

/// An open of a device; two requests of one open have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(pub(in crate::kernel) *mut FILE_OBJECT);

// SAFETY: the pointer is compared, and used while the open is known to live.
unsafe impl Send for FileId {}
// SAFETY: likewise.
unsafe impl Sync for FileId {}

/// The parameters of `IRP_MJ_CREATE`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Create {
    /// The caller asks for a directory.
    pub(crate) directory: bool,
    /// The caller named something behind the device.
    pub(crate) has_name: bool,
}

/// Which way the bytes of a transfer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum TransferKind {
    /// `IRP_MJ_READ`
    Read,
    /// `IRP_MJ_WRITE`
    Write,
    /// `IRP_MJ_FLUSH_BUFFERS`: nothing moves, but what was asked before has.
    Flush,
}

/// What an IRP asks of a role. PnP, power and WMI never get here: [`crate::kernel::pnp`] answers
/// them.
#[derive(Clone, Copy)]
pub(crate) enum Request<'irql> {
    /// `IRP_MJ_CREATE`
    Create(Create),
    /// `IRP_MJ_CLEANUP`: the last handle of the open was closed. A kernel client may use the open
    /// for long after that, if it kept the file object and no handle, as
    /// `IoGetDeviceObjectPointer` does.
    Cleanup(Passive<'irql>),
    /// `IRP_MJ_CLOSE`: the open is over, and the last of its requests.
    Close(Passive<'irql>),
    /// `IRP_MJ_DEVICE_CONTROL`: from user mode, or from a kernel client in a user's stead.
    DeviceControl { code: u32 },
    /// `IRP_MJ_READ`, from `offset`.
    Read { offset: i64 },
    /// `IRP_MJ_WRITE`, to `offset`.
    Write { offset: i64 },
    /// `IRP_MJ_FLUSH_BUFFERS`
    Flush,
    /// `IRP_MJ_QUERY_INFORMATION`: a class of `FILE_INFORMATION_CLASS`.
    QueryInformation { class: i32 },
    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL` from a kernel client.
    InternalDeviceControl {
        code: u32,
        /// The request arrived at this level: more than most do.
        passive: Option<Passive<'irql>>,
    },
    /// `IRP_MJ_INTERNAL_DEVICE_CONTROL` in a program's name: never served.
    Foreign,
    /// Any other major function.
    Other,
}

/// `SL_PENDING_RETURNED`, in `Control` of a stack location.
const PENDING_RETURNED: u8 = 0x01;
/// `SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL`
pub(in crate::kernel) const INVOKE_ALWAYS: u8 = 0xE0;
/// `IO_NO_INCREMENT`: the waiting thread gets no boost.
const NO_BOOST: CCHAR = 0;

impl Irp {
    /// Takes ownership of an IRP that a dispatch routine was given, under the device's remove lock.
    ///
    /// # Errors
    /// The device is gone: the IRP was completed, with `STATUS_DELETE_PENDING` unless it only ends
    /// an open.
    ///
    /// # Safety
    /// `raw` is the IRP of a dispatch routine of the device that `lock` belongs to.
    #[inline]
    pub(in crate::kernel) unsafe fn accept(
        raw: NonNull<IRP>,
        lock: RemoveLock,
    ) -> Result<Self, Disposition> {
        let acquired = lock.acquire(raw.as_ptr().cast());
        let irp = Self { raw, lock };
        if acquired.is_ok() {
            Ok(irp)
        } else {
            Err(irp.refuse())
        }
    }

    /// The end of an IRP that came to a device that is being removed.
    #[cold]
    #[inline(never)]
    fn refuse(self) -> Disposition {
        let status = match u32::from(self.stack().MajorFunction) {
            IRP_MJ_CLEANUP => Status::SUCCESS,
            IRP_MJ_CLOSE => {
                self.forget_open();
                Status::SUCCESS
            }
            _ => Status::DELETE_PENDING,
        };
        self.set_status(status, 0);
        let raw = self.into_raw();
        // SAFETY: the IRP is ours; the lock, which was refused, is not released.
        unsafe { IofCompleteRequest(raw.as_ptr(), NO_BOOST) };
        Disposition(status.0)
    }

    /// Takes back an IRP that was put aside (in a queue, or by a completion routine).
    ///
    /// # Safety
    /// The IRP was accepted under `lock` and has no other owner.
    pub(in crate::kernel) const unsafe fn resume(raw: NonNull<IRP>, lock: RemoveLock) -> Self {
        Self { raw, lock }
    }

    /// The remove lock that the IRP holds.
    pub(in crate::kernel) const fn remove_lock(&self) -> RemoveLock {
        self.lock
    }

    /// Gives up ownership without ending the request.
    pub(in crate::kernel) fn into_raw(self) -> NonNull<IRP> {
        ManuallyDrop::new(self).raw
    }

    /// As [`Irp::into_raw`], with the lock that it holds.
    fn into_parts(self) -> (NonNull<IRP>, RemoveLock) {
        let lock = self.lock;
        (self.into_raw(), lock)
    }

    /// `IoGetCurrentIrpStackLocation`
    #[inline]
    fn current(&self) -> *mut IO_STACK_LOCATION {
        // SAFETY: the IRP is live while this value is.
        unsafe { current_slot(self.raw).read() }
    }

    /// This driver's stack location.
    #[inline]
    pub(in crate::kernel) fn stack(&self) -> &IO_STACK_LOCATION {
        // SAFETY: valid while the IRP is ours.
        unsafe { &*self.current() }
    }

    /// What an `IRP_MJ_CREATE` asks.
    pub(in crate::kernel) fn create(&self) -> Request<'static> {
        // SAFETY: the member that belongs to this major; of another one any bits are options.
        let create = unsafe { self.stack().Parameters.Create };
        Request::Create(Create {
            directory: create.Options & FILE_DIRECTORY_FILE != 0,
            has_name: self.file().has_name(),
        })
    }

    /// What the IRP asks, which is no `IRP_MJ_CREATE`. Those requests that arrive at `PASSIVE_LEVEL` prove it for as long as
    /// their routine runs.
    ///
    /// # Safety
    /// `routine` is the dispatch routine of the IRP.
    #[inline]
    pub(in crate::kernel) unsafe fn request<'irql>(
        &self,
        routine: &'irql Routine,
    ) -> Request<'irql> {
        let stack = self.stack();
        match u32::from(stack.MajorFunction) {
            // SAFETY: the I/O manager sends CLEANUP at PASSIVE_LEVEL.
            IRP_MJ_CLEANUP => Request::Cleanup(unsafe { Passive::of(routine) }),
            // SAFETY: and CLOSE.
            IRP_MJ_CLOSE => Request::Close(unsafe { Passive::of(routine) }),
            IRP_MJ_DEVICE_CONTROL => Request::DeviceControl { code: self.code() },
            IRP_MJ_READ => {
                // SAFETY: the member that belongs to this major.
                let read = unsafe { stack.Parameters.Read };
                Request::Read {
                    // SAFETY: every bit pattern is an i64.
                    offset: unsafe { read.ByteOffset.QuadPart },
                }
            }
            IRP_MJ_WRITE => {
                // SAFETY: the member that belongs to this major.
                let write = unsafe { stack.Parameters.Write };
                Request::Write {
                    // SAFETY: every bit pattern is an i64.
                    offset: unsafe { write.ByteOffset.QuadPart },
                }
            }
            IRP_MJ_FLUSH_BUFFERS => Request::Flush,
            IRP_MJ_QUERY_INFORMATION => {
                // SAFETY: the member that belongs to this major.
                let query = unsafe { stack.Parameters.QueryFile };
                Request::QueryInformation {
                    class: query.FileInformationClass,
                }
            }
            // User mode has no way to send one. If a driver passes on a request of a program under
            // this major, it is not its own.
            IRP_MJ_INTERNAL_DEVICE_CONTROL if self.is_from_user() => Request::Foreign,
            IRP_MJ_INTERNAL_DEVICE_CONTROL => Request::InternalDeviceControl {
                code: self.code(),
                passive: Passive::now(routine),
            },
            _ => Request::Other,
        }
    }

    /// Whether user mode sent the request (`RequestorMode`), so that its addresses are not trusted.
    pub(crate) fn is_from_user(&self) -> bool {
        // SAFETY: a place in a live IRP; nothing is read.
        let mode = unsafe { &raw const (*self.raw.as_ptr()).RequestorMode };
        // SAFETY: it does not change while the IRP is ours.
        unsafe { mode.read() != KERNEL_MODE }
    }

    /// What is known of the open that the request came through: nothing, if it came through none,
    /// or through one of another device.
    #[inline]
    pub(in crate::kernel) fn open(&self) -> Option<OpenRef> {
        self.lock.opens().find(self.file())
    }

    /// The open of a program, whose requests end with its handle. `None`: a driver sent the
    /// request, and may do so for as long as it has the open.
    #[inline]
    pub(in crate::kernel) fn program(&self) -> Option<OpenRef> {
        if self.is_from_user() {
            self.open()
        } else {
            None
        }
    }

    /// As [`Irp::program`], for a request that waits. Notes that a driver uses its open, whose last
    /// handle may be closed.
    #[inline]
    pub(in crate::kernel) fn waiting_program(&self) -> Option<OpenRef> {
        let open = self.open();
        if self.is_from_user() {
            return open;
        }
        if let Some(open) = open {
            open.set_used();
        }
        None
    }

    /// Keeps `value` alive until the open that this `IRP_MJ_CREATE` makes is closed, whatever
    /// becomes of the device: the routines that a client was told to call find it.
    pub(crate) fn set_open_context<T: Send + Sync + 'static>(&self, value: &Shared<T>) {
        if let Some(open) = self.open() {
            open.set_context(value);
        }
    }

    /// What [`Irp::set_open_context`] keeps for the open of this request, if it is a `T`.
    #[inline]
    pub(crate) fn kept_for_open<T: Send + Sync + 'static>(&self) -> Option<Shared<T>> {
        self.open()?.context()
    }

    /// The end of the open: in its `IRP_MJ_CLOSE`, or in an `IRP_MJ_CREATE` that fails.
    pub(in crate::kernel) fn forget_open(&self) {
        if let Some(open) = self.open() {
            // SAFETY: it was found in the list, and no other request of it is under way.
            unsafe { self.lock.opens().remove(open) };
        }
    }

    /// The control code of a device control request.
    pub(crate) fn code(&self) -> u32 {
        // SAFETY: any bit pattern is a code; for other majors it means nothing.
        unsafe { self.stack().Parameters.DeviceIoControl.IoControlCode }
    }

    /// The input of a `METHOD_BUFFERED` device control request, which is private kernel memory.
    pub(crate) fn input(&self) -> &[u8] {
        // SAFETY: the member that belongs to device control.
        let length = unsafe { self.stack().Parameters.DeviceIoControl.InputBufferLength };
        let buffer = self.system_buffer();
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the I/O manager allocated at least the input length and filled it.
        unsafe { slice::from_raw_parts(buffer, length as usize) }
    }

    /// How many bytes the caller of a device control request has room for.
    pub(crate) fn output_length(&self) -> usize {
        // SAFETY: the member that belongs to device control.
        unsafe { self.stack().Parameters.DeviceIoControl.OutputBufferLength as usize }
    }

    /// The room for the output of a `METHOD_BUFFERED` device control request, where its input was.
    /// What is not written must not be reported.
    pub(crate) fn output_buffer(&mut self) -> &mut [u8] {
        let (buffer, length) = (self.system_buffer(), self.output_length());
        if buffer.is_null() {
            return &mut [];
        }
        // SAFETY: the I/O manager allocated at least the output length; the memory is ours while
        // the IRP is, and holds bytes, whatever they are.
        unsafe { slice::from_raw_parts_mut(buffer, length) }
    }

    /// Whether the request is a read or a write.
    pub(in crate::kernel) fn transfer(&self) -> Option<TransferKind> {
        match u32::from(self.stack().MajorFunction) {
            IRP_MJ_READ => Some(TransferKind::Read),
            IRP_MJ_WRITE => Some(TransferKind::Write),
            IRP_MJ_FLUSH_BUFFERS => Some(TransferKind::Flush),
            _ => None,
        }
    }

    /// How many bytes a read or write is about.
    pub(crate) fn transfer_length(&self) -> usize {
        let stack = self.stack();
        // SAFETY: the member that belongs to these majors; both have their length first.
        unsafe { stack.Parameters.Read.Length as usize }
    }

    /// The bytes of a buffered write, in private kernel memory.
    pub(crate) fn write_data(&self) -> &[u8] {
        let (buffer, length) = (self.system_buffer(), self.transfer_length());
        if buffer.is_null() || u32::from(self.stack().MajorFunction) != IRP_MJ_WRITE {
            return &[];
        }
        // SAFETY: the I/O manager allocated and filled as much for a write.
        unsafe { slice::from_raw_parts(buffer, length) }
    }

    /// The room for the bytes of a buffered read. What is not written must not be reported.
    pub(crate) fn read_buffer(&mut self) -> &mut [u8] {
        let (buffer, length) = (self.system_buffer(), self.transfer_length());
        if buffer.is_null() || u32::from(self.stack().MajorFunction) != IRP_MJ_READ {
            return &mut [];
        }
        // SAFETY: the I/O manager allocated as much for a read; the memory is ours while the IRP
        // is, and holds bytes, whatever they are.
        unsafe { slice::from_raw_parts_mut(buffer, length) }
    }

    fn system_buffer(&self) -> *mut u8 {
        // SAFETY: a place in a live IRP, the member that buffered requests use; nothing is read.
        let buffer = unsafe { &raw const (*self.raw.as_ptr()).AssociatedIrp.SystemBuffer };
        // SAFETY: it does not change while the IRP is ours.
        unsafe { buffer.read() }.cast()
    }

    /// The open that the request came through.
    pub(crate) fn file(&self) -> FileId {
        FileId(self.stack().FileObject)
    }

    fn set_status(&self, status: Status, information: usize) {
        // SAFETY: the IRP is ours; nothing is read.
        let block = unsafe { &raw mut (*self.raw.as_ptr()).IoStatus };
        let mut new = IO_STATUS_BLOCK::default();
        new.__bindgen_anon_1.Status = status.0;
        new.Information = information as _;
        // SAFETY: the IRP is ours.
        unsafe { block.write(new) };
    }

    fn status_block(&self) -> IO_STATUS_BLOCK {
        // SAFETY: a place in a live IRP; nothing is read.
        let block = unsafe { &raw const (*self.raw.as_ptr()).IoStatus };
        // SAFETY: only the IRP's owner writes it.
        unsafe { block.read() }
    }

    /// The status that the IRP has now.
    pub(in crate::kernel) fn status(&self) -> Status {
        // SAFETY: both members of the union are plain.
        Status(unsafe { self.status_block().__bindgen_anon_1.Status })
    }

    /// The Information that the IRP has now.
    pub(in crate::kernel) fn information(&self) -> usize {
        // A ULONG_PTR, which bindgen makes a u64.
        usize::try_from(self.status_block().Information).unwrap_or(0)
    }

    /// Ends the request with a status and no data.
    pub(crate) fn complete(self, status: Status) -> Disposition {
        self.complete_with(status, 0)
    }

    /// Ends a `METHOD_BUFFERED` device control request, or a query for file information, with
    /// `STATUS_SUCCESS` and `data` as its output. Information is the length of `data`: exactly
    /// what was written reaches the caller.
    ///
    /// `STATUS_BUFFER_TOO_SMALL`, if the caller has no room for it.
    #[inline(never)]
    pub(crate) fn answer(self, data: &[u8]) -> Disposition {
        self.answer_inline(data)
    }

    /// As [`Irp::answer`], without a call: for a request that is made again and again.
    #[inline]
    pub(crate) fn answer_inline(self, data: &[u8]) -> Disposition {
        let buffer = self.system_buffer();
        let room = match u32::from(self.stack().MajorFunction) {
            IRP_MJ_QUERY_INFORMATION => {
                // SAFETY: the member that belongs to this major.
                unsafe { self.stack().Parameters.QueryFile.Length as usize }
            }
            _ => self.output_length(),
        };
        if buffer.is_null() || data.len() > room {
            return self.complete(Status::BUFFER_TOO_SMALL);
        }
        // SAFETY: the I/O manager allocated at least the output length; `data` lies elsewhere.
        unsafe { buffer.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        self.complete_with(Status::SUCCESS, data.len())
    }

    /// Ends a request with a status and an Information: a transfer, with the bytes that it moved.
    #[inline]
    pub(crate) fn complete_with(self, status: Status, information: usize) -> Disposition {
        self.set_status(status, information);
        self.complete_as_is()
    }

    /// Ends the request with a status; Information stays what it is, as PnP and power requests
    /// want it.
    pub(in crate::kernel) fn complete_with_status(self, status: Status) -> Disposition {
        let information = self.information();
        self.complete_with(status, information)
    }

    /// Ends a request with `STATUS_SUCCESS` after `end`, which releases the remove lock for good:
    /// it is given the tag that the lock is held with.
    pub(in crate::kernel) fn complete_after(self, end: impl FnOnce(NonNull<IRP>)) -> Disposition {
        let raw = self.agreed().into_raw();
        end(raw);
        // SAFETY: the IRP is ours, and this consumes it; <= DISPATCH_LEVEL, no lock held.
        unsafe { IofCompleteRequest(raw.as_ptr(), NO_BOOST) };
        Disposition(Status::SUCCESS.0)
    }

    /// Ends the request with the status that it has.
    #[inline]
    pub(in crate::kernel) fn complete_as_is(self) -> Disposition {
        let status = self.status();
        let (raw, lock) = self.into_parts();
        // SAFETY: the IRP is ours, and this consumes it; <= DISPATCH_LEVEL, no lock held.
        unsafe { IofCompleteRequest(raw.as_ptr(), NO_BOOST) };
        // SAFETY: acquired with this tag in `accept`.
        unsafe { lock.release(tag_of(raw)) };
        Disposition(status.0)
    }

    /// Marks the request as pending: it will end after the dispatch routine returned.
    pub(in crate::kernel) fn mark_pending(&self) -> Disposition {
        // SAFETY: IoMarkIrpPending: our stack location, before anybody else gets the IRP.
        unsafe { (*self.current()).Control |= PENDING_RETURNED };
        Disposition(Status::PENDING.0)
    }

    /// Hands the IRP to the next-lower driver as it is, for good.
    pub(crate) fn forward(self, lower: Lower) -> Disposition {
        let (raw, lock) = (self.raw, self.lock);
        let status = self.forward_locked(lower);
        // SAFETY: acquired with this tag in `accept`; the IRP itself is not touched.
        unsafe { lock.release(tag_of(raw)) };
        status
    }

    /// The request with success as this driver's word; Information stays what it is.
    pub(in crate::kernel) fn agreed(self) -> Self {
        let information = self.information();
        self.set_status(Status::SUCCESS, information);
        self
    }

    /// The request with a status, to end with later; Information stays what it is.
    pub(in crate::kernel) fn with_status(self, status: Status) -> Self {
        let information = self.information();
        self.set_status(status, information);
        self
    }

    /// As [`Irp::forward`], with success as this driver's word.
    pub(in crate::kernel) fn forward_success(self, lower: Lower) -> Disposition {
        self.agreed().forward(lower)
    }

    /// As [`Irp::forward_success`], with `information` as the answer.
    pub(in crate::kernel) fn forward_with(self, lower: Lower, information: usize) -> Disposition {
        self.set_status(Status::SUCCESS, information);
        self.forward(lower)
    }

    /// As [`Irp::forward_success`], but the remove lock stays held; the tag that it is held with
    /// comes back.
    pub(in crate::kernel) fn forward_success_locked(
        self,
        lower: Lower,
    ) -> (Disposition, NonNull<IRP>) {
        let tag = self.raw;
        (self.agreed().forward_locked(lower), tag)
    }

    fn forward_locked(self, lower: Lower) -> Disposition {
        // SAFETY: the array of stack locations goes on above ours, which was passed to us.
        let above = unsafe { self.current().add(1) };
        let irp = self.into_raw();
        let raw = irp.as_ptr();
        // SAFETY: IoSkipCurrentIrpStackLocation: the lower driver gets our stack location.
        unsafe { (*raw).CurrentLocation += 1 };
        let slot = current_slot(irp);
        // SAFETY: the IRP is ours.
        unsafe { slot.write(above) };
        // SAFETY: the IRP is handed over and not touched again.
        Disposition(unsafe { IofCallDriver(lower.raw().as_ptr(), raw) })
    }

    /// Forwards the IRP and takes it back in `routine` when the lower drivers are done with it.
    /// The routine returns `STATUS_MORE_PROCESSING_REQUIRED` and sees to the IRP, or what
    /// [`Irp::continue_completion`] says.
    pub(in crate::kernel) fn forward_then(
        self,
        lower: Lower,
        routine: PIO_COMPLETION_ROUTINE,
        context: PVOID,
    ) -> Disposition {
        let pending = self.mark_pending();
        let current = self.current();
        // SAFETY: the stack size of this device is one more than the lower one's, so there is a
        // next location, below the current one.
        let next = unsafe { current.sub(1) };
        // SAFETY: IoCopyCurrentIrpStackLocationToNext: both are locations of this IRP.
        unsafe { next.copy_from_nonoverlapping(current, 1) };
        // SAFETY: IoSetCompletionRoutine, on the location that was just made.
        let next = unsafe { &mut *next };
        next.CompletionRoutine = routine;
        next.Context = context;
        next.Control = INVOKE_ALWAYS;
        let raw = self.into_raw();
        // SAFETY: the IRP is handed over; the routine gets it back. The request is pending,
        // whatever the lower driver says.
        let _ = unsafe { IofCallDriver(lower.raw().as_ptr(), raw.as_ptr()) };
        pending
    }
}

impl Irp {
    /// In a completion routine of [`Irp::forward_then`]: the IRP goes on upwards, with the status
    /// that it has. What the routine returns.
    #[inline(never)]
    pub(in crate::kernel) fn continue_completion(self) -> NTSTATUS {
        let (raw, lock) = self.into_parts();
        // SAFETY: acquired with this tag in `accept`.
        unsafe { lock.release(tag_of(raw)) };
        STATUS_SUCCESS
    }

    /// The device object that an IRP which was put aside belongs to.
    ///
    /// # Safety
    /// The IRP is this driver's at this moment.
    pub(in crate::kernel) unsafe fn device_of(irp: NonNull<IRP>) -> *mut DEVICE_OBJECT {
        // SAFETY: the IRP is live.
        let stack = unsafe { current_slot(irp).read() };
        // SAFETY: its current location is this driver's.
        unsafe { (*stack).DeviceObject }
    }
}

/// Where an IRP keeps its current stack location.
pub(in crate::kernel) fn current_slot(irp: NonNull<IRP>) -> *mut *mut IO_STACK_LOCATION {
    let irp = irp.as_ptr();
    // SAFETY: a place in an IRP; nothing is read.
    unsafe {
        &raw mut (*irp)
            .Tail
            .Overlay
            .__bindgen_anon_2
            .__bindgen_anon_1
            .CurrentStackLocation
    }
}

/// Fills the stack location of the driver that an IRP is sent to next.
///
/// # Safety
/// The IRP is the caller's, and has a location below its current one.
pub(in crate::kernel) unsafe fn fill_next(irp: NonNull<IRP>, location: IO_STACK_LOCATION) {
    // SAFETY: the caller's promise.
    let current = unsafe { current_slot(irp).read() };
    // SAFETY: IoGetNextIrpStackLocation: it is there.
    let next = unsafe { current.sub(1) };
    // SAFETY: likewise, and no other thread's yet.
    unsafe { next.write(location) };
}

/// The tag that an IRP holds the remove lock of its device with. It is only compared: the IRP may
/// be gone.
const fn tag_of(irp: NonNull<IRP>) -> *mut c_void {
    irp.as_ptr().cast()
}

impl FileId {
    /// No open.
    pub(crate) const NONE: Self = Self(core::ptr::null_mut());

    /// Whether the open, whose `IRP_MJ_CREATE` is under way, names something behind the device.
    fn has_name(self) -> bool {
        if self.is_none() {
            return false;
        }
        // SAFETY: a place in a live file object, of which the I/O manager writes other members;
        // nothing is read.
        let length = unsafe { &raw const (*self.0).FileName.Length };
        // SAFETY: it does not change while the IRP is ours.
        unsafe { length.read() != 0 }
    }

    /// Two opens have different ones.
    pub(in crate::kernel) fn address(self) -> usize {
        self.0.addr()
    }

    /// A request that did not come through an open.
    pub(crate) fn is_none(self) -> bool {
        self.0.is_null()
    }
}
