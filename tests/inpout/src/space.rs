//! The I/O space that a process sees: the ports that parscan serves, and nothing else.

use std::time::Duration;

use parscan_client::{InterfaceClass, System, list};

use crate::served::{Place, Refusal, ServedPort, open};

/// A port that refused is tried again after this time, by the next access to it.
const PAUSE: Duration = Duration::from_millis(100);
/// Ports may come later: an access to an address of none looks for them this often.
const LOOK: Duration = Duration::from_secs(2);

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Uchar,
    /// 16 bits.
    Ushort,
    /// 32 bits.
    Ulong,
}

impl Width {
    /// Bytes of an access.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Uchar => 1,
            Self::Ushort => 2,
            Self::Ulong => 4,
        }
    }
}

/// Time, from any moment on.
type Clock = Box<dyn Fn() -> Duration + Send>;

/// Addresses as a process sees them.
pub struct IoSpace<S> {
    system: S,
    clock: Clock,
    ports: Vec<ServedPort>,
    /// Paths of devices that are none of parscan's ports.
    foreign: Vec<String>,
    /// A device could not be asked what it is.
    refused: bool,
    /// When the ports were looked for.
    looked: Option<Duration>,
}

impl<S: System> IoSpace<S> {
    /// A space of this computer's ports. Opens nothing.
    pub fn new(system: S, clock: impl Fn() -> Duration + Send + 'static) -> Self {
        Self {
            system,
            clock: Box::new(clock),
            ports: Vec::new(),
            foreign: Vec::new(),
            refused: false,
            looked: None,
        }
    }

    /// Reads. The low 16 bits of the address count. What nothing answers to is all ones.
    pub fn read(&mut self, address: u32, width: Width) -> u32 {
        let mut bytes = [0; 4];
        if let Some(bytes) = bytes.get_mut(..width.bytes()) {
            self.read_element(address, bytes);
        }
        u32::from_le_bytes(bytes)
    }

    /// Writes. The low 16 bits of the address and the low bits of the value count.
    pub fn write(&mut self, address: u32, width: Width, value: u32) {
        let bytes = value.to_le_bytes();
        self.write_element(address, bytes.get(..width.bytes()).unwrap_or_default());
    }

    /// Reads one address as often as elements fit into the buffer.
    pub fn read_buffer(&mut self, address: u32, width: Width, buffer: &mut [u8]) {
        if width == Width::Uchar {
            return self.read_bytes(low(address), buffer);
        }
        for element in buffer.chunks_exact_mut(width.bytes()) {
            self.read_element(address, element);
        }
    }

    /// Writes the elements of the buffer to one address.
    pub fn write_buffer(&mut self, address: u32, width: Width, buffer: &[u8]) {
        if width == Width::Uchar {
            return self.write_bytes(low(address), buffer);
        }
        for element in buffer.chunks_exact(width.bytes()) {
            self.write_element(address, element);
        }
    }

    /// Whether this process has a port, or could have one. Nothing is kept that it did not have.
    pub fn is_driver_open(&mut self) -> bool {
        if self.ports.iter_mut().any(ServedPort::is_held) {
            return true;
        }
        self.look();
        let system = &self.system;
        self.ports.iter().any(|port| port.could_be_held(system))
    }

    /// Byte by byte, each as if alone.
    fn read_element(&mut self, address: u32, bytes: &mut [u8]) {
        let mut address = low(address);
        for byte in bytes {
            self.read_bytes(address, std::slice::from_mut(byte));
            address = address.wrapping_add(1);
        }
    }

    fn write_element(&mut self, address: u32, bytes: &[u8]) {
        let mut address = low(address);
        for byte in bytes {
            self.write_bytes(address, std::slice::from_ref(byte));
            address = address.wrapping_add(1);
        }
    }

    /// One address, again and again.
    fn read_bytes(&mut self, address: u16, bytes: &mut [u8]) {
        bytes.fill(0xFF);
        if let Some((port, place)) = self.claimed(address) {
            port.read(place, bytes);
        }
    }

    fn write_bytes(&mut self, address: u16, bytes: &[u8]) {
        if let Some((port, place)) = self.claimed(address) {
            port.write(place, bytes);
        }
    }

    /// What is at an address, in a port that is this process's.
    fn claimed(&mut self, address: u16) -> Option<(&mut ServedPort, Place)> {
        let (index, place) = self.find(address)?;
        let port = self.ports.get_mut(index)?;
        let Err(refusal) = port.hold(&self.system, &self.clock, PAUSE) else {
            return Some((self.ports.get_mut(index)?, place));
        };
        match refusal {
            Refusal::Busy => {}
            Refusal::Foreign => self.foreign.push(self.ports.swap_remove(index).path),
            Refusal::Gone => {
                self.ports.swap_remove(index);
                // If it is there again, as soon as may be.
                self.refused = true;
            }
        }
        None
    }

    /// What is at an address. A real register comes before the ECR of another port.
    fn find(&mut self, address: u16) -> Option<(usize, Place)> {
        if let Some(found) = self.known(address) {
            return Some(found);
        }
        let pause = if self.refused { PAUSE } else { LOOK };
        let due = self
            .looked
            .is_none_or(|looked| (self.clock)() >= looked.saturating_add(pause));
        if !due {
            return None;
        }
        self.look();
        self.known(address)
    }

    fn known(&self, address: u16) -> Option<(usize, Place)> {
        let at = |place: fn(&ServedPort, u16) -> Option<Place>| {
            let mut ports = self.ports.iter().enumerate();
            ports.find_map(|(index, port)| Some((index, place(port, address)?)))
        };
        at(ServedPort::register).or_else(|| at(ServedPort::ecr))
    }

    /// Looks for the ports that there are, and asks the new ones what they are.
    fn look(&mut self) {
        self.looked = Some((self.clock)());
        let Ok(devices) = list(&self.system, InterfaceClass::ParallelDevice) else {
            return;
        };
        let there = |path: &String| devices.iter().any(|device| device.path == *path);
        self.foreign.retain(there);
        self.ports
            .retain_mut(|port| port.is_held() || there(&port.path));
        self.refused = false;
        for device in &devices {
            let path = &device.path;
            if self.foreign.contains(path) || self.ports.iter().any(|port| port.path == *path) {
                continue;
            }
            match open(&self.system, path) {
                Ok((_, description)) => {
                    let base = description.base;
                    // A device of the chain answers for its port.
                    if self.ports.iter().any(|port| port.description.base == base) {
                        self.foreign.push(path.clone());
                    } else {
                        self.ports.push(ServedPort::new(path.clone(), description));
                    }
                }
                Err(Refusal::Busy) => self.refused = true,
                Err(Refusal::Foreign) => self.foreign.push(path.clone()),
                Err(Refusal::Gone) => {}
            }
        }
    }
}

/// What counts of an address: programs declare it as 16 bits, signed or not, or as more.
fn low(address: u32) -> u16 {
    let [low, high, ..] = address.to_le_bytes();
    u16::from_le_bytes([low, high])
}
