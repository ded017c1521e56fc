//! An interrupt line whose service routines are those of kernel clients, and whose edges are noted
//! for a program.

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    mem::transmute,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering},
};

use wdk_sys::{
    _KINTERRUPT, _KINTERRUPT_MODE, BOOLEAN, IO_CONNECT_INTERRUPT_PARAMETERS,
    IO_DISCONNECT_INTERRUPT_PARAMETERS, KDPC, PVOID,
    ntddk::{
        IoConnectInterruptEx, IoDisconnectInterruptEx, KeAcquireInterruptSpinLock,
        KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeReleaseInterruptSpinLock,
    },
};

use crate::kernel::{
    FileId, InterruptResource, IoRange, Mutex, Passive, PhysicalDevice, Rundown, SpinLock, check,
    pool::PoolBox, time::counter,
};
use crate::{
    ioctl::{
        Status,
        parallel::{
            InterruptServiceRoutine,
            port_programs::{Edge, EdgeRing},
        },
    },
    sharing::{self, Rounds},
};

/// `CONNECT_FULLY_SPECIFIED`: in group 0 of the processors.
const CONNECT_FULLY_SPECIFIED: u32 = 1;
/// `CONNECT_FULLY_SPECIFIED_GROUP`: in any group.
const CONNECT_FULLY_SPECIFIED_GROUP: u32 = 4;
/// The most clients of one line.
const MOST: usize = 8;

/// `PKSERVICE_ROUTINE`
type ServiceRoutine = unsafe extern "C" fn(*mut _KINTERRUPT, PVOID) -> BOOLEAN;
/// `PPARALLEL_DEFERRED_ROUTINE`
type DeferredRoutine = unsafe extern "C" fn(PVOID);

/// An interrupt line whose service routines are those of kernel clients, and whose edges are noted
/// while a device watches them. It is connected while there are clients, or a watch.
pub(crate) struct Interrupt(PoolBox<InterruptState>);

struct InterruptState {
    /// One client at a time comes or goes.
    change: Mutex,
    clients: SpinLock<InterruptClients>,
    /// The deferred routines, each in its gate: a client that goes waits until its own is done.
    deferred: [Rundown<Deferred>; MOST],
    object: AtomicPtr<_KINTERRUPT>,
    /// Keeps `object` connected for who has not the turn.
    connected: SpinLock<()>,
    /// Edges are watched. Changed by who has the turn.
    watched: AtomicBool,
    /// What the service routine notes. Used under the interrupt's spin lock.
    watch: UnsafeCell<Watch>,
    /// Tells the owner of edges.
    edges_dpc: UnsafeCell<KDPC>,
    /// How it was connected: it is disconnected in the same way.
    version: AtomicU32,
    /// What the service routine calls. Changed under the interrupt's spin lock.
    table: UnsafeCell<[Option<Client>; MOST]>,
    dpc: UnsafeCell<KDPC>,
    /// The DPCs are made. Changed by who has the turn.
    has_dpc: AtomicBool,
    /// The calls of the deferred routines, which one processor makes, or leaves to the DPC.
    checks: Rounds<AtomicU8, AtomicBool>,
}

/// What the service routine knows of edges.
struct Watch {
    /// Where the status register is. `None`: edges are not watched.
    status: Option<(IoRange, u16)>,
    /// The edges are those that the watch is for.
    counting: bool,
    ring: EdgeRing,
}

/// How often one thread calls the deferred routines in a row. A routine that takes the port and
/// frees it has them called again each time; other threads come to their turn in between.
const ROUNDS: u32 = 16;

// SAFETY: each member says who may change it.
unsafe impl Send for InterruptState {}
// SAFETY: likewise.
unsafe impl Sync for InterruptState {}

/// The clients in the order in which they came, their opens, and their gates.
type InterruptClients = [Option<(Client, FileId, usize)>; MOST];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Client {
    routine: usize,
    context: usize,
}

#[derive(Clone, Copy)]
struct Deferred {
    routine: DeferredRoutine,
    context: PVOID,
}

// SAFETY: code and context of a client, which may be used in any thread.
unsafe impl Send for Deferred {}
// SAFETY: likewise.
unsafe impl Sync for Deferred {}

/// Who owns an interrupt line.
pub(crate) trait InterruptOwner: Send + Sync + 'static {
    /// What [`Interrupt::request_later`] asked for, at `DISPATCH_LEVEL`.
    fn later(&self);

    /// There are edges that the watch is for, at `DISPATCH_LEVEL`.
    fn edges_came(&self);
}

