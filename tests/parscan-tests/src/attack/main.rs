//! `attack`: programs, devices and the system do what they should not, all at once.
//!
//! `cargo xtask attack` builds what it needs and runs it. Each session is a machine of its own with
//! the shipping image on it, a port, a scanner, several programs, and at times a kernel client; its
//! seed decides all that happens. A broken rule, an answer that tells too much, and anything left at
//! the end are violations. The basic blocks of the image that a session reaches are counted.
//!
//! It is for x64: blocks are counted by their first instruction.
#![allow(missing_docs, reason = "a program")]

#[cfg(target_arch = "x86_64")]
mod counters;
#[cfg(target_arch = "x86_64")]
mod dice;
#[cfg(target_arch = "x86_64")]
mod hardware;
#[cfg(target_arch = "x86_64")]
mod kernel_client;
#[cfg(target_arch = "x86_64")]
mod life;
#[cfg(target_arch = "x86_64")]
mod lines;
#[cfg(target_arch = "x86_64")]
mod program;
#[cfg(target_arch = "x86_64")]
mod report;
#[cfg(target_arch = "x86_64")]
mod requests;
#[cfg(target_arch = "x86_64")]
mod session;
#[cfg(target_arch = "x86_64")]
mod system;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    program::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    eprintln!("attack runs the x64 image");
    std::process::ExitCode::FAILURE
}
