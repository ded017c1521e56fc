//! Clients of a scanner that are no programs, and clients that are left over: kernel components at
//! `DISPATCH_LEVEL`, and handles that outlive the device.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use ntsim::{Caller, Config, NodeState, NtStatus, When, trace::EventKind, usb::layout::function};
use parscan_models::Scanner;
use parscan_tests::{
    MS, SECOND, check,
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{
        ALL_PIPE, ChannelInfo, DrvVersion, EVENT_PIPE, IOCTL_CANCEL_IO,
        IOCTL_GET_CHANNEL_ALIGN_RQST, IOCTL_GET_DEVICE_DESCRIPTOR, IOCTL_GET_PIPE_CONFIGURATION,
        IOCTL_GET_USB_DESCRIPTOR, IOCTL_GET_VERSION, IOCTL_RESET_PIPE, IOCTL_SET_TIMEOUT,
        IOCTL_WAIT_ON_DEVICE_EVENT, IoBlock, IoBlockEx, PIPE_CONFIGURATION_SIZE, READ_DATA_PIPE,
        REQUESTS, get_descriptor, pipe_type, timeout,
    },
};

fn setups() -> impl Iterator<Item = ScannerSetup> {
    (0..4).map(|seed| {
        ScannerSetup::with_config(Config {
            seed,
            preempt_per_mille: 300,
            ..Config::default()
        })
    })
}

/// Opened by a kernel component, which runs at `DISPATCH_LEVEL` from then on.
fn open_at_dispatch(pc: &ScannerPc) -> Opened {
    let file = pc.open_as(r"\Device\Usbscan0", Caller::Kernel);
    pc.machine.use_at_dispatch(file.handle, true);
    file
}

fn block(length: u32, data: usize) -> IoBlock {
    IoBlock {
        offset: 0x100,
        length,
        data: u64::try_from(data).unwrap(),
        index: 0,
    }
}

/// Every request reaches the driver at `DISPATCH_LEVEL`, where it may neither wait nor touch
/// pageable memory, and is served as any other.
#[test]
fn kernel_clients_may_be_at_dispatch_level() {
    for setup in setups() {
        let pc = setup.started();
        let file = open_at_dispatch(&pc);
        for (code, input, output) in [
            (IOCTL_GET_VERSION, vec![], DrvVersion::SIZE),
            (IOCTL_GET_CHANNEL_ALIGN_RQST, vec![], ChannelInfo::SIZE),
            (IOCTL_GET_DEVICE_DESCRIPTOR, vec![], 8),
            (
                IOCTL_GET_PIPE_CONFIGURATION,
                vec![],
                PIPE_CONFIGURATION_SIZE,
            ),
            (IOCTL_GET_USB_DESCRIPTOR, get_descriptor(1, 0, 0).into(), 18),
            (IOCTL_SET_TIMEOUT, timeout(1, 1, 1), 0),
            (IOCTL_RESET_PIPE, pipe_type(ALL_PIPE).into(), 0),
            (IOCTL_CANCEL_IO, pipe_type(ALL_PIPE).into(), 0),
        ] {
            let result = pc.control(file, code, &input, output);
            let ended = result.outcome();
            assert_eq!(ended, (NtStatus::SUCCESS, output), "{code:#x}");
        }
        for length in [1_u16, 64, 65, 4096] {
            let data = Scanner::image(length.into(), length.into());
            let address = pc.machine.allocate(data.len());
            check(pc.machine.write_memory(address, &data));
            let before = pc.machine.urb_count();
            let written = pc.write_registers(file, block(length.into(), address));
            assert_eq!(written.status, NtStatus::SUCCESS);
            // DISPATCH_LEVEL: the sender's thread took it all the way down.
            assert_eq!(pc.urbs_since(before)[0].irql, 2);
            assert_eq!(pc.scanner.registers(0x100, data.len()), data);
            let read = pc.read_registers(file, 0x100, length.into());
            assert_eq!(read.information, data.len());
            assert_eq!(read.output, pc.scanner.registers(0x100, data.len()));
            let request = IoBlockEx {
                block: block(length.into(), address),
                request: 0x9A,
                ..IoBlockEx::default()
            };
            assert_eq!(pc.send_request(file, request, 0).status, NtStatus::SUCCESS);
            assert_eq!(pc.scanner.vendor_data(), data);
        }
        let command = Scanner::scan_command(150_000, 3);
        let write = pc.write(file, &command);
        assert_eq!(write.outcome(), (NtStatus::SUCCESS, 12));
        let read = pc.read(file, 150_000);
        assert!(read.output == Scanner::image(3, 150_000));
        let event = pc.wait_on_event(file, 8);
        pc.scanner.press(&[1, 2, 3]);
        let event = pc.finish_request(&event);
        assert_eq!(event.outcome(), (NtStatus::SUCCESS, 3));
        pc.close_and_finish(file);
    }
}

