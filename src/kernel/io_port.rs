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

    /// The first port.
    pub(crate) const fn base(self) -> u16 {
        self.base
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

    /// Reads the byte at `offset` once for each byte of `bytes` (`rep insb`).
    pub(crate) fn read_block(self, offset: u16, bytes: &mut [u8]) {
        let Some(port) = self.port(offset) else {
            bytes.fill(0xFF);
            return;
        };
        // SAFETY: Windows assigned this port to the device; the instruction fills `bytes`. The
        // direction flag is clear, as the calling convention wants it.
        unsafe {
            asm!(
                "rep insb",
                in("dx") port,
                inout("rdi") bytes.as_mut_ptr() => _,
                inout("rcx") bytes.len() => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Writes every byte of `bytes` to `offset` (`rep outsb`).
    pub(crate) fn write_block(self, offset: u16, bytes: &[u8]) {
        let Some(port) = self.port(offset) else {
            return;
        };
        // SAFETY: as in `read_block`; the instruction reads `bytes`.
        unsafe {
            asm!(
                "rep outsb",
                in("dx") port,
                inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() => _,
                options(nostack, preserves_flags, readonly)
            );
        }
    }

    /// Reads 32 bits at `offset` once for each word of `words` (`rep insd`).
    pub(crate) fn read_block32(self, offset: u16, words: &mut [[u8; 4]]) {
        let Some(port) = self.port32(offset) else {
            words.as_flattened_mut().fill(0xFF);
            return;
        };
        // SAFETY: as in `read_block`; all four ports are the device's.
        unsafe {
            asm!(
                "rep insd",
                in("dx") port,
                inout("rdi") words.as_mut_ptr() => _,
                inout("rcx") words.len() => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Writes every word of `words` to `offset`, 32 bits wide (`rep outsd`).
    pub(crate) fn write_block32(self, offset: u16, words: &[[u8; 4]]) {
        let Some(port) = self.port32(offset) else {
            return;
        };
        // SAFETY: as in `write_block`; all four ports are the device's.
        unsafe {
            asm!(
                "rep outsd",
                in("dx") port,
                inout("rsi") words.as_ptr() => _,
                inout("rcx") words.len() => _,
                options(nostack, preserves_flags, readonly)
            );
        }
    }

    /// The port at `offset`, if it and the three behind it are in the range.
    const fn port32(self, offset: u16) -> Option<u16> {
        match offset.checked_add(3) {
            Some(last) if last < self.length => self.port(offset),
            _ => None,
        }
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
