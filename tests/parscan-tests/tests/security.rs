//! No program reaches what only kernel clients may: not by the numbers of internal requests, not by
//! buffers of any size, and not through a driver that forwards what it was given.

use std::ops::Range;

use ntsim::{CANARY, Caller, Handle, IoResult, NtStatus, RegValue, Resource};
use parscan_models::Peripheral1284;
use parscan_tests::{
    Setup, check,
    client::{Callback, Client, DEVICE, PASSIVE, PORT, Request, Slot, with_client},
    modes::{Chip, Failures, ModesPc, pc_with},
    ntddpar::{IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_LOCATION, IOCTL_PAR_QUERY_RAW_DEVICE_ID},
    parallel_h::{DEVICE_REQUESTS, PORT_REQUESTS, UNDOCUMENTED},
};

/// The device ID of the peripheral with its length and a NUL.
const ID: &[u8] = b"\x00\x0CMFG:A;M:B;";

/// A machine on which every internal request is served, interrupts too.
fn machine() -> ModesPc {
    let peripheral = Peripheral1284::new().with_device_id(ID);
    let mut setup = Setup {
        hardware_key: vec![("EnableConnectInterruptIoctl".into(), RegValue::Dword(1))],
        ..Setup::default()
    };
    setup.config.trace_limit = 0;
    setup.resources.push(Resource::Interrupt {
        level: 7,
        vector: 0x37,
        latched: true,
    });
    pc_with(Chip::Ps2, &peripheral, setup)
}

/// All internal requests, documented or not.
fn codes() -> impl Iterator<Item = (u32, &'static str)> {
    let all = PORT_REQUESTS.iter().chain(&DEVICE_REQUESTS);
    all.chain(&UNDOCUMENTED).copied()
}

/// Sizes of input and output: every size with none, with as much and with plenty of the other.
fn sizes() -> impl Iterator<Item = (usize, usize)> {
    (0..=256).flat_map(|n| [(n, 0), (0, n), (n, n), (n, 256), (256, n)])
}

/// What of the kernel's came out: written bytes beyond Information, and addresses.
fn leaks(result: &IoResult, kernel: &[Range<u64>]) -> Vec<String> {
    let mut found = Vec::new();
    let copied = result.information.min(result.output.len());
    if result.output[copied..].iter().any(|byte| *byte != CANARY) {
        found.push("bytes beyond Information".to_owned());
    }
    for (at, bytes) in result.output[..copied].windows(8).enumerate() {
        let value = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        if kernel.iter().any(|range| range.contains(&value)) {
            found.push(format!("the address {value:#x} at {at}"));
        }
    }
    found
}

/// What a request that is a program's, too, gives by its own documentation; `None`: it is none.
fn documented(code: u32, output: usize) -> Option<(NtStatus, Vec<u8>)> {
    let answer = match code {
        IOCTL_PAR_IS_PORT_FREE => vec![1],
        IOCTL_PAR_QUERY_LOCATION => b"LPT1\0".to_vec(),
        IOCTL_PAR_QUERY_RAW_DEVICE_ID => [ID, b"\0"].concat(),
        _ => return None,
    };
    Some(if output < answer.len() {
        (NtStatus::BUFFER_TOO_SMALL, Vec::new())
    } else {
        (NtStatus::SUCCESS, answer)
    })
}

/// Sends every code in every size to a device as a program; `on_device` says that the requests of
/// programs are served there.
fn try_everything(
    pc: &ModesPc,
    handle: Handle,
    on_device: bool,
    kernel: &[Range<u64>],
    failures: &mut Failures,
) {
    for (code, name) in codes() {
        for (input, output) in sizes() {
            // Each reads the ID from the peripheral: not with every size of an input that is none.
            if on_device && code == IOCTL_PAR_QUERY_RAW_DEVICE_ID && input % 128 != 0 {
                continue;
            }
            // What would be pointers to code and data.
            let bytes = vec![0xFE; input];
            let before = pc.machine.port_accesses();
            let result = pc.control(handle, code, &bytes, output);
            let accesses = pc.machine.port_accesses() - before;
            let what = || format!("{name} with {input} and {output} bytes: {result:?}");
            let expected = on_device.then(|| documented(code, output)).flatten();
            if let Some((status, answer)) = expected {
                let right = result.status == status
                    && result.information == answer.len()
                    && result.output.starts_with(&answer);
                failures.expect(right, what);
            } else {
                failures.expect(result.status.is_error() && result.information == 0, what);
                failures.expect(accesses == 0, || format!("{accesses} accesses, {}", what()));
            }
            let leaks = leaks(&result, kernel);
            failures.expect(leaks.is_empty(), || format!("{leaks:?}, {}", what()));
        }
    }
}

