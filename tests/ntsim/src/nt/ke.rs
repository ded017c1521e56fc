//! `Ke`: IRQL, spin locks, dispatcher objects, timers, DPCs, time.

use std::collections::{HashMap, HashSet};

use super::types::{
    DPC_ARG1, DPC_ARG2, DPC_CONTEXT, DPC_DATA, DPC_ROUTINE, Header, MUTANT_OWNER, SEMAPHORE_LIMIT,
    TIMER_DPC, TIMER_DUE, TIMER_PERIOD,
};
use super::{APC, DISPATCH, Entry, guest};
use crate::mem::{Kind, State, Va, peek, poke};
use crate::rules;
use crate::sched::{self, ThreadKind, Tid};
use crate::state::{DriverId, Kernel, Site, fail, with};
use crate::{Nanos, NtStatus};

/// The clock's tick: time-outs end on one.
pub(crate) const TICK: Nanos = 1_000_000;

/// The tick of the clock that a high-resolution timer asks for.
const HIGH_RESOLUTION: Nanos = 500_000;

/// 1 January 2025 in system time (100 ns since 1601).
const BOOT_TIME: u64 = 133_801_632_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `KeAcquireSpinLock`.
    Spin,
    /// `KeAcquireSpinLockAtDpcLevel`.
    SpinAtDpc,
    /// In-stack queued.
    Queued,
    FastMutex,
    Mutex,
    /// The cancel spin lock.
    Cancel,
    /// An interrupt object's spin lock.
    Interrupt,
}

impl Family {
    pub(crate) fn spins(self) -> bool {
        !matches!(self, Self::FastMutex | Self::Mutex)
    }
}

/// A lock that a thread holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub lock: Va,
    pub family: Family,
    pub old_irql: u8,
}

/// A DPC in the queue.
struct Queued {
    dpc: Va,
    /// Its processor is the queueing thread's: it runs when that is below `DISPATCH_LEVEL` again.
    by: Tid,
}

struct Timer {
    va: Va,
    due: Nanos,
    period: Nanos,
    seq: u64,
}

#[derive(Default)]
pub(crate) struct Ke {
    owners: HashMap<Va, (Tid, Family)>,
    order: HashMap<Va, HashSet<Va>>,
    timers: Vec<Timer>,
    /// How often the level was raised, by place.
    raises: HashMap<Site, u64>,
    /// Those that `ExAllocateTimer` made: attributes and owner.
    ex_timers: HashMap<Va, (u32, Option<DriverId>)>,
    dpcs: Vec<Queued>,
    pub(super) interrupts: Vec<super::interrupt::Interrupt>,
    seq: u64,
    pub cancel_lock: Va,
    pub sleeping: Nanos,
    pub stalled: Nanos,
    /// Waits and delays that their time ended, and timers that expired.
    pub timer_wakeups: u64,
}

// ---- IRQL ----

pub(crate) fn current_irql() -> u8 {
    with(|k| k.sched.thread().irql)
}

/// Sets the running thread's IRQL; paged memory goes away at `DISPATCH_LEVEL`.
pub(crate) fn set_irql(irql: u8) {
    with(|k| {
        k.sched.thread().irql = irql;
        k.mem.page_out(irql >= DISPATCH);
    });
}

pub(super) extern "efiapi" fn ke_get_current_irql() -> u8 {
    current_irql()
}

pub(super) extern "efiapi" fn kf_raise_irql(new: u8) -> u8 {
    let old = current_irql();
    if new < old || new > 15 {
        fail(rules::IRQL_RAISE, format!("from {old} to {new}"));
    }
    // Taking pageable memory away costs the host more than all the rest: a place that raises the
    // level for every byte of a transfer does so a thousand times, and then now and then.
    let often = with(|k| {
        let site = k.site();
        let count = k.ke.raises.entry(site).or_default();
        *count += 1;
        *count > 1000 && !count.is_multiple_of(64)
    });
    if often {
        with(|k| k.sched.thread().irql = new);
    } else {
        set_irql(new);
    }
    old
}

pub(super) extern "efiapi" fn ke_raise_irql_to_dpc_level() -> u8 {
    kf_raise_irql(DISPATCH)
}

pub(super) extern "efiapi" fn ke_lower_irql(new: u8) {
    let (old, holds, dpc, interrupt) = with(|k| {
        let t = k.sched.thread();
        let holds = t.locks.iter().any(|l| l.family.spins());
        let interrupt = t.locks.iter().any(|l| l.family == Family::Interrupt);
        (t.irql, holds, t.kind == ThreadKind::Dpc, interrupt)
    });
    if new > old {
        fail(rules::IRQL_LOWER, format!("from {old} to {new}"));
    }
    if new < DISPATCH && (holds || dpc) {
        fail(
            rules::IRQL_LOWER,
            "below DISPATCH_LEVEL with a spin lock held or inside a DPC",
        );
    }
    if new < old && interrupt {
        fail(
            rules::IRQL_LOWER,
            format!("from {old} to {new} in an ISR or with an interrupt spin lock held"),
        );
    }
    set_irql(new);
}

