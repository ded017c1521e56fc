//! What the system does in the midst of it, or its user: sleep, rebalance, disable, pull out.

use std::{cell::RefCell, rc::Rc};

use ntsim::{DevNode, Machine, NodeState, NtStatus, When, usb::HubIdle};
use parscan_tests::{MS, check};

use crate::{
    counters::{self, Counter},
    hardware,
    session::Session,
};

/// `IRP_MN_SET_POWER` and `IRP_MN_QUERY_POWER`.
const SET_POWER: u8 = 2;
const QUERY_POWER: u8 = 3;
/// `DevicePowerState`, `PowerDeviceD0` and `PowerDeviceD3`.
const DEVICE: usize = 1;
const D0: usize = 1;
const D3: usize = 4;

impl Session {
    /// One of these things; those that cost little come more often.
    pub(crate) fn system(&mut self) {
        let machine = self.machine.clone();
        let is_port = self.dice.one_in(2);
        let node = self.node(is_port);
        match self.dice.below(24) {
            0..3 if !self.has_contention() => self.sleep(&machine),
            3..5 => self.rebalance(&machine, node),
            5..7 => self.pull_out(is_port),
            7..9 => self.disable(is_port),
            9 if self.is_started(node) => check(machine.enumerate(node)),
            10..13 => self.ask(&machine, is_port),
            13 if self.is_started(node) => {
                let list = self.requirements();
                let _ = check(machine.filter_resource_requirements(node, &list));
            }
            14..16 => {
                let hub = self.dice.of(&[
                    HubIdle::After(0),
                    HubIdle::After(MS),
                    HubIdle::After(30 * MS),
                    HubIdle::Never,
                    HubIdle::Refuses(NtStatus::INVALID_DEVICE_REQUEST),
                    HubIdle::Refuses(NtStatus::CANCELLED),
                ]);
                machine.set_hub_idle(self.node(false), hub);
            }
            16 => {
                let _ = machine.signal_wake(self.node(false));
                check(machine.run_for(MS));
            }
            17..19 => self.idle(&machine),
            19 => {
                let up = hardware::power_up(&mut self.dice);
                machine.set_power_up(node, up);
            }
            20 => machine.set_power_memory(self.dice.one_in(2)),
            21 => {
                let level = self.dice.of(&[None, Some(0), Some(2), Some(4), Some(5)]);
                check(machine.listen(level));
            }
            // A scanner's driver owns the power of its device alone.
            22 if !self.has_contention() => self.device_power(&machine, self.node(true)),
            _ => {
                // What the I/O manager asks a file system.
                let handle = self.programs.first().map(|it| it.handle);
                if let Some(handle) = handle {
                    let class = self.dice.of(&[5, 5, 14, 4, 9, 20, 99]);
                    let length = self.dice.of(&[0, 8, 24, 64]);
                    let _ = check(machine.query_information(handle, class, length));
                }
            }
        }
    }

    pub(crate) fn node(&self, is_port: bool) -> DevNode {
        if is_port {
            self.port
        } else {
            self.scanner_node
        }
    }

    pub(crate) fn is_started(&self, node: DevNode) -> bool {
        self.machine.node_state(node) == NodeState::Started
    }

    fn sleep(&mut self, machine: &Machine) {
        if self.asleep.replace(true) {
            return;
        }
        counters::add(Counter::Sleeps, 1);
        let asleep = if self.dice.one_in(4) {
            check(machine.sleep_unasked()).is_success()
        } else {
            check(machine.sleep()).is_success()
        };
        if asleep {
            let time = self.dice.of(&[0, MS, 5 * MS, 900 * MS]);
            check(machine.run_for(time));
            if self.dice.one_in(3) {
                let _ = machine.signal_wake(self.node(false));
            }
            check(machine.wake());
            if !self.dice.one_in(3) {
                check(machine.settle());
            }
        }
        self.asleep.set(false);
    }