/// A kernel client is trusted with its addresses, but not with its arithmetic.
#[test]
fn kernel_clients_can_be_wrong() {
    let pc = ScannerPc::new();
    let file = open_at_dispatch(&pc);
    let address = pc.machine.allocate(64);
    let before = pc.machine.urb_count();
    for (block, status) in [
        (block(64, 0), NtStatus::INVALID_PARAMETER),
        (block(0x1_0000, address), NtStatus::INVALID_PARAMETER),
        (block(64, usize::MAX - 1), NtStatus::ACCESS_VIOLATION),
    ] {
        let written = pc.write_registers(file, block);
        assert_eq!(written.outcome(), (status, 0));
    }
    for code in REQUESTS {
        // As a driver sends requests to another one: nothing is defined for that.
        let internal =
            pc.machine
                .internal_device_control_at_dispatch(file.handle, code, &[0; 24], 24);
        assert_eq!(check(internal).status, NtStatus::INVALID_DEVICE_REQUEST);
    }
    assert_eq!(pc.machine.urb_count(), before);
    pc.close_and_finish(file);
}

/// Requests that wait can be cancelled, and their handle closed, while their sender is at
/// `DISPATCH_LEVEL`; those of others go on.
#[test]
fn requests_of_kernel_clients_end_as_all_do() {
    for setup in setups() {
        let pc = setup.started();
        let (file, other) = (open_at_dispatch(&pc), pc.open());
        let others = pc.wait_on_event(other, 8);
        pc.scanner.set_silent(BULK_OUT, true);
        let requests = [
            pc.wait_on_event(file, 8),
            pc.machine.start_read(file.handle, 4096),
            pc.machine.start_write(file.handle, &[1; 4096]),
        ];
        check(pc.machine.run_for(10 * MS));
        check(pc.machine.cancel(&requests[0]));
        let cancel = pc.control(file, IOCTL_CANCEL_IO, &pipe_type(READ_DATA_PIPE), 0);
        assert_eq!(cancel.status, NtStatus::SUCCESS);
        pc.close(file);
        for request in &requests {
            let ended = pc.finish_request(request);
            assert_eq!(ended.outcome(), (NtStatus::CANCELLED, 0));
        }
        assert!(!pc.machine.is_done(&others));
        pc.close(other);
        assert_eq!(pc.finish_request(&others).status, NtStatus::CANCELLED);
        pc.finish();
    }
}

