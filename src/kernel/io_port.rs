use core::arch::asm;

/// A range of the 64 KiB I/O space of an x86 processor.
///
/// On x64 Windows `READ_PORT_UCHAR` and its kin are inline `in` and `out`: no module exports them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoRange {
    base: u16,
    length: u16,
}

impl IoRange {
    /// The range that Windows assigned. `None`, if it does not lie in the I/O space or is empty.
    pub(crate) fn new(start: u64, length: u32) -> Option<Self> {
        let end = start.checked_add(u64::from(length))?;
        if length == 0 || end > 0x1_0000 {
            return None;
        }
        Some(Self {
            base: u16::try_from(start).ok()?,
            // 64 KiB from 0 would not fit; no device owns all ports.
            length: u16::try_from(length).ok()?,
        })
    }

    /// Bytes in the range.
    pub(crate) const fn length(self) -> u16 {
        self.length
    }

    const fn port(self, offset: u16) -> Option<u16> {
        if offset < self.length {
            self.base.checked_add(offset)
        } else {
            None
        }
    }

    /// Reads the byte at `offset`; 0xFF, which nobody drives, outside the range.
    pub(crate) fn read(self, offset: u16) -> u8 {
        let Some(port) = self.port(offset) else {
            return 0xFF;
        };
        let value: u8;
        // SAFETY: Windows assigned this port to the device. The instruction touches no memory.
        unsafe {
            asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
        }
        value
    }

    /// Writes the byte at `offset`; nothing outside the range.
    pub(crate) fn write(self, offset: u16, value: u8) {
        let Some(port) = self.port(offset) else {
            return;
        };
        // SAFETY: Windows assigned this port to the device. The instruction touches no memory.
        unsafe {
            asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
        }
    }
}
