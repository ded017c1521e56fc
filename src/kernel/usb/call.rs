//! URBs of the driver itself, which a thread waits for.

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    mem::offset_of,
    ptr::{self, NonNull},
};

use wdk_sys::{
    _DEVICE_POWER_STATE, _SYSTEM_POWER_STATE, _URB_HEADER, _URB_SELECT_CONFIGURATION,
    DEVICE_CAPABILITIES, DEVICE_OBJECT, DEVICE_POWER_STATE, IO_STACK_LOCATION, IO_STATUS_BLOCK,
    IRP, IRP_MJ_PNP, IRP_MN_QUERY_CAPABILITIES, NTSTATUS, PVOID, STATUS_MORE_PROCESSING_REQUIRED,
    SYSTEM_POWER_STATE, URB_FUNCTION_SELECT_CONFIGURATION, USBD_INTERFACE_INFORMATION,
    USBD_PIPE_INFORMATION,
    ntddk::{IoAllocateIrp, IoCancelIrp, IoFreeIrp, IofCallDriver},
};

use super::{
    super::{
        Buffer, Lower, Passive, Waits,
        irp::{INVOKE_ALWAYS, fill_next, submit_urb},
        pool::PoolBox,
        sync::Event,
    },
    DeviceUrbGate, Memory, PipeHandle, Urb, UrbTransfer, report, urb,
};
use crate::{ioctl::Status, trace::Label};

/// The most endpoints of an interface: 15 of each direction.
const MOST_PIPES: usize = 30;
/// `MaximumTransferSize` of every pipe, in bytes. Windows ignores it since XP.
const MAXIMUM_TRANSFER_SIZE: u32 = 0x1_0000;

const D0: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD0;
const D2: DEVICE_POWER_STATE = _DEVICE_POWER_STATE::PowerDeviceD2;
const PNP: u8 = {
    assert!(IRP_MJ_PNP == 0x1B);
    0x1B
};
const QUERY_CAPABILITIES: u8 = {
    assert!(IRP_MN_QUERY_CAPABILITIES == 9);
    9
};
/// `Size` of `DEVICE_CAPABILITIES`.
const CAPABILITIES_SIZE: u16 = {
    assert!(size_of::<DEVICE_CAPABILITIES>() == 64);
    64
};

/// What ends the wait for a URB before it comes back: then it is cancelled.
enum CallTimeout<'a> {
    /// So many milliseconds.
    Limit(u32),
    /// The end of the request that it is for, or of the device's URBs, or so many milliseconds.
    Request(&'a Waits<'a>, &'a DeviceUrbGate, u32),
}

impl CallTimeout<'_> {
    /// Waits for `done`.
    ///
    /// # Errors
    /// It shall not be waited for any longer.
    fn wait_for(&self, done: &Event, passive: Passive) -> Result<(), Status> {
        match *self {
            Self::Limit(limit) => {
                if done.wait_for(limit, passive.blocking()) {
                    Ok(())
                } else {
                    Err(Status::IO_TIMEOUT)
                }
            }
            Self::Request(waits, urb_gate, limit) => loop {
                let objects = [Some(done.object()), Some(urb_gate.shut_event().object())];
                match waits.wait_for(objects, Some(limit))? {
                    Some(0) => return Ok(()),
                    Some(_) => urb_gate.check()?,
                    None => return Err(Status::IO_TIMEOUT),
                }
            },
        }
    }
}

/// The device as its function driver sees it.
#[derive(Clone, Copy)]
pub(crate) struct UsbDevice(Lower, Label);

/// A pipe of the selected configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SelectedPipe {
    /// `EndpointAddress`
    pub(crate) address: u8,
    /// `PipeHandle`
    pub(crate) handle: PipeHandle,
}

/// The members of `DEVICE_CAPABILITIES` that are about power.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PowerCapabilities {
    /// `DeviceState`: the highest device power state in each system power state.
    device_states: [DEVICE_POWER_STATE; 7],
    /// `SystemWake`: the lowest system power state that the device can wake the system up from.
    system_wake: SYSTEM_POWER_STATE,
    /// `DeviceWake`: the lowest device power state that it can do so in.
    device_wake: DEVICE_POWER_STATE,
}

