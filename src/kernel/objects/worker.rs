//! The thread of a device object, and the requests that it serves.

use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicI32, AtomicPtr, Ordering},
};

use wdk_sys::{
    _KTHREAD, HANDLE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PVOID, STATUS_SUCCESS,
    THREAD_ALL_ACCESS,
    ntddk::{
        KeSetPriorityThread, ObReferenceObjectByHandle, ObfDereferenceObject, PsCreateSystemThread,
        PsTerminateSystemThread, ZwClose, ZwWaitForSingleObject,
    },
};

use crate::kernel::{
    Blocking, Device, Disposition, Irp, KERNEL_MODE, Passive, Role, SpinLock, Waiter, Waits,
    cancel::Cancellation,
    check,
    irp::FileId,
    irql::Routine,
    queue::{Pick, Queue, Refusal},
    size,
    sync::Event,
};
use crate::{ioctl::Status, sharing::Serving};

/// The priority of a thread that waits for a peripheral with open eyes: one less than programs
/// have.
const LOW_PRIORITY: i32 = 7;

/// A thread that serves the queued requests of one device object, one at a time, in order: each as
/// the `Q` that dispatch has parsed it to, which travels with its IRP.
pub(crate) struct Worker<Q> {
    queue: Queue<Refusal<Q>>,
    thread: WorkerThread,
}

/// What a worker's thread serves.
pub(crate) trait Server: Send + Sync + 'static {
    /// A request as it travels with its IRP to the thread.
    type Carried: Send + 'static;

    /// Its worker, always the same.
    fn worker(&self) -> &Worker<Self::Carried>;

    /// A request that was queued to the worker, now in its thread.
    fn serve(&self, task: Task, request: Self::Carried) -> Disposition;
}

/// The thread of a worker, whatever it serves.
pub(in crate::kernel) struct WorkerThread {
    /// Something was queued, or the worker shall stop.
    wake: Event,
    /// Whose waits end when the worker shall stop.
    waiter: Waiter,
    handle: SpinLock<Option<Thread>>,
    /// The thread's object, while it has one that its priority can be changed by.
    object: AtomicPtr<_KTHREAD>,
    /// The priority that the thread had before [`Worker::stand_back`]; 0 while it has that.
    priority: AtomicI32,
    serving: SpinLock<Serving<FileId>>,
    /// That has changed since the last one who waits for it reset this, under its lock.
    changed: Event,
    /// Of the request that is being served.
    cancellation: Cancellation,
}

/// The handle of a system thread.
struct Thread(HANDLE);

// SAFETY: a kernel handle is good in every thread.
unsafe impl Send for Thread {}

