//! The USB scanner: the URBs of its function driver, and the bus between them and the model.
//!
//! Every URB is pending first. A thread goes on with all of them about once in a millisecond, and
//! completes at `DISPATCH_LEVEL` those that are done.

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::{fmt::Write as _, ptr};

use parscan_models::{Answer, DescriptorSet, Endpoint, Scanner, Setup, Speed, UsbFunction};
use windows_sys::Wdk::System::SystemServices::IoReleaseCancelSpinLock;

use crate::{
    clock, hooks, irql,
    lock::Lock,
    nt::{
        CANCELLED, DEVICE_OBJECT, INVALID_DEVICE_REQUEST, INVALID_PARAMETER, IRP, Irp, MDL,
        NO_SUCH_DEVICE, PENDING, SUCCESS, Status, UNSUCCESSFUL,
    },
    report::broken,
    thread,
};

/// `IOCTL_INTERNAL_USB_SUBMIT_URB`
const SUBMIT_URB: u32 = 0x0022_0003;

// `URB_FUNCTION_` codes.
const SELECT_CONFIGURATION: u16 = 0x00;
const ABORT_PIPE: u16 = 0x02;
const BULK_OR_INTERRUPT_TRANSFER: u16 = 0x09;
const GET_DESCRIPTOR_FROM_DEVICE: u16 = 0x0B;
const VENDOR_DEVICE: u16 = 0x17;
const SYNC_RESET_PIPE_AND_CLEAR_STALL: u16 = 0x1E;

/// `USBD_STATUS_` codes.
mod usbd {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const STALL_PID: u32 = 0xC000_0004;
    pub(super) const DATA_OVERRUN: u32 = 0xC000_0008;
    pub(super) const BABBLE_DETECTED: u32 = 0xC000_0012;
    pub(super) const ENDPOINT_HALTED: u32 = 0xC000_0030;
    pub(super) const INVALID_PARAMETER: u32 = 0x8000_0300;
    pub(super) const INVALID_URB_FUNCTION: u32 = 0x8000_0200;
    pub(super) const INVALID_PIPE_HANDLE: u32 = 0x8000_0600;
    pub(super) const SET_CONFIG_FAILED: u32 = 0xC000_2000;
    pub(super) const BUFFER_TOO_SMALL: u32 = 0xC000_3000;
    pub(super) const INTERFACE_NOT_FOUND: u32 = 0xC000_4000;
    pub(super) const DEVICE_GONE: u32 = 0xC000_7000;
    pub(super) const CANCELED: u32 = 0xC001_0000;
}

/// `IoStatus.Status` for a `USBD_STATUS`.
const fn status_of(status: u32) -> Status {
    match status {
        usbd::SUCCESS => SUCCESS,
        usbd::CANCELED => CANCELLED,
        usbd::DEVICE_GONE => NO_SUCH_DEVICE,
        usbd::INVALID_PARAMETER
        | usbd::INVALID_URB_FUNCTION
        | usbd::INVALID_PIPE_HANDLE
        | usbd::INTERFACE_NOT_FOUND
        | usbd::BUFFER_TOO_SMALL => INVALID_PARAMETER,
        _ => UNSUCCESSFUL,
    }
}

// Offsets in URBs on x64 [usb.h].
const LENGTH: usize = 0x00;
const FUNCTION: usize = 0x02;
const STATUS: usize = 0x04;
const PIPE_HANDLE: usize = 0x18;
const TRANSFER_FLAGS: usize = 0x20;
const BUFFER_LENGTH: usize = 0x24;
const BUFFER: usize = 0x28;
const BUFFER_MDL: usize = 0x30;
const TAIL: usize = 0x80;
const CONFIG_DESCRIPTOR: usize = 0x18;
const CONFIG_HANDLE: usize = 0x20;
const CONFIG_INTERFACES: usize = 0x28;
/// `USBD_INTERFACE_INFORMATION` up to its first pipe, and a pipe.
const INTERFACE_HEAD: usize = 24;
const PIPE_SIZE: usize = 24;
/// `USBD_TRANSFER_DIRECTION_IN`
const DIRECTION_IN: u32 = 1;

