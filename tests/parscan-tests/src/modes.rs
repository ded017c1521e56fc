//! Every mode on every chip that has it.

use std::ops::RangeBounds;

use ntsim::{Handle, IoResult, Machine, NtStatus, RegValue, Resource};
use parscan_models::{
    Channel, Ecp, Epp, Levels, Line, Nanos, Peripheral1284, Phase, PortDevice, Ps2, Spp, Width,
};

use crate::{
    MS, Pc, Setup, check,
    ntddpar::{IOCTL_IEEE1284_NEGOTIATE, IOCTL_SERIAL_SET_TIMEOUTS, modes, timeouts},
    observed::Observed,
};

/// A kind of port chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Data lines for output only.
    Spp,
    /// Data lines that can be read.
    Ps2,
    /// With EPP registers.
    Epp,
    /// With a FIFO.
    Ecp,
    /// With a FIFO and EPP registers.
    EcpEpp,
}

impl Chip {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Spp, Self::Ps2, Self::Epp, Self::Ecp, Self::EcpEpp];

    /// The modes for writing that a port with this chip has.
    #[must_use]
    pub const fn write_modes(self) -> u16 {
        let any = modes::CENTRONICS | modes::IEEE_COMPATIBILITY | modes::ECP_SW;
        let bidirectional = any | modes::EPP_SW;
        match self {
            Self::Spp => any & !modes::ECP_SW,
            Self::Ps2 => bidirectional,
            Self::Epp => bidirectional | modes::EPP_HW,
            Self::Ecp => bidirectional | modes::ECP_HW_NOIRQ,
            Self::EcpEpp => bidirectional | modes::EPP_HW | modes::ECP_HW_NOIRQ,
        }
    }

    /// The modes for reading that a port with this chip has.
    #[must_use]
    pub const fn read_modes(self) -> u16 {
        let two_way = self.write_modes() & !(modes::CENTRONICS | modes::IEEE_COMPATIBILITY);
        match self {
            Self::Spp => modes::NIBBLE,
            _ => two_way | modes::NIBBLE | modes::BYTE_BIDIR,
        }
    }
}

impl Chip {
    /// [`Chip::write_modes`] one by one, with their names.
    pub fn ways_to_write(self) -> impl Iterator<Item = (u16, &'static str)> {
        let has = self.write_modes();
        modes::ALL
            .into_iter()
            .filter(move |(mode, _)| has & mode != 0)
    }

    /// [`Chip::read_modes`] one by one, with their names.
    pub fn ways_to_read(self) -> impl Iterator<Item = (u16, &'static str)> {
        let has = self.read_modes();
        modes::ALL
            .into_iter()
            .filter(move |(mode, _)| has & mode != 0)
    }
}

/// Hardware whatever it is: a chip that answers at the ports, whose lines can be looked at, and
/// which can be asked what it objected to.
pub trait AnyChip: PortDevice + Observed {
    /// The levels on the connector.
    fn levels(&mut self) -> Levels;
    /// The ECR; `None` if there is none.
    fn ecr(&self) -> Option<u8> {
        None
    }
}

macro_rules! chips_without_ecr {
    ($($chip:ty),*) => {$(
        impl AnyChip for $chip {
            fn levels(&mut self) -> Levels {
                self.levels()
            }
        }
    )*};
}

chips_without_ecr!(Spp, Ps2, Epp);

impl AnyChip for Ecp {
    fn levels(&mut self) -> Levels {
        self.levels()
    }

    fn ecr(&self) -> Option<u8> {
        Some(self.ecr())
    }
}

/// A chip of any kind.
pub struct BoxedChip(Box<dyn AnyChip>);

impl From<Box<dyn AnyChip>> for BoxedChip {
    fn from(chip: Box<dyn AnyChip>) -> Self {
        Self(chip)
    }
}

impl BoxedChip {
    /// A chip of this kind with a peripheral; without a recording of the lines, for long transfers.
    #[must_use]
    pub fn new(chip: Chip, peripheral: &Peripheral1284) -> Self {
        let attached = Box::new(peripheral.clone());
        Self(match chip {
            Chip::Spp => Box::new(Spp::new(attached).without_trace()),
            Chip::Ps2 => Box::new(Ps2::new(attached).without_trace()),
            Chip::Epp => Box::new(Epp::new(attached).without_trace()),
            Chip::Ecp => Box::new(Ecp::new(attached).without_trace()),
            Chip::EcpEpp => Box::new(Ecp::new(attached).with_epp().without_trace()),
        })
    }

