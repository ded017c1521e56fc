//! Open handles of a scanner, and the channels on their pipes.

use core::num::NonZeroU16;

use super::{
    Limits, OpenPipe, ScannerCore, Stock, control::Controls, event::Events, read::Reads,
    write::Writes,
};
use crate::{
    Role,
    ioctl::{
        Status,
        usbscan::{Direction, Pipe, PipeType, Timeouts, VendorRequest},
    },
    kernel::{Channel, ChannelOptions, Device, Disposition, FileId, Irp, Requester, Shared},
    usb::{BulkRead, HandlePipes},
};

/// An open handle: its pipes, and what goes on in them.
pub(super) struct Open {
    file: FileId,
    pipes: HandlePipes,
    /// That of the endpoints that `pipes` are.
    generation: u32,
    limits: Shared<Limits>,
    event: Option<Shared<Channel<Events>>>,
    read: Option<Shared<Channel<Reads>>>,
    write: Option<Shared<Channel<Writes>>>,
    control: Shared<Channel<Controls>>,
    stock: Shared<Stock>,
}

impl Open {
    /// An open of `device` by this name behind it.
    ///
    /// # Errors
    /// `STATUS_OBJECT_NAME_NOT_FOUND`: as [`Pipes::open`](crate::usb::Pipes::open).
    /// `STATUS_DEVICE_NOT_READY`: the device was never started. `STATUS_INSUFFICIENT_RESOURCES`.
    pub(super) fn try_new(
        device: Device<'_, Role>,
        core: &Shared<ScannerCore>,
        file: FileId,
        name: &[u16],
    ) -> Result<Self, Status> {
        let (pipes, generation) = core.endpoints().ok_or(Status::DEVICE_NOT_READY)?;
        let handle = pipes.open(name)?;
        let limits = Shared::try_new(Limits::new())?;
        // A pipe, the size of its packets, and what its channel is made of.
        let pipe = |pipe: Pipe| {
            let index = handle.get(pipe)?;
            let packet = pipes.table().get(index)?.max_packet_size;
            let options = ChannelOptions {
                lower: core.lower(),
                traffic: core.traffic(),
                lane: lane(index),
                own: match pipe {
                    Pipe::Event | Pipe::ReadData => packet.into(),
                    Pipe::WriteData => 0,
                },
                direct: pipe != Pipe::Event,
            };
            let opened = OpenPipe::new(core.clone(), index, generation);
            Some((opened, NonZeroU16::new(packet)?, options))
        };
        let event = pipe(Pipe::Event)
            .map(|(pipe, _, options)| {
                Channel::try_new(device, &options, Events::new(pipe, limits.clone()))
            })
            .transpose()?;
        let read = pipe(Pipe::ReadData)
            .map(|(pipe, packet, options)| {
                let reads = Reads::new(pipe, limits.clone(), BulkRead::new(packet));
                Channel::try_new(device, &options, reads)
            })
            .transpose()?;
        let write = pipe(Pipe::WriteData)
            .map(|(pipe, packet, options)| {
                Channel::try_new(device, &options, Writes::new(pipe, limits.clone(), packet))
            })
            .transpose()?;
        let control = ChannelOptions {
            lower: core.lower(),
            traffic: core.traffic(),
            lane: 0,
            own: 0,
            direct: false,
        };
        let stock = Shared::try_new(Stock::try_new()?)?;
        let controls = Controls::new(stock.clone(), limits.clone());
        Ok(Self {
            file,
            pipes: handle,
            generation,
            limits,
            event,
            read,
            write,
            control: Channel::try_new(device, &control, controls)?,
            stock,
        })
    }

    pub(super) fn is_of(&self, file: FileId) -> bool {
        self.file == file
    }

