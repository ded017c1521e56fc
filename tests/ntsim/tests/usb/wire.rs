//! The wire, checked against the `usbip` crate: a USB device model that was written by others.
//!
//! Each transfer goes to it as the bytes of a USB/IP `USBIP_CMD_SUBMIT`; it parses the SETUP packet,
//! answers standard requests itself and hands the others to a handler, which notes what arrived.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ntsim::NtStatus;
use ntsim::usb::layout::{function, usbd};
use parscan_models::{Answer, Nanos, Setup, Speed, UsbFunction};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;
use usbip::usbip_protocol::{USBIP_CMD_SUBMIT, USBIP_RET_SUBMIT, UsbIpCommand, UsbIpHeaderBasic};
use usbip::{
    SetupPacket, UsbDevice, UsbDeviceHandler, UsbEndpoint, UsbInterface, UsbInterfaceHandler,
    UsbIpServer, UsbSpeed,
};

use crate::client::{
    Bytes, Client, IN, SHORT_OK, descriptor, pipe_request, transfer, transferred, vendor,
};

/// What arrived at the device: endpoint, SETUP as the crate parsed it, OUT data.
type Seen = Arc<Mutex<Vec<(u8, SetupPacket, Vec<u8>)>>>;

/// Answers IN with this and takes OUT; a request of 0xEE fails.
#[derive(Debug)]
struct Handler {
    seen: Seen,
    answer: Vec<u8>,
}

impl Handler {
    fn handle(
        &mut self,
        endpoint: u8,
        setup: SetupPacket,
        data: &[u8],
        length: u32,
    ) -> io::Result<Vec<u8>> {
        self.seen
            .lock()
            .unwrap()
            .push((endpoint, setup, data.to_vec()));
        if setup.request == 0xEE {
            return Err(io::Error::other("stall"));
        }
        let is_in = if matches!(endpoint, 0x00 | 0x80) {
            setup.request_type & 0x80 != 0
        } else {
            endpoint & 0x80 != 0
        };
        let n = self.answer.len().min(length as usize);
        Ok(if is_in {
            self.answer[..n].to_vec()
        } else {
            Vec::new()
        })
    }
}