/// A handle that stands for the configuration.
const CONFIGURATION_HANDLE: usize = 0xC0F1_6000;
/// Handles of pipes: this, and the endpoint's address.
const PIPE_HANDLES: usize = 0x1000;

/// A URB, in the memory of the driver under test.
#[derive(Clone, Copy)]
struct Urb(*mut u8);

impl Urb {
    fn get<T: Copy>(self, at: usize) -> T {
        // SAFETY: the driver's URB, which it keeps until it is back.
        unsafe { self.0.add(at).cast::<T>().read_unaligned() }
    }

    fn set<T>(self, at: usize, value: T) {
        // SAFETY: likewise.
        unsafe { self.0.add(at).cast::<T>().write_unaligned(value) };
    }

    fn function(self) -> u16 {
        self.get(FUNCTION)
    }

    fn has_buffer(self) -> bool {
        matches!(
            self.function(),
            BULK_OR_INTERRUPT_TRANSFER | GET_DESCRIPTOR_FROM_DEVICE | VENDOR_DEVICE
        )
    }

    /// The endpoint of a pipe's URB; 0 for the control endpoint.
    fn endpoint(self) -> Option<u8> {
        match self.function() {
            BULK_OR_INTERRUPT_TRANSFER | ABORT_PIPE | SYNC_RESET_PIPE_AND_CLEAR_STALL => {
                let handle: usize = self.get(PIPE_HANDLE);
                u8::try_from(handle.checked_sub(PIPE_HANDLES)?).ok()
            }
            _ => Some(0),
        }
    }

    /// The transfer buffer: its own, or what its MDL describes.
    fn buffer(self) -> &'static mut [u8] {
        let length = self.get::<u32>(BUFFER_LENGTH) as usize;
        let (own, mdl) = (
            self.get::<*mut u8>(BUFFER),
            self.get::<*mut MDL>(BUFFER_MDL),
        );
        let start = if own.is_null() && !mdl.is_null() {
            // SAFETY: the driver's MDL.
            let (start, bytes) = unsafe { (hooks::mdl_address(mdl), (*mdl).ByteCount as usize) };
            if bytes < length {
                broken!("a URB for {length} bytes with an MDL of {bytes}");
                return &mut [];
            }
            start
        } else {
            own
        };
        if start.is_null() || length == 0 {
            if length != 0 {
                broken!("a URB for {length} bytes without a buffer");
            }
            return &mut [];
        }
        // SAFETY: the driver's memory, which it leaves alone until the URB is back. The reference
        // lives no longer than a step of the URB.
        unsafe { core::slice::from_raw_parts_mut(start, length) }
    }
}

/// A URB on its way.
struct Flight {
    irp: Irp,
    urb: Urb,
    endpoint: u8,
    /// Bytes moved.
    done: usize,
    /// Its IRP's cancel routine has run.
    cancelled: bool,
    /// It ends with this.
    end: Option<u32>,
    /// What it sent to the control endpoint.
    setups: Vec<Setup>,
}

// SAFETY: IRP and URB are this driver's until they are completed, whatever thread that is.
unsafe impl Send for Flight {}

struct Usb {
    scanner: Option<Scanner>,
    /// Started, and on the cable.
    connected: bool,
    /// Those of the selected configuration.
    pipes: Vec<Endpoint>,
    halted: Vec<u8>,
    flights: VecDeque<Flight>,
    log: String,
}

static USB: Lock<Usb> = Lock::new(Usb {
    scanner: None,
    connected: false,
    pipes: Vec::new(),
    halted: Vec::new(),
    flights: VecDeque::new(),
    log: String::new(),
});

/// idVendor and idProduct of a Canon `LiDE` 110, in a device descriptor.
const IDENTITY: [u8; 4] = [0xA9, 0x04, 0x09, 0x19];

/// Builds the scanner and starts the thread. Whether it could.
pub(crate) fn start() -> bool {
    let scanner = Scanner::new(Speed::High);
    let mut set: DescriptorSet = scanner.descriptors();
    if let Some(identity) = set.device.get_mut(8..12) {
        identity.copy_from_slice(&IDENTITY);
    }
    scanner.set_descriptors(set);
    USB.lock().scanner = Some(scanner);
    thread::start(run)
}

