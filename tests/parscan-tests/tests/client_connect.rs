//! `IOCTL_INTERNAL_PARCLASS_CONNECT`: the table that it gives, and every routine of it, rightly and wrongly called.

use ntsim::{CANARY, NtStatus, RegValue};
use parscan_models::Peripheral1284;
use parscan_tests::{
    Setup, check,
    client::{
        APC, Answer, Callback, Client, DEVICE, DISPATCH, PASSIVE, PORT, Request, Slot, on_device,
        on_locked_device, with_client,
    },
    modes::{Chip, Failures, ModesPc, pc, pc_with},
    ntddpar::{IOCTL_PAR_IS_PORT_FREE, modes},
    parallel_h::{
        IOCTL_INTERNAL_PARCLASS_CONNECT, IOCTL_INTERNAL_PARCLASS_DISCONNECT, PARCLASS_INFORMATION,
        ParclassInformation, SAFE_MODE, UNSAFE_MODE, capabilities, command, command_flags,
    },
};

/// An ID that no device of a chain has: there are two at most.
const NO_DEVICE: [u8; 8] = command(7, command_flags::HAVE_PORT_KEEP_PORT);
/// For a caller that has the port, and keeps it.
const END_OF_CHAIN: [u8; 8] = command(
    0,
    command_flags::END_OF_CHAIN_DEVICE | command_flags::HAVE_PORT_KEEP_PORT,
);

/// For a caller that does not have the port: it gets it, and gives it back.
const WITHOUT_PORT: [u8; 8] = command(0, command_flags::END_OF_CHAIN_DEVICE);

/// `HardwareCapabilities` of a chip without 32-bit EPP and without a chain.
const fn hardware(chip: Chip) -> u32 {
    match chip {
        Chip::Spp => 0,
        Chip::Ps2 => capabilities::BYTE_PRESENT,
        Chip::Epp => capabilities::BYTE_PRESENT | capabilities::EPP_PRESENT,
        Chip::Ecp => capabilities::BYTE_PRESENT | capabilities::ECP_PRESENT,
        Chip::EcpEpp => {
            capabilities::BYTE_PRESENT | capabilities::ECP_PRESENT | capabilities::EPP_PRESENT
        }
    }
}

const fn negotiate(forward: u16, reverse: u16, safety: u32) -> Callback<'static> {
    Callback::NegotiateIeeeMode {
        forward,
        reverse,
        safety,
        is_forward: true,
    }
}

/// Every routine that may touch the port, with arguments that it accepts.
const ROUTINES: [(Callback<'static>, &str); 8] = [
    (
        negotiate(modes::CENTRONICS, modes::NIBBLE, SAFE_MODE),
        "NegotiateIeeeMode",
    ),
    (Callback::IeeeFwdToRevMode, "IeeeFwdToRevMode"),
    (Callback::IeeeRevToFwdMode, "IeeeRevToFwdMode"),
    (Callback::ParallelRead(4), "ParallelRead"),
    (Callback::ParallelWrite(b"data"), "ParallelWrite"),
    (
        Callback::ParallelTryselect(END_OF_CHAIN),
        "ParallelTryselect",
    ),
    (Callback::ParallelDeSelect(END_OF_CHAIN), "ParallelDeSelect"),
    (Callback::TerminateIeeeMode, "TerminateIeeeMode"),
];

/// Calls every routine; each gives this status, and none touches the port.
#[track_caller]
fn all_refuse(pc: &ModesPc, device: &Slot<'_>, irql: u8, status: NtStatus, when: &str) {
    let mut failures = Failures::default();
    for (callback, name) in ROUTINES {
        let before = pc.machine.port_accesses();
        let answer = device.call(callback, irql);
        let accesses = pc.machine.port_accesses() - before;
        failures.expect(accesses == 0, || {
            format!("{name} {when}: {accesses} accesses")
        });
        // Its page knows success alone.
        let terminates = matches!(callback, Callback::TerminateIeeeMode);
        let fine = answer.status() == status || terminates && answer.status() == NtStatus::SUCCESS;
        failures.expect(fine, || format!("{name} {when}: {}", answer.status()));
        if matches!(
            callback,
            Callback::ParallelRead(_) | Callback::ParallelWrite(_)
        ) {
            failures.expect(answer.count == 0, || {
                format!("{name} {when}: count {:#x}", answer.count)
            });
        }
        if matches!(callback, Callback::ParallelRead(_)) {
            failures.expect(answer.data == [CANARY; 4], || {
                format!("{name} {when}: wrote {:x?}", answer.data)
            });
        }
    }
    failures.end();
}

#[test]
fn short_buffers_get_nothing() {
    on_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |_, _, device| {
        for length in 0..PARCLASS_INFORMATION {
            let result = device.irp(&Request::internal(
                IOCTL_INTERNAL_PARCLASS_CONNECT,
                &[],
                length,
            ));
            assert_eq!(result.status, NtStatus::BUFFER_TOO_SMALL, "{length}");
            assert_eq!(result.information, 0, "{length}");
            assert_eq!(result.output, vec![CANARY; length], "{length}");
        }
        for length in [PARCLASS_INFORMATION, 4096] {
            let result = device.internal(IOCTL_INTERNAL_PARCLASS_CONNECT, &[], length);
            let _ = ParclassInformation::parse(&result);
            let rest = &result.output[PARCLASS_INFORMATION..];
            assert!(rest.iter().all(|byte| *byte == CANARY), "{length}");
        }
    });
}

