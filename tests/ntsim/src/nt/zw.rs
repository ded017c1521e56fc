//! `Zw`: handles, registry keys, security.

use super::answer;
use super::types::unicode;
use crate::NtStatus;
use crate::mem::{Va, peek, poke, poke_bytes};
use crate::rules;
use crate::state::{Object, fail, with};

const OBJ_KERNEL_HANDLE: u32 = 0x200;

/// No `Zw` function inside a fast mutex: special kernel APCs are off there.
fn check_apcs(name: &str) {
    if with(|k| k.sched.thread().guarded > 0) {
        fail(rules::IRQL_CALL_ZW, format!("{name} inside a fast mutex"));
    }
}

/// `ZwCreateFile` on a device; all but name, handle and status block is for file systems.
#[allow(clippy::too_many_arguments, reason = "the function's own arguments")]
pub(super) extern "efiapi" fn zw_create_file(
    handle: Va,
    _access: u32,
    attributes: Va,
    iosb: Va,
    _size: Va,
    _file_attributes: u32,
    _share: u32,
    _disposition: u32,
    _options: u32,
    _ea: Va,
    _ea_length: u32,
) -> i32 {
    open_file("ZwCreateFile", handle, attributes, iosb)
}

pub(super) extern "efiapi" fn zw_open_file(
    handle: Va,
    _access: u32,
    attributes: Va,
    iosb: Va,
    _share: u32,
    _options: u32,
) -> i32 {
    open_file("ZwOpenFile", handle, attributes, iosb)
}

fn open_file(what: &str, handle: Va, attributes: Va, iosb: Va) -> i32 {
    check_apcs(what);
    if peek::<usize>(attributes + 8) != 0 {
        fail(
            rules::UNSUPPORTED,
            format!("{what} relative to a directory"),
        );
    }
    let name = unicode(peek(attributes + 0x10));
    let kernel = peek::<u32>(attributes + 0x18) & OBJ_KERNEL_HANDLE != 0;
    check_handle_kind(kernel, &name);
    if with(crate::state::Kernel::take_injection) {
        return NtStatus::INSUFFICIENT_RESOURCES.raw();
    }
    let status = match crate::iomgr::open(&name, crate::Caller::Kernel, true) {
        Ok(value) => {
            poke(handle, value);
            NtStatus::SUCCESS
        }
        Err(status) => status,
    };
    poke(iosb, u64::from(status.0));
    // FILE_OPENED
    poke(iosb + 8, usize::from(status.is_success()));
    status.raw()
}

pub(super) extern "efiapi" fn zw_close(handle: usize) -> i32 {
    check_apcs("ZwClose");
    let file = with(|k| matches!(k.handles.get(&handle)?.object, Object::File(_)).then_some(()));
    if file.is_some() {
        return crate::iomgr::close(handle).raw();
    }
    if close(handle) {
        return 0;
    }
    fail(rules::HANDLE_BAD, format!("ZwClose({handle:#x})"))
}

pub(super) extern "efiapi" fn zw_wait_for_single_object(
    handle: usize,
    _alertable: u8,
    timeout: Va,
) -> i32 {
    check_apcs("ZwWaitForSingleObject");
    let record = with(|k| k.handles.get(&handle).map(|h| h.object.clone()));
    let object = match record {
        // A thread that has ended is signalled, whether or not its object is still there.
        Some(Object::Thread(tid)) => with(|k| k.sched.threads.get(&tid).map(|t| t.object)),
        Some(_) => return NtStatus::OBJECT_TYPE_MISMATCH.raw(),
        None => fail(
            rules::HANDLE_BAD,
            format!("ZwWaitForSingleObject({handle:#x})"),
        ),
    };
    match object {
        Some(va) if va != 0 => super::ke::wait_for(&[va], true, timeout).raw(),
        _ => 0,
    }
}

pub(crate) fn close(handle: usize) -> bool {
    with(|k| k.handles.remove(&handle)).is_some()
}