/// A client beside parscan, and what a test finds with it.
fn beside_a_client(test: impl FnOnce(&ModesPc, &Client, &mut Failures)) {
    let mut failures = Failures::default();
    with_client(machine(), |pc, client| test(pc, client, &mut failures));
    failures.end();
}

/// The documented requests to the port object, with an open of one object, and those to the device,
/// with an open of another: each with what it is.
fn each_request(
    client: &Client,
    [port, device]: [&str; 2],
    mut test: impl FnMut(&Slot<'_>, u32, &str),
) {
    for (name, requests) in [(port, &PORT_REQUESTS[..]), (device, &DEVICE_REQUESTS[..])] {
        let slot = client.open(name);
        for (code, what) in requests {
            test(&slot, *code, &format!("{what} to {name}"));
        }
        slot.close();
    }
}

#[test]
fn a_program_cannot_send_internal_requests() {
    beside_a_client(|pc, client, failures| {
        let port = client.open(PORT);
        let table = port.port_information();
        let mut kernel = vec![port.image(), table.context..table.context + 1];
        let device = client.open(DEVICE);
        let table = device.connect();
        kernel.push(table.context..table.context + 1);
        device.close();
        for caller in [Caller::User64, Caller::User32] {
            for (name, on_device) in [(r"\\.\LPT1", true), (PORT, false)] {
                let handle = check(pc.machine.open(name, caller))
                    .unwrap_or_else(|status| panic!("{name}: {status}"));
                try_everything(pc, handle, on_device, &kernel, failures);
                check(pc.machine.close(handle));
            }
            let waiters = port.call(Callback::QueryNumWaiters, PASSIVE).long();
            failures.expect(waiters == 0, || format!("{waiters} wait for the port"));
            let lpt1 = pc.open();
            let free = pc.control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1);
            failures.expect(free.output == [1], || "a client has the port".to_owned());
            check(pc.machine.close(lpt1));
        }
        port.close();
    });
}

/// As `IRP_MJ_INTERNAL_DEVICE_CONTROL`, but for a program: a driver above forwards what it was given.
#[test]
fn internal_requests_in_the_name_of_a_program_are_refused() {
    beside_a_client(|pc, client, failures| {
        each_request(client, [PORT, DEVICE], |slot, code, what| {
            for file in [false, true] {
                let before = pc.machine.port_accesses();
                let result = slot.irp(&Request {
                    user_mode: true,
                    file,
                    ..Request::internal(code, &[0; 32], 256)
                });
                failures.expect(result.status == NtStatus::INVALID_PARAMETER, || {
                    format!("{what}: {}", result.status)
                });
                failures.expect(result.information == 0, || {
                    format!("{what}: Information {}", result.information)
                });
                let accesses = pc.machine.port_accesses() - before;
                failures.expect(accesses == 0, || format!("{what}: {accesses} accesses"));
                // A buffered request shares one buffer; the input is its beginning.
                let touched = result.output[32..].iter().any(|byte| *byte != CANARY);
                failures.expect(!touched, || format!("{what}: the buffer was written"));
            }
        });
    });
}

/// A request of one object is none of the other's.
#[test]
fn internal_requests_to_the_other_object_are_refused() {
    beside_a_client(|_, client, failures| {
        each_request(client, [DEVICE, PORT], |slot, code, what| {
            let result = slot.irp(&Request::internal(code, &[0; 32], 256));
            let right = result.outcome() == (NtStatus::INVALID_PARAMETER, 0);
            failures.expect(right, || format!("{what}: {result:?}"));
        });
    });
}
