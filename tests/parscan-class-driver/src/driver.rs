//! DriverEntry, the control device, its requests, unload.

use core::{
    ptr, slice,
    sync::atomic::{AtomicPtr, Ordering::SeqCst},
};

use crate::{
    contend, interrupt,
    kernel::{self, Pool},
    nt::{
        self, DEVICE_OBJECT, DRIVER_OBJECT, Dispatch, INVALID_DEVICE_REQUEST, INVALID_PARAMETER,
        IRP, Ptr, SUCCESS, Status,
        control_device::{self, wide},
    },
    puppet::{self, RESULTS, UNTOUCHED, WORDS},
    request,
    slot::Slot,
    transfer,
};

/// A command: its words, and what follows them.
pub(crate) struct Command<'a> {
    pub(crate) words: [u64; WORDS],
    pub(crate) data: &'a [u8],
}

/// The words of an answer.
pub(crate) struct Answer([u64; RESULTS]);

impl Answer {
    pub(crate) fn of(words: &[u64]) -> Self {
        let mut all = [0; RESULTS];
        for (place, word) in all.iter_mut().zip(words) {
            *place = *word;
        }
        Self(all)
    }
}

/// The control device, for what needs one of this driver's.
static DEVICE: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(ptr::null_mut());

pub(crate) fn device() -> *mut DEVICE_OBJECT {
    DEVICE.load(SeqCst)
}

static NAME: [u16; 21] = wide(br"\Device\ParscanClient");
static LINK: [u16; 25] = wide(br"\DosDevices\ParscanClient");

/// The image's entry point: makes the control device.
///
/// # Safety
/// The I/O manager calls it once, at `PASSIVE_LEVEL`.
#[unsafe(no_mangle)]
unsafe extern "system" fn DriverEntry(driver: *mut DRIVER_OBJECT, _path: Ptr) -> Status {
    // SAFETY: the caller's promise.
    unsafe { set_up(driver) }.err().unwrap_or(SUCCESS)
}

/// # Safety
/// The driver is this one's object, as `DriverEntry` gets it.
unsafe fn set_up(driver: *mut DRIVER_OBJECT) -> Result<(), Status> {
    // SAFETY: the caller's promise.
    let device = unsafe { control_device::create(driver, 0, &NAME, &LINK) }?;
    DEVICE.store(device, SeqCst);
    // SAFETY: the I/O manager's object, for this driver to fill.
    if let Some(driver) = unsafe { driver.as_mut() } {
        driver.DriverUnload = Some(unload);
        let routines: [(u8, Dispatch); 4] = [
            (nt::IRP_MJ_CREATE, succeed),
            (nt::IRP_MJ_CLOSE, succeed),
            (nt::IRP_MJ_CLEANUP, succeed),
            (nt::IRP_MJ_DEVICE_CONTROL, control),
        ];
        for (major, routine) in routines {
            if let Some(place) = driver.MajorFunction.get_mut(usize::from(major)) {
                *place = Some(routine);
            }
        }
    }
    // SAFETY: just made.
    if let Some(device) = unsafe { device.as_mut() } {
        device.Flags &= !nt::DO_DEVICE_INITIALIZING;
    }
    Ok(())
}

unsafe extern "C" fn unload(_driver: *mut DRIVER_OBJECT) {
    // SAFETY: DriverEntry made it, and a driver is unloaded when no client has it open any more.
    unsafe { control_device::delete(device(), &LINK) };
}

/// CREATE, CLEANUP, CLOSE.
unsafe extern "C" fn succeed(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    complete(irp, SUCCESS, 0)
}

fn complete(irp: *mut IRP, status: Status, information: usize) -> Status {
    // SAFETY: the IRP is with this driver.
    if let Some(irp) = unsafe { irp.as_mut() } {
        irp.IoStatus.Status = status;
        irp.IoStatus.Information = information;
    }
    // SAFETY: and is not touched after this.
    unsafe { nt::IofCompleteRequest(irp, 0) };
    status
}

