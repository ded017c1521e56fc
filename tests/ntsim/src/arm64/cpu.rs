//! The processor: what the driver cannot do in a user process, on ARM64.
//!
//! As on x64, the signal handler does no work of its own: it makes the faulting thread continue in a
//! stub that saves all registers and calls [`trap_entry`] on the driver's own stack. User memory
//! faults always ([`user`]): a good touch is carried out in the instruction's place, a bad one is an
//! exception ([`seh`]). Any other fault is a broken rule. All registers can be loaded at once by a
//! signal handler only, so [`resume`] ends in a breakpoint, which it knows.

use core::arch::{asm, naked_asm};
use std::cell::Cell;

use crate::fault::Signals;
use crate::mem::{Va, peek, poke};
use crate::rules;
use crate::state::{fail, fail_with, with};
use crate::unwind::Registers;
use crate::walk::{Place, va};
use crate::{NtStatus, seh, signals, user};

#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    signal: i32,
    address: Va,
    pc: Va,
    overflow: bool,
}

const SIGNALS: Signals = Signals {
    illegal: "illegal instruction, or a privileged one",
    arithmetic: "arithmetic error",
    breakpoint: "breakpoint (a Rust panic or abort, and __fastfail, end in one)",
};

thread_local! {
    /// Bounds of the running coroutine's stack; top 0 = none runs.
    static STACK: Cell<(Va, Va)> = const { Cell::new((0, 0)) };
    static FAULT: Cell<Fault> = const { Cell::new(Fault { signal: 0, address: 0, pc: 0, overflow: false }) };
}

/// Lowest and highest address of a thread's stack.
#[derive(Clone, Copy)]
pub(crate) struct Stacks {
    /// The machine's, and the driver's, too.
    pub host: (Va, Va),
    /// The same.
    pub driver: (Va, Va),
}

/// The scheduler tells on which stack the thread runs from now on.
pub(crate) fn set_stacks(stacks: Stacks) -> Stacks {
    let host = STACK.replace(stacks.host);
    Stacks { host, driver: host }
}

/// There is no single step here: a watch sees kernel calls only.
pub(crate) const fn set_watched(_code: (Va, Va)) {}

/// Not asked: every routine is called in the same way.
pub(crate) const fn is_own_code(_at: Va) -> bool {
    false
}

/// Not asked.
pub(crate) const fn touches_memory(_at: Va) -> bool {
    true
}

/// Not used: all functions run on one stack.
pub(crate) const DIRECT: u32 = 63;

/// Forgets what belongs to another machine.
pub(crate) fn reset() {
    user::reset();
}

const _: () = {
    assert!(core::mem::offset_of!(Registers, sp) == 0xF8);
    assert!(core::mem::offset_of!(Registers, pc) == 0x100);
    assert!(core::mem::offset_of!(Registers, v) == 0x110);
};

/// All vector registers, to or from [`Registers`] at x0.
macro_rules! vectors {
    ($op:literal) => {
        concat!(
            "add x1, x0, #0x110\n",
            $op,
            " q0, q1, [x1, #0x00]\n",
            $op,
            " q2, q3, [x1, #0x20]\n",
            $op,
            " q4, q5, [x1, #0x40]\n",
            $op,
            " q6, q7, [x1, #0x60]\n",
            $op,
            " q8, q9, [x1, #0x80]\n",
            $op,
            " q10, q11, [x1, #0xA0]\n",
            $op,
            " q12, q13, [x1, #0xC0]\n",
            $op,
            " q14, q15, [x1, #0xE0]\n",
            $op,
            " q16, q17, [x1, #0x100]\n",
            $op,
            " q18, q19, [x1, #0x120]\n",
            $op,
            " q20, q21, [x1, #0x140]\n",
            $op,
            " q22, q23, [x1, #0x160]\n",
            $op,
            " q24, q25, [x1, #0x180]\n",
            $op,
            " q26, q27, [x1, #0x1A0]\n",
            $op,
            " q28, q29, [x1, #0x1C0]\n",
            $op,
            " q30, q31, [x1, #0x1E0]\n",
        )
    };
}

/// Continues a trapped instruction. The handler has saved the general registers where x0 and the
/// stack pointer point.
#[unsafe(naked)]
extern "C" fn trap_stub() {
    naked_asm!(
        vectors!("stp"),
        "bl {entry}",
        "mov x0, sp",
        "b {resume}",
        entry = sym trap_entry,
        resume = sym resume,
    )
}

/// Goes on with these registers; what is on the stack below is abandoned.
#[unsafe(naked)]
pub(crate) extern "C" fn resume(registers: &Registers) -> ! {
    naked_asm!(
        vectors!("ldp"),
        ".hidden ntsim_resume",
        ".globl ntsim_resume",
        "ntsim_resume:",
        "brk #1",
    )
}

unsafe extern "C" {
    #[link_name = "ntsim_resume"]
    fn resume_point();
}

