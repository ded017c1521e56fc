//! A class driver beside the programs: what it may do by the documents of parport.sys, in any order,
//! with anything in its buffers. What it has taken it gives back.

use std::{cell::Cell, rc::Rc};

use ntsim::{DevNode, Machine, NtStatus, When};
use parscan_models::{Condition, Peripheral1284};
use parscan_tests::{
    MS, check,
    client::{APC, Callback, Client, DEVICE, DISPATCH, END_OF_CHAIN, PASSIVE, PORT, Request, Slot},
    parallel_h as h,
};

use crate::{dice::Dice, hardware::VECTOR};

/// One visit.
pub(crate) struct Visit<'a> {
    pub(crate) client: &'a Client,
    pub(crate) machine: &'a Machine,
    pub(crate) has_interrupt: bool,
    pub(crate) port: DevNode,
    pub(crate) peripheral: &'a Peripheral1284,
}

/// After so long the user looks after the printer,
const LOOK_AFTER: u64 = 20_000 * MS;
/// and after so long pulls the port out: a class driver waits for as long as its printer is off-line.
const GIVE_UP: u64 = 120_000 * MS;

const MODES: [u16; 10] = [
    0, 0x0001, 0x0002, 0x0004, 0x0010, 0x0020, 0x0040, 0x0100, 0x0400, 0xFFFF,
];

