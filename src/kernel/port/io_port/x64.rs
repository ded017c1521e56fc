//! The I/O space of x64.

use core::arch::asm;

/// Proof that the processor has an I/O space, without which there is no parallel port.
///
/// On x64 Windows `READ_PORT_UCHAR` and its kin are inline `in` and `out`: no module exports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct X64PortSpace(());

#[allow(clippy::unused_self, reason = "the value is the proof")]
impl X64PortSpace {
    /// The proof, on a processor that has one.
    #[allow(clippy::unnecessary_wraps, reason = "other processors have none")]
    pub(crate) const fn here() -> Option<Self> {
        Some(Self(()))
    }

    /// Reads a byte (`in`).
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn read(self, port: u16) -> u8 {
        let value: u8;
        // SAFETY: the port is the device's. The instruction touches no memory.
        unsafe {
            asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
        }
        value
    }

    /// Reads a byte for each of `bytes` (`rep insb`).
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn read_block(self, port: u16, bytes: &mut [u8]) {
        // SAFETY: the port is the device's; the instruction fills `bytes`. The
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

    /// Writes every byte (`rep outsb`).
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn write_block(self, port: u16, bytes: &[u8]) {
        // SAFETY: the port is the device's; the instruction reads `bytes`. The
        // direction flag is clear, as the calling convention wants it.
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

    /// Reads 32 bits for each of `words` (`rep insd`). The ports are four.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn read_block32(self, port: u16, words: &mut [[u8; 4]]) {
        // SAFETY: the ports are the device's; the instruction fills `words`. The
        // direction flag is clear, as the calling convention wants it.
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

    /// Writes every word (`rep outsd`). The ports are four.
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn write_block32(self, port: u16, words: &[[u8; 4]]) {
        // SAFETY: the ports are the device's; the instruction reads `words`. The
        // direction flag is clear, as the calling convention wants it.
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

    /// Writes a byte (`out`).
    ///
    /// # Safety
    /// Windows assigned the port to the device.
    pub(super) unsafe fn write(self, port: u16, value: u8) {
        // SAFETY: the port is the device's. The instruction touches no memory.
        unsafe {
            asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
        }
    }
}