impl UsbDeviceHandler for Handler {
    fn handle_urb(&mut self, length: u32, setup: SetupPacket, data: &[u8]) -> io::Result<Vec<u8>> {
        self.handle(0, setup, data, length)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl UsbInterfaceHandler for Handler {
    fn get_class_specific_descriptor(&self) -> Vec<u8> {
        Vec::new()
    }

    fn handle_urb(
        &mut self,
        _interface: &UsbInterface,
        endpoint: UsbEndpoint,
        length: u32,
        setup: SetupPacket,
        data: &[u8],
    ) -> io::Result<Vec<u8>> {
        self.handle(endpoint.address, setup, data, length)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The crate's server at the other end of a pair of byte streams.
struct Wire {
    runtime: Runtime,
    socket: DuplexStream,
    sequence: u32,
}

impl Wire {
    fn new(device: UsbDevice) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (mut socket, mut far) = tokio::io::duplex(1 << 20);
        let mut busid = [0; 32];
        busid[..device.bus_id.len()].copy_from_slice(device.bus_id.as_bytes());
        let server = Arc::new(UsbIpServer::new_simulated(vec![device]));
        runtime.spawn(async move { usbip::handler(&mut far, server).await });
        runtime.block_on(async {
            let import = UsbIpCommand::OpReqImport { status: 0, busid };
            socket.write_all(&import.to_bytes()).await.unwrap();
            // OP_REP_IMPORT with the device: 8 and 312 bytes.
            let mut reply = [0; 320];
            socket.read_exact(&mut reply).await.unwrap();
            assert_eq!(reply[4..8], [0; 4], "imported");
        });
        Self {
            runtime,
            socket,
            sequence: 0,
        }
    }

    /// One `USBIP_CMD_SUBMIT` and its answer.
    fn submit(
        &mut self,
        endpoint: u8,
        is_in: bool,
        setup: [u8; 8],
        data: &[u8],
        length: usize,
    ) -> Answer {
        self.sequence += 1;
        let command = UsbIpCommand::UsbIpCmdSubmit {
            header: UsbIpHeaderBasic {
                command: USBIP_CMD_SUBMIT.into(),
                seqnum: self.sequence,
                devid: 0,
                direction: is_in.into(),
                ep: (endpoint & 0x7F).into(),
            },
            transfer_flags: 0,
            transfer_buffer_length: u32::try_from(length).unwrap(),
            start_frame: 0,
            number_of_packets: 0,
            interval: 0,
            setup,
            data: data.to_vec(),
            iso_packet_descriptor: Vec::new(),
        };
        let socket = &mut self.socket;
        self.runtime.block_on(async {
            socket.write_all(&command.to_bytes()).await.unwrap();
            let mut head = [0; 48];
            socket.read_exact(&mut head).await.unwrap();
            let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
            assert_eq!(word(0), USBIP_RET_SUBMIT.into());
            let actual = word(24) as usize;
            let mut bytes = vec![0; if is_in { actual } else { 0 }];
            socket.read_exact(&mut bytes).await.unwrap();
            match word(20) {
                0 => Answer::Data(bytes),
                _ => Answer::Stall,
            }
        })
    }
}

/// The crate's device as a model of ours.
#[derive(Clone)]
struct Bridge {
    wire: Rc<RefCell<Wire>>,
    seen: Seen,
    /// The same SETUP packets, as bytes.
    setups: Rc<RefCell<Vec<[u8; 8]>>>,
}

impl Bridge {
    fn new(answer: &[u8]) -> Self {
        let seen = Seen::default();
        let handler = || Handler {
            seen: Arc::clone(&seen),
            answer: answer.to_vec(),
        };
        let endpoint = |address, attributes, max_packet_size, interval| UsbEndpoint {
            address,
            attributes,
            max_packet_size,
            interval,
        };
        let interface = Box::new(handler()) as Box<dyn UsbInterfaceHandler + Send>;
        let mut device = UsbDevice::new(0).with_interface(
            6,
            1,
            1,
            Some("Scanner"),
            vec![
                endpoint(0x81, 2, 512, 0),
                endpoint(0x02, 2, 512, 0),
                endpoint(0x83, 3, 8, 7),
            ],
            Arc::new(Mutex::new(interface)),
        );
        device.vendor_id = 0x1209;
        device.product_id = 0x0001;
        device.speed = UsbSpeed::High as u32;
        let own = Box::new(handler()) as Box<dyn UsbDeviceHandler + Send>;
        device.device_handler = Some(Arc::new(Mutex::new(own)));
        Self {
            wire: Rc::new(RefCell::new(Wire::new(device))),
            seen,
            setups: Rc::default(),
        }
    }

    fn take(&self) -> Vec<(u8, SetupPacket, Vec<u8>)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl UsbFunction for Bridge {
    fn speed(&self) -> Speed {
        Speed::High
    }

    fn control(&mut self, _: Nanos, setup: Setup, data: &[u8]) -> Answer {
        self.setups.borrow_mut().push(setup.to_bytes());
        let length = usize::from(setup.length);
        self.wire
            .borrow_mut()
            .submit(0, setup.is_in(), setup.to_bytes(), data, length)
    }

    fn packet_in(&mut self, _: Nanos, endpoint: u8) -> Answer {
        self.wire
            .borrow_mut()
            .submit(endpoint, true, [0; 8], &[], 512)
    }

    fn packet_out(&mut self, _: Nanos, endpoint: u8, data: &[u8]) -> Answer {
        self.wire
            .borrow_mut()
            .submit(endpoint, false, [0; 8], data, data.len())
    }
}

/// `SetupPacket` has no `PartialEq`.
fn parts(s: SetupPacket) -> (u8, u8, u16, u16, u16) {
    (s.request_type, s.request, s.value, s.index, s.length)
}

#[test]
fn its_descriptors_configure_the_device() {
    let c = Client::with(1, Bridge::new(&[]));
    let buffer = c.machine.allocate_pool(255, false);
    let read = |kind, index, language: u16| {
        let urb = descriptor(kind, index, buffer, 255).u16(0x84, language);
        let (status, _, back) = c.run(&urb).expect("kept");
        assert_eq!(status, NtStatus::SUCCESS);
        let length = usize::try_from(transferred(&back)).unwrap();
        c.machine.read_memory(buffer, length).expect("read")
    };
    let device = read(1, 0, 0);
    assert_eq!(
        (device.len(), &device[8..12]),
        (18, &[0x09, 0x12, 1, 0][..])
    );
    let configuration = read(2, 0, 0);
    assert_eq!(configuration.len(), 9 + 9 + 3 * 7);
    assert_eq!(configuration[9..13], [9, 4, 0, 0]);
    let product = read(3, device[15], 0x0409);
    assert_eq!(product[..4], [16, 3, b'P', 0]);
    let pipes = c.configure().expect("kept");
    assert_eq!(pipes.len(), 3);
    assert_eq!(
        c.device.setups.borrow().last(),
        Some(&[0, 9, 1, 0, 0, 0, 0, 0])
    );
}

#[test]
fn it_parses_every_vendor_request_as_the_urb_says() {
    let answer: Vec<u8> = (0..=250).cycle().take(0xFFFF).collect();
    let data: Vec<u8> = (0..=250).rev().cycle().take(0xFFFF).collect();
    let c = Client::with(1, Bridge::new(&answer));
    let buffer = c.pool(&data);
    let [out, into] = [(0, 0x40_u8), (IN | SHORT_OK, 0xC0)];
    // The register requests, and any other, of every length that matters.
    for (request, length, value, index) in [
        (0x0C_u8, 0_usize, 0x8000_u16, 1_u16),
        (0x0C, 1, 0xFFFF, 0),
        (0x04, 2, 1, 0x8000),
        (0x04, 255, 0x1234, 0x5678),
        (0x04, 256, 0x00FF, 0xFF00),
        (0x04, 4096, 0xFF00, 0x00FF),
        (0x04, 65_535, 0x7FFF, 0xFFFF),
        (0x9A, 0, 0, 0xABCD),
        (0x9A, 65_535, 0xABCD, 0),
    ] {
        for (flags, kind) in [out, (IN, 0xC0), into] {
            c.machine.write_memory(buffer, &data).expect("written");
            let place = if length > 0 { buffer } else { 0 };
            let urb = vendor(flags, request, value, place, length)
                .put(0x80, &[kind])
                .u16(0x84, index);
            let (status, _, back) = c.run(&urb).expect("kept");
            let moved = usize::try_from(transferred(&back)).unwrap();
            assert_eq!((status, moved), (NtStatus::SUCCESS, length));
            let [(endpoint, setup, seen)] = &c.device.take()[..] else {
                panic!("one request");
            };
            let wanted = (kind, request, value, index, u16::try_from(length).unwrap());
            assert_eq!((*endpoint, parts(*setup)), (0, wanted));
            let is_in = flags & IN != 0;
            let sent = if is_in { &[] } else { &data[..length] };
            assert!(seen == sent, "{length} bytes");
            if is_in {
                let got = c.machine.read_memory(buffer, length).expect("read");
                assert!(got == answer[..length], "{length} bytes");
            }
        }
    }
    // Recipients and types; interface requests go to the interface's handler.
    for (code, kind) in [
        (function::VENDOR_INTERFACE, 0xC1),
        (function::VENDOR_ENDPOINT, 0xC2),
        (function::VENDOR_OTHER, 0xC3),
        (function::CLASS_DEVICE, 0xA0),
        (function::CLASS_INTERFACE, 0xA1),
        (function::CLASS_ENDPOINT, 0xA2),
        (function::CLASS_OTHER, 0xA3),
    ] {
        let urb = vendor(IN, 7, 0, buffer, 4).u16(2, code);
        assert!(c.run(&urb).expect("kept").0.is_success());
        let [(_, setup, _)] = &c.device.take()[..] else {
            panic!("one request");
        };
        assert_eq!(parts(*setup), (kind, 7, 0, 0, 4), "{code:#x}");
    }
    // What its handler refuses is a stall.
    let (status, code, _) = c.run(&vendor(0, 0xEE, 0, 0, 0)).expect("kept");
    assert_eq!((status, code), (NtStatus::UNSUCCESSFUL, usbd::STALL_PID));
}

#[test]
fn it_parses_the_standard_requests_of_the_stack() {
    let c = Client::with(1, Bridge::new(&[1, 0]));
    let pipes = c.configure().expect("kept");
    c.device.take();
    let buffer = c.machine.allocate_pool(2, false);
    let reset = pipe_request(function::SYNC_RESET_PIPE_AND_CLEAR_STALL, pipes[0]);
    let status = Bytes::new(function::GET_STATUS_FROM_ENDPOINT, 136)
        .buffer(buffer, 2)
        .u16(0x84, 0x81);
    let feature = Bytes::new(function::SET_FEATURE_TO_ENDPOINT, 136).u16(0x84, 0x02);
    let wakeup = Bytes::new(function::CLEAR_FEATURE_TO_DEVICE, 136).u16(0x82, 1);
    for (urb, wanted) in [
        (reset, (0x02, 1, 0, 0x81, 0)),
        (status, (0x82, 0, 0, 0x81, 2)),
        (feature, (0x02, 3, 0, 0x02, 0)),
        (wakeup, (0x00, 1, 1, 0, 0)),
    ] {
        assert!(c.run(&urb).expect("kept").0.is_success());
        let [(_, setup, _)] = &c.device.take()[..] else {
            panic!("one request");
        };
        assert_eq!(parts(*setup), wanted);
    }
}

#[test]
fn its_bulk_pipes_carry_packets() {
    let c = Client::with(1, Bridge::new(&[9; 100]));
    let pipes = c.configure().expect("kept");
    c.device.take();
    let data: Vec<u8> = (0..=255).cycle().take(1300).collect();
    let buffer = c.pool(&data);
    let (status, _, back) = c.run(&transfer(pipes[1], 0, buffer, 1300)).expect("kept");
    assert_eq!((status, transferred(&back)), (NtStatus::SUCCESS, 1300));
    let seen = c.device.take();
    let lengths: Vec<usize> = seen.iter().map(|(_, _, d)| d.len()).collect();
    assert_eq!(lengths, [512, 512, 276]);
    assert!(seen.iter().all(|(endpoint, ..)| *endpoint == 0x02));
    let all: Vec<u8> = seen.into_iter().flat_map(|(_, _, d)| d).collect();
    assert_eq!(all, data);
    let read = transfer(pipes[0], IN | SHORT_OK, buffer, 1024);
    let (status, _, back) = c.run(&read).expect("kept");
    assert_eq!((status, transferred(&back)), (NtStatus::SUCCESS, 100));
    assert_eq!(c.machine.read_memory(buffer, 100).expect("read"), [9; 100]);
}
