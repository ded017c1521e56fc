//! What must hold of a URB when a driver submits it.

use parscan_models::{Endpoint, Setup, Speed};

use super::config::{self, Selection};
use super::layout::{
    BUFFER, BUFFER_LENGTH, BUFFER_MDL, DEFAULT_PIPE_TRANSFER, DIRECTION_IN, LINK, PIPE_HANDLE,
    SELECT_HANDLE, SHORT_TRANSFER_OK, Shape, TAIL, TRANSFER_FLAGS, function, usbd,
};
use super::{Device, Pipe};
use crate::mem::{State, Va, peek, peek_bytes};
use crate::nt::PASSIVE;
use crate::rules::{self, Rule};
use crate::state::Kernel;

/// What a URB asks for.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Nothing on the bus: ends with this status.
    Answer(u32),
    /// Control transfers on the default pipe; only the last one may have data.
    Control { setups: Vec<Setup>, then: Then },
    /// Bulk or interrupt.
    Transfer { pipe: Pipe, flags: u32 },
    /// Ends all others on the pipe.
    Abort { pipe: Va },
    /// Forgets the halt on the host's side.
    Reset { pipe: Va },
    /// `GET_CURRENT_FRAME_NUMBER`
    Frame,
}

impl Work {
    /// What it is queued for on the bus: a pipe, the default one is 0.
    pub(super) const fn lane(&self) -> Option<Va> {
        match self {
            Self::Control { .. } => Some(0),
            Self::Transfer { pipe, .. } => Some(pipe.handle),
            _ => None,
        }
    }
}

/// What follows a control transfer that went well.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Nothing,
    Select(Selection),
    Reset(Va),
}

/// Where the data is.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub va: Va,
    pub len: usize,
    /// `TransferBufferMDL`; 0: `TransferBuffer` names it, the driver's own memory, which no code
    /// else changes.
    pub mdl: Va,
    pub is_in: bool,
    /// Of what is in it for an OUT transfer.
    pub hash: u64,
}

pub(super) type Broken = (Rule, String);

/// All that the stack must know of a URB that is in order.
pub(super) struct Plan {
    pub function: u16,
    pub length: usize,
    pub shape: Shape,
    pub work: Work,
    pub buffer: Option<Buffer>,
    pub endpoint: u8,
    /// Milliseconds, of `CONTROL_TRANSFER_EX`; 0 = none.
    pub timeout: u32,
}

/// Whether a range is nonpaged kernel memory that is allocated; why not.
pub(super) fn resident(k: &Kernel, va: Va, len: usize) -> Result<(), String> {
    if !k.mem.contains(va) {
        if k.sched.in_stack(va, len) {
            return Ok(());
        }
        return match k.driver_at(va) {
            Some(_) if k.mem.in_section(va) => Err(format!("{va:#x} is in a pageable section")),
            Some(_) => Ok(()),
            None => Err(format!("{va:#x} is not kernel memory")),
        };
    }
    let Some(block) = k.mem.find(va) else {
        return Err(format!("{va:#x} was never allocated"));
    };
    if block.state == State::Freed {
        return Err(format!("{va:#x} was freed by {}", k.site_name(block.freed)));
    }
    if block.paged {
        return Err(format!("{va:#x} is paged pool"));
    }
    if va < block.va || va + len > block.va + block.size {
        return Err(format!(
            "{len} bytes at {va:#x} in a block of {} bytes at {:#x}",
            block.size, block.va
        ));
    }
    Ok(())
}

