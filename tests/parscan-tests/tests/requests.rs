//! Every request, by the tables of the documentation: sizes, statuses, what pends and what does not.

use ntsim::{CANARY, NtStatus};
use parscan_models::{Channel, Condition, Peripheral1284, extensibility};
use parscan_tests::{
    MS, check,
    modes::{Chip, Failures, ModesPc, channel, pattern, pc},
    ntddpar::{
        IOCTL_IEEE1284_GET_MODE, IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_GET_DEFAULT_MODES,
        IOCTL_PAR_GET_DEVICE_CAPS, IOCTL_PAR_IS_PORT_FREE, IOCTL_PAR_QUERY_DEVICE_ID,
        IOCTL_PAR_QUERY_DEVICE_ID_SIZE, IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_QUERY_LOCATION,
        IOCTL_PAR_QUERY_RAW_DEVICE_ID, IOCTL_PAR_SET_INFORMATION, IOCTL_PAR_SET_READ_ADDRESS,
        IOCTL_PAR_SET_WRITE_ADDRESS, IOCTL_SERIAL_GET_TIMEOUTS, IOCTL_SERIAL_SET_TIMEOUTS,
        PARALLEL_INIT, PARALLEL_SELECTED, REQUESTS, modes, timeouts,
    },
};

const ID: &[u8] = b"\x00\x21MFG:Acme;MDL:One;CLS:PRINTER;XY;";

/// A request with buffers that fit exactly.
struct Case {
    name: &'static str,
    code: u32,
    input: Vec<u8>,
    /// What comes back; its length is the shortest output buffer.
    answer: Vec<u8>,
    /// The status when the input is one byte short. `None`: that is fine.
    short_input: Option<NtStatus>,
    /// Needs neither the port nor the worker.
    at_once: bool,
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let case = |name, code, input: &[u8], answer: &[u8], short_input, at_once| Case {
        name,
        code,
        input: input.to_vec(),
        answer: answer.to_vec(),
        short_input,
        at_once,
    };
    let default = modes::mask(modes::NIBBLE, modes::CENTRONICS);
    let text = [&ID[2..], b"\0"].concat();
    let raw = [ID, b"\0"].concat();
    let size = u32::try_from(text.len()).unwrap().to_le_bytes();
    let all = Chip::EcpEpp.read_modes() | Chip::EcpEpp.write_modes();
    let none = [0; 20];
    let (small, invalid) = (
        Some(NtStatus::BUFFER_TOO_SMALL),
        Some(NtStatus::INVALID_PARAMETER),
    );
    vec![
        case(
            "QUERY_INFORMATION",
            IOCTL_PAR_QUERY_INFORMATION,
            &[],
            &[PARALLEL_SELECTED],
            None,
            false,
        ),
        case(
            "SET_INFORMATION",
            IOCTL_PAR_SET_INFORMATION,
            &[PARALLEL_INIT],
            &[],
            small,
            false,
        ),
        case(
            "QUERY_DEVICE_ID",
            IOCTL_PAR_QUERY_DEVICE_ID,
            &[],
            &text,
            None,
            false,
        ),
        case(
            "QUERY_DEVICE_ID_SIZE",
            IOCTL_PAR_QUERY_DEVICE_ID_SIZE,
            &[],
            &size,
            None,
            false,
        ),
        case(
            "QUERY_RAW_DEVICE_ID",
            IOCTL_PAR_QUERY_RAW_DEVICE_ID,
            &[],
            &raw,
            None,
            false,
        ),
        case(
            "GET_MODE",
            IOCTL_IEEE1284_GET_MODE,
            &[],
            &default,
            None,
            true,
        ),
        case(
            "NEGOTIATE",
            IOCTL_IEEE1284_NEGOTIATE,
            &default,
            &default,
            invalid,
            false,
        ),
        case(
            "SET_WRITE_ADDRESS",
            IOCTL_PAR_SET_WRITE_ADDRESS,
            &[9],
            &[],
            invalid,
            false,
        ),
        case(
            "SET_READ_ADDRESS",
            IOCTL_PAR_SET_READ_ADDRESS,
            &[9],
            &[],
            invalid,
            false,
        ),
        case(
            "GET_DEVICE_CAPS",
            IOCTL_PAR_GET_DEVICE_CAPS,
            &[0, 0],
            &all.to_le_bytes(),
            None,
            false,
        ),
        case(
            "GET_DEFAULT_MODES",
            IOCTL_PAR_GET_DEFAULT_MODES,
            &[],
            &default,
            None,
            true,
        ),
        case(
            "IS_PORT_FREE",
            IOCTL_PAR_IS_PORT_FREE,
            &[],
            &[1],
            None,
            true,
        ),
        case(
            "QUERY_LOCATION",
            IOCTL_PAR_QUERY_LOCATION,
            &[],
            b"LPT1\0",
            None,
            true,
        ),
        case(
            "SERIAL_SET_TIMEOUTS",
            IOCTL_SERIAL_SET_TIMEOUTS,
            &none,
            &[],
            small,
            true,
        ),
        case(
            "SERIAL_GET_TIMEOUTS",
            IOCTL_SERIAL_GET_TIMEOUTS,
            &[],
            &none,
            None,
            true,
        ),
    ]
}

