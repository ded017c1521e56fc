//! The processor: what the driver cannot do in a user process.
//!
//! `in`, `out` and `mov cr8` fault, where the loader has not replaced them ([`crate::patch`]). The
//! signal handler does no work of its own: it makes the faulting thread continue in a stub that
//! saves all registers on the driver's stack and calls [`trap_entry`] on the machine's, where models
//! may allocate and the scheduler may switch. A thread that is watched ([`crate::watch`]) runs driver
//! code with the trap flag set, and comes the same way after every instruction. User memory faults always ([`user`]): a good touch is let through,
//! with the trap flag set for one instruction; a bad one is an exception ([`seh`]). Any other fault
//! is a broken rule.

use core::arch::naked_asm;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use parscan_models::Width;

use crate::fault::Signals;
use crate::mem::{PAGE, Va, peek, poke};
use crate::rules;
use crate::stack::CHARGE;
use crate::state::{fail, fail_with, with};
use crate::trace::EventKind;
use crate::unwind::{RSP, Registers};
use crate::walk::{Place, va};
use crate::{NtStatus, seh, signals, user};

#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    signal: i32,
    trap: i64,
    error: i64,
    address: Va,
    /// The instruction, by its place in the image.
    rip: Va,
    /// Where it really is: the loader may have moved it behind the image.
    at: Va,
    overflow: bool,
}

const SIGNALS: Signals = Signals {
    illegal: "illegal instruction (a Rust panic or abort ends in one)",
    arithmetic: "divide error",
    breakpoint: "breakpoint",
};

thread_local! {
    /// The stacks of the running coroutine.
    static STACKS: Cell<Stacks> = const { Cell::new(Stacks { host: (0, 0), driver: (0, 0) }) };
    /// The code whose instructions a watched thread stops at; empty = none is watched.
    static WATCHED: Cell<(Va, Va)> = const { Cell::new((0, 0)) };
    /// Where a watched thread returns to from a stop: the instruction has yet to run.
    static AGAIN: Cell<Va> = const { Cell::new(0) };
    static FAULT: Cell<Fault> = const { Cell::new(Fault { signal: 0, trap: 0, error: 0, address: 0, rip: 0, at: 0, overflow: false }) };
    static DECODED: RefCell<HashMap<Va, Instruction>> = RefCell::new(HashMap::new());
}

/// Lowest and highest address of both stacks; a top of 0 = no coroutine runs.
#[derive(Clone, Copy)]
pub(crate) struct Stacks {
    /// The machine's.
    pub host: (Va, Va),
    /// The driver's.
    pub driver: (Va, Va),
}

/// The scheduler tells on which stacks the thread runs from now on.
pub(crate) fn set_stacks(stacks: Stacks) -> Stacks {
    STACKS.replace(stacks)
}

/// Stops watched threads at the instructions of this code from now on.
pub(crate) fn set_watched(code: (Va, Va)) {
    WATCHED.set(code);
}

/// Whether an address lies in this program's own code.
pub(crate) fn is_own_code(at: Va) -> bool {
    unsafe extern "C" {
        #[link_name = "__executable_start"]
        static FIRST: u8;
        #[link_name = "etext"]
        static END: u8;
    }
    (&raw const FIRST as usize..&raw const END as usize).contains(&at)
}

/// Forgets decoded instructions (images move between machines).
pub(crate) fn reset() {
    DECODED.with_borrow_mut(HashMap::clear);
    WATCHED.set((0, 0));
    user::reset();
}

/// General registers as `push_registers` leaves them.
#[repr(C)]
pub(crate) struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rcx: u64,
    rax: u64,
    rflags: u64,
    rip: u64,
}

/// Where `fxsave64` puts xmm0.
const FX_XMM: usize = 0xA0;