impl PowerCapabilities {
    /// Whether the device can signal in D2.
    pub(crate) const fn wakes_in_d2(&self) -> bool {
        self.device_wake >= D2
    }

    /// What a wait/wake IRP is for: the lowest system power state that the device can wake the
    /// system up from. If there is none, it wakes itself up while the system works.
    pub(crate) fn lowest_wake(self) -> SYSTEM_POWER_STATE {
        self.system_wake
            .max(_SYSTEM_POWER_STATE::PowerSystemWorking)
    }

    /// The system power states, a bit each, that the device can wake the system up from in D2: not
    /// deeper than `SystemWake`, and its bus keeps it in D2 there.
    pub(crate) fn wake_states(self) -> u8 {
        let light = _SYSTEM_POWER_STATE::PowerSystemSleeping1;
        let deep = self
            .system_wake
            .min(_SYSTEM_POWER_STATE::PowerSystemHibernate);
        (light..=deep)
            .filter(|state| {
                let highest = usize::try_from(*state)
                    .ok()
                    .and_then(|state| self.device_states.get(state));
                highest.is_some_and(|highest| (D0..=D2).contains(highest))
            })
            .fold(0, |states, state| states | 1 << state)
    }
}

/// A request that failed, or was not sent.
struct Refused {
    /// Why this driver did not wait for it any longer.
    impatience: Option<Status>,
    /// What the lower drivers said.
    status: Status,
}

impl Refused {
    const fn unsent(status: Status) -> Self {
        Self {
            impatience: Some(status),
            status,
        }
    }

    /// The status for the caller, who wanted it sent.
    fn why(self) -> Status {
        self.impatience.unwrap_or(self.status)
    }
}

impl UsbDevice {
    /// The device at the bottom of the stack; what events call it.
    pub(crate) const fn new(lower: Lower, label: Label) -> Self {
        Self(lower, label)
    }

    /// Reads a descriptor, in `limit` milliseconds: how many bytes came.
    ///
    /// # Errors
    /// What the USB stack says; `STATUS_IO_TIMEOUT`.
    pub(crate) fn descriptor(
        self,
        kind: u8,
        into: &mut Buffer,
        limit: u32,
        passive: Passive,
    ) -> Result<usize, Status> {
        let transfer = UrbTransfer::Descriptor {
            kind,
            index: 0,
            language: 0,
        };
        let length = into.len();
        let memory = Memory::buffer(into.as_mut_ptr(), length);
        let urb = PoolBox::try_new(UnsafeCell::new(Urb::transfer(transfer, memory)))?;
        self.call(urb.get().cast(), &CallTimeout::Limit(limit), passive)?;
        // SAFETY: the URB came back.
        Ok(unsafe { &*urb.get() }.moved().min(length))
    }

    /// Resets a pipe on both sides of the bus, in `limit` milliseconds. It has no transfers. `pipe`
    /// says which it is, when the device can no longer be stopped before the end.
    ///
    /// # Errors
    /// What the USB stack says; `STATUS_IO_TIMEOUT`; the refusal of `urb_gate`; as
    /// [`Waits::check`]; that of `pipe`.
    pub(crate) fn reset_pipe(
        self,
        pipe: impl FnOnce() -> Result<PipeHandle, Status>,
        urb_gate: &DeviceUrbGate,
        waits: &Waits<'_>,
        limit: u32,
        passive: Passive,
    ) -> Result<(), Status> {
        urb_gate.enter()?;
        let result = pipe().and_then(|pipe| {
            let urb = PoolBox::try_new(UnsafeCell::new(Urb::reset_pipe(pipe)))?;
            let timeout = CallTimeout::Request(waits, urb_gate, limit);
            self.call(urb.get().cast(), &timeout, passive)
        });
        urb_gate.leave();
        result
    }

