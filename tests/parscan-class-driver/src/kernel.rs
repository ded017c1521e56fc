//! Safe forms of the kernel's functions.

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
    slice,
};

use crate::{
    nt::{
        self, DEVICE_OBJECT, DISPATCH_LEVEL, DpcRoutine, FILE_OBJECT, INSUFFICIENT_RESOURCES,
        IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP, IRP_MJ_DEVICE_CONTROL,
        IRP_MJ_INTERNAL_DEVICE_CONTROL, KDPC, KEVENT, Opaque, PASSIVE_LEVEL, PENDING, Ptr, Status,
        UNICODE_STRING,
    },
    puppet::Flag,
};

/// Nonpaged memory, at least one byte.
pub(crate) struct Pool {
    at: NonNull<u8>,
    length: usize,
}

impl Pool {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_filled(length: usize, value: u8) -> Result<Self, Status> {
        let length = length.max(1);
        // SAFETY: a valid flag, at most DISPATCH_LEVEL like all of this driver but its interrupt
        // routines, and not zero bytes.
        let at = unsafe { nt::ExAllocatePool2(nt::NON_PAGED, length, nt::TAG) };
        let at = NonNull::new(at.cast()).ok_or(INSUFFICIENT_RESOURCES)?;
        // SAFETY: the block is this long, and this pool's alone.
        unsafe { at.write_bytes(value, length) };
        Ok(Self { at, length })
    }

    /// Gives the block away, for [`Pool::from_raw`].
    pub(crate) fn into_raw(self) -> (*mut u8, usize) {
        let parts = (self.at.as_ptr(), self.length);
        core::mem::forget(self);
        parts
    }

    /// # Safety
    /// The parts are from [`Pool::into_raw`], and used once.
    pub(crate) unsafe fn from_raw(at: *mut u8, length: usize) -> Option<Self> {
        NonNull::new(at).map(|at| Self { at, length })
    }
}

impl Deref for Pool {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is this long, initialised by `try_filled`, and borrowed with `self`.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.length) }
    }
}

impl DerefMut for Pool {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.length) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: allocated with this tag, and freed once.
        unsafe { nt::ExFreePoolWithTag(self.at.as_ptr().cast(), nt::TAG) };
    }
}

/// An event that lives as long as the driver.
pub(crate) struct Event(UnsafeCell<KEVENT>);

// SAFETY: the kernel's functions on it synchronise.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Opaque([0; 3])))
    }

    /// Makes it a notification event that is not signalled. No thread waits for it now.
    pub(crate) fn initialize(&'static self) {
        // SAFETY: it has the size of a KEVENT and stays where it is.
        unsafe { nt::KeInitializeEvent(self.0.get(), 0, 0) };
    }

    /// At <= `DISPATCH_LEVEL`.
    pub(crate) fn set(&'static self) {
        // SAFETY: it was initialised; Wait is FALSE.
        unsafe { nt::KeSetEvent(self.0.get(), 0, 0) };
    }

    /// At `PASSIVE_LEVEL`.
    pub(crate) fn wait(&'static self) {
        wait(self.0.get());
    }
}

/// Waits for ever, not alertable (`Executive`, `KernelMode`).
fn wait(event: *mut KEVENT) {
    // SAFETY: the callers' events are initialised and outlive the wait.
    unsafe { nt::KeWaitForSingleObject(event.cast(), 0, 0, 0, ptr::null()) };
}

/// A DPC that lives as long as the driver.
pub(crate) struct Dpc(UnsafeCell<KDPC>);

// SAFETY: the kernel's functions on it synchronise.
unsafe impl Sync for Dpc {}

impl Dpc {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Opaque([0; 8])))
    }

    /// It is not queued now. The routine gets the context as its second argument.
    pub(crate) fn initialize(&'static self, routine: DpcRoutine, context: Ptr) {
        // SAFETY: it has the size of a KDPC and stays where it is.
        unsafe { nt::KeInitializeDpc(self.0.get(), routine, context) };
    }

    pub(crate) fn queue(&'static self) {
        // SAFETY: it was initialised.
        unsafe { nt::KeInsertQueueDpc(self.0.get(), ptr::null_mut(), ptr::null_mut()) };
    }
}

/// An open device.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) device: *mut DEVICE_OBJECT,
    pub(crate) file: Ptr,
}

