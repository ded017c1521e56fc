//! How the scanner answers on its endpoints.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec,
    vec::Vec,
};

use super::{DescriptorSet, Scanner};
use crate::{Answer, Endpoint, Nanos, Setup, Speed, UsbFunction};

/// How many registers there are, one byte each.
const REGISTERS: usize = 0x1_0000;
/// bRequest of a transfer of more than one register.
const BLOCK_REQUEST: u8 = 0x04;
/// bRequest of a transfer of one register or none.
const SINGLE_REQUEST: u8 = 0x0C;
/// The bit of remote wake-up in bmAttributes of a configuration [USB 2.0, 9.6.3].
pub(super) const REMOTE_WAKEUP: u8 = 1 << 5;
/// `bmRequestType` of a vendor request to the device, without its direction.
const VENDOR_DEVICE: u8 = 0x40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Stall,
    /// STALL in the status stage of a control transfer.
    StallStatus,
    Babble(usize),
    Unplug,
    /// NAK from now on.
    Silence,
    /// NAK until this time.
    Hold(Nanos),
}

/// What an IN endpoint has to say: packets are cut from the front.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) bytes: VecDeque<u8>,
    /// Ends with a zero-length packet if the last packet is a full one.
    zlp: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) speed: Speed,
    pub(super) attached: bool,
    pub(super) set: DescriptorSet,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) configuration: u8,
    pub(super) registers: Vec<u8>,
    pub(super) halted: BTreeSet<u8>,
    pub(super) messages: BTreeMap<u8, VecDeque<Message>>,
    pub(super) written: BTreeMap<u8, Vec<u8>>,
    pub(super) setups: Vec<Setup>,
    /// The status stage of the control transfer that is under way is answered with STALL.
    stalls_status: bool,
    pub(super) answers: BTreeMap<u8, Vec<u8>>,
    pub(super) vendor_data: Vec<u8>,
    pub(super) silent: BTreeSet<u8>,
    pub(super) held: BTreeMap<u8, Nanos>,
    pub(super) limits: BTreeMap<u8, usize>,
    pub(super) faults: BTreeMap<u8, Vec<(u32, Fault)>>,
}

