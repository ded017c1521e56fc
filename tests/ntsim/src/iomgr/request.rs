//! The user's side of a request: buffers by the transfer method, and what comes back to the caller.

use super::dispatch::{call_driver, collect, prepare, top_of, wait_done};
use super::file::resolve;
use super::packet::system_buffer;
use super::{CANARY, DEVICE_CONTROL, INTERNAL_DEVICE_CONTROL, QUERY_INFORMATION, READ, WRITE};
use crate::mem::{Va, poke, poke_bytes};
use crate::nt::types::{DO_BUFFERED_IO, DO_DIRECT_IO, Dev};
use crate::nt::{DISPATCH, ke, mm};
use crate::state::{Kernel, Object, Site, with};
use crate::user::Lent;
use crate::{Caller, NtStatus};

/// The user's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Control {
        code: u32,
        internal: bool,
    },
    /// An internal control request sent at `DISPATCH_LEVEL`.
    AtDispatch {
        code: u32,
    },
    Read {
        offset: i64,
    },
    Write {
        offset: i64,
    },
    /// `IRP_MJ_QUERY_INFORMATION`, always buffered.
    QueryInformation {
        class: i32,
    },
    /// Any request of user mode, see [`Machine::send_from_user`](crate::Machine::send_from_user).
    User {
        major: u8,
        minor: u8,
        code: u32,
    },
}

pub(super) fn file_of(handle: usize) -> Result<(Va, Va, Caller), NtStatus> {
    with(|k| match k.handles.get(&handle).map(|h| h.object.clone()) {
        Some(Object::File(va)) => {
            let f = k.io.files.get(&va).ok_or(NtStatus::INVALID_HANDLE)?;
            Ok((va, f.device, f.caller))
        }
        Some(_) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        None => Err(NtStatus::INVALID_HANDLE),
    })
}

/// Requests through a kernel component's handle come at `DISPATCH_LEVEL` from now on, or no longer.
/// Gives whether it is one.
pub(crate) fn use_at_dispatch(handle: usize, at_dispatch: bool) -> bool {
    let Ok((file, _, Caller::Kernel)) = file_of(handle) else {
        return false;
    };
    with(|k| {
        let file = k.io.files.get_mut(&file);
        file.map(|f| f.at_dispatch = at_dispatch).is_some()
    })
}

/// A finished request.
pub(crate) struct Finished {
    pub status: NtStatus,
    pub information: usize,
    pub output: Vec<u8>,
}

impl Finished {
    /// A request that the I/O manager itself refuses.
    const fn refused(status: NtStatus, output: Vec<u8>) -> Self {
        Self {
            status,
            information: 0,
            output,
        }
    }
}

/// How a request's bytes travel between caller and driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// The I/O manager copies.
    Buffered,
    /// It locks the caller's output buffer, or that of a transfer, and passes an MDL; `write`:
    /// the driver may write there.
    Direct { write: bool },
    /// The driver gets the caller's addresses.
    Neither,
}

impl Transfer {
    fn of(what: Request, flags: u32) -> Self {
        match what {
            Request::Control { code, .. } | Request::AtDispatch { code } => Self::of_code(code),
            Request::QueryInformation { .. } => Self::Buffered,
            Request::User { major, code, .. } => crate::majors::transfer(major, code, flags),
            Request::Read { .. } => Self::of_device(flags, true),
            Request::Write { .. } => Self::of_device(flags, false),
        }
    }

    /// By the method in a control code.
    pub(crate) const fn of_code(code: u32) -> Self {
        match code & 3 {
            0 => Self::Buffered,
            // METHOD_IN_DIRECT: the "output" buffer is data for the device.
            1 => Self::Direct { write: false },
            2 => Self::Direct { write: true },
            _ => Self::Neither,
        }
    }

    /// By the flags of the top device object.
    pub(crate) const fn of_device(flags: u32, write: bool) -> Self {
        if flags & DO_BUFFERED_IO != 0 {
            Self::Buffered
        } else if flags & DO_DIRECT_IO != 0 {
            Self::Direct { write }
        } else {
            Self::Neither
        }
    }
}

/// A caller's two buffers: address and length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub input: (Va, usize),
    pub output: (Va, usize),
}

