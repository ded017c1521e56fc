//! What an answer must not hold: bytes that were not written, and addresses of the kernel.

use crate::state::{Kernel, Rng};
use crate::{CANARY, Config, IoResult, Machine};

/// What old pool is full of with [`Config::canary`].
pub const POOL_CANARY: u8 = 0xC5;

/// What a system buffer is full of behind its input, with [`Config::canary`]. A byte of its own, so
/// that pool copied into the buffer counts as written there.
pub const BUFFER_CANARY: u8 = 0xC6;

/// So many canaries in a row are no accident.
const RUN: usize = 4;

/// A finding in a caller's output buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Offset of its first byte.
    pub offset: usize,
    /// What it is.
    pub kind: LeakKind,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeakKind {
    /// So many bytes of kernel memory that the driver never wrote.
    Old {
        /// How many.
        length: usize,
    },
    /// An address in the kernel's part of the machine.
    Address {
        /// The address.
        value: usize,
        /// What lies there.
        what: String,
    },
    /// So many bytes beyond `Information` that are not as the caller left them.
    Beyond {
        /// How many.
        length: usize,
    },
}

/// The bytes that memory with old content gets.
pub(crate) fn old_content<'a>(
    config: &Config,
    rng: &'a mut Rng,
    canary: u8,
) -> impl FnMut() -> u8 + use<'a> {
    let canary = config.canary.then_some(canary);
    move || canary.unwrap_or_else(|| rng.byte())
}

/// Runs of `wanted` bytes: offset and length.
fn runs(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if !wanted(*byte) {
            if start < i {
                found.push((start, i - start));
            }
            start = i + 1;
        }
    }
    if start < bytes.len() {
        found.push((start, bytes.len() - start));
    }
    found
}

/// What lies at an address that no user may learn.
fn kernel_place(k: &Kernel, va: usize) -> Option<String> {
    if k.mem.contains(va) {
        let block = k.mem.find(va)?;
        let kind = crate::fault::describe(block.kind);
        return Some(format!(
            "{kind} +{:#x}",
            va.wrapping_sub(block.va).cast_signed()
        ));
    }
    if let Some((name, rva)) = k.locate(va) {
        return Some(format!("{name}+{rva:#x}"));
    }
    let mut stacks = k.sched.stack_ranges();
    let on_stack = stacks.any(|(limit, top)| (limit..top).contains(&va));
    on_stack.then(|| "a kernel stack".to_owned())
}

impl Machine {
    /// What the answer to a request should not hold: addresses of kernel memory, images and stacks
    /// at any byte offset; kernel memory that was not written (with [`Config::canary`]); and bytes
    /// beyond `Information`, or any with an error status, that are not the caller's own any more.
    #[must_use]
    pub fn leaks(&self, result: &IoResult) -> Vec<Leak> {
        let given = if result.status.is_error() {
            0
        } else {
            result.information.min(result.output.len())
        };
        let (answer, rest) = result.output.split_at(given);
        let old = [POOL_CANARY, BUFFER_CANARY].map(|canary| runs(answer, |b| b == canary));
        let mut leaks: Vec<Leak> = old
            .into_iter()
            .flatten()
            .filter(|(_, length)| *length >= RUN)
            .map(|(offset, length)| Leak {
                offset,
                kind: LeakKind::Old { length },
            })
            .collect();
        self.with(|k| {
            for (offset, window) in result.output.windows(8).enumerate() {
                let value = window.iter().rev().fold(0, |v, b| v << 8 | usize::from(*b));
                if let Some(what) = kernel_place(k, value) {
                    leaks.push(Leak {
                        offset,
                        kind: LeakKind::Address { value, what },
                    });
                }
            }
        });
        for (offset, length) in runs(rest, |b| b != CANARY) {
            leaks.push(Leak {
                offset: given + offset,
                kind: LeakKind::Beyond { length },
            });
        }
        leaks
    }
}
