//! Structured exceptions: what Windows x64 does with one that driver code caused.
//!
//! Two passes over the frames, as Microsoft's "x64 exception handling" page tells: the first asks
//! each frame's language handler, from the inside out; the one that wants the exception starts the
//! second, which leaves the frames in between and goes on in the handler's own. Only frames of
//! drivers are looked at, up to the machine function that called the driver: an exception that a
//! driver lets pass is a broken rule, not something for the driver above.
//!
//! A user-mode address is the only one whose fault is an exception. A bad kernel address stops
//! Windows, whatever handler there is.

use core::arch::naked_asm;

use windows_sys::Win32::System::Diagnostics::Debug::{
    CONTEXT, DISPATCHER_CONTEXT, EXCEPTION_POINTERS, EXCEPTION_RECORD,
};

use crate::NtStatus;
use crate::mem::{Va, peek, poke};
use crate::nt::{copy, guest};
use crate::rules;
use crate::state::{Kernel, fail, status_of, with};
use crate::unwind::{EHANDLER, Function, Registers, UHANDLER, leave};
use crate::walk::va;

// `ExceptionFlags`.
numbers! { pub(crate) u32:
    /// `EXCEPTION_NONCONTINUABLE`
    NONCONTINUABLE => 1,
    /// `EXCEPTION_UNWINDING`: the frames are being left.
    UNWINDING => 2,
    /// `EXCEPTION_TARGET_UNWIND`: and this is the one where execution goes on.
    TARGET_UNWIND => 0x20,
}

// `EXCEPTION_DISPOSITION`.
numbers! { i32:
    CONTINUE_EXECUTION => 0,
    CONTINUE_SEARCH => 1,
}

/// A frame of a driver.
struct Frame {
    /// Where it is.
    control_pc: Va,
    base: Va,
    function: Function,
}

/// Goes one frame outwards. `None`: there is no further frame of a driver.
fn step(k: &Kernel, at: &mut Registers) -> Option<Frame> {
    let control_pc = at.rip();
    if copy::contains(control_pc) {
        // The kernel's copy routines: leaf functions, whose registers are put aside like this.
        copy::leave(at);
        at.pop();
        return Some(Frame {
            control_pc,
            base: 0,
            function: Function::default(),
        });
    }
    let image = k
        .drivers
        .iter()
        .filter_map(|d| d.image.as_ref())
        .find(|i| i.contains(control_pc))?;
    let function = leave(image, control_pc, at, k.sched.stack_top())?;
    at.pop();
    Some(Frame {
        control_pc,
        base: image.base,
        function,
    })
}

/// A `SCOPE_TABLE` of `__C_specific_handler`: count, then begin, end, handler and target of each
/// scope, all RVAs. Inner scopes come first.
#[derive(Clone, Copy)]
struct Scopes {
    table: Va,
    base: Va,
    control_pc: Va,
}

#[derive(Clone, Copy)]
struct Scope {
    /// Filter (or 1) of an `__except`, routine of a `__finally`.
    handler: u32,
    /// Where an `__except` goes on; 0 = `__finally`.
    target: u32,
}

impl Scopes {
    fn count(self) -> u32 {
        peek(self.table)
    }

    fn part(self, index: u32, part: usize) -> u32 {
        peek(self.table + 4 + 16 * index as usize + 4 * part)
    }

    fn contains(self, index: u32, pc: Va) -> bool {
        let (begin, end) = (self.part(index, 0), self.part(index, 1));
        (self.base + begin as usize..self.base + end as usize).contains(&pc)
    }

    /// The scope with this number, if the frame is inside it.
    fn around(self, index: u32) -> Option<Scope> {
        self.contains(index, self.control_pc).then(|| Scope {
            handler: self.part(index, 2),
            target: self.part(index, 3),
        })
    }
}

