//! `Ob` and `Ps`: references, handles, threads.

use super::types::Header;
use super::{Entry, guest};
use crate::NtStatus;
use crate::mem::{Va, peek, poke};
use crate::rules;
use crate::sched::{ThreadKind, Tid};
use crate::state::{Kernel, Object, fail, with};

const OBJ_KERNEL_HANDLE: u32 = 0x200;
const THREAD_OBJECT_SIZE: usize = 0x900;

fn make_thread_object(k: &mut Kernel, tid: Tid) -> Va {
    let va = k.system_alloc(THREAD_OBJECT_SIZE, "a thread object");
    Header(va).initialise(super::ke::THREAD, 0x18, 0);
    if let Some(t) = k.sched.threads.get_mut(&tid) {
        t.object = va;
    }
    k.refs.insert(va, 1);
    va
}

/// The running thread's object.
pub(crate) fn current_thread_object() -> Va {
    with(|k| {
        let tid = k.sched.current;
        match k.sched.thread().object {
            0 => make_thread_object(k, tid),
            va => va,
        }
    })
}

pub(super) extern "efiapi" fn ps_create_system_thread(
    handle: Va,
    _access: u32,
    attributes: Va,
    _process: usize,
    _client_id: Va,
    routine: Va,
    context: usize,
) -> i32 {
    let kernel = attributes != 0 && peek::<u32>(attributes + 0x18) & OBJ_KERNEL_HANDLE != 0;
    if !kernel && with(crate::iomgr::in_user_request) {
        fail(
            rules::HANDLE_KIND,
            "PsCreateSystemThread without OBJ_KERNEL_HANDLE in a user's thread",
        );
    }
    let value = with(|k| {
        if k.take_injection() {
            return None;
        }
        let owner = k.caller();
        let tid = k.sched.spawn(
            "system thread",
            ThreadKind::System,
            0,
            Box::new(move || {
                let entry = Entry::now();
                guest(routine, &[context]);
                entry.check("system thread");
                finish_thread();
            }),
        );
        if let Some(t) = k.sched.threads.get_mut(&tid) {
            t.owner = owner;
        }
        make_thread_object(k, tid);
        Some(k.new_handle(Object::Thread(tid), true))
    });
    match value {
        Some(value) => {
            poke(handle, value);
            0
        }
        None => NtStatus::INSUFFICIENT_RESOURCES.raw(),
    }
}

fn finish_thread() {
    let object = with(|k| k.sched.thread().object);
    if object != 0 {
        Header(object).set_signal(1);
    }
}

pub(super) extern "efiapi" fn ps_terminate_system_thread(_status: i32) -> i32 {
    let (kind, held) = with(|k| {
        let t = k.sched.thread();
        (t.kind, t.locks.last().map(|l| l.lock))
    });
    if kind != ThreadKind::System {
        fail(
            rules::FAULT,
            "PsTerminateSystemThread outside a system thread",
        );
    }
    if let Some(lock) = held {
        fail(rules::LOCK_HELD_THREAD, format!("lock {lock:#x}"));
    }
    finish_thread();
    crate::sched::end_thread()
}

pub(super) extern "efiapi" fn io_get_current_process() -> Va {
    with(|k| k.io.current_process())
}

fn type_of(k: &Kernel, name: &str) -> Va {
    k.data_exports.get(name).map_or(0, |slot| peek(*slot))
}

pub(super) extern "efiapi" fn ob_reference_object_by_handle(
    handle: usize,
    _access: u32,
    kind: Va,
    mode: u8,
    object: Va,
    _information: Va,
) -> i32 {
    let Some(record) = with(|k| k.handles.get(&handle).cloned()) else {
        if mode == 0 {
            fail(
                rules::HANDLE_UNKNOWN,
                format!("ObReferenceObjectByHandle({handle:#x})"),
            );
        }
        return NtStatus::INVALID_HANDLE.raw();
    };
    if mode == 0 && !record.kernel {
        fail(
            rules::HANDLE_KIND,
            format!("user handle {handle:#x} referenced with KernelMode"),
        );
    }
    let (name, va) = with(|k| match record.object {
        Object::Thread(tid) => (
            "PsThreadType",
            k.sched.threads.get(&tid).map_or(0, |t| t.object),
        ),
        Object::File(va) => ("IoFileObjectType", va),
        Object::Device(va) => ("IoDeviceObjectType", va),
        Object::Key(_) => ("", 0),
    });
    if va == 0 || kind != 0 && kind != with(|k| type_of(k, name)) {
        return NtStatus::OBJECT_TYPE_MISMATCH.raw();
    }
    obf_reference_object(va);
    poke(object, va);
    0
}

pub(super) extern "efiapi" fn obf_reference_object(object: Va) -> isize {
    let count = with(|k| {
        if k.devices.contains_key(&object) {
            return super::io::reference(k, object);
        }
        let refs = k.refs.get_mut(&object)?;
        *refs += 1;
        Some(*refs)
    });
    match count {
        Some(n) if n > 1 => n as isize,
        Some(_) => fail(
            rules::REFERENCE,
            format!("object {object:#x} came back from 0"),
        ),
        None => fail(
            rules::REFERENCE,
            format!("ObReferenceObject({object:#x}): not an object"),
        ),
    }
}

pub(super) extern "efiapi" fn obf_dereference_object(object: Va) -> isize {
    if with(|k| k.devices.contains_key(&object)) {
        super::io::dereference(object);
        return 0;
    }
    let count = with(|k| {
        let refs = k.refs.get_mut(&object)?;
        *refs -= 1;
        Some(*refs)
    });
    match count {
        Some(0) if crate::iomgr::last_reference(object) => 0,
        Some(n) if n >= 0 => n as isize,
        _ => fail(
            rules::REFERENCE,
            format!("ObDereferenceObject({object:#x}): no reference left, or not an object"),
        ),
    }
}

pub(super) extern "efiapi" fn ob_reference_object_by_pointer(
    object: Va,
    _access: u32,
    kind: Va,
    mode: u8,
) -> i32 {
    let name = with(|k| {
        if k.devices.contains_key(&object) {
            "IoDeviceObjectType"
        } else if crate::iomgr::is_file(k, object) {
            "IoFileObjectType"
        } else {
            "PsThreadType"
        }
    });
    // Without a type the object is taken as it is, for kernel callers only.
    if kind != with(|k| type_of(k, name)) && (kind != 0 || mode != 0) {
        return NtStatus::OBJECT_TYPE_MISMATCH.raw();
    }
    obf_reference_object(object);
    0
}

pub(super) extern "efiapi" fn ob_open_object_by_pointer(
    object: Va,
    attributes: u32,
    _state: Va,
    _access: u32,
    _kind: Va,
    _mode: u8,
    handle: Va,
) -> i32 {
    if attributes & OBJ_KERNEL_HANDLE == 0 && with(crate::iomgr::in_user_request) {
        fail(
            rules::HANDLE_KIND,
            "ObOpenObjectByPointer without OBJ_KERNEL_HANDLE in a user's thread",
        );
    }
    let value = with(|k| {
        k.may_go_on()?;
        if k.devices.contains_key(&object) {
            Ok(k.new_handle(Object::Device(object), true))
        } else {
            Err(NtStatus::OBJECT_TYPE_MISMATCH)
        }
    });
    match value {
        Ok(value) => {
            poke(handle, value);
            0
        }
        Err(status) => status.raw(),
    }
}
