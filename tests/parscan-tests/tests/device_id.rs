//! The device ID, from devices that keep the standard and from those that do not.

use ntsim::{CANARY, Handle, NtStatus};
use parscan_models::{Condition, Misbehaviour, Peripheral1284, extensibility};
use parscan_tests::{
    MS, check,
    modes::{Chip, Failures, ModesPc, pc},
    ntddpar::{
        IOCTL_PAR_QUERY_DEVICE_ID, IOCTL_PAR_QUERY_DEVICE_ID_SIZE, IOCTL_PAR_QUERY_RAW_DEVICE_ID,
        modes,
    },
};

/// The chips, and what the device offers its ID in.
const ROUTES: [(Chip, u8); 7] = [
    (Chip::Spp, extensibility::ID_NIBBLE),
    (Chip::EcpEpp, extensibility::ID_NIBBLE),
    (Chip::Ps2, extensibility::ID_BYTE),
    (Chip::Ecp, extensibility::ID_BYTE),
    (Chip::Ps2, extensibility::ID_ECP),
    (Chip::Epp, extensibility::ID_ECP),
    (Chip::Ecp, extensibility::ID_ECP),
];

/// IDs as manuals and drivers print them.
const TEXTS: [&str; 5] = [
    "MFG:Hewlett-Packard;MDL:HP LaserJet 4P;CLS:PRINTER;DES:Hewlett-Packard LaserJet 4P;",
    "MANUFACTURER:Hewlett-Packard;COMMAND SET:PJL,MLC,PCL,POSTSCRIPT;MODEL:HP Color LaserJet 4500;\
     CLASS:PRINTER;DESCRIPTION:Hewlett-Packard Color LaserJet 4500;",
    "MFG:CITIZEN;CMD:ESC/POS;MDL:CT-S280;CLS:PRINTER;",
    "mfg: EPSON ; mdl: EPL-5700 ; cmd: ESCPL2,EJL ; cls: PRINTER ; sn: 0001 ;",
    "X:;",
];

fn device(route: u8, sent: &[u8]) -> Peripheral1284 {
    // A mode to find that the device is alive, whatever its ID is like.
    Peripheral1284::new()
        .with_requests(&[extensibility::NIBBLE, route])
        .with_device_id(sent)
}

/// All three questions must tell the same, `id` being what the device sent and the driver believed.
fn expect_id(pc: &ModesPc, lpt1: Handle, id: &[u8], what: &str, failures: &mut Failures) {
    let text = [&id[2..], b"\0"].concat();
    let raw = [id, b"\0"].concat();
    let size = u32::try_from(text.len()).unwrap().to_le_bytes();
    for (code, name, answer) in [
        (IOCTL_PAR_QUERY_DEVICE_ID_SIZE, "size", &size[..]),
        (IOCTL_PAR_QUERY_DEVICE_ID, "cooked", &text),
        (IOCTL_PAR_QUERY_RAW_DEVICE_ID, "raw", &raw),
    ] {
        // Exactly enough room.
        let result = pc.control(lpt1, code, &[], answer.len());
        failures.expect(
            result.outcome() == (NtStatus::SUCCESS, answer.len()) && result.output == answer,
            || {
                format!(
                    "{what}, {name}: {} with {} of {} bytes: {:?}",
                    result.status,
                    result.information,
                    answer.len(),
                    String::from_utf8_lossy(&result.output[..result.output.len().min(100)])
                )
            },
        );
        failures.expect_rest(pc, what);
    }
}

/// One byte less than needed, and nothing.
fn expect_too_small(pc: &ModesPc, lpt1: Handle, id: &[u8], what: &str, failures: &mut Failures) {
    for (code, name, needed) in [
        (IOCTL_PAR_QUERY_DEVICE_ID_SIZE, "size", 4),
        (IOCTL_PAR_QUERY_DEVICE_ID, "cooked", id.len() - 1),
        (IOCTL_PAR_QUERY_RAW_DEVICE_ID, "raw", id.len() + 1),
    ] {
        for room in [needed - 1, 0] {
            let result = pc.control(lpt1, code, &[], room);
            failures.expect(
                result.outcome() == (NtStatus::BUFFER_TOO_SMALL, 0)
                    && result.output.iter().all(|byte| *byte == CANARY),
                || format!("{what}, {name} in {room} bytes: {result:?}"),
            );
            failures.expect_rest(pc, what);
        }
    }
}

