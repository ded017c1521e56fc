//! User memory: what programs own and drivers may touch only with care.
//!
//! The user half of the address space ends at [`PROBE`]; images and kernel memory lie above it.
//! A page's bytes are in a memory file that is mapped twice: for the machine itself, and at the
//! user's address, where no code may touch it. So every touch by a driver traps into [`touch`],
//! which looks at thread, IRQL and exception handler, counts, and then lets the one instruction
//! through. A page can change its protection or vanish between any two touches.

mod machine;
mod touch;

use std::collections::{BTreeMap, HashMap};

use crate::mem::{PAGE, Va};
use crate::sched::Tid;
use crate::state::{Kernel, Rng};
use crate::{Caller, Machine, NtStatus};

pub(crate) use touch::{Touch, copy_byte, judge, let_through, reset, stepped, stepping_from};

/// `MmUserProbeAddress` here: the first address that no user buffer may reach. Windows has
/// `0x7FFF_FFFF_0000`; this machine's kernel memory lies below that, as it lives in a Linux process.
/// Where QEMU runs an ARM64 process, its memory is from `0x55_0000_0000` on.
pub(crate) const PROBE: Va = if cfg!(target_arch = "aarch64") {
    0x003F_FFFF_0000
} else {
    0x00FF_FFFF_0000
};

/// User allocations of 64-bit programs lie above 4 GiB, of 32-bit programs below 2 GiB.
const RANGE64: (Va, Va) = (0x10_0000_0000, PROBE & !0xFFFF_FFFF);
const RANGE32: (Va, Va) = (0x0040_0000, 0x7FFE_0000);

/// Bytes in the memory file at most; only pages in use take memory.
const FILE: usize = if cfg!(target_arch = "aarch64") {
    256 << 20
} else {
    4 << 30
};

/// What a program, or the memory manager, lets be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `PAGE_NOACCESS`
    None,
    /// `PAGE_READONLY`
    Read,
    /// `PAGE_READWRITE`
    ReadWrite,
    /// The page is in a file that cannot be read any more: `STATUS_IN_PAGE_ERROR`.
    Lost,
}

#[derive(Clone, Copy)]
struct Page {
    frame: u32,
    owner: Caller,
    protection: Protection,
}

/// A request that runs in its program's context.
struct Context {
    caller: Caller,
    /// Bytes that the driver has read, by page.
    fetched: HashMap<Va, [u64; PAGE / 64]>,
}

type Hook = Box<dyn FnOnce(&Machine)>;

#[derive(Default)]
pub(crate) struct UserMemory {
    /// The memory file and its mapping for the machine itself; made when first needed.
    file: Option<(i32, Va)>,
    /// How many use a frame: its user page and the MDLs that lock it.
    frames: Vec<u32>,
    free: Vec<u32>,
    pages: BTreeMap<Va, Page>,
    /// First page and number of pages of each allocation, and where its first byte is.
    blocks: BTreeMap<Va, (Va, usize)>,
    requests: BTreeMap<Tid, Context>,
    touches: HashMap<Va, u64>,
    /// By page and number of the touch.
    hooks: Vec<(Va, u64, Hook)>,
    /// Mappings of locked pages in kernel space: their frames, and whether they are in use.
    views: BTreeMap<Va, (Vec<u32>, bool)>,
}

/// Whether an address is in the user half.
pub(crate) const fn is_user(va: Va) -> bool {
    va < PROBE
}

fn map(at: Va, len: usize, prot: i32, flags: i32, file: i32, offset: usize) -> Option<Va> {
    let offset = libc::off_t::try_from(offset).ok()?;
    let place = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: the callers name their own reservations, or leave the place open or NOREPLACE.
    let got = unsafe { libc::mmap(place, len, prot, flags, file, offset) };
    (got != libc::MAP_FAILED).then(|| got.expose_provenance())
}

fn unmap(at: Va, len: usize) {
    // SAFETY: called for mappings that were made here only.
    unsafe { libc::munmap(core::ptr::with_exposed_provenance_mut(at), len) };
}

/// Lets the host's processor at a user page, or not.
fn open_page(page: Va, prot: i32) {
    // SAFETY: a page of a user mapping; a page that is gone meanwhile gives an error, no harm.
    unsafe { libc::mprotect(core::ptr::with_exposed_provenance_mut(page), PAGE, prot) };
}