fn device() -> Peripheral1284 {
    Peripheral1284::new().with_device_id(ID)
}

#[test]
fn the_table_is_complete() {
    let codes: Vec<_> = cases().iter().map(|case| case.code).collect();
    for code in REQUESTS {
        assert!(codes.contains(&code), "{code:#x}");
    }
    assert_eq!(codes.len(), REQUESTS.len());
}

#[test]
fn buffers_that_fit_exactly_do() {
    for case in cases() {
        let pc = pc(Chip::EcpEpp, &device());
        let lpt1 = pc.open();
        let result = pc.control(lpt1, case.code, &case.input, case.answer.len());
        assert_eq!(result.status, NtStatus::SUCCESS, "{}", case.name);
        assert_eq!(result.information, case.answer.len(), "{}", case.name);
        assert_eq!(result.output, case.answer, "{}", case.name);
        assert_eq!(pc.not_at_rest(), [""; 0], "{}", case.name);
        pc.close_and_finish(lpt1);
    }
}

#[test]
fn longer_buffers_do_too_and_nothing_more_than_the_answer_comes_back() {
    for case in cases() {
        let pc = pc(Chip::EcpEpp, &device());
        let lpt1 = pc.open();
        let mut input = case.input.clone();
        if !input.is_empty() {
            input.resize(300, 0xEE);
        }
        let result = pc.control(lpt1, case.code, &input, 200);
        assert_eq!(result.status, NtStatus::SUCCESS, "{}", case.name);
        let (answer, rest) = result.output.split_at(case.answer.len());
        assert_eq!(result.information, case.answer.len(), "{}", case.name);
        assert_eq!(answer, case.answer, "{}", case.name);
        assert!(rest.iter().all(|byte| *byte == CANARY), "{}", case.name);
        pc.close_and_finish(lpt1);
    }
}

#[test]
fn buffers_one_byte_short_get_their_status() {
    let pc = pc(Chip::EcpEpp, &device());
    let lpt1 = pc.open();
    for case in cases() {
        let is_id = case.answer.len() > 20;
        let accesses = pc.machine.port_accesses();
        if let Some((_, shorter)) = case.input.split_last() {
            let result = pc.control(lpt1, case.code, shorter, case.answer.len());
            let expected = case.short_input.unwrap_or(NtStatus::SUCCESS);
            assert_eq!(result.status, expected, "{}", case.name);
            if case.short_input.is_some() {
                assert_eq!(result.information, 0, "{}", case.name);
                assert!(result.output.iter().all(|byte| *byte == CANARY));
                assert_eq!(pc.machine.port_accesses(), accesses, "{}", case.name);
            }
        }
        let accesses = pc.machine.port_accesses();
        for length in 0..case.answer.len() {
            if is_id && length % 8 != 0 && length + 1 < case.answer.len() {
                continue;
            }
            let result = pc.control(lpt1, case.code, &case.input, length);
            let name = case.name;
            assert_eq!(result.status, NtStatus::BUFFER_TOO_SMALL, "{name}");
            assert_eq!(result.information, 0, "{name}");
            assert!(result.output.iter().all(|byte| *byte == CANARY), "{name}");
            // How long an ID is must be asked of the device.
            assert!(is_id || pc.machine.port_accesses() == accesses, "{name}");
        }
    }
    pc.close_and_finish(lpt1);
}

