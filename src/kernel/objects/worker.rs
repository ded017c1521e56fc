//! The thread of a device object, and the requests that it serves.

use core::{
    marker::PhantomData,
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering},
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
    open::OpenRef,
    queue::{Admission, Pick, Queue, admit_of},
    size,
    sync::Event,
};
use crate::{ioctl::Status, sharing::Serving};

/// The priority of a thread that waits for a peripheral with open eyes: one less than programs
/// have.
const LOW_PRIORITY: i32 = 7;

/// A thread that serves the queued requests of one device object, one at a time, in order: each as
/// the `Q` that dispatch has parsed it to, which travels with its IRP.
pub(crate) struct Worker<Q: Send + 'static>(Queue<WorkerQueue<Q>>);

/// What a worker's thread serves.
pub(crate) trait Server: Send + Sync + 'static {
    /// A request as it travels with its IRP to the thread.
    type Carried: Send + 'static;

    /// Its worker, always the same.
    fn worker(&self) -> &Worker<Self::Carried>;

    /// A request that was queued to the worker, now in its thread.
    fn serve(&self, task: Task, request: Self::Carried) -> Disposition;
}

/// The thread of a worker, whatever it serves: it is beside the lock of the worker's queue.
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
    /// Whose request is being served.
    serving: Serving<AtomicUsize>,
    /// That of the request that is being served.
    cancellation: Cancellation,
    /// A request ended whose end a thread waits for.
    changed: Event,
}

/// A queue that lets every request in while its status is a success.
struct WorkerQueue<Q> {
    status: Status,
    carried: PhantomData<fn() -> Q>,
}

impl<Q: Send + 'static> Admission for WorkerQueue<Q> {
    /// [`Irp::program`]
    type Arriving = Option<OpenRef>;
    type Carried = Q;
    type Aside = WorkerThread;

    fn admit(&mut self, program: &mut Option<OpenRef>, _: &mut Q) -> Result<(), Status> {
        if self.status.is_success() {
            admit_of(*program)
        } else {
            Err(self.status)
        }
    }

    fn taken(thread: &WorkerThread, file: FileId) {
        let cancellation = &thread.cancellation;
        thread
            .serving
            .begin(file.address(), || cancellation.begin());
    }
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
        Ok(Self(Queue::try_new(
            device,
            WorkerQueue {
                status: Status::DEVICE_NOT_READY,
                carried: PhantomData,
            },
            WorkerThread {
                wake: Event::synchronization()?,
                waiter: Waiter::try_new()?,
                handle: SpinLock::new(None),
                object: AtomicPtr::new(ptr::null_mut()),
                priority: AtomicI32::new(0),
                serving: Serving::new(AtomicUsize::new(0)),
                changed: Event::notification()?,
                cancellation: Cancellation::try_new()?,
            },
        )?))
    }

    fn thread(&self) -> &WorkerThread {
        self.0.aside()
    }

    /// Starts the thread of `server`'s worker, unless it runs. `server` is part of its device
    /// object's role, and stays where it is until [`Worker::stop`]. PnP path only.
    ///
    /// # Errors
    /// What `PsCreateSystemThread` says.
    pub(crate) fn start<S: Server<Carried = Q>>(server: &S, _: Passive) -> Result<(), Status> {
        let this = server.worker();
        let own = this.thread();
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
        let own = self.thread();
        own.waiter.stop(status);
        self.0.end_all(Pick::Oldest, status);
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
        let pending = match self.0.insert(irp, &mut program, request) {
            Ok(pending) => pending,
            Err((irp, _, refusal)) => irp.complete(refusal).pending(),
        };
        self.thread().wake.set();
        pending
    }

    /// What the queue answers from now on: success opens it.
    fn refuse(&self, status: Status) {
        self.0.with(move |queue, _| queue.status = status);
    }

    /// `IRP_MJ_CLEANUP`: ends the requests of its open, the queued ones now, a running one as soon
    /// as it notices. None is left then: requests that drivers made do not keep the open alive.
    ///
    /// The dispatch routine has noted first that the open is cleaned up: a request on its way from
    /// the queue to the thread sees it.
    pub(crate) fn clean_up(&self, file: FileId, passive: Passive) {
        self.0.end_all(Pick::Of(file), Status::CANCELLED);
        while self.ends_soon(file) {
            self.thread().changed.wait(passive.blocking());
        }
    }

    /// The next request, which is being served from now on.
    fn next(&self) -> Option<(Irp, Q)> {
        if self.0.is_empty() {
            return None;
        }
        let (irp, request) = self.0.next(Pick::ToServe)?;
        // SAFETY: a worker whose thread runs does not move; `Task::ended` lets the IRP go.
        unsafe { self.thread().cancellation.follow(&irp) };
        Some((irp, request))
    }

    /// Whether a request of this open is being served, which shall end.
    fn ends_soon(&self, file: FileId) -> bool {
        let own = self.thread();
        // Under the lock, so that the note is not the next request's.
        self.0.with(|_, _| {
            let end = || own.cancellation.request();
            own.serving.ends_soon(file.address(), &own.changed, end)
        })
    }

    fn run<S: Server<Carried = Q>>(&self, server: &S, passive: Passive) {
        let own = self.thread();
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
    // SAFETY: the kernel calls this.
    let routine = unsafe { Routine::new() };
    // SAFETY: a system thread runs at PASSIVE_LEVEL.
    let passive = unsafe { Passive::of(&routine) };
    // SAFETY: `start` passed it, and it is dropped after the worker was stopped.
    let server = unsafe { &*context.cast::<S>() };
    server.worker().run(server, passive);
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
    #[inline]
    fn ended(self) -> Irp {
        Cancellation::let_go(&self.irp);
        let worker = self.worker;
        if worker.serving.end() {
            worker.changed.set();
        }
        self.irp
    }

    /// Ends a read or write that moved `count` bytes.
    #[inline]
    pub(crate) fn complete_transfer(self, status: Status, count: usize) -> Disposition {
        self.ended().complete_with(status, count)
    }

    /// Ends the request with data.
    pub(crate) fn answer(self, data: &[u8]) -> Disposition {
        self.ended().answer(data)
    }
}