impl State {
    pub(super) fn new(speed: Speed, endpoints: &[Endpoint]) -> Self {
        Self {
            speed,
            attached: true,
            set: DescriptorSet::new(speed, endpoints),
            endpoints: endpoints.to_vec(),
            configuration: 0,
            registers: vec![0; REGISTERS],
            halted: BTreeSet::new(),
            messages: BTreeMap::new(),
            written: BTreeMap::new(),
            setups: Vec::new(),
            stalls_status: false,
            answers: BTreeMap::new(),
            vendor_data: Vec::new(),
            silent: BTreeSet::new(),
            held: BTreeMap::new(),
            limits: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.configuration = 0;
        self.halted.clear();
        self.messages.clear();
    }

    pub(super) fn register_range(
        &self,
        from: u16,
        length: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let size = self.registers.len();
        (usize::from(from)..).take(length).map(move |at| at % size)
    }

    pub(super) fn store(&mut self, from: u16, bytes: &[u8]) {
        for (at, byte) in self.register_range(from, bytes.len()).zip(bytes) {
            self.registers[at] = *byte;
        }
    }

    pub(super) fn queue(&mut self, endpoint: u8, bytes: &[u8], zlp: bool) {
        let message = Message {
            bytes: bytes.iter().copied().collect(),
            zlp,
        };
        self.messages
            .entry(endpoint)
            .or_default()
            .push_back(message);
    }

    fn max_packet(&self, endpoint: u8) -> usize {
        self.endpoints
            .iter()
            .find(|e| e.address == endpoint)
            .map_or(0, |e| usize::from(e.max_packet))
    }

    /// The endpoint answers NAK from now on: for ever, or until this time.
    fn refuse(&mut self, endpoint: u8, until: Option<Nanos>) -> Answer {
        match until {
            Some(until) => drop(self.held.insert(endpoint, until)),
            None => drop(self.silent.insert(endpoint)),
        }
        Answer::Nak
    }

    /// Counts a transaction and gives what goes wrong in it.
    fn due(&mut self, endpoint: u8) -> Option<Fault> {
        let list = self.faults.get_mut(&endpoint)?;
        for (k, _) in list.iter_mut() {
            *k = k.saturating_sub(1);
        }
        let at = list.iter().position(|(k, _)| *k == 0)?;
        Some(list.remove(at).1)
    }

    fn get_descriptor(&self, setup: Setup) -> Answer {
        let [index, kind] = setup.value.to_le_bytes();
        let found = match kind {
            1 => Some(&self.set.device),
            2 if index == 0 => Some(&self.set.configuration),
            3 => self.set.strings.get(usize::from(index)),
            _ => None,
        };
        found.map_or(Answer::Stall, |bytes| limited(bytes, setup.length))
    }

    fn standard(&mut self, setup: Setup) -> Answer {
        let [low, _] = setup.index.to_le_bytes();
        match (setup.request_type, setup.request) {
            (0x80, 6) => self.get_descriptor(setup),
            (0x80, 8) => limited(&[self.configuration], setup.length),
            (0x00, 9) => {
                let [value, _] = setup.value.to_le_bytes();
                let known = self.set.configuration.get(5).copied();
                if value != 0 && known != Some(value) {
                    return Answer::Stall;
                }
                self.configuration = value;
                self.halted.clear();
                Answer::ACK
            }
            (0x81, 10) => limited(&[0], setup.length),
            (0x01, 11) if setup.value == 0 => Answer::ACK,
            (0x80 | 0x81, 0) => limited(&[0, 0], setup.length),
            (0x82, 0) => {
                let halted = u8::from(self.halted.contains(&low));
                limited(&[halted, 0], setup.length)
            }
            // CLEAR_FEATURE and SET_FEATURE, ENDPOINT_HALT
            (0x02, 1) if setup.value == 0 => {
                self.halted.remove(&low);
                Answer::ACK
            }
            (0x02, 3) if setup.value == 0 => {
                self.halted.insert(low);
                Answer::ACK
            }
            _ => Answer::Stall,
        }
    }

    fn vendor(&mut self, setup: Setup, data: &[u8]) -> Answer {
        let registers = matches!(setup.request, BLOCK_REQUEST | SINGLE_REQUEST);
        if let Some(bytes) = self.answers.get(&setup.request)
            && setup.is_in()
        {
            return limited(bytes, setup.length);
        }
        match (setup.is_in(), registers) {
            (true, true) => {
                let range = self.register_range(setup.value, usize::from(setup.length));
                Answer::Data(range.map(|at| self.registers[at]).collect())
            }
            (false, true) => {
                self.store(setup.value, data);
                Answer::ACK
            }
            (false, false) => {
                self.vendor_data = data.to_vec();
                Answer::ACK
            }
            (true, false) => Answer::Stall,
        }
    }

    /// `SCAN`: the bulk IN endpoint of the same rank gets an image to send.
    fn command(&mut self, endpoint: u8, packet: &[u8]) {
        let Some(rest) = packet.strip_prefix(b"SCAN") else {
            return;
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3] = *rest else {
            return;
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let seed = u32::from_le_bytes([s0, s1, s2, s3]);
        let bulk = |input: bool| {
            self.endpoints
                .iter()
                .filter(move |e| e.attributes & 3 == 2 && (e.address & 0x80 != 0) == input)
        };
        let rank = bulk(false).position(|e| e.address == endpoint);
        let target = rank
            .and_then(|rank| bulk(true).nth(rank))
            .or_else(|| bulk(true).next_back());
        if let Some(address) = target.map(|e| e.address) {
            let image = Scanner::image(seed, usize::try_from(length).unwrap_or(0));
            self.queue(address, &image, false);
        }
    }

    fn cut_packet(&mut self, endpoint: u8) -> Answer {
        let max = self.max_packet(endpoint);
        let limit = self.limits.get(&endpoint).map_or(max, |l| max.min(*l));
        let Some(queue) = self.messages.get_mut(&endpoint) else {
            return Answer::Nak;
        };
        let Some(message) = queue.front_mut() else {
            return Answer::Nak;
        };
        let n = message.bytes.len().min(limit);
        let packet: Vec<u8> = message.bytes.drain(..n).collect();
        if message.bytes.is_empty() {
            if message.zlp && packet.len() == max && max > 0 {
                message.zlp = false;
            } else {
                queue.pop_front();
            }
        }
        Answer::Data(packet)
    }
}

fn limited(bytes: &[u8], length: u16) -> Answer {
    let n = bytes.len().min(usize::from(length));
    Answer::Data(bytes[..n].to_vec())
}

impl UsbFunction for Scanner {
    fn speed(&self) -> Speed {
        self.0.borrow().speed
    }

    fn attached(&self) -> bool {
        self.0.borrow().attached
    }

    fn can_wake(&self) -> bool {
        let s = self.0.borrow();
        let attributes = s.set.configuration.get(7);
        attributes.is_some_and(|attributes| attributes & REMOTE_WAKEUP != 0)
    }

    fn ready_at(&self, now: Nanos, endpoint: u8) -> Option<Nanos> {
        let s = self.0.borrow();
        if s.silent.contains(&endpoint) {
            return None;
        }
        let from = s.held.get(&endpoint).map_or(now, |t| now.max(*t));
        let fault = s
            .faults
            .get(&endpoint)
            .is_some_and(|list| list.iter().any(|(k, _)| *k <= 1));
        let speaks = endpoint & 0x80 == 0
            || s.halted.contains(&endpoint)
            || fault
            || s.messages.get(&endpoint).is_some_and(|q| !q.is_empty());
        speaks.then_some(from)
    }

    fn control(&mut self, _now: Nanos, setup: Setup, data: &[u8]) -> Answer {
        let mut s = self.0.borrow_mut();
        s.setups.push(setup);
        let fault = s.due(0);
        s.stalls_status = fault == Some(Fault::StallStatus);
        match fault {
            Some(Fault::Stall) => return Answer::Stall,
            Some(Fault::Unplug) => {
                s.attached = false;
                return Answer::Nak;
            }
            Some(Fault::Silence) => return s.refuse(0, None),
            Some(Fault::Hold(until)) => return s.refuse(0, Some(until)),
            Some(Fault::Babble(extra)) if setup.is_in() => {
                return Answer::Data(vec![0xBB; usize::from(setup.length) + extra]);
            }
            Some(Fault::Babble(_) | Fault::StallStatus) | None => {}
        }
        if setup.request_type & 0x60 == 0 {
            s.standard(setup)
        } else if setup.request_type & 0x7F == VENDOR_DEVICE {
            s.vendor(setup, data)
        } else {
            Answer::Stall
        }
    }

    fn status_stage(&mut self, _now: Nanos) -> bool {
        !core::mem::take(&mut self.0.borrow_mut().stalls_status)
    }

    fn packet_in(&mut self, _now: Nanos, endpoint: u8) -> Answer {
        let mut s = self.0.borrow_mut();
        if s.halted.contains(&endpoint) {
            return Answer::Stall;
        }
        match s.due(endpoint) {
            Some(Fault::Stall) => {
                s.halted.insert(endpoint);
                Answer::Stall
            }
            Some(Fault::Unplug) => {
                s.attached = false;
                Answer::Nak
            }
            Some(Fault::Babble(extra)) => {
                let length = s.max_packet(endpoint) + extra;
                Answer::Data(vec![0xBB; length])
            }
            Some(Fault::Silence) => s.refuse(endpoint, None),
            Some(Fault::Hold(until)) => s.refuse(endpoint, Some(until)),
            Some(Fault::StallStatus) | None => s.cut_packet(endpoint),
        }
    }

    fn packet_out(&mut self, _now: Nanos, endpoint: u8, data: &[u8]) -> Answer {
        let mut s = self.0.borrow_mut();
        let known = s.endpoints.iter().any(|e| e.address == endpoint);
        if !known || s.halted.contains(&endpoint) {
            return Answer::Stall;
        }
        match s.due(endpoint) {
            Some(Fault::Stall) => {
                s.halted.insert(endpoint);
                return Answer::Stall;
            }
            Some(Fault::Unplug) => {
                s.attached = false;
                return Answer::Nak;
            }
            Some(Fault::Silence) => return s.refuse(endpoint, None),
            Some(Fault::Hold(until)) => return s.refuse(endpoint, Some(until)),
            Some(Fault::Babble(_) | Fault::StallStatus) | None => {}
        }
        s.written.entry(endpoint).or_default().extend(data);
        s.command(endpoint, data);
        Answer::ACK
    }

    fn bus_reset(&mut self, _now: Nanos) {
        self.0.borrow_mut().reset();
    }
}