/// Whether a handler of a driver's frame may take an exception that happens at `at`.
pub(crate) fn guarded(k: &Kernel, at: &Registers) -> bool {
    let mut at = *at;
    while let Some(frame) = step(k, &mut at) {
        let function = frame.function;
        if function.flags & EHANDLER == 0 {
            continue;
        }
        if !is_c_specific(function.handler) {
            return true;
        }
        let scopes = Scopes {
            table: function.data,
            base: frame.base,
            control_pc: frame.control_pc,
        };
        if (0..scopes.count()).any(|i| scopes.around(i).is_some_and(|s| s.target != 0)) {
            return true;
        }
    }
    false
}

/// Whether a language handler is the import stub of `__C_specific_handler`: `jmp [rip + n]`.
fn is_c_specific(handler: Va) -> bool {
    let own = c_specific_handler as *const () as usize;
    if handler == own {
        return true;
    }
    if peek::<u16>(handler) != 0x25FF {
        return false;
    }
    let slot = (handler + 6).wrapping_add_signed(peek::<i32>(handler + 2) as isize);
    peek::<Va>(slot) == own
}

/// A record for [`dispatch`]. The information of an access violation is 0 or 1 for a read or a
/// write, and the address.
pub(crate) fn record(
    code: NtStatus,
    flags: u32,
    at: Va,
    information: &[usize],
) -> EXCEPTION_RECORD {
    let mut record = EXCEPTION_RECORD {
        ExceptionCode: code.raw(),
        ExceptionFlags: flags,
        ExceptionAddress: core::ptr::with_exposed_provenance_mut(at),
        ..EXCEPTION_RECORD::default()
    };
    for (slot, value) in record.ExceptionInformation.iter_mut().zip(information) {
        *slot = *value;
        record.NumberParameters += 1;
    }
    record
}

/// Offers an exception to the driver's frames. Comes back only if none of them takes it.
///
/// Nothing that must be dropped may live in the callers: their stack is abandoned.
pub(crate) fn dispatch(record: &mut EXCEPTION_RECORD, start: &Registers) {
    let mut context = context_of(start);
    let mut at = *start;
    while let Some(frame) = with(|k| step(k, &mut at)) {
        if frame.function.flags & EHANDLER == 0 {
            continue;
        }
        match ask(&frame, record, &mut context, 0) {
            CONTINUE_SEARCH => {}
            CONTINUE_EXECUTION if record.ExceptionFlags & NONCONTINUABLE == 0 => {
                resume(&registers_of(&context));
            }
            other => fail(
                rules::FAULT,
                format!("an exception handler answered {other}, which cannot be done"),
            ),
        }
    }
}

/// Calls a frame's language handler.
fn ask(frame: &Frame, record: &mut EXCEPTION_RECORD, context: &mut CONTEXT, target_ip: Va) -> i32 {
    let mut dispatcher = DISPATCHER_CONTEXT {
        ControlPc: frame.control_pc as u64,
        ImageBase: frame.base as u64,
        FunctionEntry: core::ptr::with_exposed_provenance_mut(frame.function.entry),
        EstablisherFrame: frame.function.establisher as u64,
        TargetIp: target_ip as u64,
        ContextRecord: context,
        HandlerData: core::ptr::with_exposed_provenance_mut(frame.function.data),
        ..DISPATCHER_CONTEXT::default()
    };
    // LanguageHandler stays empty: the handlers used here know who they are.
    if is_c_specific(frame.function.handler) {
        // Windows' own, which is on this side.
        return c_specific_handler(
            record,
            frame.function.establisher,
            context,
            &raw mut dispatcher,
        );
    }
    let answer = guest(
        frame.function.handler,
        &[
            expose(record),
            frame.function.establisher,
            expose(context),
            expose(&mut dispatcher),
        ],
    );
    status_of(answer).raw()
}

fn expose<T>(value: &mut T) -> Va {
    core::ptr::from_mut(value).expose_provenance()
}