// ---- locks ----

fn reaches(order: &HashMap<Va, HashSet<Va>>, from: Va, to: Va) -> bool {
    let mut todo = vec![from];
    let mut seen = HashSet::new();
    while let Some(at) = todo.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at)
            && let Some(next) = order.get(&at)
        {
            todo.extend(next);
        }
    }
    false
}

/// Common part of every lock acquisition: recursion, order, contention.
pub(crate) fn acquire(lock: Va, family: Family, old_irql: u8) {
    let broken = with(|k| {
        let me = k.sched.current;
        if let Some((owner, _)) = k.ke.owners.get(&lock)
            && *owner == me
        {
            return Some((rules::LOCK_RECURSION, format!("lock {lock:#x}")));
        }
        let held: Vec<Va> = k.sched.thread().locks.iter().map(|l| l.lock).collect();
        for other in held {
            if reaches(&k.ke.order, lock, other) {
                return Some((
                    rules::LOCK_ORDER,
                    format!(
                        "lock {lock:#x} wanted while {other:#x} is held; elsewhere the other way round"
                    ),
                ));
            }
            k.ke.order.entry(other).or_default().insert(lock);
        }
        None
    });
    if let Some((rule, what)) = broken {
        fail(rule, what);
    }
    let free = move |k: &Kernel| !k.ke.owners.contains_key(&lock);
    while !with(|k| free(k)) {
        sched::wait(sched::LOCK, None, free);
    }
    with(|k| {
        k.count_lock(lock);
        let me = k.sched.current;
        k.ke.owners.insert(lock, (me, family));
        k.sched.thread().locks.push(Held {
            lock,
            family,
            old_irql,
        });
    });
}

/// Whether the lock is free, for functions that only try.
pub(crate) fn is_free(lock: Va) -> bool {
    with(|k| is_free_in(k, lock))
}

pub(super) fn is_free_in(k: &Kernel, lock: Va) -> bool {
    !k.ke.owners.contains_key(&lock)
}

/// Common part of every release. Gives what was noted at acquisition.
pub(crate) fn release(lock: Va, family: Family) -> Held {
    let result = with(|k| {
        let me = k.sched.current;
        let Some((owner, used)) = k.ke.owners.get(&lock).copied() else {
            return Err((rules::LOCK_NOT_HELD, format!("lock {lock:#x}")));
        };
        if owner != me {
            return Err((
                rules::LOCK_OWNER,
                format!("lock {lock:#x} belongs to thread {owner}"),
            ));
        }
        if used != family {
            return Err((
                rules::LOCK_FAMILY,
                format!("lock {lock:#x} acquired as {used:?}, released as {family:?}"),
            ));
        }
        let locks = &mut k.sched.thread().locks;
        let Some(at) = locks.iter().rposition(|l| l.lock == lock) else {
            return Err((rules::LOCK_NOT_HELD, format!("lock {lock:#x}")));
        };
        if family == Family::Queued && at + 1 != locks.len() {
            return Err((rules::LOCK_OUT_OF_ORDER, format!("lock {lock:#x}")));
        }
        let held = locks.remove(at);
        k.ke.owners.remove(&lock);
        Ok(held)
    });
    match result {
        Ok(held) => held,
        Err((rule, what)) => fail(rule, what),
    }
}

/// Raises to `irql` and takes the lock. Gives the IRQL before.
pub(super) fn acquire_spin(lock: Va, family: Family, irql: u8) -> u8 {
    let word: usize = peek(lock);
    if word != 0 && is_free(lock) {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("spin lock {lock:#x} holds {word:#x}"),
        );
    }
    let old = current_irql();
    set_irql(irql.max(old));
    acquire(lock, family, old);
    poke(lock, 1_usize);
    old
}

pub(super) fn release_spin(lock: Va, family: Family) -> Held {
    let held = release(lock, family);
    poke(lock, 0_usize);
    held
}

pub(super) extern "efiapi" fn ke_initialize_spin_lock(lock: Va) {
    if !is_free(lock) {
        fail(rules::LOCK_REINIT, format!("spin lock {lock:#x}"));
    }
    poke(lock, 0_usize);
}

pub(super) extern "efiapi" fn ke_acquire_spin_lock_raise_to_dpc(lock: Va) -> u8 {
    acquire_spin(lock, Family::Spin, DISPATCH)
}

