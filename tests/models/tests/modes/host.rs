//! A naive host: the spec's tables as register accesses, one by one, each taking 1 us.

use std::{cell::RefCell, rc::Rc};

use parscan_models::{Condition, Ecp, Epp, Nanos, Peripheral1284, PortDevice, Ps2, Spp, Width};

pub(crate) const US: Nanos = 1_000;
pub(crate) const MS: Nanos = 1_000_000;
/// How long the host waits for an answer.
const TL: Nanos = 35 * MS;

pub(crate) type Shared<T> = Rc<RefCell<T>>;

/// A host with a port.
pub(crate) struct Host {
    port: Shared<dyn PortDevice>,
    pub(crate) now: Nanos,
}

/// The peripheral did not do the event in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) u8);

pub(crate) type Answer<T> = Result<T, Missing>;

/// A chip's name, and how to make a host with one and a device on its connector.
pub(crate) type Chip = (&'static str, fn(&Peripheral1284) -> Host);

fn spp(device: &Peripheral1284) -> Host {
    Host::new(Spp::new(Box::new(device.clone())).without_trace())
}

fn ps2(device: &Peripheral1284) -> Host {
    Host::new(Ps2::new(Box::new(device.clone())))
}

fn epp(device: &Peripheral1284) -> Host {
    Host::new(Epp::new(Box::new(device.clone())))
}

/// In mode 001.
fn ecp(device: &Peripheral1284) -> Host {
    Host::new(Ecp::new(Box::new(device.clone())).with_ecr(0x34))
}

/// In mode 100.
fn ecp_epp(device: &Peripheral1284) -> Host {
    Host::new(Ecp::new(Box::new(device.clone())).with_epp().with_ecr(0x94))
}

/// Every chip.
pub(crate) const CHIPS: [Chip; 4] = [("spp", spp), ("ps2", ps2), ("epp", epp), ("ecp", ecp)];
/// Every chip whose data lines turn round.
pub(crate) const BIDIRECTIONAL: [Chip; 3] = [("ps2", ps2), ("epp", epp), ("ecp", ecp)];
/// Every chip that makes EPP cycles.
pub(crate) const EPP: [Chip; 2] = [("epp", epp), ("ecp+epp", ecp_epp)];

/// The conditions of a device with a trouble, and what DSR bits 7 to 3 read in each.
pub(crate) const TROUBLES: [(Condition, u8); 4] = [
    (Condition::PaperEmpty, 0x70),
    (Condition::OffLine, 0x48),
    (Condition::Unplugged, 0x78),
    (Condition::PoweredOff, 0x80),
];

impl Host {
    pub(crate) fn new(port: impl PortDevice + 'static) -> Self {
        Self::shared(Rc::new(RefCell::new(port)))
    }

    pub(crate) fn shared(port: Shared<dyn PortDevice>) -> Self {
        Self { port, now: MS }
    }

    // Registers.

    pub(crate) fn input(&mut self, block: usize, offset: u16, width: Width) -> u32 {
        self.now += US;
        let mut port = self.port.borrow_mut();
        let value = port.read(self.now, block, offset, width);
        self.now = self.now.max(port.held_until());
        value
    }

    pub(crate) fn output(&mut self, block: usize, offset: u16, width: Width, value: u32) {
        self.now += US;
        let mut port = self.port.borrow_mut();
        port.write(self.now, block, offset, width, value);
        self.now = self.now.max(port.held_until());
    }

    pub(crate) fn data(&mut self, value: u8) {
        self.output(0, 0, Width::Byte, value.into());
    }

    pub(crate) fn read_data(&mut self) -> u8 {
        self.input(0, 0, Width::Byte) as u8
    }

    pub(crate) fn dsr(&mut self) -> u8 {
        self.input(0, 1, Width::Byte) as u8
    }

    pub(crate) fn dcr(&mut self, value: u8) {
        self.output(0, 2, Width::Byte, value.into());
    }

    pub(crate) fn ecr(&mut self, value: u8) {
        self.output(1, 2, Width::Byte, value.into());
    }

    pub(crate) fn read_ecr(&mut self) -> u8 {
        self.input(1, 2, Width::Byte) as u8
    }

    pub(crate) fn fifo(&mut self, value: u8) {
        self.output(1, 0, Width::Byte, value.into());
    }

    pub(crate) fn read_fifo(&mut self) -> u8 {
        self.input(1, 0, Width::Byte) as u8
    }

    /// A write to block 0 after less than the usual time.
    pub(crate) fn quick(&mut self, offset: u16, value: u8, after: Nanos) {
        self.now = self.now + after - US;
        self.output(0, offset, Width::Byte, value.into());
    }

    pub(crate) fn with_port<T>(&self, look: impl FnOnce(&dyn PortDevice) -> T) -> T {
        look(&*self.port.borrow())
    }

    pub(crate) fn sleep(&mut self, time: Nanos) {
        self.now += time;
        self.port.borrow_mut().advance(self.now);
    }

    /// Polls DSR until the bits of `mask` are `value`, for 35 ms.
    pub(crate) fn expect(&mut self, event: u8, mask: u8, value: u8) -> Answer<()> {
        let end = self.now + TL;
        loop {
            if self.dsr() & mask == value {
                return Ok(());
            }
            if self.now > end {
                return Err(Missing(event));
            }
            if self.now + TL > end + 100 * US {
                self.now += 50 * US;
            }
        }
    }

    // Compatibility mode.

    /// Section 3: one byte, or what DSR showed instead of ready.
    pub(crate) fn write_compat(&mut self, byte: u8) -> Result<(), u8> {
        let mut dsr = 0;
        for _ in 0..1000 {
            dsr = self.dsr() & 0xF8;
            if dsr == 0xD8 {
                self.data(byte);
                self.dcr(0x0D);
                self.dcr(0x0C);
                return Ok(());
            }
        }
        Err(dsr)
    }

    // Section 4.

    /// Asks for `request`: XFlag.
    pub(crate) fn ask(&mut self, request: u8) -> Answer<bool> {
        self.dcr(0x0C);
        self.data(request);
        self.dcr(0x06); // 1
        if self.expect(2, 0x78, 0x38).is_err() {
            self.dcr(0x0C);
            return Err(Missing(2));
        }
        self.dcr(0x07); // 3
        self.dcr(0x04); // 4
        self.expect(6, 0x40, 0x40)?;
        Ok(self.dsr() & 0x10 != 0)
    }

    /// Enters the mode of `request`, which the device must accept.
    pub(crate) fn enter(&mut self, request: u8) -> Answer<()> {
        let x_flag = self.ask(request)?;
        assert_eq!(x_flag, request != 0, "XFlag for {request:02X}");
        if request & 0x10 != 0 {
            self.dcr(0x06); // 30
            self.expect(31, 0x20, 0x20)?;
            self.dcr(0x04);
        }
        Ok(())
    }

    // Section 5.

    pub(crate) fn terminate(&mut self) -> Answer<()> {
        let ended = self.try_terminate();
        self.dcr(0x0C);
        ended
    }

    fn try_terminate(&mut self) -> Answer<()> {
        self.dcr(0x0C); // 22
        self.expect(24, 0x40, 0x00)?;
        self.dcr(0x0E); // 25
        self.expect(27, 0x40, 0x40)
    }

    pub(crate) fn leave_epp(&mut self) {
        self.dcr(0x08); // 68
        self.sleep(50 * US);
        self.dcr(0x0C); // 69
    }

    // Section 6.

    pub(crate) fn data_available(&mut self) -> bool {
        self.dsr() & 0x08 == 0
    }

    pub(crate) fn read_nibble_mode(&mut self) -> Answer<u8> {
        let mut byte = 0;
        for shift in [0, 4] {
            self.dcr(0x06); // 7
            self.expect(9, 0x40, 0x00)?;
            let dsr = self.dsr();
            let nibble = (dsr >> 3) & 0x07 | (!dsr >> 4) & 0x08;
            byte |= nibble << shift;
            self.dcr(0x04); // 10
            self.expect(11, 0x40, 0x40)?;
        }
        Ok(byte)
    }

    pub(crate) fn read_byte_mode(&mut self) -> Answer<u8> {
        self.dcr(0x24); // 14
        self.dcr(0x26); // 7
        self.expect(9, 0x40, 0x00)?;
        let byte = self.read_data();
        self.dcr(0x24); // 10
        self.expect(11, 0x40, 0x40)?;
        self.dcr(0x25); // 16
        self.dcr(0x24); // 17
        Ok(byte)
    }

    /// All that is there, with `read` for a byte.
    pub(crate) fn read_all(&mut self, read: fn(&mut Self) -> Answer<u8>) -> Answer<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.data_available() {
            bytes.push(read(self)?);
        }
        Ok(bytes)
    }

    /// Software EPP: nDStrb (0x02) or nAStrb (0x08) is `strobe`.
    pub(crate) fn write_epp(&mut self, strobe: u8, byte: u8) -> Answer<()> {
        self.dcr(0x05); // nWrite
        self.data(byte);
        self.dcr(0x05 | strobe); // 62 or 56
        self.expect(58, 0x80, 0x00)?;
        self.dcr(0x05); // 63 or 59
        self.expect(60, 0x80, 0x80)?;
        self.dcr(0x04); // 61
        Ok(())
    }

    pub(crate) fn read_epp(&mut self, strobe: u8) -> Answer<u8> {
        self.dcr(0x24);
        self.dcr(0x24 | strobe); // 67 or 64
        self.expect(58, 0x80, 0x00)?;
        let byte = self.read_data();
        self.dcr(0x24); // 63 or 59
        self.expect(60, 0x80, 0x80)?;
        self.dcr(0x04);
        Ok(byte)
    }

    /// Software ECP forward: `HostAck` is low for a command.
    pub(crate) fn write_ecp(&mut self, byte: u8, command: bool) -> Answer<()> {
        let idle = if command { 0x06 } else { 0x04 };
        self.expect(32, 0x80, 0x80)?;
        self.data(byte);
        self.dcr(idle); // 34
        self.dcr(idle | 0x01); // 35
        self.expect(36, 0x80, 0x00)?;
        self.dcr(idle); // 37
        self.expect(32, 0x80, 0x80)?;
        self.dcr(0x04);
        Ok(())
    }

    /// The transfer recovery after a missing event 36; the byte has to be sent again.
    pub(crate) fn recover_ecp(&mut self) -> Answer<()> {
        self.dcr(0x01); // 72
        self.expect(73, 0x20, 0x00)?;
        self.dcr(0x04); // 74
        self.expect(75, 0x20, 0x20)
    }

    pub(crate) fn reverse_ecp(&mut self) -> Answer<()> {
        self.dcr(0x26); // 38
        self.dcr(0x22); // 39
        self.expect(40, 0x20, 0x00)
    }

    /// Software ECP reverse: a byte, and whether it is a command.
    pub(crate) fn read_ecp(&mut self) -> Answer<(u8, bool)> {
        self.expect(43, 0x40, 0x00)?;
        let byte = self.read_data();
        let command = self.dsr() & 0x80 != 0;
        self.dcr(0x20); // 44
        self.expect(45, 0x40, 0x40)?;
        self.dcr(0x22); // 46
        Ok((byte, command))
    }

    pub(crate) fn forward_ecp(&mut self) -> Answer<()> {
        self.dcr(0x26); // 47
        self.expect(49, 0x20, 0x20)?;
        self.dcr(0x04);
        Ok(())
    }
}
