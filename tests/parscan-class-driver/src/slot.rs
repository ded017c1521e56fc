//! Open devices, and the tables that they gave.

use core::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst},
};

use crate::{
    kernel::{self, Target},
    nt::{DEVICE_OBJECT, INVALID_PARAMETER, Status},
    parallel_h as h,
    puppet::{TABLES, argument},
};

/// Words of the largest table, `PARCLASS_INFORMATION`.
const TABLE_WORDS: usize = 15;

/// A table of the port driver: which request gives it, its size, and where it has its context.
struct Layout {
    code: u32,
    size: usize,
    context: usize,
}

impl Layout {
    const fn new(code: u32, size: usize, context: usize) -> Self {
        Self {
            code,
            size,
            context,
        }
    }
}

/// By [`Table`](crate::puppet::Table).
const LAYOUTS: [Layout; TABLES] = [
    Layout::new(
        h::IOCTL_INTERNAL_PARCLASS_CONNECT,
        h::PARCLASS_INFORMATION,
        0x50,
    ),
    Layout::new(
        h::IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO,
        h::PORT_INFORMATION,
        0x30,
    ),
    Layout::new(
        h::IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO,
        h::PNP_INFORMATION,
        0x58,
    ),
    Layout::new(
        h::IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        h::INTERRUPT_INFORMATION,
        0x18,
    ),
];

/// A place for an open device.
pub(crate) struct Slot {
    device: AtomicPtr<DEVICE_OBJECT>,
    file: AtomicPtr<core::ffi::c_void>,
    tables: [[AtomicU64; TABLE_WORDS]; TABLES],
}

static SLOTS: [Slot; 16] = [const { Slot::new() }; 16];

/// What a callback gave.
pub(crate) struct Called {
    pub(crate) value: usize,
    pub(crate) count: u32,
}

impl Slot {
    const fn new() -> Self {
        Self {
            device: AtomicPtr::new(ptr::null_mut()),
            file: AtomicPtr::new(ptr::null_mut()),
            tables: [const { [const { AtomicU64::new(0) }; TABLE_WORDS] }; TABLES],
        }
    }

    /// The slot with a number.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`
    pub(crate) fn numbered(number: u64) -> Result<&'static Self, Status> {
        usize::try_from(number)
            .ok()
            .and_then(|number| SLOTS.get(number))
            .ok_or(INVALID_PARAMETER)
    }

    /// What it has open.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: nothing.
    pub(crate) fn target(&self) -> Result<Target, Status> {
        let device = self.device.load(SeqCst);
        if device.is_null() {
            return Err(INVALID_PARAMETER);
        }
        let file = self.file.load(SeqCst);
        Ok(Target { device, file })
    }

    /// Opens a device, or attaches to it. At `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// The open's status; `STATUS_INVALID_PARAMETER` for a slot in use.
    pub(crate) fn open(&self, name: &[u8], attach: bool) -> Result<(), Status> {
        if self.target().is_ok() {
            return Err(INVALID_PARAMETER);
        }
        let target = if attach {
            Target::attach(name)
        } else {
            Target::open(name)
        }?;
        self.file.store(target.file, SeqCst);
        self.device.store(target.device, SeqCst);
        Ok(())
    }

    /// Closes the device; the tables stay, for calls after the end. At `PASSIVE_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: none is open.
    pub(crate) fn close(&self) -> Result<(), Status> {
        let target = self.target()?;
        self.device.store(ptr::null_mut(), SeqCst);
        target.close();
        Ok(())
    }

    /// Keeps the answer to a request if it is one of the tables.
    pub(crate) fn keep(&self, code: u32, answer: &[u8]) {
        for (layout, words) in LAYOUTS.iter().zip(&self.tables) {
            let Some(bytes) = answer.get(..layout.size).filter(|_| layout.code == code) else {
                continue;
            };
            for (word, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
                word.store(chunk.try_into().map_or(0, u64::from_le_bytes), SeqCst);
            }
        }
    }

    /// A kept table's bytes.
    pub(crate) fn table(&self, number: u64, output: &mut [u8]) -> Result<(), Status> {
        let words = self.words(number)?;
        for (word, chunk) in words.iter().zip(output.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&word.load(SeqCst).to_le_bytes());
        }
        Ok(())
    }

    fn words(&self, number: u64) -> Result<&[AtomicU64], Status> {
        let number = usize::try_from(number).map_err(|_| INVALID_PARAMETER)?;
        let words = self.tables.get(number).ok_or(INVALID_PARAMETER)?;
        let size = LAYOUTS.get(number).map_or(0, |layout| layout.size);
        words.get(..size / 8).ok_or(INVALID_PARAMETER)
    }

    /// A pointer in a kept table; 0 if it gave none.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: there is no such table or offset.
    pub(crate) fn pointer(&self, number: u64, offset: u64) -> Result<usize, Status> {
        let index = usize::try_from(offset / 8).map_err(|_| INVALID_PARAMETER)?;
        let word = self.words(number)?.get(index).ok_or(INVALID_PARAMETER)?;
        usize::try_from(word.load(SeqCst)).map_err(|_| INVALID_PARAMETER)
    }

    /// The context of a kept table.
    pub(crate) fn context(&self, number: u64) -> Result<usize, Status> {
        let layout = usize::try_from(number)
            .ok()
            .and_then(|number| LAYOUTS.get(number))
            .ok_or(INVALID_PARAMETER)?;
        self.pointer(number, layout.context as u64)
    }

    /// Calls a routine of a kept table. `None`: the table has none there.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`: there is no such table or offset, or no such argument.
    pub(crate) fn call(
        &self,
        (number, offset): (u64, u64),
        level: u8,
        kinds: u64,
        values: [u64; 4],
        buffer: &mut [u8],
    ) -> Result<Option<Called>, Status> {
        let routine = self.pointer(number, offset)?;
        if routine == 0 {
            return Ok(None);
        }
        let mut count = u32::from_le_bytes([crate::puppet::UNTOUCHED; 4]);
        let mut arguments = [0; 5];
        let [context, rest @ ..] = &mut arguments;
        if kinds & argument::NO_CONTEXT == 0 {
            *context = self.context(number)?;
        }
        for (index, (place, value)) in rest.iter_mut().zip(values).enumerate() {
            *place = match kinds >> (4 * index) & 0xF {
                argument::VALUE => usize::try_from(value).map_err(|_| INVALID_PARAMETER)?,
                argument::BUFFER => buffer.as_mut_ptr().expose_provenance(),
                argument::COUNT => (&raw mut count).expose_provenance(),
                _ => return Err(INVALID_PARAMETER),
            };
        }
        let value = kernel::at_irql(level, || {
            // SAFETY: the port driver gave the address as that of a routine with its table's
            // context first; what else to pass is the test's business.
            unsafe { kernel::call(routine, arguments) }
        });
        Ok(Some(Called { value, count }))
    }
}