/// What the exports that raise exceptions go through: x16 = the function that does the work and
/// gives an NTSTATUS to raise, or 0 to return to the driver.
#[unsafe(naked)]
pub(crate) extern "C" fn raising_entry() {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "blr x16",
        "ldp x29, x30, [sp], #16",
        "cbnz w0, 2f",
        "ret",
        "2:",
        "b {raise}",
        raise = sym raise_from_call,
    )
}

extern "C" fn raise_from_call(status: u32) -> ! {
    fail(
        rules::UNSUPPORTED,
        format!("a kernel function raises {}", NtStatus(status)),
    )
}

/// Where every import stub goes: w17 = index of the export. Checks the call, then continues in the
/// function with all arguments as they were.
#[unsafe(naked)]
extern "C" fn import_entry() {
    naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "stp x0, x1, [sp, #-80]!",
        "stp x2, x3, [sp, #16]",
        "stp x4, x5, [sp, #32]",
        "stp x6, x7, [sp, #48]",
        "str x8, [sp, #64]",
        "mov w0, w17",
        // Where the return address is; above it is the caller's stack.
        "add x1, sp, #88",
        "mov x2, x29",
        "bl {entry}",
        "mov x16, x0",
        "ldr x8, [sp, #64]",
        "ldp x6, x7, [sp, #48]",
        "ldp x4, x5, [sp, #32]",
        "ldp x2, x3, [sp, #16]",
        "ldp x0, x1, [sp], #80",
        "ldp x29, x30, [sp], #16",
        "br x16",
        entry = sym crate::nt::on_call,
    )
}

/// Writes an import's stub: it hands the selector to [`import_entry`].
pub(crate) fn write_stub(at: Va, selector: u32) {
    let (low, high) = (selector & 0xFFFF, selector >> 16);
    poke(at, 0x5280_0011 | low << 5); // movz w17, #low
    poke(at + 4, 0x72A0_0011 | high << 5); // movk w17, #high, lsl #16
    poke(at + 8, 0x5800_0050_u32); // ldr x16, the word 8 bytes ahead
    poke(at + 12, 0xD61F_0200_u32); // br x16
    poke(at + 16, import_entry as *const () as usize);
}

