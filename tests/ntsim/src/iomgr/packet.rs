//! IRPs as they are made, used again and freed: by the I/O manager, by drivers, with their system
//! buffers.

use super::request::Transfer;
use super::{DEVICE_CONTROL, INTERNAL_DEVICE_CONTROL, Maker, Record, SystemBuffer};
use crate::mem::{Kind, Va};
use crate::nt::mm;
use crate::nt::types::{Dev, IRP_SIZE, Irp, SL_SIZE};
use crate::state::{Kernel, Site, fail, with};
use crate::{Caller, NtStatus, rules};

/// Makes an IRP with room for `stack_size` devices.
pub(super) fn new_irp(maker: Maker, stack_size: i8) -> Irp {
    with(|k| {
        let owner = if maker == Maker::Manager {
            None
        } else {
            k.caller()
        };
        let site = k.site();
        let tid = k.sched.current;
        let issuer = (tid, k.sched.thread().stack());
        let locations = usize::try_from(stack_size).unwrap_or(0);
        let size = IRP_SIZE + locations * SL_SIZE;
        let va = k.mem.alloc(size, Kind::Irp, false, owner, site, || 0);
        k.io.serial += 1;
        let serial = k.io.serial;
        Irp(va).initialise(stack_size);
        k.io.irps.insert(
            va,
            Record {
                serial,
                maker,
                owner,
                frames: Vec::new(),
                buffer: None,
                output: 0,
                bounded: false,
                file: 0,
                is32: false,
                mdl: 0,
                done: None,
                data: Vec::new(),
                cancelled: None,
                issuer,
                running: 0,
                collected: false,
            },
        );
        Irp(va)
    })
}

pub(crate) fn allocate(stack_size: i8) -> Irp {
    new_irp(Maker::Allocated, stack_size)
}

/// `IoFreeIrp`.
pub(crate) fn free(irp: Va) {
    enum Answer {
        Good,
        Bad(String),
    }
    let answer = with(|k| {
        let Some(r) = k.io.irps.get(&irp) else {
            return Answer::Bad(format!("{irp:#x} is not an IRP [C9/01]"));
        };
        match r.maker {
            Maker::Allocated if r.done.is_some() => Answer::Bad("IRP freed twice".to_owned()),
            Maker::Allocated if r.is_below() => {
                Answer::Bad("IRP freed while a lower driver has it".to_owned())
            }
            Maker::Allocated => {
                if let Some(r) = k.io.irps.get_mut(&irp) {
                    r.done = Some((NtStatus::SUCCESS, 0));
                    r.collected = true;
                }
                let site = k.site();
                k.mem.free(irp, site);
                k.io.forget(irp);
                Answer::Good
            }
            Maker::Threaded => Answer::Bad("a threaded IRP belongs to the I/O manager".to_owned()),
            Maker::Manager => Answer::Bad("the IRP was not made by a driver".to_owned()),
        }
    });
    if let Answer::Bad(what) = answer {
        fail(rules::OWN_IRP, what);
    }
}

/// `IoReuseIrp`.
pub(crate) fn reuse(irp: Va, status: NtStatus) {
    let good = with(|k| {
        let r = k.io.irps.get_mut(&irp)?;
        let good = r.maker == Maker::Allocated && r.done.is_none() && !r.is_below();
        r.frames.clear();
        r.cancelled = None;
        good.then_some(())
    });
    if good.is_none() {
        fail(
            rules::OWN_IRP,
            "IoReuseIrp on an IRP in use or not from IoAllocateIrp [C9/310]",
        );
    }
    let irp = Irp(irp);
    irp.initialise(irp.stack_count());
    irp.set_status(status);
}

const IRP_BUFFERED_IO: u32 = 0x10;
const IRP_DEALLOCATE_BUFFER: u32 = 0x20;

pub(crate) fn system_buffer(k: &mut Kernel, irp: Irp, input: &[u8], length: usize) {
    if length == 0 {
        return;
    }
    let mut fill: Vec<u8> = Vec::new();
    let mut content = input.iter();
    let mut old = crate::leaks::old_content(&k.config, &mut k.rng, crate::BUFFER_CANARY);
    let va = k.mem.alloc(
        length,
        Kind::SystemBuffer,
        false,
        None,
        Site::default(),
        || {
            if let Some(byte) = content.next() {
                *byte
            } else {
                let byte = old();
                fill.push(byte);
                byte
            }
        },
    );
    irp.set_system_buffer(va);
    irp.set_flags(irp.flags() | IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER);
    if let Some(r) = k.io.irps.get_mut(&irp.0) {
        r.buffer = Some(SystemBuffer {
            va,
            input: input.len(),
            fill,
        });
    }
}

/// `IoBuildDeviceIoControlRequest`. Null, if the buffer cannot be locked.
#[allow(clippy::too_many_arguments, reason = "the function's own arguments")]
pub(crate) fn build_control(
    code: u32,
    device: Va,
    input: Va,
    input_len: usize,
    output: Va,
    output_len: usize,
    internal: bool,
    event: Va,
    iosb: Va,
) -> Irp {
    let mut mdl = 0;
    if let Transfer::Direct { write } = Transfer::of_code(code)
        && output_len > 0
    {
        let locked = with(|k| mm::lock_for_request(k, Caller::Kernel, output, output_len, write));
        let Ok(locked) = locked else {
            return Irp(0);
        };
        mdl = locked;
    }
    let irp = new_irp(Maker::Threaded, Dev(device).stack_size());
    irp.set_user_event(event);
    irp.set_user_iosb(iosb);
    irp.set_user_buffer(output);
    irp.set_thread(crate::nt::ob::current_thread_object());
    let sl = irp.sl_at(irp.stack_count());
    sl.set_major(if internal {
        INTERNAL_DEVICE_CONTROL
    } else {
        DEVICE_CONTROL
    });
    sl.set_arg1(output_len);
    sl.set_arg2(input_len);
    sl.set_arg3(code as usize);
    // Read before the machine's state is borrowed: a bad address is the caller's fault.
    let bytes = match code & 3 {
        3 => Vec::new(),
        _ => crate::mem::peek_bytes(input, input_len),
    };
    with(|k| match code & 3 {
        0 => {
            system_buffer(k, irp, &bytes, input_len.max(output_len));
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.bounded = true;
                r.output = output_len;
            }
        }
        3 => sl.set_arg4(input),
        _ => {
            system_buffer(k, irp, &bytes, input_len);
            irp.set_mdl(mdl);
            if let Some(r) = k.io.irps.get_mut(&irp.0) {
                r.mdl = mdl;
            }
        }
    });
    irp
}
