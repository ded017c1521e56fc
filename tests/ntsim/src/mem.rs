//! Kernel memory: every block on pages of its own, ending at a page that no code may touch.
//!
//! A freed block's pages stay inaccessible for the life of the machine (addresses are not used
//! again), so a late touch is always caught and can always be named.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::pageable::{self, protect};
use crate::state::{DriverId, Site};

/// An address in the driver's world. It is a host address: the driver runs in this process.
pub(crate) type Va = usize;

pub(crate) const PAGE: usize = 4096;
/// QEMU keeps a list of an ARM64 process' pages, so that one gets less.
const ARENA: usize = if cfg!(target_arch = "aarch64") {
    1 << 30
} else {
    64 << 30
};
const FILLER: u8 = 0xA5;

/// How many freed blocks are remembered by name; older ones still fault, without a name.
const REMEMBERED: usize = 100_000;

/// Reads driver memory. A bad address is a processor fault, which the machine turns into a named
/// failure (`cpu`), so this is a function to call with any address, like an instruction.
#[inline]
pub(crate) fn peek<T: Copy>(va: Va) -> T {
    // SAFETY: `T` is one of the plain integer types used here; a bad address traps into `cpu`.
    unsafe { core::ptr::with_exposed_provenance::<T>(va).read_unaligned() }
}

/// Writes driver memory; see [`peek`].
#[inline]
pub(crate) fn poke<T: Copy>(va: Va, value: T) {
    // SAFETY: as in `peek`.
    unsafe { core::ptr::with_exposed_provenance_mut::<T>(va).write_unaligned(value) }
}

/// Copies bytes out of driver memory.
pub(crate) fn peek_bytes(va: Va, len: usize) -> Vec<u8> {
    (0..len).map(|i| peek::<u8>(va + i)).collect()
}

