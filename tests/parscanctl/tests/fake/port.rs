//! A printer on a parallel port. Requests are taken apart by the driver's own parser.

use std::sync::Mutex;

use parscan_client::{
    Failure, IeeeModes, Limits, NegotiationMask, ParStatus, SerialTimeouts, Transport,
    ioctl::parallel::{
        ImmediateRequest as Now, QueuedRequest as Later, UserRequest,
        port_programs::{Chip, Edge, EdgeRing, RunResult, verify},
    },
};
use parscan_core::ieee1284::{Interrupted, Outputs, Port, Register, TimedPort, run_program};

use super::{Shared, answer, failure, hex};

/// What the verifier is told of the port.
const CHIP: Chip = Chip {
    direction: true,
    epp: false,
    access_ns: 1000,
};

/// The lines of a ready printer, for programs. An access takes a microsecond.
struct Wire {
    now: u64,
    data: u8,
    control: u8,
}

impl Port for Wire {
    fn read(&mut self, register: Register) -> u8 {
        self.now += 1000;
        match register {
            Register::Data => self.data,
            Register::Dsr => 0xD8,
            _ => self.control,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        self.now += 1000;
        match register {
            Register::Data => self.data = value,
            _ => self.control = value,
        }
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
        self.now / 1_000_000
    }

    fn has_ecp(&self) -> bool {
        false
    }

    fn has_epp(&self) -> bool {
        false
    }
}

impl TimedPort for Wire {
    fn nanoseconds(&mut self) -> u64 {
        self.now
    }

    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        self.now += nanoseconds;
        Ok(())
    }
}

/// What a printer does.
#[derive(Clone)]
pub(crate) struct Printer {
    pub(crate) location: &'static str,
    pub(crate) status: ParStatus,
    /// What `IOCTL_PAR_SET_INFORMATION` ends with
    pub(crate) initialize: u32,
    /// The device ID with its prefix; empty: it has none
    pub(crate) id: &'static [u8],
    pub(crate) modes: IeeeModes,
    /// What it has to say
    pub(crate) says: &'static [u8],
    /// After so many written bytes the write ends with this status
    pub(crate) write_fails: Option<(usize, u32)>,
    /// After so many written bytes the user presses Ctrl-C
    pub(crate) interrupted: Option<usize>,
    /// When nAck rises, by the performance counter; `None`: the port has no interrupt
    pub(crate) edges: Option<&'static [u64]>,
}

struct State {
    modes: NegotiationMask,
    timeouts: SerialTimeouts,
    said: usize,
    written: usize,
    outputs: Outputs,
    /// Edges that were told
    edges: usize,
}

pub(super) struct Open {
    printer: Printer,
    shared: Shared,
    state: Mutex<State>,
}

impl Open {
    pub(super) fn new(printer: Printer, shared: Shared) -> Self {
        Self {
            printer,
            shared,
            state: Mutex::new(State {
                modes: NegotiationMask::DEFAULT,
                timeouts: SerialTimeouts::default(),
                said: 0,
                written: 0,
                outputs: Outputs {
                    data: 0,
                    control: 0x0C,
                },
                edges: 0,
            }),
        }
    }

    /// The fastest mode: the highest bit, as good a rule as any here.
    fn choose(&self, offered: IeeeModes) -> Option<IeeeModes> {
        (self.printer.modes & offered).iter().last()
    }
}

