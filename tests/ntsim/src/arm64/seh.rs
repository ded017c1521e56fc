//! Structured exceptions: what Windows on ARM64 does with one that driver code caused.
//!
//! The frames are looked at from the inside out, as on x64. Of the handlers only
//! `__C_specific_handler` is known, and of its scopes those that take every exception (filter 1,
//! `EXCEPTION_EXECUTE_HANDLER`): what a driver without C has. Anything else stops the machine as not
//! simulated.
//!
//! A user-mode address is the only one whose fault is an exception. A bad kernel address stops
//! Windows, whatever handler there is.

use crate::NtStatus;
use crate::cpu::{resume, stub_target};
use crate::mem::{Va, peek};
use crate::nt::copy;
use crate::rules;
use crate::state::{Kernel, fail, with};
use crate::unwind::{EHANDLER, Registers, leave};

/// Where execution goes on.
struct Target {
    /// As they are in the frame that has the handler.
    registers: Registers,
    pc: Va,
}

/// The innermost handler of a driver's frame around an instruction.
fn find(k: &Kernel, start: &Registers) -> Result<Option<Target>, String> {
    let mut at = *start;
    // The first is the instruction itself, the others are where calls return to.
    let mut call = 0;
    loop {
        let pc = at.rip();
        if copy::contains(pc) {
            // The kernel's copy routines: leaf functions.
            copy::leave(&mut at);
            at.pop();
            call = 4;
            continue;
        }
        let Some(image) = k
            .drivers
            .iter()
            .filter_map(|d| d.image.as_ref())
            .find(|i| i.contains(pc))
        else {
            return Ok(None);
        };
        let here = at;
        let Some(function) = leave(image, pc - call, &mut at, k.sched.stack_top()) else {
            return Ok(None);
        };
        if function.flags & EHANDLER != 0 {
            if stub_target(function.handler) != c_specific_handler as *const () as usize {
                return Err("a language handler other than __C_specific_handler".to_owned());
            }
            // Count, then begin, end, filter and target of each scope, all RVAs.
            for index in 0..peek::<u32>(function.data) as usize {
                let part = |n: usize| peek::<u32>(function.data + 4 + 16 * index + 4 * n) as usize;
                let scope = image.base + part(0)..image.base + part(1);
                if !scope.contains(&(pc - call)) {
                    continue;
                }
                if part(2) != 1 || part(3) == 0 {
                    return Err("an exception filter, or a __finally block".to_owned());
                }
                return Ok(Some(Target {
                    registers: here,
                    pc: image.base + part(3),
                }));
            }
        }
        at.pop();
        call = 4;
    }
}

/// Whether a handler of a driver's frame may take an exception that happens at `at`.
pub(crate) fn guarded(k: &Kernel, at: &Registers) -> bool {
    !matches!(find(k, at), Ok(None))
}

/// Offers an exception to the driver's frames. Comes back only if none of them takes it.
///
/// Nothing that must be dropped may live in the callers: their stack is abandoned.
pub(crate) fn dispatch(code: NtStatus, start: &Registers) {
    match with(|k| find(k, start)) {
        Ok(Some(mut target)) => {
            target.registers.pc = target.pc as u64;
            target.registers.x[0] = u64::from(code.0);
            with(|k| {
                let caller = k.driver_at(target.pc);
                let thread = k.sched.thread();
                (thread.call, thread.caller) = (0, caller);
            });
            resume(&target.registers)
        }
        Ok(None) => {}
        Err(what) => fail(rules::UNSUPPORTED, what),
    }
}

/// `__C_specific_handler`: known by its address. A driver that calls it breaks a rule.
pub(crate) extern "efiapi" fn c_specific_handler() -> i32 {
    fail(rules::UNSUPPORTED, "__C_specific_handler called by hand")
}