#[test]
fn what_needs_no_port_is_answered_while_another_request_has_it() {
    let free = |pc: &ModesPc, lpt1| pc.control(lpt1, IOCTL_PAR_IS_PORT_FREE, &[], 1).output;
    for case in cases() {
        let device = device();
        let pc = pc(Chip::EcpEpp, &device);
        let lpt1 = pc.open();
        assert_eq!(free(&pc, lpt1), [1], "{}", case.name);
        device.set_condition(Condition::Busy);
        let long = pc.machine.start_write(lpt1, b"long");
        check(pc.machine.run_for(MS));
        assert_eq!(free(&pc, lpt1), [0], "{}", case.name);
        let request = pc
            .machine
            .start_io_control(lpt1, case.code, &case.input, case.answer.len());
        check(pc.machine.run_for(MS));
        assert_eq!(pc.machine.is_done(&request), case.at_once, "{}", case.name);
        check(pc.machine.run_for(1000 * MS));
        assert_eq!(pc.machine.is_done(&request), case.at_once, "{}", case.name);
        assert!(!pc.machine.is_done(&long), "{}", case.name);
        device.set_condition(Condition::Ready);
        let result = check(pc.machine.finish(&long));
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, 4), "{}", case.name);
        let result = check(pc.machine.finish(&request));
        assert_eq!(result.status, NtStatus::SUCCESS, "{}", case.name);
        check(pc.machine.run_for(MS));
        assert_eq!(free(&pc, lpt1), [1], "{}", case.name);
        pc.close_and_finish(lpt1);
    }
}

/// Modes for writing and reading, fastest first.
const WRITE_ORDER: [u16; 6] = [
    modes::ECP_HW_NOIRQ,
    modes::EPP_HW,
    modes::EPP_SW,
    modes::ECP_SW,
    modes::IEEE_COMPATIBILITY,
    modes::CENTRONICS,
];
const READ_ORDER: [u16; 6] = [
    modes::ECP_HW_NOIRQ,
    modes::EPP_HW,
    modes::EPP_SW,
    modes::ECP_SW,
    modes::BYTE_BIDIR,
    modes::NIBBLE,
];

/// Extensibility bytes of a device, and the modes that it has with them.
const DEVICES: [(&[u8], u16); 6] = [
    (&extensibility::ALL, 0xFFFF),
    (&[extensibility::NIBBLE], modes::NIBBLE | COMPATIBLE),
    (
        &[extensibility::NIBBLE, extensibility::BYTE],
        modes::NIBBLE | modes::BYTE_BIDIR | COMPATIBLE,
    ),
    (
        &[extensibility::NIBBLE, extensibility::EPP],
        modes::NIBBLE | modes::EPP_HW | modes::EPP_SW | COMPATIBLE,
    ),
    (
        &[extensibility::BYTE, extensibility::ECP],
        // XFlag says nothing of nibble mode.
        modes::NIBBLE | modes::BYTE_BIDIR | modes::ECP_HW_NOIRQ | modes::ECP_SW | COMPATIBLE,
    ),
    (&[], modes::NIBBLE | COMPATIBLE),
];
const COMPATIBLE: u16 = modes::CENTRONICS | modes::IEEE_COMPATIBILITY;

fn fastest(order: &[u16], among: u16) -> Option<u16> {
    order.iter().copied().find(|mode| among & mode != 0)
}

