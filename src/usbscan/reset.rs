//! `IOCTL_RESET_PIPE`, and what else ends the transfers of a pipe.

use super::{OpenPipe, ScannerCore, open::pipe_mask, plan::Plan};
use crate::{
    ioctl::Status,
    kernel::{Passive, PipeQueue, Shared, Waits},
};

impl ScannerCore {
    /// Resets a pipe, in `limit` milliseconds from when it has no transfers. What is under way on
    /// it, for whichever handle, ends with `STATUS_CANCELLED`; what is queued goes on afterwards.
    ///
    /// A pipe may be reset only without transfers. So none begins, those that there are are
    /// cancelled, and when the last one is back the pipe is reset.
    ///
    /// They are cancelled by their IRPs. `URB_FUNCTION_ABORT_PIPE` does the same for all transfers
    /// of a pipe and leaves the pipe and its endpoint as they are (`_URB_HEADER` page). All of them
    /// are this driver's, so it would end no other; it would take memory, which a cancellation
    /// does not need; it may complete before the transfers, so they had to be waited for all the
    /// same; it could overtake one that is being sent; and where one handle's requests end, it
    /// would end those of other handles on the same pipe.
    ///
    /// # Errors
    /// What the USB stack says; `STATUS_IO_TIMEOUT`; as [`OpenPipe::handle`] and
    /// [`Waits::check`].
    pub(super) fn reset_pipe(
        &self,
        pipe: &OpenPipe,
        waits: &Waits<'_>,
        limit: u32,
        passive: Passive,
    ) -> Result<(), Status> {
        let index = pipe.index();
        self.urb_gate().hold(pipe_mask(index), passive);
        self.on_queues_of(index, |pipe_queue| pipe_queue.end_active(Status::CANCELLED));
        let mut result = Ok(());
        while result.is_ok() && !self.is_idle(index) {
            result = self.urb_gate().wait_for_change(waits);
        }
        let result = result.and_then(|()| {
            let handle = || pipe.handle();
            self.device()
                .reset_pipe(handle, self.urb_gate(), waits, limit, passive)
        });
        if result.is_ok() {
            self.on_queues_of(index, |pipe_queue| pipe_queue.discard());
        }
        self.urb_gate().release(pipe_mask(index), passive);
        self.on_queues_of(index, Shared::resume);
        result
    }

    /// Does this with every handle's queue of a pipe.
    fn on_queues_of(&self, index: usize, mut act: impl FnMut(&Shared<PipeQueue<Plan>>)) {
        self.opens().for_each(|open| {
            if let Some(pipe_queue) = open.queue_of(index) {
                act(pipe_queue);
            }
        });
    }

    fn is_idle(&self, index: usize) -> bool {
        let mut idle = true;
        self.on_queues_of(index, |pipe_queue| idle &= pipe_queue.is_idle());
        idle
    }
}
