//! What an answer must not hold: bytes that were not written, and addresses of the kernel.

use crate::state::{Kernel, Rng};
use crate::{CANARY, Config, IoResult, Machine};

/// What memory is full of before a driver writes it: a sequence in which no byte follows itself, so
/// that a register that reads the same again and again is none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    factor: u8,
    /// Odd: that, and a factor of one more than a multiple of four, let all bytes come before one
    /// comes again.
    step: u8,
}

impl Canary {
    /// What follows `byte`.
    #[must_use]
    pub const fn after(self, byte: u8) -> u8 {
        byte.wrapping_mul(self.factor).wrapping_add(self.step)
    }

    /// Where `bytes` are of the sequence, [`RUN`] or more in a row: offset and length.
    fn find(self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut offset = 0;
        for run in bytes.chunk_by(|byte, next| *next == self.after(*byte)) {
            if run.len() >= RUN {
                found.push((offset, run.len()));
            }
            offset += run.len();
        }
        found
    }
}

/// What old pool is full of with [`Config::canary`].
pub const POOL_CANARY: Canary = Canary {
    factor: 5,
    step: 0x3B,
};

/// What a system buffer is full of behind its input, with [`Config::canary`]. A sequence of its own,
/// so that pool copied into the buffer counts as written there.
pub const BUFFER_CANARY: Canary = Canary {
    factor: 13,
    step: 0x55,
};

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
    canary: Canary,
) -> impl FnMut() -> u8 + use<'a> {
    let canary = config.canary.then_some(canary);
    // What drivers seldom write last.
    let mut last = 0x9D;
    move || {
        last = canary.map_or_else(|| rng.byte(), |it| it.after(last));
        last
    }
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
        let old = [POOL_CANARY, BUFFER_CANARY].map(|canary| canary.find(answer));
        let mut leaks: Vec<Leak> = old
            .into_iter()
            .flatten()
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

#[cfg(test)]
mod tests {
    use super::{BUFFER_CANARY, POOL_CANARY};

    #[test]
    fn a_register_that_reads_the_same_again_and_again_is_no_leak() {
        for canary in [POOL_CANARY, BUFFER_CANARY] {
            for byte in 0..=u8::MAX {
                assert_eq!(canary.find(&[byte; 32]), [], "{byte:#04X}");
            }
        }
    }

    #[test]
    fn what_was_not_written_is_found_between_what_was() {
        let mut bytes = [0; 16];
        for place in 5..12 {
            bytes[place] = POOL_CANARY.after(bytes[place - 1]);
        }
        assert_eq!(POOL_CANARY.find(&bytes), [(4, 8)]);
        assert_eq!(BUFFER_CANARY.find(&bytes), []);
    }
}