#[test]
fn negotiation_chooses_the_fastest_that_both_sides_have() {
    let mut failures = Failures::default();
    let default = (modes::NIBBLE, modes::CENTRONICS);
    for chip in Chip::ALL {
        for (requests, has) in DEVICES {
            let device = Peripheral1284::new().with_requests(requests);
            let pc = pc(chip, &device);
            let lpt1 = pc.open();
            let mut now = default;
            let any = READ_ORDER.iter().fold(0, |any, mode| any | mode);
            let any_write = WRITE_ORDER.iter().fold(0, |any, mode| any | mode);
            let slow = COMPATIBLE | modes::NIBBLE | modes::BYTE_BIDIR;
            for (read, write) in [
                (0xFFFF, 0xFFFF),
                (any & slow, any_write & slow),
                (any & !slow, any_write),
                (any, any_write & !slow),
                (modes::ECP_SW | modes::EPP_SW, modes::ECP_SW | modes::EPP_SW),
                (modes::NIBBLE, modes::CENTRONICS),
            ] {
                let what = format!("{chip:?}, {requests:x?}, offered {read:#06x} {write:#06x}");
                let best = fastest(&READ_ORDER, read & has & chip.read_modes())
                    .zip(fastest(&WRITE_ORDER, write & has & chip.write_modes()));
                let offered = modes::mask(read, write);
                let result = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
                if let Some(best) = best {
                    now = best;
                    failures.expect(
                        result.status == NtStatus::SUCCESS
                            && result.output == modes::mask(best.0, best.1)
                            && result.information == 4,
                        || format!("{what}: {result:?}, not {best:x?}"),
                    );
                } else {
                    // The one failure that the pages allow.
                    failures.expect(
                        result.status == NtStatus::UNSUCCESSFUL && result.information == 0,
                        || format!("{what}: {result:?}"),
                    );
                }
                failures.expect_rest(&pc, &what);
                let mode = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
                failures.expect(mode.output == modes::mask(now.0, now.1), || {
                    format!("{what}: GET_MODE {:x?}, not {now:x?}", mode.output)
                });
            }
            check(pc.machine.close(lpt1));
            let lpt1 = pc.open();
            let mode = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
            assert_eq!(mode.output, modes::mask(default.0, default.1), "{chip:?}");
            pc.close_and_finish(lpt1);
        }
    }
    failures.end();
}

#[test]
fn default_modes_are_constant() {
    let pc = pc(Chip::EcpEpp, &device());
    let lpt1 = pc.open();
    pc.choose(lpt1, modes::BYTE_BIDIR, modes::ECP_SW);
    let result = pc.control(lpt1, IOCTL_PAR_GET_DEFAULT_MODES, &[], 4);
    assert_eq!(result.output, modes::mask(modes::NIBBLE, modes::CENTRONICS));
    pc.close_and_finish(lpt1);
}

#[test]
fn the_modes_of_every_device_on_every_chip_are_told() {
    for chip in Chip::ALL {
        for (requests, has) in DEVICES {
            let device = Peripheral1284::new().with_requests(requests);
            let pc = pc(chip, &device);
            let lpt1 = pc.open();
            // Asking for EPP would end in a reset.
            let has = has | modes::EPP_HW | modes::EPP_SW;
            let both = (chip.read_modes() | chip.write_modes()) & has;
            let none = [0, 0];
            let caps = pc.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, &none, 2);
            assert_eq!(caps.status, NtStatus::SUCCESS, "{chip:?} {requests:x?}");
            assert_eq!(
                caps.output,
                both.to_le_bytes(),
                "{chip:?} {requests:x?}, expected {both:#06x}"
            );
            assert_eq!(pc.not_at_rest(), [""; 0], "{chip:?} {requests:x?}");
            pc.close_and_finish(lpt1);
        }
    }
}

