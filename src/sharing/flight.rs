//! The request that is being served, and who has it.

use crate::ioctl::Status;

/// The request that is being served. Its methods run under one lock.
///
/// While the USB stack has the request's IRP, `I`, it is in the hands of no one here, but several
/// look at it: its sender, its completion, those who cancel it. They are its holders, and the last
/// one to let go takes the request up again.
pub struct Flight<I> {
    /// There is one, or there will be in a moment.
    active: bool,
    /// Why it shall end.
    why: Option<Status>,
    /// When it shall end.
    deadline: Option<u64>,
    /// The request, while the USB stack has it.
    irp: Option<I>,
    /// Those who look at it meanwhile.
    holders: u32,
}

impl<I> Flight<I> {
    /// No request is being served.
    pub const IDLE: Self = Self {
        active: false,
        why: None,
        deadline: None,
        irp: None,
        holders: 0,
    };

    /// A request will be served in a moment: a thread that ends requests ends it, too.
    pub const fn announce(&mut self) {
        self.active = true;
        self.why = None;
    }

    /// There is no request, or it is over.
    pub const fn retire(&mut self) {
        self.active = false;
        self.deadline = None;
    }

    /// When the request shall end.
    pub const fn set_deadline(&mut self, deadline: u64) {
        self.deadline = Some(deadline);
    }

    /// Whether the request's time is over.
    pub fn is_over(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The request's IRP goes to the USB stack. From now on it has two holders: its sender and its
    /// completion.
    ///
    /// # Errors
    /// The request was told to end: it does not go out, and this is why.
    pub fn depart(
        &mut self,
        irp: I,
        is_cancelled: impl FnOnce(&I) -> bool,
    ) -> Result<(), (I, Status)> {
        // A thread that ends a request cancels its IRP, too: the note says why.
        let cancelled = || is_cancelled(&irp).then_some(Status::CANCELLED);
        if let Some(why) = self.why.or_else(cancelled) {
            return Err((irp, why));
        }
        self.irp = Some(irp);
        self.holders = 2;
        Ok(())
    }

    /// The request shall end with `status`, unless it is not there, or `of` does not mean it, or it
    /// was told already. If the USB stack has its IRP, the caller is a holder of it from now on and
    /// cancels it.
    pub fn end(&mut self, status: Status, of: impl FnOnce(&Self) -> bool) -> Option<&I> {
        if !self.active || self.why.is_some() || !of(self) {
            return None;
        }
        self.why = Some(status);
        let irp = self.irp.as_ref()?;
        self.holders += 1;
        Some(irp)
    }

    /// A holder lets go. For the last one: the IRP, which it goes on with, and why the request was
    /// told to end, if it was.
    pub fn release(&mut self) -> Option<(I, Option<Status>)> {
        self.holders = self.holders.saturating_sub(1);
        let last = self.holders == 0;
        Some((self.irp.take_if(|_| last)?, self.why))
    }
}
