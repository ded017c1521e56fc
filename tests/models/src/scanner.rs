//! A USB still-image device: registers, an image source, a command sink, a button.

use alloc::{rc::Rc, vec::Vec};
use core::cell::RefCell;

use crate::{Endpoint, Nanos, Setup, Speed};
use device::{Fault, State};

mod descriptors;
mod device;
mod hostile;

pub use descriptors::DescriptorSet;

/// A scanner. Clones are the same device.
///
/// - Vendor requests 0x04 and 0x0C to the device read and write 64 KiB of registers from wValue on.
/// - A bulk OUT packet `SCAN`, length and seed (both 32 bits, low byte first) makes the bulk IN
///   endpoint of the same rank send [`Scanner::image`] of that length; it answers NAK before that.
/// - [`Scanner::press`] makes the interrupt endpoint send a report.
///
/// All misbehaviour is on request; see the methods.
#[derive(Clone, Debug)]
pub struct Scanner(Rc<RefCell<State>>);

impl Default for Scanner {
    fn default() -> Self {
        Self::new(Speed::High)
    }
}

impl Scanner {
    /// idVendor: pid.codes.
    pub const VENDOR: u16 = 0x1209;
    /// idProduct: one that pid.codes keeps for tests.
    pub const PRODUCT: u16 = 0x0001;
    /// bcdDevice.
    pub const RELEASE: u16 = 0x0102;

    /// A scanner with bulk IN 0x81, bulk OUT 0x02 and interrupt IN 0x83.
    #[must_use]
    pub fn new(speed: Speed) -> Self {
        let packet = match speed {
            Speed::Full => 64,
            Speed::High => 512,
            Speed::Super => 1024,
        };
        let interval = match speed {
            Speed::Full => 8,
            Speed::High | Speed::Super => 7,
        };
        Self::with_endpoints(
            speed,
            &[
                Endpoint::bulk(0x81, packet),
                Endpoint::bulk(0x02, packet),
                Endpoint::interrupt(0x83, 8, interval),
            ],
        )
    }

    /// A scanner with these endpoints, in this order in its descriptors.
    #[must_use]
    pub fn with_endpoints(speed: Speed, endpoints: &[Endpoint]) -> Self {
        Self(Rc::new(RefCell::new(State::new(speed, endpoints))))
    }

    /// The pixels of the image with this seed: reproducible, and different at every offset.
    #[must_use]
    pub fn image(seed: u32, length: usize) -> Vec<u8> {
        let mut rng = Rng(u64::from(seed));
        (0..length).map(|_| rng.byte()).collect()
    }

    /// The command that makes the scanner send [`Scanner::image`].
    #[must_use]
    pub fn scan_command(length: u32, seed: u32) -> [u8; 12] {
        let mut command = *b"SCAN\0\0\0\0\0\0\0\0";
        for (place, byte) in command[4..]
            .iter_mut()
            .zip(length.to_le_bytes().into_iter().chain(seed.to_le_bytes()))
        {
            *place = byte;
        }
        command
    }

    /// What the device says it is.
    #[must_use]
    pub fn descriptors(&self) -> DescriptorSet {
        self.0.borrow().set.clone()
    }

    /// Makes the device say something else of itself, such as [`DescriptorSet::hostile`].
    pub fn set_descriptors(&self, set: DescriptorSet) {
        self.0.borrow_mut().set = set;
    }

    /// From now on its configuration says that it can signal remote wake-up.
    pub fn set_remote_wakeup(&self) {
        if let Some(attributes) = self.0.borrow_mut().set.configuration.get_mut(7) {
            *attributes |= device::REMOTE_WAKEUP;
        }
    }

