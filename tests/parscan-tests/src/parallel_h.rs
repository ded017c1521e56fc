//! What parallel.h gives kernel clients: codes, layouts on x64, flags. Typed out of the
//! documentation and the public headers, for tests to read the driver's answers with.

use ntsim::{IoResult, NtStatus};

/// `CTL_CODE(FILE_DEVICE_PARALLEL_PORT, function, METHOD_BUFFERED, FILE_ANY_ACCESS)`
const fn code(function: u32) -> u32 {
    0x16 << 16 | function << 2
}

// To the port object, `\Device\ParallelPortM`.

/// Waits for the port.
pub const IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE: u32 = code(11);
/// Asks for [`PortInformation`].
pub const IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO: u32 = code(12);
/// Connects an interrupt routine, and gives [`InterruptInformation`].
pub const IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT: u32 = code(13);
/// Disconnects it.
pub const IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT: u32 = code(14);
/// Does nothing.
pub const IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO: u32 = code(15);
/// Asks for [`MorePortInformation`].
pub const IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO: u32 = code(17);
/// Sets the mode of the chip.
pub const IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE: u32 = code(19);
/// Clears it.
pub const IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE: u32 = code(20);
/// Asks for [`PnpInformation`].
pub const IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO: u32 = code(21);
/// Numbers the devices of a 1284.3 bus.
pub const IOCTL_INTERNAL_INIT_1284_3_BUS: u32 = code(22);
/// Selects a device, and waits for the port if told so.
pub const IOCTL_INTERNAL_SELECT_DEVICE: u32 = code(23);
/// Deselects it, and frees the port if told so.
pub const IOCTL_INTERNAL_DESELECT_DEVICE: u32 = code(24);
/// Frees the port.
pub const IOCTL_INTERNAL_PARALLEL_PORT_FREE: u32 = code(40);

// To the device, `\Device\ParallelM`.

/// Gives [`ParclassInformation`].
pub const IOCTL_INTERNAL_PARCLASS_CONNECT: u32 = code(30);
/// Gives it back.
pub const IOCTL_INTERNAL_PARCLASS_DISCONNECT: u32 = code(31);
/// Ends the IEEE 1284 mode.
pub const IOCTL_INTERNAL_DISCONNECT_IDLE: u32 = code(32);
/// Waits for the port, and selects the device.
pub const IOCTL_INTERNAL_LOCK_PORT: u32 = code(37);
/// Deselects it, and frees the port.
pub const IOCTL_INTERNAL_UNLOCK_PORT: u32 = code(38);
/// Waits for the port.
pub const IOCTL_INTERNAL_LOCK_PORT_NO_SELECT: u32 = code(52);
/// Frees it.
pub const IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT: u32 = code(53);

/// The documented internal requests to the port object, with their names.
pub const PORT_REQUESTS: [(u32, &str); 13] = [
    (
        IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        "PARALLEL_PORT_ALLOCATE",
    ),
    (
        IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO,
        "GET_PARALLEL_PORT_INFO",
    ),
    (
        IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        "PARALLEL_CONNECT_INTERRUPT",
    ),
    (
        IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT,
        "PARALLEL_DISCONNECT_INTERRUPT",
    ),
    (
        IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO,
        "RELEASE_PARALLEL_PORT_INFO",
    ),
    (
        IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO,
        "GET_MORE_PARALLEL_PORT_INFO",
    ),
    (
        IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE,
        "PARALLEL_SET_CHIP_MODE",
    ),
    (
        IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE,
        "PARALLEL_CLEAR_CHIP_MODE",
    ),
    (
        IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO,
        "GET_PARALLEL_PNP_INFO",
    ),
    (IOCTL_INTERNAL_INIT_1284_3_BUS, "INIT_1284_3_BUS"),
    (IOCTL_INTERNAL_SELECT_DEVICE, "SELECT_DEVICE"),
    (IOCTL_INTERNAL_DESELECT_DEVICE, "DESELECT_DEVICE"),
    (IOCTL_INTERNAL_PARALLEL_PORT_FREE, "PARALLEL_PORT_FREE"),
];

/// The documented internal requests to the device, with their names.
pub const DEVICE_REQUESTS: [(u32, &str); 7] = [
    (IOCTL_INTERNAL_PARCLASS_CONNECT, "PARCLASS_CONNECT"),
    (IOCTL_INTERNAL_PARCLASS_DISCONNECT, "PARCLASS_DISCONNECT"),
    (IOCTL_INTERNAL_DISCONNECT_IDLE, "DISCONNECT_IDLE"),
    (IOCTL_INTERNAL_LOCK_PORT, "LOCK_PORT"),
    (IOCTL_INTERNAL_UNLOCK_PORT, "UNLOCK_PORT"),
    (IOCTL_INTERNAL_LOCK_PORT_NO_SELECT, "LOCK_PORT_NO_SELECT"),
    (
        IOCTL_INTERNAL_UNLOCK_PORT_NO_DESELECT,
        "UNLOCK_PORT_NO_DESELECT",
    ),
];