/// The device has power.
pub(crate) fn connect() {
    let mut usb = USB.lock();
    if let Some(scanner) = &mut usb.scanner {
        scanner.bus_reset(clock::now());
        usb.connected = true;
    }
    usb.pipes.clear();
    usb.halted.clear();
}

/// It is off the cable: all its URBs end.
pub(crate) fn disconnect() {
    let mut usb = USB.lock();
    usb.connected = false;
    for flight in &mut usb.flights {
        flight.end.get_or_insert(usbd::DEVICE_GONE);
    }
    USB.notify();
}

/// Something that a test does to the scanner.
pub(crate) fn with_scanner<R>(f: impl FnOnce(&Scanner) -> R) -> Option<R> {
    let result = USB.lock().scanner.as_ref().map(f);
    USB.notify();
    result
}

/// What URBs were sent since the last call, if it is no more than `room`; then it is forgotten.
pub(crate) fn take_log(room: usize) -> Option<String> {
    let mut usb = USB.lock();
    (usb.log.len() <= room).then(|| core::mem::take(&mut usb.log))
}

/// `IRP_MJ_INTERNAL_DEVICE_CONTROL`
pub(crate) fn internal_control(irp: Irp) -> Status {
    if irp.parameter_u32(2) != SUBMIT_URB {
        return irp.complete(INVALID_DEVICE_REQUEST, 0);
    }
    let urb = Urb(ptr::with_exposed_provenance_mut(irp.parameter(0)));
    let endpoint = urb.endpoint();
    let level = irql::current();
    if level > irql::DISPATCH {
        broken!("a URB at IRQL {level}");
    }
    let mut usb = USB.lock();
    let end = match endpoint {
        _ if !usb.connected => Some(usbd::DEVICE_GONE),
        Some(0) => None,
        Some(address) if usb.pipes.iter().any(|it| it.address == address) => None,
        _ => {
            broken!("a URB for a pipe that is not open");
            Some(usbd::INVALID_PIPE_HANDLE)
        }
    };
    irp.mark_pending();
    irp.set_cancel_routine(cancel);
    // Cancelled before the routine was there: the thread that takes it out acts.
    let cancelled = irp.is_cancelled() && irp.take_cancel_routine();
    usb.flights.push_back(Flight {
        irp,
        urb,
        endpoint: endpoint.unwrap_or(0),
        done: 0,
        cancelled,
        end: end.or(cancelled.then_some(usbd::CANCELED)),
        setups: Vec::new(),
    });
    USB.notify();
    PENDING
}

/// The cancel routine of a pending URB's IRP. The thread completes it.
unsafe extern "system" fn cancel(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    // SAFETY: it waits for this routine, as long as `cancelled` is not set.
    let it = unsafe { Irp::from_raw(irp) };
    // SAFETY: held by the thread that calls a cancel routine.
    unsafe { IoReleaseCancelSpinLock(it.cancel_irql()) };
    let mut usb = USB.lock();
    if let Some(flight) = usb.flights.iter_mut().find(|flight| flight.irp == it) {
        flight.cancelled = true;
        flight.end.get_or_insert(usbd::CANCELED);
    }
    USB.notify();
}

fn run() {
    let mut usb = USB.lock();
    loop {
        let done = usb.frame();
        if done.is_empty() {
            // Nothing under way: until something comes.
            let milliseconds = (!usb.flights.is_empty()).then_some(1);
            usb.wait(milliseconds);
            continue;
        }
        drop(usb);
        for (irp, status) in done {
            irql::at(irql::DISPATCH, || irp.complete(status, 0));
        }
        usb = USB.lock();
    }
}

