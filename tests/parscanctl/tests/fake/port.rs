//! A printer on a parallel port. Requests are taken apart by the driver's own parser.

use std::sync::Mutex;

use parscan_client::{
    IeeeModes, Limits, Moved, NegotiationMask, ParStatus, SerialTimeouts, Transport,
    ioctl::parallel::{
        ImmediateRequest as Now, QueuedRequest as Later, UserRequest,
        port_programs::{Chip, Edge, EdgeRing, verify},
    },
};
use parscan_core::ieee1284::{Outputs, Register};

use super::{
    Shared, answer, failure, hex,
    wire::{self, Plug},
};

/// What the verifier is told of the port.
const CHIP: Chip = Chip {
    direction: true,
    epp: false,
    access_ns: 1000,
};

/// The lines of a ready printer, for programs.
struct Ready;

impl Plug for Ready {
    fn read(&mut self, register: Register, outputs: Outputs) -> u8 {
        match register {
            Register::Data => outputs.data,
            Register::Dsr => 0xD8,
            _ => outputs.control,
        }
    }

    fn written(&mut self, _: u16, _: u8) {}
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
                outputs: wire::AT_FIRST,
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
    fn control(&self, code: u32, input: &[u8], output: &mut [u8], _: &Limits) -> Moved {
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
                let (bytes, took) = wire::run(&program, output.len(), &mut state.outputs, Ready);
                self.shared.pass(took / 1_000_000);
                answer(output, &bytes)
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

    fn read(&self, buffer: &mut [u8], _: &Limits) -> Moved {
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

    fn write(&self, bytes: &[u8], limits: &Limits) -> Moved {
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