impl Target {
    /// `IoGetDeviceObjectPointer` for reading and writing. The name is UTF-16. At `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// Its status; `STATUS_INVALID_PARAMETER` for a name that is too long.
    pub(crate) fn open(name: &[u8]) -> Result<Self, Status> {
        /// `FILE_GENERIC_READ | FILE_GENERIC_WRITE`
        const ACCESS: u32 = 0x0012_019F;
        let length = u16::try_from(name.len()).map_err(|_| nt::INVALID_PARAMETER)?;
        let name = UNICODE_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: name.as_ptr().cast_mut().cast(),
        };
        let mut target = Self {
            device: ptr::null_mut(),
            file: ptr::null_mut(),
        };
        // SAFETY: the string describes `name`, which is only read; the others are local.
        let status = unsafe {
            nt::IoGetDeviceObjectPointer(
                &raw const name,
                ACCESS,
                &raw mut target.file,
                &raw mut target.device,
            )
        };
        if status < 0 { Err(status) } else { Ok(target) }
    }

    /// Address and size of the image of the driver that made the device.
    pub(crate) fn image(self) -> Option<(usize, u32)> {
        let file: *const FILE_OBJECT = self.file.cast_const().cast();
        // SAFETY: a referenced file object.
        let file = unsafe { file.as_ref() }?;
        // SAFETY: whose device exists while it is open.
        let device = unsafe { file.DeviceObject.as_ref() }?;
        // SAFETY: and so does its driver.
        let driver = unsafe { device.DriverObject.as_ref() }?;
        Some((driver.DriverStart, driver.DriverSize))
    }

    /// As [`Target::open`], but it keeps the device object alone, without an open of it, as a driver
    /// that is attached above does.
    ///
    /// # Errors
    /// As [`Target::open`].
    pub(crate) fn attach(name: &[u8]) -> Result<Self, Status> {
        let open = Self::open(name)?;
        // SAFETY: the device of a referenced file object.
        unsafe { nt::ObfReferenceObject(open.device.cast()) };
        open.close();
        Ok(Self {
            file: ptr::null_mut(),
            ..open
        })
    }

    /// Gives the last reference back that it has: to the file object, or to the device object. At
    /// `PASSIVE_LEVEL`.
    pub(crate) fn close(self) {
        let object = if self.file.is_null() {
            self.device.cast()
        } else {
            self.file
        };
        // SAFETY: `open` or `attach` gave one reference, and a target is closed once.
        unsafe { nt::ObfDereferenceObject(object) };
    }
}

/// A control request.
#[derive(Clone, Copy)]
pub(crate) struct Control {
    pub(crate) code: u32,
    /// [`Flag`]s.
    pub(crate) flags: u64,
}

impl Control {
    /// An internal request as a class driver sends it.
    pub(crate) const fn internal(code: u32) -> Self {
        Self {
            code,
            flags: Flag::Internal.bit() | Flag::File.bit(),
        }
    }

    pub(crate) const fn is_internal(self) -> bool {
        Flag::Internal.is_in(self.flags)
    }

