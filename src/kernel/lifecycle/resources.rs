//! The resources that Windows assigned to a device.

use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::{self, NonNull},
    slice,
};

use wdk_sys::{
    CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_RESOURCE_INTERRUPT_LATCHED, CM_RESOURCE_LIST,
    CmResourceTypeDma as TYPE_DMA, CmResourceTypeInterrupt as TYPE_INTERRUPT,
    CmResourceTypeMemory as TYPE_MEMORY, CmResourceTypePort as TYPE_PORT, IO_RESOURCE_ALTERNATIVE,
    IO_RESOURCE_DESCRIPTOR, IO_RESOURCE_REQUIREMENTS_LIST,
};

use crate::kernel::{Passive, pool::allocate_paged};

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
    /// Processors of the group that it may interrupt, a `KAFFINITY`.
    pub(crate) affinity: u64,
    /// The group of processors.
    pub(crate) group: u16,
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

/// The resources of a `START_DEVICE`, translated or as the bus has them. Empty, if the device was
/// assigned none.
#[derive(Clone, Copy)]
pub(crate) struct Resources<'irp> {
    list: *const CM_RESOURCE_LIST,
    _irp: PhantomData<&'irp ()>,
}

impl Resources<'_> {
    /// # Safety
    /// `list` is null or a resource list of the PnP manager that outlives this value.
    pub(in crate::kernel) const unsafe fn new(list: *const CM_RESOURCE_LIST) -> Self {
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
            // Level and group, where headers know of processor groups; these do not.
            let [level, more, group @ ..] = interrupt.Level.to_le_bytes();
            Resource::Interrupt(InterruptResource {
                level: u16::from_le_bytes([level, more]).into(),
                vector: interrupt.Vector,
                affinity: interrupt.Affinity,
                group: u16::from_le_bytes(group),
                latched: u32::from(descriptor.Flags) & CM_RESOURCE_INTERRUPT_LATCHED != 0,
                shared: descriptor.ShareDisposition == SHARED,
            })
        }
        _ => Resource::Other,
    }
}

/// Bytes before the first list of requirements.
const HEADER: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, List);
/// Where an `IO_RESOURCE_REQUIREMENTS_LIST` keeps the number of its lists. Its size comes first.
const LISTS_AT: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, AlternativeLists);
/// Bytes of an `IO_RESOURCE_LIST` before its descriptors: Version and Revision, Count.
const LIST_HEADER: usize = 8;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = size_of::<IO_RESOURCE_DESCRIPTOR>();
/// More bytes than any list of requirements has: beyond, it is taken for damaged.
const LONGEST: usize = 0x1_0000;

/// A list of requirements for the PnP manager, in place of `list`: as it is, in the same order, but
/// without DMA channels, and without interrupts. If an interrupt is of use (`interrupt`), the lists
/// without one come behind the others, which are preferred. `None`: nothing is to be changed, the
/// list is damaged, nothing but interrupts and DMA is in it, or there is no memory.
///
/// # Safety
/// `list` is an `IO_RESOURCE_REQUIREMENTS_LIST`, and does not change meanwhile.
pub(in crate::kernel) unsafe fn without_unused(
    list: NonNull<u8>,
    interrupt: bool,
    passive: Passive,
) -> Option<NonNull<u8>> {
    // SAFETY: its size comes first.
    let size = unsafe { list.cast::<u32>().as_ptr().read_unaligned() } as usize;
    if !(HEADER..=LONGEST).contains(&size) {
        return None;
    }
    // SAFETY: that is its size, and the caller's promise.
    let old = unsafe { slice::from_raw_parts(list.as_ptr(), size) };
    let mut measured = Sink {
        bytes: &mut [],
        at: 0,
    };
    let lists = filter_lists(old, interrupt, &mut measured)?;
    let mut header = *old.first_chunk::<HEADER>()?;
    let length = HEADER + measured.at;
    let room = length.max(size_of::<IO_RESOURCE_REQUIREMENTS_LIST>());
    let new = allocate_paged(room, passive).ok()?;
    // SAFETY: allocated with that size, zeroed, and no other thread's yet.
    let bytes = unsafe { slice::from_raw_parts_mut(new.as_ptr(), room) };
    let mut sink = Sink { bytes, at: 0 };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    for (place, byte) in header.iter_mut().zip(length.to_le_bytes()) {
        *place = byte;
    }
    for (place, byte) in header.iter_mut().skip(LISTS_AT).zip(lists.to_le_bytes()) {
        *place = byte;
    }
    sink.put(&header);
    let _ = filter_lists(old, interrupt, &mut sink);
    Some(new)
}