pub(super) extern "efiapi" fn ke_release_spin_lock(lock: Va, new_irql: u8) {
    let held = release_spin(lock, Family::Spin);
    if new_irql != held.old_irql {
        fail(
            rules::IRQL_CHANGED,
            format!(
                "KeReleaseSpinLock to IRQL {new_irql}, acquired at {} [C4/20015]",
                held.old_irql
            ),
        );
    }
    set_irql(new_irql);
}

pub(super) extern "efiapi" fn ke_acquire_spin_lock_at_dpc_level(lock: Va) {
    acquire_spin(lock, Family::SpinAtDpc, DISPATCH);
}

pub(super) extern "efiapi" fn ke_release_spin_lock_from_dpc_level(lock: Va) {
    release_spin(lock, Family::SpinAtDpc);
}

// KLOCK_QUEUE_HANDLE: Next 0, Lock 8, OldIrql 16.
pub(super) extern "efiapi" fn ke_acquire_in_stack_queued_spin_lock(lock: Va, handle: Va) {
    let old = acquire_spin(lock, Family::Queued, DISPATCH);
    poke(handle, 0_usize);
    poke(handle + 8, lock);
    poke(handle + 16, old);
}

pub(super) extern "efiapi" fn ke_release_in_stack_queued_spin_lock(handle: Va) {
    let lock: Va = peek(handle + 8);
    let held = release_spin(lock, Family::Queued);
    set_irql(held.old_irql);
}

/// The cancel spin lock, as the functions of `io` take it.
pub(crate) fn acquire_cancel() -> u8 {
    let lock = with(|k| k.ke.cancel_lock);
    acquire_spin(lock, Family::Cancel, DISPATCH)
}

pub(crate) fn release_cancel(irql: u8) {
    let lock = with(|k| k.ke.cancel_lock);
    release_spin(lock, Family::Cancel);
    set_irql(irql);
}

// ---- dispatcher objects ----

const NOTIFICATION_EVENT: u8 = 0;
const SYNCHRONIZATION_EVENT: u8 = 1;
const MUTANT: u8 = 2;
const SEMAPHORE: u8 = 5;
pub(crate) const THREAD: u8 = 6;
const NOTIFICATION_TIMER: u8 = 8;
const SYNCHRONIZATION_TIMER: u8 = 9;

/// Whether an object's memory is still there.
pub(crate) fn alive(k: &Kernel, va: Va) -> bool {
    !k.mem.contains(va) || k.mem.find(va).is_some_and(|b| b.state == State::Live)
}

fn signalled(k: &Kernel, object: Va, me: Tid) -> bool {
    if !alive(k, object) {
        // Let the waiter touch it: that names the fault.
        return true;
    }
    let header = Header(object);
    if header.kind() == MUTANT && header.signal() <= 0 {
        return peek::<usize>(object + MUTANT_OWNER) == me as usize;
    }
    header.signal() > 0
}

fn take(object: Va, me: Tid) {
    let header = Header(object);
    match header.kind() {
        SYNCHRONIZATION_EVENT | SYNCHRONIZATION_TIMER => header.set_signal(0),
        SEMAPHORE => header.set_signal(header.signal() - 1),
        MUTANT => {
            header.set_signal(header.signal() - 1);
            poke(object + MUTANT_OWNER, me as usize);
            with(|k| {
                k.sched.thread().locks.push(Held {
                    lock: object,
                    family: Family::Mutex,
                    old_irql: 0,
                });
                k.sched.thread().critical += 1;
                if k.ke.owners.insert(object, (me, Family::Mutex)).is_none() {
                    let held: Vec<Va> = k
                        .sched
                        .thread()
                        .locks
                        .iter()
                        .map(|l| l.lock)
                        .filter(|l| *l != object)
                        .collect();
                    for other in held {
                        k.ke.order.entry(other).or_default().insert(object);
                    }
                }
            });
        }
        _ => {}
    }
}

/// Virtual time at which a `LARGE_INTEGER` time-out ends: negative = from now, positive = system
/// time; on the next tick of the clock.
fn deadline(k: &Kernel, units: i64) -> Nanos {
    deadline_by(k, units, TICK)
}

/// The same with another tick.
fn deadline_by(k: &Kernel, units: i64, tick: Nanos) -> Nanos {
    let at = if units < 0 {
        k.now + units.unsigned_abs() * 100
    } else {
        (units.unsigned_abs().saturating_sub(BOOT_TIME) * 100).max(k.now)
    };
    at.next_multiple_of(tick)
}

