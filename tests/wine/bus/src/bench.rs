//! The control device. The commands are told on the crate's first page.

use alloc::{format, string::ToString, vec::Vec};

use parscan_models::{Condition, Misbehaviour};

use crate::{
    bus, hooks,
    nt::{
        self, BUFFER_TOO_SMALL, DEVICE_POWER, INVALID_DEVICE_REQUEST, INVALID_PARAMETER, Irp,
        SET_POWER, SUCCESS, SYSTEM_POWER, Status, Which, major, pnp,
    },
    port,
    usb::{self, hex},
};

pub(crate) const NAME: &str = r"\Device\ParscanBench";
pub(crate) const LINK: &str = r"\DosDevices\ParscanBench";

/// `CTL_CODE(0x8000, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)`
const COMMAND: u32 = 0x8000_2000;

/// A request to the control device.
pub(crate) fn dispatch(irp: Irp) -> Status {
    match irp.major() {
        major::CREATE | major::CLOSE | major::CLEANUP => irp.complete(SUCCESS, 0),
        major::DEVICE_CONTROL if irp.parameter_u32(2) == COMMAND => {
            let room = irp.parameter_u32(0) as usize;
            let input = irp.parameter_u32(1) as usize;
            if input == 0 {
                return irp.complete(INVALID_PARAMETER, 0);
            }
            let buffer = irp.system_buffer();
            // SAFETY: a buffered request's input.
            let line = unsafe { core::slice::from_raw_parts(buffer, input) }.to_vec();
            let reply = core::str::from_utf8(&line)
                .map_err(|_| INVALID_PARAMETER)
                .and_then(|line| command(line.trim_end_matches('\0'), room));
            match reply {
                Ok(reply) if reply.len() > room => irp.complete(BUFFER_TOO_SMALL, 0),
                Ok(reply) => {
                    // SAFETY: the buffer has the length of the output, too.
                    unsafe {
                        core::ptr::copy_nonoverlapping(reply.as_ptr(), buffer, reply.len());
                    };
                    irp.complete(SUCCESS, reply.len())
                }
                Err(status) => irp.complete(status, 0),
            }
        }
        _ => irp.complete(INVALID_DEVICE_REQUEST, 0),
    }
}

type Reply = Result<Vec<u8>, Status>;

/// Carries a line out. Replies that are taken away are no longer than `room`.
fn command(line: &str, room: usize) -> Reply {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match *words.as_slice() {
        ["version"] => Ok(env!("CARGO_PKG_VERSION").into()),
        ["plug", which] => {
            let which = device(which)?;
            if let Some(port) = which.port() {
                port::set_plugged(port, true);
            }
            done(bus::plug(which))
        }
        ["unplug", which] => {
            let which = device(which)?;
            match which.port() {
                Some(port) => port::set_plugged(port, false),
                None => usb::disconnect(),
            }
            done(bus::unplug(which))
        }
        ["state", which] => Ok(bus::state(device(which)?).to_string().into()),
        ["stop", which] => stop(device(which)?),
        ["start", which] => {
            let top = bus::device(device(which)?).ok_or(INVALID_PARAMETER)?.top();
            Ok(status(
                top.request(|irp| irp.set_function(major::PNP, pnp::START_DEVICE))
                    .0,
            ))
        }
        ["power", which, state] => power(device(which)?, state),
        ["printer", ref words @ ..] => printer(words),
        ["printed"] => port::take_received(room).ok_or(BUFFER_TOO_SMALL),
        ["give", bytes] => {
            port::give(&hexadecimal(bytes)?);
            done(true)
        }
        ["forget", which] => {
            port::forget(device(which)?.port().ok_or(INVALID_PARAMETER)?);
            done(true)
        }
        ["registers", which] => {
            let port = device(which)?.port().ok_or(INVALID_PARAMETER)?;
            let accesses = port::take_accesses(port, room);
            accesses.map(Into::into).ok_or(BUFFER_TOO_SMALL)
        }
        ["data", which] => {
            let port = device(which)?.port().ok_or(INVALID_PARAMETER)?;
            port::take_data(port, room).ok_or(BUFFER_TOO_SMALL)
        }
        ["accesses"] => Ok(port::accesses().to_string().into()),
        ["scanner", ref words @ ..] => scanner(words),
        ["urbs"] => usb::take_log(room).map(Into::into).ok_or(BUFFER_TOO_SMALL),
        ["leaks"] => Ok(hooks::summary().into()),
        ["unload", service] => Ok(status(nt::unload_driver(&format!(
            r"\Registry\Machine\System\CurrentControlSet\Services\{service}"
        )))),
        _ => Err(INVALID_PARAMETER),
    }
}

fn done(possible: bool) -> Reply {
    if possible {
        Ok(Vec::new())
    } else {
        Err(INVALID_PARAMETER)
    }
}

fn status(status: Status) -> Vec<u8> {
    format!("{status:08X}").into()
}

fn device(word: &str) -> Result<Which, Status> {
    match word {
        "port" => Ok(Which::Port),
        "port2" => Ok(Which::Port2),
        "scanner" => Ok(Which::Scanner),
        _ => Err(INVALID_PARAMETER),
    }
}