impl Frame {
    /// The registers at the trap; `fx` is what `fxsave64` stored.
    fn registers(&self, fx: Va) -> Registers {
        let mut general = [
            self.rax, self.rcx, self.rdx, self.rbx, 0, self.rbp, self.rsi, self.rdi, self.r8,
            self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ];
        // Above the frame and the red zone.
        let frame = core::ptr::from_ref(self).expose_provenance();
        general[RSP] = (frame + size_of::<Self>() + 128) as u64;
        Registers {
            general,
            rip: self.rip,
            rflags: self.rflags,
            xmm: peek(fx + FX_XMM),
        }
    }

    fn register(&mut self, r: Register) -> Option<&mut u64> {
        Some(match r {
            Register::RAX => &mut self.rax,
            Register::RCX => &mut self.rcx,
            Register::RDX => &mut self.rdx,
            Register::RBX => &mut self.rbx,
            Register::RBP => &mut self.rbp,
            Register::RSI => &mut self.rsi,
            Register::RDI => &mut self.rdi,
            Register::R8 => &mut self.r8,
            Register::R9 => &mut self.r9,
            Register::R10 => &mut self.r10,
            Register::R11 => &mut self.r11,
            Register::R12 => &mut self.r12,
            Register::R13 => &mut self.r13,
            Register::R14 => &mut self.r14,
            Register::R15 => &mut self.r15,
            _ => return None,
        })
    }
}

/// Makes a [`Frame`] of the registers, below the instruction pointer.
macro_rules! push_registers {
    () => {
        "pushfq
        push rax; push rcx; push rdx; push rbx; push rbp; push rsi; push rdi
        push r8; push r9; push r10; push r11; push r12; push r13; push r14; push r15"
    };
}

/// Takes the registers from a [`Frame`]; the instruction pointer is left.
macro_rules! pop_registers {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9; pop r8
        pop rdi; pop rsi; pop rbp; pop rbx; pop rdx; pop rcx; pop rax
        popfq"
    };
}

/// Saves all registers, calls a function with the [`Frame`] and what `fxsave64` stored, and
/// continues where the frame says. The instruction pointer is above it, below the 128 bytes that
/// System V code may use under its stack pointer.
macro_rules! with_registers {
    ($entry:ident) => {
        naked_asm!(
            push_registers!(),
            "cld",
            "mov rbp, rsp",
            "sub rsp, 528",
            "and rsp, -16",
            "fxsave64 [rsp]",
            "mov rdi, rbp",
            "mov rsi, rsp",
            "call {entry}",
            "fxrstor64 [rsp]",
            "mov rsp, rbp",
            pop_registers!(),
            "ret 128",
            entry = sym $entry,
        )
    };
}

/// The same in driver code: the frame is on its stack, the function runs on the machine's. What it
/// may call of the driver goes below the frame.
macro_rules! with_driver_registers {
    ($entry:ident) => {
        naked_asm!(
            push_registers!(),
            "cld",
            "mov rbp, rsp",
            "mov rbx, rsp",
            "and rbx, -0x10000",
            "mov rsp, [rbx]",
            "push qword ptr [rbx + 8]",
            "lea rax, [rbp - {charge}]",
            "and rax, -16",
            "mov [rbx + 8], rax",
            "sub rsp, 520",
            "fxsave64 [rsp]",
            "mov rdi, rbp",
            "mov rsi, rsp",
            "call {entry}",
            "fxrstor64 [rsp]",
            "add rsp, 520",
            "pop qword ptr [rbx + 8]",
            "mov rsp, rbp",
            pop_registers!(),
            "ret 128",
            entry = sym $entry,
            charge = const CHARGE,
        )
    };
}

/// Continues a trapped instruction of the machine's own code.
#[unsafe(naked)]
extern "C" fn trap_stub() {
    with_registers!(trap_entry)
}

/// Continues a trapped instruction on a driver's stack.
#[unsafe(naked)]
extern "C" fn driver_trap_stub() {
    with_driver_registers!(trap_entry)
}

/// What a call in the place of a port instruction leads to ([`crate::patch`]).
#[unsafe(naked)]
pub(crate) extern "C" fn port_stub() {
    with_driver_registers!(port_entry)
}

