//! User memory as a test handles it, and requests with buffers at addresses.

use super::Protection;
use crate::iomgr::{Buffers, Request, request_at};
use crate::machine::request_methods;
use crate::mem::PAGE;
use crate::{Answer, Caller, Handle, Machine, Pending};

impl Machine {
    /// Allocates memory of a program, readable and writable, with `bytes` in it; gives its address.
    /// It is 8-byte aligned and ends, but for alignment, at a page that does not exist. Programs of
    /// 64 bits get it above 4 GiB, programs of 32 bits below 2 GiB.
    ///
    /// # Panics
    /// For [`Caller::Kernel`], which has [`Machine::allocate`].
    #[must_use]
    pub fn user_alloc(&self, caller: Caller, bytes: &[u8]) -> usize {
        self.with(|k| k.user.alloc(&mut k.rng, caller, bytes))
    }

    /// Frees what [`Machine::user_alloc`] gave. Pages that an MDL has locked live on in it.
    ///
    /// # Panics
    /// If there is no such allocation.
    pub fn user_free(&self, address: usize) {
        assert!(
            self.with(|k| k.user.free(address)),
            "no user allocation at {address:#x}"
        );
    }

    /// Changes the protection of the pages that hold these bytes.
    ///
    /// # Panics
    /// If one of them does not exist.
    pub fn user_protect(&self, address: usize, length: usize, protection: Protection) {
        let done = self.with(|k| k.user.protect(address, length, protection));
        assert!(done, "no user memory at {address:#x}");
    }

    /// Reads a program's memory as a debugger would, whatever its protection.
    ///
    /// # Panics
    /// If some of it does not exist.
    #[must_use]
    pub fn user_read(&self, address: usize, length: usize) -> Vec<u8> {
        self.with(|k| k.user.peek(address, length))
            .expect("user memory")
    }

    /// Writes a program's memory; see [`Machine::user_read`].
    ///
    /// # Panics
    /// If some of it does not exist.
    pub fn user_write(&self, address: usize, bytes: &[u8]) {
        assert!(
            self.with(|k| k.user.poke(address, bytes)),
            "no user memory at {address:#x}"
        );
    }

    /// Runs `f` just before the `k`-th touch from now (1 = the next one) of the page that holds
    /// `address` by a driver's instruction, in the middle of it. Each element of a string
    /// instruction is a touch. `f` may change user memory, but not call the driver.
    pub fn on_touch(&self, address: usize, k: u64, f: impl FnOnce(&Machine) + 'static) {
        let page = address & !(PAGE - 1);
        self.with(|kernel| {
            let now = kernel.user.touches.get(&page).copied().unwrap_or(0);
            kernel.user.hooks.push((page, now + k, Box::new(f)));
        });
    }

    /// How often drivers have touched the page that holds `address`; see [`Machine::on_touch`].
    #[must_use]
    pub fn touches(&self, address: usize) -> u64 {
        let page = address & !(PAGE - 1);
        self.with(|k| k.user.touches.get(&page).copied().unwrap_or(0))
    }
}

request_methods! { ((usize, usize), (usize, usize)) by begin_at:
    (code: u32) Request::Control { code, internal: false } =>
        /// `NtDeviceIoControlFile` with the buffers at these addresses and of these lengths, good or
        /// bad. `output` of the result is what the output buffer holds afterwards, empty if it is
        /// not there.
        device_io_control_at,
        /// Starts such a request; see [`Machine::start_io_control`].
        start_io_control_at;
}

/// Requests with buffers at addresses.
impl Machine {
    /// `NtReadFile` into the buffer at `address`; see [`Machine::device_io_control_at`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn read_to(&self, handle: Handle, address: usize, length: usize) -> Answer {
        let what = Request::Read { offset: 0 };
        self.finish(&self.begin_at(handle, what, (0, 0), (address, length)))
    }

    /// `NtWriteFile` from the buffer at `address`; see [`Machine::device_io_control_at`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn write_from(&self, handle: Handle, address: usize, length: usize) -> Answer {
        let what = Request::Write { offset: 0 };
        self.finish(&self.begin_at(handle, what, (address, length), (0, 0)))
    }

    fn begin_at(
        &self,
        handle: Handle,
        what: Request,
        input: (usize, usize),
        output: (usize, usize),
    ) -> Pending {
        let buffers = Buffers { input, output };
        self.spawn_request(move |started| request_at(handle.0, what, buffers, started))
    }
}