impl UserMemory {
    fn file(&mut self) -> (i32, Va) {
        *self.file.get_or_insert_with(|| {
            // SAFETY: plain system call with a literal name.
            let file = unsafe { libc::memfd_create(c"user memory".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(file >= 0, "memfd_create failed");
            // SAFETY: plain system call on the file made just now.
            let sized = unsafe { libc::ftruncate(file, libc::off_t::try_from(FILE).unwrap_or(0)) };
            assert_eq!(sized, 0, "ftruncate failed");
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
            let alias = map(0, FILE, prot, flags, file, 0).expect("the memory file");
            (file, alias)
        })
    }

    /// After a fork: a memory file of this process' own with the same content, mapped wherever the
    /// common one was. No page is open to the processor then: a test runs.
    pub(crate) fn part(&mut self) {
        let Some((_, common)) = self.file.take() else {
            return;
        };
        let (file, alias) = self.file();
        let used = self.frames.len() * PAGE;
        crate::mem::poke_bytes(alias, &crate::mem::peek_bytes(common, used));
        unmap(common, FILE);
        let place = |at: Va, prot: i32, frame: u32| {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            map(at, PAGE, prot, flags, file, frame as usize * PAGE).expect("a page");
        };
        for (va, page) in &self.pages {
            place(*va, libc::PROT_NONE, page.frame);
        }
        let views = self.views.iter().filter(|(_, (_, in_use))| *in_use);
        for (view, (frames, _)) in views {
            for (i, frame) in frames.iter().enumerate() {
                let both = libc::PROT_READ | libc::PROT_WRITE;
                place(view + i * PAGE, both, *frame);
            }
        }
    }

    fn new_frame(&mut self) -> u32 {
        let (_, alias) = self.file();
        let frame = self.free.pop().unwrap_or_else(|| {
            self.frames.push(0);
            u32::try_from(self.frames.len() - 1).expect("frames are few")
        });
        assert!(
            (frame as usize) < FILE / PAGE,
            "simulated user memory used up"
        );
        self.frames[frame as usize] = 1;
        crate::mem::poke(alias + frame as usize * PAGE, [0_u8; PAGE]);
        frame
    }

    pub(crate) fn reference(&mut self, frame: u32) {
        self.frames[frame as usize] += 1;
    }

    pub(crate) fn release(&mut self, frame: u32) {
        let count = &mut self.frames[frame as usize];
        *count -= 1;
        if *count == 0 {
            self.free.push(frame);
        }
    }

    /// Whether a frame has one user only.
    pub(crate) fn has_one_user(&self, frame: u32) -> bool {
        self.frames[frame as usize] == 1
    }

    /// Where the machine itself finds the byte at a user address.
    fn alias(&self, va: Va) -> Option<Va> {
        let page = self.pages.get(&(va & !(PAGE - 1)))?;
        let (_, alias) = self.file?;
        Some(alias + page.frame as usize * PAGE + va % PAGE)
    }

    /// Makes memory with this content, 8-byte aligned, ending (but for alignment) at a page that
    /// does not exist.
    pub(crate) fn alloc(&mut self, rng: &mut Rng, owner: Caller, bytes: &[u8]) -> Va {
        let (file, _) = self.file();
        let (low, high) = match owner {
            Caller::User64 => RANGE64,
            Caller::User32 => RANGE32,
            Caller::Kernel => panic!("a kernel component has no user memory"),
        };
        let rounded = bytes.len().max(1).next_multiple_of(8);
        let len = rounded.next_multiple_of(PAGE);
        let first = loop {
            let pages = (high - low - len) / PAGE;
            #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
            let hint = low + PAGE * rng.below(pages as u64) as usize;
            // Nothing of ours next to it.
            let near = hint - PAGE..hint + len + PAGE;
            if self.pages.range(near).next().is_some() {
                continue;
            }
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            if let Some(at) = map(
                hint,
                len,
                libc::PROT_NONE,
                flags | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            ) {
                if at == hint {
                    break at;
                }
                // NOREPLACE is no more than a hint to an old kernel, and to QEMU 7.
                unmap(at, len);
            }
        };
        for page in (first..first + len).step_by(PAGE) {
            let frame = self.new_frame();
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            map(
                page,
                PAGE,
                libc::PROT_NONE,
                flags,
                file,
                frame as usize * PAGE,
            )
            .expect("a user page");
            let protection = Protection::ReadWrite;
            self.pages.insert(
                page,
                Page {
                    frame,
                    owner,
                    protection,
                },
            );
        }
        let va = first + len - rounded;
        self.blocks.insert(va, (first, len / PAGE));
        self.poke(va, bytes);
        va
    }

    /// Takes an allocation away, or says that there is none.
    pub(crate) fn free(&mut self, va: Va) -> bool {
        let Some((first, pages)) = self.blocks.remove(&va) else {
            return false;
        };
        for page in (first..first + pages * PAGE).step_by(PAGE) {
            if let Some(gone) = self.pages.remove(&page) {
                self.release(gone.frame);
            }
        }
        unmap(first, pages * PAGE);
        true
    }

    fn protect(&mut self, va: Va, len: usize, protection: Protection) -> bool {
        let pages = self.pages.range_mut(va & !(PAGE - 1)..va + len.max(1));
        let mut found = 0;
        for (_, page) in pages {
            page.protection = protection;
            found += PAGE;
        }
        found >= len
    }

    /// The program's own view of its memory, whatever the protection.
    fn peek(&self, va: Va, len: usize) -> Option<Vec<u8>> {
        let end = va.checked_add(len)?;
        (va..end)
            .map(|at| self.alias(at).map(crate::mem::peek::<u8>))
            .collect()
    }

    fn poke(&mut self, va: Va, bytes: &[u8]) -> bool {
        bytes.iter().enumerate().all(|(i, byte)| {
            let place = va.checked_add(i).and_then(|at| self.alias(at));
            if let Some(place) = place {
                crate::mem::poke(place, *byte);
            }
            place.is_some()
        })
    }

    /// What the processor says about one access, and where.
    pub(crate) fn access(&self, va: Va, len: usize, write: bool) -> Result<(), (NtStatus, Va)> {
        let end = va
            .checked_add(len)
            .filter(|end| *end <= PROBE)
            .ok_or((NtStatus::ACCESS_VIOLATION, va))?;
        let mut at = va;
        while at < end {
            let page = at & !(PAGE - 1);
            match self.pages.get(&page).map(|p| p.protection) {
                Some(Protection::Read) if !write => {}
                Some(Protection::ReadWrite) => {}
                Some(Protection::Lost) => return Err((NtStatus::IN_PAGE_ERROR, at)),
                _ => return Err((NtStatus::ACCESS_VIOLATION, at)),
            }
            at = page + PAGE;
        }
        Ok(())
    }

    /// The I/O manager's copy from a buffer of its caller.
    pub(crate) fn capture(&self, va: Va, len: usize) -> Result<Vec<u8>, NtStatus> {
        self.access(va, len, false).map_err(|(status, _)| status)?;
        self.peek(va, len).ok_or(NtStatus::ACCESS_VIOLATION)
    }

    /// The I/O manager's copy to a buffer of its caller.
    pub(crate) fn store(&mut self, va: Va, bytes: &[u8]) -> Result<(), NtStatus> {
        self.access(va, bytes.len(), true)
            .map_err(|(status, _)| status)?;
        self.poke(va, bytes);
        Ok(())
    }

    /// The frames of a range for an MDL, each referenced once more.
    pub(crate) fn lock(&mut self, va: Va, len: usize, write: bool) -> Result<Vec<u32>, NtStatus> {
        self.access(va, len, write).map_err(|(status, _)| status)?;
        let frames: Vec<u32> = self
            .pages
            .range(va & !(PAGE - 1)..va + len.max(1))
            .map(|(_, page)| page.frame)
            .collect();
        for frame in &frames {
            self.reference(*frame);
        }
        Ok(frames)
    }

    /// Maps frames side by side in kernel space, with a page that no code may touch on either side.
    pub(crate) fn map_view(&mut self, frames: &[u32]) -> Option<Va> {
        let (file, _) = self.file();
        let len = frames.len() * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let view = map(0, len + 2 * PAGE, libc::PROT_NONE, flags, -1, 0)? + PAGE;
        for (i, frame) in frames.iter().enumerate() {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            map(
                view + i * PAGE,
                PAGE,
                prot,
                flags,
                file,
                *frame as usize * PAGE,
            )?;
        }
        self.views.insert(view, (frames.to_vec(), true));
        Some(view)
    }

    /// Takes a view away; its addresses are not used again.
    pub(crate) fn unmap_view(&mut self, view: Va) {
        if let Some((frames, in_use)) = self.views.get_mut(&view) {
            *in_use = false;
            let len = frames.len() * PAGE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            map(view, len, libc::PROT_NONE, flags | libc::MAP_FIXED, -1, 0)
                .expect("cannot seal a mapping");
        }
    }

    /// What to say of a bad address in kernel space that once was a view, or lies next to one.
    pub(crate) fn describe_view(&self, va: Va) -> Option<&'static str> {
        let (view, (frames, in_use)) = self.views.range(..=va + PAGE).next_back()?;
        (va < view + frames.len() * PAGE + PAGE).then_some(if *in_use {
            " (next to the pages that an MDL maps)"
        } else {
            " (pages that an MDL mapped, unmapped since)"
        })
    }

    pub(crate) fn is_mapped(&self, va: Va) -> bool {
        self.pages.contains_key(&(va & !(PAGE - 1)))
    }

    /// A request of `caller` begins in this thread.
    pub(crate) fn enter(&mut self, thread: Tid, caller: Caller) {
        if caller != Caller::Kernel {
            let fetched = HashMap::new();
            self.requests.insert(thread, Context { caller, fetched });
        }
    }

    /// It has ended.
    pub(crate) fn leave(&mut self, thread: Tid) {
        self.requests.remove(&thread);
    }

    /// Whether a mapped address belongs to the program whose request runs in this thread.
    pub(crate) fn is_own(&self, thread: Tid, va: Va) -> bool {
        let owner = self.pages.get(&(va & !(PAGE - 1))).map(|p| p.owner);
        owner.is_none_or(|o| self.requests.get(&thread).is_some_and(|r| r.caller == o))
    }

    /// Notes bytes as read. Returns whether one of them was read before.
    fn fetch(&mut self, thread: Tid, va: Va, len: usize) -> bool {
        let Some(request) = self.requests.get_mut(&thread) else {
            return false;
        };
        let mut again = false;
        for at in va..va + len {
            let page = request
                .fetched
                .entry(at & !(PAGE - 1))
                .or_insert([0; PAGE / 64]);
            let (word, bit) = (at % PAGE / 64, 1_u64 << (at % 64));
            again |= page[word] & bit != 0;
            page[word] |= bit;
        }
        again
    }

    /// Counts a touch of a page; gives the hook that is due now.
    fn count(&mut self, page: Va) -> Option<Hook> {
        let touches = self.touches.entry(page).or_insert(0);
        *touches += 1;
        let now = *touches;
        let due = self
            .hooks
            .iter()
            .position(|(p, at, _)| *p == page && *at <= now)?;
        Some(self.hooks.swap_remove(due).2)
    }
}

impl Drop for UserMemory {
    fn drop(&mut self) {
        for page in self.pages.keys() {
            unmap(*page, PAGE);
        }
        for (view, (frames, _)) in &self.views {
            unmap(view - PAGE, (frames.len() + 2) * PAGE);
        }
        if let Some((file, alias)) = self.file {
            unmap(alias, FILE);
            // SAFETY: opened here, and used nowhere else.
            unsafe { libc::close(file) };
        }
    }
}

/// A request's two buffers in its caller's own memory, made for one request.
pub(crate) struct Lent {
    caller: Caller,
    pub input: (Va, usize),
    pub output: (Va, usize),
}

impl Lent {
    pub(crate) fn new(k: &mut Kernel, caller: Caller, input: &[u8], output: &[u8]) -> Self {
        let mut make = |bytes: &[u8]| {
            let va = match (bytes.len(), caller) {
                (0, _) => 0,
                (_, Caller::Kernel) => {
                    let va = k.system_alloc(bytes.len(), "a caller's buffer");
                    crate::mem::poke_bytes(va, bytes);
                    va
                }
                _ => k.user.alloc(&mut k.rng, caller, bytes),
            };
            (va, bytes.len())
        };
        Self {
            caller,
            input: make(input),
            output: make(output),
        }
    }

    /// What the output buffer holds now; gives both back.
    pub(crate) fn take(self, k: &mut Kernel) -> Vec<u8> {
        let output = match self.caller {
            Caller::Kernel => crate::mem::peek_bytes(self.output.0, self.output.1),
            _ => k
                .user
                .peek(self.output.0, self.output.1)
                .unwrap_or_default(),
        };
        for (va, _) in [self.input, self.output] {
            if self.caller == Caller::Kernel {
                k.mem.free(va, crate::state::Site::default());
            } else {
                k.user.free(va);
            }
        }
        output
    }
}