/// In the system process every handle is a kernel one; in an arbitrary thread it is not.
fn check_handle_kind(kernel: bool, name: &str) {
    let user = with(|k| {
        let t = k.sched.thread();
        t.kind == crate::sched::ThreadKind::Caller
            && !t.frames.is_empty()
            && crate::iomgr::in_user_request(k)
    });
    if user && !kernel {
        fail(
            rules::HANDLE_KIND,
            format!("{name} opened without OBJ_KERNEL_HANDLE in a user's thread"),
        );
    }
}

/// `OBJECT_ATTRIBUTES`: Length 0, `RootDirectory` 8, `ObjectName` 0x10, Attributes 0x18.
fn key_path(attributes: Va) -> Result<String, NtStatus> {
    let root: usize = peek(attributes + 8);
    let name = unicode(peek(attributes + 0x10));
    check_handle_kind(
        peek::<u32>(attributes + 0x18) & OBJ_KERNEL_HANDLE != 0,
        &name,
    );
    if root == 0 {
        return Ok(name);
    }
    let root = with(|k| match k.handles.get(&root).map(|h| h.object.clone()) {
        Some(Object::Key(path)) => Some(path),
        _ => None,
    });
    match root {
        Some(path) if name.is_empty() => Ok(path),
        Some(path) => Ok(format!("{path}\\{name}")),
        None => Err(NtStatus::INVALID_HANDLE),
    }
}

pub(super) extern "efiapi" fn zw_open_key(handle: Va, _access: u32, attributes: Va) -> i32 {
    check_apcs("ZwOpenKey");
    let opened = key_path(attributes).and_then(|path| with(|k| k.open_existing_key(path)));
    answer(opened.map(|value| poke(handle, value)))
}

pub(super) extern "efiapi" fn zw_create_key(
    handle: Va,
    _access: u32,
    attributes: Va,
    _index: u32,
    _class: Va,
    _options: u32,
    disposition: Va,
) -> i32 {
    check_apcs("ZwCreateKey");
    let created = key_path(attributes).and_then(|path| {
        with(|k| {
            k.may_go_on()?;
            let new = k.registry.create(&path);
            Ok((k.open_key(path), new))
        })
    });
    answer(created.map(|(value, new)| {
        poke(handle, value);
        if disposition != 0 {
            // REG_CREATED_NEW_KEY, REG_OPENED_EXISTING_KEY
            poke(disposition, if new { 1_u32 } else { 2 });
        }
    }))
}

fn key(handle: usize) -> Result<String, NtStatus> {
    let object = with(|k| k.handles.get(&handle).map(|h| h.object.clone()));
    match object {
        Some(Object::Key(path)) => Ok(path),
        Some(_) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        None => fail(rules::HANDLE_BAD, format!("key handle {handle:#x}")),
    }
}

/// The key that a handle stands for, and the name of one of its values, for this function.
fn value_of(function: &str, handle: usize, name: Va) -> Result<(String, String), NtStatus> {
    check_apcs(function);
    Ok((key(handle)?, unicode(name)))
}

pub(super) extern "efiapi" fn zw_query_value_key(
    handle: usize,
    name: Va,
    class: i32,
    buffer: Va,
    length: u32,
    result_length: Va,
) -> i32 {
    let (path, name) = match value_of("ZwQueryValueKey", handle, name) {
        Ok(value) => value,
        Err(status) => return status.raw(),
    };
    if with(crate::state::Kernel::take_injection) {
        return NtStatus::INSUFFICIENT_RESOURCES.raw();
    }
    let Some((stored, kind, data)) = with(|k| k.registry.get_raw(&path, &name)) else {
        return NtStatus::OBJECT_NAME_NOT_FOUND.raw();
    };
    let stored: Vec<u8> = stored.encode_utf16().flat_map(u16::to_le_bytes).collect();
    #[allow(clippy::cast_possible_truncation, reason = "registry values are small")]
    let (data_len, name_len) = (data.len() as u32, stored.len() as u32);
    let mut out = Vec::new();
    let fixed = match class {
        // KeyValueBasicInformation: TitleIndex, Type, NameLength, Name
        0 => {
            out.extend([0, kind, name_len].map(u32::to_le_bytes).concat());
            out.extend(&stored);
            12
        }
        // KeyValueFullInformation: TitleIndex, Type, DataOffset, DataLength, NameLength, Name, data
        1 => {
            let offset = (20 + name_len).next_multiple_of(4);
            out.extend(
                [0, kind, offset, data_len, name_len]
                    .map(u32::to_le_bytes)
                    .concat(),
            );
            out.extend(&stored);
            out.resize(offset as usize, 0);
            out.extend(&data);
            20
        }
        // KeyValuePartialInformation: TitleIndex, Type, DataLength, data
        2 => {
            out.extend([0, kind, data_len].map(u32::to_le_bytes).concat());
            out.extend(&data);
            12
        }
        _ => return NtStatus::INVALID_PARAMETER.raw(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "registry values are small")]
    poke(result_length, out.len() as u32);
    let length = length as usize;
    if length < fixed {
        return NtStatus::BUFFER_TOO_SMALL.raw();
    }
    poke_bytes(buffer, &out[..length.min(out.len())]);
    if length < out.len() {
        return NtStatus::BUFFER_OVERFLOW.raw();
    }
    0
}