/// What ends requests cancels their IRPs, one by one. `URB_FUNCTION_ABORT_PIPE` would end those of
/// other handles on the pipe, too, and needs memory just when there may be none.
#[test]
fn no_pipe_is_aborted_as_a_whole() {
    let pc = ScannerPc::new();
    let (file, other) = (pc.open(), pc.open());
    let cancel = |pipe| {
        pc.control(file, IOCTL_CANCEL_IO, &pipe_type(pipe), 0)
            .status
    };
    let wait = |file| pc.wait_on_event(file, 8);
    let (own, others) = (wait(file), wait(other));
    let before = pc.machine.urb_count();
    assert_eq!(cancel(EVENT_PIPE), NtStatus::SUCCESS);
    assert_eq!(pc.finish_request(&own).status, NtStatus::CANCELLED);
    check(pc.machine.run_for(MS));
    assert!(!pc.machine.is_done(&others));
    assert_eq!(cancel(ALL_PIPE), NtStatus::SUCCESS);
    assert_eq!(pc.finish_request(&others).status, NtStatus::CANCELLED);
    assert_eq!(
        pc.machine.urb_count(),
        before,
        "nothing goes to the USB stack"
    );
    let (own, others) = (wait(file), wait(other));
    let before = pc.machine.urb_count();
    pc.close(file);
    assert_eq!(pc.finish_request(&own).status, NtStatus::CANCELLED);
    check(pc.machine.unplug(pc.node));
    assert_eq!(pc.finish_request(&others).status, NtStatus::NO_SUCH_DEVICE);
    assert_eq!(pc.machine.urb_count(), before);
    pc.close(other);
    check(pc.machine.run_until_idle());
    pc.unload();
    let aborted = |urb: &ntsim::usb::Urb| urb.function == function::ABORT_PIPE;
    assert!(!pc.machine.urbs().iter().any(aborted));
}

/// Surprise removal, every request on handles that are still open, their close, REMOVE.
#[test]
fn handles_outlive_the_device() {
    for setup in setups() {
        let pc = setup.started();
        let files = [
            pc.open(),
            pc.open_as(r"\\.\Usbscan0", Caller::User32),
            open_at_dispatch(&pc),
        ];
        let waits: Vec<_> = files
            .iter()
            .flat_map(|file| {
                let input = get_descriptor(1, 0, 0);
                pc.scanner.set_silent(0, true);
                [
                    pc.wait_on_event(*file, 8),
                    pc.machine.start_read(file.handle, 100_000),
                    pc.start(*file, IOCTL_GET_USB_DESCRIPTOR, &input, 18),
                ]
            })
            .collect();
        check(pc.machine.run_for(MS));
        check(pc.machine.unplug(pc.node));
        for wait in &waits {
            let ended = pc.finish_request(wait);
            let status = ended.outcome();
            assert_eq!(status, (NtStatus::NO_SUCH_DEVICE, 0));
        }
        assert_eq!(pc.machine.node_state(pc.node), NodeState::SurpriseRemoved);
        let before = pc.machine.urb_count();
        let address = pc.machine.user_alloc(Caller::User64, &[0; 64]);
        for file in files {
            for code in REQUESTS {
                let input = block(16, address).bytes(file.caller);
                let late = pc.control(file, code, &input, 68);
                let ended = late.outcome();
                assert_eq!(ended, (NtStatus::DELETE_PENDING, 0), "{code:#x}");
            }
            for length in [0, 64] {
                let late = [pc.read(file, length), pc.write(file, &vec![0; length])];
                assert!(late.iter().all(|it| it.status == NtStatus::DELETE_PENDING));
            }
        }
        assert_eq!(pc.machine.urb_count(), before);
        assert_eq!(pc.machine.touches(address), 0);
        for file in files {
            assert_eq!(
                pc.machine.node_state(pc.node),
                NodeState::SurpriseRemoved,
                "REMOVE waits for the last handle"
            );
            pc.close(file);
        }
        check(pc.machine.run_until_idle());
        let name = Some(r"\Device\Usbscan0");
        let devices = pc.machine.devices();
        assert!(devices.iter().all(|device| device.name.as_deref() != name));
        pc.unload();
    }
}

/// A disable with a handle open is refused before the driver is asked; after the close it goes on.
#[test]
fn an_open_handle_keeps_the_device_from_being_disabled() {
    let pc = ScannerPc::new();
    let file = pc.open();
    let event = pc.wait_on_event(file, 8);
    let asked = check(pc.machine.query_remove(pc.node));
    assert!(!asked.is_success());
    assert!(!pc.machine.is_done(&event));
    pc.scanner.send(BULK_IN, b"still here", false);
    assert_eq!(pc.read(file, 64).information, 10);
    pc.close(file);
    assert_eq!(pc.finish_request(&event).status, NtStatus::CANCELLED);
    assert_eq!(check(pc.machine.query_remove(pc.node)), NtStatus::SUCCESS);
    // Between the question and the removal no program gets in.
    assert!(pc.try_open(r"\\.\Usbscan0", Caller::User64).is_err());
    pc.finish();
}