#[test]
fn right_ids_are_told_in_every_mode() {
    let mut failures = Failures::default();
    for (chip, route) in ROUTES {
        for text in TEXTS {
            let length = u16::try_from(text.len() + 2).unwrap().to_be_bytes();
            let sent = [&length[..], text.as_bytes()].concat();
            let what = format!("{chip:?}, {route:#04x}, {text}");
            pc(chip, &device(route, &sent)).with_open(|pc, lpt1| {
                expect_id(pc, lpt1, &sent, &what, &mut failures);
                expect_too_small(pc, lpt1, &sent, &what, &mut failures);
            });
        }
    }
    failures.end();
}

#[test]
fn wrong_ids_are_told_as_far_as_they_came() {
    let text = b"MFG:Acme;MDL:One;CLS:PRINTER;DES:Acme One;";
    let n = u16::try_from(text.len()).unwrap();
    let headless = &text[..text.len() - 1];
    let both = n.to_be_bytes();
    // The prefix, the rest, and how many bytes of both are the ID.
    let all = text.len() + 2;
    let cases: [(&str, [u8; 2], &[u8], usize); 12] = [
        ("length without its own two bytes", both, text, all),
        ("little-endian", (n + 2).to_le_bytes(), text, all),
        (
            "little-endian without its own two",
            n.to_le_bytes(),
            text,
            all,
        ),
        (
            "little-endian, no final semicolon",
            (n + 1).to_le_bytes(),
            headless,
            all - 1,
        ),
        ("one byte too long", (n + 3).to_be_bytes(), text, all),
        ("much too long", 4000_u16.to_be_bytes(), text, all),
        ("as long as can be", [0xFF; 2], text, all),
        ("zero", [0, 0], text, all),
        ("one", [0, 1], text, all),
        // Behind "MDL:One;", which looks complete.
        ("too short, at the end of a pair", [0, 19], text, 19),
        // Two more bytes are looked at, no more.
        ("too short, in the middle", [0, 21], text, 23),
        (
            "no final semicolon",
            (n + 1).to_be_bytes(),
            headless,
            all - 1,
        ),
    ];
    let mut failures = Failures::default();
    for (chip, route) in ROUTES {
        for (name, prefix, rest, believed) in cases {
            let sent = [&prefix[..], rest].concat();
            let what = format!("{chip:?}, {route:#04x}, {name}");
            pc(chip, &device(route, &sent)).with_open(|pc, lpt1| {
                expect_id(pc, lpt1, &sent[..believed], &what, &mut failures);
                expect_too_small(pc, lpt1, &sent[..believed], &what, &mut failures);
            });
        }
    }
    failures.end();
}

/// 65535 bytes are all that a length can say, however many come.
#[test]
fn the_longest_id_is_64_kib() {
    let mut failures = Failures::default();
    for (chip, route, prefix, extra) in [
        (Chip::Spp, extensibility::ID_NIBBLE, [0xFF, 0xFF], 0),
        (Chip::Ps2, extensibility::ID_BYTE, [0, 0], 5000),
    ] {
        let mut sent = prefix.to_vec();
        sent.extend(b"MFG:Acme;MDL:");
        sent.resize(0xFFFE, b'x');
        sent.push(b';');
        sent.resize(sent.len() + extra, b'z');
        let what = format!("{chip:?}, {route:#04x}");
        pc(chip, &device(route, &sent)).with_open(|pc, lpt1| {
            expect_id(pc, lpt1, &sent[..0xFFFF], &what, &mut failures);
            let short = pc.control(lpt1, IOCTL_PAR_QUERY_RAW_DEVICE_ID, &[], 0xFFFF);
            assert_eq!(short.outcome(), (NtStatus::BUFFER_TOO_SMALL, 0), "{what}");
        });
    }
    failures.end();
}

