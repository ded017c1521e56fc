//! File objects: names that are opened, CREATE, CLEANUP, CLOSE.

use super::dispatch::{prepare, send, top_of};
use super::request::{FILE_READ_ACCESS, FILE_WRITE_ACCESS, file_of};
use super::{CLEANUP, CLOSE, CREATE, File};
use crate::mem::{Va, peek, poke, poke_bytes};
use crate::nt::types::{
    DO_DEVICE_INITIALIZING, Dev, FILE_DEVICE, FILE_FLAGS, FILE_NAME, FILE_SIZE,
};
use crate::nt::{PASSIVE, ke};
use crate::state::{Kernel, Object, Site, fail, with};
use crate::{Caller, NtStatus, rules, sched};

/// Splits a name into the device it leads to and the rest.
pub(super) fn resolve(k: &Kernel, name: &str) -> Option<(Va, String)> {
    let mut name = canonical(name);
    for _ in 0..8 {
        let folded = name.to_lowercase();
        let device = k
            .devices
            .values()
            .filter(|d| !d.deleted)
            .filter_map(|d| Some((d, d.name.as_ref()?.to_lowercase())))
            .filter(|(_, n)| {
                folded == *n
                    || folded.starts_with(n.as_str()) && folded[n.len()..].starts_with('\\')
            })
            .max_by_key(|(_, n)| n.len());
        if let Some((d, n)) = device {
            return Some((d.va, name[n.len()..].to_owned()));
        }
        let link = k
            .links
            .iter()
            .filter(|(l, _)| {
                folded == **l
                    || folded.starts_with(l.as_str()) && folded[l.len()..].starts_with('\\')
            })
            .max_by_key(|(l, _)| l.len())?;
        name = canonical(&format!("{}{}", link.1.target, &name[link.0.len()..]));
    }
    None
}

/// One spelling for the several names of the DOS device directory.
pub(crate) fn canonical(name: &str) -> String {
    for prefix in [r"\\.\", r"\\?\", r"\??\", r"\DosDevices\", r"\GLOBAL??\"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return format!(r"\GLOBAL??\{rest}");
        }
    }
    name.to_owned()
}

/// `NtCreateFile`. `kernel`: a kernel handle.
pub(crate) fn open(name: &str, caller: Caller, kernel: bool) -> Result<usize, NtStatus> {
    let (file, _) = open_file(name, caller)?;
    Ok(with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.handles += 1;
        }
        poke(
            file + FILE_FLAGS,
            peek::<u32>(file + FILE_FLAGS) | FO_HANDLE_CREATED,
        );
        k.new_handle(Object::File(file), kernel)
    }))
}

const FO_SYNCHRONOUS_IO: u32 = 2;
const FO_CLEANUP_COMPLETE: u32 = 0x4000;
const FO_HANDLE_CREATED: u32 = 0x4_0000;

/// Makes a file object with one reference and sends its CREATE. Gives it and its device.
fn open_file(name: &str, caller: Caller) -> Result<(Va, Va), NtStatus> {
    let Some((device, rest)) = with(|k| resolve(k, name)) else {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    };
    let refused = with(|k| {
        let d = k.devices.get(&device)?;
        if Dev(device).flags() & DO_DEVICE_INITIALIZING != 0 {
            return Some(NtStatus::NO_SUCH_DEVICE);
        }
        if d.exclusive && d.opens > 0 {
            return Some(NtStatus::ACCESS_DENIED);
        }
        crate::pnp::open_refused(k, device)
    });
    if let Some(status) = refused {
        return Err(status);
    }
    let file = with(|k| {
        let file = k.system_alloc(FILE_SIZE, "a file object");
        poke(file, 5_u16);
        poke(file + 2, u16::try_from(FILE_SIZE).unwrap_or(0));
        poke(file + FILE_DEVICE, device);
        poke(file + FILE_FLAGS, FO_SYNCHRONOUS_IO);
        if !rest.is_empty() {
            let units = crate::nt::types::wide(&rest);
            let text = k.system_alloc(units.len(), "a file name");
            poke_bytes(text, &units);
            crate::nt::types::set_unicode(file + FILE_NAME, text, units.len() - 2, units.len());
        }
        k.refs.insert(file, 1);
        if let Some(d) = k.devices.get_mut(&device) {
            d.opens += 1;
        }
        Dev(device).set_reference_count(Dev(device).reference_count() + 1);
        k.io.files.insert(
            file,
            File {
                device,
                caller,
                handles: 0,
                cleaned: false,
                at_dispatch: false,
                access: FILE_READ_ACCESS | FILE_WRITE_ACCESS,
                owner: None,
            },
        );
        file
    });
    let context = with(|k| {
        let context = k.system_alloc(0x20, "an IO_SECURITY_CONTEXT");
        // DesiredAccess: GENERIC_READ | GENERIC_WRITE as file rights
        poke(context + 16, 0x0012_019F_u32);
        context
    });
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        irp.set_requestor_mode(u8::from(caller != Caller::Kernel));
        sl.set_major(CREATE);
        sl.set_file(file);
        sl.set_arg1(context);
        // FILE_OPEN, FILE_NON_DIRECTORY_FILE
        sl.set_arg2(0x0100_0040);
        poke(sl.0 + 8 + 18, 3_u16);
    });
    let (status, _) = send(irp, top);
    with(|k| k.mem.free(context, Site::default()));
    if status.is_success() {
        return Ok((file, device));
    }
    forget_file(file, device);
    // It may be what a removal waits for.
    crate::pnp::after_close(device);
    Err(status)
}