    /// Something that comes in the midst of what the driver does: at one of its next accesses to a
    /// port, kernel calls or URBs.
    pub(crate) fn ambush(&mut self) {
        let machine = self.machine.clone();
        let dice = &mut self.dice;
        let soon = |dice: &mut crate::dice::Dice, most: usize| {
            1 + u64::try_from(dice.below(most)).unwrap_or(0)
        };
        let when = match dice.below(4) {
            0 | 1 => When::PortAccess(machine.port_accesses() + soon(dice, 400)),
            2 => When::KernelCall(machine.kernel_calls() + soon(dice, 1000)),
            _ => When::Urb(machine.urb_count() + soon(dice, 8)),
        };
        let is_port = dice.one_in(2);
        let kind = dice.below(4);
        let has_interrupt = self.hardware.has_interrupt;
        let may_sleep = !self.has_contention();
        let node = self.node(is_port);
        let (driver, asleep) = (self.driver, Rc::clone(&self.asleep));
        let is_over = Rc::clone(&self.is_over);
        machine.at(when, move |machine| {
            let is_there = machine.node_state(node) == NodeState::Started;
            match kind {
                _ if is_over.get() => {}
                0 if is_there => {
                    counters::add(Counter::Unplugs, 1);
                    check(machine.unplug(node));
                }
                1 if may_sleep && !asleep.replace(true) => {
                    counters::add(Counter::Sleeps, 1);
                    if check(machine.sleep()).is_success() {
                        check(machine.wake());
                        check(machine.settle());
                    }
                    asleep.set(false);
                }
                2 => {
                    check(machine.cancel_all(driver));
                }
                3 if has_interrupt => {
                    check(machine.interrupt(hardware::VECTOR));
                }
                _ => {}
            }
        });
    }

    /// What was pulled out is plugged in again.
    pub(crate) fn replace_lost(&mut self) {
        for is_port in [true, false] {
            let state = self.machine.node_state(self.node(is_port));
            if state == NodeState::Removed || state == NodeState::SurpriseRemoved {
                self.pull_out(is_port);
            }
        }
    }

    /// `IRP_MN_QUERY_STOP_DEVICE` and what follows.
    fn rebalance(&mut self, machine: &Machine, node: DevNode) {
        counters::add(Counter::Stops, 1);
        if !self.is_started(node) {
            return;
        }
        let agreed = check(machine.query_stop(node)).is_success();
        if !self.is_started(node) {
            return;
        }
        if !agreed || self.dice.one_in(4) {
            check(machine.cancel_stop(node));
            return;
        }
        check(machine.stop(node));
        let time = self.dice.of(&[0, MS, 20 * MS]);
        check(machine.run_for(time));
        if machine.node_state(node) == NodeState::Stopped {
            let _ = check(machine.start(node));
        }
    }

    /// The programs that have a device open notice that it goes, sooner or later.
    fn let_go(&mut self, is_port: bool) {
        let (gone, stay): (Vec<_>, Vec<_>) = self
            .programs
            .drain(..)
            .partition(|program| program.of_port == is_port);
        self.programs = stay;
        for program in gone {
            self.finish_with(&program);
        }
    }

    /// Disabled and enabled in the device manager.
    fn disable(&mut self, is_port: bool) {
        let machine = self.machine.clone();
        let node = self.node(is_port);
        let state = machine.node_state(node);
        if state == NodeState::Started {
            if !self.dice.one_in(4) {
                self.let_go(is_port);
            }
            if !self.is_started(node)
                || !check(machine.query_remove(node)).is_success()
                || !self.is_started(node)
            {
                return;
            }
            if self.dice.one_in(4) {
                check(machine.cancel_remove(node));
                return;
            }
            check(machine.remove(node));
            check(machine.run_for(MS));
        }
        if machine.node_state(node) != NodeState::Found {
            return;
        }
        if check(machine.add_device(node, self.driver)).is_success() {
            let _ = check(machine.start(node));
        }
    }

    fn pull_out(&mut self, is_port: bool) {
        let machine = self.machine.clone();
        counters::add(Counter::Unplugs, 1);
        let old = self.node(is_port);
        let state = machine.node_state(old);
        if state == NodeState::Found || state == NodeState::Stopped {
            return;
        }
        if state == NodeState::Started && self.dice.one_in(3) {
            // It is off its bus before Windows notices.
            if is_port {
                machine.disconnect(old);
            } else {
                self.scanner.unplug();
            }
            for _ in 0..3 {
                self.request();
            }
        }
        if self.is_started(old) {
            check(machine.unplug(old));
        }
        self.let_go(is_port);
        check(machine.run_for(100 * MS));
        self.instances += 1;
        let new = if is_port {
            let device = self.hardware.device(&mut self.dice, self.instances);
            machine.plug(device)
        } else {
            let (model, device) = hardware::scanner(&mut self.dice, self.instances);
            self.scanner = model.clone();
            machine.plug_usb(device, Rc::new(RefCell::new(model)))
        };
        if check(machine.add_device(new, self.driver)).is_success() {
            let _ = check(machine.start(new));
        }
        if is_port {
            self.port = new;
        } else {
            self.scanner_node = new;
        }
    }

