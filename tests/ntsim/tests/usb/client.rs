//! A kernel component that builds URBs by hand, byte by byte as usb.h lays them out on x64.

use std::cell::RefCell;
use std::rc::Rc;

use ntsim::usb::Urb;
use ntsim::usb::layout::function;
use ntsim::{
    Bugcheck, Config, DevNode, DeviceSpec, IoResult, Machine, NtStatus, Pending, UsbFunction,
};
use parscan_models::{Scanner, Speed};

pub(crate) const PASSIVE: u8 = 0;
pub(crate) const DISPATCH: u8 = 2;
/// `USBD_TRANSFER_DIRECTION_IN` and `USBD_SHORT_TRANSFER_OK`.
pub(crate) const IN: u32 = 1;
pub(crate) const SHORT_OK: u32 = 2;

/// A URB to be: zeroed, with its header.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn new(function: u16, length: usize) -> Self {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
        bytes[2..4].copy_from_slice(&function.to_le_bytes());
        Self(bytes)
    }

    pub(crate) fn put(mut self, at: usize, value: &[u8]) -> Self {
        self.0[at..at + value.len()].copy_from_slice(value);
        self
    }

    pub(crate) fn pointer(self, at: usize, value: usize) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn buffer(self, address: usize, length: usize) -> Self {
        self.pointer(0x28, address)
            .u32(0x24, u32::try_from(length).unwrap())
    }
}

/// `_URB_BULK_OR_INTERRUPT_TRANSFER`
pub(crate) fn transfer(pipe: usize, flags: u32, buffer: usize, length: usize) -> Bytes {
    Bytes::new(function::BULK_OR_INTERRUPT_TRANSFER, 128)
        .pointer(0x18, pipe)
        .u32(0x20, flags)
        .buffer(buffer, length)
}

/// `_URB_CONTROL_VENDOR_OR_CLASS_REQUEST`
pub(crate) fn vendor(flags: u32, request: u8, value: u16, buffer: usize, length: usize) -> Bytes {
    Bytes::new(function::VENDOR_DEVICE, 136)
        .u32(0x20, flags)
        .buffer(buffer, length)
        .put(0x81, &[request])
        .u16(0x82, value)
}

/// `_URB_CONTROL_DESCRIPTOR_REQUEST`
pub(crate) fn descriptor(kind: u8, index: u8, buffer: usize, length: usize) -> Bytes {
    Bytes::new(function::GET_DESCRIPTOR_FROM_DEVICE, 136)
        .buffer(buffer, length)
        .put(0x82, &[index, kind])
}

/// `_URB_PIPE_REQUEST`
pub(crate) fn pipe_request(code: u16, pipe: usize) -> Bytes {
    Bytes::new(code, 40).pointer(0x18, pipe)
}

/// A URB on its way.
pub(crate) struct Sent {
    pub(crate) address: usize,
    length: usize,
    pub(crate) pending: Pending,
}

/// A machine with a started USB device, and no driver on top of its PDO.
pub(crate) struct Client<F = Scanner> {
    pub(crate) machine: Machine,
    pub(crate) device: F,
    pub(crate) node: DevNode,
}

impl Client {
    pub(crate) fn scanner(seed: u64, cable: Speed) -> Self {
        Self::with(seed, Scanner::new(cable))
    }
}

impl<F: UsbFunction + Clone + 'static> Client<F> {
    pub(crate) fn with(seed: u64, device: F) -> Self {
        let machine = Machine::boot(Config::seeded(seed));
        let spec = DeviceSpec::usb_image(0x1209, 0x0001, 0x0102, "1");
        let node = machine.plug_usb(spec, Rc::new(RefCell::new(device.clone())));
        assert_eq!(machine.start(node), Ok(NtStatus::SUCCESS));
        Self {
            machine,
            device,
            node,
        }
    }

    pub(crate) fn pool(&self, bytes: &[u8]) -> usize {
        let at = self.machine.allocate_pool(bytes.len().max(1), false);
        self.machine.write_memory(at, bytes).unwrap();
        at
    }

    pub(crate) fn send_at(&self, urb: &Bytes, irql: u8) -> Sent {
        let address = self.pool(&urb.0);
        Sent {
            address,
            length: urb.0.len(),
            pending: self.machine.start_urb(self.node, address, irql),
        }
    }

    pub(crate) fn send(&self, urb: &Bytes) -> Sent {
        self.send_at(urb, PASSIVE)
    }

    pub(crate) fn finish(&self, sent: &Sent) -> Result<(IoResult, Vec<u8>), Bugcheck> {
        let result = self.machine.finish(&sent.pending)?;
        let back = self.machine.read_memory(sent.address, sent.length)?;
        Ok((result, back))
    }

    /// Sends a URB and waits. Gives NTSTATUS, `USBD_STATUS` and the URB.
    pub(crate) fn run(&self, urb: &Bytes) -> Result<(NtStatus, u32, Vec<u8>), Bugcheck> {
        let (result, back) = self.finish(&self.send(urb))?;
        let usbd = u32::from_le_bytes(back[4..8].try_into().unwrap());
        Ok((result.status, usbd, back))
    }

    /// The rule that sending this breaks.
    pub(crate) fn broken(&self, urb: &Bytes) -> &'static str {
        self.broken_at(urb, PASSIVE)
    }

    pub(crate) fn broken_at(&self, urb: &Bytes, irql: u8) -> &'static str {
        let sent = self.send_at(urb, irql);
        self.finish(&sent).expect_err("a broken rule").rule.code
    }

    pub(crate) fn last(&self) -> Urb {
        self.machine.urbs().pop().expect("a URB")
    }

    /// `SELECT_CONFIGURATION` with the first interface of this descriptor and room for `pipes`.
    pub(crate) fn select(&self, configuration: &[u8], pipes: usize) -> Bytes {
        let at = self.pool(configuration);
        Bytes::new(function::SELECT_CONFIGURATION, 40 + 24 + 24 * pipes)
            .pointer(0x18, at)
            .u16(0x28, u16::try_from(24 + 24 * pipes).unwrap())
    }

    /// Reads the configuration descriptor, selects it, gives the pipes' handles in order.
    pub(crate) fn configure(&self) -> Result<Vec<usize>, Bugcheck> {
        let buffer = self.machine.allocate_pool(512, false);
        let (status, _, back) = self.run(&descriptor(2, 0, buffer, 512))?;
        assert_eq!(status, NtStatus::SUCCESS);
        let length = u32::from_le_bytes(back[0x24..0x28].try_into().unwrap());
        let bytes = self.machine.read_memory(buffer, length as usize)?;
        let pipes = usize::from(bytes[9 + 4]);
        let (status, usbd, back) = self.run(&self.select(&bytes, pipes))?;
        assert_eq!((status, usbd), (NtStatus::SUCCESS, 0));
        Ok((0..pipes)
            .map(|i| {
                let at = 0x40 + 24 * i + 8;
                usize::from_le_bytes(back[at..at + 8].try_into().unwrap())
            })
            .collect())
    }
}

/// `TransferBufferLength` of a completed URB.
pub(crate) fn transferred(back: &[u8]) -> u32 {
    u32::from_le_bytes(back[0x24..0x28].try_into().unwrap())
}
