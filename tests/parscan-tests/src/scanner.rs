//! A PC with a USB scanner and the driver on it.
//!
//! [`ScannerPc`] is to the still-image role what [`Pc`](crate::Pc) is to the parallel one;
//! [`usbscan_h`] has the requests as a program knows them.

use std::{cell::RefCell, rc::Rc};

use ntsim::{
    Caller, Config, DevNode, DeviceSpec, DriverId, Handle, IoResult, Machine, NtStatus, Pending,
    RegValue, usb::Urb,
};
use parscan_models::Scanner;

use crate::{
    assert_nothing_left, check, driver_image,
    usbscan_h::{self, IoBlock, IoBlockEx},
};

/// `DO_BUFFERED_IO` (wdm.h).
const DO_BUFFERED_IO: u32 = 0x4;

/// bEndpointAddress of the default scanner's bulk pipe to the host.
pub const BULK_IN: u8 = 0x81;
/// bEndpointAddress of its bulk pipe from the host.
pub const BULK_OUT: u8 = 0x02;

/// What a machine with a scanner shall be like.
#[derive(Clone)]
pub struct ScannerSetup {
    /// How the simulation behaves.
    pub config: Config,
    /// The scanner, with its endpoints, descriptors and misbehaviour.
    pub scanner: Scanner,
    /// Values in the `Parameters` key of the service; the INF sets `Role`.
    pub parameters: Vec<(&'static str, RegValue)>,
    /// Values in the hardware key of the device ("Device Parameters").
    pub hardware_key: Vec<(String, RegValue)>,
    /// Values in the software key of the device.
    pub software_key: Vec<(String, RegValue)>,
    /// The bus driver's device object wants buffered reads and writes, as KMDF makes it.
    pub is_buffered: bool,
}

impl Default for ScannerSetup {
    fn default() -> Self {
        Self {
            config: Config::default(),
            scanner: Scanner::default(),
            parameters: vec![("Role", RegValue::Dword(2))],
            hardware_key: Vec::new(),
            software_key: Vec::new(),
            is_buffered: false,
        }
    }
}

impl ScannerSetup {
    /// The default scanner on a machine that behaves so.
    #[must_use]
    pub fn with_config(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// A machine whose scheduler follows this seed, and switches threads often.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::with_config(Config {
            seed,
            preempt_per_mille: 300,
            ..Config::default()
        })
    }

    /// The same with these numbers in the device's hardware key.
    #[must_use]
    pub fn with_numbers(mut self, numbers: &[(&str, u32)]) -> Self {
        let numbers = numbers.iter();
        self.hardware_key
            .extend(numbers.map(|(name, value)| ((*name).to_owned(), RegValue::Dword(*value))));
        self
    }

    /// The devnode of the scanner.
    #[must_use]
    pub fn device(&self, instance: &str) -> DeviceSpec {
        DeviceSpec {
            hardware_key: self.hardware_key.clone(),
            software_key: self.software_key.clone(),
            flags: if self.is_buffered { DO_BUFFERED_IO } else { 0 },
            ..DeviceSpec::usb_image(
                Scanner::VENDOR,
                Scanner::PRODUCT,
                Scanner::RELEASE,
                instance,
            )
        }
    }

    /// A machine with the driver loaded and the scanner plugged in, not yet added or started.
    ///
    /// # Panics
    /// If the driver does not load.
    #[must_use]
    pub fn loaded(self) -> ScannerPc {
        let machine = Machine::boot(self.config.clone());
        let driver = machine
            .load_driver(driver_image(), "ParscanScan", &self.parameters)
            .unwrap_or_else(|error| panic!("{error}"));
        let function = Rc::new(RefCell::new(self.scanner.clone()));
        let node = machine.plug_usb(self.device("1"), function);
        ScannerPc {
            machine,
            scanner: self.scanner,
            driver,
            node,
        }
    }

    /// A machine with a started scanner.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn started(self) -> ScannerPc {
        let pc = self.loaded();
        let added = check(pc.machine.add_device(pc.node, pc.driver));
        assert_eq!(added, NtStatus::SUCCESS, "AddDevice");
        let started = check(pc.machine.start(pc.node));
        assert_eq!(started, NtStatus::SUCCESS, "START_DEVICE");
        pc
    }
}

/// A simulated PC with a scanner.
pub struct ScannerPc {
    /// The machine.
    pub machine: Machine,
    /// What is on the cable.
    pub scanner: Scanner,
    /// parscan.
    pub driver: DriverId,
    /// The scanner's devnode.
    pub node: DevNode,
}

impl Default for ScannerPc {
    fn default() -> Self {
        Self::new()
    }
}

/// An open handle, and who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The handle.
    pub handle: Handle,
    /// Decides the layout of structures that carry a pointer.
    pub caller: Caller,
}

impl ScannerPc {
    /// A PC with the default scanner, started.
    #[must_use]
    pub fn new() -> Self {
        ScannerSetup::default().started()
    }

