//! What a scanner shares with its opens: its start, its pipes, its end.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{
    ioctl::{
        Status,
        usbscan::{DeviceDescriptor, MAX_NUM_PIPES, PipeInformation},
    },
    kernel::{
        At, Buffer, DeviceUrbGate, Lower, Passive, PipeHandle, SelectedPipe, Shared, SharedList,
        SpinLock, StartFailure, UsbDevice,
    },
    trace::{Label, Step},
    usb::{
        CONFIGURATION_HEADER, DEVICE_DESCRIPTOR, Malformed, Pipes, device_descriptor,
        has_remote_wakeup, total_length,
    },
};

use super::Open;

/// How long a URB of the start may take, in milliseconds: what USB gives a device for a request.
const START_LIMIT_MS: u32 = 5000;
/// `USB_DEVICE_DESCRIPTOR_TYPE` and `USB_CONFIGURATION_DESCRIPTOR_TYPE` (usbspec.h).
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;

/// What a scanner shares with its opens.
pub(super) struct ScannerCore {
    lower: Lower,
    label: Label,
    urb_gate: Shared<DeviceUrbGate>,
    opens: SharedList<Open>,
    /// What was found at the last start.
    configuration: SpinLock<Option<Configuration>>,
    /// Its generation, for who only looks at that; [`NONE`] before the first start.
    generation: AtomicU64,
}

/// No generation.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Configuration {
    /// Another one after each start that found other endpoints than before.
    generation: u32,
    descriptor: DeviceDescriptor,
    pipes: Pipes,
    selected: [Option<SelectedPipe>; MAX_NUM_PIPES],
    /// It can wake up by itself.
    wakes_up: bool,
}

impl ScannerCore {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(lower: Lower, label: Label) -> Result<Self, Status> {
        Ok(Self {
            lower,
            label,
            urb_gate: Shared::try_new(DeviceUrbGate::try_new(label)?)?,
            opens: SharedList::new(),
            configuration: SpinLock::new(None),
            generation: AtomicU64::new(NONE),
        })
    }

    pub(super) const fn device(&self) -> UsbDevice {
        UsbDevice::new(self.lower, self.label)
    }

    /// What events call the device.
    pub(super) const fn label(&self) -> Label {
        self.label
    }

    pub(super) const fn lower(&self) -> Lower {
        self.lower
    }

    pub(super) const fn urb_gate(&self) -> &Shared<DeviceUrbGate> {
        &self.urb_gate
    }

    pub(super) const fn opens(&self) -> &SharedList<Open> {
        &self.opens
    }

    /// `START_DEVICE`: reads the descriptors, and selects the configuration.
    ///
    /// # Errors
    /// What the USB stack says; `STATUS_IO_TIMEOUT`; `STATUS_INSUFFICIENT_RESOURCES`;
    /// `STATUS_DEVICE_CONFIGURATION_ERROR`: the descriptors are malformed, or the USB stack and
    /// this driver do not see the same in them.
    pub(super) fn start(&self, passive: Passive) -> Result<(), StartFailure> {
        let mut found = self.configure(passive)?;
        let generation = &self.generation;
        self.configuration.with(move |place| {
            if let Some(before) = place {
                let is_other = u32::from(before.pipes != found.pipes);
                found.generation = before.generation.wrapping_add(is_other);
            }
            generation.store(found.generation.into(), Ordering::Release);
            *place = Some(found);
        });
        Ok(())
    }