    /// The endpoints that really are there.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.0.borrow().endpoints.clone()
    }

    /// Every SETUP stage since it was plugged in or they were taken, oldest first.
    #[must_use]
    pub fn take_setups(&self) -> Vec<Setup> {
        core::mem::take(&mut self.0.borrow_mut().setups)
    }

    /// The selected configuration, 0 for none.
    #[must_use]
    pub fn configuration(&self) -> u8 {
        self.0.borrow().configuration
    }

    /// Reads registers, wrapping at the end of the file.
    #[must_use]
    pub fn registers(&self, from: u16, length: usize) -> Vec<u8> {
        let s = self.0.borrow();
        s.register_range(from, length)
            .map(|at| s.registers[at])
            .collect()
    }

    /// Sets registers, wrapping at the end of the file.
    pub fn set_registers(&self, from: u16, bytes: &[u8]) {
        self.0.borrow_mut().store(from, bytes);
    }

    /// What the device sends to vendor IN requests with this bRequest. Without an answer, requests
    /// other than the register requests stall.
    pub fn answer_vendor(&self, request: u8, bytes: &[u8]) {
        self.0.borrow_mut().answers.insert(request, bytes.to_vec());
    }

    /// The data stage of the last vendor OUT request that was not to the registers.
    #[must_use]
    pub fn vendor_data(&self) -> Vec<u8> {
        self.0.borrow().vendor_data.clone()
    }

    /// Everything written to a bulk OUT endpoint.
    #[must_use]
    pub fn written(&self, endpoint: u8) -> Vec<u8> {
        let s = self.0.borrow();
        s.written.get(&endpoint).cloned().unwrap_or_default()
    }

    /// Queues data on an IN endpoint. The last packet is short unless the length is a multiple of
    /// the packet size; `zlp` then asks for a zero-length packet. Empty data is one.
    pub fn send(&self, endpoint: u8, bytes: &[u8], zlp: bool) {
        self.0.borrow_mut().queue(endpoint, bytes, zlp);
    }

    /// A button: the first interrupt IN endpoint sends this report.
    ///
    /// # Panics
    /// If there is no such endpoint.
    pub fn press(&self, report: &[u8]) {
        let endpoint = self
            .endpoints()
            .into_iter()
            .find(|e| e.attributes & 3 == 3 && e.address & 0x80 != 0)
            .expect("an interrupt endpoint");
        self.send(endpoint.address, report, false);
    }

    /// How many bytes an IN endpoint still has to send.
    #[must_use]
    pub fn unsent(&self, endpoint: u8) -> usize {
        let s = self.0.borrow();
        s.messages
            .get(&endpoint)
            .map_or(0, |q| q.iter().map(|m| m.bytes.len()).sum())
    }

    /// Forgets what an IN endpoint still has to send, and what it was to do wrong.
    pub fn forget(&self, endpoint: u8) {
        let mut s = self.0.borrow_mut();
        s.messages.remove(&endpoint);
        s.faults.remove(&endpoint);
    }

    /// Another firmware: other endpoints, which the device tells when it is asked again.
    pub fn set_endpoints(&self, endpoints: &[Endpoint]) {
        let mut s = self.0.borrow_mut();
        s.set = DescriptorSet::new(s.speed, endpoints);
        s.endpoints = endpoints.to_vec();
    }

    /// Whether an endpoint is halted.
    #[must_use]
    pub fn is_halted(&self, endpoint: u8) -> bool {
        self.0.borrow().halted.contains(&endpoint)
    }

    /// The `k`-th transaction from now on this endpoint (1 = the next one, 0x00 = control transfers)
    /// is answered with STALL. Bulk and interrupt endpoints stay halted until the host clears it.
    pub fn stall_at(&self, endpoint: u8, k: u32) {
        self.fault(endpoint, k, Fault::Stall);
    }

    /// The `k`-th control transfer from now on is answered with STALL in its status stage, after
    /// its data.
    pub fn stall_status_at(&self, k: u32) {
        self.fault(0, k, Fault::StallStatus);
    }

    /// The `k`-th packet of this IN endpoint is so many bytes too long; of endpoint 0, the data of
    /// the `k`-th control transfer that takes from the device.
    pub fn babble_at(&self, endpoint: u8, k: u32, extra: usize) {
        self.fault(endpoint, k, Fault::Babble(extra));
    }

    /// The endpoint answers NAK from its `k`-th transaction on, until
    /// [`Scanner::set_silent`]`(endpoint, false)`.
    pub fn silence_at(&self, endpoint: u8, k: u32) {
        self.fault(endpoint, k, Fault::Silence);
    }

    /// The endpoint answers NAK from its `k`-th transaction on, until this time.
    pub fn hold_at(&self, endpoint: u8, k: u32, until: Nanos) {
        self.fault(endpoint, k, Fault::Hold(until));
    }

    /// The cable comes out at the `k`-th transaction on this endpoint.
    pub fn unplug_at(&self, endpoint: u8, k: u32) {
        self.fault(endpoint, k, Fault::Unplug);
    }

    fn fault(&self, endpoint: u8, k: u32, fault: Fault) {
        let mut s = self.0.borrow_mut();
        s.faults.entry(endpoint).or_default().push((k, fault));
    }

    /// The cable comes out now.
    pub fn unplug(&self) {
        self.0.borrow_mut().attached = false;
    }

    /// The cable goes in again: a device fresh from power-on, with its registers at zero.
    pub fn plug(&self) {
        let mut s = self.0.borrow_mut();
        s.attached = true;
        s.registers.fill(0);
        s.reset();
    }

    /// The endpoint (0x00 = control) answers NAK for ever, or no longer.
    pub fn set_silent(&self, endpoint: u8, silent: bool) {
        let mut s = self.0.borrow_mut();
        if silent {
            s.silent.insert(endpoint);
        } else {
            s.silent.remove(&endpoint);
        }
    }

    /// The endpoint answers NAK until this time.
    pub fn hold(&self, endpoint: u8, until: Nanos) {
        self.0.borrow_mut().held.insert(endpoint, until);
    }

    /// The IN endpoint puts at most so many bytes into a packet, so that every packet is short.
    pub fn limit_packets(&self, endpoint: u8, bytes: usize) {
        self.0.borrow_mut().limits.insert(endpoint, bytes);
    }
}

/// A small generator of reproducible bytes (splitmix64).
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap_or(1);
        usize::try_from(self.next() % n).unwrap_or(0)
    }
}
