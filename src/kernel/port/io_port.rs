//! Port I/O: ranges of the I/O space, on processors that have one.

#[cfg(target_arch = "aarch64")]
#[path = "io_port/none.rs"]
mod space;
#[cfg(target_arch = "x86_64")]
#[path = "io_port/x64.rs"]
mod space;

#[cfg(target_arch = "aarch64")]
pub(crate) use space::NoPortSpace as PortSpace;
#[cfg(target_arch = "x86_64")]
pub(crate) use space::X64PortSpace as PortSpace;

/// A range of the 64 KiB I/O space of an x86 processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoRange {
    space: PortSpace,
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
            space: PortSpace::here()?,
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

    /// The port at `offset`, if it is in the range.
    pub(crate) fn at(self, offset: u16) -> Option<IoPort> {
        Some(IoPort {
            space: self.space,
            port: self.port(offset)?,
        })
    }

    const fn port(self, offset: u16) -> Option<u16> {
        if offset < self.length {
            self.base.checked_add(offset)
        } else {
            None
        }
    }

    /// The port at `offset`, if it and the three behind it are in the range.
    const fn port32(self, offset: u16) -> Option<u16> {
        match offset.checked_add(3) {
            Some(last) if last < self.length => self.port(offset),
            _ => None,
        }
    }

    /// Reads the byte at `offset`; 0xFF, as of open lines, outside the range. One copy, for
    /// what stands beside a slow wait; [`IoRange::at`] is for the lines of a handshake.
    #[inline(never)]
    pub(crate) fn read(self, offset: u16) -> u8 {
        match self.port(offset) {
            // SAFETY: Windows assigned this port to the device.
            Some(port) => unsafe { self.space.read(port) },
            None => 0xFF,
        }
    }

    /// Reads the byte at `offset` once for each byte of `bytes`.
    #[inline(never)]
    pub(crate) fn read_block(self, offset: u16, bytes: &mut [u8]) {
        match self.port(offset) {
            // SAFETY: as in `read`.
            Some(port) => unsafe { self.space.read_block(port, bytes) },
            None => bytes.fill(0xFF),
        }
    }

    /// Writes every byte of `bytes` to `offset`.
    #[inline(never)]
    pub(crate) fn write_block(self, offset: u16, bytes: &[u8]) {
        if let Some(port) = self.port(offset) {
            // SAFETY: as in `read`.
            unsafe { self.space.write_block(port, bytes) };
        }
    }

    /// Reads 32 bits at `offset` once for each word of `words`.
    #[inline(never)]
    pub(crate) fn read_block32(self, offset: u16, words: &mut [[u8; 4]]) {
        match self.port32(offset) {
            // SAFETY: as in `read`; all four ports are the device's.
            Some(port) => unsafe { self.space.read_block32(port, words) },
            None => words.as_flattened_mut().fill(0xFF),
        }
    }

    /// Writes every word of `words` to `offset`, 32 bits wide.
    #[inline(never)]
    pub(crate) fn write_block32(self, offset: u16, words: &[[u8; 4]]) {
        if let Some(port) = self.port32(offset) {
            // SAFETY: as in `read`; all four ports are the device's.
            unsafe { self.space.write_block32(port, words) };
        }
    }

    /// Writes the byte at `offset`; nothing outside the range. As for [`IoRange::read`].
    #[inline(never)]
    pub(crate) fn write(self, offset: u16, value: u8) {
        if let Some(port) = self.port(offset) {
            // SAFETY: as in `read`.
            unsafe { self.space.write(port, value) };
        }
    }
}

/// One port of a range, which Windows assigned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoPort {
    space: PortSpace,
    port: u16,
}

impl IoPort {
    /// Reads a byte.
    #[inline]
    pub(crate) fn read(self) -> u8 {
        // SAFETY: `IoRange::at` took it from a range that Windows assigned to the device.
        unsafe { self.space.read(self.port) }
    }

    /// Writes a byte.
    #[inline]
    pub(crate) fn write(self, value: u8) {
        // SAFETY: as in `read`.
        unsafe { self.space.write(self.port, value) };
    }
}
