use core::{marker::PhantomData, ptr};

use wdk_sys::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_LIST,
    CmResourceTypeInterrupt as TYPE_INTERRUPT, CmResourceTypeMemory as TYPE_MEMORY,
    CmResourceTypePort as TYPE_PORT,
};

/// More descriptors than any device has: beyond, the list is taken for damaged.
const MOST: u32 = 64;

/// `CmResourceShareShared` of `CM_SHARE_DISPOSITION`.
const SHARED: u8 = 3;

/// One assigned resource.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    /// I/O ports: first address and number of bytes.
    Port { start: u64, length: u32 },
    /// Memory: a device that is asked for through ports cannot use it.
    Memory,
    /// An interrupt line.
    Interrupt(InterruptResource),
    /// Anything else: DMA, bus numbers, device-private descriptors.
    Other,
}

/// An interrupt line, translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterruptResource {
    /// IRQL of its service routine.
    pub(crate) level: u32,
    pub(crate) vector: u32,
    /// Processors that it may interrupt, a `KAFFINITY`.
    pub(crate) affinity: u64,
    /// The line is latched, and not level-sensitive.
    pub(crate) latched: bool,
    /// Other devices may have it, too.
    pub(crate) shared: bool,
}

/// The bus that resources are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bus {
    /// `INTERFACE_TYPE`
    pub(crate) interface_type: u32,
    pub(crate) number: u32,
}

/// The resources of a `START_DEVICE`, translated or as the bus has them. Empty, if the device was assigned none.
#[derive(Clone, Copy)]
pub(crate) struct Resources<'irp> {
    list: *const CM_RESOURCE_LIST,
    _irp: PhantomData<&'irp ()>,
}

impl Resources<'_> {
    /// # Safety
    /// `list` is null or a resource list of the PnP manager that outlives this value.
    pub(super) const unsafe fn new(list: *const CM_RESOURCE_LIST) -> Self {
        Self {
            list,
            _irp: PhantomData,
        }
    }

    /// The bus of the list's first interface.
    pub(crate) fn bus(&self) -> Bus {
        if self.list.is_null() {
            return Bus::default();
        }
        // SAFETY: not null, so a valid list; nothing is read.
        let count = unsafe { &raw const (*self.list).Count };
        // SAFETY: likewise.
        if unsafe { count.read_unaligned() } == 0 {
            return Bus::default();
        }
        // SAFETY: the list has an interface; nothing is read.
        let kind = unsafe { &raw const (*self.list).List[0].InterfaceType };
        // SAFETY: likewise.
        let number = unsafe { &raw const (*self.list).List[0].BusNumber };
        Bus {
            // SAFETY: likewise.
            interface_type: unsafe { kind.read_unaligned() }.cast_unsigned(),
            // SAFETY: likewise.
            number: unsafe { number.read_unaligned() },
        }
    }

    /// The resources of the list's first interface, which is all that a function driver is given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Resource> + '_ {
        let partial = if self.list.is_null() {
            None
        } else {
            // SAFETY: not null, so a valid list; nothing is read.
            let count = unsafe { &raw const (*self.list).Count };
            // SAFETY: likewise.
            let count = unsafe { count.read_unaligned() };
            // SAFETY: a place in the same structure; nothing is read.
            let partial = unsafe { &raw const (*self.list).List[0].PartialResourceList };
            (count > 0).then_some(partial)
        };
        let (first, count) = match partial {
            None => (ptr::null(), 0),
            Some(partial) => {
                // SAFETY: the list has an interface, so its partial list is there; nothing is
                // read.
                let count = unsafe { &raw const (*partial).Count };
                // SAFETY: likewise.
                let count = unsafe { count.read_unaligned() };
                // SAFETY: likewise; nothing is read.
                let first = unsafe { &raw const (*partial).PartialDescriptors };
                (
                    first.cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>(),
                    if count > MOST { 0 } else { count },
                )
            }
        };
        (0..count as usize).map(move |index| {
            // SAFETY: the list has `count` descriptors, one behind the other.
            let place = unsafe { first.add(index) };
            // SAFETY: likewise.
            let descriptor = unsafe { ptr::read_unaligned(place) };
            resource(&descriptor)
        })
    }
}

fn resource(descriptor: &CM_PARTIAL_RESOURCE_DESCRIPTOR) -> Resource {
    match u32::from(descriptor.Type) {
        TYPE_PORT => {
            // SAFETY: the type says which member of the union is set.
            let port = unsafe { descriptor.u.Port };
            let (start, length) = (port.Start, port.Length);
            // SAFETY: every bit pattern of a LARGE_INTEGER is an i64.
            let start = unsafe { start.QuadPart };
            Resource::Port {
                start: start.cast_unsigned(),
                length,
            }
        }
        TYPE_MEMORY => Resource::Memory,
        TYPE_INTERRUPT => {
            // SAFETY: the type says which member of the union is set.
            let interrupt = unsafe { descriptor.u.Interrupt };
            Resource::Interrupt(InterruptResource {
                level: interrupt.Level,
                vector: interrupt.Vector,
                affinity: interrupt.Affinity,
                latched: u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_LATCHED != 0,
                shared: descriptor.ShareDisposition == SHARED,
            })
        }
        _ => Resource::Other,
    }
}
