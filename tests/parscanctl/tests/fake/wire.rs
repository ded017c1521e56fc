//! The registers of a port that is not there, while a port program of the driver's runs on them.
//! The tests of the DLLs for InpOut's programs use it, too.

use parscan_client::ioctl::parallel::port_programs::{Program, RunResult};
use parscan_core::ieee1284::{Interrupted, Outputs, Port, Register, TimedPort, run_program};

/// What the registers hold when nothing was written yet.
pub(crate) const AT_FIRST: Outputs = Outputs {
    data: 0,
    control: 0x0C,
};

/// What an access takes.
const ACCESS_NS: u64 = 1000;

/// A device on the port.
pub(crate) trait Plug {
    /// What a register shows while the host has written these.
    fn read(&mut self, register: Register, outputs: Outputs) -> u8;

    /// The host has written the register at an offset.
    fn written(&mut self, offset: u16, value: u8);
}

/// Runs a program with answers of at most `room` bytes. Gives the answer to its request, and how many
/// nanoseconds it took.
pub(crate) fn run<P: Plug>(
    program: &Program<'_>,
    room: usize,
    outputs: &mut Outputs,
    plug: P,
) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; room - RunResult::SIZE];
    let mut wire = Wire {
        now: 0,
        outputs: *outputs,
        plug,
    };
    let (result, _) = run_program(&mut wire, program, outputs, &mut bytes);
    bytes.truncate(result.output as usize);
    ([&result.to_bytes()[..], &bytes].concat(), wire.now)
}

/// The lines while a program runs.
struct Wire<P> {
    now: u64,
    outputs: Outputs,
    plug: P,
}

impl<P: Plug> TimedPort for Wire<P> {
    fn nanoseconds(&mut self) -> u64 {
        self.now
    }

    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        self.now += nanoseconds;
        Ok(())
    }
}

impl<P: Plug> Port for Wire<P> {
    fn read(&mut self, register: Register) -> u8 {
        self.now += ACCESS_NS;
        self.plug.read(register, self.outputs)
    }

    fn write(&mut self, register: Register, value: u8) {
        self.now += ACCESS_NS;
        let (offset, register) = match register {
            Register::Data => (0, &mut self.outputs.data),
            Register::Dcr => (2, &mut self.outputs.control),
            other => panic!("{other:?} is not a program's"),
        };
        *register = value;
        self.plug.written(offset, value);
    }

    fn stall(&mut self, microseconds: u32) {
        self.now += u64::from(microseconds) * 1000;
    }

    fn yield_now(&mut self) -> Result<(), Interrupted> {
        Ok(())
    }

    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
        self.sleep_ns(u64::from(milliseconds) * 1_000_000)
    }

    fn now(&mut self) -> u64 {
        self.nanoseconds() / 1_000_000
    }

    fn has_ecp(&self) -> bool {
        false
    }

    fn has_epp(&self) -> bool {
        false
    }
}
