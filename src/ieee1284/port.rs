/// A register of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Data lines, base + 0.
    Data,
    /// Status lines, base + 1.
    Dsr,
    /// Control lines, base + 2.
    Dcr,
    /// Extended control, in the ECP block. Writes go nowhere and reads give 0xFF on a port
    /// without one.
    Ecr,
}

/// A wait ended early: the request was cancelled or the device is going away. Why is the caller's
/// business; the protocol brings its lines to rest and gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// One port, owned for the time of an operation.
pub trait Port {
    /// Reads a register.
    fn read(&mut self, register: Register) -> u8;
    /// Writes a register.
    fn write(&mut self, register: Register, value: u8);
    /// Busy-waits for at least `microseconds`, at most 50: for set-up and pulse times.
    fn stall(&mut self, microseconds: u32);
    /// Sleeps for about `milliseconds`.
    ///
    /// # Errors
    /// [`Interrupted`], also when it was so before the call.
    fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted>;
    /// A clock that never goes back, in milliseconds.
    fn now(&mut self) -> u64;
    /// Whether the port has an ECP block.
    fn has_ecp(&self) -> bool;
}