extern "C" fn port_entry(frame: &mut Frame, _fx: Va) {
    let back = frame.rip;
    let site = with(|k| {
        let mut images = k.drivers.iter().filter_map(|driver| driver.image.as_ref());
        images.find_map(|image| image.site(va(back)))
    });
    if !site.is_some_and(|instruction| carry_out(frame, &instruction)) {
        fail(
            rules::FAULT,
            "a port instruction that the machine does not know",
        );
    }
    frame.rip = back;
}

/// What the exports that raise exceptions go through: rax = a function with at most four arguments
/// that gives an NTSTATUS to raise, or 0 to return to the driver.
#[unsafe(naked)]
pub(crate) extern "C" fn raising_entry() {
    naked_asm!(
        // A frame as `driver_trap_stub` makes it, for the place of the call. The import stub has
        // made room for it on the driver's stack.
        "sub rsp, 128",
        "push qword ptr [rsp + 128]",
        push_registers!(),
        "mov rbp, rsp",
        "mov rbx, rsp",
        "and rbx, -0x10000",
        "mov rsp, [rbx]",
        "sub rsp, 512 + 32",
        "fxsave64 [rsp + 32]",
        "call rax",
        "test eax, eax",
        "jnz 2f",
        "fxrstor64 [rsp + 32]",
        "test byte ptr [rbx + 16], 1",
        "mov rsp, rbp",
        "jz 3f",
        "or dword ptr [rsp + 120], 0x100",
        "3:",
        pop_registers!(),
        "lea rsp, [rsp + 8 + 128]",
        "ret",
        "2:",
        "mov rdi, rbp",
        "lea rsi, [rsp + 32]",
        "mov edx, eax",
        "call {raise}",
        "ud2",
        raise = sym raise_from_call,
    )
}

/// Raises an exception in the name of a kernel function that the driver called.
extern "C" fn raise_from_call(frame: &Frame, fx: Va, status: u32) -> ! {
    let mut at = frame.registers(fx);
    // As the call leaves it.
    at.general[RSP] += 8;
    let mut record = seh::record(NtStatus(status), seh::NONCONTINUABLE, at.rip(), &[]);
    seh::dispatch(&mut record, &at);
    fail(
        rules::FAULT,
        format!("{} raised, and no handler took it", NtStatus(status)),
    )
}

/// Words of arguments on the driver's stack that a kernel function may have.
const STACK_ARGUMENTS: usize = 12;