#[test]
fn the_table_tells_the_chip_and_no_more() {
    for chip in Chip::ALL {
        on_device(pc(chip, &Peripheral1284::new()), |_, _, device| {
            let table = device.connect();
            let has_fifo = matches!(chip, Chip::Ecp | Chip::EcpEpp);
            assert_eq!(table.controller, 0x378, "{chip:?}");
            assert_eq!(table.span_of_controller, 8, "{chip:?}");
            let ecr = if has_fifo { 0x778 } else { 0 };
            assert_eq!(table.ecr_controller, ecr, "{chip:?}");
            assert_eq!(table.hardware_capabilities, hardware(chip), "{chip:?}");
            let fifo = if has_fifo { [16, 8] } else { [0, 0] };
            assert_eq!(table.fifo, fifo, "{chip:?}");
            let image = device.image();
            for routine in table.routines {
                assert!(
                    image.contains(&routine),
                    "{chip:?}: {routine:#x}, the image is {image:x?}"
                );
            }
            let mut sorted = table.routines;
            sorted.sort_unstable();
            let first = sorted.windows(2).find(|pair| pair[0] == pair[1]);
            let select = [table.routines[7], table.routines[8]];
            // Only the two selections could be one routine.
            assert!(
                first.is_none_or(|pair| select == [pair[0]; 2]),
                "{chip:?}: {:x?}",
                table.routines
            );
            assert_ne!(table.context, 0, "{chip:?}");
            assert!(!image.contains(&table.context), "{chip:?}");
            // A second connect gives the same, and is given back like the first.
            assert_eq!(device.connect(), table, "{chip:?}");
            assert_eq!(
                device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
                NtStatus::SUCCESS
            );
            assert_eq!(
                device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
                NtStatus::SUCCESS
            );
        });
    }
}

#[test]
fn a_chip_with_32_bit_epp_says_so() {
    let setup = Setup {
        hardware_key: vec![("ParscanEpp32".into(), RegValue::Dword(1))],
        ..Setup::default()
    };
    on_device(
        pc_with(Chip::EcpEpp, &Peripheral1284::new(), setup),
        |_, _, device| {
            let expected = hardware(Chip::EcpEpp) | capabilities::EPP_32_PRESENT;
            assert_eq!(device.connect().hardware_capabilities, expected);
        },
    );
}

#[test]
fn the_modes_of_the_device_are_told_at_any_irql() {
    for chip in Chip::ALL {
        on_locked_device(pc(chip, &Peripheral1284::new()), |pc, _, device| {
            let all = chip.write_modes() | chip.read_modes();
            let modes = |irql| device.call(Callback::DetermineIeeeModes, irql).short();
            assert_eq!(modes(PASSIVE), all, "{chip:?}");
            assert_eq!(modes(APC), all, "{chip:?}");
            let before = pc.machine.port_accesses();
            assert_eq!(modes(DISPATCH), all, "{chip:?}");
            assert_eq!(pc.machine.port_accesses(), before, "{chip:?}");
        });
    }
}

#[test]
fn routines_with_the_lock_do_their_work() {
    for irql in [PASSIVE, APC] {
        let peripheral = Peripheral1284::new();
        on_locked_device(pc(Chip::EcpEpp, &peripheral), |_, _, device| {
            peripheral.give(b"four");
            for (callback, name) in ROUTINES {
                let answer = device.call(callback, irql);
                assert_eq!(answer.status(), NtStatus::SUCCESS, "{name} at {irql}");
            }
            assert_eq!(peripheral.received(), b"data");
        });
    }
}