/// A program closes its handle while another thread's request is on its way into the driver: the
/// request ends, wherever it is just then. Nothing else would end it, as it has no time-out.
#[test]
fn a_handle_can_be_closed_at_any_kernel_call() {
    for wait in [
        |pc: &ScannerPc, file: Opened| {
            pc.machine
                .start_io_control(file.handle, IOCTL_WAIT_ON_DEVICE_EVENT, &[], 8)
        },
        |pc: &ScannerPc, file: Opened| pc.machine.start_read(file.handle, 64),
        |pc: &ScannerPc, file: Opened| pc.machine.start_write(file.handle, &[1; 64]),
    ] {
        let mut ended = 0;
        for k in 1.. {
            let pc = ScannerPc::new();
            let file = pc.open();
            let forever = pc.control(file, IOCTL_SET_TIMEOUT, &timeout(0, 0, 0), 0);
            assert_eq!(forever.status, NtStatus::SUCCESS);
            pc.scanner.set_silent(BULK_OUT, true);
            let call = pc.machine.kernel_calls() + k;
            let closed = Rc::new(Cell::new(false));
            let done = Rc::clone(&closed);
            pc.machine.at(When::KernelCall(call), move |machine| {
                done.set(true);
                assert_eq!(check(machine.close(file.handle)), NtStatus::SUCCESS);
            });
            let request = wait(&pc, file);
            check(pc.machine.run_for(SECOND));
            if !closed.get() {
                // The request waits, and has no more calls.
                break;
            }
            assert!(pc.machine.is_done(&request), "closed at call {k}");
            assert_eq!(pc.finish_request(&request).status, NtStatus::CANCELLED);
            ended += 1;
            pc.finish();
        }
        assert!(ended > 5, "a request makes some calls");
    }
}

/// Whatever completes a request goes on with its handle's queue. It holds the device for that, and
/// gives it up with its last call: the device, and the driver, may be gone after that.
#[test]
fn a_completion_gives_the_device_up_last_of_all() {
    let config = Config {
        trace_calls: true,
        ..Config::default()
    };
    ScannerSetup::with_config(config)
        .started()
        .with_open(|pc, file| {
            let event = pc.wait_on_event(file, 8);
            let read = pc.machine.start_read(file.handle, 100);
            let input = get_descriptor(1, 0, 0);
            pc.scanner.set_silent(0, true);
            let control = pc.start(file, IOCTL_GET_USB_DESCRIPTOR, &input, 18);
            check(pc.machine.run_for(10 * MS));
            let before = pc.machine.trace().len();
            // Each ends in a thread of the bus's own.
            pc.scanner.press(&[1]);
            pc.scanner.send(BULK_IN, &[1; 50], false);
            pc.scanner.set_silent(0, false);
            check(pc.machine.run_for(10 * MS));
            let trace = pc.machine.trace();
            let mut calls = BTreeMap::<u32, Vec<&str>>::new();
            for event in &trace[before..] {
                if let EventKind::Call { name, .. } = event.kind {
                    calls.entry(event.thread).or_default().push(name);
                }
            }
            calls.retain(|_, calls| calls.contains(&"IofCompleteRequest"));
            assert_eq!(calls.len(), 3);
            for calls in calls.values() {
                let count = |name| calls.iter().filter(|call| **call == name).count();
                assert_eq!(calls.last(), Some(&"IoReleaseRemoveLockEx"), "{calls:?}");
                assert_eq!(count("IoReleaseRemoveLockEx"), 1);
                assert_eq!(count("IofCompleteRequest"), 1);
            }
            for request in [&read, &event, &control] {
                assert_eq!(pc.finish_request(request).status, NtStatus::SUCCESS);
            }
        });
}