/// Where every import stub goes: eax = index of the export. Goes over to the machine's stack, checks
/// the call, runs the function there with all arguments as they were, and comes back.
///
/// From the top: the driver's stack pointer, where its stack went on before, the registers with
/// floating-point arguments, the stack arguments, and the 32 bytes that a Win64 function may use.
#[unsafe(naked)]
extern "C" fn import_entry() {
    naked_asm!(
        "mov [rsp + 8], rcx",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], r8",
        "mov [rsp + 32], r9",
        "mov r10, rsp",
        "mov r11, rsp",
        "and r11, -0x10000",
        "mov rsp, [r11]",
        "push r10",
        "push qword ptr [r11 + 8]",
        "lea rcx, [r10 - {charge}]",
        "and rcx, -16",
        "mov [r11 + 8], rcx",
        "sub rsp, 0xC0",
        "movups [rsp + 0x80], xmm0",
        "movups [rsp + 0x90], xmm1",
        "movups [rsp + 0xA0], xmm2",
        "movups [rsp + 0xB0], xmm3",
        "mov ecx, eax",
        "mov rdx, r10",
        "mov r8, rbp",
        "call {entry}",
        "mov r10, [rsp + 0xC8]",
        "movups xmm0, [rsp + 0x80]",
        "movups xmm1, [rsp + 0x90]",
        "movups xmm2, [rsp + 0xA0]",
        "movups xmm3, [rsp + 0xB0]",
        "btr rax, {direct}",
        "jc 2f",
        "mov rcx, [r10 + 0x28]; mov [rsp + 0x20], rcx",
        "mov rcx, [r10 + 0x30]; mov [rsp + 0x28], rcx",
        "mov rcx, [r10 + 0x38]; mov [rsp + 0x30], rcx",
        "mov rcx, [r10 + 0x40]; mov [rsp + 0x38], rcx",
        "mov rcx, [r10 + 0x48]; mov [rsp + 0x40], rcx",
        "mov rcx, [r10 + 0x50]; mov [rsp + 0x48], rcx",
        "mov rcx, [r10 + 0x58]; mov [rsp + 0x50], rcx",
        "mov rcx, [r10 + 0x60]; mov [rsp + 0x58], rcx",
        "mov rcx, [r10 + 0x68]; mov [rsp + 0x60], rcx",
        "mov rcx, [r10 + 0x70]; mov [rsp + 0x68], rcx",
        "mov rcx, [r10 + 0x78]; mov [rsp + 0x70], rcx",
        "mov rcx, [r10 + 0x80]; mov [rsp + 0x78], rcx",
        "mov rcx, [r10 + 8]",
        "mov rdx, [r10 + 16]",
        "mov r8, [r10 + 24]",
        "mov r9, [r10 + 32]",
        "call rax",
        "mov r10, [rsp + 0xC8]",
        "mov rcx, [rsp + 0xC0]",
        "mov r11, r10",
        "and r11, -0x10000",
        "mov [r11 + 8], rcx",
        "mov rsp, r10",
        "test byte ptr [r11 + 16], 1",
        "jz 3f",
        // The debug trap comes after the instruction behind popfq: in the driver.
        "pushfq",
        "or dword ptr [rsp], 0x100",
        "popfq",
        "3:",
        "ret",
        "2:",
        "mov rsp, r10",
        "mov rcx, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov r8, [rsp + 24]",
        "mov r9, [rsp + 32]",
        "jmp rax",
        entry = sym crate::nt::on_call,
        charge = const CHARGE,
        direct = const DIRECT,
    )
}

/// Writes an import's stub: it hands the selector to [`import_entry`].
pub(crate) fn write_stub(at: Va, selector: u32) {
    poke(at, 0xB8_u8); // mov eax, imm32
    poke(at + 1, selector);
    poke(at + 5, 0x25FF_u16); // jmp [rip + 0]
    poke(at + 7, 0_u32);
    poke(at + 11, import_entry as *const () as usize);
}

