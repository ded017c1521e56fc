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

/// `PARALLEL_1284_COMMAND`
#[must_use]
pub const fn command(id: u8, flags: u32) -> [u8; 8] {
    let [a, b, c, d] = flags.to_le_bytes();
    [id, 0, 0, 0, a, b, c, d]
}

/// `PARALLEL_CHIP_MODE`
#[must_use]
pub const fn chip_mode_of(mode: u8) -> [u8; 2] {
    [mode, 0]
}

/// `sizeof(PARCLASS_INFORMATION)`
pub const PARCLASS_INFORMATION: usize = 120;
/// `sizeof(PARALLEL_PORT_INFORMATION)`
pub const PORT_INFORMATION: usize = 56;
/// `sizeof(MORE_PARALLEL_PORT_INFORMATION)`
pub const MORE_PORT_INFORMATION: usize = 32;
/// `sizeof(PARALLEL_PNP_INFORMATION)`
pub const PNP_INFORMATION: usize = 112;
/// `sizeof(PARALLEL_INTERRUPT_SERVICE_ROUTINE)`
pub const INTERRUPT_SERVICE_ROUTINE: usize = 32;
/// `sizeof(PARALLEL_INTERRUPT_INFORMATION)`
pub const INTERRUPT_INFORMATION: usize = 32;
/// `sizeof(PARALLEL_1284_COMMAND)`
pub const COMMAND: usize = 8;
/// `sizeof(PARALLEL_CHIP_MODE)`
pub const CHIP_MODE: usize = 2;

// Where the routines are.

/// Offsets in [`ParclassInformation`].
pub mod parclass {
    /// `DetermineIeeeModes`
    pub const DETERMINE_IEEE_MODES: usize = 0x18;
    /// `NegotiateIeeeMode`
    pub const NEGOTIATE_IEEE_MODE: usize = 0x20;
    /// `TerminateIeeeMode`
    pub const TERMINATE_IEEE_MODE: usize = 0x28;
    /// `IeeeFwdToRevMode`
    pub const IEEE_FWD_TO_REV_MODE: usize = 0x30;
    /// `IeeeRevToFwdMode`
    pub const IEEE_REV_TO_FWD_MODE: usize = 0x38;
    /// `ParallelRead`
    pub const PARALLEL_READ: usize = 0x40;
    /// `ParallelWrite`
    pub const PARALLEL_WRITE: usize = 0x48;
    /// `ParclassContext`
    pub const CONTEXT: usize = 0x50;
    /// `ParallelTryselect`
    pub const PARALLEL_TRYSELECT: usize = 0x68;
    /// `ParallelDeSelect`
    pub const PARALLEL_DESELECT: usize = 0x70;
}

/// Offsets in [`PortInformation`].
pub mod port {
    /// `Controller`
    pub const CONTROLLER: usize = 0x08;
    /// `TryAllocatePort`
    pub const TRY_ALLOCATE_PORT: usize = 0x18;
    /// `FreePort`
    pub const FREE_PORT: usize = 0x20;
    /// `QueryNumWaiters`
    pub const QUERY_NUM_WAITERS: usize = 0x28;
}

/// Offsets in [`PnpInformation`].
pub mod pnp {
    /// `TrySetChipMode`
    pub const TRY_SET_CHIP_MODE: usize = 0x20;
    /// `ClearChipMode`
    pub const IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE: usize = 0x28;
    /// `TrySelectDevice`
    pub const TRY_SELECT_DEVICE: usize = 0x48;
    /// `DeselectDevice`
    pub const IOCTL_INTERNAL_DESELECT_DEVICE: usize = 0x50;
}

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

    fn long(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    fn pointer(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }

    /// # Panics
    /// If there are bits in the padding: they would be the kernel's.
    #[track_caller]
    fn padding(&self, offset: usize) {
        assert_eq!(self.long(offset), 0, "padding at {offset:#x}");
    }
}

/// `PARCLASS_INFORMATION`, 120 bytes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParclassInformation {
    /// Base of the port's registers.
    pub controller: u64,
    /// Base of the ECP registers, or 0.
    pub ecr_controller: u64,
    /// Bytes of the port's registers.
    pub span_of_controller: u32,
    /// The nine routines, by offset: `DetermineIeeeModes` to `ParallelWrite`, `ParallelTryselect`,
    /// `ParallelDeSelect`.
    pub routines: [u64; 9],
    /// First argument of all of them.
    pub context: u64,
    /// See [`capabilities`].
    pub hardware_capabilities: u32,
    /// Words of the FIFO.
    pub fifo_depth: u32,
    /// Bits of its words.
    pub fifo_width: u32,
}

impl ParclassInformation {
    /// Reads the answer to [`IOCTL_INTERNAL_PARCLASS_CONNECT`].
    ///
    /// # Panics
    /// If it is not the whole structure, or has bits in its padding.
    #[must_use]
    #[track_caller]
    pub fn parse(result: &IoResult) -> Self {
        let reader = Reader::of(result, PARCLASS_INFORMATION);
        reader.padding(0x14);
        reader.padding(0x64);
        let at = |offset| reader.pointer(offset);
        Self {
            controller: at(0x00),
            ecr_controller: at(0x08),
            span_of_controller: reader.long(0x10),
            routines: [
                at(parclass::DETERMINE_IEEE_MODES),
                at(parclass::NEGOTIATE_IEEE_MODE),
                at(parclass::TERMINATE_IEEE_MODE),
                at(parclass::IEEE_FWD_TO_REV_MODE),
                at(parclass::IEEE_REV_TO_FWD_MODE),
                at(parclass::PARALLEL_READ),
                at(parclass::PARALLEL_WRITE),
                at(parclass::PARALLEL_TRYSELECT),
                at(parclass::PARALLEL_DESELECT),
            ],
            context: at(parclass::CONTEXT),
            hardware_capabilities: reader.long(0x58),
            fifo_depth: reader.long(0x5C),
            fifo_width: reader.long(0x60),
        }
    }
}