impl Transport for Open {
    fn control(
        &self,
        code: u32,
        input: &[u8],
        output: &mut [u8],
        _: &Limits,
    ) -> Result<usize, Failure> {
        self.shared.log(format!("IOCTL 0x{code:08x}{}", hex(input)));
        let request = UserRequest::parse(code, input, output.len())
            .map_err(|status| failure(status.0.cast_unsigned(), 0))?;
        let printer = &self.printer;
        let mut state = self.state.lock().unwrap();
        match request {
            UserRequest::Queued(Later::QueryInformation) => {
                answer(output, &printer.status.to_bytes())
            }
            UserRequest::Queued(Later::SetInformation(_)) => match printer.initialize {
                0 => Ok(0),
                status => Err(failure(status, 0)),
            },
            UserRequest::Queued(Later::QueryRawDeviceId) if printer.id.is_empty() => {
                Err(failure(0xC000_0185, 0))
            }
            UserRequest::Queued(Later::QueryRawDeviceId) => {
                answer(output, &[printer.id, b"\0"].concat())
            }
            UserRequest::Immediate(Now::GetMode) => answer(output, &state.modes.to_bytes()),
            UserRequest::Queued(Later::Negotiate(offered)) => {
                let chosen = self.choose(offered.read).zip(self.choose(offered.write));
                let Some((read, write)) = chosen else {
                    return Err(failure(0xC000_0001, 0));
                };
                state.modes = NegotiationMask { read, write };
                answer(output, &state.modes.to_bytes())
            }
            UserRequest::Immediate(Now::GetDefaultModes) => {
                answer(output, &NegotiationMask::DEFAULT.to_bytes())
            }
            UserRequest::Queued(Later::GetDeviceCaps(excluded)) => {
                let modes = printer.modes.difference(excluded);
                answer(output, &modes.to_bytes())
            }
            UserRequest::Queued(
                Later::SetWriteAddress(_)
                | Later::SetReadAddress(_)
                | Later::Claim
                | Later::Release { .. },
            ) => Ok(0),
            UserRequest::Immediate(Now::IsPortFree) => answer(output, &[1]),
            UserRequest::Immediate(Now::QueryLocation) => {
                answer(output, &[printer.location.as_bytes(), b"\0"].concat())
            }
            UserRequest::Immediate(Now::SetTimeouts(timeouts)) => {
                state.timeouts = timeouts;
                Ok(0)
            }
            UserRequest::Immediate(Now::GetTimeouts) => answer(output, &state.timeouts.to_bytes()),
            UserRequest::Queued(Later::Run(run)) => {
                let parts = run.parts(input);
                let program =
                    verify(&parts, output.len(), CHIP).map_err(|_| failure(0xC000_000D, 0))?;
                let mut bytes = vec![0; output.len() - RunResult::SIZE];
                let mut wire = Wire {
                    now: 0,
                    data: state.outputs.data,
                    control: state.outputs.control,
                };
                let (result, _) = run_program(&mut wire, &program, &mut state.outputs, &mut bytes);
                bytes.truncate(result.output as usize);
                self.shared.pass(wire.now / 1_000_000);
                answer(output, &[&result.to_bytes()[..], &bytes].concat())
            }
            UserRequest::Queued(Later::WaitEdge(milliseconds)) => {
                let Some(edges) = printer.edges else {
                    return Err(failure(0xC000_00BB, 0));
                };
                // Those that come together are told together: a hundred at once, some are lost.
                let mut ring = EdgeRing::EMPTY;
                let rest = edges.get(state.edges..).unwrap_or_default();
                for stamp in rest.iter().take(if rest.len() > 64 { 66 } else { 1 }) {
                    ring.push(Edge {
                        stamp: *stamp,
                        status: 0xD8,
                    });
                    state.edges += 1;
                }
                if ring.is_empty() {
                    self.shared.pass(milliseconds.into());
                }
                let length = ring.answer(output, 10_000_000);
                Ok(length)
            }
            other => panic!("parscanctl does not send {other:?}"),
        }
    }

    fn read(&self, buffer: &mut [u8], _: &Limits) -> Result<usize, Failure> {
        let mut state = self.state.lock().unwrap();
        let rest = &self.printer.says[state.said..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        state.said += count;
        self.shared
            .log(format!("ReadFile {} -> {count}", buffer.len()));
        let waits = state.timeouts.read_constant;
        if count < buffer.len() && waits > 0 {
            self.shared.pass(waits.into());
            return Err(failure(0x102, count));
        }
        self.shared.pass(count as u64 / 10);
        Ok(count)
    }

    fn write(&self, bytes: &[u8], limits: &Limits) -> Result<usize, Failure> {
        let mut state = self.state.lock().unwrap();
        let room = |end: usize| end.saturating_sub(state.written).min(bytes.len());
        let (count, status) = match (self.printer.interrupted, self.printer.write_fails) {
            (Some(end), _) if room(end) < bytes.len() => {
                self.shared.cancel.cancel();
                assert!(limits.cancel.is_cancelled());
                (room(end), Some(0xC000_0120))
            }
            (_, Some((end, status))) if room(end) < bytes.len() => (room(end), Some(status)),
            _ => (bytes.len(), None),
        };
        state.written += count;
        self.shared
            .log(format!("WriteFile {} -> {count}", bytes.len()));
        self.shared.pass(count as u64 / 10);
        match status {
            Some(status) => Err(failure(status, count)),
            None => Ok(count),
        }
    }
}