pub(super) fn wait_for(objects: &[Va], all: bool, timeout: Va) -> NtStatus {
    let irql = current_irql();
    let timeout: Option<i64> = (timeout != 0).then(|| peek(timeout));
    if irql >= DISPATCH && timeout != Some(0) {
        fail(rules::IRQL_WAIT, format!("at IRQL {irql}"));
    }
    for object in objects {
        let kind = Header(*object).kind();
        if !matches!(
            kind,
            NOTIFICATION_EVENT
                | SYNCHRONIZATION_EVENT
                | MUTANT
                | SEMAPHORE
                | THREAD
                | NOTIFICATION_TIMER
                | SYNCHRONIZATION_TIMER
        ) || peek::<usize>(*object + 8) == 0
        {
            fail(
                rules::LOCK_UNINITIALISED,
                format!("wait on {object:#x}, which is not an initialised dispatcher object"),
            );
        }
        let order = with(|k| {
            let me = k.sched.current;
            kind == MUTANT
                && peek::<usize>(*object + MUTANT_OWNER) != me as usize
                && k.sched.threads.get(&me).is_some_and(|t| {
                    t.locks
                        .iter()
                        .any(|l| reaches(&k.ke.order, *object, l.lock))
                })
        });
        if order {
            fail(rules::LOCK_ORDER, format!("mutex {object:#x}"));
        }
    }
    let me = with(|k| k.sched.current);
    let started = with(|k| k.now);
    let until = timeout.map(|t| with(|k| if t == 0 { k.now } else { deadline(k, t) }));
    let result = loop {
        let ready: Vec<bool> = with(|k| objects.iter().map(|o| signalled(k, *o, me)).collect());
        if all && ready.iter().all(|r| *r) {
            for object in objects {
                take(*object, me);
            }
            break NtStatus::SUCCESS;
        }
        if !all && let Some(i) = ready.iter().position(|r| *r) {
            take(objects[i], me);
            #[allow(clippy::cast_possible_truncation, reason = "at most 64 objects")]
            break NtStatus(i as u32);
        }
        if until.is_some_and(|u| with(|k| k.now >= u)) {
            if timeout != Some(0) {
                with(|k| k.ke.timer_wakeups += 1);
            }
            break NtStatus::TIMEOUT;
        }
        let wanted = objects.to_vec();
        with(|k| k.sched.thread().waits_on = objects.to_vec());
        sched::wait("a dispatcher object", until, move |k| {
            if all {
                wanted.iter().all(|o| signalled(k, *o, me))
            } else {
                wanted.iter().any(|o| signalled(k, *o, me))
            }
        });
    };
    with(|k| {
        k.sched.thread().waits_on.clear();
        k.ke.sleeping += k.now - started;
    });
    result
}

pub(super) extern "efiapi" fn ke_initialize_event(event: Va, kind: i32, state: u8) {
    let kind = if kind == 0 {
        NOTIFICATION_EVENT
    } else {
        SYNCHRONIZATION_EVENT
    };
    Header(event).initialise(kind, 0x18, i32::from(state != 0));
}

pub(crate) fn set_event(event: Va) -> i32 {
    let header = Header(event);
    let old = header.signal();
    header.set_signal(1);
    old
}

pub(super) extern "efiapi" fn ke_set_event(event: Va, _increment: i32, wait: u8) -> i32 {
    if wait != 0 && current_irql() > APC {
        fail(
            rules::IRQL_CALL,
            "KeSetEvent with Wait TRUE above APC_LEVEL",
        );
    }
    set_event(event)
}

pub(super) extern "efiapi" fn ke_reset_event(event: Va) -> i32 {
    let header = Header(event);
    let old = header.signal();
    header.set_signal(0);
    old
}

pub(super) extern "efiapi" fn ke_read_state_event(event: Va) -> i32 {
    Header(event).signal()
}

pub(super) extern "efiapi" fn ke_initialize_semaphore(semaphore: Va, count: i32, limit: i32) {
    Header(semaphore).initialise(SEMAPHORE, 0x20, count);
    poke(semaphore + SEMAPHORE_LIMIT, limit);
}

pub(super) extern "efiapi" fn ke_release_semaphore(
    semaphore: Va,
    _increment: i32,
    adjustment: i32,
    _wait: u8,
) -> i32 {
    let header = Header(semaphore);
    let old = header.signal();
    let limit: i32 = peek(semaphore + SEMAPHORE_LIMIT);
    if adjustment <= 0 || old.saturating_add(adjustment) > limit {
        fail(
            rules::FAULT,
            "KeReleaseSemaphore raises STATUS_SEMAPHORE_LIMIT_EXCEEDED",
        );
    }
    header.set_signal(old + adjustment);
    old
}

pub(super) extern "efiapi" fn ke_initialize_mutex(mutex: Va, _level: u32) {
    Header(mutex).initialise(MUTANT, 0x38, 1);
    poke(mutex + MUTANT_OWNER, 0_usize);
}

