//! A computer with parallel ports that is not there: what its lines do is written down, and every
//! request is taken apart, verified and run by the driver's own code.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::IoSpace;
use parscan_client::{
    DeviceNode, Error, Failure, Interface, InterfaceClass, Limits, Service, SetupClass, Status,
    System, Transport,
    ioctl::parallel::{
        ImmediateRequest, QueuedRequest, UserRequest,
        port_programs::{Chip, DIRECT_NS, PortDescription, PortFeatures, RunResult, verify},
    },
};
use parscan_core::ieee1284::{Interrupted, Outputs, Port, Register, TimedPort, run_program};

/// What stands on a port's connector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plug {
    /// Data lines led back to status lines: status = data << 3, with Busy's bit inverted, and the
    /// low three bits 1.
    Loopback,
    /// These status bits, and this byte on the data lines when they are turned round.
    Device {
        /// All eight bits of the status register.
        status: u8,
        /// What the device drives.
        data: u8,
    },
}

/// A register that was written: its offset and its value.
pub(crate) type Write = (u16, u8);

/// A port.
#[allow(clippy::struct_excessive_bools, reason = "what is so and what is not")]
pub(crate) struct Hardware {
    pub(crate) base: u64,
    /// 0: no ECP block.
    pub(crate) ecp_base: u64,
    pub(crate) has_direction: bool,
    pub(crate) plug: Plug,
    /// A handle is open: here, or in another process.
    pub(crate) is_open: bool,
    /// A kernel client has the port.
    pub(crate) is_locked: bool,
    /// What every request is answered with instead.
    pub(crate) ends_with: Option<Status>,
    pub(crate) claimed: bool,
    pub(crate) claims: usize,
    pub(crate) opens: usize,
    pub(crate) runs: usize,
    pub(crate) writes: Vec<Write>,
    pub(crate) outputs: Outputs,
}

impl Hardware {
    /// A port with a chip that has everything, and a loopback plug.
    pub(crate) fn at(base: u64) -> Self {
        Self {
            base,
            ecp_base: base + 0x400,
            has_direction: true,
            plug: Plug::Loopback,
            is_open: false,
            is_locked: false,
            ends_with: None,
            claimed: false,
            claims: 0,
            opens: 0,
            runs: 0,
            writes: Vec::new(),
            outputs: Outputs {
                data: 0,
                control: 0x0C,
            },
        }
    }

    fn description(&self) -> PortDescription {
        let mut features = PortFeatures::empty();
        features.set(PortFeatures::DIRECTION, self.has_direction);
        features.set(PortFeatures::ECR, self.ecp_base != 0);
        features.set(PortFeatures::CLAIMED, self.claimed);
        PortDescription {
            base: self.base,
            ecp_base: self.ecp_base,
            span: 8,
            features,
            access_ns: 1000,
        }
    }
}

/// The lines while a program runs. An access takes a microsecond.
struct Wire<'a> {
    now: u64,
    data: u8,
    control: u8,
    plug: Plug,
    writes: &'a mut Vec<Write>,
}

impl Port for Wire<'_> {
    fn read(&mut self, register: Register) -> u8 {
        self.now += 1000;
        let reversed = self.control & 0x20 != 0;
        match (register, self.plug) {
            (Register::Data, Plug::Device { data, .. }) if reversed => data,
            (Register::Data, _) if reversed => 0xFF,
            (Register::Data, _) => self.data,
            (Register::Dsr, Plug::Loopback) => ((self.data << 3) ^ 0x80) & 0xF8 | 7,
            (Register::Dsr, Plug::Device { status, .. }) => status,
            _ => self.control | 0xC0,
        }
    }

    fn write(&mut self, register: Register, value: u8) {
        self.now += 1000;
        let offset = match register {
            Register::Data => {
                self.data = value;
                0
            }
            Register::Dcr => {
                self.control = value;
                2
            }
            other => panic!("{other:?} is not a program's"),
        };
        self.writes.push((offset, value));
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

impl TimedPort for Wire<'_> {
    fn nanoseconds(&mut self) -> u64 {
        self.now
    }

    fn sleep_ns(&mut self, nanoseconds: u64) -> Result<(), Interrupted> {
        self.now += nanoseconds;
        Ok(())
    }
}

/// The computer. Clones are the same one, as processes see it.
#[derive(Clone, Default)]
pub(crate) struct Computer(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// LPT1 is the first one. `None`: not there.
    ports: Vec<Option<Hardware>>,
    now: Duration,
    lists: usize,
}

