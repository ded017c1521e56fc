//! What the device objects to in the host: edges that no step expects, set-up times, data on the bus
//! while the device drives it.

use super::super::Phase;
use super::{Device, EPP_EXIT, HOST_ANSWER, MOST_VIOLATIONS, PATIENCE, Step};
use crate::{HostLines, Nanos, Violation, ViolationKind};

impl Device {
    /// When the device ends a termination that the host does not finish.
    pub(super) const fn own_end(&self) -> Nanos {
        self.asked.saturating_add(HOST_ANSWER)
    }

    pub(super) const fn is_terminating(&self) -> bool {
        matches!(self.phase(), Phase::Termination)
    }

    pub(super) fn violation(&mut self, kind: ViolationKind) {
        if self.violations.len() < MOST_VIOLATIONS {
            let time = self.now;
            self.violations.push(Violation {
                since: time,
                time,
                kind,
            });
        }
    }

    /// Notes an event that is not the standard's next, unless the device is to blame.
    pub(super) fn out_of_order(&mut self) {
        if !self.excused {
            self.violation(ViolationKind::OutOfOrder);
        }
    }

    /// Notes when both sides begin to drive the data lines.
    pub(super) fn check_bus(&mut self) {
        let conflict = self.host.drives_data && self.data().is_some();
        if conflict && !self.conflict {
            self.violation(ViolationKind::BusConflict);
        }
        self.conflict = conflict;
    }

    /// Keeps the times of edges, and notes those that no step expects.
    pub(super) fn note_edges(&mut self, before: HostLines, host: HostLines) {
        let now = self.now;
        if before.bus(None) != host.bus(None) {
            self.data_since = Some(now);
            if matches!(self.step, Step::Called | Step::Asked | Step::Strobed) {
                self.violation(ViolationKind::HoldTooShort);
            }
        }
        let fell = |before: bool, now: bool| before && !now;
        if fell(before.n_strobe, host.n_strobe) {
            self.strobe_fell = now;
        }
        if fell(host.n_strobe, before.n_strobe) {
            self.strobe_width = now - self.strobe_fell;
        }
        if fell(before.n_auto_fd, host.n_auto_fd) {
            self.auto_fd_fell = now;
        }
        if fell(before.n_init, host.n_init) {
            self.init_fell = now;
        }
        if fell(host.n_init, before.n_init)
            && core::mem::take(&mut self.init_masked)
            && now - self.init_fell < EPP_EXIT
        {
            self.violation(ViolationKind::ResetTooShort);
        }
        // The end of a mode is always allowed, though it may lose data.
        let leaving = !host.n_select_in && self.phase() != Phase::Epp;
        if leaving || self.trouble.dead {
            return;
        }
        if self.now >= self.asked.saturating_add(PATIENCE) && self.owes() {
            self.excused = true;
        }
        let strobe = before.n_strobe != host.n_strobe;
        let auto_fd = before.n_auto_fd != host.n_auto_fd;
        let init = before.n_init != host.n_init;
        let wrong = strobe && !self.expects_strobe()
            || auto_fd && !self.expects_auto_fd()
            || init && !self.expects_init();
        if wrong {
            self.out_of_order();
        }
    }

    /// Whether nStrobe may change now.
    const fn expects_strobe(&self) -> bool {
        match self.step {
            // nWrite may end together with the strobe.
            Step::EppCycle | Step::EppAcked => self.host.n_auto_fd && self.host.n_select_in,
            step => matches!(
                step,
                Step::Compatibility
                    | Step::Asked
                    | Step::Strobed
                    | Step::AwaitClock
                    | Step::Clock
                    | Step::Epp
                    | Step::EppEnding
                    | Step::Forward
                    | Step::Taking
                    | Step::Taken
                    | Step::Recovering
                    | Step::Recovered
                    | Step::Ending
                    | Step::Ended
                    | Step::Restoring
                    | Step::Restored
            ),
        }
    }

    /// Whether nAutoFd may change now.
    const fn expects_auto_fd(&self) -> bool {
        !matches!(
            self.step,
            Step::Called
                | Step::Asked
                | Step::Answering
                | Step::SettingUp
                | Step::Offering
                | Step::Closing
                | Step::Clock
                | Step::Turning
                | Step::ReverseOffering
                | Step::ReverseClosing
                | Step::TurningBack
        )
    }

    /// Whether nInit may change now: in EPP mode to end it, in ECP mode to turn round.
    const fn expects_init(&self) -> bool {
        match self.phase() {
            Phase::Compatibility | Phase::Epp | Phase::EcpReverse | Phase::Termination => true,
            Phase::EcpForward => !matches!(self.step, Step::Setup | Step::SettingUp | Step::Taken),
            _ => false,
        }
    }

    /// Whether the device has an answer to give.
    const fn owes(&self) -> bool {
        matches!(
            self.step,
            Step::Called
                | Step::Answering
                | Step::Offering
                | Step::Closing
                | Step::EppCycle
                | Step::EppEnding
                | Step::SettingUp
                | Step::Taking
                | Step::Releasing
                | Step::Recovering
                | Step::Resuming
                | Step::Turning
                | Step::ReverseClosing
                | Step::TurningBack
                | Step::Ending
                | Step::Restoring
        )
    }
}