#[test]
fn a_device_without_an_id_is_an_io_error() {
    use Misbehaviour::{AckLow, Dead, Late, NoNegotiation, Silent, WrongXFlag};
    /// When a device misbehaves: from the beginning, at an event, after so many bytes.
    #[derive(Clone, Copy, Debug)]
    enum From {
        Start,
        Event(u8),
        Byte(usize),
    }
    /// The chip, what the device answers to, what it sends, what is wrong with it besides.
    type Case<'a> = (Chip, &'a [u8], &'a [u8], Option<(Misbehaviour, From)>);
    let whole = extensibility::ALL;
    let without = [
        extensibility::NIBBLE,
        extensibility::BYTE,
        extensibility::ECP,
        extensibility::EPP,
    ];
    let mut cases: Vec<Case> = Vec::new();
    let id = b"\0\x0BMFG:Acme;";
    for chip in [Chip::Spp, Chip::EcpEpp] {
        cases.push((chip, &[], id, None));
        cases.push((chip, &without, id, None));
        // Nothing, half a prefix, and a prefix before nothing.
        for nothing in [&b""[..], b"\0", b"\0\x02", b"\0\0"] {
            cases.push((chip, &whole, nothing, None));
        }
        for trouble in [
            NoNegotiation,
            Silent,
            Dead,
            WrongXFlag,
            AckLow,
            Late(60 * MS),
            Misbehaviour::Condition(Condition::PoweredOff),
            Misbehaviour::Condition(Condition::Unplugged),
        ] {
            cases.push((chip, &whole, id, Some((trouble, From::Start))));
        }
        for trouble in [Silent, Dead] {
            for from in [2, 6, 9].map(From::Event) {
                cases.push((chip, &whole, id, Some((trouble, from))));
            }
            for from in [1, 2].map(From::Byte) {
                cases.push((chip, &whole, id, Some((trouble, from))));
            }
        }
    }
    // These ports cannot turn the data lines round.
    cases.push((Chip::Spp, &[extensibility::ID_BYTE], id, None));
    cases.push((Chip::Spp, &[extensibility::ID_ECP], id, None));
    let mut failures = Failures::default();
    for (chip, requests, id, trouble) in cases {
        for (code, room) in [
            (IOCTL_PAR_QUERY_DEVICE_ID, 1000),
            (IOCTL_PAR_QUERY_DEVICE_ID_SIZE, 4),
            (IOCTL_PAR_QUERY_RAW_DEVICE_ID, 1000),
        ] {
            let device = Peripheral1284::new()
                .with_requests(requests)
                .with_device_id(id);
            let what = format!("{chip:?}, {requests:x?}, {id:?}, {trouble:?}, {code:#x}");
            let pc = pc(chip, &device);
            let lpt1 = pc.open();
            match trouble {
                Some((it, From::Start)) => device.misbehave(it),
                Some((it, From::Event(event))) => device.misbehave_at_event(event, it),
                Some((it, From::Byte(count))) => device.misbehave_at_byte(count, it),
                None => {}
            }
            let result = pc.control(lpt1, code, &[], room);
            failures.expect(
                result.outcome() == (NtStatus::IO_DEVICE_ERROR, 0)
                    && result.output.iter().all(|byte| *byte == CANARY),
                || format!("{what}: {} {}", result.status, result.information),
            );
            // Every answer has 35 ms, and a few may be late before one is missed.
            failures.expect_took(&result, ..2000 * MS, &what);
            failures.end_case(&pc, lpt1, &what);
        }
    }
    failures.end();
}

/// The ID is read in a mode of its own; the ones that the program has chosen stay.
#[test]
fn the_chosen_modes_outlive_the_question() {
    let device = Peripheral1284::new();
    pc(Chip::EcpEpp, &device).with_open(|pc, lpt1| {
        pc.choose(lpt1, modes::EPP_SW, modes::ECP_HW_NOIRQ);
        for _ in 0..3 {
            let id = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 200);
            assert_eq!(id.status, NtStatus::SUCCESS);
            device.clear_received();
            assert_eq!(
                check(pc.machine.write(lpt1, b"text")).status,
                NtStatus::SUCCESS
            );
            assert_eq!(
                device.received_on(parscan_tests::modes::channel(modes::ECP_HW_NOIRQ)),
                b"text"
            );
        }
    });
}

/// A device that has told its ID in ECP mode, and does not turn the link back: the ID is told, and the
/// port at rest.
#[test]
fn an_id_is_told_though_the_link_stays_behind() {
    let mut failures = Failures::default();
    let text = TEXTS[2];
    let length = u16::try_from(text.len() + 2).unwrap().to_be_bytes();
    let sent = [&length[..], text.as_bytes()].concat();
    for chip in [Chip::Ps2, Chip::Ecp] {
        for trouble in [Misbehaviour::Silent, Misbehaviour::Dead] {
            let what = format!("{chip:?}, {trouble:?}");
            let device = device(extensibility::ID_ECP, &sent);
            pc(chip, &device).with_open(|pc, lpt1| {
                device.misbehave_at_event(49, trouble);
                let told = pc.control(lpt1, IOCTL_PAR_QUERY_DEVICE_ID, &[], 1000);
                failures.expect(
                    told.status == NtStatus::SUCCESS
                        && told.output[..told.information] == [text.as_bytes(), b"\0"].concat(),
                    || format!("{what}: {} {}", told.status, told.information),
                );
                device.behave();
                failures.expect_rest(pc, &what);
                expect_id(pc, lpt1, &sent, &what, &mut failures);
            });
        }
    }
    failures.end();
}