impl Visit<'_> {
    pub(crate) fn make(&self, dice: &mut Dice) {
        let is_over = Rc::new(Cell::new(false));
        let now = self.machine.now();
        let (over, peripheral) = (Rc::clone(&is_over), self.peripheral.clone());
        self.machine.at(When::Time(now + LOOK_AFTER), move |_| {
            if !over.get() {
                peripheral.behave();
                peripheral.set_condition(Condition::Ready);
            }
        });
        let (over, port) = (Rc::clone(&is_over), self.port);
        self.machine.at(When::Time(now + GIVE_UP), move |machine| {
            if !over.get() {
                check(machine.unplug(port));
            }
        });
        self.go(dice);
        is_over.set(true);
    }

    fn go(&self, dice: &mut Dice) {
        let devices = [
            DEVICE,
            DEVICE,
            END_OF_CHAIN,
            r"\Device\Parallel0.0",
            r"\Device\Parallel0.1",
        ];
        match dice.below(5) {
            0 => {
                let modes = [dice.of(&MODES), dice.of(&MODES)];
                let length = dice.of(&[0, 1, 4, 40]);
                let data = dice.bytes(length);
                let room = dice.of(&[0, 1, 4, 40]);
                let _ = self.client.transfer(dice.of(&devices), modes, &data, room);
            }
            1 | 2 => {
                if let Ok(slot) = self.client.try_open(PORT) {
                    self.port(dice, &slot);
                    slot.close();
                }
            }
            _ => {
                if let Ok(slot) = self.client.try_open(dice.of(&devices)) {
                    self.device(dice, &slot);
                    slot.close();
                }
            }
        }
    }

    /// A request that changes nothing for others.
    fn ask(dice: &mut Dice, slot: &Slot<'_>, code: u32, right: usize) {
        let length = if dice.one_in(3) {
            dice.below(300)
        } else {
            right
        };
        let input = if dice.one_in(3) {
            let length = dice.below(40);
            dice.bytes(length)
        } else {
            Vec::new()
        };
        let request = Request {
            user_mode: dice.one_in(8),
            file: !dice.one_in(8),
            internal: !dice.one_in(10),
            ..Request::internal(code, &input, length)
        };
        let _ = slot.irp(&request);
    }

    /// A request that may wait: for a while, and then it is cancelled.
    fn try_to(&self, dice: &mut Dice, slot: &Slot<'_>, request: &Request<'_>) -> bool {
        let asked = slot.start(request);
        for _ in 0..3 {
            check(self.machine.run_for(dice.time().min(20 * MS)));
            if let Some(result) = asked.poll() {
                return result.status == NtStatus::SUCCESS;
            }
        }
        asked.cancel();
        asked.finish().status == NtStatus::SUCCESS
    }

    fn port(&self, dice: &mut Dice, slot: &Slot<'_>) {
        let known = [
            (
                h::IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO,
                h::PORT_INFORMATION,
            ),
            (
                h::IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO,
                h::MORE_PORT_INFORMATION,
            ),
            (h::IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO, h::PNP_INFORMATION),
            (h::IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO, 0),
            (h::IOCTL_INTERNAL_INIT_1284_3_BUS, 0),
            (dice.of(&h::UNDOCUMENTED).0, 8),
            (dice.of(&h::DEVICE_REQUESTS).0, 0),
        ];
        for _ in 0..dice.below(4) {
            let (code, length) = dice.of(&known);
            Self::ask(dice, slot, code, length);
        }
        // Its tables, without which there are no callbacks.
        let info = slot.internal(
            h::IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO,
            &[],
            h::PORT_INFORMATION,
        );
        let pnp = slot.internal(
            h::IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO,
            &[],
            h::PNP_INFORMATION,
        );
        if info.status != NtStatus::SUCCESS || pnp.status != NtStatus::SUCCESS {
            return;
        }
        if dice.one_in(2) {
            self.interrupts(dice, slot);
        }
        match dice.below(4) {
            0 => {
                let irql = dice.of(&[PASSIVE, APC, DISPATCH]);
                let _ = slot.call(Callback::QueryNumWaiters, irql);
                if slot.call(Callback::TryAllocatePort, irql).boolean() {
                    self.own(dice, slot);
                    let _ = slot.call(Callback::FreePort, dice.of(&[PASSIVE, DISPATCH]));
                }
            }
            1 => {
                let request = Request {
                    irql: dice.of(&[PASSIVE, DISPATCH]),
                    ..Request::internal(h::IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, &[], 0)
                };
                if self.try_to(dice, slot, &request) {
                    self.own(dice, slot);
                    slot.order(h::IOCTL_INTERNAL_PARALLEL_PORT_FREE);
                }
            }
            2 => {
                let command = h::command(dice.of(&[0, 0, 1, 2, 3, 4, 255]), dice.of(&[0, 1]));
                let code = h::IOCTL_INTERNAL_SELECT_DEVICE;
                let select = Request::internal(code, &command, 0);
                if self.try_to(dice, slot, &select) {
                    let _ = slot.internal(h::IOCTL_INTERNAL_DESELECT_DEVICE, &command, 0);
                }
            }
            _ => {
                let command = h::command(dice.of(&[0, 0, 1, 2, 255]), dice.of(&[0, 1]));
                let selected = slot.call(Callback::TrySelectDevice(command), DISPATCH);
                if selected.status() == NtStatus::SUCCESS {
                    let _ = slot.call(Callback::DeselectDevice(command), DISPATCH);
                }
            }
        }
        if dice.one_in(2) {
            slot.order(h::IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO);
        }
    }

    /// The port is the client's.
    fn own(&self, dice: &mut Dice, slot: &Slot<'_>) {
        for _ in 0..dice.below(4) {
            let mode = dice.of(&[
                h::chip_mode::BYTE,
                h::chip_mode::FAST_CENTRONICS,
                h::chip_mode::ECP,
                h::chip_mode::EPP,
                h::chip_mode::TEST,
                h::chip_mode::CONFIGURATION,
                0,
                0xFF,
            ]);
            if dice.one_in(2) {
                let irql = dice.of(&[PASSIVE, DISPATCH]);
                let set = slot.call(Callback::TrySetChipMode(mode), irql);
                if set.status() == NtStatus::SUCCESS {
                    let _ = slot.call(Callback::ClearChipMode(mode), irql);
                }
            } else {
                let mode = h::chip_mode_of(mode);
                let set = slot.internal(h::IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, &mode, 0);
                if set.status == NtStatus::SUCCESS {
                    let code = h::IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE;
                    let _ = slot.internal(code, &mode, 0);
                }
            }
            let keep = h::command(
                dice.of(&[0, 1, 2]),
                h::command_flags::HAVE_PORT_KEEP_PORT | dice.of(&[0, 1]),
            );
            if dice.one_in(2) {
                let code = h::IOCTL_INTERNAL_SELECT_DEVICE;
                if slot.internal(code, &keep, 0).status == NtStatus::SUCCESS {
                    let _ = slot.internal(h::IOCTL_INTERNAL_DESELECT_DEVICE, &keep, 0);
                }
            }
            check(self.machine.run_for(dice.time().min(MS)));
        }
    }

    fn interrupts(&self, dice: &mut Dice, slot: &Slot<'_>) {
        let connect = h::IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT;
        let disconnect = h::IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT;
        for _ in 0..dice.of(&[0, 2, 12, 40]) {
            let client = dice.below(8);
            let options = u64::try_from(dice.below(32)).unwrap_or(0);
            // Mostly more come than go.
            let code = if dice.one_in(4) { disconnect } else { connect };
            let done = slot.interrupt(code, client, options);
            if self.has_interrupt && done.status == NtStatus::SUCCESS && dice.one_in(2) {
                check(self.machine.interrupt(VECTOR));
                check(self.machine.run_for(MS));
                let _ = self.client.notes();
            }
        }
        // A routine of a driver that is unloaded must not be called: nothing fails from here on.
        self.machine.inject_no_failure();
        let first = dice.below(8);
        for client in 0..8 {
            let _ = slot.interrupt(disconnect, (client + first) % 8, 0);
        }
        let _ = self.client.notes();
    }

    fn device(&self, dice: &mut Dice, slot: &Slot<'_>) {
        let known = [
            (h::IOCTL_INTERNAL_DISCONNECT_IDLE, 0),
            (h::IOCTL_INTERNAL_UNLOCK_PORT, 0),
            (h::IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT, 0),
            (dice.of(&h::UNDOCUMENTED).0, 8),
            (dice.of(&h::PORT_REQUESTS).0, 64),
            (parscan_tests::ntddpar::IOCTL_PAR_IS_PORT_FREE, 1),
        ];
        for _ in 0..dice.below(3) {
            let (code, length) = dice.of(&known);
            Self::ask(dice, slot, code, length);
        }
        let connected = slot.internal(
            h::IOCTL_INTERNAL_PARCLASS_CONNECT,
            &[],
            if dice.one_in(8) {
                4
            } else {
                h::PARCLASS_INFORMATION
            },
        );
        if connected.status != NtStatus::SUCCESS {
            return;
        }
        let (lock, unlock) = dice.of(&[
            (h::IOCTL_INTERNAL_LOCK_PORT, h::IOCTL_INTERNAL_UNLOCK_PORT),
            (
                h::IOCTL_INTERNAL_LOCK_PORT_NO_SELECT,
                h::IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT,
            ),
        ]);
        if self.try_to(dice, slot, &Request::internal(lock, &[], 0)) {
            for _ in 0..dice.below(8) {
                Self::transfer(dice, slot);
            }
            slot.order(unlock);
        } else if dice.one_in(2) {
            let command = h::command(dice.of(&[0, 1, 2]), dice.of(&[0, 1, 2, 3]));
            let _ = slot.call(Callback::ParallelTryselect(command), PASSIVE);
        }
        if !dice.one_in(4) {
            slot.order(h::IOCTL_INTERNAL_PARCLASS_DISCONNECT);
        }
    }

    /// A callback of a client that has the device locked.
    fn transfer(dice: &mut Dice, slot: &Slot<'_>) {
        let length = dice.of(&[0, 1, 5, 30]);
        let data = dice.bytes(length);
        let command = h::command(dice.of(&[0, 1, 2]), dice.of(&[0, 1, 2, 3]));
        let callback = match dice.below(9) {
            0 => Callback::DetermineIeeeModes,
            1 | 2 => Callback::NegotiateIeeeMode {
                forward: dice.of(&MODES),
                reverse: dice.of(&MODES),
                safety: dice.of(&[h::SAFE_MODE, h::UNSAFE_MODE, 7]),
                is_forward: dice.one_in(2),
            },
            3 => Callback::ParallelWrite(&data),
            4 => Callback::ParallelRead(length),
            5 => Callback::IeeeFwdToRevMode,
            6 => Callback::IeeeRevToFwdMode,
            7 => Callback::TerminateIeeeMode,
            _ => Callback::ParallelDeSelect(command),
        };
        let _ = slot.call(callback, dice.of(&[PASSIVE, PASSIVE, APC]));
    }
}