pub(super) extern "efiapi" fn ke_release_mutex(mutex: Va, _wait: u8) -> i32 {
    let me = with(|k| k.sched.current);
    if peek::<usize>(mutex + MUTANT_OWNER) != me as usize {
        fail(rules::LOCK_OWNER, format!("mutex {mutex:#x}"));
    }
    let header = Header(mutex);
    let old = header.signal();
    header.set_signal(old + 1);
    with(|k| {
        let t = k.sched.thread();
        if let Some(at) = t.locks.iter().rposition(|l| l.lock == mutex) {
            t.locks.remove(at);
        }
        t.critical -= 1;
        if old + 1 == 1 {
            k.ke.owners.remove(&mutex);
        }
    });
    if old + 1 == 1 {
        poke(mutex + MUTANT_OWNER, 0_usize);
    }
    old
}

pub(super) extern "efiapi" fn ke_wait_for_single_object(
    object: Va,
    _reason: i32,
    mode: u8,
    _alertable: u8,
    timeout: Va,
) -> i32 {
    check_mode(mode, &[object]);
    wait_for(&[object], true, timeout).raw()
}

pub(super) extern "efiapi" fn ke_wait_for_multiple_objects(
    count: u32,
    objects: Va,
    kind: i32,
    _reason: i32,
    mode: u8,
    _alertable: u8,
    timeout: Va,
    blocks: Va,
) -> i32 {
    if count > 3 && blocks == 0 {
        fail(
            rules::FAULT,
            "KeWaitForMultipleObjects with more than 3 objects and no wait blocks (bug check 0xC)",
        );
    }
    let list: Vec<Va> = (0..count as usize).map(|i| peek(objects + 8 * i)).collect();
    check_mode(mode, &list);
    wait_for(&list, kind == 0, timeout).raw()
}

/// In `UserMode` the stack of a thread that waits may be paged out, and what it waits for with it.
fn check_mode(mode: u8, objects: &[Va]) {
    let on_stack = |object: &&Va| with(|k| k.sched.in_stack(**object, 8));
    if mode != 0
        && let Some(object) = objects.iter().find(on_stack)
    {
        fail(rules::WAIT_USER_MODE, format!("object {object:#x}"));
    }
}

pub(super) extern "efiapi" fn ke_delay_execution_thread(
    _mode: u8,
    _alertable: u8,
    interval: Va,
) -> i32 {
    let units: i64 = peek(interval);
    if units == 0 {
        // Long ago: other threads get their turn, and there is nothing to wait for.
        sched::wait("its turn", None, |_| true);
        return 0;
    }
    let (started, until) = with(|k| (k.now, deadline(k, units)));
    while with(|k| k.now < until) {
        sched::wait("a delay", Some(until), |_| false);
    }
    with(|k| {
        k.ke.sleeping += k.now - started;
        k.ke.timer_wakeups += 1;
    });
    0
}

pub(super) extern "efiapi" fn ke_stall_execution_processor(microseconds: u32) {
    with(|k| {
        let ns = Nanos::from(microseconds) * 1000;
        k.now += ns;
        k.cpu_time += ns;
        k.ke.stalled += ns;
    });
    sched::tick();
}

pub(super) extern "efiapi" fn ke_query_performance_counter(frequency: Va) -> u64 {
    if frequency != 0 {
        poke(frequency, 10_000_000_u64);
    }
    with(|k| k.now / 100)
}

pub(super) extern "efiapi" fn ke_query_unbiased_interrupt_time() -> u64 {
    with(|k| k.now / 100)
}

// ---- timers and DPCs ----

pub(super) extern "efiapi" fn ke_initialize_timer(timer: Va) {
    ke_initialize_timer_ex(timer, 0);
}

pub(super) extern "efiapi" fn ke_initialize_timer_ex(timer: Va, kind: i32) {
    if with(|k| k.ke.timers.iter().any(|t| t.va == timer)) {
        fail(
            rules::FREED_BUSY,
            format!("timer {timer:#x} initialised while armed"),
        );
    }
    crate::mem::poke_bytes(timer, &[0; 0x40]);
    let kind = if kind == 0 {
        NOTIFICATION_TIMER
    } else {
        SYNCHRONIZATION_TIMER
    };
    Header(timer).initialise(kind, 0x40, 0);
}

pub(super) extern "efiapi" fn ke_set_timer(timer: Va, due: i64, dpc: Va) -> u8 {
    ke_set_timer_ex(timer, due, 0, dpc)
}

