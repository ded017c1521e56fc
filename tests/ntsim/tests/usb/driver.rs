//! A real driver image above the USB bus driver: `faulty-driver` sends its callers' bytes as URBs.

use std::cell::RefCell;
use std::rc::Rc;

use ntsim::usb::layout::{function, usbd};
use ntsim::{
    Bugcheck, CANARY, Caller, Config, DevNode, DeviceSpec, DriverId, Handle, IoResult, Machine,
    NtStatus, RegValue, When,
};
use parscan_models::{Scanner, Speed};

use crate::client::{Bytes, IN, transfer, transferred, vendor};
use crate::common;

const SEND: u32 = common::code(0x807);
const IDLE: u32 = common::code(0x808);

pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) scanner: Scanner,
    driver: DriverId,
    pub(crate) node: DevNode,
    handle: Handle,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Self {
        let machine = Machine::boot(Config::seeded(seed));
        let scanner = Scanner::new(Speed::High);
        let sin = ("Sin", RegValue::Dword(0));
        let driver = machine
            .load_driver(common::image(), "faulty-driver", &[sin])
            .expect("load");
        let spec = DeviceSpec::usb_image(0x1209, 1, 0x0102, "1");
        let node = machine.plug_usb(spec, Rc::new(RefCell::new(scanner.clone())));
        assert_eq!(machine.add_device(node, driver), Ok(NtStatus::SUCCESS));
        assert_eq!(machine.start(node), Ok(NtStatus::SUCCESS));
        let handle = machine.open(r"\\.\MISB", Caller::User64);
        Self {
            handle: handle.expect("kept").expect("open"),
            machine,
            scanner,
            driver,
            node,
        }
    }

    /// Has the driver make an idle request, or send a wait/wake IRP, and gives it time.
    pub(crate) fn idle(&self, what: u32) -> Result<(), Bugcheck> {
        let what = what.to_le_bytes();
        let done = self
            .machine
            .device_io_control(self.handle, IDLE, &what, 0)?;
        assert_eq!(done.status, NtStatus::SUCCESS);
        self.machine.run_for(10_000_000)
    }

    fn send(&self, urb: &Bytes) -> Result<IoResult, Bugcheck> {
        self.machine
            .device_io_control(self.handle, SEND, &urb.0, urb.0.len())
    }

    /// Selects the configuration; gives the handle of the bulk IN pipe.
    fn configure(&self) -> usize {
        let bytes = self.scanner.descriptors().configuration;
        let at = self.machine.allocate(bytes.len());
        self.machine.write_memory(at, &bytes).expect("written");
        let urb = Bytes::new(function::SELECT_CONFIGURATION, 40 + 24 + 72)
            .pointer(0x18, at)
            .u16(0x28, 24 + 72);
        let done = self.send(&urb).expect("kept");
        assert_eq!(done.status, NtStatus::SUCCESS);
        usize::from_le_bytes(done.output[0x48..0x50].try_into().unwrap())
    }

    /// A test for twenty orders of the threads, from a started device to one that goes.
    fn each_seed(test: impl Fn(&Self)) {
        for seed in 0..20 {
            let b = Self::new(seed);
            test(&b);
            b.down();
        }
    }

    /// Everything goes, and nothing is left.
    fn down(self) {
        self.machine.close(self.handle).expect("kept");
        self.machine.remove(self.node).expect("kept");
        self.machine.unload(self.driver).expect("kept");
        assert_eq!(self.machine.live_irps(), 0);
    }
}

#[test]
fn urbs_come_back_to_the_driver() {
    Bench::each_seed(|b| {
        let pipe = b.configure();
        let at = b.machine.allocate(512);
        b.scanner.send(0x81, &[5; 100], false);
        let done = b.send(&transfer(pipe, IN, at, 512)).expect("kept");
        assert_eq!(done.status, NtStatus::SUCCESS);
        assert_eq!(transferred(&done.output), 100);
        // One that fails, and one that waits until it is cancelled.
        b.scanner.stall_at(0x81, 1);
        let done = b.send(&transfer(pipe, IN, at, 512)).expect("kept");
        assert_eq!(done.status, NtStatus::UNSUCCESSFUL);
        b.scanner.set_silent(0, true);
        let urb = vendor(0, 0x0C, 0, 0, 0).0;
        let waits = b.machine.start_io_control(b.handle, SEND, &urb, urb.len());
        b.machine.run_for(1_000_000_000).expect("kept");
        assert!(b.machine.cancel(&waits).expect("kept"));
        let done = b.machine.finish(&waits).expect("kept");
        assert_eq!(done.status, NtStatus::CANCELLED);
    });
}