    /// Selects a configuration with one interface of it, alternate setting 0, in `limit`
    /// milliseconds, and tells the first of its pipes in `selected`, in the order of their
    /// descriptors. `configuration` is the whole descriptor, which was checked.
    ///
    /// # Errors
    /// What the USB stack says; `STATUS_IO_TIMEOUT`; `STATUS_DEVICE_CONFIGURATION_ERROR`: it has
    /// opened another number of pipes.
    pub(crate) fn select_configuration(
        self,
        configuration: &mut Buffer,
        interface: u8,
        endpoints: u8,
        selected: &mut [Option<SelectedPipe>],
        limit: u32,
        passive: Passive,
    ) -> Result<(), Status> {
        let count = usize::from(endpoints);
        if count > MOST_PIPES {
            return Err(Status::DEVICE_CONFIGURATION_ERROR);
        }
        let head = offset_of!(USBD_INTERFACE_INFORMATION, Pipes);
        let inner = head.saturating_add(count.saturating_mul(size_of::<USBD_PIPE_INFORMATION>()));
        let outer = offset_of!(_URB_SELECT_CONFIGURATION, Interface).saturating_add(inner);
        // Zeroed, and long enough for the structures as they are declared.
        let mut room = Buffer::try_zeroed(outer.max(size_of::<_URB_SELECT_CONFIGURATION>()))?;
        let urb = room.start().cast::<_URB_SELECT_CONFIGURATION>();
        let set = |urb: &mut _URB_SELECT_CONFIGURATION| {
            urb.ConfigurationDescriptor = configuration.as_mut_ptr().cast();
            // 784 at most.
            urb.Hdr.Length = u16::try_from(outer).unwrap_or(0);
            urb.Interface.Length = u16::try_from(inner).unwrap_or(0);
            urb.Interface.InterfaceNumber = interface;
            urb.Interface.NumberOfPipes = endpoints.into();
        };
        // SAFETY: the room is zeroed, large enough and ours alone; pool is aligned.
        unsafe { urb::fill(urb, URB_FUNCTION_SELECT_CONFIGURATION, set) };
        let urb = urb.as_ptr();
        // SAFETY: a place in it; nothing is read.
        let pipes = unsafe { &raw mut (*urb).Interface.Pipes }.cast::<USBD_PIPE_INFORMATION>();
        for index in 0..count {
            // SAFETY: the room has `count` of them.
            let pipe = unsafe { pipes.add(index) };
            // SAFETY: likewise; the rest of it is zero already.
            unsafe { (*pipe).MaximumTransferSize = MAXIMUM_TRANSFER_SIZE };
        }
        self.call(urb.cast(), &CallTimeout::Limit(limit), passive)?;
        // SAFETY: the URB came back.
        let opened = unsafe { (*urb).Interface.NumberOfPipes };
        if opened != u32::from(endpoints) {
            return Err(Status::DEVICE_CONFIGURATION_ERROR);
        }
        for (index, place) in (0..count).zip(selected) {
            // SAFETY: the room has `count` of them.
            let pipe = unsafe { pipes.add(index) };
            // SAFETY: likewise.
            let pipe = unsafe { pipe.read() };
            *place = Some(SelectedPipe {
                address: pipe.EndpointAddress,
                handle: PipeHandle::from_raw(pipe.PipeHandle),
            });
        }
        Ok(())
    }

    /// What the bus says of the device's power, `DEVICE_CAPABILITIES`, in `limit` milliseconds.
    ///
    /// # Errors
    /// What the lower drivers say; `STATUS_IO_TIMEOUT`; `STATUS_INSUFFICIENT_RESOURCES`.
    pub(crate) fn capabilities(
        self,
        limit: u32,
        passive: Passive,
    ) -> Result<PowerCapabilities, Status> {
        let unknown = DEVICE_CAPABILITIES {
            Size: CAPABILITIES_SIZE,
            Version: 1,
            Address: u32::MAX,
            UINumber: u32::MAX,
            ..Default::default()
        };
        let capabilities = PoolBox::try_new(UnsafeCell::new(unknown))?;
        let mut query = IO_STACK_LOCATION {
            MajorFunction: PNP,
            MinorFunction: QUERY_CAPABILITIES,
            ..Default::default()
        };
        query.Parameters.DeviceCapabilities.Capabilities = capabilities.get();
        self.send(query, &CallTimeout::Limit(limit), passive)
            .map_err(Refused::why)?;
        // SAFETY: the request came back.
        let capabilities = unsafe { capabilities.get().read() };
        Ok(PowerCapabilities {
            device_states: capabilities.DeviceState,
            system_wake: capabilities.SystemWake,
            device_wake: capabilities.DeviceWake,
        })
    }

