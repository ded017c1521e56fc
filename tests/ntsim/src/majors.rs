//! Requests of user mode with any major function that user mode can reach, laid out as the system
//! services do it.

use crate::iomgr::{self, Buffers, Request, Transfer};
use crate::machine::request_methods;
use crate::mem::{Va, poke};
use crate::nt::types::{Irp, Sl};
use crate::state::Kernel;
use crate::{Answer, Handle, Machine, Pending};

const MAJORS: &[u8] = &[
    0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x11, 0x14, 0x15,
    0x19, 0x1A,
];

/// Such a request, if user mode can send it.
fn from_user(major: u8, minor: u8, code: u32) -> Request {
    assert!(
        MAJORS.contains(&major),
        "user mode cannot send major function {major:#x}"
    );
    Request::User { major, minor, code }
}

request_methods! { (&[u8], usize) by begin:
    (major: u8, minor: u8, code: u32) from_user(major, minor, code) =>
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
        /// `RequestorMode` is `UserMode` whichever caller opened the handle. Parameters that are user addresses
        /// point to user memory with `input`, or for the output; they are null if that is empty.
        ///
        /// # Panics
        /// With a major function that user mode cannot send.
        send_from_user,
        /// Starts such a request; see [`Machine::start_io_control`].
        ///
        /// # Panics
        /// As [`Machine::send_from_user`].
        start_from_user;
}

/// Whether such a request gives data to the driver.
pub(crate) const fn writes(major: u8) -> bool {
    // WRITE, the SETs of information, EA, volume information and quota
    matches!(major, 0x04 | 0x06 | 0x08 | 0x0B | 0x1A)
}

/// How its bytes travel. `flags` are those of the top device.
pub(crate) const fn transfer(major: u8, code: u32, flags: u32) -> Transfer {
    match major {
        0x0D..=0x0F => Transfer::of_code(code),
        // QUERY_SECURITY, SET_SECURITY
        0x14 | 0x15 => Transfer::Neither,
        // READ, WRITE, the EAs, DIRECTORY_CONTROL, the quotas
        0x03 | 0x04 | 0x07 | 0x08 | 0x0C | 0x19 | 0x1A => {
            Transfer::of_device(flags, !writes(major))
        }
        _ => Transfer::Buffered,
    }
}

/// Fills the first stack location, and makes the system buffer. Gives whether `Information` bytes
/// of that go back, and memory of the I/O manager's that lives as long as the request.
pub(crate) fn fill(
    k: &mut Kernel,
    irp: Irp,
    sl: Sl,
    (major, minor, code): (u8, u8, u32),
    transfer: Transfer,
    input: &[u8],
    buffers: Buffers,
) -> (bool, Va) {
    sl.set_major(major);
    sl.set_minor(minor);
    // Parameters by offset, as wdm.h and ntifs.h lay them out.
    let at = |offset| sl.0 + 8 + offset;
    let (va, length) = if writes(major) {
        buffers.input
    } else {
        buffers.output
    };
    match major {
        0x03 | 0x04 => poke(at(16), i64::from(code)),
        0x05 | 0x06 | 0x0A | 0x0B => poke(at(8), code),
        0x07 => poke(at(24), code),
        0x0C => poke(at(16), code),
        0x0D..=0x0F => {
            control(k, irp, sl, code, transfer, input, buffers);
            return (transfer == Transfer::Buffered, 0);
        }
        0x11 => {
            // Length is a pointer to a LARGE_INTEGER of the I/O manager's.
            let length = k.system_alloc(8, "a lock's length");
            poke(length, buffers.input.1 as u64);
            sl.set_arg1(length);
            poke(at(8), code);
            return (false, length);
        }
        0x14 => {
            poke(at(0), code);
            poke(at(8), u32::try_from(length).unwrap_or(u32::MAX));
            irp.set_user_buffer(va);
            return (false, 0);
        }
        0x15 => {
            poke(at(0), code);
            sl.set_arg2(buffers.input.0);
            return (false, 0);
        }
        // QUERY_QUOTA, SET_QUOTA, SET_EA
        0x08 | 0x19 | 0x1A => {}
        _ => return (false, 0),
    }
    sl.set_arg1(length);
    irp.set_user_buffer(va);
    let buffered = transfer == Transfer::Buffered;
    if buffered {
        let content = if writes(major) { input } else { &[] };
        iomgr::system_buffer(k, irp, content, length);
    }
    (buffered && !writes(major), 0)
}

/// The buffers of a control request, by the method in its code.
pub(crate) fn control(
    k: &mut Kernel,
    irp: Irp,
    sl: Sl,
    code: u32,
    transfer: Transfer,
    input: &[u8],
    buffers: Buffers,
) {
    let (input_len, output_len) = (buffers.input.1, buffers.output.1);
    sl.set_arg1(output_len);
    sl.set_arg2(input_len);
    sl.set_arg3(code as usize);
    irp.set_user_buffer(buffers.output.0);
    match transfer {
        Transfer::Buffered => {
            iomgr::system_buffer(k, irp, input, input_len.max(output_len));
        }
        Transfer::Direct { .. } => iomgr::system_buffer(k, irp, input, input_len),
        // Type3InputBuffer
        Transfer::Neither => sl.set_arg4(buffers.input.0),
    }
}