    pub(super) const fn pipes(&self) -> HandlePipes {
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

    /// The channels on pipes, those that the device has.
    fn on_pipes(&self) -> impl Iterator<Item = (Pipe, &dyn OnPipe)> {
        let event = self.event.as_ref().map(|it| it as &dyn OnPipe);
        let read = self.read.as_ref().map(|it| it as &dyn OnPipe);
        let write = self.write.as_ref().map(|it| it as &dyn OnPipe);
        let all = [
            (Pipe::Event, event),
            (Pipe::ReadData, read),
            (Pipe::WriteData, write),
        ];
        all.into_iter()
            .filter_map(|(pipe, channel)| Some((pipe, channel?)))
    }

    /// `IRP_MJ_READ`, `IRP_MJ_WRITE` or `IOCTL_WAIT_ON_DEVICE_EVENT`: what this pipe is for.
    pub(super) fn transfer(&self, pipe: Pipe, irp: Irp) -> Disposition {
        match self.on_pipes().find(|(its, _)| *its == pipe) {
            Some((_, channel)) => channel.request(irp),
            None => irp.complete(Status::INVALID_PARAMETER),
        }
    }

    /// `IOCTL_GET_USB_DESCRIPTOR`
    pub(super) fn descriptor(&self, irp: Irp) -> Disposition {
        self.control.request(irp, None)
    }

    /// A vendor request. What it sends is captured here, in the requester's context.
    pub(super) fn vendor(
        &self,
        irp: Irp,
        request: VendorRequest,
        requester: Requester<'_>,
    ) -> Disposition {
        let length = usize::from(request.length);
        let address = match request.direction {
            Direction::Out { data } if length != 0 => data,
            _ => return self.control.request(irp, None),
        };
        let mut buffer = match self.stock.take(length) {
            Ok(buffer) => buffer,
            Err(status) => return irp.complete(status),
        };
        let room = buffer.get_mut(..length).unwrap_or_default();
        match requester.capture(address, room) {
            Ok(()) => self.control.request(irp, Some(buffer)),
            Err(status) => {
                self.stock.put(buffer);
                irp.complete(status)
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
        for (pipe, channel) in self.on_pipes() {
            if pipes == PipeType::All || pipes == PipeType::One(pipe) {
                channel.end(status);
            }
        }
        if pipes == PipeType::All {
            self.control.end(status);
        }
    }

    /// Goes on with every queue. At <= `DISPATCH_LEVEL`.
    pub(super) fn resume_all(&self) {
        for (_, channel) in self.on_pipes() {
            channel.resume();
        }
        self.control.resume();
    }

    /// What `act` does with the channel on the pipe with this index, if there is one.
    pub(super) fn on_pipe(&self, index: usize, act: &mut dyn FnMut(&dyn OnPipe)) {
        for (pipe, channel) in self.on_pipes() {
            if self.pipes.get(pipe) == Some(index) {
                act(channel);
            }
        }
    }
}

/// The bit of a pipe.
pub(super) const fn lane(index: usize) -> u32 {
    // An index is less than eight.
    1 << (index & 31)
}

/// A channel on a pipe, whatever it is for.
pub(super) trait OnPipe {
    /// Queues a request.
    fn request(&self, irp: Irp) -> Disposition;
    /// Ends every request, and drops what the pipe holds.
    fn end(&self, status: Status);
    /// Ends the request that is being served.
    fn end_active(&self, status: Status);
    /// Whether none is being served.
    fn is_idle(&self) -> bool;
    /// The pipe was reset: what it held is dropped.
    fn reset(&self);
    /// Goes on with the queue.
    fn resume(&self);
}

impl<E: crate::kernel::Exchange> OnPipe for Shared<Channel<E>> {
    fn request(&self, irp: Irp) -> Disposition {
        Self::request(self, irp, None)
    }

    fn end(&self, status: Status) {
        Self::end(self, status);
    }

    fn end_active(&self, status: Status) {
        Self::end_active(self, status);
    }

    fn is_idle(&self) -> bool {
        Channel::is_idle(self)
    }

    fn reset(&self) {
        Channel::discard(self);
    }

    fn resume(&self) {
        Self::resume(self);
    }
}
