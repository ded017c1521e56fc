//! Transfers that are ended from outside at every port access: cancelled, their handle closed, the
//! port pulled out.

use std::{cell::Cell, rc::Rc};

use ntsim::{DevNode, Handle, IoResult, Machine, Nanos, NtStatus, Pending, When};
use parscan_models::Peripheral1284;
use parscan_tests::{
    MS, US, check,
    modes::{Chip, Failures, ModesPc, channel, pattern, pc},
    ntddpar::modes,
};

/// Bytes of a transfer.
const AMOUNT: usize = 16;
/// A transfer of a mode on a chip.
#[derive(Clone, Copy)]
struct Case {
    chip: Chip,
    mode: u16,
    write: bool,
    name: &'static str,
    /// How long the device takes for every answer and every byte.
    response: Nanos,
}

impl Case {
    /// Every mode and direction of the best chip, and the plain modes of the plainest.
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for chip in [Chip::EcpEpp, Chip::Spp] {
            for (mode, name) in modes::ALL {
                for (write, has) in [(true, chip.write_modes()), (false, chip.read_modes())] {
                    // An EPP cycle has 10 us.
                    let slow = if mode & (modes::EPP_HW | modes::EPP_SW) != 0 {
                        3 * US
                    } else {
                        60 * US
                    };
                    for response in [0, slow] {
                        if has & mode != 0 {
                            cases.push(Self {
                                chip,
                                mode,
                                write,
                                name,
                                response,
                            });
                        }
                    }
                }
            }
        }
        cases
    }

    /// The accesses to end a transfer at: every one. A transfer to a slow device has many, most of
    /// them looks at the same line, so only the first and some of the others.
    fn moments(self) -> Box<dyn Iterator<Item = u64>> {
        if self.response == 0 {
            Box::new(1..)
        } else {
            Box::new((1..40).chain((40..).step_by(53)))
        }
    }

    /// Whether a transfer may be over before it notices anything: the device is fast, the chip's FIFO
    /// takes all of it at once and what it has still leaves, or it is one block of EPP cycles, which
    /// stays connected afterwards.
    fn is_fast(self) -> bool {
        self.response == 0 || self.mode == modes::IEEE_COMPATIBILITY || self.mode == modes::EPP_HW
    }

    fn what(self, access: u64) -> String {
        let direction = if self.write { "write" } else { "read" };
        format!(
            "{:?} {} {direction}, {} ns an answer, access {access}",
            self.chip, self.name, self.response
        )
    }

    fn choose(self, pc: &ModesPc, lpt1: Handle) {
        let (read, write) = if self.write {
            (0, self.mode)
        } else {
            (self.mode, 0)
        };
        pc.choose(lpt1, read, write);
    }

    /// A transfer that `end` is called in, just before its k-th access. Tells whether the transfer
    /// was over before that.
    fn run(self, k: u64, end: impl FnOnce(&Machine, DevNode, Handle, &Pending) + 'static) -> Ended {
        let device = Peripheral1284::new()
            .with_response(self.response)
            .with_byte_time(self.response);
        let pc = pc(self.chip, &device);
        let lpt1 = pc.open();
        self.choose(&pc, lpt1);
        let data = pattern(AMOUNT);
        let request = if self.write {
            pc.machine.start_write(lpt1, &data)
        } else {
            device.give(&data);
            pc.machine.start_read(lpt1, AMOUNT)
        };
        let reached = Rc::new(Cell::new(false));
        let (note, pending) = (Rc::clone(&reached), request.clone());
        let port = pc.node;
        let access = pc.machine.port_accesses() + k;
        pc.machine.at(When::PortAccess(access), move |machine| {
            note.set(true);
            end(machine, port, lpt1, &pending);
        });
        let result = check(pc.machine.finish(&request));
        Ended {
            reached: reached.get(),
            result,
            device,
            lpt1,
            pc,
            data,
        }
    }
}

/// A transfer that is over.
struct Ended {
    /// Whether it took as many accesses.
    reached: bool,
    result: IoResult,
    device: Peripheral1284,
    lpt1: Handle,
    pc: ModesPc,
    data: Vec<u8>,
}

impl Ended {
    /// Status and count are possible, and the device has, or had, as many bytes.
    fn expect_truth(&self, case: Case, status: &[NtStatus], what: &str, failures: &mut Failures) {
        let (ended, told) = self.result.outcome();
        let whole = ended == NtStatus::SUCCESS && told == AMOUNT;
        failures.expect(status.contains(&ended) || whole, || {
            format!("{what}: {ended} {told}")
        });
        if case.write {
            let arrived = self.device.received();
            failures.expect(arrived == self.data[..told], || {
                format!("{what}: {ended}, told {told}, arrived {}", arrived.len())
            });
        } else {
            // Who cancels a read learns how many bytes are gone; the others come next.
            let sent = AMOUNT - self.device.to_send();
            failures.expect(told <= sent, || {
                format!("{what}: {ended}, told {told}, sent {sent}")
            });
            failures.expect(
                ended != NtStatus::SUCCESS || self.result.output[..told] == self.data[..told],
                || format!("{what}: {ended}, other bytes"),
            );
        }
    }

