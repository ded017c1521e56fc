//! Control requests to the devices in the slots.

use core::{
    ffi::c_void,
    ptr,
    sync::atomic::{
        AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst,
    },
};

use crate::{
    driver::{Answer, Command},
    interrupt,
    kernel::{self, Control, Outcome, Pool, Target},
    nt::{self, DEVICE_OBJECT, INVALID_PARAMETER, IRP, MORE_PROCESSING_REQUIRED, Status},
    puppet::{Flag, UNTOUCHED},
    slot::Slot,
};

/// An asynchronous request.
struct Request {
    taken: AtomicBool,
    irp: AtomicPtr<IRP>,
    buffer: AtomicPtr<u8>,
    /// Length of the buffer, and of its part that is output.
    length: AtomicUsize,
    output: AtomicUsize,
    dispatched: AtomicI32,
    slot: AtomicU64,
    code: AtomicU32,
    flags: AtomicU64,
    /// Its completion and the return of `IofCallDriver`: 0 when both have been.
    outstanding: AtomicU32,
}

static REQUESTS: [Request; 64] = [const { Request::new() }; 64];

impl Request {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            irp: AtomicPtr::new(ptr::null_mut()),
            buffer: AtomicPtr::new(ptr::null_mut()),
            length: AtomicUsize::new(0),
            output: AtomicUsize::new(0),
            dispatched: AtomicI32::new(0),
            slot: AtomicU64::new(0),
            code: AtomicU32::new(0),
            flags: AtomicU64::new(0),
            outstanding: AtomicU32::new(0),
        }
    }

    fn numbered(number: u64) -> Result<&'static Self, Status> {
        usize::try_from(number)
            .ok()
            .and_then(|number| REQUESTS.get(number))
            .filter(|request| request.taken.load(SeqCst))
            .ok_or(INVALID_PARAMETER)
    }
}

/// [`puppet::SEND`](crate::puppet::SEND)
pub(crate) fn send(command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [number, code, flags, length, level, client, options, ..] = command.words;
    let slot = Slot::numbered(number)?;
    let target = slot.target()?;
    let length = usize::try_from(length).map_err(|_| INVALID_PARAMETER)?;
    let answer = output.get_mut(..length).ok_or(INVALID_PARAMETER)?;
    let control = Control {
        code: u32::try_from(code).map_err(|_| INVALID_PARAMETER)?,
        flags,
    };
    let routines;
    let input = if Flag::Isr.is_in(flags) {
        routines = interrupt::service_routine(client, number, options)?;
        &routines[..]
    } else {
        command.data
    };
    if Flag::Asynchronous.is_in(flags) {
        let level = kernel::is_level(level).ok_or(INVALID_PARAMETER)?;
        return start(control, number, target, input, length, level);
    }
    let outcome = control.send(target, input, answer);
    keep(slot, control, outcome, answer);
    Ok(results(outcome, 0))
}

/// Keeps a table that an internal request gave.
fn keep(slot: &Slot, control: Control, outcome: Outcome, answer: &[u8]) {
    if control.is_internal() && outcome.status == nt::SUCCESS {
        slot.keep(
            control.code,
            answer.get(..outcome.information).unwrap_or_default(),
        );
    }
}

fn results(outcome: Outcome, last: u64) -> Answer {
    Answer::of(&[
        u64::from(outcome.status.cast_unsigned()),
        outcome.information as u64,
        u64::from(outcome.dispatched.cast_unsigned()),
        last,
    ])
}