#[test]
fn excluded_modes_stay_out_until_the_next_call_or_close() {
    let pc = pc(Chip::EcpEpp, &device());
    let all = Chip::EcpEpp.read_modes() | Chip::EcpEpp.write_modes();
    let caps = |lpt1, input: &[u8]| pc.control(lpt1, IOCTL_PAR_GET_DEVICE_CAPS, input, 2).output;
    let fast = |lpt1| {
        let offered = modes::mask(0xFFFF, 0xFFFF);
        let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
        assert_eq!(chosen.status, NtStatus::SUCCESS);
        chosen.output
    };
    let lpt1 = pc.open();
    for round in 0..2 {
        for excluded in [
            modes::ECP_HW_NOIRQ,
            modes::ECP_HW_NOIRQ | modes::EPP_HW,
            all & !(modes::NIBBLE | modes::CENTRONICS),
        ] {
            let what = format!("{excluded:#06x}, round {round}");
            assert_eq!(
                caps(lpt1, &excluded.to_le_bytes()),
                (all & !excluded).to_le_bytes(),
                "{what}"
            );
            for _ in 0..2 {
                let left = !excluded;
                let read = fastest(&READ_ORDER, left).unwrap();
                let write = fastest(&WRITE_ORDER, left).unwrap();
                assert_eq!(fast(lpt1), modes::mask(read, write), "{what}");
            }
        }
        // A short input excludes nothing.
        let input: &[u8] = if round == 0 { &[0, 0] } else { &[0xFF] };
        assert_eq!(caps(lpt1, input), all.to_le_bytes());
        let fastest = modes::mask(modes::ECP_HW_NOIRQ, modes::ECP_HW_NOIRQ);
        assert_eq!(fast(lpt1), fastest);
    }
    // Nothing that is offered may be used.
    let excluded = modes::EPP_HW | modes::EPP_SW;
    assert_eq!(
        caps(lpt1, &excluded.to_le_bytes()),
        (all & !excluded).to_le_bytes()
    );
    let offered = modes::mask(modes::EPP_HW, modes::EPP_SW);
    let refused = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
    assert_eq!(refused.outcome(), (NtStatus::UNSUCCESSFUL, 0));
    check(pc.machine.close(lpt1));
    let lpt1 = pc.open();
    let chosen = pc.control(lpt1, IOCTL_IEEE1284_NEGOTIATE, &offered, 4);
    assert_eq!(chosen.output, offered, "nothing is excluded after a close");
    pc.close_and_finish(lpt1);
}

#[test]
fn ecp_has_128_channels_and_epp_256_addresses() {
    let device = device();
    let pc = pc(Chip::EcpEpp, &device);
    for (mode, last) in [
        (modes::ECP_HW_NOIRQ, 127),
        (modes::ECP_SW, 127),
        (modes::EPP_HW, 255),
        (modes::EPP_SW, 255),
    ] {
        let lpt1 = pc.open();
        pc.choose(lpt1, mode, mode);
        for address in [0, 1, 5, 126, 127, 128, 200, 255] {
            let what = format!("{mode:#06x} {address}");
            let expected = if address <= last {
                NtStatus::SUCCESS
            } else {
                NtStatus::INVALID_PARAMETER
            };
            for code in [IOCTL_PAR_SET_READ_ADDRESS, IOCTL_PAR_SET_WRITE_ADDRESS] {
                let result = pc.control(lpt1, code, &[address], 0);
                assert_eq!(result.status, expected, "{what}");
                assert_eq!(result.information, 0, "{what}");
            }
            let to = match channel(mode) {
                Channel::Ecp(_) => Channel::Ecp(address.min(last)),
                _ => Channel::Epp(address),
            };
            device.clear_received();
            let write = check(pc.machine.write(lpt1, &[1, 2, address]));
            assert_eq!(write.outcome(), (NtStatus::SUCCESS, 3), "{what}");
            assert_eq!(device.received_on(to), [1, 2, address], "{what}");
            device.give_on(to, &[address, 4]);
            let read = check(pc.machine.read(lpt1, 2));
            assert_eq!(read.outcome(), (NtStatus::SUCCESS, 2), "{what}");
            assert_eq!(read.output, [address, 4], "{what}");
        }
        check(pc.machine.close(lpt1));
    }
    // An address that was set for EPP has no meaning in ECP.
    let lpt1 = pc.open();
    pc.choose(lpt1, modes::EPP_HW, modes::EPP_HW);
    let set = pc.control(lpt1, IOCTL_PAR_SET_WRITE_ADDRESS, &[200], 0);
    assert_eq!(set.status, NtStatus::SUCCESS);
    pc.choose(lpt1, modes::ECP_SW, modes::ECP_SW);
    device.clear_received();
    let write = check(pc.machine.write(lpt1, b"lost"));
    assert_eq!(write.outcome(), (NtStatus::INVALID_PARAMETER, 0));
    assert_eq!(device.received(), b"");
    assert_eq!(pc.not_at_rest(), [""; 0]);
    pc.close_and_finish(lpt1);
}