pub(super) extern "efiapi" fn ke_set_timer_ex(timer: Va, due: i64, period: i32, dpc: Va) -> u8 {
    let header = Header(timer);
    if !matches!(header.kind(), NOTIFICATION_TIMER | SYNCHRONIZATION_TIMER) {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("timer {timer:#x} not initialised"),
        );
    }
    let was = ke_cancel_timer(timer);
    header.set_signal(0);
    header.set_inserted(1);
    poke(timer + TIMER_DPC, dpc);
    poke(timer + TIMER_PERIOD, period);
    let period = Nanos::from(period.max(0).unsigned_abs()) * 1_000_000;
    let due = with(|k| {
        let at = if due == 0 { k.now } else { deadline(k, due) };
        k.ke.seq += 1;
        let seq = k.ke.seq;
        k.ke.timers.push(Timer {
            va: timer,
            due: at,
            period,
            seq,
        });
        at
    });
    poke(timer + TIMER_DUE, due / 100);
    was
}

/// Takes these out of a queue. Whether there were any.
fn take_out<T>(queue: &mut Vec<T>, these: impl Fn(&T) -> bool) -> bool {
    let before = queue.len();
    queue.retain(|it| !these(it));
    before != queue.len()
}

pub(super) extern "efiapi" fn ke_cancel_timer(timer: Va) -> u8 {
    let was = with(|k| take_out(&mut k.ke.timers, |t| t.va == timer));
    if was {
        Header(timer).set_inserted(0);
    }
    u8::from(was)
}

pub(crate) fn next_timer(k: &Kernel) -> Option<Nanos> {
    k.ke.timers.iter().map(|t| t.due).min()
}

pub(crate) fn timer_due(k: &Kernel) -> bool {
    k.ke.dpcs.iter().any(|q| can_start(k, q)) || next_timer(k).is_some_and(|t| t <= k.now)
}

fn can_start(k: &Kernel, queued: &Queued) -> bool {
    let by = k.sched.threads.get(&queued.by);
    k.config.several_processors
        || by.is_none_or(|t| t.irql < DISPATCH || k.sched.is_done(queued.by))
}

/// Signals the timers that are due and queues their DPCs.
pub(crate) fn fire_timers(k: &mut Kernel) {
    k.ke.timers.sort_by_key(|t| (t.due, t.seq));
    while k.ke.timers.first().is_some_and(|t| t.due <= k.now) {
        let timer = k.ke.timers.remove(0);
        k.ke.timer_wakeups += 1;
        let header = Header(timer.va);
        header.set_signal(1);
        if timer.period > 0 {
            let due = timer.due + timer.period;
            k.ke.timers.push(Timer { due, ..timer });
            k.ke.timers.sort_by_key(|t| (t.due, t.seq));
        } else {
            header.set_inserted(0);
        }
        let dpc: Va = peek(timer.va + TIMER_DPC);
        if dpc != 0 {
            queue_dpc(k, dpc, 0, 0, 0);
        }
    }
}

fn queue_dpc(k: &mut Kernel, dpc: Va, a1: usize, a2: usize, by: Tid) -> bool {
    if is_queued(k, dpc) {
        return false;
    }
    poke(dpc + DPC_ARG1, a1);
    poke(dpc + DPC_ARG2, a2);
    poke(dpc + DPC_DATA, 1_usize);
    k.ke.dpcs.push(Queued { dpc, by });
    true
}

fn is_queued(k: &Kernel, dpc: Va) -> bool {
    k.ke.dpcs.iter().any(|q| q.dpc == dpc)
}

/// Gives each queued DPC its processor.
pub(crate) fn start_dpcs(k: &mut Kernel) {
    if k.ke.dpcs.is_empty() {
        return;
    }
    let queued = core::mem::take(&mut k.ke.dpcs);
    let (start, wait) = queued
        .into_iter()
        .partition::<Vec<_>, _>(|q| can_start(k, q));
    k.ke.dpcs = wait;
    for Queued { dpc, .. } in start {
        poke(dpc + DPC_DATA, 0_usize);
        let routine: Va = peek(dpc + DPC_ROUTINE);
        let args = [
            dpc,
            peek(dpc + DPC_CONTEXT),
            peek(dpc + DPC_ARG1),
            peek(dpc + DPC_ARG2),
        ];
        let tid = k.sched.spawn(
            "DPC",
            ThreadKind::Dpc,
            DISPATCH,
            Box::new(move || {
                let entry = Entry::now();
                guest(routine, &args);
                entry.check("DPC routine");
            }),
        );
        let owner = k.driver_at(routine);
        if let Some(t) = k.sched.threads.get_mut(&tid) {
            t.owner = owner;
        }
    }
}

pub(super) extern "efiapi" fn ke_initialize_dpc(dpc: Va, routine: Va, context: usize) {
    if with(|k| is_queued(k, dpc)) {
        fail(
            rules::DPC_BUSY,
            format!("DPC {dpc:#x} initialised while queued"),
        );
    }
    crate::mem::poke_bytes(dpc, &[0; 0x40]);
    poke(dpc, DPC_OBJECT);
    poke(dpc + 1, 1_u8);
    poke(dpc + DPC_ROUTINE, routine);
    poke(dpc + DPC_CONTEXT, context);
}