    /// What is not as it must be between requests: compatibility mode, the control lines at rest,
    /// the data lines driven by the host. Empty if all is well.
    #[must_use]
    pub fn not_at_rest(&mut self, now: Nanos) -> Vec<String> {
        self.0.advance(now);
        let levels = self.0.levels();
        let mut wrong: Vec<_> = [
            (Line::NStrobe, true),
            (Line::NAutoFd, true),
            (Line::NInit, true),
            (Line::NSelectIn, false),
        ]
        .into_iter()
        .filter(|(line, level)| levels.get(*line) != *level)
        .map(|(line, _)| format!("{line} is not at rest"))
        .collect();
        // Bits 7 and 6 have no meaning; bit 5 is the direction.
        let dcr = self.0.read(now, 0, 2, Width::Byte) & 0x3F;
        if dcr != 0x0C {
            wrong.push(format!("DCR {dcr:#04x}"));
        }
        if let Some(ecr) = self.0.ecr().filter(|ecr| ecr >> 5 > 1) {
            wrong.push(format!("ECR {ecr:#04x}"));
        }
        wrong
    }
}

impl BoxedChip {
    /// As [`BoxedChip::not_at_rest`] for EPP: every control line is high.
    #[must_use]
    pub fn not_between_cycles(&mut self, now: Nanos) -> Vec<String> {
        self.0.advance(now);
        let levels = self.0.levels();
        let mut wrong: Vec<_> = [Line::NStrobe, Line::NAutoFd, Line::NInit, Line::NSelectIn]
            .into_iter()
            .filter(|line| !levels.get(*line))
            .map(|line| format!("{line} is not at rest in EPP"))
            .collect();
        let dcr = self.0.read(now, 0, 2, Width::Byte) & 0x3F;
        if dcr != 0x04 {
            wrong.push(format!("DCR {dcr:#04x} in EPP"));
        }
        wrong
    }
}

impl PortDevice for BoxedChip {
    fn read(&mut self, now: Nanos, block: usize, offset: u16, width: Width) -> u32 {
        self.0.read(now, block, offset, width)
    }

    fn write(&mut self, now: Nanos, block: usize, offset: u16, width: Width, value: u32) {
        self.0.write(now, block, offset, width, value);
    }

    fn advance(&mut self, now: Nanos) {
        self.0.advance(now);
    }

    fn held_until(&self) -> Nanos {
        self.0.held_until()
    }

    fn trace(&self) -> Option<&parscan_models::LineTrace> {
        self.0.trace()
    }
}

impl Observed for BoxedChip {
    fn observed(&self, machine: &Machine) -> Vec<String> {
        self.0.observed(machine)
    }
}

/// A PC whose port has one of the chips, with an IEEE 1284 peripheral.
pub type ModesPc = Pc<BoxedChip, Peripheral1284>;

/// A PC with the chip and the peripheral; without a recording of the lines, for long transfers.
#[must_use]
pub fn pc(chip: Chip, peripheral: &Peripheral1284) -> ModesPc {
    pc_with(chip, peripheral, Setup::default())
}

/// As [`pc`], on a machine that is set up otherwise, too.
#[must_use]
pub fn pc_with(chip: Chip, peripheral: &Peripheral1284, mut setup: Setup) -> ModesPc {
    let model = BoxedChip::new(chip, peripheral);
    if matches!(chip, Chip::Ecp | Chip::EcpEpp) {
        setup.ecp = true;
        setup.resources.push(Resource::Port {
            base: 0x778,
            len: 3,
        });
    }
    setup.config.trace_ports = false;
    setup.started_with(model, peripheral.clone())
}

impl ModesPc {
    /// Chooses one mode for each direction; 0 leaves it as it is.
    ///
    /// # Panics
    /// If the driver does not choose it.
    #[track_caller]
    pub fn choose(&self, handle: Handle, read: u16, write: u16) {
        let offered = modes::mask(read, write);
        let chosen = self.control(handle, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS, "{read:#06x} {write:#06x}");
    }

