//! A machine with `faulty-driver` on it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::cell::RefCell;
use std::panic::UnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;

use ntsim::{
    Bugcheck, Caller, Config, DevNode, DeviceSpec, DriverId, Handle, Machine, Nanos, NtStatus,
    PortDevice, RegValue, Resource, Width,
};

pub(crate) fn image() -> PathBuf {
    let path = std::env::var_os("FAULTY_DRIVER_SYS").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/x86_64-pc-windows-msvc/release/faulty_driver.dll")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} not found: build it with `cargo build --release --target x86_64-pc-windows-msvc -p \
         faulty-driver`, or name it in FAULTY_DRIVER_SYS",
        path.display()
    );
    path
}

#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) written: Vec<u8>,
}

impl PortDevice for Echo {
    fn read(&mut self, _: Nanos, _: usize, offset: u16, _: Width) -> u32 {
        u32::from(offset)
    }

    fn write(&mut self, _: Nanos, _: usize, _: u16, _: Width, value: u32) {
        self.written.push(value.to_le_bytes()[0]);
    }
}

pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) driver: DriverId,
    pub(crate) node: DevNode,
    pub(crate) echo: Rc<RefCell<Echo>>,
}

impl Bench {
    /// The program closes the device, which is removed, and its driver is unloaded.
    pub(crate) fn down(&self, handle: Handle) -> Result<(), Bugcheck> {
        self.machine.close(handle)?;
        self.machine.remove(self.node)?;
        self.machine.unload(self.driver)
    }
}

pub(crate) const VECTOR: u32 = 0x97;

pub(crate) fn spec() -> DeviceSpec {
    DeviceSpec {
        enumerator: "ACPI".into(),
        device_id: "MISB0001".into(),
        instance: "1".into(),
        power_pagable: true,
        ..DeviceSpec::default()
    }
    .with_resources(&[
        Resource::Port {
            base: 0x378,
            len: 8,
        },
        Resource::Interrupt {
            level: 7,
            vector: VECTOR,
            latched: true,
        },
    ])
}

pub(crate) fn bench(config: Config, sin: u32) -> Bench {
    let machine = Machine::boot(config);
    let echo = Rc::new(RefCell::new(Echo::default()));
    machine.map_ports(0x378, 8, 0, echo.clone());
    let driver = machine
        .load_driver(image(), "faulty-driver", &[("Sin", RegValue::Dword(sin))])
        .expect("load");
    let node = machine.plug(spec());
    Bench {
        machine,
        driver,
        node,
        echo,
    }
}

/// The second driver, which uses the first one's device.
pub(crate) fn accomplice(machine: &Machine) -> (DriverId, Handle) {
    let parameters = [("Client", RegValue::Dword(1))];
    let driver = machine
        .load_driver(image(), "accomplice", &parameters)
        .expect("load");
    let handle = machine.open(r"\\.\ACCOMPLICE", Caller::User64);
    (driver, handle.expect("no broken rule").expect("open"))
}

pub(crate) const fn code(function: u32) -> u32 {
    0x0022_0000 | function << 2
}

pub(crate) fn up(b: &Bench) -> Result<Handle, Bugcheck> {
    let status = b.machine.add_device(b.node, b.driver)?;
    assert_eq!(status, NtStatus::SUCCESS);
    let status = b.machine.start(b.node)?;
    assert_eq!(status, NtStatus::SUCCESS);
    Ok(b.machine.open(r"\\.\MISB", Caller::User64)?.expect("open"))
}

/// A device that is started, and that a program has open.
pub(crate) fn opened(sin: u32) -> Result<(Bench, Handle), Bugcheck> {
    opened_on(Config::default(), sin)
}

/// The same on a machine of this kind.
pub(crate) fn opened_on(config: Config, sin: u32) -> Result<(Bench, Handle), Bugcheck> {
    let b = bench(config, sin);
    let h = up(&b)?;
    Ok((b, h))
}

/// A test of a started device that a program has open, for twenty orders of the threads.
pub(crate) fn each_seed(
    test: impl Fn(&Bench, &Machine, Handle) -> Result<(), Bugcheck>,
) -> Result<(), Bugcheck> {
    for seed in 0..20 {
        let (b, h) = opened_on(Config::seeded(seed), 0)?;
        test(&b, &b.machine, h)?;
    }
    Ok(())
}

/// The text of the panic that ends this, as it reaches the test.
pub(crate) fn panic_of(life: impl FnOnce() + UnwindSafe) -> &'static str {
    let panic = std::panic::catch_unwind(life).expect_err("a panic");
    *panic.downcast().expect("text")
}