/// Where bytes go; those beyond its end are counted.
struct Sink<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.at..end) {
            for (place, byte) in room.iter_mut().zip(bytes) {
                *place = *byte;
            }
        }
        self.at = end;
    }
}

/// Writes the lists that are left of requirements: how many. `None` as [`without_unused`].
fn filter_lists(old: &[u8], interrupt: bool, sink: &mut Sink<'_>) -> Option<u32> {
    let mut seen = filter_each(old, interrupt, sink)?;
    let count = number(old, LISTS_AT)?;
    if interrupt && seen.interrupts {
        filter_each(old, false, sink)?;
        seen.dropped = true;
    }
    let twice = interrupt && seen.interrupts;
    seen.dropped.then(|| {
        if twice {
            count.saturating_mul(2)
        } else {
            count
        }
    })
}

/// What was in the lists.
struct FilterResult {
    /// Something was left out.
    dropped: bool,
    interrupts: bool,
}

/// Writes every list without what is not used.
fn filter_each(old: &[u8], keeps_interrupt: bool, sink: &mut Sink<'_>) -> Option<FilterResult> {
    let mut seen = FilterResult {
        dropped: false,
        interrupts: false,
    };
    let mut at = HEADER;
    for _ in 0..number(old, LISTS_AT)? {
        let first = at.checked_add(LIST_HEADER)?;
        let head = old.get(at..at.checked_add(4)?)?;
        let count = number(old, at.checked_add(4)?)? as usize;
        at = first.checked_add(count.checked_mul(DESCRIPTOR)?)?;
        let descriptors = old.get(first..at)?;
        let kept = || Kept {
            descriptors: descriptors.chunks_exact(DESCRIPTOR),
            keeps_interrupt,
            drops: false,
        };
        let left = kept().count();
        if left == 0 {
            return None;
        }
        seen.dropped |= left != count;
        seen.interrupts |= kept().any(|descriptor| kind(descriptor) == TYPE_INTERRUPT);
        sink.put(head);
        sink.put(&u32::try_from(left).ok()?.to_le_bytes());
        kept().for_each(|descriptor| sink.put(descriptor));
    }
    Some(seen)
}

/// The descriptors of a list that are left. The alternatives to one that goes go with it: they
/// would be alternatives to the one before.
struct Kept<'a> {
    descriptors: slice::ChunksExact<'a, u8>,
    keeps_interrupt: bool,
    drops: bool,
}

impl<'a> Iterator for Kept<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let descriptor = self.descriptors.next()?;
            let option = descriptor.first().copied().unwrap_or(0);
            if u32::from(option) & IO_RESOURCE_ALTERNATIVE == 0 {
                self.drops = match kind(descriptor) {
                    TYPE_DMA => true,
                    TYPE_INTERRUPT => !self.keeps_interrupt,
                    _ => false,
                };
            }
            if !self.drops {
                return Some(descriptor);
            }
        }
    }
}

/// The type of a descriptor, its second byte.
fn kind(descriptor: &[u8]) -> u32 {
    descriptor.get(1).copied().map_or(0, u32::from)
}

/// The `ULONG` at an offset.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