impl<Q: Send + 'static> Worker<Q> {
    /// A worker for the requests of `device`, not started yet.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            queue: Queue::try_new(device, Refusal::new(Status::DEVICE_NOT_READY))?,
            thread: WorkerThread {
                wake: Event::synchronization()?,
                waiter: Waiter::try_new()?,
                handle: SpinLock::new(None),
                object: AtomicPtr::new(ptr::null_mut()),
                priority: AtomicI32::new(0),
                serving: SpinLock::new(Serving::Nothing),
                changed: Event::notification()?,
                cancellation: Cancellation::try_new()?,
            },
        })
    }

    /// Starts the thread of `server`'s worker, unless it runs. `server` is part of its device
    /// object's role, and stays where it is until [`Worker::stop`]. PnP path only.
    ///
    /// # Errors
    /// What `PsCreateSystemThread` says.
    pub(crate) fn start<S: Server<Carried = Q>>(server: &S, _: Passive) -> Result<(), Status> {
        let this = server.worker();
        let own = &this.thread;
        if own.handle.with(|thread| thread.is_some()) {
            return Ok(());
        }
        own.waiter.resume();
        let mut attributes = OBJECT_ATTRIBUTES {
            Length: size::<OBJECT_ATTRIBUTES>(),
            Attributes: OBJ_KERNEL_HANDLE,
            ..OBJECT_ATTRIBUTES::default()
        };
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL. `stop` joins the thread before the role goes, and with it the
        // server.
        check(unsafe {
            PsCreateSystemThread(
                &raw mut handle,
                THREAD_ALL_ACCESS,
                &raw mut attributes,
                ptr::null_mut(),
                ptr::null_mut(),
                Some(thread::<S>),
                ptr::from_ref(server).cast_mut().cast(),
            )
        })?;
        own.object.store(object_of(handle), Ordering::Release);
        let new = Thread(handle);
        own.handle.with(move |thread| *thread = Some(new));
        this.refuse(Status::SUCCESS);
        Ok(())
    }

    /// Ends every request, queued and running, with `status`, and the thread; new requests are
    /// refused with `status`. A stopped worker stays so. PnP path only.
    pub(crate) fn stop(&self, status: Status, _: Passive) {
        self.refuse(status);
        let own = &self.thread;
        own.waiter.stop(status);
        self.queue.end_all(Pick::Oldest, status);
        if let Some(Thread(handle)) = own.handle.with(Option::take) {
            own.wake.set();
            // SAFETY: our handle, at PASSIVE_LEVEL; the thread ends soon, for every wait of its
            // tasks does.
            let _ = unsafe { ZwWaitForSingleObject(handle, 0, ptr::null_mut()) };
            // SAFETY: our handle, closed once.
            let _ = unsafe { ZwClose(handle) };
            let object = own.object.swap(ptr::null_mut(), Ordering::AcqRel);
            if !object.is_null() {
                // SAFETY: `object_of` referenced it; the thread, which used it, has ended.
                unsafe { ObfDereferenceObject(object.cast()) };
            }
        }
    }

    /// Hands a request to the worker. At <= `DISPATCH_LEVEL`.
    pub(crate) fn queue(&self, irp: Irp, request: Q) -> Disposition {
        let mut program = irp.waiting_program();
        let pending = match self.queue.insert(irp, &mut program, request) {
            Ok(pending) => pending,
            Err((irp, _, refusal)) => irp.complete(refusal).pending(),
        };
        self.thread.wake.set();
        pending
    }

    /// What the queue answers from now on: success opens it.
    fn refuse(&self, status: Status) {
        self.queue.with(move |refusal, _| refusal.status = status);
    }

    /// `IRP_MJ_CLEANUP`: ends the requests of its open, the queued ones now, a running one as soon
    /// as it notices. None is left then: requests that drivers made do not keep the open alive.
    ///
    /// The dispatch routine has noted first that the open is cleaned up: a request on its way from
    /// the queue to the thread sees it.
    pub(crate) fn clean_up(&self, file: FileId, passive: Passive) {
        self.queue.end_all(Pick::Of(file), Status::CANCELLED);
        while self.thread.ends_soon(file) {
            self.thread.changed.wait(passive.blocking());
        }
    }

    /// The next request, which is being served from now on.
    fn next(&self) -> Option<(Irp, Q)> {
        let own = &self.thread;
        own.set_serving(Serving::Next);
        let next = self.queue.next(Pick::Oldest);
        own.set_serving(
            next.as_ref()
                .map_or(Serving::Nothing, |(irp, _)| Serving::Request(irp.file())),
        );
        if let Some((irp, _)) = &next {
            // SAFETY: a worker whose thread runs does not move; `Task::ended` lets the IRP go.
            unsafe { own.cancellation.follow(irp) };
        }
        next
    }

    fn run<S: Server<Carried = Q>>(&self, server: &S, passive: Passive) {
        let own = &self.thread;
        loop {
            while let Some((irp, request)) = self.next() {
                let task = Task {
                    irp,
                    worker: own,
                    passive,
                };
                let _ = server.serve(task, request);
            }
            if own.waiter.check().is_err() {
                return;
            }
            own.wake.wait(passive.blocking());
        }
    }
}

impl WorkerThread {
    pub(in crate::kernel) const fn waiter(&self) -> &Waiter {
        &self.waiter
    }

    pub(in crate::kernel) const fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// In the worker's thread: every thread that programs use comes before it from now on.
    pub(in crate::kernel) fn stand_back(&self, blocking: Blocking<'_>) {
        if self.priority.load(Ordering::Relaxed) == 0
            && let Some(before) = self.set_priority(LOW_PRIORITY, blocking)
        {
            self.priority.store(before, Ordering::Relaxed);
        }
    }

    /// The end of [`Worker::stand_back`].
    pub(in crate::kernel) fn stand_up(&self, blocking: Blocking<'_>) {
        let before = self.priority.swap(0, Ordering::Relaxed);
        if before != 0 {
            self.set_priority(before, blocking);
        }
    }

