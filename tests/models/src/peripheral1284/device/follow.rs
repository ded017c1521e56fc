//! The host's events: which step follows from the lines that the host sets, mode by mode.

use alloc::collections::VecDeque;

use super::super::Phase;
use super::{Device, Given, Latched, PULSE, Step};
use crate::{HostLines, ViolationKind};

impl Device {
    /// Goes as far as the host's lines allow.
    pub(super) fn react(&mut self) {
        while self.follow() {}
    }

    /// One step for the host's lines as they are; `false` when there is nothing to do.
    fn follow(&mut self) -> bool {
        match self.phase() {
            Phase::Compatibility => false,
            _ if self.trouble.dead => false,
            Phase::Termination => self.follow_termination(),
            Phase::Epp => self.follow_epp(),
            _ if !self.host.n_select_in => {
                self.leave();
                true
            }
            Phase::Negotiation => self.follow_negotiation(),
            Phase::Refused => false,
            Phase::Nibble | Phase::Byte => self.follow_reverse(),
            Phase::EcpForward => self.follow_ecp_forward(),
            Phase::EcpReverse => self.follow_ecp_reverse(),
        }
    }

    fn follow_negotiation(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::Asked if !host.n_strobe => {
                self.request = host.bus(None);
                self.step = Step::Strobed;
            }
            Step::Strobed if host.n_strobe && host.n_auto_fd => {
                if self.strobe_width < PULSE {
                    self.violation(ViolationKind::StrobeTooShort);
                }
                self.go(Step::Answering, 6);
            }
            _ => return false,
        }
        true
    }

    fn follow_reverse(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::HostBusy if !host.n_auto_fd => {
                if let Some(offer) = self.next_offer() {
                    self.offer = offer;
                    self.half = false;
                    self.step = Step::Offering;
                    self.answer_in(9, self.response_time().max(self.byte_time));
                } else {
                    self.step = Step::ReverseIdle;
                }
            }
            Step::ReverseIdle if host.n_auto_fd => self.step = Step::HostBusy,
            Step::ReverseIdle if self.has_data() => {
                self.go(Step::Waking, 18);
            }
            Step::Waking if host.n_auto_fd && self.pending.is_none() => {
                self.lines.n_ack = true;
                self.step = Step::HostBusy;
                self.show_data_available(); // event 21
            }
            Step::Offered if host.n_auto_fd => {
                if self.half || self.is_byte_mode() {
                    self.sent();
                }
                self.go(Step::Closing, 11);
            }
            Step::HalfByte if !host.n_auto_fd => {
                self.half = true;
                self.go(Step::Offering, 9);
            }
            Step::AwaitClock if !host.n_strobe => self.step = Step::Clock,
            Step::AwaitClock if !host.n_auto_fd => {
                self.out_of_order(); // without events 16 and 17
                self.step = Step::HostBusy;
            }
            Step::Clock if host.n_strobe => {
                if self.strobe_width < PULSE {
                    self.violation(ViolationKind::StrobeTooShort);
                }
                self.step = Step::HostBusy;
            }
            _ => return false,
        }
        true
    }

    fn follow_epp(&mut self) -> bool {
        let host = self.host;
        if !host.n_init {
            // Event 68.
            self.init_masked = !self.epp_exit_resets;
            self.terminations += 1;
            self.back_to_compatibility();
            return true;
        }
        let strobed = !host.n_auto_fd || !host.n_select_in;
        match self.step {
            Step::Epp if strobed => {
                let both = !host.n_auto_fd && !host.n_select_in;
                if both {
                    self.out_of_order();
                }
                self.latched = Latched {
                    byte: host.bus(None),
                    command: host.n_auto_fd,
                    write: !host.n_strobe,
                };
                if !self.latched.write {
                    self.data = Some(self.epp_register());
                } else if !host.drives_data {
                    self.violation(ViolationKind::DataNotDriven);
                }
                self.step = Step::EppCycle;
                self.asked = self.now;
                if self.takes_epp_cycle() {
                    self.answer(58);
                }
            }
            Step::EppCycle if !strobed => {
                // The host gave up.
                self.pending = None;
                self.data = None;
                self.step = Step::Epp;
            }
            Step::EppAcked if !strobed => {
                self.data = None;
                self.step = Step::EppEnding;
                self.answer_in(60, self.response_time().max(self.byte_time));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn takes_epp_cycle(&self) -> bool {
        let forward = self.latched.write && !self.latched.command;
        self.trouble.wait_stuck.is_none() && (self.is_ready() || !forward)
    }

    /// What an EPP read of the register in `latched` shows.
    fn epp_register(&self) -> u8 {
        if self.latched.command {
            return self.epp_address;
        }
        let own = self.epp_sources.get(&self.epp_address);
        let all = self.source.iter().find_map(|given| match given {
            Given::Data(byte) => Some(*byte),
            Given::Channel(_) => None,
        });
        own.and_then(VecDeque::front)
            .copied()
            .or(all)
            .unwrap_or(0xFF)
    }

    /// The byte of an EPP data read has gone.
    pub(super) fn epp_sent(&mut self) {
        let own = self.epp_sources.get_mut(&self.epp_address);
        if own.and_then(VecDeque::pop_front).is_none() {
            while let Some(Given::Channel(_)) = self.source.pop_front() {}
        }
        self.moved += 1;
    }

    fn follow_ecp_forward(&mut self) -> bool {
        let host = self.host;
        match self.step {
            Step::Setup if !host.n_auto_fd => {
                self.go(Step::SettingUp, 31);
            }
            Step::Forward if !host.n_strobe => {
                if self.lines.busy {
                    self.violation(ViolationKind::NotReady);
                }
                if !host.drives_data {
                    self.violation(ViolationKind::DataNotDriven);
                }
                self.latched = Latched {
                    byte: host.bus(None),
                    command: !host.n_auto_fd,
                    write: true,
                };
                self.step = Step::Taking;
                self.asked = self.now;
                if self.trouble.stall_forward {
                    self.excused = true;
                } else {
                    self.answer(36);
                }
            }
            Step::Forward if !host.n_init => {
                if host.n_auto_fd {
                    self.out_of_order(); // without event 38
                } else if self.now - self.auto_fd_fell < PULSE {
                    self.violation(ViolationKind::SetUpTooShort);
                }
                self.go(Step::Turning, 40);
            }
            Step::Taking if !host.n_init => {
                self.pending = None;
                self.step = Step::Recovering;
                self.asked = self.now;
                if !self.trouble.no_recovery {
                    self.answer(73);
                }
            }
            Step::Taking if host.n_strobe => {
                self.out_of_order(); // the host takes the byte back
                self.pending = None;
                self.step = Step::Forward;
            }
            Step::Taken if host.n_strobe => {
                self.step = Step::Releasing;
                self.byte_done();
                if self.step == Step::Releasing && self.is_ready() {
                    self.answer_in(32, self.response_time().max(self.byte_time));
                }
            }
            Step::Recovered if host.n_strobe && host.n_init => {
                self.go(Step::Resuming, 75);
            }
            _ => return false,
        }
        true
    }

    fn follow_ecp_reverse(&mut self) -> bool {
        let host = self.host;
        if host.n_init && self.step != Step::TurningBack {
            // Event 47.
            self.pending = None;
            self.go(Step::TurningBack, 49);
            return true;
        }
        match self.step {
            Step::Reverse if !host.n_auto_fd && !self.trouble.stall_reverse => {
                let Some(offer) = self.next_offer() else {
                    return false;
                };
                self.offer = offer;
                self.step = Step::ReverseOffering;
                self.answer_in(43, self.response_time().max(self.byte_time));
            }
            Step::ReverseOffered if host.n_auto_fd => {
                self.sent();
                self.go(Step::ReverseClosing, 45);
            }
            Step::ReverseClosed if !host.n_auto_fd => {
                self.step = Step::Reverse;
                self.byte_done();
            }
            _ => return false,
        }
        true
    }

    fn follow_termination(&mut self) -> bool {
        let host = self.host;
        if host.n_select_in || !host.n_strobe {
            // Something else begins before the end.
            self.out_of_order();
            self.end_immediately();
            return true;
        }
        if !host.n_init {
            self.end_immediately();
            return true;
        }
        match self.step {
            Step::Ended if !host.n_auto_fd => {
                self.go(Step::Restoring, 27);
            }
            Step::Restored if host.n_auto_fd => {
                self.terminations += 1;
                self.back_to_compatibility();
            }
            _ => return false,
        }
        true
    }

    /// nSelectIn is low in another mode than EPP.
    fn leave(&mut self) {
        self.pending = None;
        self.data = None;
        let idle = matches!(
            self.step,
            Step::Refused
                | Step::HostBusy
                | Step::ReverseIdle
                | Step::Waking
                | Step::AwaitClock
                | Step::Setup
                | Step::Forward
                | Step::Releasing
        );
        let host = self.host;
        if idle && host.n_strobe && host.n_init && !self.trouble.silent {
            if self.step == Step::AwaitClock || !host.n_auto_fd {
                self.out_of_order();
            }
            self.lines.busy = true; // event 23
            self.lines.n_fault = true;
            self.go(Step::Ending, 24);
        } else if self.phase() == Phase::Negotiation {
            self.back_to_compatibility();
        } else {
            self.end_immediately();
        }
    }

    pub(super) fn end_immediately(&mut self) {
        self.immediate_terminations += 1;
        self.back_to_compatibility();
    }

    pub(super) fn back_to_compatibility(&mut self) {
        self.step = Step::Compatibility;
        self.pending = None;
        self.data = None;
        self.forget_mode();
        // The data lines changed when they did, and not now.
        self.printer.data_since = self.data_since;
        if let Some(host) = &mut self.printer.host {
            host.data = self.host.data;
        }
        self.tell_printer();
        if is_event_1(self.host) {
            self.call();
        }
    }

    /// What does not outlive the mode.
    pub(super) fn forget_mode(&mut self) {
        self.trouble.silent = false;
        self.trouble.stall_forward &= self.trouble.no_recovery;
        self.excused = false;
        self.run = None;
        self.run_out = None;
        self.id_next = None;
    }
}

/// 1284 active and nAutoFd low, the rest at rest.
pub(super) const fn is_event_1(host: HostLines) -> bool {
    host.n_select_in && !host.n_auto_fd && host.n_strobe && host.n_init
}