    /// Queries that every stack gets, and minor functions that it need not know.
    fn ask(&mut self, machine: &Machine, is_port: bool) {
        let node = self.node(is_port);
        if !self.is_started(node) {
            return;
        }
        let children = machine.children(node);
        let node = if children.is_empty() || self.dice.one_in(2) {
            node
        } else {
            let place = self.dice.below(children.len());
            children[place].0
        };
        match self.dice.below(4) {
            0 => {
                let minors = [
                    0x0A, 0x0E, 0x0F, 0x10, 0x12, 0x14, 0x18, 0x19, 0x1A, 0x42, 0xFF,
                ];
                let minor = self.dice.of(&minors);
                let _ = check(machine.send_pnp_irp(node, minor, [0; 4]));
            }
            1 => {
                // A hub keeps WAIT_WAKE, which is the first.
                let unknown = [0x01, 0x04, 0x42, 0xFF, 0x00];
                let count = if is_port { 5 } else { 4 };
                let minor = self.dice.of(&unknown[..count]);
                let _ = check(machine.send_power_irp(node, minor, [0; 4]));
            }
            2 => {
                let minor = self.dice.of(&[0x00, 0x01, 0x08, 0x0B, 0x42, 0xFF]);
                let _ = check(machine.send_wmi_irp(node, minor, [0; 4]));
            }
            _ => {
                // DEVICE_USAGE_NOTIFICATION: a paging, dump or hibernation file comes or goes.
                let kind = self.dice.of(&[0, 1, 2, 3, 9]);
                let comes = usize::from(self.dice.one_in(2));
                let _ = check(machine.send_pnp_irp(node, 0x16, [comes, kind, 0, 0]));
            }
        }
    }

    /// Device power IRPs of another driver.
    fn device_power(&mut self, machine: &Machine, node: DevNode) {
        if !self.is_started(node) {
            return;
        }
        for state in [D3, D0] {
            let state = [0, DEVICE, state, 0];
            let _ = check(machine.send_power_irp(node, QUERY_POWER, state));
            let _ = check(machine.send_power_irp(node, SET_POWER, state));
            let time = self.dice.time();
            check(machine.run_for(time.min(5 * MS)));
        }
    }

    /// Every handle to the scanner is closed for long enough that it may be suspended.
    fn idle(&mut self, machine: &Machine) {
        self.let_go(false);
        let time = self.dice.of(&[MS, 4 * MS, 40 * MS, 6000 * MS]);
        check(machine.run_for(time));
        if self.dice.one_in(3) {
            self.scanner.press(&[1]);
            let _ = machine.signal_wake(self.node(false));
            check(machine.run_for(MS));
        }
    }

    /// An `IO_RESOURCE_REQUIREMENTS_LIST`, good or bad.
    fn requirements(&mut self) -> Vec<u8> {
        let dice = &mut self.dice;
        let lists: u32 = dice.of(&[1, 1, 2, 3]);
        let mut bytes = vec![0; 32];
        for _ in 0..lists {
            let count = dice.below(5);
            bytes.extend(1_u16.to_le_bytes());
            bytes.extend(1_u16.to_le_bytes());
            let told = if dice.one_in(8) {
                dice.word()
            } else {
                u32::try_from(count).unwrap_or(0)
            };
            bytes.extend(told.to_le_bytes());
            for _ in 0..count {
                let mut descriptor = [0; 32];
                // Option, Type.
                descriptor[0] = dice.of(&[0, 0, 1, 8, 9]);
                descriptor[1] = dice.of(&[1, 1, 2, 2, 4, 3, 0, 129]);
                for byte in &mut descriptor[2..] {
                    if dice.one_in(4) {
                        *byte = dice.byte();
                    }
                }
                bytes.extend(descriptor);
            }
        }
        // The list is as long as it says at least: nothing else tells a driver.
        let length = if dice.one_in(8) {
            dice.below(bytes.len())
        } else {
            bytes.len()
        };
        let length = u32::try_from(length).unwrap_or(0);
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[28..32].copy_from_slice(&lists.to_le_bytes());
        bytes
    }
}