    /// Opens `\\.\Usbscan0` as a 64-bit program does.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open(&self) -> Opened {
        self.open_as(r"\\.\Usbscan0", Caller::User64)
    }

    /// Opens `\\.\Usbscan0\N`: the endpoint with index `index` for its type.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open_pipe(&self, index: u32) -> Opened {
        self.open_as(&format!(r"\\.\Usbscan0\{index}"), Caller::User64)
    }

    /// Opens a name as this caller.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open_as(&self, name: &str, caller: Caller) -> Opened {
        self.try_open(name, caller)
            .unwrap_or_else(|status| panic!("{name}: {status}"))
    }

    /// Opens a name as this caller.
    ///
    /// # Errors
    /// The status of the open.
    pub fn try_open(&self, name: &str, caller: Caller) -> Result<Opened, NtStatus> {
        check(self.machine.open(name, caller)).map(|handle| Opened { handle, caller })
    }

    /// `DeviceIoControl`.
    #[must_use]
    pub fn control(&self, file: Opened, code: u32, input: &[u8], output: usize) -> IoResult {
        check(
            self.machine
                .device_io_control(file.handle, code, input, output),
        )
    }

    /// `DeviceIoControl` with overlapped I/O: the request reaches the driver and may wait there.
    #[must_use]
    pub fn start(&self, file: Opened, code: u32, input: &[u8], output: usize) -> Pending {
        let request = self
            .machine
            .start_io_control(file.handle, code, input, output);
        check(self.machine.run_for(crate::MS));
        request
    }

    /// `IOCTL_READ_REGISTERS`, with an output buffer of the same length.
    #[must_use]
    pub fn read_registers(&self, file: Opened, offset: u32, length: u32) -> IoResult {
        let block = IoBlock {
            offset,
            length,
            ..IoBlock::default()
        };
        let output = usize::try_from(length).unwrap_or(usize::MAX);
        let input = block.bytes(file.caller);
        self.control(file, usbscan_h::IOCTL_READ_REGISTERS, &input, output)
    }

    /// `IOCTL_WRITE_REGISTERS` of what is at an address of the caller.
    #[must_use]
    pub fn write_registers(&self, file: Opened, block: IoBlock) -> IoResult {
        let input = block.bytes(file.caller);
        self.control(file, usbscan_h::IOCTL_WRITE_REGISTERS, &input, 0)
    }

    /// `IOCTL_SEND_USB_REQUEST`; `output` is 0 for what goes to the device.
    #[must_use]
    pub fn send_request(&self, file: Opened, block: IoBlockEx, output: usize) -> IoResult {
        let input = block.bytes(file.caller);
        self.control(file, usbscan_h::IOCTL_SEND_USB_REQUEST, &input, output)
    }

    /// `IOCTL_WAIT_ON_DEVICE_EVENT`, which waits for [`Scanner::press`].
    #[must_use]
    pub fn wait_on_event(&self, file: Opened, output: usize) -> Pending {
        self.start(file, usbscan_h::IOCTL_WAIT_ON_DEVICE_EVENT, &[], output)
    }

    /// `ReadFile`.
    #[must_use]
    pub fn read(&self, file: Opened, length: usize) -> IoResult {
        check(self.machine.read(file.handle, length))
    }

    /// `WriteFile`.
    #[must_use]
    pub fn write(&self, file: Opened, data: &[u8]) -> IoResult {
        check(self.machine.write(file.handle, data))
    }

    /// The result of a request that waited.
    #[must_use]
    pub fn finish_request(&self, request: &Pending) -> IoResult {
        check(self.machine.finish(request))
    }

    /// Closes a handle.
    ///
    /// # Panics
    /// If it is not open.
    pub fn close(&self, file: Opened) {
        assert_eq!(check(self.machine.close(file.handle)), NtStatus::SUCCESS);
    }

    /// What the driver sent since the URB with number `after`.
    #[must_use]
    pub fn urbs_since(&self, after: u64) -> Vec<Urb> {
        let urbs = self.machine.urbs();
        urbs.into_iter().filter(|u| u.number > after).collect()
    }

    /// The end: removes the scanner, unloads the driver, and sees that nothing is left.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn finish(self) {
        assert_eq!(check(self.machine.remove(self.node)), NtStatus::SUCCESS);
        self.unload();
    }

    /// What a test does with an open of it; then the end of both.
    ///
    /// # Panics
    /// As [`ScannerPc::finish`].
    #[track_caller]
    pub fn with_open(self, test: impl FnOnce(&Self, Opened)) {
        let file = self.open();
        test(&self, file);
        self.close_and_finish(file);
    }

    /// Closes the last handle, and [`ScannerPc::finish`].
    ///
    /// # Panics
    /// As [`ScannerPc::finish`].
    #[track_caller]
    pub fn close_and_finish(self, file: Opened) {
        self.close(file);
        self.finish();
    }

    /// Unloads the driver of a scanner that is gone, and sees that nothing is left.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn unload(&self) {
        check(self.machine.unload(self.driver));
        assert_nothing_left(&self.machine);
    }
}