/// Type of a KDPC.
const DPC_OBJECT: u8 = 0x13;

pub(super) extern "efiapi" fn ke_insert_queue_dpc(dpc: Va, a1: usize, a2: usize) -> u8 {
    if peek::<u8>(dpc) != DPC_OBJECT {
        fail(
            rules::LOCK_UNINITIALISED,
            format!("DPC {dpc:#x} is not initialised"),
        );
    }
    let queued = with(|k| {
        let by = k.sched.current;
        queue_dpc(k, dpc, a1, a2, by)
    });
    sched::tick();
    u8::from(queued)
}

pub(super) extern "efiapi" fn ke_remove_queue_dpc(dpc: Va) -> u8 {
    let was = with(|k| take_out(&mut k.ke.dpcs, |q| q.dpc == dpc));
    if was {
        poke(dpc + DPC_DATA, 0_usize);
    }
    u8::from(was)
}

pub(super) extern "efiapi" fn ke_flush_queued_dpcs() {
    sched::wait("queued DPCs", None, |k| {
        k.ke.dpcs.is_empty()
            && !k
                .sched
                .threads
                .iter()
                .any(|(t, th)| th.kind == ThreadKind::Dpc && !k.sched.is_done(*t))
    });
}

pub(super) extern "efiapi" fn ke_set_priority_thread(thread: Va, priority: i32) -> i32 {
    let old = with(|k| {
        let mut threads = k.sched.threads.values_mut();
        let found = threads.find(|t| t.object == thread && thread != 0)?;
        (found.kind == ThreadKind::System && (1..32).contains(&priority))
            .then(|| core::mem::replace(&mut found.priority, priority))
    });
    old.unwrap_or_else(|| {
        fail(
            rules::THREAD_PRIORITY,
            format!("KeSetPriorityThread({thread:#x}, {priority})"),
        )
    })
}

// ---- EX_TIMER: a timer object, of which only its header is a driver's to wait for ----

const EX_TIMER_HIGH_RESOLUTION: u32 = 4;
const EX_TIMER_NO_WAKE: u32 = 8;
const EX_TIMER_NOTIFICATION: u32 = 1 << 31;

/// The attributes of a timer that `ExAllocateTimer` made.
fn ex_timer(timer: Va, what: &str) -> u32 {
    match with(|k| k.ke.ex_timers.get(&timer).copied()) {
        Some((attributes, _)) => attributes,
        None => fail(rules::EX_TIMER_GONE, format!("{what}({timer:#x})")),
    }
}

pub(super) extern "efiapi" fn ex_allocate_timer(
    callback: Va,
    _context: usize,
    attributes: u32,
) -> Va {
    let both = EX_TIMER_HIGH_RESOLUTION | EX_TIMER_NO_WAKE;
    if attributes & both == both || attributes & !(both | EX_TIMER_NOTIFICATION) != 0 {
        fail(
            rules::EX_TIMER_MISUSED,
            format!("ExAllocateTimer with attributes {attributes:#x}"),
        );
    }
    if callback != 0 {
        fail(rules::UNSUPPORTED, "ExAllocateTimer with a callback");
    }
    let timer = with(|k| {
        let Some((timer, owner)) = k.make(0x80, Kind::System("an EX_TIMER")) else {
            return 0;
        };
        k.ke.ex_timers.insert(timer, (attributes, owner));
        timer
    });
    if timer != 0 {
        let notification = attributes & EX_TIMER_NOTIFICATION != 0;
        ke_initialize_timer_ex(timer, i32::from(!notification));
    }
    timer
}

pub(super) extern "efiapi" fn ex_set_timer(timer: Va, due: i64, period: i64, _params: Va) -> u8 {
    let attributes = ex_timer(timer, "ExSetTimer");
    let high = attributes & EX_TIMER_HIGH_RESOLUTION != 0;
    if period < 0 {
        fail(
            rules::EX_TIMER_MISUSED,
            format!("ExSetTimer with due time {due}, period {period}"),
        );
    }
    let was = ke_cancel_timer(timer);
    let header = Header(timer);
    header.set_signal(0);
    header.set_inserted(1);
    with(|k| {
        let due = if high {
            deadline_by(k, due, HIGH_RESOLUTION)
        } else {
            deadline(k, due)
        };
        k.ke.seq += 1;
        let seq = k.ke.seq;
        k.ke.timers.push(Timer {
            va: timer,
            due,
            period: period.unsigned_abs() * 100,
            seq,
        });
    });
    was
}

pub(super) extern "efiapi" fn ex_cancel_timer(timer: Va, _params: Va) -> u8 {
    ex_timer(timer, "ExCancelTimer");
    ke_cancel_timer(timer)
}

