//! Port programs on a device: the claim, and programs in the caller's thread or the worker's.

use super::{
    super::{Hardware, Place, PortCore, hardware::OwnedPort, lines::AT_REST},
    DeviceCore,
};
use crate::{
    ieee1284::{Ecr, Ended, Outputs, Port, Register, Session, run_program},
    ioctl::{
        Status,
        parallel::port_programs::{
            Chip, DIRECT_ACCESSES, PortDescription, PortFeatures, Program, RunEnd, RunRequest,
            RunResult, verify,
        },
    },
    kernel::{Buffer, Disposition, FileId, Irp, Task, Waits, unpreempted},
};

/// What the verifier must know of the hardware.
#[inline]
fn chip(port: &PortCore, hardware: &Hardware) -> Chip {
    let capabilities = port.capabilities(hardware);
    Chip {
        // A chip of which it is not known may have it: trying would move the lines.
        direction: capabilities.byte != Some(false),
        epp: capabilities.epp,
        access_ns: hardware.access_ns(),
    }
}

/// A program that ran in the caller's thread: its result and output.
pub(in crate::parallel) struct DirectAnswer {
    bytes: [u8; RunResult::SIZE + DIRECT_ACCESSES as usize],
    length: usize,
}

impl DirectAnswer {
    pub(in crate::parallel) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// What becomes of an `IOCTL_PARSCAN_RUN` in its caller's thread.
pub(in crate::parallel) enum Direct {
    /// The program ran.
    Done(DirectAnswer),
    /// It never will.
    Refused(Status),
    /// The worker runs it.
    Later,
}

impl DeviceCore {
    /// `IOCTL_PARSCAN_GET_PORT`
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the port is stopped, or sleeps.
    pub(super) fn describe(&self) -> Result<[u8; PortDescription::SIZE], Status> {
        let inside = self.port().enter().ok_or(Status::DEVICE_NOT_READY)?;
        let hardware = inside.value();
        let capabilities = self.port().capabilities(&hardware);
        let addresses = hardware.addresses();
        let mut features = PortFeatures::empty();
        features.set(PortFeatures::DIRECTION, capabilities.byte != Some(false));
        features.set(PortFeatures::EPP, capabilities.epp);
        features.set(PortFeatures::ECR, capabilities.ecr);
        features.set(PortFeatures::INTERRUPT, hardware.interrupt().is_some());
        let edges = matches!(self.place(), Place::Raw) && self.port().serves_edges(&hardware);
        features.set(PortFeatures::EDGES, edges);
        features.set(PortFeatures::CLAIMED, self.is_claimed());
        Ok(PortDescription {
            base: addresses.registers.0,
            ecp_base: if capabilities.ecr { addresses.ecp.0 } else { 0 },
            span: addresses.registers.1,
            features,
            access_ns: hardware.access_ns(),
        }
        .to_bytes())
    }

    /// `IOCTL_PARSCAN_CLAIM`
    ///
    /// # Errors
    /// `STATUS_NOT_SUPPORTED`: a device of the chain, or at its end; lines are the port's.
    /// `STATUS_INVALID_DEVICE_STATE`: it is claimed. `STATUS_DEVICE_BUSY`: another client kept the
    /// port for too long. As [`Waits::check`].
    pub(super) fn claim(&self, waits: &Waits<'_>, file: FileId) -> Result<(), Status> {
        if !matches!(self.place(), Place::Raw) {
            return Err(Status::NOT_SUPPORTED);
        }
        self.hold_for_program(waits, file, |core| {
            let inside = core.port().enter_when_there(waits)?;
            core.port().raw().begin(&inside.value(), true);
            core.port().set_direction_mode(&inside.value());
            Ok(())
        })
    }