    /// Fills an IRP of [`own_irp`] for the target.
    ///
    /// # Safety
    /// The IRP is allocated or reused, and not sent.
    pub(crate) unsafe fn fill(
        self,
        irp: *mut IRP,
        target: Target,
        input: u32,
        output: u32,
    ) -> Option<&'static mut IO_STACK_LOCATION> {
        // SAFETY: the caller's IRP.
        let irp = unsafe { irp.as_mut() }?;
        irp.RequestorMode = u8::from(Flag::UserMode.is_in(self.flags));
        // SAFETY: the IRP has a location below the present one for its first driver.
        let next = unsafe { irp.CurrentStackLocation.sub(1) };
        // SAFETY: which belongs to its sender until it is sent.
        let next = unsafe { next.as_mut() }?;
        next.MajorFunction = if self.is_internal() {
            IRP_MJ_INTERNAL_DEVICE_CONTROL
        } else {
            IRP_MJ_DEVICE_CONTROL
        };
        next.Parameters.DeviceIoControl.IoControlCode = self.code;
        next.Parameters.DeviceIoControl.InputBufferLength = input;
        next.Parameters.DeviceIoControl.OutputBufferLength = output;
        next.FileObject = if Flag::File.is_in(self.flags) {
            target.file
        } else {
            ptr::null_mut()
        };
        Some(next)
    }

    /// Sends it with `IoBuildDeviceIoControlRequest` and waits for its end. At `PASSIVE_LEVEL`.
    pub(crate) fn send(self, target: Target, input: &[u8], output: &mut [u8]) -> Outcome {
        let mut event: KEVENT = Opaque([0; 3]);
        // SAFETY: it stays where it is until this function ends, which waits for the request.
        unsafe { nt::KeInitializeEvent(&raw mut event, 0, 0) };
        let mut block = IO_STATUS_BLOCK::default();
        let (Ok(input_length), Ok(output_length)) =
            (u32::try_from(input.len()), u32::try_from(output.len()))
        else {
            return Outcome::of(nt::INVALID_PARAMETER);
        };
        // SAFETY: all of these outlive the request.
        let irp = unsafe {
            nt::IoBuildDeviceIoControlRequest(
                self.code,
                target.device,
                input.as_ptr().cast_mut().cast(),
                input_length,
                output.as_mut_ptr().cast(),
                output_length,
                u8::from(self.is_internal()),
                &raw mut event,
                &raw mut block,
            )
        };
        // SAFETY: just built.
        if unsafe { self.fill(irp, target, input_length, output_length) }.is_none() {
            return Outcome::of(INSUFFICIENT_RESOURCES);
        }
        // SAFETY: the IRP was built for this device, and is not touched any more.
        let dispatched = unsafe { nt::IofCallDriver(target.device, irp) };
        let mut status = dispatched;
        if dispatched == PENDING {
            wait(&raw mut event);
            status = block.Status;
        }
        Outcome {
            status,
            // The I/O manager leaves the block alone when a request fails at once.
            information: block.Information,
            dispatched,
        }
    }
}

/// What came of a control request.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) information: usize,
    /// What the dispatch routine returned.
    pub(crate) dispatched: Status,
}

impl Outcome {
    const fn of(status: Status) -> Self {
        Self {
            status,
            information: 0,
            dispatched: status,
        }
    }
}

/// An IRP of this driver's own for a device, at <= `DISPATCH_LEVEL`.
///
/// # Errors
/// `STATUS_INSUFFICIENT_RESOURCES`
pub(crate) fn own_irp(device: *mut DEVICE_OBJECT) -> Result<*mut IRP, Status> {
    // SAFETY: an open device's object.
    let size = unsafe { (*device).StackSize };
    // SAFETY: the size is the device's.
    let irp = unsafe { nt::IoAllocateIrp(size, 0) };
    if irp.is_null() {
        Err(INSUFFICIENT_RESOURCES)
    } else {
        Ok(irp)
    }
}

pub(crate) fn irql() -> u8 {
    // SAFETY: no conditions.
    unsafe { nt::KeGetCurrentIrql() }
}

/// Runs `f` at this IRQL, or at the present one if that is higher.
pub(crate) fn at_irql<T>(level: u8, f: impl FnOnce() -> T) -> T {
    if level <= irql() {
        return f();
    }
    // SAFETY: it is higher than the present one.
    let old = unsafe { nt::KfRaiseIrql(level) };
    let result = f();
    // SAFETY: this is what KfRaiseIrql returned.
    unsafe { nt::KeLowerIrql(old) };
    result
}

/// Whether a level is one at which a driver's threads run.
pub(crate) fn is_level(level: u64) -> Option<u8> {
    u8::try_from(level)
        .ok()
        .filter(|level| (PASSIVE_LEVEL..=DISPATCH_LEVEL).contains(level))
}

/// Calls a routine of a callback table. One with fewer parameters does not see the rest.
///
/// # Safety
/// The address is of a routine with at most five integer parameters, and the arguments are such as
/// it may be called with.
pub(crate) unsafe fn call(address: usize, arguments: [usize; 5]) -> usize {
    type Routine = unsafe extern "system" fn(usize, usize, usize, usize, usize) -> usize;
    // SAFETY: the caller's address; in the x64 convention the caller cleans the stack.
    let routine = unsafe { core::mem::transmute::<usize, Routine>(address) };
    let [context, first, second, third, fourth] = arguments;
    // SAFETY: the caller's arguments.
    unsafe { routine(context, first, second, third, fourth) }
}

/// Reads an I/O port.
pub(crate) fn read_port(port: u16) -> u8 {
    let value: u8;
    // SAFETY: reading a printer port's registers has no effect on memory.
    unsafe {
        core::arch::asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack));
    }
    value
}

/// Writes an I/O port.
pub(crate) fn write_port(port: u16, value: u8) {
    // SAFETY: nor has writing them.
    unsafe {
        core::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack));
    }
}