pub(super) extern "efiapi" fn ex_delete_timer(timer: Va, cancel: u8, wait: u8, _params: Va) -> u8 {
    ex_timer(timer, "ExDeleteTimer");
    if wait != 0 && cancel == 0 {
        fail(
            rules::EX_TIMER_MISUSED,
            "ExDeleteTimer with Wait and without Cancel",
        );
    }
    if wait != 0 && current_irql() >= DISPATCH {
        fail(
            rules::IRQL_WAIT,
            "ExDeleteTimer with Wait at DISPATCH_LEVEL",
        );
    }
    let was = if cancel != 0 {
        ke_cancel_timer(timer)
    } else {
        sched::wait("a timer", None, move |k| {
            !k.ke.timers.iter().any(|t| t.va == timer)
        });
        0
    };
    let busy = with(|k| {
        let busy = busy_in(k, timer, 0x40);
        k.ke.ex_timers.remove(&timer);
        let site = k.site();
        k.mem.free(timer, site);
        busy
    });
    if let Some(what) = busy {
        fail(rules::FREED_BUSY, what);
    }
    was
}

/// How many timers of a driver are left.
pub(crate) fn ex_timers_of(k: &Kernel, driver: DriverId) -> usize {
    let timers = k.ke.ex_timers.values();
    timers.filter(|(_, owner)| *owner == Some(driver)).count()
}

pub(super) extern "efiapi" fn ke_enter_critical_region() {
    with(|k| k.sched.thread().critical += 1);
}

pub(super) extern "efiapi" fn ke_leave_critical_region() {
    let count = with(|k| {
        let t = k.sched.thread();
        t.critical -= 1;
        t.critical
    });
    if count < 0 {
        fail(
            rules::APC_LEAVE,
            "KeLeaveCriticalRegion without KeEnterCriticalRegion",
        );
    }
}

pub(super) extern "efiapi" fn ke_get_current_thread() -> Va {
    super::ob::current_thread_object()
}

pub(super) extern "efiapi" fn ke_bug_check_ex(code: u32, a: usize, b: usize, c: usize, d: usize) {
    fail(
        rules::DRIVER_BUGCHECK,
        format!("KeBugCheckEx({code:#x}, {a:#x}, {b:#x}, {c:#x}, {d:#x})"),
    )
}

pub(super) extern "efiapi" fn ke_bug_check(code: u32) {
    fail(rules::DRIVER_BUGCHECK, format!("KeBugCheck({code:#x})"))
}

/// A queued DPC in a block about to be freed [M3].
pub(crate) fn queued_in(k: &Kernel, start: Va, len: usize) -> Option<String> {
    let inside = |va: Va| (start..start + len).contains(&va);
    let queued = k.ke.dpcs.iter().find(|q| inside(q.dpc))?;
    Some(format!("queued DPC at +{:#x}", queued.dpc - start))
}

/// What other live kernel object lies in a block about to be freed [M3].
pub(crate) fn busy_in(k: &Kernel, start: Va, len: usize) -> Option<String> {
    let inside = |va: Va| (start..start + len).contains(&va);
    if let Some(t) = k.ke.timers.iter().find(|t| inside(t.va)) {
        return Some(format!("armed timer at +{:#x}", t.va - start));
    }
    for (tid, t) in &k.sched.threads {
        if let Some(o) = t.waits_on.iter().find(|o| inside(**o)) {
            return Some(format!(
                "object at +{:#x} that thread {tid} waits for",
                o - start
            ));
        }
    }
    if let Some((l, (tid, _))) = k.ke.owners.iter().find(|(l, _)| inside(**l)) {
        return Some(format!("lock at +{:#x} held by thread {tid}", l - start));
    }
    None
}

/// Forgets lock order of memory that is gone.
pub(crate) fn forget(k: &mut Kernel, start: Va, len: usize) {
    let inside = |va: &Va| (start..start + len).contains(va);
    k.ke.order.retain(|l, _| !inside(l));
    for set in k.ke.order.values_mut() {
        set.retain(|l| !inside(l));
    }
}

/// What of a driver's is still armed at unload.
pub(crate) fn armed_in_image(k: &Kernel, start: Va, len: usize) -> Vec<String> {
    let inside = |va: Va| (start..start + len).contains(&va);
    k.ke.timers
        .iter()
        .filter_map(|t| {
            let dpc: Va = peek(t.va + TIMER_DPC);
            (inside(t.va) || dpc != 0 && inside(peek(dpc + DPC_ROUTINE)))
                .then(|| format!("armed timer {:#x}", t.va))
        })
        .chain(
            k.ke.dpcs
                .iter()
                .filter(|q| inside(peek(q.dpc + DPC_ROUTINE)))
                .map(|q| format!("queued DPC {:#x}", q.dpc)),
        )
        .collect()
}