/// Makes the processor see code that was written as data.
pub(crate) fn sync_code(start: Va, len: usize) {
    for at in (start..start + len).step_by(16) {
        // SAFETY: cache maintenance by address of mapped memory; nothing is changed.
        unsafe {
            asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", in(reg) at, options(nostack, preserves_flags));
        }
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Where the thunk of an import in an image leads: `adrp x16`, `ldr x16`, `br x16`.
pub(crate) fn stub_target(at: Va) -> Va {
    let (adrp, load): (u32, u32) = (peek(at), peek(at + 4));
    if adrp & 0x9F00_001F != 0x9000_0010 || load & 0xFFC0_03FF != 0xF940_0210 {
        return at;
    }
    let pages = (adrp >> 5 & 0x7_FFFF) << 2 | adrp >> 29 & 3;
    let signed = (pages << 11).cast_signed() as isize >> 11;
    let page = (at & !0xFFF).wrapping_add_signed(signed << 12);
    peek(page + 8 * (load >> 10 & 0xFFF) as usize)
}

/// Installs the handlers (once a process) and this host thread's signal stack.
pub(crate) fn install() {
    signals::install(handler);
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo_t with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: SIGSEGV and its kin carry an address.
    let address = unsafe { info.si_addr() }.expose_provenance();
    if signal == libc::SIGSEGV && crate::pageable::give_back(address) {
        return;
    }
    let (limit, top) = STACK.get();
    if top == 0 {
        // Not in a driver: this process' own fault. Die as without us.
        // SAFETY: plain system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the kernel passes a ucontext_t with SA_SIGINFO.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let machine = &mut context.uc_mcontext;
    if signal == libc::SIGTRAP && va(machine.pc) == resume_point as *const () as usize {
        // The vector registers are loaded already.
        let registers: Registers = peek(va(machine.regs[0]));
        machine.regs = registers.x;
        machine.sp = registers.sp;
        machine.pc = registers.pc;
        machine.pstate = registers.pstate;
        return;
    }
    let pc = va(machine.pc);
    let mut sp = va(machine.sp);
    let overflow = sp < limit + 0x2000 || sp > top;
    if overflow {
        // Nothing below: start again at the top of the stack, which will not be returned to.
        sp = top - 0x4000;
    }
    FAULT.set(Fault {
        signal,
        address,
        pc,
        overflow,
    });
    let registers = Registers {
        x: machine.regs,
        sp: machine.sp,
        pc: machine.pc,
        pstate: machine.pstate,
        ..Registers::default()
    };
    // Below what a leaf function may use under its stack pointer.
    let slot = (sp - 128 - size_of::<Registers>()) & !15;
    poke(slot, registers);
    machine.regs[0] = slot as u64;
    machine.sp = slot as u64;
    machine.pc = trap_stub as *const () as u64;
}

extern "C" fn trap_entry(frame: &mut Registers) {
    let fault = FAULT.get();
    let touch = fault.signal == libc::SIGSEGV && fault.address != fault.pc;
    if touch && !fault.overflow && user::is_user(fault.address) && !crate::state::is_borrowed() {
        let known =
            crate::nt::copy::contains(fault.pc) || with(|k| k.driver_at(fault.pc)).is_some();
        if known && touched(frame, fault) {
            return;
        }
    }
    explain(frame, fault)
}

/// A driver's instruction touches user memory. Whether it goes on; an exception that no handler
/// takes comes back here.
fn touched(frame: &mut Registers, fault: Fault) -> bool {
    let start = *frame;
    let guarded = with(|k| seh::guarded(k, &start));
    let Some(access) = Access::decode(peek(fault.pc)) else {
        fail(
            rules::UNSUPPORTED,
            format!(
                "user memory at {:#x} touched by another than a simple load or store",
                fault.address
            ),
        );
    };
    let at = access.address(frame);
    let touch = user::Touch {
        va: at,
        len: access.size,
        write: access.write,
        guarded,
    };
    match user::judge(touch) {
        Ok(()) => {
            access.carry_out(frame, at);
            frame.pc += 4;
            true
        }
        Err((status, _)) => {
            seh::dispatch(status, &start);
            false
        }
    }
}

/// A load or store of one general register, with an immediate offset.
struct Access {
    size: usize,
    write: bool,
    base: usize,
    register: usize,
    /// Where the access is, from the base.
    before: i64,
    /// What is added to the base.
    kept: i64,
}

impl Access {
    fn decode(instruction: u32) -> Option<Self> {
        let field = |from: u32, bits: u32| instruction >> from & ((1 << bits) - 1);
        let opcode = field(22, 2);
        // No vector registers, and no loads that extend a sign.
        if field(26, 1) != 0 || opcode > 1 {
            return None;
        }
        let size = 1_usize << field(30, 2);
        let (before, kept) = match (field(24, 6), field(21, 1), field(10, 2)) {
            (0b11_1001, ..) => (i64::from(field(10, 12) << field(30, 2)), 0),
            (0b11_1000, 0, mode) => {
                let offset = i64::from((field(12, 9) << 23).cast_signed() >> 23);
                match mode {
                    0 => (offset, 0),
                    1 => (0, offset),
                    3 => (offset, offset),
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(Self {
            size,
            write: opcode == 0,
            base: field(5, 5) as usize,
            register: field(0, 5) as usize,
            before,
            kept,
        })
    }

    fn address(&self, frame: &Registers) -> Va {
        let base = frame.x.get(self.base).copied().unwrap_or(frame.sp);
        va(base.wrapping_add_signed(self.before))
    }

    fn carry_out(&self, frame: &mut Registers, at: Va) {
        // Register 31 is zero here.
        let mut value = frame
            .x
            .get(self.register)
            .copied()
            .unwrap_or(0)
            .to_le_bytes();
        let buffer = value.as_mut_ptr().expose_provenance();
        if !self.write {
            poke(buffer, 0_u64);
        }
        for i in 0..self.size {
            if self.write {
                user::copy_byte(buffer + i, at + i);
            } else {
                user::copy_byte(at + i, buffer + i);
            }
        }
        if !self.write
            && let Some(register) = frame.x.get_mut(self.register)
        {
            *register = peek(buffer);
        }
        let base = frame.x.get_mut(self.base).unwrap_or(&mut frame.sp);
        *base = base.wrapping_add_signed(self.kept);
    }
}

/// Whether an instruction that may touch memory writes it.
const fn writes(instruction: u32) -> bool {
    match instruction >> 27 & 7 {
        // Pairs, exclusive ones.
        0b101 | 0b001 => instruction >> 22 & 1 == 0,
        // Single registers; of vectors, 10 stores all of it.
        0b111 => matches!(
            (instruction >> 22 & 3, instruction >> 26 & 1),
            (0, _) | (2, 1)
        ),
        _ => false,
    }
}

/// Names what a fault means. Never returns.
fn explain(frame: &Registers, fault: Fault) -> ! {
    crate::state::abandon_borrow();
    let fetch = fault.signal == libc::SIGSEGV && fault.address == fault.pc;
    let place = |rip: Va| Place {
        rip,
        rsp: va(frame.sp),
        rbp: va(frame.x[29]),
    };
    let (stack, in_code) = with(|k| {
        let in_code = k.is_code(fault.pc);
        let stack = if fault.overflow {
            vec![fault.pc]
        } else if fetch && !in_code {
            // A call of what is no code.
            k.fault_stack(place(va(frame.x[30])), true)
        } else if in_code {
            k.fault_stack(place(fault.pc), false)
        } else {
            // In a kernel function that the driver called.
            k.call_stack()
        };
        (stack, in_code)
    });
    let access = if fetch {
        "execute"
    } else if in_code && writes(peek(fault.pc)) {
        "write"
    } else {
        "access"
    };
    let (rule, what) = with(|k| {
        if fault.overflow {
            return (rules::FAULT, "kernel stack overflow".to_owned());
        }
        if let Some(broken) = SIGNALS.name(fault.signal) {
            return broken;
        }
        crate::fault::name(k, fault.address, access)
    });
    fail_with(rule, what, &stack)
}