fn forget_file(file: Va, device: Va) {
    with(|k| {
        k.io.files.remove(&file);
        if let Some(d) = k.devices.get_mut(&device) {
            d.opens = d.opens.saturating_sub(1);
        }
        if k.mem.live(device).is_some() {
            Dev(device).set_reference_count(Dev(device).reference_count() - 1);
        }
        let text: Va = peek(file + FILE_NAME + 8);
        k.mem.free(text, Site::default());
        k.mem.free(file, Site::default());
        k.refs.remove(&file);
    });
    crate::nt::io::release_if_gone(device);
}

/// `NtClose` on a file handle: after the last one CLEANUP, and CLOSE unless a driver still has a
/// pointer to the file object.
pub(crate) fn close(handle: usize) -> NtStatus {
    let (file, device, _) = match file_of(handle) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let last = with(|k| {
        k.handles.remove(&handle);
        k.io.files.get_mut(&file).is_some_and(|f| {
            f.handles -= 1;
            f.handles == 0
        })
    });
    if last {
        clean_up(file, device);
    }
    let left = with(|k| {
        let refs = k.refs.get_mut(&file)?;
        *refs -= 1;
        Some(*refs)
    });
    if left == Some(0) {
        close_file(file, device);
    }
    NtStatus::SUCCESS
}

/// CLEANUP, then the file's IRPs must end.
fn clean_up(file: Va, device: Va) {
    send_for_file(file, device, CLEANUP);
    with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.cleaned = true;
        }
    });
    poke(
        file + FILE_FLAGS,
        peek::<u32>(file + FILE_FLAGS) | FO_CLEANUP_COMPLETE,
    );
    let until = with(|k| k.now + k.config.cancel_timeout);
    let mine = move |k: &Kernel| {
        k.io.irps
            .values()
            .all(|r| r.file != file || r.done.is_some())
    };
    if !sched::wait("the file's IRPs after CLEANUP", Some(until), mine) {
        fail(
            rules::CLEANUP_LEFT,
            "requests of the file object are still pending",
        );
    }
}

fn send_for_file(file: Va, device: Va, major: u8) {
    let (irp, top) = prepare(device, |irp, sl| {
        irp.set_file(file);
        sl.set_major(major);
        sl.set_file(file);
    });
    send(irp, top);
}

/// The end of a file object that nobody refers to.
fn close_file(file: Va, device: Va) {
    if !with(|k| k.io.files.get(&file).is_some_and(|f| f.cleaned)) {
        clean_up(file, device);
    }
    send_for_file(file, device, CLOSE);
    forget_file(file, device);
    crate::pnp::after_close(device);
}

/// Closes a file object whose last reference a driver gave back; later, in a worker, if that was
/// above `PASSIVE_LEVEL`. Whether it was a file object.
pub(crate) fn last_reference(file: Va) -> bool {
    let found = with(|k| k.io.files.get(&file).map(|f| (f.device, f.handles)));
    let Some((device, handles)) = found else {
        return false;
    };
    if handles > 0 {
        fail(
            rules::REFERENCE,
            format!("file object {file:#x} dereferenced to 0 with {handles} handles open"),
        );
    }
    if ke::current_irql() == PASSIVE {
        close_file(file, device);
    } else {
        with(|k| {
            let body = Box::new(move || close_file(file, device));
            k.sched
                .spawn("deferred close", sched::ThreadKind::Caller, PASSIVE, body);
        });
    }
    true
}

/// Whether the address is a file object's.
pub(crate) fn is_file(k: &Kernel, object: Va) -> bool {
    k.io.files.contains_key(&object)
}

/// `IoGetDeviceObjectPointer`: a file object with one reference and no handle.
pub(crate) fn open_for_driver(name: &str) -> Result<(Va, Va), NtStatus> {
    let (owner, site) = with(|k| (k.caller(), k.site()));
    let (file, device) = open_file(name, Caller::Kernel)?;
    with(|k| {
        if let Some(f) = k.io.files.get_mut(&file) {
            f.owner = owner.map(|o| (o, site));
        }
    });
    if with(|k| k.config.early_cleanup) {
        clean_up(file, device);
    }
    Ok(with(|k| (file, top_of(k, device))))
}