/// One request on an open handle, up to its end. `started` gets the IRP as soon as it exists.
///
/// The caller's buffers are its own, made for this request where the driver gets to see them.
pub(crate) fn request(
    handle: usize,
    what: Request,
    input: &[u8],
    output: usize,
    started: impl FnOnce(Va),
) -> Finished {
    let mut out = vec![CANARY; output];
    let (file, device, mut caller) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return Finished::refused(status, out),
    };
    if matches!(what, Request::User { .. }) && caller == Caller::Kernel {
        caller = Caller::User64;
    }
    if caller != Caller::Kernel && lacks_access(file, what) {
        return Finished::refused(NtStatus::ACCESS_DENIED, out);
    }
    let flags = with(|k| Dev(top_of(k, device)).flags());
    let opened = (file, device, caller);
    if Transfer::of(what, flags) == Transfer::Buffered {
        let buffers = Buffers {
            input: (0, input.len()),
            output: (0, output),
        };
        let (status, information, data) = run(opened, what, input, buffers, started);
        let n = data.len().min(out.len());
        out[..n].copy_from_slice(&data[..n]);
        return Finished {
            status,
            information,
            output: out,
        };
    }
    let lent = with(|k| Lent::new(k, caller, input, &out));
    let buffers = Buffers {
        input: lent.input,
        output: lent.output,
    };
    let (status, information, _) = run(opened, what, input, buffers, started);
    Finished {
        status,
        information,
        output: with(|k| lent.take(k)),
    }
}

/// The same with buffers at addresses that the caller names, good or bad. The output is what is
/// in the output buffer afterwards; nothing, if it is not there.
pub(crate) fn request_at(
    handle: usize,
    what: Request,
    buffers: Buffers,
    started: impl FnOnce(Va),
) -> Finished {
    let opened = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return Finished::refused(status, Vec::new()),
    };
    let (file, device, caller) = opened;
    let user = caller != Caller::Kernel;
    if user && lacks_access(file, what) {
        return Finished::refused(NtStatus::ACCESS_DENIED, Vec::new());
    }
    let read = move |(va, len): (Va, usize)| {
        if !user {
            return Ok(crate::mem::peek_bytes(va, len));
        }
        with(|k| k.user.capture(va, len))
    };
    let transfer = Transfer::of(what, with(|k| Dev(top_of(k, device)).flags()));
    // What the I/O manager captures: all of METHOD_NEITHER and of a direct transfer is left alone.
    let control = matches!(what, Request::Control { .. } | Request::AtDispatch { .. });
    let captured =
        transfer == Transfer::Buffered || control && matches!(transfer, Transfer::Direct { .. });
    let input = match captured.then(|| read(buffers.input)).transpose() {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(status) => return Finished::refused(status, Vec::new()),
    };
    let (mut status, mut information, data) = run(opened, what, &input, buffers, started);
    if !data.is_empty() {
        let data = &data[..data.len().min(buffers.output.1)];
        if !user {
            poke_bytes(buffers.output.0, data);
        } else if let Err(fault) = with(|k| k.user.store(buffers.output.0, data)) {
            (status, information) = (fault, 0);
        }
    }
    Finished {
        status,
        information,
        output: read(buffers.output).unwrap_or_default(),
    }
}