impl Usb {
    /// Goes on with every URB that is the first on its endpoint; gives those that are done.
    fn frame(&mut self) -> Vec<(Irp, Status)> {
        let mut busy = Vec::new();
        let mut done = Vec::new();
        let mut waiting = core::mem::take(&mut self.flights);
        // ABORT_PIPE ends those before it.
        let aborted: Vec<(usize, u8)> = waiting
            .iter()
            .enumerate()
            .filter(|(_, it)| it.urb.function() == ABORT_PIPE)
            .map(|(at, it)| (at, it.endpoint))
            .collect();
        for (at, flight) in waiting.iter_mut().enumerate() {
            let ends = |(from, endpoint): &(usize, u8)| *from > at && *endpoint == flight.endpoint;
            if aborted.iter().any(ends) {
                flight.end.get_or_insert(usbd::CANCELED);
            }
        }
        for mut flight in waiting {
            if !busy.contains(&flight.endpoint) && flight.end.is_none() {
                flight.end = self.step(&mut flight);
            }
            let Some(end) = flight.end else {
                busy.push(flight.endpoint);
                self.flights.push_back(flight);
                continue;
            };
            // The cancel routine still needs the IRP, if it is under way.
            if !flight.cancelled && !flight.irp.take_cancel_routine() {
                self.flights.push_back(flight);
                continue;
            }
            self.note(&flight, end);
            flight.urb.set(STATUS, end);
            if flight.urb.has_buffer() {
                flight.urb.set(
                    BUFFER_LENGTH,
                    u32::try_from(flight.done).unwrap_or(u32::MAX),
                );
            }
            done.push((flight.irp, status_of(end)));
        }
        done
    }

    fn note(&mut self, flight: &Flight, end: u32) {
        let urb = flight.urb;
        let name = match urb.function() {
            SELECT_CONFIGURATION => "SELECT_CONFIGURATION",
            ABORT_PIPE => "ABORT_PIPE",
            BULK_OR_INTERRUPT_TRANSFER => "BULK_OR_INTERRUPT_TRANSFER",
            GET_DESCRIPTOR_FROM_DEVICE => "GET_DESCRIPTOR_FROM_DEVICE",
            VENDOR_DEVICE => "VENDOR_DEVICE",
            SYNC_RESET_PIPE_AND_CLEAR_STALL => "SYNC_RESET_PIPE_AND_CLEAR_STALL",
            _ => "another function",
        };
        let _ = write!(self.log, "{name} {:02x}", flight.endpoint);
        if urb.has_buffer() {
            let asked: u32 = urb.get(BUFFER_LENGTH);
            let _ = write!(self.log, " {} of {asked} bytes", flight.done);
        }
        let _ = writeln!(self.log, " -> {end:08X}");
        for setup in &flight.setups {
            let _ = writeln!(self.log, "  SETUP {}", hex(&setup.to_bytes()));
        }
    }

    /// As far as it goes now; the `USBD_STATUS` if that is the end.
    fn step(&mut self, flight: &mut Flight) -> Option<u32> {
        let urb = flight.urb;
        match urb.function() {
            SELECT_CONFIGURATION => self.select(flight),
            ABORT_PIPE => Some(usbd::SUCCESS),
            SYNC_RESET_PIPE_AND_CLEAR_STALL => {
                let clear = Setup {
                    request_type: 0x02,
                    request: 1,
                    index: flight.endpoint.into(),
                    ..Setup::default()
                };
                let end = self.control(flight, clear)?;
                if end == usbd::SUCCESS {
                    self.halted.retain(|it| *it != flight.endpoint);
                }
                Some(end)
            }
            GET_DESCRIPTOR_FROM_DEVICE => {
                let setup = Setup {
                    request_type: 0x80,
                    request: 6,
                    // Index is the low byte, DescriptorType the high one.
                    value: urb.get(TAIL + 2),
                    index: urb.get(TAIL + 4),
                    length: setup_length(urb),
                };
                self.control(flight, setup)
            }
            VENDOR_DEVICE => {
                let is_in = urb.get::<u32>(TRANSFER_FLAGS) & DIRECTION_IN != 0;
                let setup = Setup {
                    request_type: if is_in { 0xC0 } else { 0x40 },
                    request: urb.get(TAIL + 1),
                    value: urb.get(TAIL + 2),
                    index: urb.get(TAIL + 4),
                    length: setup_length(urb),
                };
                self.control(flight, setup)
            }
            BULK_OR_INTERRUPT_TRANSFER => self.transfer(flight),
            function => {
                broken!("URB function {function:#06x}, which is not provided");
                Some(usbd::INVALID_URB_FUNCTION)
            }
        }
    }

