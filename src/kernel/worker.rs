use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

use wdk_sys::{
    DEVICE_OBJECT, HANDLE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PVOID, STATUS_SUCCESS,
    THREAD_ALL_ACCESS,
    ntddk::{PsCreateSystemThread, PsTerminateSystemThread, ZwClose, ZwWaitForSingleObject},
};

use super::{
    Device, Disposition, Irp, Passive, Role, SpinLock, check, irp::Cancellation, queue::Queue,
    size, sync::Event, time::yield_now,
};
use crate::ioctl::Status;

/// The longest single wait of a request, in milliseconds: how fast it notices a cancellation.
const SLICE_MS: u32 = 10;

/// A thread that serves the queued requests of one device object, one at a time, in order.
pub(crate) struct Worker {
    queue: Queue,
    /// Something was queued, or the worker shall stop.
    wake: Event,
    /// The worker shall stop; stays signalled.
    stop: Event,
    stopping: AtomicBool,
    /// What requests end with while the worker stops.
    stop_status: AtomicI32,
    thread: SpinLock<Option<Thread>>,
}

/// The handle of a system thread.
struct Thread(HANDLE);

// SAFETY: a kernel handle is good in every thread.
unsafe impl Send for Thread {}

impl Worker {
    /// A worker for the requests of `device`, not started yet.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            queue: Queue::try_new(device)?,
            wake: Event::synchronization()?,
            stop: Event::notification()?,
            stopping: AtomicBool::new(false),
            stop_status: AtomicI32::new(0),
            thread: SpinLock::new(None),
        })
    }

    /// Starts the thread, unless it runs. `device` is the one that this worker belongs to: its
    /// role's `serve` is called. PnP path only.
    ///
    /// # Errors
    /// What `PsCreateSystemThread` says.
    pub(crate) fn start<R: Role>(&self, device: Device<'_, R>, _: Passive) -> Result<(), Status> {
        if self.thread.with(|thread| thread.is_some()) {
            return Ok(());
        }
        self.stopping.store(false, Ordering::Release);
        self.stop.reset();
        let mut attributes = OBJECT_ATTRIBUTES {
            Length: size::<OBJECT_ATTRIBUTES>(),
            Attributes: OBJ_KERNEL_HANDLE,
            ..OBJECT_ATTRIBUTES::default()
        };
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: at PASSIVE_LEVEL. `stop` joins the thread before the device object goes.
        check(unsafe {
            PsCreateSystemThread(
                &raw mut handle,
                THREAD_ALL_ACCESS,
                &raw mut attributes,
                ptr::null_mut(),
                ptr::null_mut(),
                Some(thread::<R>),
                device.raw().cast(),
            )
        })?;
        let new = Thread(handle);
        self.thread.with(move |thread| *thread = Some(new));
        self.queue.set_refusal(None);
        Ok(())
    }

    /// Ends every request, queued and running, with `status`, and the thread; new requests are
    /// refused with `status`. A stopped worker stays so. PnP path only.
    pub(crate) fn stop(&self, status: Status, _: Passive) {
        self.queue.set_refusal(Some(status));
        self.stop_status.store(status.0, Ordering::Relaxed);
        self.stopping.store(true, Ordering::Release);
        self.stop.set();
        while let Some(irp) = self.queue.next(None) {
            let _ = irp.complete(status);
        }
        if let Some(Thread(handle)) = self.thread.with(Option::take) {
            self.wake.set();
            // SAFETY: our handle, at PASSIVE_LEVEL; the thread ends soon, for every wait of its
            // tasks does.
            let _ = unsafe { ZwWaitForSingleObject(handle, 0, ptr::null_mut()) };
            // SAFETY: our handle, closed once.
            let _ = unsafe { ZwClose(handle) };
        }
    }

    /// Hands a request to the worker. At <= `DISPATCH_LEVEL`.
    pub(crate) fn queue(&self, irp: Irp) -> Disposition {
        let pending = self.queue.insert(irp);
        self.wake.set();
        pending
    }

    /// `IRP_MJ_CLEANUP`: ends the requests of its open, the queued ones now, a running one as soon
    /// as it notices, and completes the IRP.
    pub(crate) fn clean_up(&self, irp: Irp) -> Disposition {
        let file = irp.file();
        // First the note, then the queue: a request on its way from one to the other sees it.
        file.set_cleaned_up();
        while let Some(queued) = self.queue.next(Some(file)) {
            let _ = queued.complete(Status::CANCELLED);
        }
        irp.complete(Status::SUCCESS)
    }

    fn run<R: Role>(&self, role: &R, passive: Passive) {
        loop {
            while let Some(irp) = self.queue.next(None) {
                let _ = role.serve(Task {
                    irp,
                    worker: self,
                    passive,
                });
            }
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            self.wake.wait(passive);
        }
    }
}