/// Which clients go.
#[derive(Clone, Copy)]
enum Leaving {
    One(Client),
    OfOpen(FileId),
}

impl Leaving {
    fn include(self, client: Client, file: FileId) -> bool {
        match self {
            Self::One(one) => one == client,
            Self::OfOpen(open) => open == file,
        }
    }
}

impl Interrupt {
    /// A line that is not connected.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new(passive: Passive) -> Result<Self, Status> {
        Ok(Self(PoolBox::try_new(InterruptState {
            change: Mutex::try_new()?,
            clients: SpinLock::new([None; MOST]),
            deferred: core::array::from_fn(|_| Rundown::closed(passive)),
            object: AtomicPtr::new(ptr::null_mut()),
            connected: SpinLock::new(()),
            watched: AtomicBool::new(false),
            watch: UnsafeCell::new(Watch {
                status: None,
                counting: false,
                ring: EdgeRing::EMPTY,
            }),
            edges_dpc: UnsafeCell::new(KDPC::default()),
            version: AtomicU32::new(CONNECT_FULLY_SPECIFIED),
            table: UnsafeCell::new([None; MOST]),
            dpc: UnsafeCell::new(KDPC::default()),
            has_dpc: AtomicBool::new(false),
            checks: Rounds::new(AtomicU8::new(sharing::IDLE), AtomicBool::new(false)),
        })?))
    }

    /// Adds a client, which came through the open `file`, behind the others, and connects the line
    /// for the first one. Comes back with the address of the interrupt object. `owner` has this
    /// line, and outlives its clients.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: no service routine, or one that is there already with the same
    /// context. `STATUS_INSUFFICIENT_RESOURCES`: too many clients. What `IoConnectInterruptEx`
    /// says.
    pub(crate) fn add<T: InterruptOwner>(
        &self,
        owner: &T,
        pdo: PhysicalDevice,
        resource: InterruptResource,
        file: FileId,
        routine: InterruptServiceRoutine,
        passive: Passive,
    ) -> Result<u64, Status> {
        let inner = &*self.0;
        let _change = inner.change.lock_uninterrupted(passive.blocking());
        let client = Client::of(routine).ok_or(Status::INVALID_PARAMETER)?;
        let clients = inner.clients.with(|clients| *clients);
        let known = || clients.iter().flatten();
        if known().any(|(other, ..)| *other == client) {
            return Err(Status::INVALID_PARAMETER);
        }
        let taken = known().fold(0_u32, |taken, (.., gate)| taken | 1 << gate);
        let gate = taken.trailing_ones() as usize;
        if gate >= MOST {
            return Err(Status::INSUFFICIENT_RESOURCES);
        }
        if inner.object.load(Ordering::Acquire).is_null() {
            self.connect(owner, pdo, resource)?;
        }
        if let Some(deferred) = Deferred::of(routine)
            && let Some(gate) = inner.deferred.get(gate)
        {
            gate.open(deferred, passive);
        }
        self.set(move |clients| {
            if let Some(place) = clients.iter_mut().find(|place| place.is_none()) {
                *place = Some((client, file, gate));
            }
        });
        Ok(inner.object.load(Ordering::Acquire).expose_provenance() as u64)
    }

    /// Takes a client away; its routines are not called any more. The last one takes the
    /// connection with it.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: there is no such client.
    pub(crate) fn remove(
        &self,
        routine: InterruptServiceRoutine,
        passive: Passive,
    ) -> Result<(), Status> {
        let client = Client::of(routine).ok_or(Status::INVALID_PARAMETER)?;
        if self.remove_leaving(Leaving::One(client), passive) {
            Ok(())
        } else {
            Err(Status::INVALID_PARAMETER)
        }
    }

    /// Takes the clients of an open away.
    pub(crate) fn clean_up(&self, file: FileId, passive: Passive) {
        if self.is_used() {
            self.remove_leaving(Leaving::OfOpen(file), passive);
        }
    }

    /// Takes clients away. Whether there were any.
    fn remove_leaving(&self, leaving: Leaving, passive: Passive) -> bool {
        let inner = &*self.0;
        let _change = inner.change.lock_uninterrupted(passive.blocking());
        let before = inner.clients.with(|clients| *clients);
        self.set(|clients| {
            let left = clients
                .map(|place| place.filter(|(client, file, _)| !leaving.include(*client, *file)));
            *clients = [None; MOST];
            // The others move up.
            for (place, client) in clients.iter_mut().zip(left.into_iter().flatten()) {
                *place = Some(client);
            }
        });
        let mut any = false;
        for (_, _, gate) in before
            .into_iter()
            .flatten()
            .filter(|(client, file, _)| leaving.include(*client, *file))
        {
            any = true;
            if let Some(gate) = inner.deferred.get(gate) {
                gate.close(passive);
            }
        }
        self.disconnect_unused(passive);
        any
    }

    /// Takes all clients away.
    pub(crate) fn clear(&self, passive: Passive) {
        let inner = &*self.0;
        let _change = inner.change.lock_uninterrupted(passive.blocking());
        self.set(|clients| *clients = [None; MOST]);
        for gate in &inner.deferred {
            gate.close(passive);
        }
        self.disconnect_unused(passive);
        // Whatever a client has asked the DPC for at this moment.
        // SAFETY: at PASSIVE_LEVEL.
        unsafe { KeFlushQueuedDpcs() };
    }

    /// Takes the watch and all clients away: the line goes.
    pub(crate) fn end(&self, passive: Passive) {
        self.unwatch(passive);
        self.clear(passive);
    }

    /// Begins to note edges, in a ring that is empty, with what the `status` register shows then;
    /// they count from [`Interrupt::count_edges`] on. Connects the line, unless it is. `owner` is
    /// as for [`Interrupt::add`].
    ///
    /// # Errors
    /// What `IoConnectInterruptEx` says.
    pub(crate) fn watch<T: InterruptOwner>(
        &self,
        owner: &T,
        pdo: PhysicalDevice,
        resource: InterruptResource,
        status: (IoRange, u16),
        passive: Passive,
    ) -> Result<(), Status> {
        let inner = &*self.0;
        let _change = inner.change.lock_uninterrupted(passive.blocking());
        if inner.object.load(Ordering::Acquire).is_null() {
            self.connect(owner, pdo, resource)?;
        }
        inner.watched.store(true, Ordering::Relaxed);
        self.synchronized(move |watch| {
            watch.status = Some(status);
            watch.counting = false;
            watch.ring.clear();
        });
        Ok(())
    }

    /// The end of [`Interrupt::watch`]. What was noted and not told is forgotten.
    pub(crate) fn unwatch(&self, passive: Passive) {
        let inner = &*self.0;
        let _change = inner.change.lock_uninterrupted(passive.blocking());
        if inner.watched.swap(false, Ordering::Relaxed) {
            self.synchronized(|watch| {
                watch.status = None;
                watch.counting = false;
                watch.ring.clear();
            });
            self.disconnect_unused(passive);
            // No call of `InterruptOwner::edges_came` runs afterwards.
            // SAFETY: at PASSIVE_LEVEL.
            unsafe { KeFlushQueuedDpcs() };
        }
    }

    /// Whether edges count from now on. When this returns, no service routine runs that saw it
    /// otherwise. At <= `DISPATCH_LEVEL`.
    pub(crate) fn count_edges(&self, counting: bool) {
        self.synchronized(move |watch| watch.counting = counting);
    }

    /// Whether there are edges that were not told. At <= `DISPATCH_LEVEL`.
    pub(crate) fn has_edges(&self) -> bool {
        self.synchronized(|watch| !watch.ring.is_empty()) == Some(true)
    }

    /// Moves edges into an answer, see [`EdgeRing::answer`]: its bytes. `None`: there is no watch.
    /// At <= `DISPATCH_LEVEL`.
    pub(crate) fn answer_edges(&self, room: &mut [u8], frequency: u64) -> Option<usize> {
        self.synchronized(move |watch| watch.ring.answer(room, frequency))
    }

    /// Runs `section`, a short one, while no service routine of the line runs. `None`: the line is
    /// not connected. At <= `DISPATCH_LEVEL`.
    fn synchronized<R>(&self, section: impl FnOnce(&mut Watch) -> R + Send) -> Option<R> {
        let inner = &*self.0;
        inner.connected.with(move |()| {
            let object = inner.object.load(Ordering::Acquire);
            if object.is_null() {
                return None;
            }
            // SAFETY: connected as long as the lock is held; <= DIRQL.
            let irql = unsafe { KeAcquireInterruptSpinLock(object) };
            // SAFETY: under the lock that the service routine runs with.
            let result = section(unsafe { &mut *inner.watch.get() });
            // SAFETY: acquired above.
            unsafe { KeReleaseInterruptSpinLock(object, irql) };
            Some(result)
        })
    }

    /// Whether the line is connected.
    pub(crate) fn is_used(&self) -> bool {
        !self.0.object.load(Ordering::Acquire).is_null()
    }

    /// The port was freed, and no client waits for it: calls the clients' deferred routines, in the
    /// order in which they came, unless a processor does already: then it calls them once more. At
    /// <= `DISPATCH_LEVEL`.
    pub(crate) fn call_deferred(&self) {
        if self.is_used() && self.0.checks.ask() {
            self.tell_clients();
        }
    }

    /// What the DPC does for a thread that has called the routines often enough.
    pub(crate) fn call_deferred_later(&self) {
        if self.0.checks.take_over() {
            self.tell_clients();
        }
    }

    /// Calls the deferred routines, until the port was not freed meanwhile. By the processor that
    /// was asked to, or has taken it over.
    fn tell_clients(&self) {
        let inner = &*self.0;
        for _ in 0..ROUNDS {
            inner.checks.begin();
            let clients = inner.clients.with(|clients| *clients);
            for (_, _, gate) in clients.iter().flatten() {
                if let Some(inside) = inner.deferred.get(*gate).and_then(Rundown::enter) {
                    let Deferred { routine, context } = inside.value();
                    // SAFETY: the client gave both for this call, and cannot go before it is done.
                    unsafe { routine(context) };
                }
            }
            if inner.checks.end() {
                return;
            }
        }
        // Without clients there is no DPC, and no client to be told.
        inner.checks.hand_over(|| self.request_later());
    }

    /// Has the owner's `later` called soon. Whether it will be: not without clients. At any IRQL,
    /// from a client's service routine.
    pub(crate) fn request_later(&self) -> bool {
        let used = self.is_used();
        if used {
            // SAFETY: initialised when the line was connected; nonpaged.
            unsafe { KeInsertQueueDpc(self.0.dpc.get(), ptr::null_mut(), ptr::null_mut()) };
        }
        used
    }

    /// Changes the clients, and with them what the service routine calls.
    fn set(&self, change: impl FnOnce(&mut InterruptClients) + Send) {
        let inner = &*self.0;
        let table = inner.clients.with(|clients| {
            change(clients);
            clients.map(|place| place.map(|(client, ..)| client))
        });
        let object = inner.object.load(Ordering::Acquire);
        if object.is_null() {
            return;
        }
        // SAFETY: the line is connected; <= DIRQL.
        let irql = unsafe { KeAcquireInterruptSpinLock(object) };
        // SAFETY: under the lock that the service routine runs with.
        unsafe { *inner.table.get() = table };
        // SAFETY: acquired above.
        unsafe { KeReleaseInterruptSpinLock(object, irql) };
    }

    fn connect<T: InterruptOwner>(
        &self,
        owner: &T,
        pdo: PhysicalDevice,
        resource: InterruptResource,
    ) -> Result<(), Status> {
        let inner = &*self.0;
        let level = u8::try_from(resource.level).map_err(|_| Status::DEVICE_CONFIGURATION_ERROR)?;
        if !inner.has_dpc.swap(true, Ordering::AcqRel) {
            let context = ptr::from_ref(owner).cast_mut().cast();
            // SAFETY: once, before a service routine can queue it.
            unsafe { KeInitializeDpc(inner.dpc.get(), Some(later::<T>), context) };
            // SAFETY: likewise.
            unsafe { KeInitializeDpc(inner.edges_dpc.get(), Some(edges::<T>), context) };
        }
        let version = if resource.group == 0 {
            CONNECT_FULLY_SPECIFIED
        } else {
            CONNECT_FULLY_SPECIFIED_GROUP
        };
        inner.version.store(version, Ordering::Relaxed);
        let mut object = ptr::null_mut();
        let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
            Version: version,
            ..IO_CONNECT_INTERRUPT_PARAMETERS::default()
        };
        // SAFETY: the version says which member is used; plain data.
        let specified = unsafe { &mut parameters.__bindgen_anon_1.FullySpecified };
        specified.PhysicalDeviceObject = pdo.raw();
        specified.InterruptObject = &raw mut object;
        specified.ServiceRoutine = Some(service);
        specified.ServiceContext = ptr::from_ref(inner).cast_mut().cast();
        specified.SynchronizeIrql = level;
        specified.Irql = level;
        specified.ShareVector = u8::from(resource.shared);
        specified.Vector = resource.vector;
        specified.InterruptMode = if resource.latched {
            _KINTERRUPT_MODE::Latched
        } else {
            _KINTERRUPT_MODE::LevelSensitive
        };
        specified.ProcessorEnableMask = resource.affinity;
        specified.Group = resource.group;
        // SAFETY: at PASSIVE_LEVEL; the resource is the device's, and the context outlives the
        // connection.
        check(unsafe { IoConnectInterruptEx(&raw mut parameters) })?;
        inner.object.store(object, Ordering::Release);
        Ok(())
    }

    /// Disconnects the line, if there is neither client nor watch. By who has the turn.
    fn disconnect_unused(&self, passive: Passive) {
        let inner = &*self.0;
        let unused = inner
            .clients
            .with(|clients| clients.iter().all(Option::is_none));
        if unused && !inner.watched.load(Ordering::Relaxed) {
            self.disconnect(passive);
        }
    }

    fn disconnect(&self, _: Passive) {
        let inner = &*self.0;
        let object = inner
            .connected
            .with(|()| inner.object.swap(ptr::null_mut(), Ordering::AcqRel));
        if object.is_null() {
            return;
        }
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: self.0.version.load(Ordering::Relaxed),
            ..IO_DISCONNECT_INTERRUPT_PARAMETERS::default()
        };
        parameters.ConnectionContext.InterruptObject = object;
        // SAFETY: at PASSIVE_LEVEL; connected with this version. No service routine runs after it.
        unsafe { IoDisconnectInterruptEx(&raw mut parameters) };
        // SAFETY: at PASSIVE_LEVEL. The DPC that a service routine queued last is done after it.
        unsafe { KeFlushQueuedDpcs() };
        // SAFETY: no service routine runs.
        unsafe { *self.0.table.get() = [None; MOST] };
    }
}