#[test]
fn time_outs_come_back_as_they_were_set() {
    const MAX: u32 = u32::MAX;
    let pc = pc(Chip::Spp, &device());
    let lpt1 = pc.open();
    let get = |lpt1| pc.control(lpt1, IOCTL_SERIAL_GET_TIMEOUTS, &[], 20).output;
    assert_eq!(get(lpt1), timeouts([0; 5]));
    for fields in [
        [1, 2, 3, 4, 5],
        [MAX, 0, 0, 0, 0],
        [MAX, MAX, MAX - 1, MAX, MAX],
        [0, MAX, MAX, MAX, MAX],
        [
            0x0102_0304,
            0x0506_0708,
            0x090A_0B0C,
            0x0D0E_0F10,
            0x1112_1314,
        ],
    ] {
        pc.set_timeouts(lpt1, fields);
        assert_eq!(get(lpt1), timeouts(fields), "{fields:x?}");
        for forbidden in [[MAX, 0, MAX, 0, 0], [MAX, 1, MAX, 1, 1], [MAX; 5]] {
            let input = timeouts(forbidden);
            let result = pc.control(lpt1, IOCTL_SERIAL_SET_TIMEOUTS, &input, 0);
            assert_eq!(
                result.outcome(),
                (NtStatus::INVALID_PARAMETER, 0),
                "{forbidden:x?}"
            );
            assert_eq!(get(lpt1), timeouts(fields), "{fields:x?} stay");
        }
    }
    check(pc.machine.close(lpt1));
    let lpt1 = pc.open();
    assert_eq!(get(lpt1), timeouts([0; 5]), "after a close");
    pc.close_and_finish(lpt1);
}

#[test]
fn nothing_is_transferred_at_once() {
    let device = device();
    let pc = pc(Chip::EcpEpp, &device);
    let lpt1 = pc.open();
    device.give(b"not asked for");
    let accesses = pc.machine.port_accesses();
    for result in [
        check(pc.machine.read(lpt1, 0)),
        check(pc.machine.write(lpt1, &[])),
    ] {
        assert_eq!(result.outcome(), (NtStatus::SUCCESS, 0));
    }
    assert_eq!(pc.machine.port_accesses(), accesses);
    pc.close_and_finish(lpt1);
}

#[test]
fn an_unknown_code_is_an_invalid_parameter() {
    let pc = pc(Chip::EcpEpp, &device());
    let lpt1 = pc.open();
    let accesses = pc.machine.port_accesses();
    let functions = (0..64).map(|function| 0x0016_0000 + 4 * function);
    // The same requests with another method or access are others.
    let relatives = REQUESTS.iter().flat_map(|code| [code | 3, code | 0x4000]);
    let serial = (0..64).map(|function| 0x001B_0000 + 4 * function);
    let others = [0, 1, 0x0022_0003, 0x8000_2010, 0xFFFF_FFFC];
    for code in functions.chain(relatives).chain(serial).chain(others) {
        if REQUESTS.contains(&code) {
            continue;
        }
        for (input, output) in [(0, 0), (1, 0), (0, 1), (256, 256)] {
            let result = pc.control(lpt1, code, &vec![1; input], output);
            assert_eq!(result.status, NtStatus::INVALID_PARAMETER, "{code:#x}");
            assert_eq!(result.information, 0, "{code:#x}");
            assert!(
                result.output.iter().all(|byte| *byte == CANARY),
                "{code:#x}"
            );
        }
    }
    assert_eq!(pc.machine.port_accesses(), accesses);
    pc.close_and_finish(lpt1);
}