/// Makes the processor see code that was written as data: x64 does by itself.
pub(crate) const fn sync_code(_start: Va, _len: usize) {}
/// The bit of what `on_call` gives that says: the function runs on the driver's stack.
pub(crate) const DIRECT: u32 = 63;
const _: () = assert!(0x20 + 8 * STACK_ARGUMENTS == 0x80);

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
    let stacks = STACKS.get();
    if stacks.host.1 == 0 {
        // Not in a driver: this process' own fault. Die as without us.
        // SAFETY: plain system call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the kernel passes a ucontext_t with SA_SIGINFO.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let regs = &mut context.uc_mcontext.gregs;
    #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
    let rip = regs[libc::REG_RIP as usize].cast_unsigned() as usize;
    let mut trap = regs[libc::REG_TRAPNO as usize];
    if signal == libc::SIGTRAP && trap == TRAP_BREAKPOINT && crate::coverage::hit(rip - 1) {
        regs[libc::REG_RIP as usize] -= 1;
        return;
    }
    let flags = &mut regs[libc::REG_EFL as usize];
    let (first, end) = WATCHED.get();
    let watched = end != 0;
    if trap == TRAP_DEBUG && signal == libc::SIGTRAP {
        match user::stepped(rip) {
            Some(false) => return,
            Some(true) if !watched => {
                *flags &= !TRAP_FLAG.cast_signed();
                return;
            }
            _ if !watched => {}
            None if AGAIN.replace(0) == rip => return,
            _ if (first..end).contains(&rip) => {
                if crate::count::instruction(rip - first) {
                    return;
                }
                trap = TRAP_WATCH;
            }
            _ => {
                // The machine, which sets the flag again when it returns; or the way there.
                if rip == import_entry as *const () as usize || crate::stack::is_enter(rip) {
                    *flags &= !TRAP_FLAG.cast_signed();
                }
                return;
            }
        }
    }
    // An instruction that is being let through has faulted again.
    *flags &= !TRAP_FLAG.cast_signed();
    let rsp = regs[libc::REG_RSP as usize].cast_unsigned();
    #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
    let mut rsp = rsp as usize;
    let (limit, top) = stacks.driver;
    let on_driver = (limit..=top).contains(&rsp) || crate::stack::in_guard(limit, rsp);
    let overflow = if on_driver {
        rsp < limit + 0x200 || crate::stack::in_guard(limit, address) && trap == TRAP_PAGE_FAULT
    } else {
        rsp < stacks.host.0 + 0x2000 || rsp > stacks.host.1
    };
    let mut stub = trap_stub as *const () as u64;
    if overflow {
        // Nothing below: start again at the top of the machine's stack, which will not be returned
        // to.
        rsp = stacks.host.1 - 0x4000;
    } else if on_driver {
        stub = driver_trap_stub as *const () as u64;
    }
    FAULT.set(Fault {
        signal,
        trap,
        error: regs[libc::REG_ERR as usize],
        address,
        rip,
        at: rip,
        overflow,
    });
    let slot = rsp - 128 - 8;
    poke(slot, rip);
    regs[libc::REG_RSP as usize] = (slot as u64).cast_signed();
    regs[libc::REG_RIP as usize] = stub.cast_signed();
}

/// Not a trap of the processor: a watched thread's next instruction.
const TRAP_WATCH: i64 = -1;
const TRAP_DEBUG: i64 = 1;
const TRAP_BREAKPOINT: i64 = 3;
const TRAP_GENERAL_PROTECTION: i64 = 13;
const TRAP_PAGE_FAULT: i64 = 14;
/// DF of rflags: string instructions go downwards.
const DIRECTION_FLAG: u64 = 0x400;
/// TF of rflags: a debug trap after the next instruction.
const TRAP_FLAG: u64 = 0x100;

/// Bits of a page fault's error code.
const ERROR_WRITE: i64 = 2;
const ERROR_FETCH: i64 = 16;

extern "C" fn trap_entry(frame: &mut Frame, fx: Va) {
    let mut fault = FAULT.get();
    if fault.trap == TRAP_WATCH {
        crate::watch::at_instruction(fault.rip);
        if step_on(frame) {
            // The flag works from the return to the driver on: one trap before the instruction.
            AGAIN.set(fault.rip);
        }
        return;
    }
    if !crate::state::is_borrowed() {
        let origin = with(|k| {
            let mut images = k.drivers.iter().filter_map(|driver| driver.image.as_ref());
            images.find_map(|image| image.origin(fault.at))
        });
        fault.rip = origin.unwrap_or(fault.at);
    }
    let touch = fault.trap == TRAP_PAGE_FAULT && fault.error & ERROR_FETCH == 0;
    if touch && !fault.overflow && user::is_user(fault.address) && !crate::state::is_borrowed() {
        let known =
            crate::nt::copy::contains(fault.rip) || with(|k| k.driver_at(fault.rip)).is_some();
        if known && touched(frame, fx, fault) {
            step_on(frame);
            return;
        }
    }
    if fault.trap == TRAP_GENERAL_PROTECTION && !crate::state::is_borrowed() {
        let in_image = with(|k| k.driver_at(fault.rip)).is_some();
        if in_image && emulate(frame, fault.at) {
            step_on(frame);
            return;
        }
    }
    explain(frame, fault)
}

