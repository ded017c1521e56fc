//! What a memory access that the processor refused means.

use crate::mem::{Kind, State, Va};
use crate::pageable;
use crate::rules::{self, Rule};
use crate::seh;
use crate::state::{Kernel, with};
use crate::unwind::Registers;
use crate::walk::Place;

/// The rule that an access (`read`, `write` or `execute`) at `va` breaks, and the words for it.
pub(crate) fn name(k: &Kernel, va: Va, access: &str) -> (Rule, String) {
    if k.mem.contains(va)
        && let Some(b) = k.mem.find(va)
    {
        let offset = va.wrapping_sub(b.va).cast_signed();
        let what = format!(
            "{access} at offset {offset:#x} of a {}-byte block ({}), allocated by {}{}",
            b.size,
            describe(b.kind),
            k.site_name(b.allocated),
            if b.state == State::Freed {
                format!(", freed by {}", k.site_name(b.freed))
            } else {
                String::new()
            }
        );
        let rule = match (b.state, b.kind) {
            (State::Freed, Kind::Irp | Kind::SystemBuffer) => rules::IRP_TOUCHED,
            (State::Freed, _) => rules::POOL_AFTER_FREE,
            (State::Live, _) if b.paged && pageable::is_out() && va < b.va + b.size => {
                rules::PAGED_AT_DISPATCH
            }
            (State::Live, _) => rules::POOL_OVERRUN,
        };
        return (rule, what);
    }
    if pageable::is_out() && k.mem.in_section(va) {
        return (
            rules::PAGED_AT_DISPATCH,
            format!("{access} in a pageable section of the image"),
        );
    }
    if k.user.is_mapped(va) {
        // Code of the machine, which has its own way: a driver gave it a user address.
        let what = format!("{access} at user address {va:#x} by a kernel function");
        return (rules::USER_UNGUARDED, what);
    }
    let place = k.locate(va).map_or_else(
        || k.user.describe_view(va).unwrap_or_default().to_owned(),
        |(name, rva)| format!(" (image {name}+{rva:#x}, protected or unloaded)"),
    );
    let what = if va < 0x1_0000 {
        format!("{access} through a null pointer, address {va:#x}")
    } else {
        format!("{access} at {va:#x}{place}")
    };
    (rules::NULL_ACCESS, what)
}

/// What the processor reports by other signals than those of an access, in words.
pub(crate) struct Signals {
    pub illegal: &'static str,
    pub arithmetic: &'static str,
    pub breakpoint: &'static str,
}

impl Signals {
    /// The rule that such a signal breaks, and the words for it. `None`: an access.
    pub(crate) fn name(&self, signal: i32) -> Option<(Rule, String)> {
        let what = match signal {
            libc::SIGSEGV | libc::SIGBUS => return None,
            libc::SIGILL => self.illegal,
            libc::SIGFPE => self.arithmetic,
            _ => self.breakpoint,
        };
        Some((rules::FAULT, what.to_owned()))
    }
}

/// Whether an exception handler is around the kernel call now running. Needs no full registers: a
/// call's frame is found by what the entry of the kernel's functions noted.
pub(crate) fn call_is_guarded() -> bool {
    with(|k| {
        let thread = k.sched.thread();
        let at = Registers::from(Place {
            rip: thread.call,
            ..thread.call_place
        });
        seh::guarded(k, &at)
    })
}

/// What a block is, in words.
pub(crate) fn describe(kind: Kind) -> String {
    match kind {
        Kind::Pool(tag) => {
            let text: String = tag
                .to_le_bytes()
                .iter()
                .map(|b| {
                    if b.is_ascii_graphic() {
                        char::from(*b)
                    } else {
                        '.'
                    }
                })
                .collect();
            format!("pool, tag '{text}'")
        }
        Kind::Irp => "an IRP".to_owned(),
        Kind::SystemBuffer => "a system buffer".to_owned(),
        Kind::Device => "a device object".to_owned(),
        Kind::WorkItem => "a work item".to_owned(),
        Kind::System(what) => what.to_owned(),
    }
}