/// Internal requests that the header has and no page documents.
pub const UNDOCUMENTED: [(u32, &str); 10] = [
    (code(18), "PARCHIP_CONNECT"),
    (code(29), "GET_PARPORT_FDO"),
    (code(41), "PARDOT3_CONNECT"),
    (code(42), "PARDOT3_DISCONNECT"),
    (code(43), "PARDOT3_RESET"),
    (code(44), "PARDOT3_SIGNAL"),
    (code(50), "REGISTER_FOR_REMOVAL_RELATIONS"),
    (code(51), "UNREGISTER_FOR_REMOVAL_RELATIONS"),
    (code(54), "DISABLE_END_OF_CHAIN_BUS_RESCAN"),
    (code(55), "ENABLE_END_OF_CHAIN_BUS_RESCAN"),
];

/// Flags of `PARALLEL_1284_COMMAND`.
pub mod command_flags {
    /// The device at the end of the chain, whatever the ID.
    pub const END_OF_CHAIN_DEVICE: u32 = 1;
    /// The caller has the port, and keeps it.
    pub const HAVE_PORT_KEEP_PORT: u32 = 2;
}

/// `sizeof(PARALLEL_1284_COMMAND)`
pub const COMMAND: usize = 8;

/// `PARALLEL_1284_COMMAND`
#[must_use]
pub const fn command(id: u8, flags: u32) -> [u8; COMMAND] {
    let [a, b, c, d] = flags.to_le_bytes();
    [id, 0, 0, 0, a, b, c, d]
}

/// Bits of `HardwareCapabilities`.
pub mod capabilities {
    /// A FIFO.
    pub const ECP_PRESENT: u32 = 0x01;
    /// EPP registers.
    pub const EPP_PRESENT: u32 = 0x02;
    /// EPP registers that take 32-bit accesses.
    pub const EPP_32_PRESENT: u32 = 0x04;
    /// Data lines that can be read.
    pub const BYTE_PRESENT: u32 = 0x08;
    /// Devices of 1284.3.
    pub const P1284_3_PRESENT: u32 = 0x10;
}

/// `sizeof(PARALLEL_CHIP_MODE)`
pub const CHIP_MODE: usize = 2;

/// `PARALLEL_CHIP_MODE`
#[must_use]
pub const fn chip_mode_of(mode: u8) -> [u8; CHIP_MODE] {
    [mode, 0]
}

/// Modes of the chip: the upper three bits of the ECR.
pub mod chip_mode {
    /// Data lines that can be read.
    pub const BYTE: u8 = 0x20;
    /// Centronics through the FIFO.
    pub const FAST_CENTRONICS: u8 = 0x40;
    /// ECP.
    pub const ECP: u8 = 0x60;
    /// EPP.
    pub const EPP: u8 = 0x80;
    /// Test of the FIFO: no mode for clients.
    pub const TEST: u8 = 0xC0;
    /// Configuration registers: no mode for clients.
    pub const CONFIGURATION: u8 = 0xE0;
}

/// `SAFE_MODE` of `PARALLEL_SAFETY`.
pub const SAFE_MODE: u32 = 0;
/// `UNSAFE_MODE`
pub const UNSAFE_MODE: u32 = 1;

/// `sizeof(PARALLEL_INTERRUPT_SERVICE_ROUTINE)`
pub const INTERRUPT_SERVICE_ROUTINE: usize = 32;

/// Numbers at offsets of a structure.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// # Panics
    /// If a request did not give the whole structure.
    #[track_caller]
    fn of(result: &'a IoResult, size: usize) -> Self {
        assert_eq!(
            result.outcome(),
            (NtStatus::SUCCESS, size),
            "a structure of {size} bytes"
        );
        Self(&result.output[..size])
    }

    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.0[offset..offset + N].try_into().expect("N bytes")
    }

    /// # Panics
    /// If there are bits in the padding: they would be the kernel's.
    #[track_caller]
    fn padding(&self, offset: usize) {
        let padding: u32 = Member::read(self, offset);
        assert_eq!(padding, 0, "padding at {offset:#x}");
    }
}

