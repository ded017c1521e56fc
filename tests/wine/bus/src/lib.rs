//! A driver for Wine that makes hardware for `parscan.sys`: a bus with a parallel port and a USB
//! scanner on it, and what Wine's kernel lacks.
//!
//! Wine has a service manager, setup API, PnP manager and I/O manager that this project did not
//! write. Its drivers are programs: they run in the user-mode process `winedevice.exe`. So
//! `parscan.sys`, as users install it, runs there end to end once a device answers its port
//! accesses and URBs. That is this driver, in the same process; what the hardware does, the models
//! of `parscan-models` say, as in `ntsim`, here with the time of a real clock.
//!
//! What Wine 8.0 does not have is done here. That part is as much ours as `ntsim` is, so what a run
//! in Wine is evidence for is the rest: installation, devnodes, interfaces, names, requests and
//! their results as programs see them. It is no evidence for IRQL, paging, processors, power or
//! signatures.
//!
//! | module | what it is about |
//! |---|---|
//! | `entry` | DriverEntry, unload, dispatch by device object |
//! | `bus` | the root device, and the children that it enumerates |
//! | `filter` | the filter above parscan's devices: resources, CLEANUP, user memory |
//! | `files` | what is open, until it is closed |
//! | `client_memory` | the memory of the program that sent a request |
//! | `port_io` | `in` and `out` instructions, and reads of the IRQL register |
//! | `port` | the port chips, the printer behind one and the loopback plug on the other |
//! | `usb` | URBs, and the scanner that answers them |
//! | `deferred` | timers and their DPCs |
//! | `hooks` | kernel functions that replace Wine's in the driver's import table |
//! | `bench` | the control device |
//! | `nt`, `lock`, `thread`, `clock`, `irql`, `report` | what the others stand on |
//!
//! # The control device
//! `\\.\ParscanBench` takes one control code, 0x80002000 (buffered, any access). The input is a line
//! of ASCII, words separated by blanks; the output is the reply. A command that does not exist, or
//! is not possible now, ends with `STATUS_INVALID_PARAMETER`; a reply that does not fit with
//! `STATUS_BUFFER_TOO_SMALL`, and then nothing is lost. Numbers in commands are decimal, or
//! hexadecimal with `0x`; `HEX` is bytes as pairs of digits. Numbers in replies are decimal unless
//! said otherwise.
//!
//! | command | what it does | reply |
//! |---|---|---|
//! | `version` | | version of this crate |
//! | `plug port`, `plug port2`, `plug scanner` | a new device on the bus; the PnP manager is told | |
//! | `unplug port`, … | it is gone, by surprise | |
//! | `state port`, … | | `absent`, `plugged`, `started`, `stopped`, `gone` (programs still have it open), `removed` or `failed STATUS` (hexadecimal) |
//! | `printer ready`, `busy`, `paper-out`, `off-line`, `cover-open`, `power-off`, `unconnected` | the printer's condition from now on | |
//! | `printer dead` | the printer answers nothing more, ever | |
//! | `printer behave` | ends `dead` and `stall`; the condition stays | |
//! | `printer stall N` | goes busy for ever after N more bytes | |
//! | `printed` | | the bytes that the printer took since the last `printed`, as they are |
//! | `give HEX` | bytes for the printer to send in a reverse mode | |
//! | `forget port`, `forget port2` | accesses to its registers are remembered from here on, some 100,000 of them | |
//! | `registers port`, … | forgets them | them: the offset from its base, `>` written or `<` read, the byte |
//! | `data port`, … | the same | those that wrote its data register: the bytes, as they are |
//! | `accesses` | | port accesses since the driver was loaded |
//! | `scanner press HEX` | the button sends this report | |
//! | `scanner regs FROM COUNT` | | registers, as HEX |
//! | `scanner set FROM HEX` | sets registers | |
//! | `scanner answer REQUEST HEX` | what other vendor requests are answered with | |
//! | `scanner received` | | data of the last vendor request to it that was not to registers, as HEX |
//! | `scanner written ENDPOINT` | | all bytes written to a bulk OUT endpoint, as they are |
//! | `scanner send ENDPOINT HEX` | queues data on an IN endpoint | |
//! | `scanner stall ENDPOINT N` | the N-th transaction from now is answered with STALL | |
//! | `scanner silent ENDPOINT on`, `off` | answers NAK for ever, or no longer | |
//! | `urbs` | | one line for each URB that ended since the last `urbs`, below it its SETUP packets |
//! | `leaks` | | first line: how many pool blocks parscan has; then a line for each tag, and one for each rule that was broken |
//! | `unload SERVICE` | unloads a driver without devices | NTSTATUS, hexadecimal |
//! | `stop port`, `start port`, … | stops the device as for other resources, or starts it again | NTSTATUS, hexadecimal |
//! | `power port D0`, `D3`, `S0`, `S3`, … `scanner` | tells the device its power state, or the system's | NTSTATUS, hexadecimal |
//!
//! The scanner says that it is a Canon `LiDE` 110 (`USB\VID_04A9&PID_1909`), bulk IN 0x81, bulk OUT 0x02,
//! interrupt IN 0x83. Both ports are `ACPI\PNP0401`, without an interrupt: `port` is at 0x378 with an
//! ECP block at 0x778, and has the printer; `port2` is at 0xD100 with a block at 0xD500, and has a
//! plug that leads data lines 0 to 4 back to the status lines.
//!
//! Rules that the driver breaks, and what it leaves when it is unloaded, are told on Wine's debug
//! output (`WINEDEBUG=+debugstr`), too. At the end of its process Wine does not unload every driver:
//! to see what is left, unplug, and use `unload`.
#![cfg_attr(windows, no_std)]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each block has one reason; the code is a test's, and follows C structures"
)]

#[cfg(windows)]
extern crate alloc;

#[cfg(windows)]
mod bench;
#[cfg(windows)]
mod bus;
#[cfg(windows)]
mod client_memory;
#[cfg(windows)]
mod clock;
#[cfg(windows)]
mod deferred;
#[cfg(windows)]
mod entry;
#[cfg(windows)]
mod files;
#[cfg(windows)]
mod filter;
#[cfg(windows)]
mod hooks;
#[cfg(windows)]
mod irql;
#[cfg(windows)]
mod lock;
#[cfg(windows)]
mod nt;
#[cfg(windows)]
mod port;
#[cfg(windows)]
mod port_io;
#[cfg(windows)]
mod report;
#[cfg(windows)]
mod thread;
#[cfg(windows)]
mod usb;