    /// Sets the priority of the worker's thread, which calls this; gives the one before.
    fn set_priority(&self, priority: i32, _: Blocking<'_>) -> Option<i32> {
        let object = self.object.load(Ordering::Acquire);
        // SAFETY: the thread runs, and is one that this driver made; at PASSIVE_LEVEL, as workers
        // are.
        (!object.is_null()).then(|| unsafe { KeSetPriorityThread(object, priority) })
    }

    /// Whether a request is being served, or will be in a moment, that is of this open. One that is
    /// being served shall end.
    fn ends_soon(&self, file: FileId) -> bool {
        let (cancellation, changed) = (&self.cancellation, &self.changed);
        self.serving
            .with(move |it| it.ends_soon(&file, changed, || cancellation.request()))
    }

    fn set_serving(&self, what: Serving<FileId>) {
        let (cancellation, changed) = (&self.cancellation, &self.changed);
        self.serving
            .with(move |it| it.set(what, changed, || cancellation.begin()));
    }
}

/// The object of a system thread of ours, referenced; null, if there is no way to it.
fn object_of(handle: HANDLE) -> *mut _KTHREAD {
    let mut object: PVOID = ptr::null_mut();
    // SAFETY: a kernel handle of ours, at PASSIVE_LEVEL.
    let status = unsafe {
        ObReferenceObjectByHandle(
            handle,
            THREAD_ALL_ACCESS,
            // Optional in kernel mode.
            ptr::null_mut(),
            KERNEL_MODE,
            &raw mut object,
            ptr::null_mut(),
        )
    };
    if wdk::nt_success(status) {
        object.cast()
    } else {
        ptr::null_mut()
    }
}

unsafe extern "C" fn thread<S: Server>(context: PVOID) {
    if let Some(server) = NonNull::new(context.cast::<S>()) {
        // SAFETY: the kernel calls this.
        let routine = unsafe { Routine::new() };
        // SAFETY: a system thread runs at PASSIVE_LEVEL.
        let passive = unsafe { Passive::of(&routine) };
        // SAFETY: `start` passed it, and it is dropped after the worker was stopped.
        let server = unsafe { server.as_ref() };
        server.worker().run(server, passive);
    }
    // SAFETY: this is a system thread that PsCreateSystemThread made.
    let _ = unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

/// A request in the hands of a worker.
#[must_use = "a task must be completed"]
pub(crate) struct Task<'a> {
    irp: Irp,
    worker: &'a WorkerThread,
    passive: Passive<'a>,
}

impl Task<'_> {
    /// The request.
    pub(crate) const fn irp(&self) -> &Irp {
        &self.irp
    }

    /// The waits of the request.
    pub(crate) fn waits(&self) -> Waits<'_> {
        Waits::of_request(self.worker, self.passive.blocking())
    }

    /// The waits of a read, and the room for its bytes.
    pub(crate) fn read_parts(&mut self) -> (Waits<'_>, &mut [u8]) {
        let buffer = core::ptr::from_mut(self.irp.read_buffer());
        let waits = self.waits();
        // SAFETY: the buffer is none of the memory that `waits` looks at, and both are borrowed
        // from this value.
        (waits, unsafe { &mut *buffer })
    }

    /// Copies bytes to the beginning of the buffer of a direct read.
    ///
    /// # Errors
    /// As [`Irp::copy_to_caller`].
    pub(crate) fn copy_to_caller(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.irp.copy_to_caller(0, bytes)
    }

    /// The level that the worker's thread runs at.
    pub(crate) const fn passive(&self) -> Passive<'_> {
        self.passive
    }

    /// Ends the request without data.
    pub(crate) fn complete(self, status: Status) -> Disposition {
        self.ended().complete(status)
    }

    /// The request, which goes on without the worker.
    pub(crate) fn into_irp(self) -> Irp {
        self.ended()
    }

    /// The request, which ends now. Its end may be that of its open, too.
    fn ended(self) -> Irp {
        Cancellation::let_go(&self.irp);
        self.worker.set_serving(Serving::Nothing);
        self.irp
    }

    /// Ends a read or write that moved `count` bytes.
    pub(crate) fn complete_transfer(self, status: Status, count: usize) -> Disposition {
        self.ended().complete_with(status, count)
    }

    /// Ends the request with data.
    pub(crate) fn answer(self, data: &[u8]) -> Disposition {
        self.ended().answer(data)
    }
}