/// Sends a request and waits for its end; gives what the I/O manager would copy to the caller.
pub(super) fn run(
    (file, device, caller): (Va, Va, Caller),
    what: Request,
    input: &[u8],
    buffers: Buffers,
    started: impl FnOnce(Va),
) -> (NtStatus, usize, Vec<u8>) {
    let internal_at_dispatch = matches!(what, Request::AtDispatch { .. });
    let at_dispatch =
        internal_at_dispatch || with(|k| k.io.files.get(&file).is_some_and(|f| f.at_dispatch));
    let flags = with(|k| Dev(top_of(k, device)).flags());
    let transfer = Transfer::of(what, flags);
    let writing = match what {
        Request::Write { .. } => true,
        Request::User { major, .. } => crate::majors::writes(major),
        _ => false,
    };
    let target = if writing {
        buffers.input
    } else {
        buffers.output
    };
    let mut mdl = 0;
    let mut extra = 0;
    if let Transfer::Direct { write } = transfer
        && target.1 > 0
    {
        let (va, len) = target;
        match with(|k| mm::lock_for_request(k, caller, va, len, write)) {
            Ok(locked) => mdl = locked,
            Err(status) => return (status, 0, Vec::new()),
        }
    }
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        irp.set_requestor_mode(u8::from(caller != Caller::Kernel));
        irp.set_mdl(mdl);
        sl.set_file(file);
        let buffered = transfer == Transfer::Buffered;
        let mut bounded = buffered;
        with(|k| {
            let output_len = buffers.output.1;
            match what {
                Request::Control { code, .. } | Request::AtDispatch { code } => {
                    let internal = internal_at_dispatch
                        || matches!(what, Request::Control { internal: true, .. });
                    sl.set_major(if internal {
                        INTERNAL_DEVICE_CONTROL
                    } else {
                        DEVICE_CONTROL
                    });
                    crate::majors::control(k, irp, sl, code, transfer, input, buffers);
                }
                Request::User { major, minor, code } => {
                    let function = (major, minor, code);
                    (bounded, extra) =
                        crate::majors::fill(k, irp, sl, function, transfer, input, buffers);
                }
                Request::Read { offset } | Request::Write { offset } => {
                    sl.set_major(if writing { WRITE } else { READ });
                    sl.set_arg1(target.1);
                    poke(sl.0 + 8 + 16, offset);
                    irp.set_user_buffer(target.0);
                    if buffered {
                        bounded = !writing;
                        system_buffer(k, irp, input, target.1);
                    }
                }
                Request::QueryInformation { class } => {
                    sl.set_major(QUERY_INFORMATION);
                    sl.set_arg1(output_len);
                    poke(sl.0 + 8 + 8, class);
                    irp.set_user_buffer(buffers.output.0);
                    system_buffer(k, irp, &[], output_len);
                }
            }
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.bounded = bounded;
                r.output = output_len;
                r.file = file;
                r.is32 = caller == Caller::User32;
                r.mdl = mdl;
            }
        });
    });
    started(irp.0);
    if at_dispatch {
        ke::set_irql(DISPATCH);
    }
    let thread = with(|k| {
        let thread = k.sched.current;
        k.user.enter(thread, caller);
        thread
    });
    call_driver(top, irp.0);
    if at_dispatch {
        ke::set_irql(crate::nt::PASSIVE);
    }
    wait_done(irp.0);
    with(|k| k.user.leave(thread));
    let result = collect(irp.0);
    with(|k| k.mem.free(extra, Site::default()));
    result
}

/// Makes the reads and writes of a device's stack direct, as a driver on top of it that does direct
/// I/O would. Whether there is such a device.
pub(crate) fn do_direct_io(k: &Kernel, name: &str) -> bool {
    let Some((device, _)) = resolve(k, name) else {
        return false;
    };
    let top = Dev(top_of(k, device));
    top.set_flags(top.flags() & !DO_BUFFERED_IO | DO_DIRECT_IO);
    true
}

/// `FILE_READ_ACCESS` and `FILE_WRITE_ACCESS` of `CTL_CODE`.
pub(super) const FILE_READ_ACCESS: u32 = 1;
pub(super) const FILE_WRITE_ACCESS: u32 = 2;

/// Whether a control code asks for access that the handle does not have (`RequiredAccess` of
/// `CTL_CODE`).
fn lacks_access(file: Va, what: Request) -> bool {
    let Request::Control {
        code,
        internal: false,
    } = what
    else {
        return false;
    };
    let has = with(|k| k.io.files.get(&file).map_or(0, |f| f.access));
    (code >> 14) & 3 & !has != 0
}

/// Takes the right to write, or to read, from a handle, as if it had been opened without.
pub(crate) fn restrict(handle: usize, read: bool, write: bool) {
    if let Ok((file, ..)) = file_of(handle) {
        with(|k| {
            if let Some(file) = k.io.files.get_mut(&file) {
                file.access =
                    u32::from(read) * FILE_READ_ACCESS + u32::from(write) * FILE_WRITE_ACCESS;
            }
        });
    }
}