#[test]
fn negotiation_takes_the_fastest_of_both_sides() {
    use modes::{CENTRONICS, ECP_HW_NOIRQ, ECP_SW, EPP_HW, EPP_SW, IEEE_COMPATIBILITY, NIBBLE};
    let extensibility = |mode| match mode {
        EPP_HW => 0x40,
        ECP_HW_NOIRQ => 0x10,
        _ => unreachable!("not in the table"),
    };
    let cases = [
        // Offered for writing, what becomes of it on a chip with everything.
        (CENTRONICS | ECP_HW_NOIRQ | ECP_SW | EPP_HW, ECP_HW_NOIRQ),
        (IEEE_COMPATIBILITY | EPP_SW | EPP_HW | ECP_SW, EPP_HW),
        // Modes of the other direction are not looked at.
        (NIBBLE | EPP_HW, EPP_HW),
    ];
    for (offered, chosen) in cases {
        let peripheral = Peripheral1284::new();
        with_client(pc(Chip::EcpEpp, &peripheral), |pc, client| {
            let device = client.open_locked();
            let answer = device.call(negotiate(offered, chosen, SAFE_MODE), PASSIVE);
            assert_eq!(answer.status(), NtStatus::SUCCESS, "{offered:#06x}");
            let last = peripheral.negotiations().last().map(|byte| byte & !0x20);
            assert_eq!(last, Some(extensibility(chosen)), "{offered:#06x}");
            // A mode is set: it has to be terminated first.
            let again = device.call(negotiate(offered, chosen, SAFE_MODE), PASSIVE);
            assert_eq!(again.status(), NtStatus::DEVICE_PROTOCOL_ERROR);
            let ended = device.call(Callback::TerminateIeeeMode, PASSIVE);
            assert_eq!(ended.status(), NtStatus::SUCCESS);
            let again = device.call(negotiate(offered, chosen, SAFE_MODE), PASSIVE);
            assert_eq!(again.status(), NtStatus::SUCCESS);
            device.unlock();
            device.close();
            assert_eq!(pc.not_at_rest(), [""; 0]);
        });
    }
}

#[test]
fn wrong_arguments_are_refused_without_an_access() {
    let peripheral = Peripheral1284::new();
    on_locked_device(pc(Chip::EcpEpp, &peripheral), |pc, _, device| {
        let invalid = NtStatus::INVALID_PARAMETER;
        let cases = [
            (
                negotiate(modes::CENTRONICS, modes::NIBBLE, UNSAFE_MODE),
                invalid,
            ),
            (negotiate(modes::CENTRONICS, modes::NIBBLE, 77), invalid),
            (Callback::ParallelTryselect(NO_DEVICE), invalid),
            (Callback::ParallelDeSelect(NO_DEVICE), invalid),
            (Callback::ParallelRead(0), NtStatus::SUCCESS),
            (Callback::ParallelWrite(&[]), NtStatus::SUCCESS),
        ];
        for (callback, status) in cases {
            let before = pc.machine.port_accesses();
            let answer = device.call(callback, PASSIVE);
            assert_eq!(answer.status(), status, "{callback:?}");
            assert_eq!(pc.machine.port_accesses(), before, "{callback:?}");
            if status == NtStatus::SUCCESS {
                assert_eq!(answer.count, 0, "{callback:?}");
            } else {
                assert_eq!(answer.count, Answer::UNCOUNTED, "{callback:?}");
            }
        }
        // Nowhere to write the count: no page forbids it, so it must not be the machine's end.
        for callback in [
            Callback::WriteWithoutCount(b"xyz"),
            Callback::ReadWithoutCount(3),
        ] {
            let status = device.call(callback, PASSIVE).status();
            assert!(
                [NtStatus::SUCCESS, invalid].contains(&status),
                "{callback:?}: {status}"
            );
        }
    });
}

#[test]
fn routines_without_their_context_answer_without_an_access() {
    on_locked_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, device| {
        let before = pc.machine.port_accesses();
        let modes = device.call_without_context(Callback::DetermineIeeeModes, PASSIVE);
        assert_eq!(modes.value & 0xFFFF, 0);
        for (callback, name) in ROUTINES {
            let status = device.call_without_context(callback, PASSIVE).status();
            assert_eq!(status, NtStatus::INVALID_PARAMETER, "{name}");
        }
        assert_eq!(pc.machine.port_accesses(), before);
    });
}

#[test]
fn routines_refuse_at_dispatch_level() {
    on_locked_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, device| {
        let status = NtStatus::INVALID_DEVICE_STATE;
        all_refuse(pc, device, DISPATCH, status, "at DISPATCH_LEVEL");
    });
}