    fn configure(&self, passive: Passive) -> Result<Configuration, StartFailure> {
        let step = Step::DeviceDescriptor;
        let descriptor = self.read(DEVICE, DEVICE_DESCRIPTOR, passive).at(step)?;
        let descriptor = device_descriptor(&descriptor).map_err(malformed);
        let descriptor = descriptor.at(Step::Descriptors)?;
        let step = Step::ConfigurationDescriptor;
        let header = self.read(CONFIGURATION, CONFIGURATION_HEADER, passive);
        let total = total_length(&header.at(step)?).map_err(malformed);
        let total = total.at(Step::Descriptors)?;
        let mut whole = self.read(CONFIGURATION, total, passive).at(step)?;
        let pipes = Pipes::parse(&whole).map_err(malformed);
        let pipes = pipes.at(Step::Descriptors)?;
        let mut selected = [None; MAX_NUM_PIPES];
        let selection = self.device().select_configuration(
            &mut whole,
            pipes.interface_number(),
            pipes.endpoint_count(),
            &mut selected,
            START_LIMIT_MS,
            passive,
        );
        selection.at(Step::SelectConfiguration)?;
        let same = |(known, selected): (&PipeInformation, &Option<SelectedPipe>)| {
            selected.is_some_and(|pipe| pipe.address == known.endpoint_address)
        };
        if !pipes.table().iter().zip(&selected).all(same) {
            return Err(Status::DEVICE_CONFIGURATION_ERROR).at(Step::SelectConfiguration);
        }
        Ok(Configuration {
            generation: 0,
            descriptor,
            pipes,
            selected,
            wakes_up: has_remote_wakeup(&whole),
        })
    }

    /// The first descriptor of a kind, `length` bytes of it, all of which came.
    fn read(&self, kind: u8, length: usize, passive: Passive) -> Result<Buffer, Status> {
        let mut bytes = Buffer::try_zeroed(length)?;
        let count = self
            .device()
            .descriptor(kind, &mut bytes, START_LIMIT_MS, passive)?;
        if count == length {
            Ok(bytes)
        } else {
            Err(Status::DEVICE_CONFIGURATION_ERROR)
        }
    }

    /// The endpoints, if the device was started.
    #[inline(never)]
    pub(super) fn pipes(&self) -> Option<Pipes> {
        self.configuration.with(|it| it.map(|it| it.pipes))
    }

    /// The endpoints, and their generation: the indices that a handle has belong to it.
    pub(super) fn endpoints(&self) -> Option<(Pipes, u32)> {
        self.configuration
            .with(|it| it.map(|it| (it.pipes, it.generation)))
    }

    /// Whether the endpoints still are those of this generation.
    ///
    /// # Errors
    /// `STATUS_INVALID_DEVICE_STATE`: the device was started again since, and has others.
    pub(super) fn check_generation(&self, generation: u32) -> Result<(), Status> {
        if self.generation.load(Ordering::Acquire) == u64::from(generation) {
            Ok(())
        } else {
            Err(Status::INVALID_DEVICE_STATE)
        }
    }

    /// Whether the device says that it can wake up by itself.
    pub(super) fn can_wake_up(&self) -> bool {
        self.configuration
            .with(|it| it.as_ref().is_some_and(|it| it.wakes_up))
    }

    /// Who made the device, if it was started.
    pub(super) fn descriptor(&self) -> Option<DeviceDescriptor> {
        self.configuration.with(|it| it.map(|it| it.descriptor))
    }
}

/// An endpoint as a handle has it.
#[derive(Clone)]
pub(super) struct OpenPipe {
    core: Shared<ScannerCore>,
    index: usize,
    generation: u32,
}

impl OpenPipe {
    pub(super) const fn new(core: Shared<ScannerCore>, index: usize, generation: u32) -> Self {
        Self {
            core,
            index,
            generation,
        }
    }

    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// The pipe, as it was opened at the last start.
    ///
    /// # Errors
    /// As [`ScannerCore::check_generation`].
    pub(super) fn handle(&self) -> Result<PipeHandle, Status> {
        let (index, generation) = (self.index, self.generation);
        self.core
            .configuration
            .with(move |it| {
                let it = it.as_ref().filter(|it| it.generation == generation)?;
                Some(it.selected.get(index)?.as_ref()?.handle)
            })
            .ok_or(Status::INVALID_DEVICE_STATE)
    }
}

fn malformed(_: Malformed) -> Status {
    Status::DEVICE_CONFIGURATION_ERROR
}