#[test]
fn data_goes_to_locked_user_pages() {
    const DIRECT: u32 = SEND | 2;
    let b = Bench::new(2);
    let pipe = b.configure();
    let m = &b.machine;
    let urb = transfer(pipe, IN, 0, 5000).0;
    let input = m.user_alloc(Caller::User64, &urb);
    let at = m.user_alloc(Caller::User64, &[CANARY; 5000]);
    assert_ne!(at % 4096, 0);
    let data: Vec<u8> = (0..4500_u32).map(|i| i.to_le_bytes()[0]).collect();
    b.scanner.send(0x81, &data, false);
    let done = m
        .device_io_control_at(b.handle, DIRECT, (input, urb.len()), (at, 5000))
        .expect("kept");
    assert_eq!(done.status, NtStatus::SUCCESS);
    assert_eq!(done.output[..4500], data);
    assert_eq!(done.output[4500..], [CANARY; 500]);
    // Pages that go while a URB waits for data live on in the MDL.
    let waits = m.start_io_control_at(b.handle, DIRECT, (input, urb.len()), (at, 5000));
    m.run_for(1_000_000).expect("kept");
    m.user_free(at);
    b.scanner.send(0x81, &[1; 10], false);
    assert_eq!(m.finish(&waits).expect("kept").status, NtStatus::SUCCESS);
    m.user_free(input);
    b.down();
}

#[test]
fn a_removal_at_every_urb_ends_well() {
    for k in 1..4 {
        for seed in 0..10 {
            let b = Bench::new(seed);
            let node = b.node;
            b.machine.at(When::Urb(k), move |m| {
                m.unplug(node).expect("kept");
            });
            let gone = [NtStatus::NO_SUCH_DEVICE, NtStatus::DELETE_PENDING];
            for i in 1..5 {
                let done = b.send(&vendor(0, 0x0C, 0, 0, 0)).expect("kept");
                if i < k {
                    assert_eq!(done.status, NtStatus::SUCCESS);
                } else {
                    assert!(gone.contains(&done.status), "{}", done.status);
                }
            }
            b.machine.close(b.handle).expect("kept");
            b.machine.run_until_idle().expect("kept");
            b.machine.unload(b.driver).expect("kept");
            assert_eq!(b.machine.live_irps(), 0);
        }
    }
}

/// An idle request, the callback, and the way back.
#[test]
fn a_device_is_suspended_by_its_driver() {
    Bench::each_seed(|b| {
        for k in 1..4 {
            b.idle(0).expect("kept");
            let idle = b.machine.usb_idle(b.node);
            assert_eq!((idle.request, idle.suspended), (true, k));
            assert_eq!(b.machine.usb_power(b.node), 2);
            let up = b.machine.send_power_irp(b.node, 2, [0, 1, 1, 0]);
            assert_eq!(up.expect("kept").0, NtStatus::SUCCESS);
            b.machine.run_for(1_000_000).expect("kept");
            assert!(!b.machine.usb_idle(b.node).request);
        }
    });
}

/// A wait/wake IRP: one at a time, of a device that can, until it signals.
#[test]
fn a_device_wakes_up() {
    let b = Bench::new(3);
    b.idle(10).expect("kept");
    assert!(!b.machine.usb_idle(b.node).wake, "it cannot");
    b.scanner.set_remote_wakeup();
    b.idle(10).expect("kept");
    b.idle(10).expect("kept");
    assert!(b.machine.usb_idle(b.node).wake);
    assert!(!b.machine.signal_wake(b.node), "it does not sleep");
    b.idle(0).expect("kept");
    assert!(b.machine.signal_wake(b.node));
    b.machine.run_for(1_000_000).expect("kept");
    assert!(!b.machine.usb_idle(b.node).wake);
    let up = b.machine.send_power_irp(b.node, 2, [0, 1, 1, 0]);
    assert_eq!(up.expect("kept").0, NtStatus::SUCCESS);
    b.down();
}

#[test]
fn a_broken_rule_names_the_driver() {
    let b = Bench::new(1);
    let check = b
        .send(&vendor(0, 0x0C, 0, 0, 0).put(0x38, &[1]))
        .expect_err("a broken rule");
    assert_eq!(check.rule, ntsim::rules::URB_RESERVED);
    assert!(
        check.frames.iter().any(|f| f.0 == "faulty-driver"),
        "{check}"
    );
}

#[test]
fn the_log_has_every_member() {
    let b = Bench::new(1);
    let at = b.machine.allocate(3);
    b.scanner.set_registers(9, &[7, 8, 9]);
    let urb = vendor(IN, 4, 9, at, 3).put(0x80, &[0xC0]).u16(0x84, 2);
    b.send(&urb).expect("kept");
    let log = b.machine.urbs();
    let [u] = &log[..] else {
        panic!("one URB");
    };
    assert_eq!((u.number, u.node, u.irql, u.endpoint), (1, b.node, 0, 0));
    assert_eq!((u.function, u.length()), (function::VENDOR_DEVICE, 136));
    assert_eq!((u.transfer_flags(), u.transfer_buffer_length()), (IN, 3));
    assert_eq!((u.transfer_buffer(), u.transfer_buffer_mdl()), (at, 0));
    assert_eq!(u.request_type_reserved_bits(), 0xC0);
    assert_eq!((u.request(), u.value(), u.index()), (4, 9, 2));
    assert_eq!(u.setups, [[0xC0, 4, 9, 0, 2, 0, 3, 0]]);
    assert_eq!((&u.data[..], u.transferred()), (&[7, 8, 9][..], 3));
    assert_eq!(
        (u.usbd_status, u.status),
        (usbd::SUCCESS, NtStatus::SUCCESS)
    );
    assert_eq!(u.sent, urb.0);
    assert!(u.done.is_some_and(|done| done >= u.at));
}