    /// `IOCTL_PARSCAN_RELEASE`
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_STATE`: it is not claimed. As [`Waits::check`].
    pub(in crate::parallel) fn release(
        &self,
        waits: &Waits<'_>,
        restore: bool,
    ) -> Result<(), Status> {
        self.let_go_of_program(waits, |core| {
            core.end_mode(*waits);
            core.end_claim(restore);
        })
    }

    /// The end of a claim, while the port is still its own.
    pub(super) fn end_claim(&self, restore: bool) {
        let inside = self.port().enter();
        let hardware = inside.as_ref().map(crate::kernel::RundownGuard::value);
        let bit = self.port().edges().control_bit();
        self.port().raw().end_claim(hardware.as_ref(), restore, bit);
    }

    /// An `IOCTL_PARSCAN_RUN` in the caller's thread: it is verified for the chip that is there now,
    /// and done, if the port is claimed and the program short.
    pub(in crate::parallel) fn run_now(&self, irp: &Irp, run: RunRequest) -> Direct {
        if !matches!(self.place(), Place::Raw) {
            return Direct::Refused(Status::NOT_SUPPORTED);
        }
        let Some(inside) = self.port().enter() else {
            return Direct::Later;
        };
        let hardware = inside.get();
        let input = run.parts(irp.input());
        let Ok(program) = verify(&input, irp.output_length(), chip(self.port(), hardware)) else {
            return Direct::Refused(Status::INVALID_PARAMETER);
        };
        if !program.is_direct() {
            return Direct::Later;
        }
        let Some(_turn) = self.try_lock_peripheral() else {
            return Direct::Later;
        };
        let lines = self.port().raw().get();
        // A mode that a transfer has connected is left by the worker.
        if !lines.claimed || !lines.known {
            return Direct::Later;
        }
        let mut answer = DirectAnswer {
            bytes: [0; _],
            length: 0,
        };
        let Some((header, output)) = answer.bytes.split_first_chunk_mut() else {
            return Direct::Later;
        };
        let (result, _) = self.undisturbed(hardware, &program, lines.outputs, output);
        *header = result.to_bytes();
        answer.length = RunResult::SIZE + result.output as usize;
        Direct::Done(answer)
    }

    /// Runs a program that does not sleep.
    fn undisturbed(
        &self,
        hardware: &Hardware,
        program: &Program<'_>,
        mut outputs: Outputs,
        output: &mut [u8],
    ) -> (RunResult, Ended) {
        let mut port = hardware.non_blocking();
        let epp = EppMode::enter(hardware, program);
        let bit = self.port().edges().control_bit();
        outputs.control |= bit;
        let ended = if program.is_atomic() {
            let outputs = &mut outputs;
            unpreempted(move || run_program(&mut port, program, outputs, output))
        } else {
            run_program(&mut port, program, &mut outputs, output)
        };
        drop(epp);
        outputs.control &= !bit;
        self.port().raw().set(outputs);
        ended
    }

    /// `IOCTL_PARSCAN_RUN`, in the worker's thread.
    pub(super) fn run(&self, task: Task, run: RunRequest) -> Disposition {
        match self.run_request(&task, run) {
            Ok((answer, length)) => task.answer(answer.get(..length).unwrap_or_default()),
            Err(status) => task.complete(status),
        }
    }

    /// The answer, and how much of its memory it is.
    fn run_request(&self, task: &Task, run: RunRequest) -> Result<(Buffer, usize), Status> {
        let irp = task.irp();
        let input = run.parts(irp.input());
        // What is known now holds on: the memory is there before anything moves.
        let room = irp.output_length().min(LONGEST_ANSWER);
        self.with_port(task.waits(), None, |session, port| {
            let hardware = *port.hardware();
            let program = verify(&input, irp.output_length(), chip(self.port(), &hardware))
                .map_err(|_| Status::INVALID_PARAMETER)?;
            let output = usize::try_from(program.cost().output).unwrap_or(room);
            let mut answer = Buffer::try_zeroed(RunResult::SIZE.saturating_add(output))?;
            let claimed = self.is_claimed();
            if session.is_connected() {
                session.terminate(port);
                self.port().raw().used();
            }
            if !claimed || !self.port().raw().get().known {
                self.port().set_direction_mode(&hardware);
            }
            self.port().raw().begin(&hardware, false);
            let (header, output) = answer
                .split_first_chunk_mut()
                .ok_or(Status::INSUFFICIENT_RESOURCES)?;
            let outputs = self.port().raw().get().outputs;
            let (mut result, ended) = if program.is_atomic() {
                self.undisturbed(&hardware, &program, outputs, output)
            } else {
                self.interruptible(port, &hardware, &program, outputs, output)
            };
            if ended == Ended::Interrupted {
                result.end = match port.why() {
                    Status::POWER_STATE_INVALID => RunEnd::PowerLost,
                    Status::DEVICE_REMOVED | Status::DELETE_PENDING => RunEnd::Removed,
                    _ => RunEnd::Cancelled,
                };
            }
            *header = result.to_bytes();
            let length = RunResult::SIZE.saturating_add(result.output as usize);
            Ok((answer, length))
        })
        .flatten()
    }

    fn interruptible(
        &self,
        port: &mut OwnedPort<'_>,
        hardware: &Hardware,
        program: &Program<'_>,
        mut outputs: Outputs,
        output: &mut [u8],
    ) -> (RunResult, Ended) {
        let epp = EppMode::enter(hardware, program);
        let bit = self.port().edges().control_bit();
        outputs.control |= bit;
        let ended = run_program(port, program, &mut outputs, output);
        drop(epp);
        outputs.control &= !bit;
        self.port().raw().set(outputs);
        ended
    }

    /// The device is used otherwise than by programs: lines that a program has left are put at
    /// rest first.
    pub(in crate::parallel) fn settle(&self, session: &mut Session, port: &mut OwnedPort<'_>) {
        self.port().disable_edges(port.hardware());
        if self.port().raw().used() {
            port.hardware().set_ecr(Ecr::SPP.bits());
            port.write(Register::Dcr, AT_REST.control);
            port.write(Register::Data, AT_REST.data);
            session.disconnected();
        }
    }
}

/// The most bytes of an answer: all accesses read.
const LONGEST_ANSWER: usize =
    RunResult::SIZE + crate::ioctl::parallel::port_programs::MOST_ACCESSES as usize;

/// The chip's EPP mode, for a program with EPP cycles on a chip that has an ECR.
struct EppMode<'a>(Option<&'a Hardware>);

impl<'a> EppMode<'a> {
    fn enter(hardware: &'a Hardware, program: &Program<'_>) -> Self {
        let needed = program.uses_epp() && hardware.capabilities().ecr;
        if needed {
            hardware.set_ecr(Ecr::EPP.bits());
        }
        Self(needed.then_some(hardware))
    }
}

impl Drop for EppMode<'_> {
    fn drop(&mut self) {
        if let Some(hardware) = self.0 {
            hardware.set_ecr(Ecr::PS2.bits());
        }
    }
}