pub(super) extern "efiapi" fn zw_set_value_key(
    handle: usize,
    name: Va,
    _title: u32,
    kind: u32,
    data: Va,
    size: u32,
) -> i32 {
    let value = value_of("ZwSetValueKey", handle, name);
    answer(value.and_then(|(path, name)| {
        let bytes = crate::mem::peek_bytes(data, size as usize);
        with(|k| {
            k.may_go_on()?;
            k.registry.set_raw(&path, &name, kind, bytes);
            Ok(())
        })
    }))
}

pub(super) extern "efiapi" fn zw_delete_value_key(handle: usize, name: Va) -> i32 {
    let value = value_of("ZwDeleteValueKey", handle, name);
    answer(value.and_then(|(path, name)| {
        if with(|k| k.registry.delete(&path, &name)) {
            Ok(())
        } else {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND)
        }
    }))
}

const DACL_SECURITY_INFORMATION: u32 = 4;
const SE_DACL_PRESENT: u16 = 4;
const SE_SELF_RELATIVE: u16 = 0x8000;

/// Length of a self-relative security descriptor, from its parts.
fn descriptor_length(sd: Va) -> usize {
    let mut end = 20;
    // Owner and group SIDs: revision, count, authority, sub-authorities.
    for field in [4, 8] {
        let offset = peek::<u32>(sd + field) as usize;
        if offset != 0 {
            let count = usize::from(peek::<u8>(sd + offset + 1));
            end = end.max(offset + 8 + 4 * count);
        }
    }
    // SACL and DACL: AclSize is at 2.
    for field in [12, 16] {
        let offset = peek::<u32>(sd + field) as usize;
        if offset != 0 {
            end = end.max(offset + usize::from(peek::<u16>(sd + offset + 2)));
        }
    }
    end
}

pub(super) extern "efiapi" fn zw_set_security_object(handle: usize, what: u32, sd: Va) -> i32 {
    check_apcs("ZwSetSecurityObject");
    let object = with(|k| k.handles.get(&handle).map(|h| h.object.clone()));
    let device = match object {
        Some(Object::Device(device)) => device,
        Some(_) => return NtStatus::OBJECT_TYPE_MISMATCH.raw(),
        None => fail(rules::HANDLE_BAD, format!("handle {handle:#x}")),
    };
    let control: u16 = peek(sd + 2);
    if peek::<u8>(sd) != 1 {
        return NtStatus::INVALID_PARAMETER.raw();
    }
    if control & SE_SELF_RELATIVE == 0 {
        fail(
            rules::UNSUPPORTED,
            "absolute security descriptors are not simulated",
        );
    }
    if what & DACL_SECURITY_INFORMATION != 0 && control & SE_DACL_PRESENT == 0 {
        return NtStatus::INVALID_PARAMETER.raw();
    }
    let bytes = crate::mem::peek_bytes(sd, descriptor_length(sd));
    with(|k| {
        if k.take_injection() {
            return NtStatus::INSUFFICIENT_RESOURCES.raw();
        }
        if let Some(d) = k.devices.get_mut(&device) {
            d.security = bytes;
        }
        0
    })
}