/// FNV-1a, to see later whether bytes are still the same.
pub(super) fn hash(va: Va, len: usize) -> u64 {
    (0..len).fold(0xCBF2_9CE4_8422_2325, |h, i| {
        (h ^ u64::from(peek::<u8>(va + i))).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Checks a URB and says what it asks for. `gone`: the device is off the cable, so only the URB
/// itself is looked at.
pub(super) fn plan(k: &Kernel, d: &Device, urb: Va, irql: u8) -> Result<Plan, Broken> {
    resident(k, urb, 4).map_err(|why| (rules::URB_MEMORY, why))?;
    let length = usize::from(peek::<u16>(urb));
    let code: u16 = peek(urb + 2);
    let Some(shape) = Shape::of(code) else {
        return Err((rules::URB_FUNCTION, format!("function {code:#06x}")));
    };
    let what = super::layout::function_name(code);
    let (right, fixed) = shape.length();
    if length < right || fixed && length != right {
        let what = format!("{what}: Hdr.Length {length}, should be {right}");
        return Err((rules::URB_LENGTH, what));
    }
    resident(k, urb, length).map_err(|why| (rules::URB_MEMORY, why))?;
    if let Some((number, _)) = k.usb.flights.iter().find(|(_, f)| f.urb == urb) {
        return Err((rules::URB_BUSY, format!("{what}: still URB {number}")));
    }
    for &(from, to) in shape.reserved() {
        if let Some(at) = (from..to).find(|at| peek::<u8>(urb + at) != 0) {
            return Err((rules::URB_RESERVED, format!("{what}: offset {at:#x}")));
        }
    }
    if irql > PASSIVE && shape.synchronous(code) {
        return Err((rules::URB_IRQL, format!("{what} at IRQL {irql}")));
    }
    if !d.gone && !d.started {
        return Err((rules::URB_STATE, format!("{what}: device not started")));
    }
    if !d.gone && !d.in_d0 {
        return Err((rules::URB_STATE, format!("{what}: device not in D0")));
    }
    let mut plan = Plan {
        function: code,
        length,
        shape,
        work: Work::Answer(usbd::NOT_SUPPORTED),
        buffer: None,
        endpoint: 0,
        timeout: 0,
    };
    if shape.has_buffer() {
        plan.buffer = buffer(k, urb, what)?;
    }
    if d.gone {
        plan.work = Work::Answer(usbd::DEVICE_GONE);
        return Ok(plan);
    }
    work(k, d, urb, &mut plan)?;
    if let Work::Control { setups, .. } = &plan.work {
        let is_in = setups.last().is_some_and(|s| s.is_in());
        note_direction(&mut plan, is_in);
    }
    if let Work::Transfer { pipe, .. } = &plan.work {
        let is_in = pipe.endpoint.address & 0x80 != 0;
        note_direction(&mut plan, is_in);
    }
    Ok(plan)
}

fn note_direction(plan: &mut Plan, is_in: bool) {
    if let Some(buffer) = &mut plan.buffer {
        buffer.is_in = is_in;
        if !is_in && buffer.mdl == 0 {
            buffer.hash = hash(buffer.va, buffer.len);
        }
    }
}

const MDL_MAPPED_TO_SYSTEM_VA: u16 = 1;
const MDL_PAGES_LOCKED: u16 = 2;
const MDL_SOURCE_IS_NONPAGED_POOL: u16 = 4;
const MDL_PARTIAL: u16 = 0x10;

fn buffer(k: &Kernel, urb: Va, what: &str) -> Result<Option<Buffer>, Broken> {
    let len = peek::<u32>(urb + BUFFER_LENGTH) as usize;
    let va: Va = peek(urb + BUFFER);
    let mdl: Va = peek(urb + BUFFER_MDL);
    let broken = |rule, why: String| Err((rule, format!("{what}: {why}")));
    let found = |va, mdl| {
        Ok(Some(Buffer {
            va,
            len,
            mdl,
            is_in: false,
            hash: 0,
        }))
    };
    match (va, mdl) {
        (0, 0) if len == 0 => Ok(None),
        (0, 0) => broken(rules::URB_BUFFER, format!("{len} bytes and no buffer")),
        (_, 0) if len == 0 => found(va, 0),
        (_, 0) => match resident(k, va, len) {
            Ok(()) => found(va, 0),
            Err(why) => broken(rules::URB_BUFFER, why),
        },
        (0, _) => {
            if k.mem.contains(mdl)
                && let Err(why) = resident(k, mdl, 0x30)
            {
                return broken(rules::URB_MDL, why);
            }
            let flags: u16 = peek(mdl + 0x0A);
            if flags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) == 0 {
                return broken(rules::URB_MDL, "its pages are not locked".to_owned());
            }
            let count = peek::<u32>(mdl + 0x28) as usize;
            if count < len {
                let why = format!("ByteCount {count}, TransferBufferLength {len}");
                return broken(rules::URB_MDL, why);
            }
            let mapped = flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0;
            let va = if mapped {
                peek::<Va>(mdl + 0x18)
            } else {
                peek::<Va>(mdl + 0x20) + peek::<u32>(mdl + 0x2C) as usize
            };
            found(va, mdl)
        }
        _ => broken(
            rules::URB_BUFFER,
            "TransferBuffer and TransferBufferMDL both set".to_owned(),
        ),
    }
}

/// The largest control transfer of a host stack, bytes.
const fn control_limit(speed: Speed) -> usize {
    match speed {
        Speed::Full => 4096,
        Speed::High | Speed::Super => 0x1_0000,
    }
}

/// The largest bulk transfer, bytes: that of OHCI, of EHCI and of xHCI.
const fn bulk_limit(speed: Speed) -> usize {
    match speed {
        Speed::Full => 0x4_0000,
        Speed::High => 0x33_F000,
        Speed::Super => 0x40_0000,
    }
}

#[allow(clippy::too_many_lines, reason = "one arm a kind of request")]
fn work(k: &Kernel, d: &Device, urb: Va, plan: &mut Plan) -> Result<(), Broken> {
    let what = super::layout::function_name(plan.function);
    let (flags, len) = if plan.shape.has_buffer() {
        let len = peek::<u32>(urb + BUFFER_LENGTH) as usize;
        (peek::<u32>(urb + TRANSFER_FLAGS), len)
    } else {
        (0, 0)
    };
    let half = |at: usize| peek::<u16>(urb + at);
    let control = |setup| Work::Control {
        setups: vec![setup],
        then: Then::Nothing,
    };
    let length = u16::try_from(len).unwrap_or(u16::MAX);
    if plan.shape.has_buffer() && plan.shape != Shape::Transfer {
        if len > usize::from(u16::MAX) {
            let what = format!("{what}: wLength cannot be {len}");
            return Err((rules::URB_BUFFER, what));
        }
        if len > control_limit(d.speed) {
            plan.work = Work::Answer(usbd::INVALID_PARAMETER);
            return Ok(());
        }
    }
    plan.work = match plan.shape {
        Shape::SelectConfiguration => {
            selected(k, d, what, config::configuration(k, urb, plan.length)?)?
        }
        Shape::SelectInterface => {
            let handle: Va = peek(urb + SELECT_HANDLE);
            if d.configuration.map(|c| c.0) != Some(handle) {
                let what = format!("{what}: configuration handle {handle:#x}");
                return Err((rules::URB_PIPE, what));
            }
            selected(
                k,
                d,
                what,
                config::interface(urb, plan.length, &d.descriptor)?,
            )?
        }
        Shape::Pipe => pipe_request(k, d, urb, plan)?,
        Shape::FrameNumber => Work::Frame,
        Shape::Transfer => {
            let pipe = pipe_of(d, peek(urb + PIPE_HANDLE), what)?;
            plan.endpoint = pipe.endpoint.address;
            check_flags(pipe.endpoint, flags, what)?;
            if len > bulk_limit(d.speed) {
                Work::Answer(usbd::INVALID_PARAMETER)
            } else {
                Work::Transfer { pipe, flags }
            }
        }
        Shape::Control(extended) => {
            let handle: Va = peek(urb + PIPE_HANDLE);
            if handle != 0 || flags & DEFAULT_PIPE_TRANSFER == 0 {
                let what = format!("{what}: only the default pipe has control transfers");
                return Err((rules::URB_PIPE, what));
            }
            if extended {
                plan.timeout = peek(urb + LINK);
            }
            let bytes = peek_bytes(urb + TAIL, 8);
            let setup = Setup::from_bytes(bytes.try_into().unwrap_or([0; 8]));
            if setup.length != length || length > 0 && setup.is_in() != (flags & DIRECTION_IN != 0)
            {
                let what = format!("{what}: {setup:?} with {len} bytes, flags {flags:#x}");
                return Err((rules::URB_FLAGS, what));
            }
            control(setup)
        }
        Shape::Descriptor(request_type, request) => control(Setup {
            request_type,
            request,
            // Index is the low byte, DescriptorType the high one.
            value: half(TAIL + 2),
            index: half(TAIL + 4),
            length,
        }),
        Shape::Status(request_type) => control(Setup {
            request_type,
            request: 0,
            value: 0,
            index: half(TAIL + 4),
            length,
        }),
        Shape::Feature(request_type, request) => control(Setup {
            request_type,
            request,
            value: half(TAIL + 2),
            index: half(TAIL + 4),
            length: 0,
        }),
        Shape::Vendor(kind) => {
            if flags & !(DIRECTION_IN | SHORT_TRANSFER_OK) != 0
                || flags & (DIRECTION_IN | SHORT_TRANSFER_OK) == SHORT_TRANSFER_OK
            {
                let what = format!("{what}: TransferFlags {flags:#x}");
                return Err((rules::URB_FLAGS, what));
            }
            let direction = if flags & DIRECTION_IN == 0 { 0 } else { 0x80 };
            control(Setup {
                request_type: kind | direction,
                request: peek(urb + TAIL + 1),
                value: half(TAIL + 2),
                index: half(TAIL + 4),
                length,
            })
        }
        Shape::GetConfiguration => control(Setup {
            request_type: 0x80,
            request: 8,
            value: 0,
            index: 0,
            length,
        }),
        Shape::GetInterface => control(Setup {
            request_type: 0x81,
            request: 10,
            value: 0,
            index: half(TAIL + 4),
            length,
        }),
        Shape::Unsupported => Work::Answer(usbd::NOT_SUPPORTED),
    };
    Ok(())
}

/// What a `SELECT_` function does whose interfaces are in order, or the status it ends with.
fn selected(
    k: &Kernel,
    d: &Device,
    what: &str,
    selection: Result<Selection, u32>,
) -> Result<Work, Broken> {
    match selection {
        Ok(selection) => {
            no_pending(k, d, what)?;
            Ok(Work::Control {
                setups: selection.setups(),
                then: Then::Select(selection),
            })
        }
        Err(status) => Ok(Work::Answer(status)),
    }
}

fn no_pending(k: &Kernel, d: &Device, what: &str) -> Result<(), Broken> {
    let pdo = k.pnp.nodes[d.node.0].pdo;
    match k.usb.busy(pdo) {
        Some(n) => Err((
            rules::URB_PENDING,
            format!("{what} while URB {n} is pending"),
        )),
        None => Ok(()),
    }
}

fn pipe_of(d: &Device, handle: Va, what: &str) -> Result<Pipe, Broken> {
    if d.configuration.is_none() {
        let what = format!("{what}: no configuration selected");
        return Err((rules::URB_STATE, what));
    }
    let found = d.pipes.iter().find(|p| p.handle == handle);
    found.copied().ok_or_else(|| {
        (
            rules::URB_PIPE,
            format!("{what}: {handle:#x} is no open pipe"),
        )
    })
}

fn pipe_request(k: &Kernel, d: &Device, urb: Va, plan: &mut Plan) -> Result<Work, Broken> {
    let what = super::layout::function_name(plan.function);
    let pipe = pipe_of(d, peek(urb + PIPE_HANDLE), what)?;
    plan.endpoint = pipe.endpoint.address;
    let handle = pipe.handle;
    if plan.function == function::ABORT_PIPE {
        return Ok(Work::Abort { pipe: handle });
    }
    let pdo = k.pnp.nodes[d.node.0].pdo;
    if let Some(n) = k.usb.busy_on(pdo, handle) {
        let what = format!("{what} while URB {n} is pending on the pipe");
        return Err((rules::URB_PENDING, what));
    }
    if plan.function == function::SYNC_RESET_PIPE {
        return Ok(Work::Reset { pipe: handle });
    }
    // CLEAR_FEATURE, ENDPOINT_HALT, endpoint
    let clear = Setup {
        request_type: 0x02,
        request: 1,
        index: pipe.endpoint.address.into(),
        ..Setup::default()
    };
    let then = if plan.function == function::SYNC_CLEAR_STALL {
        Then::Nothing
    } else {
        Then::Reset(handle)
    };
    Ok(Work::Control {
        setups: vec![clear],
        then,
    })
}

fn check_flags(endpoint: Endpoint, flags: u32, what: &str) -> Result<(), Broken> {
    let is_in = endpoint.address & 0x80 != 0;
    let allowed = if is_in {
        DIRECTION_IN | SHORT_TRANSFER_OK
    } else {
        0
    };
    if flags & !allowed != 0 || (flags & DIRECTION_IN != 0) != is_in {
        let address = endpoint.address;
        let what = format!("{what}: TransferFlags {flags:#x} on endpoint {address:02x}");
        return Err((rules::URB_FLAGS, what));
    }
    Ok(())
}
