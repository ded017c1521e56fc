//! Requests of programs and of kernel callers: open, control, read, write, cancel, close.

use core::fmt;
use std::cell::RefCell;
use std::rc::Rc;

use super::Machine;
use crate::bugcheck::Bugcheck;
use crate::iomgr::Request;
use crate::mem::Va;
use crate::state::{fail, with};
use crate::{Nanos, NtStatus, iomgr, rules, sched};

/// Who opens a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A 64-bit user process.
    User64,
    /// A 32-bit user process: `IoIs32bitProcess` is TRUE.
    User32,
    /// A kernel component.
    Kernel,
}

/// An open file object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(crate) usize);

/// What a request gave its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoResult {
    /// Final status.
    pub status: NtStatus,
    /// `Information`, usually the number of bytes.
    pub information: usize,
    /// The caller's whole output buffer afterwards; what was not copied still is [`CANARY`](crate::CANARY).
    pub output: Vec<u8>,
    /// Virtual time that the request took.
    pub took: Nanos,
}

impl IoResult {
    /// Status and Information together, as they are compared.
    #[must_use]
    pub const fn outcome(&self) -> (NtStatus, usize) {
        (self.status, self.information)
    }
}

pub(crate) struct Slot {
    pub(crate) irp: Option<Va>,
    pub(crate) result: Option<IoResult>,
}

/// What came of a request, or the rule that was broken.
pub type Answer = Result<IoResult, Bugcheck>;

/// A request under way.
#[derive(Clone)]
pub struct Pending(pub(crate) Rc<RefCell<Slot>>);