/// A number, decimal or with `0x`.
fn number<T: TryFrom<u64>>(word: &str) -> Result<T, Status> {
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    let value = value.map_err(|_| INVALID_PARAMETER)?;
    T::try_from(value).map_err(|_| INVALID_PARAMETER)
}

/// Bytes as pairs of digits.
fn hexadecimal(word: &str) -> Result<Vec<u8>, Status> {
    if !word.is_ascii() || !word.len().is_multiple_of(2) {
        return Err(INVALID_PARAMETER);
    }
    (0..word.len() / 2)
        .map(|at| word.get(2 * at..2 * at + 2).unwrap_or_default())
        .map(|pair| u8::from_str_radix(pair, 16).map_err(|_| INVALID_PARAMETER))
        .collect()
}

fn printer(words: &[&str]) -> Reply {
    let condition = match *words {
        ["ready"] => Condition::Ready,
        ["busy"] => Condition::Busy,
        ["paper-out"] => Condition::PaperEmpty,
        ["off-line"] => Condition::OffLine,
        ["cover-open"] => Condition::Fault,
        ["power-off"] => Condition::PoweredOff,
        ["unconnected"] => Condition::Unplugged,
        ["dead"] => {
            port::misbehave(Misbehaviour::Dead);
            return done(true);
        }
        ["behave"] => {
            port::behave();
            return done(true);
        }
        ["stall", bytes] => {
            port::stall(number(bytes)?);
            return done(true);
        }
        _ => return Err(INVALID_PARAMETER),
    };
    port::set_condition(condition);
    done(true)
}

fn scanner(words: &[&str]) -> Reply {
    let with = |f: &dyn Fn(&parscan_models::Scanner) -> Vec<u8>| {
        usb::with_scanner(f).ok_or(INVALID_PARAMETER)
    };
    match *words {
        ["press", report] => {
            let report = hexadecimal(report)?;
            with(&|it| {
                it.press(&report);
                Vec::new()
            })
        }
        ["regs", from, count] => {
            let (from, count) = (number(from)?, number(count)?);
            with(&|it| hex(&it.registers(from, count)).into())
        }
        ["set", from, bytes] => {
            let (from, bytes) = (number(from)?, hexadecimal(bytes)?);
            with(&|it| {
                it.set_registers(from, &bytes);
                Vec::new()
            })
        }
        ["answer", request, bytes] => {
            let (request, bytes) = (number(request)?, hexadecimal(bytes)?);
            with(&|it| {
                it.answer_vendor(request, &bytes);
                Vec::new()
            })
        }
        ["received"] => with(&|it| hex(&it.vendor_data()).into()),
        ["written", endpoint] => {
            let endpoint = number(endpoint)?;
            with(&|it| it.written(endpoint))
        }
        ["send", endpoint, bytes] => {
            let (endpoint, bytes) = (number(endpoint)?, hexadecimal(bytes)?);
            with(&|it| {
                it.send(endpoint, &bytes, false);
                Vec::new()
            })
        }
        ["stall", endpoint, count] => {
            let (endpoint, count) = (number(endpoint)?, number(count)?);
            with(&|it| {
                it.stall_at(endpoint, count);
                Vec::new()
            })
        }
        ["silent", endpoint, word @ ("on" | "off")] => {
            let endpoint = number(endpoint)?;
            with(&|it| {
                it.set_silent(endpoint, word == "on");
                Vec::new()
            })
        }
        _ => Err(INVALID_PARAMETER),
    }
}

/// What the PnP manager does to move a device's resources, up to the START that `start` sends.
fn stop(which: Which) -> Reply {
    let top = bus::device(which).ok_or(INVALID_PARAMETER)?.top();
    let (query, _) = top.request(|irp| irp.set_function(major::PNP, pnp::QUERY_STOP_DEVICE));
    if query < 0 {
        top.request(|irp| irp.set_function(major::PNP, pnp::CANCEL_STOP_DEVICE));
        return Ok(status(query));
    }
    Ok(status(
        top.request(|irp| irp.set_function(major::PNP, pnp::STOP_DEVICE))
            .0,
    ))
}

/// `IRP_MN_SET_POWER` of the device or the system.
fn power(which: Which, state: &str) -> Reply {
    /// `PowerActionSleep`
    const SLEEP: usize = 2;
    let (kind, state) = match state {
        "D0" => (DEVICE_POWER, 1),
        "D3" => (DEVICE_POWER, 4),
        // PowerSystemWorking, PowerSystemSleeping3
        "S0" => (SYSTEM_POWER, 1),
        "S3" => (SYSTEM_POWER, 4),
        _ => return Err(INVALID_PARAMETER),
    };
    let top = bus::device(which).ok_or(INVALID_PARAMETER)?.top();
    let (result, _) = top.request(|irp| {
        irp.set_function(major::POWER, SET_POWER);
        irp.set_parameter(1, kind);
        irp.set_parameter(2, state);
        irp.set_parameter(3, SLEEP);
    });
    Ok(status(result))
}