impl Computer {
    pub(crate) fn with(ports: impl IntoIterator<Item = Hardware>) -> Self {
        let computer = Self::default();
        computer.state().ports = ports.into_iter().map(Some).collect();
        computer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A process that has just loaded the DLL.
    pub(crate) fn process(&self) -> IoSpace<Self> {
        let clock = self.clone();
        IoSpace::new(self.clone(), move || clock.state().now)
    }

    /// Looks at a port, or changes it.
    pub(crate) fn port<R>(&self, index: usize, f: impl FnOnce(&mut Hardware) -> R) -> R {
        f(self.state().ports[index].as_mut().unwrap())
    }

    pub(crate) fn plug(&self, port: Hardware) {
        self.state().ports.push(Some(port));
    }

    pub(crate) fn unplug(&self, index: usize) {
        self.state().ports[index] = None;
    }

    pub(crate) fn pass(&self, milliseconds: u64) {
        self.state().now += Duration::from_millis(milliseconds);
    }

    /// How often devices were enumerated.
    pub(crate) fn lists(&self) -> usize {
        self.state().lists
    }

    /// What was written to a port since this was last asked.
    pub(crate) fn written(&self, index: usize) -> Vec<Write> {
        self.port(index, |port| std::mem::take(&mut port.writes))
    }
}

fn failure(status: Status) -> Failure {
    Failure {
        win32: 31,
        status: Some(status),
        transferred: 0,
    }
}

const REMOVED: Status = Status::DEVICE_REMOVED;

impl System for Computer {
    fn interfaces(&self, class: InterfaceClass) -> Result<Vec<Interface>, Error> {
        assert_eq!(class, InterfaceClass::ParallelDevice);
        let mut state = self.state();
        state.lists += 1;
        Ok((0..state.ports.len())
            .filter(|index| state.ports[*index].is_some())
            .map(|index| Interface {
                path: format!(r"\\?\lptenum#{index}"),
                node: DeviceNode {
                    object_name: Some(format!(r"\Device\Parallel{index}")),
                    ..DeviceNode::default()
                },
            })
            .collect())
    }

    fn devices(&self, _: SetupClass) -> Result<Vec<DeviceNode>, Error> {
        panic!("not asked here")
    }

    fn devices_without_class(&self) -> Result<Vec<DeviceNode>, Error> {
        panic!("not asked here")
    }

    fn service(&self, _: &str) -> Result<Option<Service>, Error> {
        panic!("not asked here")
    }

    fn is_elevated(&self) -> bool {
        false
    }

    fn open(&self, path: &str) -> Result<Box<dyn Transport>, Error> {
        let fails = |status| Error::Failed {
            request: "CreateFileW",
            failure: failure(status),
        };
        let index: usize = path.trim_start_matches(r"\\?\lptenum#").parse().unwrap();
        let mut state = self.state();
        let port = state.ports[index]
            .as_mut()
            .ok_or(fails(Status::OBJECT_NAME_NOT_FOUND))?;
        if port.is_open {
            return Err(fails(Status::ACCESS_DENIED));
        }
        port.is_open = true;
        port.opens += 1;
        Ok(Box::new(Open {
            computer: self.clone(),
            index,
        }))
    }
}

/// A handle.
struct Open {
    computer: Computer,
    index: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(port) = &mut self.computer.state().ports[self.index] {
            port.is_open = false;
            port.claimed = false;
        }
    }
}

impl Transport for Open {
    fn control(
        &self,
        code: u32,
        input: &[u8],
        output: &mut [u8],
        limits: &Limits,
    ) -> Result<usize, Failure> {
        assert!(limits.timeout.is_some(), "a program may wait for ever");
        let mut state = self.computer.state();
        let Some(port) = &mut state.ports[self.index] else {
            return Err(failure(REMOVED));
        };
        if let Some(status) = port.ends_with {
            return Err(failure(status));
        }
        let answer = match UserRequest::parse(code, input, output.len()).map_err(failure)? {
            UserRequest::Immediate(ImmediateRequest::GetPort) => {
                port.description().to_bytes().to_vec()
            }
            UserRequest::Immediate(ImmediateRequest::IsPortFree) => vec![u8::from(!port.is_locked)],
            UserRequest::Queued(QueuedRequest::Claim) => {
                assert!(!port.is_locked, "this would wait");
                assert!(!port.claimed, "a second claim");
                port.claimed = true;
                port.claims += 1;
                Vec::new()
            }
            UserRequest::Queued(QueuedRequest::Release { restore }) => {
                assert!(!restore, "lines stay");
                port.claimed = false;
                Vec::new()
            }
            UserRequest::Queued(QueuedRequest::Run(run)) => {
                assert!(port.claimed, "a program without a claim");
                port.runs += 1;
                let chip = Chip {
                    direction: port.has_direction,
                    epp: true,
                    access_ns: 1000,
                };
                let parts = run.parts(input);
                let program = verify(&parts, output.len(), chip)
                    .map_err(|_| failure(Status::INVALID_PARAMETER))?;
                assert!(program.is_direct(), "it does not run at once");
                assert!(program.cost().ns <= DIRECT_NS.into());
                let mut bytes = vec![0; output.len() - RunResult::SIZE];
                let mut wire = Wire {
                    now: 0,
                    data: port.outputs.data,
                    control: port.outputs.control,
                    plug: port.plug,
                    writes: &mut port.writes,
                };
                let outputs = &mut port.outputs;
                let (result, _) = run_program(&mut wire, &program, outputs, &mut bytes);
                bytes.truncate(result.output as usize);
                [&result.to_bytes()[..], &bytes].concat()
            }
            other => panic!("{other:?} is not sent here"),
        };
        output[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn read(&self, _: &mut [u8], _: &Limits) -> Result<usize, Failure> {
        panic!("not read here")
    }

    fn write(&self, _: &[u8], _: &Limits) -> Result<usize, Failure> {
        panic!("not written here")
    }
}
