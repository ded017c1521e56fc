//! Interrupts: connecting service routines, their spin locks, and running them.

use super::ke::{self, Family, current_irql, set_irql};
use super::{DISPATCH, Entry, HIGH, guest};
use crate::mem::{Kind, Va, peek, poke};
use crate::rules;
use crate::sched;
use crate::state::{DriverId, Kernel, fail, with};
use crate::{NtStatus, Resource, pnp};

const CONNECT_FULLY_SPECIFIED: u32 = 1;
const CONNECT_LINE_BASED: u32 = 2;
const CONNECT_FULLY_SPECIFIED_GROUP: u32 = 4;

/// Bytes of an interrupt object; a driver looks at none of them.
const OBJECT_SIZE: usize = 0x100;
/// Its own spin lock, for drivers that bring none.
const OBJECT_LOCK: usize = 8;

/// A connected interrupt.
pub(crate) struct Interrupt {
    va: Va,
    vector: u32,
    /// `SynchronizeIrql`: the IRQL of its service routine and of its lock.
    irql: u8,
    latched: bool,
    shared: bool,
    lock: Va,
    routine: Va,
    context: usize,
    pdo: Va,
    version: u32,
    owner: Option<DriverId>,
}

/// What both versions of the request have.
struct Request {
    pdo: Va,
    out: Va,
    routine: Va,
    context: usize,
    lock: Va,
    irql: u8,
    vector: u32,
    latched: bool,
    shared: bool,
}

/// The device's interrupts: IRQL, vector, latched, and the group of processors.
fn assigned(k: &Kernel, pdo: Va) -> Vec<(u8, u32, bool, u16)> {
    let list = pnp::translated(k, pdo).unwrap_or_default();
    let one = |r: &Resource| match r {
        Resource::Interrupt {
            level,
            vector,
            latched,
        } => Some((u8::try_from(*level).ok()?, *vector, *latched, 0)),
        // Type, ShareDisposition, Flags; Level, Group, Vector, Affinity.
        Resource::Raw(bytes) if bytes[0] == 2 => {
            let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            let vector = u32::from(half(8)) | u32::from(half(10)) << 16;
            let level = u8::try_from(half(4)).ok()?;
            Some((level, vector, half(2) & 1 != 0, half(6)))
        }
        _ => None,
    };
    list.iter().filter_map(one).collect()
}

/// Reads `IO_CONNECT_INTERRUPT_PARAMETERS`: Version 0, then by version `PhysicalDeviceObject` 8,
/// `InterruptObject` 0x10, `ServiceRoutine` 0x18, `ServiceContext` 0x20, `SpinLock` 0x28,
/// `SynchronizeIrql` 0x30, `FloatingSave` 0x31; fully specified only: `ShareVector` 0x32, Vector
/// 0x34, Irql 0x38, `InterruptMode` 0x3C, `ProcessorEnableMask` 0x40, Group 0x48, which counts in
/// the version that is named after it.
fn read(k: &Kernel, at: Va, version: u32) -> Result<Request, NtStatus> {
    let pdo: Va = peek(at + 8);
    let list = assigned(k, pdo);
    if pdo == 0 || pnp::translated(k, pdo).is_none() || peek::<Va>(at + 0x18) == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    let wanted: u8 = peek(at + 0x30);
    let (irql, vector, latched, shared) = if version == CONNECT_LINE_BASED {
        let (irql, vector, latched, _) = *list.first().ok_or(NtStatus::NOT_FOUND)?;
        (irql, vector, latched, true)
    } else {
        let (irql, vector): (u8, u32) = (peek(at + 0x38), peek(at + 0x34));
        if peek::<usize>(at + 0x40) == 0 {
            return Err(NtStatus::INVALID_PARAMETER_10);
        }
        let group: u16 = if version == CONNECT_FULLY_SPECIFIED_GROUP {
            peek(at + 0x48)
        } else {
            0
        };
        if !list
            .iter()
            .any(|(i, v, _, g)| (*i, *v, *g) == (irql, vector, group))
        {
            return Err(NtStatus::NOT_FOUND);
        }
        // LevelSensitive 0, Latched 1
        let latched = peek::<u32>(at + 0x3C) != 0;
        (irql, vector, latched, peek::<u8>(at + 0x32) != 0)
    };
    Ok(Request {
        pdo,
        out: peek(at + 0x10),
        routine: peek(at + 0x18),
        context: peek(at + 0x20),
        lock: peek(at + 0x28),
        irql: irql.max(wanted),
        vector,
        latched,
        shared,
    })
}