/// `IRP_MJ_DEVICE_CONTROL`: a command.
unsafe extern "C" fn control(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> Status {
    match command(irp) {
        Ok(information) => complete(irp, SUCCESS, information),
        Err(status) => complete(irp, status, 0),
    }
}

/// Carries out the command of an IRP; gives the bytes of its answer.
fn command(irp: *mut IRP) -> Result<usize, Status> {
    // SAFETY: the IRP is with this driver.
    let irp = unsafe { irp.as_ref() }.ok_or(INVALID_PARAMETER)?;
    // SAFETY: and so is its present stack location.
    let location = unsafe { irp.CurrentStackLocation.as_ref() }.ok_or(INVALID_PARAMETER)?;
    let parameters = location.device_io_control();
    let (input, length) = (
        parameters.InputBufferLength as usize,
        parameters.OutputBufferLength as usize,
    );
    if irp.SystemBuffer.is_null() || input < WORDS * 8 || length < RESULTS * 8 {
        return Err(INVALID_PARAMETER);
    }
    // SAFETY: a buffered request's system buffer has both lengths, and is this driver's now.
    let buffer = unsafe { slice::from_raw_parts_mut(irp.SystemBuffer, input.max(length)) };
    let mut output = Pool::try_filled(length - RESULTS * 8, UNTOUCHED)?;
    let (head, data) = buffer
        .get(..input)
        .and_then(|input| input.split_at_checked(WORDS * 8))
        .ok_or(INVALID_PARAMETER)?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(head.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    let answer = carry_out(
        parameters.IoControlCode,
        &Command { words, data },
        &mut output,
    )?;
    let (head, data) = buffer
        .split_at_mut_checked(RESULTS * 8)
        .ok_or(INVALID_PARAMETER)?;
    for (bytes, word) in head.chunks_exact_mut(8).zip(answer.0) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    for (place, byte) in data.iter_mut().zip(output.iter()) {
        *place = *byte;
    }
    Ok(length)
}

fn carry_out(code: u32, command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [first, second, third, register, ..] = command.words;
    match code {
        puppet::OPEN => {
            let status = Slot::numbered(first)?.open(command.data, second != 0).err();
            Ok(Answer::of(&[status_word(status.unwrap_or(SUCCESS))]))
        }
        puppet::CLOSE => {
            Slot::numbered(first)?.close()?;
            Ok(Answer::of(&[]))
        }
        puppet::SEND => request::send(command, output),
        puppet::RESULT => request::result(command, output),
        puppet::CANCEL => request::cancel(command),
        puppet::CALL => call(command, output),
        puppet::TABLE => {
            Slot::numbered(first)?.table(second, output)?;
            Ok(Answer::of(&[]))
        }
        puppet::REGISTER => {
            let base = Slot::numbered(first)?.pointer(second, third)?;
            let register = usize::try_from(register).map_err(|_| INVALID_PARAMETER)?;
            let port = u16::try_from(base.wrapping_add(register)).map_err(|_| INVALID_PARAMETER)?;
            Ok(Answer::of(&[u64::from(kernel::read_port(port))]))
        }
        puppet::IMAGE => {
            let image = Slot::numbered(first)?.target()?.image();
            let (start, size) = image.ok_or(INVALID_PARAMETER)?;
            Ok(Answer::of(&[start as u64, u64::from(size)]))
        }
        puppet::NOTES => Ok(Answer::of(&[interrupt::notes(output)])),
        puppet::TRANSFER => transfer::run(command, output),
        puppet::CONTEND => contend::run(command, output),
        puppet::PROGRESS => Ok(Answer::of(&[contend::progress()])),
        _ => Err(INVALID_DEVICE_REQUEST),
    }
}

/// [`puppet::CALL`]
fn call(command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [slot, table, offset, level, kinds, a, b, c, d, ..] = command.words;
    for (place, byte) in output.iter_mut().zip(command.data) {
        *place = *byte;
    }
    let level = kernel::is_level(level).ok_or(INVALID_PARAMETER)?;
    let slot = Slot::numbered(slot)?;
    let called = slot.call((table, offset), level, kinds, [a, b, c, d], output)?;
    Ok(called.map_or(Answer::of(&[]), |called| {
        Answer::of(&[called.value as u64, u64::from(called.count), 1])
    }))
}

/// A status as a word of an answer.
pub(crate) fn status_word(status: Status) -> u64 {
    u64::from(status.cast_unsigned())
}
