//! What this module needs of a parallel port: registers, waits and a clock.

/// A register of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// Data lines, base + 0. In ECP mode a write here is a command (channel address, run length).
    Data,
    /// Status lines, base + 1.
    Dsr,
    /// Control lines, base + 2.
    Dcr,
    /// EPP address cycles, base + 3.
    EppAddress,
    /// EPP data cycles, base + 4; 32 bits wide where the chip allows it.
    EppData,
    /// Offset 0 of the ECP block: cFifo, ecpDFifo, tFifo or cnfgA, by the mode in the ECR.
    EcpFifo,
    /// Offset 1 of the ECP block: cnfgB in configuration mode.
    CnfgB,
    /// Extended control, offset 2 of the ECP block.
    Ecr,
}

/// A wait ended early: the request was cancelled, its time is over, or the device is going away.
/// Why is the caller's business; the protocol brings its lines to rest and gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// One port, owned for the time of an operation.
///
/// Writes to registers that the port does not have go nowhere, and reads of them give 0xFF.
///
/// An access takes about a microsecond on ISA and most LPC buses, and a tenth of that on PCI
/// Express: [`Port::access_ns`] says it. Where the standard wants half a microsecond between two
/// steps, its set-up, hold and pulse time TP, an access is enough on the former, and the protocols
/// read the status register in between on the latter: a read is as long as it was measured, takes
/// effect after all writes before it, and is finer than a stall, which has whole microseconds.
/// Where a step needs more, it stalls.
pub trait Port {
    /// Reads a register.
    fn read(&mut self, register: Register) -> u8;
    /// Writes a register.
    fn write(&mut self, register: Register, value: u8);

    /// Reads a register once for each byte (`rep insb`).
    fn read_block(&mut self, register: Register, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.read(register);
        }
    }

    /// Writes each byte to a register (`rep outsb`).
    fn write_block(&mut self, register: Register, bytes: &[u8]) {
        for byte in bytes {
            self.write(register, *byte);
        }
    }

    /// Reads a register 32 bits at a time (`rep insd`), lowest byte first. Used on
    /// [`Register::EppData`] only.
    fn read_block32(&mut self, register: Register, words: &mut [[u8; 4]]) {
        self.read_block(register, words.as_flattened_mut());
    }

    /// Writes a register 32 bits at a time (`rep outsd`), lowest byte first. Used on
    /// [`Register::EppData`] only.
    fn write_block32(&mut self, register: Register, words: &[[u8; 4]]) {
        self.write_block(register, words.as_flattened());
    }

    /// How long an access takes at least, in nanoseconds.
    fn access_ns(&self) -> u32 {
        1000
    }

    /// Busy-waits for at least `microseconds`, at most 50: for set-up and pulse times.
    fn stall(&mut self, microseconds: u32);

    /// Runs `section` while no other thread can have the processor: for pulses that may not last
    /// longer than a limit. It takes 50 us at most.
    fn unpreempted<T: Send>(&mut self, section: impl FnOnce(&mut dyn Access) -> T + Send) -> T
    where
        Self: Sized,
    {
        section(self)
    }

    /// Writes the control register twice, first `low` and then `high`, with so many `reads` of the
    /// status register in between, while no other thread can have the processor.
    fn strobe(&mut self, low: u8, high: u8, reads: u32)
    where
        Self: Sized,
    {
        self.unpreempted(move |port| {
            port.write(Register::Dcr, low);
            for _ in 0..reads {
                let _ = port.read(Register::Dsr);
            }
            port.write(Register::Dcr, high);
        });
    }

    /// Writes bytes to the data register, each after a look at the status register that shows the
    /// bits in `wanted` set, and strobes them as [`Port::strobe`] does, all while no other thread
    /// can have the processor: a few bytes, for 50 us at most. Between two steps there are `reads`
    /// of the status register. How many; less than there are, if a look shows another value.
    fn write_strobed(&mut self, bytes: &[u8], wanted: u8, [low, high]: [u8; 2], reads: u32) -> usize
    where
        Self: Sized,
    {
        self.unpreempted(move |port| {
            let settle = |port: &mut dyn Access| {
                for _ in 0..reads {
                    let _ = port.read(Register::Dsr);
                }
            };
            let mut written = 0;
            for byte in bytes {
                if port.read(Register::Dsr) & wanted != wanted {
                    break;
                }
                port.write(Register::Data, *byte);
                settle(port);
                port.write(Register::Dcr, low);
                settle(port);
                port.write(Register::Dcr, high);
                settle(port);
                written += 1;
            }
            written
        })
    }

    /// Whether the next wait would be [`Interrupted`]: a look at flags, asked for before every
    /// byte. A port that cannot tell says no.
    fn is_interrupted(&mut self) -> bool {
        false
    }

    /// Between blocks of bytes: whether to go on. Where a thread has to offer the processor for
    /// others to get it, this does so.
    ///
    /// # Errors
    /// [`Interrupted`], also when it was so before the call.
    fn yield_now(&mut self) -> Result<(), Interrupted>;

    /// Before the next look at a peripheral that has not answered the first ones: others shall have
    /// the processor if they want it, and the look comes at once if they do not.
    ///
    /// # Errors
    /// [`Interrupted`], also when it was so before the call.
    fn linger(&mut self) -> Result<(), Interrupted> {
        self.yield_now()
    }

    /// Sleeps for about `milliseconds`; a long sleep may take as long as a step of the system's
    /// timer more.
    ///
    /// # Errors
    /// [`Interrupted`], also when it was so before the call.
    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted>;

    /// A clock that never goes back, in milliseconds. Its steps may be those of the system's
    /// timer, 16 ms at most.
    fn now(&mut self) -> u64;

    /// The same in microseconds, as fine as there is: for the pace of a peripheral.
    fn microseconds(&mut self) -> u64 {
        self.now().saturating_mul(1000)
    }

    /// Whether the port has an ECP block.
    fn has_ecp(&self) -> bool;

    /// Whether the port's I/O range has room for the EPP registers, base + 3 to base + 7. (At
    /// 0x3BC it has not.)
    fn has_epp(&self) -> bool;
}

/// What a section that nothing preempts may do: see [`Port::unpreempted`].
pub trait Access {
    /// [`Port::read`]
    fn read(&mut self, register: Register) -> u8;
    /// [`Port::write`]
    fn write(&mut self, register: Register, value: u8);
    /// [`Port::stall`]
    fn stall(&mut self, microseconds: u32);
}

impl<P: Port> Access for P {
    fn read(&mut self, register: Register) -> u8 {
        Port::read(self, register)
    }

    fn write(&mut self, register: Register, value: u8) {
        Port::write(self, register, value);
    }

    fn stall(&mut self, microseconds: u32) {
        Port::stall(self, microseconds);
    }
}