#[test]
fn routines_refuse_without_the_lock_and_after_disconnect() {
    on_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, device| {
        device.connect();
        let status = NtStatus::INVALID_DEVICE_STATE;
        all_refuse(pc, device, PASSIVE, status, "without the lock");
        device.lock();
        device.unlock();
        all_refuse(pc, device, PASSIVE, status, "after the lock");
        device.lock();
        assert_eq!(
            device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
            NtStatus::SUCCESS
        );
        all_refuse(pc, device, PASSIVE, status, "after PARCLASS_DISCONNECT");
        device.unlock();
        let free = device.plain(IOCTL_PAR_IS_PORT_FREE, &[], 1);
        assert_eq!(free.output, [1], "the port is free");
    });
}

#[test]
fn routines_know_that_the_port_is_gone() {
    let pc = pc(Chip::EcpEpp, &Peripheral1284::new());
    let client = Client::load(&pc);
    let device = client.open_locked();
    assert_eq!(check(pc.machine.unplug(pc.node)), NtStatus::SUCCESS);
    let status = NtStatus::DEVICE_REMOVED;
    all_refuse(&pc, &device, PASSIVE, status, "after surprise removal");
    let before = pc.machine.port_accesses();
    let _ = device.call(Callback::DetermineIeeeModes, PASSIVE);
    assert_eq!(pc.machine.port_accesses(), before);
    device.close();
    client.unload();
    pc.unload();
}

/// A selection without the port takes it, if it is free, and locks it; a deselection gives it back.
#[test]
fn a_selection_takes_the_port_and_gives_it_back() {
    with_client(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, client| {
        let select = Callback::ParallelTryselect(WITHOUT_PORT);
        let deselect = Callback::ParallelDeSelect(WITHOUT_PORT);
        let is_free =
            |device: &Slot<'_>| device.plain(IOCTL_PAR_IS_PORT_FREE, &[], 1).output == [1];
        for attached in [false, true] {
            let device = if attached {
                client.attach(DEVICE)
            } else {
                client.open(DEVICE)
            };
            device.connect();
            let status = |callback| device.call(callback, PASSIVE).status();
            assert_eq!(status(deselect), NtStatus::INVALID_DEVICE_STATE);
            assert_eq!(status(select), NtStatus::SUCCESS);
            assert!(!is_free(&device));
            assert_eq!(status(select), NtStatus::INVALID_DEVICE_STATE, "it has it");
            let written = device.call(Callback::ParallelWrite(b"x"), PASSIVE);
            assert_eq!((written.status(), written.count), (NtStatus::SUCCESS, 1));
            assert_eq!(status(deselect), NtStatus::SUCCESS);
            assert!(is_free(&device));
            // Nothing is queued for a port that another has.
            let owner = client.open(PORT);
            owner.allocate();
            let before = pc.machine.port_accesses();
            assert_eq!(status(select), NtStatus::PENDING);
            assert_eq!(pc.machine.port_accesses(), before);
            owner.free();
            assert!(is_free(&device), "it was no request");
            owner.close();
            assert_eq!(
                device.order(IOCTL_INTERNAL_PARCLASS_DISCONNECT),
                NtStatus::SUCCESS
            );
            device.close();
        }
        assert_eq!(pc.printer.received(), b"xx");
    });
}

/// A class driver asks for what is known of a port that is stopped: it is told to wait.
#[test]
fn a_stopped_port_has_no_table() {
    on_device(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, device| {
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
        let refused = device.internal(IOCTL_INTERNAL_PARCLASS_CONNECT, &[], PARCLASS_INFORMATION);
        assert_eq!(refused.outcome(), (NtStatus::DEVICE_NOT_READY, 0));
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        let _ = device.connect();
    });
}

/// Before the port was ever locked the modes are the port's.
#[test]
fn the_modes_are_the_ports_before_the_device_was_asked() {
    let none = Peripheral1284::new().with_requests(&[]);
    on_device(pc(Chip::Spp, &none), |pc, _, device| {
        device.connect();
        let before = pc.machine.port_accesses();
        for irql in [PASSIVE, DISPATCH] {
            let modes = device.call(Callback::DetermineIeeeModes, irql).short();
            assert_eq!(modes & modes::NIBBLE, modes::NIBBLE, "at {irql}");
            assert_eq!(modes & modes::ECP_HW_NOIRQ, 0, "at {irql}");
        }
        assert_eq!(pc.machine.port_accesses(), before);
    });
}
