//! The IEEE 1284 modes that requests name, as masks.

use bitflags::bitflags;

bitflags! {
    /// IEEE 1284 modes as masks (ntddpar.h). Modes for writing and for reading share the type; a
    /// bit of the wrong direction in a mask is ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IeeeModes: u16 {
        /// Centronics write: the default for writing.
        const CENTRONICS = 0x0001;
        /// IEEE 1284 compatibility write.
        const IEEE_COMPATIBILITY = 0x0002;
        /// 4-bit reverse: the default for reading.
        const NIBBLE = 0x0004;
        /// Channelised nibble, a vendor's; never claimed here.
        const CHANNEL_NIBBLE = 0x0008;
        /// Byte reverse (`BYTE_BIDIR`).
        const BYTE_BIDIR = 0x0010;
        /// EPP by hardware.
        const EPP_HW = 0x0020;
        /// EPP by software.
        const EPP_SW = 0x0040;
        /// Bounded ECP (IEEE 1284.3); never claimed here.
        const BOUNDED_ECP = 0x0080;
        /// ECP by hardware, polled.
        const ECP_HW_NOIRQ = 0x0100;
        /// ECP by hardware, with interrupts.
        const ECP_HW_IRQ = 0x0200;
        /// ECP by software.
        const ECP_SW = 0x0400;
    }
}

impl IeeeModes {
    /// `EPP_ANY`
    pub const EPP_ANY: Self = Self::EPP_HW.union(Self::EPP_SW);
    /// `ECP_ANY`
    pub const ECP_ANY: Self = Self::BOUNDED_ECP
        .union(Self::ECP_HW_NOIRQ)
        .union(Self::ECP_HW_IRQ)
        .union(Self::ECP_SW);

    /// A mask as `IOCTL_PAR_GET_DEVICE_CAPS` has it, in and out.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        self.bits().to_le_bytes()
    }

    /// Reads a mask; bits without a name stay.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self::from_bits_retain(u16::from_le_bytes(bytes))
    }
}
