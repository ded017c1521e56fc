//! The functions of `InpOut` and `DLPortIO` for programs that exist, over parscan's port programs:
//! `inpoutx64.dll`, `inpout32.dll`, and either as `dlportio.dll`.
//!
//! A program keeps its `Out32(0x378, v)`. What answers is not the machine's I/O space but an
//! [`IoSpace`] in which there is nothing but the registers of ports that parscan serves; each access
//! is a request to `\\.\LPTn`. The DLL executes no `in` and no `out`, installs nothing, and needs no
//! administrator.
//!
//! | module | what is in it |
//! |---|---|
//! | [`IoSpace`] | addresses, widths, which port has one, when it is tried again |
//! | `served` | a port: its claim, its registers, the mode that its ECR shows |
//! | `exports` | the functions by their names, on Windows |
//!
//! # Registers
//! | address | read | write |
//! |---|---|---|
//! | base | the data register | the same |
//! | base + 1 | the status register, all bits | nothing |
//! | base + 2 | the control register | bits 0 to 3; bit 5, the direction, in mode 001 |
//! | base + 0x402, the ECR | 0x15 in mode 000, 0x35 in 001 | bits 7 to 5, if they are 000 or 001 |
//! | any other, and a port that another program has | all ones | nothing |
//!
//! Only the low 16 bits of an address count. 16- and 32-bit accesses are byte by byte, from the
//! lowest address.
//!
//! What is called first looks for the ports and claims the one that it is for. The claim is kept
//! until the process ends or the DLL is unloaded; lines stay as they are then.
#![cfg_attr(not(windows), forbid(unsafe_code))]

#[cfg(windows)]
mod exports;
mod served;
mod space;
#[cfg(test)]
mod tests;

pub use space::{IoSpace, Width};