/// Requests with buffers of these types: each method runs the machine until the request is finished,
/// and the one behind it, if there is one, starts the same request only.
macro_rules! request_methods {
    (($input:ty, $output:ty) by $begin:ident: $(
        $fields:tt $what:expr =>
            $(#[$doc:meta])* $name:ident
            $(, $(#[$start_doc:meta])* $start:ident)?;
    )*) => {
        impl Machine { $(
            $crate::machine::request_methods! {
                @method $fields ($input, $output)
                $(#[$doc])*
                ///
                /// # Errors
                /// A broken rule.
                $name -> Answer,
                |machine, handle, input, output| {
                    machine.finish(&machine.$begin(handle, $what, input, output))
                }
            }

            $($crate::machine::request_methods! {
                @method $fields ($input, $output)
                $(#[$start_doc])*
                #[must_use]
                $start -> Pending,
                |machine, handle, input, output| machine.$begin(handle, $what, input, output)
            })?
        )* }
    };
    (
        @method ($($field:ident: $t:ty),*) ($input:ty, $output:ty)
        $(#[$attribute:meta])* $name:ident -> $result:ty,
        |$machine:ident, $handle:ident, $in:ident, $out:ident| $body:expr
    ) => {
        $(#[$attribute])*
        pub fn $name(
            &self,
            $handle: Handle,
            $($field: $t,)*
            $in: $input,
            $out: $output,
        ) -> $result {
            let $machine = self;
            $body
        }
    };
}
pub(crate) use request_methods;

request_methods! { (&[u8], usize) by begin:
    (code: u32) Request::Control { code, internal: false } =>
        /// `NtDeviceIoControlFile`, up to the end of the request.
        device_io_control,
        /// Starts a device control request and comes back at once. Nothing runs before
        /// [`Machine::run_for`], [`Machine::run_until_idle`] or [`Machine::finish`].
        start_io_control;
    (code: u32) Request::Control { code, internal: true } =>
        /// `IRP_MJ_INTERNAL_DEVICE_CONTROL`, as another driver sends it.
        internal_device_control;
    (code: u32) Request::AtDispatch { code } =>
        /// The same from a kernel component that runs at `DISPATCH_LEVEL`.
        internal_device_control_at_dispatch;
}

impl Machine {
    /// Makes the reads and writes of a started device direct from now on, as a driver on top of its
    /// stack would that sets `DO_DIRECT_IO`.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn do_direct_io(&self, name: &str) {
        let found = self.with(|k| iomgr::do_direct_io(k, name));
        assert!(found, "no device {name}");
    }

    /// `NtCreateFile`: by Win32 name (`\\.\LPT1`), interface path (`\\?\…`) or NT name.
    ///
    /// # Errors
    /// A broken rule; inside, the status of a refused open.
    pub fn open(&self, name: &str, caller: Caller) -> Result<Result<Handle, NtStatus>, Bugcheck> {
        let name = name.to_owned();
        sched::call("open", move || {
            iomgr::open(&name, caller, caller == Caller::Kernel).map(Handle)
        })
    }

    /// As [`Machine::open`], with `GENERIC_READ`, `GENERIC_WRITE`, both or neither.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn open_with(
        &self,
        name: &str,
        caller: Caller,
        (read, write): (bool, bool),
    ) -> Result<Result<Handle, NtStatus>, Bugcheck> {
        let opened = self.open(name, caller)?;
        if let Ok(handle) = opened {
            iomgr::restrict(handle.0, read, write);
        }
        Ok(opened)
    }

    /// `NtClose`: CLEANUP, the file's requests end, CLOSE.
    ///
    /// # Errors
    /// A broken rule.
    pub fn close(&self, handle: Handle) -> Result<NtStatus, Bugcheck> {
        sched::call("close", move || iomgr::close(handle.0))
    }

    /// The kernel component that has this handle runs at `DISPATCH_LEVEL` from now on, or no longer:
    /// all its requests but the last, which `NtClose` makes, reach the driver there.
    ///
    /// # Panics
    /// If it is not a kernel component's handle.
    pub fn use_at_dispatch(&self, handle: Handle, at_dispatch: bool) {
        assert!(
            iomgr::use_at_dispatch(handle.0, at_dispatch),
            "no handle of a kernel component"
        );
    }

    /// `NtReadFile`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn read(&self, handle: Handle, length: usize) -> Answer {
        self.request(handle, Request::Read { offset: 0 }, &[], length)
    }

    /// `NtReadFile` from a byte offset.
    ///
    /// # Errors
    /// A broken rule.
    pub fn read_at(&self, handle: Handle, offset: i64, length: usize) -> Answer {
        self.request(handle, Request::Read { offset }, &[], length)
    }

    /// `NtWriteFile` to a byte offset.
    ///
    /// # Errors
    /// A broken rule.
    pub fn write_at(&self, handle: Handle, offset: i64, data: &[u8]) -> Answer {
        self.request(handle, Request::Write { offset }, data, 0)
    }

    /// `NtQueryInformationFile`, for a class that the I/O manager does not answer itself.
    ///
    /// # Errors
    /// A broken rule.
    pub fn query_information(&self, handle: Handle, class: i32, length: usize) -> Answer {
        self.request(handle, Request::QueryInformation { class }, &[], length)
    }

    /// `NtWriteFile`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn write(&self, handle: Handle, data: &[u8]) -> Answer {
        self.request(handle, Request::Write { offset: 0 }, data, 0)
    }

    fn request(&self, handle: Handle, what: Request, input: &[u8], output: usize) -> Answer {
        let pending = self.begin(handle, what, input, output);
        self.finish(&pending)
    }

    pub(crate) fn begin(
        &self,
        handle: Handle,
        what: Request,
        input: &[u8],
        output: usize,
    ) -> Pending {
        let input = input.to_vec();
        self.spawn_request(move |started| iomgr::request(handle.0, what, &input, output, started))
    }

    /// Runs a request in a thread of its caller; `body` tells the IRP as soon as it exists.
    pub(crate) fn spawn_request(
        &self,
        body: impl FnOnce(&dyn Fn(Va)) -> iomgr::Finished + 'static,
    ) -> Pending {
        let slot = Rc::new(RefCell::new(Slot {
            irp: None,
            result: None,
        }));
        let out = Rc::clone(&slot);
        self.with(|k| {
            if !k.sched.inside() {
                k.sched.steps = 0;
            }
            k.sched.spawn(
                "caller",
                sched::ThreadKind::Caller,
                0,
                Box::new(move || {
                    let start = with(|k| k.now);
                    let done = body(&|irp| out.borrow_mut().irp = Some(irp));
                    out.borrow_mut().result = Some(IoResult {
                        status: done.status,
                        information: done.information,
                        output: done.output,
                        took: with(|k| k.now) - start,
                    });
                }),
            )
        });
        Pending(slot)
    }

    /// Starts a read; see [`Machine::start_io_control`].
    #[must_use]
    pub fn start_read(&self, handle: Handle, length: usize) -> Pending {
        self.begin(handle, Request::Read { offset: 0 }, &[], length)
    }

    /// Starts a write; see [`Machine::start_io_control`].
    #[must_use]
    pub fn start_write(&self, handle: Handle, data: &[u8]) -> Pending {
        self.begin(handle, Request::Write { offset: 0 }, data, 0)
    }

    /// Whether the request is finished.
    #[must_use]
    pub fn is_done(&self, pending: &Pending) -> bool {
        pending.0.borrow().result.is_some()
    }

    /// Cancels the request (`NtCancelIoFileEx`). Returns whether a cancel routine ran.
    ///
    /// # Errors
    /// A broken rule.
    pub fn cancel(&self, pending: &Pending) -> Result<bool, Bugcheck> {
        let irp = pending.0.borrow().irp;
        sched::call("cancel", move || irp.is_some_and(iomgr::cancel))
    }

    /// Runs the machine until the request is finished.
    ///
    /// # Errors
    /// A broken rule; [`rules::HANG`] if it never finishes.
    pub fn finish(&self, pending: &Pending) -> Answer {
        let slot = Rc::clone(&pending.0);
        let wait = Rc::clone(&pending.0);
        sched::call("a request", move || {
            sched::wait("the end of a request", None, move |_| {
                wait.borrow().result.is_some()
            });
        })?;
        let result = slot.borrow().result.clone();
        Ok(result.unwrap_or(IoResult {
            status: NtStatus::UNSUCCESSFUL,
            information: 0,
            output: Vec::new(),
            took: 0,
        }))
    }

    pub(super) fn check_overdue(&self) -> Result<(), Bugcheck> {
        let Some(serial) = self.with(|k| iomgr::overdue(k)) else {
            return Ok(());
        };
        sched::call("the watch on cancelled requests", move || {
            fail(rules::CANCEL_TIMEOUT, format!("IRP {serial}"))
        })
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