/// The port belongs to no request between two requests, so every mode is left, and entered again; but
/// for EPP, whose end is a reset.
#[test]
fn every_request_leaves_the_port_at_rest_and_the_modes_as_they_are() {
    let device = device();
    let pc = pc(Chip::EcpEpp, &device);
    for mode in [
        modes::ECP_HW_NOIRQ,
        modes::ECP_SW,
        modes::EPP_HW,
        modes::EPP_SW,
    ] {
        for case in cases() {
            // They are there to change what the others look at.
            if [IOCTL_IEEE1284_NEGOTIATE, IOCTL_PAR_SET_INFORMATION].contains(&case.code) {
                continue;
            }
            let what = format!("{mode:#06x}, {}", case.name);
            let lpt1 = pc.open();
            pc.choose(lpt1, mode, mode);
            device.give(&pattern(3));
            let read = check(pc.machine.read(lpt1, 3));
            assert_eq!(read.output, pattern(3), "{what}");
            assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
            let result = pc.control(lpt1, case.code, &case.input, case.answer.len());
            assert_eq!(result.status, NtStatus::SUCCESS, "{what}");
            assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
            let now = pc.control(lpt1, IOCTL_IEEE1284_GET_MODE, &[], 4);
            assert_eq!(now.output, modes::mask(mode, mode), "{what}");
            device.clear_received();
            let write = check(pc.machine.write(lpt1, b"after"));
            assert_eq!(write.status, NtStatus::SUCCESS, "{what}");
            assert_eq!(device.received(), b"after", "{what}");
            assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
            check(pc.machine.close(lpt1));
        }
    }
    pc.finish();
}

/// A parallel device is a stream without a length and without places.
#[test]
fn a_device_has_no_length_and_no_places() {
    /// `FileStandardInformation` and `FilePositionInformation`.
    const STANDARD: i32 = 5;
    const POSITION: i32 = 14;
    let peripheral = Peripheral1284::new();
    let pc = pc(Chip::Ps2, &peripheral);
    let lpt1 = pc.open();
    for (class, size) in [(STANDARD, 24), (POSITION, 8)] {
        let answer = check(pc.machine.query_information(lpt1, class, size));
        assert_eq!(
            (answer.status, answer.information, answer.output),
            (NtStatus::SUCCESS, size, vec![0; size]),
            "class {class}"
        );
        let short = check(pc.machine.query_information(lpt1, class, size - 1));
        assert_eq!(
            short.outcome(),
            (NtStatus::BUFFER_TOO_SMALL, 0),
            "class {class}"
        );
    }
    for class in [0, 4, 6, 9, 99] {
        let other = check(pc.machine.query_information(lpt1, class, 64));
        assert_eq!(
            other.outcome(),
            (NtStatus::INVALID_PARAMETER, 0),
            "class {class}"
        );
    }
    let accesses = pc.machine.port_accesses();
    // -1 and -2 are the end of the file and its position: see streams.rs.
    for offset in [1, -3, i64::MAX] {
        let read = check(pc.machine.read_at(lpt1, offset, 4));
        let write = check(pc.machine.write_at(lpt1, offset, b"abcd"));
        for result in [read, write] {
            assert_eq!(
                result.outcome(),
                (NtStatus::INVALID_PARAMETER, 0),
                "offset {offset}"
            );
        }
    }
    assert_eq!(pc.machine.port_accesses(), accesses);
    pc.close_and_finish(lpt1);
}
