//! Requests of user mode with any major function that user mode can reach, laid out as the system
//! services do it.

use crate::iomgr::{self, Request};
use crate::mem::{Va, poke};
use crate::nt::types::{DO_BUFFERED_IO, DO_DIRECT_IO, Irp, Sl};
use crate::state::Kernel;
use crate::{Bugcheck, Handle, IoResult, Machine, Pending};

/// A user address at which nothing is mapped: for parameters that drivers must probe.
const USER_ADDRESS: Va = 0x2000_0000;

const MAJORS: &[u8] = &[
    0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x11, 0x14, 0x15,
    0x19, 0x1A,
];

impl Machine {
    /// Sends a request of user mode with any major function, laid out as its system service does:
    ///
    /// | major | service | `code` is |
    /// |---|---|---|
    /// | 03, 04 `READ`, `WRITE` | `NtReadFile`, `NtWriteFile` | the byte offset |
    /// | 05, 06 `QUERY`, `SET_INFORMATION` | `NtQueryInformationFile`, `NtSetInformationFile` | the class |
    /// | 07, 08 `QUERY`, `SET_EA` | `NtQueryEaFile`, `NtSetEaFile` | the index |
    /// | 09 `FLUSH_BUFFERS` | `NtFlushBuffersFile` | nothing |
    /// | 0A, 0B `QUERY`, `SET_VOLUME_INFORMATION` | `NtQueryVolumeInformationFile`, … | the class |
    /// | 0C `DIRECTORY_CONTROL` | `NtQueryDirectoryFile`, … | the class |
    /// | 0D, 0E `FILE_SYSTEM_CONTROL`, `DEVICE_CONTROL` | `NtFsControlFile`, `NtDeviceIoControlFile` | the control code |
    /// | 0F `INTERNAL_DEVICE_CONTROL` | none: a driver that forwards what a user gave it | the control code |
    /// | 11 `LOCK_CONTROL` | `NtLockFile`, `NtUnlockFile` | the key |
    /// | 14, 15 `QUERY`, `SET_SECURITY` | `NtQuerySecurityObject`, `NtSetSecurityObject` | the parts |
    /// | 19, 1A `QUERY`, `SET_QUOTA` | `NtQueryQuotaInformationFile`, … | nothing |
    ///
    /// `RequestorMode` is `UserMode` whoever opened the handle. Parameters that are user addresses
    /// point where nothing is mapped.
    ///
    /// # Errors
    /// A broken rule.
    ///
    /// # Panics
    /// With a major function that user mode cannot send.
    pub fn send_from_user(
        &self,
        handle: Handle,
        major: u8,
        minor: u8,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Result<IoResult, Bugcheck> {
        let pending = self.start_from_user(handle, major, minor, code, input, output);
        self.finish(&pending)
    }

    /// Starts such a request; see [`Machine::start_io_control`].
    ///
    /// # Panics
    /// As [`Machine::send_from_user`].
    #[must_use]
    pub fn start_from_user(
        &self,
        handle: Handle,
        major: u8,
        minor: u8,
        code: u32,
        input: &[u8],
        output: usize,
    ) -> Pending {
        assert!(
            MAJORS.contains(&major),
            "user mode cannot send major function {major:#x}"
        );
        let what = Request::User { major, minor, code };
        self.begin(handle, what, input, output)
    }
}

/// What a request's buffers became.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The system buffer goes back, `Information` bytes of it.
    pub bounded: bool,
    /// The mapped buffer and its MDL.
    pub mapped: Option<(Va, Va)>,
    /// Memory of the I/O manager's that lives as long as the request.
    pub extra: Va,
}

/// Fills the first stack location. `flags` are those of the top device.
pub(crate) fn fill(
    k: &mut Kernel,
    irp: Irp,
    sl: Sl,
    flags: u32,
    (major, minor, code): (u8, u8, u32),
    input: &[u8],
    out: &[u8],
) -> Buffers {
    let mut b = Buffers::default();
    let (input_len, output_len) = (input.len(), out.len());
    sl.set_major(major);
    sl.set_minor(minor);
    // Parameters by offset, as wdm.h and ntifs.h lay them out.
    let at = |offset| sl.0 + 8 + offset;
    let by_flags = |k: &mut Kernel, b: &mut Buffers, write: bool| {
        let length = if write { input_len } else { output_len };
        if flags & DO_BUFFERED_IO != 0 {
            b.bounded = !write;
            iomgr::system_buffer(k, irp, if write { input } else { &[] }, length);
        } else if flags & DO_DIRECT_IO != 0 && length > 0 {
            b.mapped = Some(iomgr::direct(k, irp, if write { input } else { out }));
        } else {
            irp.set_user_buffer(USER_ADDRESS);
        }
    };
    match major {
        0x03 | 0x04 => {
            let write = major == 0x04;
            sl.set_arg1(if write { input_len } else { output_len });
            poke(at(16), i64::from(code));
            by_flags(k, &mut b, write);
        }
        0x05 | 0x0A => {
            sl.set_arg1(output_len);
            poke(at(8), code);
            b.bounded = true;
            iomgr::system_buffer(k, irp, &[], output_len);
        }
        0x06 | 0x0B => {
            sl.set_arg1(input_len);
            poke(at(8), code);
            iomgr::system_buffer(k, irp, input, input_len);
        }
        0x07 => {
            sl.set_arg1(output_len);
            poke(at(24), code);
            by_flags(k, &mut b, false);
        }
        0x08 | 0x1A => {
            sl.set_arg1(input_len);
            by_flags(k, &mut b, true);
        }
        0x0C => {
            sl.set_arg1(output_len);
            poke(at(16), code);
            by_flags(k, &mut b, false);
        }
        0x0D..=0x0F => control(k, irp, sl, code, input, out, &mut b),
        0x11 => {
            // Length is a pointer to a LARGE_INTEGER of the I/O manager's.
            let length = k.system_alloc(8, "a lock's length");
            poke(length, input_len as u64);
            b.extra = length;
            sl.set_arg1(length);
            poke(at(8), code);
        }
        0x14 => {
            poke(at(0), code);
            poke(at(8), u32::try_from(output_len).unwrap_or(u32::MAX));
            irp.set_user_buffer(USER_ADDRESS);
        }
        0x15 => {
            poke(at(0), code);
            sl.set_arg2(USER_ADDRESS);
        }
        0x19 => {
            sl.set_arg1(output_len);
            by_flags(k, &mut b, false);
        }
        _ => {}
    }
    b
}

/// The buffers of a control request, by the method in its code.
pub(crate) fn control(
    k: &mut Kernel,
    irp: Irp,
    sl: Sl,
    code: u32,
    input: &[u8],
    out: &[u8],
    b: &mut Buffers,
) {
    sl.set_arg1(out.len());
    sl.set_arg2(input.len());
    sl.set_arg3(code as usize);
    match code & 3 {
        0 => {
            b.bounded = true;
            iomgr::system_buffer(k, irp, input, input.len().max(out.len()));
        }
        1 | 2 => {
            iomgr::system_buffer(k, irp, input, input.len());
            if !out.is_empty() {
                b.mapped = Some(iomgr::direct(k, irp, out));
            }
        }
        _ => {
            // A kernel caller's request holds no user address.
            let user = irp.requestor_mode() != 0;
            if user && !input.is_empty() {
                sl.set_arg4(USER_ADDRESS);
            }
            if user && !out.is_empty() {
                irp.set_user_buffer(USER_ADDRESS);
            }
            k.note("METHOD_NEITHER request: its user addresses lead nowhere");
        }
    }
}