    /// A control transfer.
    fn control(&mut self, flight: &mut Flight, setup: Setup) -> Option<u32> {
        let now = clock::now();
        let scanner = self.scanner.as_mut()?;
        if scanner.ready_at(now, 0).is_none_or(|at| at > now) {
            return None;
        }
        let buffer: &mut [u8] = if flight.urb.has_buffer() {
            flight.urb.buffer()
        } else {
            &mut []
        };
        let out: &[u8] = if setup.is_in() { &[] } else { buffer };
        flight.setups.push(setup);
        match scanner.control(now, setup, out) {
            Answer::Nak => {
                flight.setups.pop();
                None
            }
            Answer::Stall => Some(usbd::STALL_PID),
            Answer::Data(data) if setup.is_in() => {
                let Some(place) = buffer.get_mut(..data.len()) else {
                    return Some(usbd::DATA_OVERRUN);
                };
                place.copy_from_slice(&data);
                flight.done = data.len();
                Some(usbd::SUCCESS)
            }
            Answer::Data(_) => {
                flight.done = buffer.len();
                Some(usbd::SUCCESS)
            }
        }
    }

    /// Packets of a bulk or interrupt endpoint, while the device answers.
    fn transfer(&mut self, flight: &mut Flight) -> Option<u32> {
        let address = flight.endpoint;
        if self.halted.contains(&address) {
            return Some(usbd::ENDPOINT_HALTED);
        }
        let endpoint = *self.pipes.iter().find(|it| it.address == address)?;
        let buffer = flight.urb.buffer();
        let is_in = address & 0x80 != 0;
        let end = loop {
            let now = clock::now();
            let scanner = self.scanner.as_mut()?;
            if scanner.ready_at(now, address).is_none_or(|at| at > now) {
                return None;
            }
            let packet = if is_in {
                packet_in(scanner, now, endpoint, flight, buffer)
            } else {
                packet_out(scanner, now, endpoint, flight, buffer)
            };
            match packet {
                Packet::Refused => return None,
                Packet::More => {}
                Packet::End(end) => break end,
            }
        };
        if end != usbd::SUCCESS {
            self.halted.push(address);
        }
        Some(end)
    }

    /// `SELECT_CONFIGURATION` with one interface.
    fn select(&mut self, flight: &mut Flight) -> Option<u32> {
        let urb = flight.urb;
        let descriptor: *const u8 = urb.get(CONFIG_DESCRIPTOR);
        if descriptor.is_null() {
            self.pipes.clear();
            return self.control(flight, set_configuration(0));
        }
        // SAFETY: the driver's descriptor, with its total length in its third and fourth byte.
        let descriptor = unsafe {
            let total = descriptor.add(2).cast::<u16>().read_unaligned();
            core::slice::from_raw_parts(descriptor, total.into())
        };
        let at = CONFIG_INTERFACES;
        let (number, alternate) = (urb.get(at + 2), urb.get(at + 3));
        let Some((class, endpoints)) = interface(descriptor, number, alternate) else {
            return Some(usbd::INTERFACE_NOT_FOUND);
        };
        let size = INTERFACE_HEAD + endpoints.len() * PIPE_SIZE;
        if usize::from(urb.get::<u16>(at)) < size || usize::from(urb.get::<u16>(LENGTH)) < at + size
        {
            return Some(usbd::BUFFER_TOO_SMALL);
        }
        let value = descriptor.get(5).copied().unwrap_or(0);
        let end = self.control(flight, set_configuration(value))?;
        if end != usbd::SUCCESS {
            return Some(usbd::SET_CONFIG_FAILED);
        }
        urb.set(CONFIG_HANDLE, CONFIGURATION_HANDLE);
        urb.set(at + 4, class);
        urb.set(at + 8, CONFIGURATION_HANDLE + 1);
        urb.set(at + 0x10, u32::try_from(endpoints.len()).unwrap_or(0));
        for (index, endpoint) in endpoints.iter().enumerate() {
            let at = at + INTERFACE_HEAD + index * PIPE_SIZE;
            urb.set(at, endpoint.max_packet & 0x7FF);
            urb.set(at + 2, endpoint.address);
            urb.set(at + 3, endpoint.interval);
            urb.set(at + 4, u32::from(endpoint.attributes & 3));
            urb.set(at + 8, PIPE_HANDLES + usize::from(endpoint.address));
        }
        self.pipes = endpoints;
        self.halted.clear();
        Some(usbd::SUCCESS)
    }
}

