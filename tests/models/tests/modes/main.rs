//! Every mode of `Peripheral1284`, driven register by register on every chip that has it.
#![allow(
    clippy::cast_possible_truncation,
    reason = "a register is a byte of the bus"
)]

mod chips;
mod fifo;
mod host;
mod misbehaviour;
mod protocol;
mod random;