/// `__C_specific_handler`: the language handler of `__try`, and of assembly that says so.
pub(crate) extern "efiapi" fn c_specific_handler(
    record: *mut EXCEPTION_RECORD,
    establisher: Va,
    context: *mut CONTEXT,
    dispatcher: *mut DISPATCHER_CONTEXT,
) -> i32 {
    // SAFETY: `ask` passes all three; a driver that calls this by hand gets its fault named.
    let record = unsafe { &mut *record };
    // SAFETY: as above.
    let context = unsafe { &mut *context };
    // SAFETY: as above.
    let dispatcher = unsafe { &mut *dispatcher };
    let scopes = Scopes {
        table: dispatcher.HandlerData.expose_provenance(),
        base: va(dispatcher.ImageBase),
        control_pc: va(dispatcher.ControlPc),
    };
    if record.ExceptionFlags & UNWINDING != 0 {
        run_finally(scopes, record, establisher, dispatcher);
        return CONTINUE_SEARCH;
    }
    for index in 0..scopes.count() {
        let Some(scope) = scopes.around(index).filter(|s| s.target != 0) else {
            continue;
        };
        // EXCEPTION_EXECUTE_HANDLER may stand in the table in place of a filter.
        let answer = if scope.handler == 1 {
            1
        } else {
            let mut pointers = EXCEPTION_POINTERS {
                ExceptionRecord: record,
                ContextRecord: context,
            };
            let filter = scopes.base + scope.handler as usize;
            status_of(guest(filter, &[expose(&mut pointers), establisher])).raw()
        };
        if answer < 0 {
            return CONTINUE_EXECUTION;
        }
        if answer > 0 {
            let target = scopes.base + scope.target as usize;
            unwind(establisher, target, record, context);
        }
    }
    CONTINUE_SEARCH
}

/// Runs the `__finally` blocks that are left on the way to an `__except` further out.
fn run_finally(
    scopes: Scopes,
    record: &EXCEPTION_RECORD,
    establisher: Va,
    dispatcher: &mut DISPATCHER_CONTEXT,
) {
    let target = va(dispatcher.TargetIp).wrapping_sub(scopes.base);
    let in_target_frame = record.ExceptionFlags & TARGET_UNWIND != 0;
    while dispatcher.ScopeIndex < scopes.count() {
        let index = dispatcher.ScopeIndex;
        dispatcher.ScopeIndex += 1;
        let Some(scope) = scopes.around(index) else {
            continue;
        };
        if in_target_frame {
            // The block that goes on, or one that also surrounds the place where it goes on.
            let reached = scope.target != 0 && scope.target as usize == target;
            if reached || scopes.contains(index, va(dispatcher.TargetIp)) {
                break;
            }
        }
        if scope.target == 0 {
            guest(scopes.base + scope.handler as usize, &[1, establisher]);
        }
    }
}

/// `RtlUnwindEx`: leaves all frames up to the one whose establisher is `frame`, and goes on at
/// `target` with the exception's code in rax.
fn unwind(frame: Va, target: Va, record: &mut EXCEPTION_RECORD, context: &CONTEXT) -> ! {
    record.ExceptionFlags |= UNWINDING;
    let mut at = registers_of(context);
    loop {
        let mut here = at;
        let Some(now) = with(|k| step(k, &mut at)) else {
            fail(
                rules::FAULT,
                "the frame that an exception shall go on in is gone",
            );
        };
        let last = now.function.establisher == frame && now.base != 0;
        if last {
            record.ExceptionFlags |= TARGET_UNWIND;
        }
        if now.function.flags & UHANDLER != 0 {
            let mut context = context_of(&here);
            let answer = ask(&now, record, &mut context, target);
            if answer != CONTINUE_SEARCH {
                fail(
                    rules::FAULT,
                    format!("a handler answered {answer} while its frame was left"),
                );
            }
        }
        if last {
            here.rip = target as u64;
            here.general[0] = u64::from(record.ExceptionCode.cast_unsigned());
            resume(&here);
        }
    }
}