/// A member of a structure, or an array of members that are at several places.
trait Member<At> {
    fn read(reader: &Reader<'_>, at: At) -> Self;
}

impl Member<usize> for u32 {
    fn read(reader: &Reader<'_>, at: usize) -> Self {
        Self::from_le_bytes(reader.bytes(at))
    }
}

impl Member<usize> for u64 {
    fn read(reader: &Reader<'_>, at: usize) -> Self {
        Self::from_le_bytes(reader.bytes(at))
    }
}

impl<T: Member<usize>, const N: usize> Member<[usize; N]> for [T; N] {
    fn read(reader: &Reader<'_>, at: [usize; N]) -> Self {
        at.map(|at| T::read(reader, at))
    }
}

/// A structure that a request answers with: its size, its members and their offsets.
macro_rules! structure {
    (
        $(#[$about:meta])*
        $name:ident: $size:ident = $bytes:literal, padding [$($padding:literal),*];
        $($(#[$doc:meta])* $member:ident: $type:ty = $at:expr;)*
    ) => {
        #[doc = concat!("Bytes of [`", stringify!($name), "`].")]
        pub const $size: usize = $bytes;

        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $member: $type,)*
        }

        impl $name {
            /// Reads the answer to its request.
            ///
            /// # Panics
            /// If it is not the whole structure, or has bits in its padding.
            #[must_use]
            #[track_caller]
            pub fn parse(result: &IoResult) -> Self {
                let reader = Reader::of(result, $size);
                $(reader.padding($padding);)*
                Self {
                    $($member: Member::read(&reader, $at),)*
                }
            }
        }
    };
}

structure! {
    /// `PARCLASS_INFORMATION`, 120 bytes, the answer to [`IOCTL_INTERNAL_PARCLASS_CONNECT`]
    ParclassInformation: PARCLASS_INFORMATION = 120, padding [0x14, 0x64];
    /// Base of the port's registers.
    controller: u64 = 0x00;
    /// Base of the ECP registers, or 0.
    ecr_controller: u64 = 0x08;
    /// Bytes of the port's registers.
    span_of_controller: u32 = 0x10;
    /// The nine routines, by offset: `DetermineIeeeModes` to `ParallelWrite`, `ParallelTryselect`,
    /// `ParallelDeSelect`.
    routines: [u64; 9] = [0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x68, 0x70];
    /// First argument of all of them.
    context: u64 = 0x50;
    /// See [`capabilities`].
    hardware_capabilities: u32 = 0x58;
    /// Words of the FIFO, and bits of its words.
    fifo: [u32; 2] = [0x5C, 0x60];
}

/// Offset of `Controller`.
pub const CONTROLLER: usize = 0x08;

structure! {
    /// `PARALLEL_PORT_INFORMATION`, 56 bytes, the answer to [`IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO`]
    PortInformation: PORT_INFORMATION = 56, padding [0x14];
    /// Base of the port's registers, as the bus sees it.
    original_controller: u64 = 0x00;
    /// As the processor sees it.
    controller: u64 = CONTROLLER;
    /// Bytes of the port's registers.
    span_of_controller: u32 = 0x10;
    /// `TryAllocatePort`, `FreePort`, `QueryNumWaiters`
    routines: [u64; 3] = [0x18, 0x20, 0x28];
    /// First argument of all of them.
    context: u64 = 0x30;
}

structure! {
    /// `MORE_PARALLEL_PORT_INFORMATION`, 32 bytes, the answer to [`IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO`]
    MorePortInformation: MORE_PORT_INFORMATION = 32, padding [0x1C];
    /// `INTERFACE_TYPE`
    interface_type: u32 = 0x00;
    /// Number of the bus.
    bus_number: u32 = 0x04;
    /// The interrupt's IRQL,
    interrupt_level: u32 = 0x08;
    /// its vector,
    interrupt_vector: u32 = 0x0C;
    /// the processors that get it,
    interrupt_affinity: u64 = 0x10;
    /// and its `KINTERRUPT_MODE`: level (0) or latched (1).
    interrupt_mode: u32 = 0x18;
}

structure! {
    /// `PARALLEL_PNP_INFORMATION`, 112 bytes, the answer to [`IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO`]
    PnpInformation: PNP_INFORMATION = 112, padding [0x1C, 0x64];
    /// Base of the ECP registers, as the bus sees it; 0 if there are none.
    original_ecp_controller: u64 = 0x00;
    /// As the processor sees it.
    ecp_controller: u64 = 0x08;
    /// Bytes of the ECP registers.
    span_of_ecp_controller: u32 = 0x10;
    /// See [`capabilities`].
    hardware_capabilities: u32 = 0x18;
    /// `TrySetChipMode`, `ClearChipMode`, `TrySelectDevice`, `DeselectDevice`
    routines: [u64; 4] = [0x20, 0x28, 0x48, 0x50];
    /// Words of the FIFO, and bits of its words.
    fifo: [u32; 2] = [0x30, 0x34];
    /// Devices of the 1284.3 bus.
    device_count: u32 = 0x44;
    /// First argument of the routines.
    context: u64 = 0x58;
    /// See [`chip_mode`]; 0 if none is set.
    current_mode: u32 = 0x60;
    /// `PortName`, the symbolic link's name in the driver's memory.
    port_name: u64 = 0x68;
}

structure! {
    /// `PARALLEL_INTERRUPT_INFORMATION`, 32 bytes, the answer to [`IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT`]
    InterruptInformation: INTERRUPT_INFORMATION = 32, padding [];
    /// `PKINTERRUPT`
    interrupt_object: u64 = 0x00;
    /// `TryAllocatePortAtInterruptLevel`, `FreePortFromInterruptLevel`
    routines: [u64; 2] = [0x08, 0x10];
    /// First argument of both.
    context: u64 = 0x18;
}