/// Sets the trap flag again, if the running thread is watched and goes on in driver code.
fn step_on(frame: &mut Frame) -> bool {
    let rip = va(frame.rip);
    let (first, end) = WATCHED.get();
    let in_code = (first..end).contains(&rip) || crate::nt::copy::contains(rip);
    let on = in_code && with(|k| k.sched.is_stepping());
    if on {
        frame.rflags |= TRAP_FLAG;
    }
    on
}

/// What an instruction does outside the registers of its thread.
pub(crate) fn touches_memory(rip: Va) -> bool {
    let instruction = decode(rip);
    let private = matches!(
        instruction.mnemonic(),
        // A slot of the thread's own stack that has no other name, or nothing at all.
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Ret | Mnemonic::Lea | Mnemonic::Nop
    );
    let operand = |kind: OpKind| {
        !matches!(
            kind,
            OpKind::Register
                | OpKind::NearBranch16
                | OpKind::NearBranch32
                | OpKind::NearBranch64
                | OpKind::Immediate8
                | OpKind::Immediate8_2nd
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    };
    let reaches = (0..instruction.op_count()).any(|n| operand(instruction.op_kind(n)));
    reaches && !private || crate::patch::is_port(&instruction)
}

/// A driver's instruction touches user memory. Whether it goes on; an exception that no handler
/// takes comes back here.
fn touched(frame: &mut Frame, fx: Va, fault: Fault) -> bool {
    let registers = |frame: &Frame| Registers {
        rip: fault.rip as u64,
        ..frame.registers(fx)
    };
    let start = registers(frame);
    let guarded = with(|k| seh::guarded(k, &start));
    let instruction = decode(fault.at);
    let result = match instruction.mnemonic() {
        // Mnemonic::Movsd is also a move of SSE.
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq
            if instruction.is_string_instruction() =>
        {
            move_string(frame, &instruction, guarded)
        }
        _ => touch_once(frame, &instruction, fault, guarded),
    };
    let Err((write, status, bad)) = result else {
        return true;
    };
    // Of an in-page error also what went wrong with the file.
    let information = [
        usize::from(write),
        bad,
        NtStatus::IO_DEVICE_ERROR.0 as usize,
    ];
    let count = if status == NtStatus::IN_PAGE_ERROR {
        3
    } else {
        2
    };
    let now = registers(frame);
    let mut record = seh::record(status, 0, fault.rip, &information[..count]);
    seh::dispatch(&mut record, &now);
    false
}

/// An access that is an exception: whether it is a write, the exception, the address.
type Refused = (bool, NtStatus, Va);

/// Lets one instruction through.
fn touch_once(
    frame: &mut Frame,
    instruction: &Instruction,
    fault: Fault,
    guarded: bool,
) -> Result<(), Refused> {
    let write = fault.error & ERROR_WRITE != 0;
    // What this fault's page has of the operand.
    let before = user::stepping_from(fault.at).map_or(0, |first| fault.address - first);
    let size = instruction.memory_size().size().max(1);
    let room = PAGE - fault.address % PAGE;
    let touch = user::Touch {
        va: fault.address,
        len: size.saturating_sub(before).clamp(1, room),
        write,
        guarded,
    };
    user::judge(touch).map_err(|(status, bad)| (write, status, bad))?;
    user::let_through(fault.at, fault.address, write);
    frame.rflags |= TRAP_FLAG;
    Ok(())
}

/// Carries out `movs`, element by element, as long as one end is in user memory.
fn move_string(frame: &mut Frame, instruction: &Instruction, guarded: bool) -> Result<(), Refused> {
    let size = instruction.memory_size().size();
    let rep = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let step = if frame.rflags & DIRECTION_FLAG == 0 {
        size as u64
    } else {
        (size as u64).wrapping_neg()
    };
    while !rep || frame.rcx != 0 {
        let (from, to) = (va(frame.rsi), va(frame.rdi));
        if !user::is_user(from) && !user::is_user(to) {
            // The processor does the rest.
            return Ok(());
        }
        for (va, write) in [(from, false), (to, true)] {
            if user::is_user(va) {
                let touch = user::Touch {
                    va,
                    len: size,
                    write,
                    guarded,
                };
                user::judge(touch).map_err(|(status, bad)| (write, status, bad))?;
            }
        }
        for i in 0..size {
            user::copy_byte(from + i, to + i);
        }
        frame.rsi = frame.rsi.wrapping_add(step);
        frame.rdi = frame.rdi.wrapping_add(step);
        if !rep {
            break;
        }
        frame.rcx -= 1;
    }
    frame.rip = instruction.next_ip();
    Ok(())
}

/// Names what a fault means. Never returns.
fn explain(frame: &Frame, fault: Fault) -> ! {
    crate::state::abandon_borrow();
    // The stack pointer at the fault: above the frame, the return address and the red zone.
    let rsp = core::ptr::from_ref(frame).expose_provenance() + size_of::<Frame>() + 128;
    #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
    let rbp = frame.rbp as usize;
    let stack = with(|k| {
        if fault.overflow {
            vec![fault.rip]
        } else if fault.error & ERROR_FETCH != 0 && !k.is_code(fault.rip) {
            // A call of what is no code: the return address is on the stack.
            let place = Place {
                rip: peek::<Va>(rsp),
                rsp: rsp + 8,
                rbp,
            };
            k.fault_stack(place, true)
        } else if k.is_code(fault.rip) {
            let place = Place {
                rip: fault.rip,
                rsp,
                rbp,
            };
            k.fault_stack(place, false)
        } else {
            // In a kernel function that the driver called.
            k.call_stack()
        }
    });
    let va = fault.address;
    let access = if fault.error & ERROR_FETCH != 0 {
        "execute"
    } else if fault.error & ERROR_WRITE != 0 {
        "write"
    } else {
        "read"
    };
    let (rule, what) = with(|k| {
        if fault.overflow {
            return (rules::STACK_OVERFLOW, crate::stack::overflow_text());
        }
        if let Some(broken) = SIGNALS.name(fault.signal) {
            return broken;
        }
        if fault.trap == TRAP_GENERAL_PROTECTION {
            return (
                rules::FAULT,
                "general protection fault: privileged instruction, __fastfail or non-canonical address"
                    .to_owned(),
            );
        }
        crate::fault::name(k, va, access)
    });
    fail_with(rule, what, &stack)
}

fn decode(rip: Va) -> Instruction {
    DECODED.with_borrow_mut(|cache| {
        *cache.entry(rip).or_insert_with(|| {
            let bytes = crate::mem::peek_bytes(rip, 15);
            Decoder::with_ip(64, &bytes, rip as u64, DecoderOptions::NONE).decode()
        })
    })
}

fn emulate(frame: &mut Frame, rip: Va) -> bool {
    let instruction = decode(rip);
    let done = carry_out(frame, &instruction);
    if done {
        frame.rip = instruction.next_ip();
    }
    done
}

/// Does what a privileged instruction does.
fn carry_out(frame: &mut Frame, instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::In | Mnemonic::Out => {
            let write = instruction.mnemonic() == Mnemonic::Out;
            let (port_op, value_op) = if write { (0, 1) } else { (1, 0) };
            let port = if instruction.op_kind(port_op) == OpKind::Immediate8 {
                u16::from(instruction.immediate8())
            } else {
                low16(frame.rdx)
            };
            let width = match instruction.op_register(value_op) {
                Register::AL => Width::Byte,
                Register::AX => Width::Word,
                _ => Width::Dword,
            };
            if write {
                access(port, width, Some(low32(frame.rax) & width.floating()));
            } else {
                let value = access(port, width, None);
                frame.rax = merge(frame.rax, value, width);
            }
        }
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => string(frame, instruction),
        Mnemonic::Mov if instruction.op1_register() == Register::CR8 => {
            let irql = u64::from(crate::nt::ke::current_irql());
            let Some(target) = frame.register(instruction.op0_register()) else {
                return false;
            };
            *target = irql;
        }
        Mnemonic::Mov if instruction.op0_register() == Register::CR8 => {
            let Some(source) = frame.register(instruction.op1_register()) else {
                return false;
            };
            let irql = source.to_le_bytes()[0] & 0xF;
            crate::nt::ke::set_irql(irql);
        }
        Mnemonic::Cli | Mnemonic::Sti => fail(
            rules::UNSUPPORTED,
            "cli/sti: a driver has no business with the interrupt flag",
        ),
        _ => return false,
    }
    true
}