    /// Sends a URB and waits for it. It is back, or was never sent, when this returns.
    fn call(
        self,
        urb: *mut c_void,
        timeout: &CallTimeout<'_>,
        passive: Passive,
    ) -> Result<(), Status> {
        let request = submit_urb(urb, None, ptr::null_mut());
        let Err(refused) = self.send(request, timeout, passive) else {
            return Ok(());
        };
        // SAFETY: every URB begins with it, and this one came back, or was never sent.
        let header = unsafe { urb.cast::<_URB_HEADER>().read() };
        match refused.impatience {
            Some(Status::IO_TIMEOUT) => report::timed_out(self.1, header.Function),
            None if refused.status != Status::CANCELLED => {
                let pipe = report::CONTROL_PIPE;
                let usbd_status = header.Status.cast_unsigned();
                report::failed(self.1, pipe, header.Function, usbd_status, refused.status);
            }
            _ => {}
        }
        Err(refused.why())
    }

    /// Sends a request and waits for it. It is back, or was never sent, when this returns.
    fn send(
        self,
        mut request: IO_STACK_LOCATION,
        timeout: &CallTimeout<'_>,
        passive: Passive,
    ) -> Result<(), Refused> {
        let done = Event::notification().map_err(Refused::unsent)?;
        let lower = self.0.raw().as_ptr();
        // SAFETY: the object below stays while we are attached.
        let stack_size = unsafe { (*lower).StackSize };
        // SAFETY: <= DISPATCH_LEVEL.
        let irp = NonNull::new(unsafe { IoAllocateIrp(stack_size, 0) })
            .ok_or(Refused::unsent(Status::INSUFFICIENT_RESOURCES))?;
        let mut block = IO_STATUS_BLOCK::default();
        // What no driver below handles keeps it.
        block.__bindgen_anon_1.Status = Status::NOT_SUPPORTED.0;
        // SAFETY: a new IRP, which is ours.
        unsafe { (*irp.as_ptr()).IoStatus = block };
        request.CompletionRoutine = Some(returned);
        request.Context = ptr::from_ref(&done).cast_mut().cast();
        request.Control = INVOKE_ALWAYS;
        // SAFETY: likewise, and it has a location below its current one.
        unsafe { fill_next(irp, request) };
        // SAFETY: the completion routine keeps the IRP.
        let _ = unsafe { IofCallDriver(lower, irp.as_ptr()) };
        let impatience = timeout.wait_for(&done, passive).err();
        if impatience.is_some() {
            // SAFETY: the IRP is not freed before it came back, whichever driver has it now.
            unsafe { IoCancelIrp(irp.as_ptr()) };
            done.wait(passive.blocking());
        }
        // SAFETY: a place in a live IRP; nothing is read.
        let block = unsafe { &raw const (*irp.as_ptr()).IoStatus };
        // SAFETY: the IRP came back, and is ours.
        let block = unsafe { block.read() };
        // SAFETY: both members of the union are plain.
        let status = Status(unsafe { block.__bindgen_anon_1.Status });
        // SAFETY: allocated above, and no other thread has it.
        unsafe { IoFreeIrp(irp.as_ptr()) };
        if status.is_success() {
            return Ok(());
        }
        Err(Refused { impatience, status })
    }
}

/// Completion routine: tells the thread that waits.
unsafe extern "C" fn returned(
    _object: *mut DEVICE_OBJECT,
    _irp: *mut IRP,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: `send` passed its event, and waits for it.
    unsafe { &*context.cast::<Event>() }.set();
    STATUS_MORE_PROCESSING_REQUIRED
}
