//! The points of a run at which a test may do something: before a call that can fail, a port access,
//! a URB, and an IRP of a driver.
//!
//! A test is asked at each of them, in the thread that has come there. What it does is done before
//! the thread goes on, as far as that can be: a removal, for example, waits for the PnP IRP that is
//! under way.

use crate::sched::When;
use crate::state::with;
use crate::{DriverId, Machine};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// A kernel call that can fail, as fault injection counts it.
    Call,
    /// An access to a port.
    Port,
    /// A URB that a driver submits.
    Urb,
    /// An IRP for a driver's dispatch routine.
    Irp,
}

/// What a test wants at a point.
pub enum Choice {
    /// Nothing.
    Go,
    /// The call fails; only at [`Point::Call`].
    Fail,
    /// This, in a thread of its own that runs first.
    Act(Box<dyn FnOnce(&Machine)>),
}

pub(crate) type Decide = Box<dyn FnMut(Point) -> Choice>;

/// The running thread is at a point. Gives whether the call fails.
pub(crate) fn reach(point: Point) -> bool {
    let Some(mut decide) = with(|k| k.points.take()) else {
        return false;
    };
    let choice = decide(point);
    with(|k| k.points = Some(decide));
    match choice {
        Choice::Go => false,
        Choice::Fail => true,
        Choice::Act(act) => {
            // Due always, and before every other thread.
            with(|k| k.sched.add_hook(When::KernelCall(0), act));
            crate::sched::wait("its turn", None, |_| true);
            false
        }
    }
}

/// To be called in a process that was forked while a machine is alive: what programs see as their
/// memory is shared with the parent until then.
pub fn after_fork() {
    with(|k| k.user.part());
}

impl Machine {
    /// Asks `decide` at every point from now on. It may fork this process: it runs between two
    /// instructions of the driver.
    pub fn at_points(&self, decide: impl FnMut(Point) -> Choice + 'static) {
        with(|k| k.points = Some(Box::new(decide)));
    }

    /// Asks no more.
    pub fn no_points(&self) {
        with(|k| k.points = None);
    }

    /// Cancels every read, write and control request that this driver has and did not make itself,
    /// as `IoCancelIrp`. Gives how many there were.
    ///
    /// # Errors
    /// A broken rule.
    pub fn cancel_all(&self, driver: DriverId) -> Result<usize, crate::Bugcheck> {
        crate::sched::call("cancel", move || {
            let irps = with(|k| crate::iomgr::requests_of(k, driver));
            irps.iter()
                .filter(|irp| with(|k| !k.io.is_done(**irp)))
                .for_each(|irp| {
                    crate::iomgr::cancel(*irp);
                });
            irps.len()
        })
    }
}
