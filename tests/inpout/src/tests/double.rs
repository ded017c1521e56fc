//! A computer with parallel ports that is not there: what its lines do is written down, and every
//! request is taken apart, verified and run by the driver's own code.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::wire;
use crate::IoSpace;
use parscan_client::{
    DeviceNode, Error, Failure, Interface, InterfaceClass, Limits, Moved, Service, SetupClass,
    Status, System, Transport,
    ioctl::parallel::{
        ImmediateRequest, QueuedRequest, UserRequest,
        port_programs::{Chip, DIRECT_NS, PortDescription, PortFeatures, verify},
    },
};
use parscan_core::ieee1284::{Outputs, Register};

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

/// How often something was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) opens: usize,
    pub(crate) claims: usize,
    /// Programs that ran.
    pub(crate) runs: usize,
}

/// A port.
#[allow(clippy::struct_excessive_bools, reason = "what is so and what is not")]
pub(crate) struct Hardware {
    pub(crate) base: u64,
    /// Where its ECP block is, if it has one.
    pub(crate) ecp_base: Option<u64>,
    pub(crate) has_direction: bool,
    /// A handle is open: here, or in another process.
    pub(crate) is_open: bool,
    /// A kernel client has the port.
    pub(crate) is_locked: bool,
    /// What every request is answered with instead.
    pub(crate) ends_with: Option<Status>,
    pub(crate) claimed: bool,
    pub(crate) counts: Counts,
    pub(crate) writes: Vec<Write>,
    pub(crate) plug: Plug,
    pub(crate) outputs: Outputs,
}

impl Hardware {
    /// A port with a chip that has everything, and a loopback plug.
    pub(crate) fn at(base: u64) -> Self {
        Self {
            base,
            ecp_base: Some(base + 0x400),
            has_direction: true,
            is_open: false,
            is_locked: false,
            ends_with: None,
            claimed: false,
            counts: Counts::default(),
            writes: Vec::new(),
            plug: Plug::Loopback,
            outputs: wire::AT_FIRST,
        }
    }

    fn description(&self) -> PortDescription {
        let mut features = PortFeatures::empty();
        features.set(PortFeatures::DIRECTION, self.has_direction);
        features.set(PortFeatures::ECR, self.ecp_base.is_some());
        features.set(PortFeatures::CLAIMED, self.claimed);
        PortDescription {
            base: self.base,
            ecp_base: self.ecp_base.unwrap_or(0),
            span: 8,
            features,
            access_ns: 1000,
        }
    }
}

/// The plug while a program runs.
struct Plugged<'a> {
    plug: Plug,
    writes: &'a mut Vec<Write>,
}

impl wire::Plug for Plugged<'_> {
    fn read(&mut self, register: Register, outputs: Outputs) -> u8 {
        let reversed = outputs.control & 0x20 != 0;
        match (register, self.plug) {
            (Register::Data, Plug::Device { data, .. }) if reversed => data,
            (Register::Data, _) if reversed => 0xFF,
            (Register::Data, _) => outputs.data,
            (Register::Dsr, Plug::Loopback) => ((outputs.data << 3) ^ 0x80) & 0xF8 | 7,
            (Register::Dsr, Plug::Device { status, .. }) => status,
            _ => outputs.control | 0xC0,
        }
    }

    fn written(&mut self, offset: u16, value: u8) {
        self.writes.push((offset, value));
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
    /// A computer with one port, and this device on it.
    pub(crate) fn with_device(status: u8, data: u8) -> Self {
        Self::with([Hardware {
            plug: Plug::Device { status, data },
            ..Hardware::at(0x378)
        }])
    }

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

    /// What was done to a port.
    pub(crate) fn counts(&self, index: usize) -> Counts {
        self.port(index, |port| port.counts)
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
        port.counts.opens += 1;
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
    fn control(&self, code: u32, input: &[u8], output: &mut [u8], limits: &Limits) -> Moved {
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
                port.counts.claims += 1;
                Vec::new()
            }
            UserRequest::Queued(QueuedRequest::Release { restore }) => {
                assert!(!restore, "lines stay");
                port.claimed = false;
                Vec::new()
            }
            UserRequest::Queued(QueuedRequest::Run(run)) => {
                assert!(port.claimed, "a program without a claim");
                port.counts.runs += 1;
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
                let plug = Plugged {
                    plug: port.plug,
                    writes: &mut port.writes,
                };
                wire::run(&program, output.len(), &mut port.outputs, plug).0
            }
            other => panic!("{other:?} is not sent here"),
        };
        output[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn read(&self, _: &mut [u8], _: &Limits) -> Moved {
        panic!("not read here")
    }

    fn write(&self, _: &[u8], _: &Limits) -> Moved {
        panic!("not written here")
    }
}