    /// The next transfer by an open moves what is left after `begun` bytes.
    fn expect_next(
        &self,
        case: Case,
        lpt1: Handle,
        begun: usize,
        what: &str,
        failures: &mut Failures,
    ) {
        let rest = &self.data[begun..];
        if case.write {
            let next = check(self.pc.machine.write(lpt1, rest));
            let arrived = self.device.received_on(channel(case.mode));
            failures.expect(
                next.outcome() == (NtStatus::SUCCESS, rest.len()) && arrived == self.data,
                || format!("{what}: after {begun}: {} {arrived:x?}", next.status),
            );
        } else {
            let next = check(self.pc.machine.read(lpt1, rest.len()));
            failures.expect(
                next.status == NtStatus::SUCCESS && next.output == rest,
                || format!("{what}: after {begun}: {} {:x?}", next.status, next.output),
            );
        }
    }
}

/// Ends every transfer at each of its accesses, and looks how it goes on: `go_on` gives the handle
/// that is open then.
fn end_everywhere(
    end: fn(&Machine, Handle, &Pending),
    go_on: fn(Case, &Ended, &str, &mut Failures) -> Handle,
) {
    let mut failures = Failures::default();
    for case in Case::all() {
        let mut cancelled = 0;
        for k in case.moments() {
            let what = case.what(k);
            let ended = case.run(k, move |machine, _, handle, request| {
                end(machine, handle, request);
            });
            if !ended.reached {
                break;
            }
            cancelled += usize::from(ended.result.status == NtStatus::CANCELLED);
            ended.expect_truth(case, &[NtStatus::CANCELLED], &what, &mut failures);
            let lpt1 = go_on(case, &ended, &what, &mut failures);
            failures.expect_rest(&ended.pc, &what);
            ended.pc.close_and_finish(lpt1);
        }
        // Not all were over before they noticed.
        failures.expect(cancelled > 0 || case.is_fast(), || {
            format!("{}: {cancelled} cancelled", case.what(0))
        });
    }
    failures.end();
}

fn cancel(machine: &Machine, _: Handle, request: &Pending) {
    check(machine.cancel(request));
}

fn close(machine: &Machine, handle: Handle, _: &Pending) {
    check(machine.close(handle));
}

#[test]
fn a_transfer_can_be_cancelled_at_every_access() {
    end_everywhere(cancel, |case, ended, what, failures| {
        failures.expect_rest(&ended.pc, what);
        // What is left goes on where this ended.
        let told = ended.result.information;
        ended.expect_next(case, ended.lpt1, told, what, failures);
        ended.lpt1
    });
}

#[test]
fn the_handle_can_be_closed_at_every_access() {
    end_everywhere(close, |case, ended, what, failures| {
        // The end of the close, which ends EPP, and its nInit pulse.
        let pc = &ended.pc;
        check(pc.machine.run_for(MS));
        failures.expect_rest(pc, what);
        // The device is free for the next program, which begins anew.
        let lpt1 = pc.open();
        case.choose(pc, lpt1);
        ended.device.clear_received();
        let begun = if case.write {
            0
        } else {
            AMOUNT - ended.device.to_send()
        };
        ended.expect_next(case, lpt1, begun, what, failures);
        lpt1
    });
}

#[test]
fn the_port_can_be_pulled_out_at_every_access() {
    let mut failures = Failures::default();
    for case in Case::all() {
        for k in case.moments() {
            let what = case.what(k);
            let gone = Rc::new(Cell::new(u64::MAX));
            let note = Rc::clone(&gone);
            let ended = case.run(k, move |machine, node, _, _| {
                check(machine.unplug(node));
                note.set(machine.port_accesses());
            });
            if !ended.reached {
                break;
            }
            let statuses = [NtStatus::DEVICE_REMOVED, NtStatus::DELETE_PENDING];
            let (status, told) = ended.result.outcome();
            failures.expect(
                statuses.contains(&status) || (status, told) == (NtStatus::SUCCESS, AMOUNT),
                || format!("{what}: {status} {told}"),
            );
            if case.write {
                let arrived = ended.device.received();
                failures.expect(arrived.starts_with(&ended.data[..told]), || {
                    format!("{what}: told {told}, arrived {}", arrived.len())
                });
            }
            let pc = &ended.pc;
            // At its last accesses a request may be over before the port has gone.
            check(pc.machine.run_until_idle());
            let late = check(pc.machine.write(ended.lpt1, b"late"));
            failures.expect(statuses.contains(&late.status), || {
                format!("{what}: later {}", late.status)
            });
            check(pc.machine.close(ended.lpt1));
            check(pc.machine.run_until_idle());
            failures.expect(pc.machine.port_accesses() <= gone.get(), || {
                format!("{what}: the port was touched after it had gone")
            });
            pc.unload();
        }
    }
    failures.end();
}