impl Client {
    fn of(routine: InterruptServiceRoutine) -> Option<Self> {
        let address = usize::try_from(routine.routine).ok()?;
        (address != 0).then_some(Self {
            routine: address,
            context: usize::try_from(routine.context).ok()?,
        })
    }
}

impl Deferred {
    fn of(routine: InterruptServiceRoutine) -> Option<Self> {
        let address = usize::try_from(routine.deferred_routine).ok()?;
        let address = NonNull::new(ptr::with_exposed_provenance_mut::<c_void>(address))?;
        Some(Self {
            // SAFETY: a kernel client, who says that this is its routine.
            routine: unsafe { transmute::<NonNull<c_void>, DeferredRoutine>(address) },
            context: ptr::with_exposed_provenance_mut(
                usize::try_from(routine.deferred_context).ok()?,
            ),
        })
    }
}

/// The service routine of the line: notes the edge, and calls all clients. At DIRQL, under the
/// interrupt's lock.
unsafe extern "C" fn service(object: *mut _KINTERRUPT, context: PVOID) -> BOOLEAN {
    // SAFETY: `connect` passed it, and it outlives the connection.
    let inner = unsafe { &*context.cast::<InterruptState>() };
    // SAFETY: under the interrupt's lock.
    let watch = unsafe { &mut *inner.watch.get() };
    let mut claimed = 0;
    if let Watch {
        status: Some((range, offset)),
        counting: true,
        ring,
    } = watch
    {
        // The clock first: a look at the lines takes a microsecond.
        let stamp = counter();
        let status = range.read(*offset);
        ring.push(Edge { stamp, status });
        // SAFETY: initialised when the line was connected; nonpaged.
        unsafe { KeInsertQueueDpc(inner.edges_dpc.get(), ptr::null_mut(), ptr::null_mut()) };
        claimed = 1;
    }
    // SAFETY: under the interrupt's lock.
    let table = unsafe { &*inner.table.get() };
    for client in table.iter().flatten() {
        let routine = ptr::with_exposed_provenance::<c_void>(client.routine);
        // SAFETY: not null, and a kernel client said that it is its routine.
        let routine = unsafe { transmute::<*const c_void, ServiceRoutine>(routine) };
        // SAFETY: the client gave both for this call.
        claimed |= unsafe { routine(object, ptr::with_exposed_provenance_mut(client.context)) };
    }
    claimed
}

unsafe extern "C" fn edges<T: InterruptOwner>(
    _dpc: *mut KDPC,
    context: PVOID,
    _argument1: PVOID,
    _argument2: PVOID,
) {
    // SAFETY: `connect` passed it; the disconnection waits for queued DPCs.
    unsafe { &*context.cast::<T>() }.edges_came();
}

unsafe extern "C" fn later<T: InterruptOwner>(
    _dpc: *mut KDPC,
    context: PVOID,
    _argument1: PVOID,
    _argument2: PVOID,
) {
    // SAFETY: `connect` passed it; the disconnection waits for queued DPCs.
    unsafe { &*context.cast::<T>() }.later();
}