/// Offset of rax in a `CONTEXT`: the general registers follow in the order of their numbers.
const GENERAL: usize = core::mem::offset_of!(CONTEXT, Rax);
/// Offset of xmm0: `FltSave.XmmRegisters`.
const XMM: usize = core::mem::offset_of!(CONTEXT, Anonymous) + 0xA0;
const _: () = assert!(GENERAL == 0x78 && XMM == 0x1A0 && size_of::<CONTEXT>() == 0x4D0);

/// `CONTEXT_AMD64 | CONTEXT_CONTROL | CONTEXT_INTEGER | CONTEXT_FLOATING_POINT`
const CONTEXT_FULL: u32 = 0x10_000B;

fn context_of(registers: &Registers) -> CONTEXT {
    let mut context = CONTEXT {
        ContextFlags: CONTEXT_FULL,
        Rip: registers.rip,
        ..CONTEXT::default()
    };
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the upper half is reserved"
    )]
    let flags = registers.rflags as u32;
    context.EFlags = flags;
    let at = expose(&mut context);
    poke(at + GENERAL, registers.general);
    poke(at + XMM, registers.xmm);
    context
}

fn registers_of(context: &CONTEXT) -> Registers {
    let at = core::ptr::from_ref(context).expose_provenance();
    Registers {
        general: peek(at + GENERAL),
        rip: context.Rip,
        rflags: u64::from(context.EFlags),
        xmm: peek(at + XMM),
    }
}

/// Goes on in the driver with these registers; what is on the stack below is abandoned.
fn resume(registers: &Registers) -> ! {
    with(|k| {
        let caller = k.driver_at(registers.rip());
        let thread = k.sched.thread();
        (thread.call, thread.caller) = (0, caller);
    });
    let mut registers = *registers;
    if with(|k| k.sched.is_stepping()) {
        // TF
        registers.rflags |= 0x100;
    }
    load(&registers)
}

const _: () = {
    assert!(core::mem::offset_of!(Registers, rip) == 0x80);
    assert!(core::mem::offset_of!(Registers, rflags) == 0x88);
    assert!(core::mem::offset_of!(Registers, xmm) == 0x90);
};

/// Loads all registers. The two words below the new stack pointer are used on the way.
#[unsafe(naked)]
extern "C" fn load(registers: &Registers) -> ! {
    naked_asm!(
        "movups xmm0, [rdi + 0x90]",
        "movups xmm1, [rdi + 0xA0]",
        "movups xmm2, [rdi + 0xB0]",
        "movups xmm3, [rdi + 0xC0]",
        "movups xmm4, [rdi + 0xD0]",
        "movups xmm5, [rdi + 0xE0]",
        "movups xmm6, [rdi + 0xF0]",
        "movups xmm7, [rdi + 0x100]",
        "movups xmm8, [rdi + 0x110]",
        "movups xmm9, [rdi + 0x120]",
        "movups xmm10, [rdi + 0x130]",
        "movups xmm11, [rdi + 0x140]",
        "movups xmm12, [rdi + 0x150]",
        "movups xmm13, [rdi + 0x160]",
        "movups xmm14, [rdi + 0x170]",
        "movups xmm15, [rdi + 0x180]",
        "mov rsp, [rdi + 0x20]",
        "push qword ptr [rdi + 0x80]",
        "push qword ptr [rdi + 0x88]",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 0x08]",
        "mov rdx, [rdi + 0x10]",
        "mov rbx, [rdi + 0x18]",
        "mov rbp, [rdi + 0x28]",
        "mov rsi, [rdi + 0x30]",
        "mov r8, [rdi + 0x40]",
        "mov r9, [rdi + 0x48]",
        "mov r10, [rdi + 0x50]",
        "mov r11, [rdi + 0x58]",
        "mov r12, [rdi + 0x60]",
        "mov r13, [rdi + 0x68]",
        "mov r14, [rdi + 0x70]",
        "mov r15, [rdi + 0x78]",
        "mov rdi, [rdi + 0x38]",
        "popfq",
        "ret",
    )
}
