//! The device's own events: when they come, and what they do to its lines.

use super::super::{Channel, extensibility};
use super::{Device, Latched, PATIENCE, PULSE, Step, Trigger};
use crate::{Nanos, PeripheralLines};

impl Device {
    pub(super) const fn response_time(&self) -> Nanos {
        match self.trouble.late {
            Some(time) => time,
            None => self.response,
        }
    }

    /// The next step begins with `event`, which the device owes.
    pub(super) fn go(&mut self, step: Step, event: u8) {
        self.step = step;
        self.answer(event);
    }

    pub(super) fn answer(&mut self, event: u8) {
        self.answer_in(event, self.response_time());
    }

    /// The device owes `event`, and gives it after `delay`.
    pub(super) fn answer_in(&mut self, event: u8, delay: Nanos) {
        self.asked = self.now;
        if !self.triggers.is_empty() {
            self.begin_trouble(|trigger| trigger == Trigger::Event(event));
        }
        // The trouble may take effect on this very answer.
        let delay = delay.max(self.trouble.late.unwrap_or(0));
        if delay > PATIENCE {
            self.excused = true;
        }
        if self.step == Step::Compatibility || self.trouble.dead {
        } else if self.trouble.silent {
            self.excused = true;
        } else if delay == 0 {
            self.happen(event);
        } else {
            self.pending = Some((self.now.saturating_add(delay), event));
        }
    }

    /// The lines of an event of the standard.
    pub(super) fn happen(&mut self, event: u8) {
        match event {
            2 => {
                self.lines = PeripheralLines {
                    busy: !self.is_ready(),
                    n_ack: false,
                    p_error: true,
                    select: true,
                    n_fault: true,
                };
                self.step = Step::Asked;
            }
            6 => self.answer_request(),
            9 => {
                if self.is_byte_mode() {
                    self.data = Some(self.offer.byte);
                } else {
                    let shift = if self.half { 4 } else { 0 };
                    let bit = |bit: u8| self.offer.byte >> shift >> bit & 1 != 0;
                    self.lines.n_fault = bit(0);
                    self.lines.select = bit(1);
                    self.lines.p_error = bit(2);
                    self.lines.busy = bit(3);
                }
                self.lines.n_ack = false;
                self.step = Step::Offered;
            }
            11 => {
                self.lines.n_ack = true;
                self.data = None;
                if !self.half && !self.is_byte_mode() {
                    self.step = Step::HalfByte;
                } else {
                    self.step = if self.is_byte_mode() {
                        Step::AwaitClock
                    } else {
                        Step::HostBusy
                    };
                    self.show_data_available(); // events 12 and 13
                    self.byte_done();
                }
            }
            18 => {
                self.lines.n_ack = false;
                self.lines.n_fault = false;
                self.answer_in(19, PULSE);
            }
            19 => self.lines.n_ack = true,
            24 => {
                self.lines.select = !self.x_flag;
                self.lines.n_ack = false;
                self.step = Step::Ended;
            }
            27 => {
                self.lines = self.printer.lines(); // event 26
                self.step = Step::Restored;
            }
            _ => self.happen_in_epp_or_ecp(event),
        }
    }

    fn happen_in_epp_or_ecp(&mut self, event: u8) {
        match event {
            31 | 49 | 75 => {
                self.data = None;
                self.lines.n_ack = true;
                self.lines.p_error = true;
                if event == 75 {
                    self.recoveries += 1;
                    self.trouble.stall_forward = false;
                    self.excused = false;
                }
                self.step = Step::Forward;
                self.show_forward_idle();
            }
            32 => {
                self.step = Step::Forward;
                self.show_forward_idle();
            }
            36 => {
                self.lines.busy = true;
                self.take_ecp();
                self.step = Step::Taken;
            }
            40 => {
                self.lines.p_error = false;
                self.data = Some(0xFF);
                self.step = Step::Reverse;
            }
            43 => {
                self.data = Some(self.offer.byte);
                self.lines.busy = !self.offer.command;
                self.lines.n_ack = false;
                self.step = Step::ReverseOffered;
            }
            45 => {
                self.lines.n_ack = true;
                self.lines.n_fault = !self.has_data();
                self.step = Step::ReverseClosed;
            }
            58 => {
                self.lines.busy = true;
                let Latched {
                    byte,
                    command,
                    write,
                } = self.latched;
                match (write, command) {
                    (true, true) => self.epp_address = byte,
                    (true, false) => self.take(Channel::Epp(self.epp_address), byte, 1),
                    (false, true) => {}
                    (false, false) => self.epp_sent(),
                }
                self.step = Step::EppAcked;
            }
            60 => {
                self.lines.busy = false;
                self.step = Step::Epp;
                self.byte_done();
            }
            73 => {
                self.lines.p_error = false;
                self.step = Step::Recovered;
            }
            _ => {}
        }
    }

    /// Events 5 and 6.
    fn answer_request(&mut self) {
        let accepted =
            self.requests.contains(&self.request) && extensibility::ALL.contains(&self.request);
        self.negotiations.push(self.request);
        self.x_flag = accepted ^ (self.request == extensibility::NIBBLE);
        self.x_flag ^= self.trouble.wrong_x_flag;
        self.lines.select = self.x_flag;
        self.lines.n_ack = true;
        if !accepted {
            self.step = Step::Refused;
            return;
        }
        self.id_next = (self.request & 0x04 != 0).then_some(0);
        match self.request & !0x04 {
            extensibility::NIBBLE | extensibility::BYTE => {
                self.step = Step::HostBusy;
                self.show_data_available();
            }
            extensibility::EPP => {
                self.lines.busy = false; // nWait
                self.step = Step::Epp;
            }
            _ => {
                self.lines.p_error = false;
                self.lines.busy = false;
                self.channel = 0;
                self.step = Step::Setup;
            }
        }
    }

    /// nFault and PError show whether there is data, Busy whether forward data would be taken.
    pub(super) fn show_data_available(&mut self) {
        let none = !self.has_data();
        self.lines.n_fault = none;
        self.lines.p_error = none;
        self.lines.select = self.x_flag;
        self.lines.busy = !self.is_ready();
    }

    fn show_forward_idle(&mut self) {
        self.lines.busy = !self.is_ready();
        self.lines.n_fault = !self.has_data();
    }

    /// Lets idle lines follow what changed inside the device.
    pub(super) fn refresh(&mut self) {
        match self.step {
            Step::HostBusy => self.show_data_available(),
            Step::Forward => self.show_forward_idle(),
            Step::Reverse => self.lines.n_fault = !self.has_data(),
            Step::Releasing if self.pending.is_none() && self.is_ready() => self.answer(32),
            Step::EppCycle if self.pending.is_none() && self.takes_epp_cycle() => self.answer(58),
            _ => {}
        }
    }
}