    /// Reads until there are so many bytes; the length of a request is chosen by what is left.
    ///
    /// # Panics
    /// If a read fails, or gives nothing.
    #[must_use]
    #[track_caller]
    pub fn read_until(
        &self,
        handle: Handle,
        length: usize,
        request: impl Fn(usize) -> usize,
        what: &str,
    ) -> Vec<u8> {
        let mut got: Vec<u8> = Vec::new();
        while got.len() < length {
            let read = check(self.machine.read(handle, request(length - got.len())));
            assert_eq!(read.status, NtStatus::SUCCESS, "{what}");
            assert_ne!(read.information, 0, "{what} after {}", got.len());
            got.extend(&read.output[..read.information]);
        }
        got
    }

    /// `IOCTL_SERIAL_SET_TIMEOUTS`, in milliseconds: interval, read multiplier and constant, write
    /// multiplier and constant.
    ///
    /// # Panics
    /// If the driver does not take them.
    #[track_caller]
    pub fn set_timeouts(&self, handle: Handle, fields: [u32; 5]) {
        let input = timeouts(fields);
        let result = self.control(handle, IOCTL_SERIAL_SET_TIMEOUTS, &input, 0);
        assert_eq!(result.status, NtStatus::SUCCESS, "{fields:?}");
    }

    /// [`BoxedChip::not_at_rest`] at this moment; while the peripheral is in EPP, which stays between
    /// the requests of one open, what is not as it must be between two cycles.
    #[must_use]
    pub fn not_at_rest(&self) -> Vec<String> {
        let mut chip = self.chip.borrow_mut();
        let wrong = chip.not_at_rest(self.machine.now());
        // A device that does not answer any more may have missed the end of EPP.
        if !wrong.is_empty() && self.printer.phase() == Phase::Epp {
            return chip.not_between_cycles(self.machine.now());
        }
        wrong
    }
}

/// What went wrong in a table of cases: all of it is told in the end.
#[derive(Debug, Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Notes `what` unless `fine`.
    pub fn expect(&mut self, fine: bool, what: impl FnOnce() -> String) {
        if !fine {
            self.0.push(what());
        }
    }

    /// Notes that the port is not at rest, if it is not.
    pub fn expect_rest(&mut self, pc: &ModesPc, what: &str) {
        let wrong = pc.not_at_rest();
        self.expect(wrong.is_empty(), || format!("{what}: {wrong:?}"));
    }

    /// Notes how long a request took, unless it is so long.
    pub fn expect_took(&mut self, result: &IoResult, time: impl RangeBounds<Nanos>, what: &str) {
        self.expect(time.contains(&result.took), || {
            format!("{what}: {} ms", result.took / MS)
        });
    }

    /// The end of a case: the port is to be at rest; the last handle is closed, the port removed, and
    /// the driver unloaded.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn end_case(&mut self, pc: &ModesPc, handle: Handle, what: &str) {
        self.expect_rest(pc, what);
        check(pc.machine.close(handle));
        pc.remove();
    }

    /// The end of the table.
    ///
    /// # Panics
    /// If anything went wrong.
    pub fn end(self) {
        assert!(
            self.0.is_empty(),
            "{} failures:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}

/// As [`pc`], with 32-bit accesses to the EPP data register allowed.
#[must_use]
pub fn pc_epp_32(chip: Chip, peripheral: &Peripheral1284) -> ModesPc {
    let setup = Setup {
        hardware_key: vec![("ParscanEpp32".into(), RegValue::Dword(1))],
        ..Setup::default()
    };
    pc_with(chip, peripheral, setup)
}

/// Where the bytes of a mode for writing arrive.
#[must_use]
pub const fn channel(mode: u16) -> Channel {
    match mode {
        modes::EPP_HW | modes::EPP_SW => Channel::Epp(0),
        modes::ECP_HW_NOIRQ | modes::ECP_SW => Channel::Ecp(0),
        _ => Channel::Compatibility,
    }
}

/// Bytes that no mode has a reason to like: no runs, every value, a period that no FIFO shares.
#[must_use]
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_u32;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        })
        .collect()
}