/// What became of a packet.
enum Packet {
    /// NAK.
    Refused,
    /// Moved, and not the last one.
    More,
    End(u32),
}

fn packet_in(
    scanner: &mut Scanner,
    now: u64,
    endpoint: Endpoint,
    flight: &mut Flight,
    buffer: &mut [u8],
) -> Packet {
    let most = usize::from(endpoint.max_packet);
    let data = match scanner.packet_in(now, endpoint.address) {
        Answer::Nak => return Packet::Refused,
        Answer::Stall => return Packet::End(usbd::STALL_PID),
        Answer::Data(data) if data.len() > most => return Packet::End(usbd::BABBLE_DETECTED),
        Answer::Data(data) => data,
    };
    let room = buffer.get_mut(flight.done..).unwrap_or_default();
    let taken = data.len().min(room.len());
    for (place, byte) in room.iter_mut().zip(&data) {
        *place = *byte;
    }
    flight.done += taken;
    if data.len() > taken {
        Packet::End(usbd::DATA_OVERRUN)
    } else if data.len() < most || flight.done == buffer.len() {
        Packet::End(usbd::SUCCESS)
    } else {
        Packet::More
    }
}

fn packet_out(
    scanner: &mut Scanner,
    now: u64,
    endpoint: Endpoint,
    flight: &mut Flight,
    buffer: &[u8],
) -> Packet {
    let rest = buffer.get(flight.done..).unwrap_or_default();
    let packet = rest.get(..endpoint.max_packet.into()).unwrap_or(rest);
    match scanner.packet_out(now, endpoint.address, packet) {
        Answer::Nak => Packet::Refused,
        Answer::Stall => Packet::End(usbd::STALL_PID),
        Answer::Data(_) => {
            flight.done += packet.len();
            if flight.done == buffer.len() {
                Packet::End(usbd::SUCCESS)
            } else {
                Packet::More
            }
        }
    }
}

/// wLength for a URB's buffer.
fn setup_length(urb: Urb) -> u16 {
    u16::try_from(urb.get::<u32>(BUFFER_LENGTH)).unwrap_or_else(|_| {
        broken!("a control URB for more than 65535 bytes");
        u16::MAX
    })
}

fn set_configuration(value: u8) -> Setup {
    Setup {
        request: 9,
        value: value.into(),
        ..Setup::default()
    }
}

/// An interface in a configuration descriptor: its class bytes and its endpoints.
fn interface(bytes: &[u8], number: u8, alternate: u8) -> Option<([u8; 3], Vec<Endpoint>)> {
    let mut rest = bytes;
    let mut list = core::iter::from_fn(|| {
        let length = usize::from(*rest.first()?);
        if length < 2 {
            return None;
        }
        let (one, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(one)
    });
    let class = list.find_map(|it| match *it {
        [_, 4, n, a, _, class, sub, protocol, ..] if (n, a) == (number, alternate) => {
            Some([class, sub, protocol])
        }
        _ => None,
    })?;
    let endpoints = list
        .take_while(|it| it.get(1) != Some(&4))
        .filter_map(|it| match *it {
            [_, 5, address, attributes, low, high, interval, ..] => Some(Endpoint {
                address,
                attributes,
                max_packet: u16::from_le_bytes([low, high]),
                interval,
            }),
            _ => None,
        })
        .collect();
    Some((class, endpoints))
}

/// Bytes as pairs of digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