/// Copies bytes into driver memory.
pub(crate) fn poke_bytes(va: Va, bytes: &[u8]) {
    for (i, byte) in bytes.iter().enumerate() {
        poke(va + i, *byte);
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ExAllocatePool2` and the like, with its tag.
    Pool(u32),
    /// An IRP.
    Irp,
    /// The system buffer of a buffered request.
    SystemBuffer,
    /// A device object with its extension.
    Device,
    /// An `IO_WORKITEM`.
    WorkItem,
    /// Anything else that the machine itself made.
    System(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    Freed,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pages: Va,
    pages_len: usize,
    pub va: Va,
    pub size: usize,
    pub kind: Kind,
    pub paged: bool,
    pub state: State,
    pub owner: Option<DriverId>,
    pub allocated: Site,
    pub freed: Site,
}

pub(crate) struct Mem {
    base: Va,
    next: Va,
    blocks: BTreeMap<Va, Block>,
    /// Pageable sections of drivers, with their protection.
    sections: Vec<(Va, usize, i32)>,
    freed: VecDeque<Va>,
    keep_paged: bool,
    /// How many blocks each driver got, and how many bytes.
    given: HashMap<DriverId, (u64, u64)>,
}

impl Mem {
    pub(crate) fn new(keep_paged: bool) -> Self {
        // SAFETY: a fresh reservation, no address given.
        let base = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                ARENA,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(base != libc::MAP_FAILED, "cannot reserve address space");
        let base = base.expose_provenance();
        pageable::reset();
        Self {
            base,
            next: base + PAGE,
            blocks: BTreeMap::new(),
            sections: Vec::new(),
            freed: VecDeque::new(),
            keep_paged,
            given: HashMap::new(),
        }
    }

    /// Makes a block of `size` bytes, 16-byte aligned, ending (but for alignment) at a guard page.
    /// Its bytes are what `fill` gives.
    pub(crate) fn alloc(
        &mut self,
        size: usize,
        kind: Kind,
        paged: bool,
        owner: Option<DriverId>,
        site: Site,
        mut fill: impl FnMut() -> u8,
    ) -> Va {
        if let Some(owner) = owner {
            let given = self.given.entry(owner).or_default();
            given.0 += 1;
            given.1 += size as u64;
        }
        let rounded = size.max(1).next_multiple_of(16);
        let pages_len = rounded.next_multiple_of(PAGE);
        let pages = self.next;
        self.next += pages_len + PAGE;
        assert!(
            self.next < self.base + ARENA,
            "simulated address space used up"
        );
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        protect(pages, pages_len, prot);
        let va = pages + pages_len - rounded;
        for at in va.saturating_sub(64).max(pages)..va {
            poke(at, FILLER);
        }
        for at in va + size..va + rounded {
            poke(at, FILLER);
        }
        for at in va..va + size {
            poke(at, fill());
        }
        self.blocks.insert(
            pages,
            Block {
                pages,
                pages_len,
                va,
                size,
                kind,
                paged,
                state: State::Live,
                owner,
                allocated: site,
                freed: Site::default(),
            },
        );
        if paged {
            pageable::add(pages, pages_len, prot);
        }
        va
    }

    /// How many blocks a driver got since boot, and how many bytes.
    pub(crate) fn given_to(&self, driver: DriverId) -> (u64, u64) {
        self.given.get(&driver).copied().unwrap_or((0, 0))
    }

    /// The block whose pages, or whose guard page, hold `va`.
    pub(crate) fn find(&self, va: Va) -> Option<&Block> {
        let (_, block) = self.blocks.range(..=va).next_back()?;
        (va < block.pages + block.pages_len + PAGE).then_some(block)
    }

    /// The live block that starts at `va`.
    pub(crate) fn live(&self, va: Va) -> Option<&Block> {
        self.find(va)
            .filter(|b| b.va == va && b.state == State::Live)
    }

    /// Frees the block: its pages become inaccessible. Returns whether the bytes next to the block
    /// were intact.
    pub(crate) fn free(&mut self, va: Va, site: Site) -> bool {
        let Some(pages) = self.live(va).map(|b| b.pages) else {
            return true;
        };
        let Some(block) = self.blocks.get_mut(&pages) else {
            return true;
        };
        if block.paged {
            pageable::remove(pages..pages + 1);
            protect(pages, block.pages_len, libc::PROT_READ);
        }
        let end = block.pages + block.pages_len;
        let intact = (block.va.saturating_sub(64).max(block.pages)..block.va)
            .chain(block.va + block.size..end)
            .all(|at| peek::<u8>(at) == FILLER);
        block.state = State::Freed;
        block.freed = site;
        // A fresh mapping, not a changed one: it merges with its neighbours.
        // SAFETY: the range lies inside this machine's own reservation.
        let at = unsafe {
            libc::mmap(
                core::ptr::with_exposed_provenance_mut(pages),
                block.pages_len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        assert!(at != libc::MAP_FAILED, "cannot seal freed memory");
        self.freed.push_back(pages);
        if self.freed.len() > REMEMBERED
            && let Some(oldest) = self.freed.pop_front()
        {
            self.blocks.remove(&oldest);
        }
        intact
    }

    /// From now on a touch of paged memory is an error (at `DISPATCH_LEVEL`), or not.
    pub(crate) fn page_out(&self, out: bool) {
        if !self.keep_paged {
            pageable::take(out);
        }
    }

    /// Makes a section of a driver pageable.
    pub(crate) fn add_section(&mut self, section: (Va, usize, i32)) {
        self.sections.push(section);
        let (start, len, prot) = section;
        pageable::add(start, len, prot);
    }

    /// Forgets the sections inside an image that is gone.
    pub(crate) fn drop_sections(&mut self, start: Va, len: usize) {
        let image = start..start + len;
        self.sections.retain(|(va, ..)| !image.contains(va));
        pageable::remove(image);
    }

    /// Whether `va` lies in a pageable section.
    pub(crate) fn in_section(&self, va: Va) -> bool {
        self.sections
            .iter()
            .any(|(start, len, _)| (*start..*start + *len).contains(&va))
    }

    /// All live blocks.
    pub(crate) fn live_blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().filter(|b| b.state == State::Live)
    }

    /// Whether `va` lies in the reservation at all.
    pub(crate) fn contains(&self, va: Va) -> bool {
        (self.base..self.base + ARENA).contains(&va)
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        pageable::reset();
        // SAFETY: the reservation made in `new`; nothing uses it after the machine is gone.
        unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(self.base), ARENA) };
    }
}
