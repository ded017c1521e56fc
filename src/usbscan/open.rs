//! Open handles of a scanner, and the queues of their pipes.

use core::num::NonZeroU16;

use super::{
    BufferCache, Limits, OpenPipe, ScannerCore,
    control::{ControlTransfer, Controls},
    event::Events,
    plan::Plan,
    read::Reads,
    write::Writes,
};
use crate::{
    DeviceRole,
    ioctl::{
        Status,
        usbscan::{ControlRequest, Pipe, PipeType, Timeouts},
    },
    kernel::{
        Buffer, Device, Disposition, FileId, Irp, PipeQueue, PipeQueueOptions, Requester, Shared,
    },
    usb::{BulkRead, OpenEndpoints},
};

/// An open handle: its pipes, and what goes on in them.
pub(super) struct Open {
    file: FileId,
    pipes: OpenEndpoints,
    /// That of the endpoints that `pipes` are.
    generation: u32,
    limits: Shared<Limits>,
    event: Option<Shared<PipeQueue<Plan>>>,
    read: Option<Shared<PipeQueue<Plan>>>,
    write: Option<Shared<PipeQueue<Plan>>>,
    control: Shared<PipeQueue<Plan>>,
    buffer_cache: Shared<BufferCache>,
}

impl Open {
    /// An open of `device` by this name behind it.
    ///
    /// # Errors
    /// `STATUS_OBJECT_NAME_NOT_FOUND`: as [`Pipes::open`](crate::usb::Pipes::open).
    /// `STATUS_DEVICE_NOT_READY`: the device was never started. `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn try_new(
        device: Device<'_, DeviceRole>,
        core: &Shared<ScannerCore>,
        file: FileId,
        name: &[u16],
    ) -> Result<Self, Status> {
        let (pipes, generation) = core.endpoints().ok_or(Status::DEVICE_NOT_READY)?;
        let handle = pipes.open(name)?;
        let limits = Shared::try_new(Limits::new())?;
        let queue = |pipe: Pipe, plan: &dyn Fn(OpenPipe, NonZeroU16) -> Plan| {
            let Some((index, packet)) = handle.get(pipe).and_then(|index| {
                let packet = pipes.table().get(index)?.max_packet_size;
                Some((index, NonZeroU16::new(packet)?))
            }) else {
                return Ok(None);
            };
            let options = PipeQueueOptions {
                lower: core.lower(),
                urb_gate: core.urb_gate(),
                pipe_mask: pipe_mask(index),
                bounce: match pipe {
                    Pipe::Event | Pipe::ReadData => packet.get().into(),
                    Pipe::WriteData => 0,
                },
                direct: pipe != Pipe::Event,
            };
            let opened = OpenPipe::new(core.clone(), index, generation);
            PipeQueue::try_new(device, &options, plan(opened, packet)).map(Some)
        };
        let event = queue(Pipe::Event, &|pipe, _| {
            Plan::Event(Events::new(pipe, limits.clone()))
        })?;
        let read = queue(Pipe::ReadData, &|pipe, packet| {
            Plan::Read(Reads::new(pipe, limits.clone(), BulkRead::new(packet)))
        })?;
        let write = queue(Pipe::WriteData, &|pipe, packet| {
            Plan::Write(Writes::new(pipe, limits.clone(), packet))
        })?;
        let control = PipeQueueOptions {
            lower: core.lower(),
            urb_gate: core.urb_gate(),
            pipe_mask: 0,
            bounce: 0,
            direct: false,
        };
        let buffer_cache = Shared::try_new(BufferCache::try_new()?)?;
        let controls = Plan::Control(Controls::new(buffer_cache.clone(), limits.clone()));
        Ok(Self {
            file,
            pipes: handle,
            generation,
            limits,
            event,
            read,
            write,
            control: PipeQueue::try_new(device, &control, controls)?,
            buffer_cache,
        })
    }

    pub(super) fn is_of(&self, file: FileId) -> bool {
        self.file == file
    }

    pub(super) const fn pipes(&self) -> OpenEndpoints {
        self.pipes
    }

    /// The endpoint with this index, as this handle knows it.
    pub(super) fn endpoint(&self, core: &Shared<ScannerCore>, index: usize) -> OpenPipe {
        OpenPipe::new(core.clone(), index, self.generation)
    }

    /// How long a reset of a pipe may take, in milliseconds.
    pub(super) fn reset_limit(&self) -> u32 {
        self.limits.of_reset()
    }

    /// Whether the device still has the endpoints that the handle was opened with.
    ///
    /// # Errors
    /// As [`ScannerCore::check_generation`].
    pub(super) fn check(&self, core: &ScannerCore) -> Result<(), Status> {
        core.check_generation(self.generation)
    }

    /// The queues of the pipes that the device has.
    fn queues(&self) -> impl Iterator<Item = (Pipe, &Shared<PipeQueue<Plan>>)> {
        let all = [
            (Pipe::Event, &self.event),
            (Pipe::ReadData, &self.read),
            (Pipe::WriteData, &self.write),
        ];
        all.into_iter()
            .filter_map(|(pipe, pipe_queue)| Some((pipe, pipe_queue.as_ref()?)))
    }

    /// `IRP_MJ_READ`, `IRP_MJ_WRITE` or `IOCTL_WAIT_ON_DEVICE_EVENT`: what this pipe is for.
    pub(super) fn transfer(&self, pipe: Pipe, irp: Irp) -> Disposition {
        match self.queues().find(|(its, _)| *its == pipe) {
            Some((_, pipe_queue)) => pipe_queue.request(irp, None),
            None => irp.complete(Status::INVALID_PARAMETER),
        }
    }

    /// A request that becomes a transfer on the control pipe. The `data` that it sends is captured
    /// here, in the requester's context.
    pub(super) fn control(
        &self,
        irp: Irp,
        request: ControlRequest,
        data: Option<u64>,
        requester: Requester<'_>,
    ) -> Disposition {
        let captured = match data {
            Some(address) => match self.capture(address, request.length(), requester) {
                Ok(captured) => Some(captured),
                Err(status) => return irp.complete(status),
            },
            None => None,
        };
        let transfer = ControlTransfer::new(request, captured);
        self.control.request(irp, Some(transfer))
    }

    fn capture(
        &self,
        address: u64,
        length: usize,
        requester: Requester<'_>,
    ) -> Result<Buffer, Status> {
        let mut buffer = self.buffer_cache.take(length)?;
        let room = buffer.get_mut(..length).unwrap_or_default();
        match requester.capture(address, room) {
            Ok(()) => Ok(buffer),
            Err(status) => {
                self.buffer_cache.put(buffer);
                Err(status)
            }
        }
    }

    /// `IOCTL_SET_TIMEOUT`, for the requests that begin from now on.
    pub(super) fn set_timeouts(&self, timeouts: Timeouts) {
        self.limits.set(timeouts);
    }

    /// Ends the requests on some of the pipes, and drops what the pipes hold. All pipes are the
    /// default one, too. At <= `DISPATCH_LEVEL`.
    pub(super) fn end(&self, pipes: PipeType, status: Status) {
        for (pipe, pipe_queue) in self.queues() {
            if pipes == PipeType::All || pipes == PipeType::One(pipe) {
                pipe_queue.end(status);
            }
        }
        if pipes == PipeType::All {
            self.control.end(status);
        }
    }

    /// Goes on with every queue. At <= `DISPATCH_LEVEL`.
    pub(super) fn resume_all(&self) {
        for (_, pipe_queue) in self.queues() {
            pipe_queue.resume();
        }
        self.control.resume();
    }

    /// The queue of the pipe with this index, if there is one.
    pub(super) fn queue_of(&self, index: usize) -> Option<&Shared<PipeQueue<Plan>>> {
        self.queues()
            .find(|(pipe, _)| self.pipes.get(*pipe) == Some(index))
            .map(|(_, pipe_queue)| pipe_queue)
    }
}

/// The bit of a pipe.
pub(super) const fn pipe_mask(index: usize) -> u32 {
    // An index is less than eight.
    1 << (index & 31)
}