/// Sends a request of this driver's own at an IRQL.
fn start(
    control: Control,
    slot: u64,
    target: Target,
    input: &[u8],
    output: usize,
    level: u8,
) -> Result<Answer, Status> {
    let input_length = u32::try_from(input.len()).map_err(|_| nt::INVALID_PARAMETER)?;
    let output_length = u32::try_from(output).map_err(|_| nt::INVALID_PARAMETER)?;
    let (number, request) = REQUESTS
        .iter()
        .enumerate()
        .find(|(_, request)| !request.taken.swap(true, SeqCst))
        .ok_or(nt::INSUFFICIENT_RESOURCES)?;
    let made = Pool::try_filled(input.len().max(output), UNTOUCHED)
        .and_then(|buffer| kernel::own_irp(target.device).map(|irp| (buffer, irp)));
    let (mut buffer, irp) = made.inspect_err(|_| request.taken.store(false, SeqCst))?;
    for (place, byte) in buffer.iter_mut().zip(input) {
        *place = *byte;
    }
    let (address, length) = buffer.into_raw();
    request.irp.store(irp, SeqCst);
    request.buffer.store(address, SeqCst);
    request.length.store(length, SeqCst);
    request.output.store(output, SeqCst);
    request.slot.store(slot, SeqCst);
    request.code.store(control.code, SeqCst);
    request.flags.store(control.flags, SeqCst);
    request.outstanding.store(2, SeqCst);
    // SAFETY: the new IRP.
    if let Some(irp) = unsafe { irp.as_mut() } {
        irp.SystemBuffer = address;
    }
    // SAFETY: it is not sent yet.
    if let Some(next) = unsafe { control.fill(irp, target, input_length, output_length) } {
        next.CompletionRoutine = Some(completed);
        next.Context = ptr::from_ref(request).cast_mut().cast();
        next.Control = nt::INVOKE_ALWAYS;
    }
    // SAFETY: the IRP was made for this device, and belongs to it until its completion.
    let dispatched = kernel::at_irql(level, || unsafe { nt::IofCallDriver(target.device, irp) });
    request.dispatched.store(dispatched, SeqCst);
    request.outstanding.fetch_sub(1, SeqCst);
    let outcome = Outcome {
        status: nt::PENDING,
        information: 0,
        dispatched,
    };
    Ok(results(outcome, number as u64))
}

/// The request came back: [`result`] takes it apart.
unsafe extern "C" fn completed(
    _device: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    context: *mut c_void,
) -> Status {
    let request: *const Request = context.cast();
    // SAFETY: `start` gave a reference to one of the static requests as context.
    if let Some(request) = unsafe { request.as_ref() } {
        request.outstanding.fetch_sub(1, SeqCst);
    }
    MORE_PROCESSING_REQUIRED
}

/// [`puppet::RESULT`](crate::puppet::RESULT)
pub(crate) fn result(command: &Command<'_>, output: &mut [u8]) -> Result<Answer, Status> {
    let [number, ..] = command.words;
    let request = Request::numbered(number)?;
    let irp = request.irp.load(SeqCst);
    let mut outcome = Outcome {
        status: nt::PENDING,
        information: 0,
        dispatched: request.dispatched.load(SeqCst),
    };
    if request.outstanding.load(SeqCst) != 0 {
        return Ok(results(outcome, 0));
    }
    // SAFETY: it came back, and no other driver has it.
    if let Some(irp) = unsafe { irp.as_ref() } {
        (outcome.status, outcome.information) = (irp.IoStatus.Status, irp.IoStatus.Information);
    }
    // SAFETY: it was allocated, came back, and is forgotten below.
    unsafe { nt::IoFreeIrp(irp) };
    let (address, length) = (request.buffer.load(SeqCst), request.length.load(SeqCst));
    // SAFETY: the parts are from `into_raw`, and the request is forgotten below.
    if let Some(buffer) = unsafe { Pool::from_raw(address, length) } {
        let answer = buffer.get(..request.output.load(SeqCst));
        let answer = answer.unwrap_or_default();
        for (place, byte) in output.iter_mut().zip(answer) {
            *place = *byte;
        }
        let slot = Slot::numbered(request.slot.load(SeqCst))?;
        let control = Control {
            code: request.code.load(SeqCst),
            flags: request.flags.load(SeqCst),
        };
        keep(slot, control, outcome, answer);
    }
    request.taken.store(false, SeqCst);
    Ok(results(outcome, 1))
}

/// [`puppet::CANCEL`](crate::puppet::CANCEL)
pub(crate) fn cancel(command: &Command<'_>) -> Result<Answer, Status> {
    let [number, ..] = command.words;
    let request = Request::numbered(number)?;
    // SAFETY: the IRP exists until `result` frees it.
    let found = unsafe { nt::IoCancelIrp(request.irp.load(SeqCst)) };
    Ok(Answer::of(&[u64::from(found)]))
}