unsafe extern "C" fn thread<R: Role>(context: PVOID) {
    if let Some(object) = NonNull::new(context.cast::<DEVICE_OBJECT>()) {
        // SAFETY: a system thread runs at PASSIVE_LEVEL.
        let passive = unsafe { Passive::new() };
        // SAFETY: the device object outlives its worker.
        let device = unsafe { Device::<R>::from_raw(object) };
        // SAFETY: the role, too: it is dropped after the worker was stopped.
        let role = unsafe { device.role() };
        if let Some(worker) = role.worker() {
            worker.run(role, passive);
        }
    }
    // SAFETY: this is a system thread that PsCreateSystemThread made.
    let _ = unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
}

/// A request in the hands of a worker.
#[must_use = "a task must be completed"]
pub(crate) struct Task<'a> {
    irp: Irp,
    worker: &'a Worker,
    passive: Passive<'a>,
}

impl Task<'_> {
    /// The request.
    pub(crate) const fn irp(&self) -> &Irp {
        &self.irp
    }

    /// The waits of the request.
    pub(crate) fn waits(&self) -> Waits<'_> {
        Waits {
            cancellation: self.irp.cancellation(),
            worker: self.worker,
            passive: self.passive,
        }
    }

    /// The waits of a read, and the room for its bytes.
    pub(crate) fn read_parts(&mut self) -> (Waits<'_>, &mut [u8]) {
        let buffer = core::ptr::from_mut(self.irp.read_buffer());
        let waits = self.waits();
        // SAFETY: the buffer is none of the memory that `waits` looks at, and both are borrowed
        // from this value.
        (waits, unsafe { &mut *buffer })
    }

    /// Ends the request without data.
    pub(crate) fn complete(self, status: Status) -> Disposition {
        self.irp.complete(status)
    }

    /// Ends a read or write that moved `count` bytes.
    pub(crate) fn complete_transfer(self, status: Status, count: usize) -> Disposition {
        self.irp.complete_with(status, count)
    }

    /// Ends the request with data.
    pub(crate) fn answer(self, data: &[u8]) -> Disposition {
        self.irp.answer(data)
    }
}

/// The waits of one request: they end when it is cancelled or its worker stops.
pub(crate) struct Waits<'a> {
    cancellation: Cancellation<'a>,
    worker: &'a Worker,
    passive: Passive<'a>,
}

impl Waits<'_> {
    /// Whether the request shall go on.
    ///
    /// # Errors
    /// The status to end it with: `STATUS_CANCELLED`, or why the worker stops.
    pub(crate) fn check(&self) -> Result<(), Status> {
        if self.worker.stopping.load(Ordering::Acquire) {
            return Err(Status(self.worker.stop_status.load(Ordering::Relaxed)));
        }
        if self.cancellation.is_requested() {
            return Err(Status::CANCELLED);
        }
        Ok(())
    }

    /// Lets other threads run that wait for the processor.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(crate) fn yield_now(&self) -> Result<(), Status> {
        yield_now(self.passive);
        self.check()
    }

    /// Waits for about `milliseconds`.
    ///
    /// # Errors
    /// As [`Waits::check`]; the wait ends early then.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result<(), Status> {
        let mut left = milliseconds;
        loop {
            self.check()?;
            if left == 0 {
                return Ok(());
            }
            let slice = left.min(SLICE_MS);
            self.worker.stop.wait_for(slice, self.passive);
            left -= slice;
        }
    }
}