fn string(frame: &mut Frame, instruction: &Instruction) {
    let width = match instruction.code() {
        Code::Insb_m8_DX | Code::Outsb_DX_m8 => Width::Byte,
        Code::Insw_m16_DX | Code::Outsw_DX_m16 => Width::Word,
        _ => Width::Dword,
    };
    let write = matches!(
        instruction.mnemonic(),
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd
    );
    let rep = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let step = if frame.rflags & DIRECTION_FLAG == 0 {
        u64::from(width.bytes())
    } else {
        u64::from(width.bytes()).wrapping_neg()
    };
    let port = low16(frame.rdx);
    while !rep || frame.rcx != 0 {
        #[allow(clippy::cast_possible_truncation, reason = "64-bit host")]
        if write {
            let at = frame.rsi as usize;
            let value = match width {
                Width::Byte => u32::from(peek::<u8>(at)),
                Width::Word => u32::from(peek::<u16>(at)),
                Width::Dword => peek::<u32>(at),
            };
            access(port, width, Some(value));
            frame.rsi = frame.rsi.wrapping_add(step);
        } else {
            let at = frame.rdi as usize;
            let bytes = access(port, width, None).to_le_bytes();
            crate::mem::poke_bytes(at, &bytes[..usize::from(width.bytes())]);
            frame.rdi = frame.rdi.wrapping_add(step);
        }
        if !rep {
            break;
        }
        frame.rcx -= 1;
    }
}

