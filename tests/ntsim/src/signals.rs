//! Faults of the driver's code arrive as signals of the host.

use std::sync::Once;

/// What `SA_SIGINFO` asks for.
pub(crate) type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Installs the handler (once a process) and this host thread's signal stack.
pub(crate) fn install(handler: Handler) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGTRAP,
        ] {
            // SAFETY: an all-zero sigaction is a valid start.
            let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            // SAFETY: `handler` has the signature that SA_SIGINFO asks for.
            let r = unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) };
            assert_eq!(r, 0, "sigaction failed");
        }
    });
    thread_local! {
        static ALT: Box<[u8]> = {
            let mut memory = vec![0_u8; 64 << 10].into_boxed_slice();
            let stack = libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: memory.len(),
            };
            // SAFETY: the memory is leaked below, so it outlives the thread's use of it.
            unsafe { libc::sigaltstack(&raw const stack, core::ptr::null_mut()) };
            // Leaked on purpose: it is in use until the thread ends.
            core::mem::forget(memory);
            Box::default()
        };
    }
    ALT.with(|_| ());
}