pub(super) extern "efiapi" fn io_connect_interrupt_ex(parameters: Va) -> i32 {
    let version: u32 = peek(parameters);
    if !matches!(
        version,
        CONNECT_FULLY_SPECIFIED | CONNECT_LINE_BASED | CONNECT_FULLY_SPECIFIED_GROUP
    ) {
        return NtStatus::INVALID_PARAMETER_1.raw();
    }
    let result = with(|k| {
        k.may_go_on()?;
        let r = read(k, parameters, version)?;
        let taken =
            k.ke.interrupts
                .iter()
                .any(|i| i.vector == r.vector && !(i.shared && r.shared && i.latched == r.latched));
        if taken || r.irql <= DISPATCH || r.irql >= HIGH {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let (owner, site) = (k.caller(), k.site());
        let kind = Kind::System("an interrupt object");
        let va = k.mem.alloc(OBJECT_SIZE, kind, false, owner, site, || 0);
        k.ke.interrupts.push(Interrupt {
            va,
            vector: r.vector,
            irql: r.irql,
            latched: r.latched,
            shared: r.shared,
            lock: if r.lock == 0 {
                va + OBJECT_LOCK
            } else {
                r.lock
            },
            routine: r.routine,
            context: r.context,
            pdo: r.pdo,
            version,
            owner,
        });
        Ok((r.out, va))
    });
    match result {
        Ok((out, va)) => {
            poke(out, va);
            0
        }
        Err(status) => status.raw(),
    }
}

pub(super) extern "efiapi" fn io_disconnect_interrupt_ex(parameters: Va) {
    let (version, va): (u32, Va) = (peek(parameters), peek(parameters + 8));
    let found = with(|k| find(k, va).map(|i| (i.lock, i.version)));
    let Some((lock, connected)) = found else {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("{va:#x} is not a connected interrupt object"),
        );
    };
    if version != connected {
        fail(
            rules::INTERRUPT_VERSION,
            format!("connected with {connected}, disconnected with {version}"),
        );
    }
    with(|k| k.ke.interrupts.retain(|i| i.va != va));
    // A service routine that runs now runs to its end.
    sched::wait("the interrupt's service routine", None, move |k| {
        ke::is_free_in(k, lock)
    });
    with(|k| {
        ke::forget(k, va, OBJECT_SIZE);
        let site = k.site();
        k.mem.free(va, site);
    });
}

fn find(k: &Kernel, va: Va) -> Option<&Interrupt> {
    k.ke.interrupts.iter().find(|i| i.va == va)
}

/// Raises to the interrupt's IRQL and takes its lock. Gives the lock and the IRQL before.
fn acquire(interrupt: Va, what: &str) -> (Va, u8) {
    let found = with(|k| find(k, interrupt).map(|i| (i.lock, i.irql)));
    let Some((lock, irql)) = found else {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("{what}: {interrupt:#x} is not a connected interrupt object"),
        );
    };
    let now = current_irql();
    if now > irql {
        fail(
            rules::IRQL_CALL,
            format!("{what} at IRQL {now}, the interrupt's is {irql}"),
        );
    }
    (lock, ke::acquire_spin(lock, Family::Interrupt, irql))
}

pub(super) extern "efiapi" fn ke_acquire_interrupt_spin_lock(interrupt: Va) -> u8 {
    acquire(interrupt, "KeAcquireInterruptSpinLock").1
}

pub(super) extern "efiapi" fn ke_release_interrupt_spin_lock(interrupt: Va, old: u8) {
    let Some(lock) = with(|k| find(k, interrupt).map(|i| i.lock)) else {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("{interrupt:#x} is not a connected interrupt object"),
        );
    };
    let held = ke::release_spin(lock, Family::Interrupt);
    if old != held.old_irql {
        fail(
            rules::IRQL_CHANGED,
            format!(
                "KeReleaseInterruptSpinLock to IRQL {old}, acquired at {}",
                held.old_irql
            ),
        );
    }
    set_irql(old);
}

pub(super) extern "efiapi" fn ke_synchronize_execution(
    interrupt: Va,
    routine: Va,
    context: usize,
) -> u8 {
    let (lock, old) = acquire(interrupt, "KeSynchronizeExecution");
    let entry = Entry::now();
    let answer = guest(routine, &[context]);
    entry.check("SynchCritSection routine");
    ke::release_spin(lock, Family::Interrupt);
    set_irql(old);
    answer.to_le_bytes()[0]
}

/// The device interrupts: runs what is connected to the vector, in the order of connection. Gives
/// whether a service routine said that the interrupt was its own.
pub(crate) fn raise(vector: u32) -> bool {
    let list: Vec<(Va, u8, Va, bool)> = with(|k| {
        k.note(format!("interrupt {vector:#x}"));
        let on = k.ke.interrupts.iter().filter(|i| i.vector == vector);
        on.map(|i| (i.va, i.irql, i.lock, i.latched)).collect()
    });
    let mut claimed = false;
    for (va, irql, lock, latched) in list {
        let old = current_irql();
        set_irql(irql);
        ke::acquire(lock, Family::Interrupt, old);
        // It may be disconnected by now.
        let routine = with(|k| find(k, va).map(|i| (i.routine, i.context)));
        if let Some((routine, context)) = routine {
            let entry = Entry::now();
            let answer = guest(routine, &[va, context]);
            entry.check("ISR");
            claimed |= answer.to_le_bytes()[0] != 0;
        }
        ke::release(lock, Family::Interrupt);
        set_irql(old);
        // A level-sensitive line stays asserted for the others only if no routine claimed it.
        if claimed && !latched {
            break;
        }
    }
    claimed
}

/// What a device still has connected.
pub(crate) fn connected_to(k: &Kernel, pdo: Va) -> Option<String> {
    let left = k.ke.interrupts.iter().find(|i| i.pdo == pdo)?;
    Some(format!("vector {:#x}", left.vector))
}

/// What a driver still has connected.
pub(crate) fn connected_by(k: &Kernel, driver: DriverId) -> Option<String> {
    let left = k.ke.interrupts.iter().find(|i| i.owner == Some(driver))?;
    Some(format!("vector {:#x}", left.vector))
}
