//! A request that waits for something to happen, or for its time to be over.

use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use wdk_sys::{KDPC, PVOID};

use crate::ioctl::Status;
use crate::kernel::{
    Device, Disposition, Irp, Passive, Role,
    irp::FileId,
    milliseconds,
    open::OpenRef,
    pool::PoolBox,
    queue::{Admission, Pick, Queue, admit_of},
    usb::{Timer, flush_deferred},
};

/// The place of a request that waits, one at a time. Its cancellation ends it.
pub(crate) struct Pending {
    queue: Queue<PendingPlace>,
    timer: PoolBox<Timer>,
    /// The timer is made. Changed in the PnP path alone.
    has_timer: AtomicBool,
}

/// Who ends requests whose time is over.
pub(crate) trait PendingOwner: Send + Sync + 'static {
    /// The time of the request may be over, at `DISPATCH_LEVEL`: [`Pending::next_late`] says it.
    fn time_over(&self);
}

/// Success: a request may wait.
struct PendingPlace(Status);

impl Admission for PendingPlace {
    /// [`Irp::program`]
    type Arriving = Option<OpenRef>;
    /// Its ticket: when its time is over, on the clock of [`milliseconds`].
    type Carried = u64;
    type Aside = ();

    const MOST: u32 = 1;

    fn admit(&mut self, program: &mut Option<OpenRef>, _: &mut u64) -> Result<(), Status> {
        if !self.0.is_success() {
            return Err(self.0);
        }
        admit_of(*program)
    }

    fn ticket(deadline: &u64) -> u64 {
        *deadline
    }
}

/// 100 ns in a millisecond.
const HUNDRED_NS: u64 = 10_000;

impl Pending {
    /// A place for requests of `device`, which is closed.
    ///
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(crate) fn try_new<R: Role>(device: Device<'_, R>) -> Result<Self, Status> {
        Ok(Self {
            queue: Queue::try_new(device, PendingPlace(Status::DEVICE_NOT_READY), ())?,
            timer: PoolBox::try_new(Timer::new())?,
            has_timer: AtomicBool::new(false),
        })
    }

    /// Requests may wait from now on. `owner` has this place, always the same, and stays where it
    /// is until [`Pending::close`]. PnP path only.
    pub(crate) fn open<T: PendingOwner>(&self, owner: &T, _: Passive) {
        if !self.has_timer.swap(true, Ordering::Relaxed) {
            let context = ptr::from_ref(owner).cast_mut().cast();
            // SAFETY: once, and a box does not move.
            unsafe { self.timer.initialize(Some(time_over::<T>), context) };
        }
        self.refuse(Status::SUCCESS);
    }

    /// Ends the request with `status`, and refuses others with it. No call of
    /// [`PendingOwner::time_over`] runs afterwards. PnP path only.
    pub(crate) fn close(&self, status: Status, passive: Passive) {
        self.refuse(status);
        self.end(status);
        if self.has_timer.load(Ordering::Relaxed) {
            self.timer.cancel();
            flush_deferred(passive);
        }
    }

    fn refuse(&self, status: Status) {
        self.queue.with(move |place, _| place.0 = status);
    }

    /// Ends the request with `status`. At <= `DISPATCH_LEVEL`.
    pub(crate) fn end(&self, status: Status) {
        self.queue.end_all(Pick::Oldest, status);
    }

    /// `IRP_MJ_CLEANUP`: ends the request of its open.
    pub(crate) fn clean_up(&self, file: FileId) {
        self.queue.end_all(Pick::Of(file), Status::CANCELLED);
    }

    /// Whether a request waits.
    pub(crate) fn is_taken(&self) -> bool {
        self.queue.with(|_, queued| queued.count() != 0)
    }

    /// Lets a request wait, for `milliseconds`, if there is such a limit. Who looks for what it
    /// waits for looks once more after this. At <= `DISPATCH_LEVEL`.
    pub(crate) fn wait(&self, irp: Irp, milliseconds_left: Option<u32>) -> Disposition {
        let mut program = irp.waiting_program();
        let deadline = milliseconds_left.map_or(u64::MAX, |left| {
            milliseconds().saturating_add(u64::from(left))
        });
        match self.queue.insert(irp, &mut program, deadline) {
            Ok(pending) => {
                if let Some(left) = milliseconds_left {
                    self.start_timer(|_| Some(left.into()));
                }
                pending
            }
            Err((irp, _, refusal)) => irp.complete(refusal).pending(),
        }
    }

    /// Takes the request.
    pub(crate) fn next(&self) -> Option<Irp> {
        self.queue.next(Pick::Oldest).map(|(irp, _)| irp)
    }

    /// Takes the request if its time is over; of another the timer goes on. At <= `DISPATCH_LEVEL`.
    pub(crate) fn next_late(&self) -> Option<Irp> {
        let now = milliseconds();
        let late = self.queue.next(Pick::Before(now.saturating_add(1)));
        if late.is_none() {
            // The timer was a former request's, and ran out as it ended: it is this one's now.
            self.start_timer(|deadline| {
                (deadline != u64::MAX).then(|| deadline.saturating_sub(now).max(1))
            });
        }
        late.map(|(irp, _)| irp)
    }

    /// Starts the timer, with so many milliseconds, if a request waits. It may be another one than
    /// the caller has seen: no harm, see [`Pending::next_late`].
    fn start_timer(&self, time: impl FnOnce(u64) -> Option<u64> + Send) {
        let timer = &*self.timer;
        self.queue.with(move |place, queued| {
            // A place that is closed has seen the end of its timer.
            let deadline = queued.first().filter(|_| place.0.is_success());
            if let Some(milliseconds) = deadline.and_then(time) {
                // SAFETY: `open` made the timer, before requests were let in; `close`, which comes
                // before the owner goes, waits for it.
                unsafe { timer.start(milliseconds.saturating_mul(HUNDRED_NS)) };
            }
        });
    }
}

unsafe extern "C" fn time_over<T: PendingOwner>(
    _dpc: *mut KDPC,
    context: PVOID,
    _first: PVOID,
    _second: PVOID,
) {
    // SAFETY: `open` passed it, and it stays until `close` has waited for this.
    unsafe { &*context.cast::<T>() }.time_over();
}