/// `PARALLEL_PORT_INFORMATION`, 56 bytes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInformation {
    /// Base of the port's registers, as the bus sees it.
    pub original_controller: u64,
    /// As the processor sees it.
    pub controller: u64,
    /// Bytes of the port's registers.
    pub span_of_controller: u32,
    /// `TryAllocatePort`, `FreePort`, `QueryNumWaiters`
    pub routines: [u64; 3],
    /// First argument of all of them.
    pub context: u64,
}

impl PortInformation {
    /// Reads the answer to [`IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO`].
    ///
    /// # Panics
    /// See [`ParclassInformation::parse`].
    #[must_use]
    #[track_caller]
    pub fn parse(result: &IoResult) -> Self {
        let reader = Reader::of(result, PORT_INFORMATION);
        reader.padding(0x14);
        Self {
            original_controller: reader.pointer(0x00),
            controller: reader.pointer(port::CONTROLLER),
            span_of_controller: reader.long(0x10),
            routines: [
                reader.pointer(port::TRY_ALLOCATE_PORT),
                reader.pointer(port::FREE_PORT),
                reader.pointer(port::QUERY_NUM_WAITERS),
            ],
            context: reader.pointer(0x30),
        }
    }
}

/// `MORE_PARALLEL_PORT_INFORMATION`, 32 bytes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePortInformation {
    /// `INTERFACE_TYPE`
    pub interface_type: u32,
    /// Number of the bus.
    pub bus_number: u32,
    /// The interrupt's IRQL,
    pub interrupt_level: u32,
    /// its vector,
    pub interrupt_vector: u32,
    /// the processors that get it,
    pub interrupt_affinity: u64,
    /// and its `KINTERRUPT_MODE`: level (0) or latched (1).
    pub interrupt_mode: u32,
}

impl MorePortInformation {
    /// Reads the answer to [`IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO`].
    ///
    /// # Panics
    /// See [`ParclassInformation::parse`].
    #[must_use]
    #[track_caller]
    pub fn parse(result: &IoResult) -> Self {
        let reader = Reader::of(result, MORE_PORT_INFORMATION);
        reader.padding(0x1C);
        Self {
            interface_type: reader.long(0x00),
            bus_number: reader.long(0x04),
            interrupt_level: reader.long(0x08),
            interrupt_vector: reader.long(0x0C),
            interrupt_affinity: reader.pointer(0x10),
            interrupt_mode: reader.long(0x18),
        }
    }
}

/// `PARALLEL_PNP_INFORMATION`, 112 bytes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PnpInformation {
    /// Base of the ECP registers, as the bus sees it; 0 if there are none.
    pub original_ecp_controller: u64,
    /// As the processor sees it.
    pub ecp_controller: u64,
    /// Bytes of the ECP registers.
    pub span_of_ecp_controller: u32,
    /// See [`capabilities`].
    pub hardware_capabilities: u32,
    /// `TrySetChipMode`, `ClearChipMode`, `TrySelectDevice`, `DeselectDevice`
    pub routines: [u64; 4],
    /// Words of the FIFO.
    pub fifo_depth: u32,
    /// Bits of its words.
    pub fifo_width: u32,
    /// Devices of the 1284.3 bus.
    pub device_count: u32,
    /// First argument of the routines.
    pub context: u64,
    /// See [`chip_mode`]; 0 if none is set.
    pub current_mode: u32,
    /// `PortName`, the symbolic link's name in the driver's memory.
    pub port_name: u64,
}

impl PnpInformation {
    /// Reads the answer to [`IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO`].
    ///
    /// # Panics
    /// See [`ParclassInformation::parse`].
    #[must_use]
    #[track_caller]
    pub fn parse(result: &IoResult) -> Self {
        let reader = Reader::of(result, PNP_INFORMATION);
        reader.padding(0x1C);
        reader.padding(0x64);
        Self {
            original_ecp_controller: reader.pointer(0x00),
            ecp_controller: reader.pointer(0x08),
            span_of_ecp_controller: reader.long(0x10),
            hardware_capabilities: reader.long(0x18),
            routines: [
                reader.pointer(pnp::TRY_SET_CHIP_MODE),
                reader.pointer(pnp::IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE),
                reader.pointer(pnp::TRY_SELECT_DEVICE),
                reader.pointer(pnp::IOCTL_INTERNAL_DESELECT_DEVICE),
            ],
            fifo_depth: reader.long(0x30),
            fifo_width: reader.long(0x34),
            device_count: reader.long(0x44),
            context: reader.pointer(0x58),
            current_mode: reader.long(0x60),
            port_name: reader.pointer(0x68),
        }
    }
}

/// `PARALLEL_INTERRUPT_INFORMATION`, 32 bytes
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptInformation {
    /// `PKINTERRUPT`
    pub interrupt_object: u64,
    /// `TryAllocatePortAtInterruptLevel`, `FreePortFromInterruptLevel`
    pub routines: [u64; 2],
    /// First argument of both.
    pub context: u64,
}

impl InterruptInformation {
    /// Reads the answer to [`IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT`].
    ///
    /// # Panics
    /// See [`ParclassInformation::parse`].
    #[must_use]
    #[track_caller]
    pub fn parse(result: &IoResult) -> Self {
        let reader = Reader::of(result, INTERRUPT_INFORMATION);
        Self {
            interrupt_object: reader.pointer(0x00),
            routines: [reader.pointer(0x08), reader.pointer(0x10)],
            context: reader.pointer(0x18),
        }
    }
}