const fn low16(value: u64) -> u16 {
    let b = value.to_le_bytes();
    u16::from_le_bytes([b[0], b[1]])
}

const fn low32(value: u64) -> u32 {
    let b = value.to_le_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

const fn merge(old: u64, value: u32, width: Width) -> u64 {
    match width {
        Width::Byte => (old & !0xFF) | value as u64 & 0xFF,
        Width::Word => (old & !0xFFFF) | value as u64 & 0xFFFF,
        Width::Dword => value as u64,
    }
}

fn access(port: u16, width: Width, write: Option<u32>) -> u32 {
    if let Some((rule, what)) = with(|k| crate::power::check_port(k, port)) {
        crate::state::fail(rule, what);
    }
    crate::points::reach(crate::Point::Port);
    let (found, now) = with(|k| {
        let cost = k.config.port_access_ns;
        k.now += cost;
        k.cpu_time += cost;
        k.ports.accesses += 1;
        let found = k.ports.find(port);
        if found.is_none() {
            k.ports.unanswered += 1;
        }
        (found, k.now)
    });
    let answered = found.is_some();
    // A model's panic must not unwind through the driver.
    let attempt = std::panic::AssertUnwindSafe(|| crate::ports::access(found, now, width, write));
    let (value, held_until) = match std::panic::catch_unwind(attempt) {
        Ok(done) => done,
        Err(panic) => {
            with(|k| k.panic = Some(panic));
            crate::sched::end_thread()
        }
    };
    #[allow(clippy::cast_possible_truncation, reason = "1, 2 or 4")]
    let bytes = width.bytes() as u8;
    with(|k| {
        if held_until > k.now {
            k.cpu_time += held_until - k.now;
            k.now = held_until;
        }
        if k.config.trace_ports {
            k.event(EventKind::Port {
                write: write.is_some(),
                port,
                bytes,
                value,
            });
            if !answered {
                k.note(format!("no device answers on port {port:#06x}"));
            }
        }
    });
    crate::sched::tick();
    value
}
