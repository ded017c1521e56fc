//! A moment of what `cargo xtask fuzz` does for as long as one wants: its targets, on its seeds and
//! on inputs by chance.

use std::{fmt::Debug, fs, path::Path};

use arbitrary::{Arbitrary, Unstructured};
use parscan_tests::modes::pattern;

#[allow(unreachable_pub, reason = "a library of its own")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// Runs a target on parts of a fixed sequence.
fn some<'a, Input: Arbitrary<'a>>(bytes: &'a [u8], run: impl Fn(&Input)) {
    for (number, start) in (0..bytes.len()).step_by(191).enumerate() {
        let length = 16 + number * 7 % 600;
        let part = &bytes[start..bytes.len().min(start + length)];
        if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(part)) {
            run(&input);
        }
    }
}

/// A test for each target, on so many bytes.
macro_rules! targets {
    ($($test:ident: $target:ident, $bytes:literal;)*) => {$(
        #[test]
        fn $test() {
            some(&pattern($bytes), fuzz::$target::run);
        }
    )*};
}

targets! {
    any_request_is_parsed: request, 100_000;
    any_device_id_is_read: device_id, 60_000;
    a_port_without_sense_is_left_at_rest: engine, 100_000;
    a_peripheral_without_manners_is_left_at_rest: peripheral, 60_000;
    any_usbscan_request_is_parsed: usbscan_request, 100_000;
    any_descriptors_are_read: descriptors, 100_000;
    any_port_program_is_refused_or_bounded: port_program, 60_000;
}

/// Runs a target on its seeds: each is an input of it, and says what its name promises.
fn seeds<Input: Arbitrary<'static> + Debug>(
    target: &str,
    run: impl Fn(&Input),
    promised: &[(&str, &str)],
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut bytes = 0;
    for (name, part) in promised {
        let seed = fs::read(folder.join(target).join(name)).expect(name).leak();
        bytes += seed.len();
        let input = Input::arbitrary_take_rest(Unstructured::new(seed)).expect(name);
        let text = format!("{input:?}");
        assert!(text.contains(part), "{target}/{name}: {text}");
        run(&input);
    }
    let files = fs::read_dir(folder.join(target)).expect("seeds").count();
    assert_eq!(files, promised.len(), "{target}");
    assert!(bytes < 400, "{target}: {bytes} bytes");
}

#[test]
fn the_seeds_are_what_their_names_say() {
    seeds(
        "request",
        fuzz::request::run,
        &[
            ("negotiate", "Known(6)"),
            ("query_device_id", "Known(2)"),
            ("release", "Known(17)"),
            ("run", "Known(18)"),
            ("set_information", "Known(1)"),
            ("set_timeouts", "Known(13)"),
            ("wait_edge", "Known(19)"),
        ],
    );
    seeds(
        "usbscan_request",
        fuzz::usbscan_request::run,
        &[
            ("get_usb_descriptor", "Known(8), is_consistent: true"),
            ("read_registers", "Known(3)"),
            ("reset_pipe", "Known(7)"),
            ("send_usb_request", "Known(9)"),
            ("set_timeout", "Known(11)"),
            (
                "write_registers_32",
                "Known(4), is_consistent: false, output_length: 0, is_32_bit: true",
            ),
        ],
    );
    seeds(
        "device_id",
        fuzz::device_id::run,
        &[
            ("ecp_little_room", "Ecp, room: 10"),
            ("little_endian_length", "All, room: 200, id: [11, 0, 77"),
            ("nibble", "Nibble, room: 64, id: [0, 31, 77"),
            ("unequal_pairs", "Byte"),
        ],
    );
    seeds(
        "descriptors",
        fuzz::descriptors::run,
        &[
            ("scanner", "index: Some(1)"),
            ("too_long", "total: Some(64), missing: 2"),
            ("two_interfaces", "name: [92, 48]"),
        ],
    );
    seeds(
        "engine",
        fuzz::engine::run,
        &[
            ("ecp_fifo", "fifo: Some((16, true))"),
            ("nibble_id", "DeviceId { room: 64 })]"),
            ("write_and_status", "Condition)]"),
        ],
    );
    seeds(
        "peripheral",
        fuzz::peripheral::run,
        &[
            ("bad_cable", "flips: [(3, 128), (7, 64)]"),
            ("ecp_stalls", "AtByte(8, StallForwardForever)"),
            ("nibble_read", "Give { length: 20 }"),
        ],
    );
    seeds(
        "port_program",
        fuzz::port_program::run,
        &[
            ("handshake", "data: [97, 98, 99]"),
            ("paced_epp", "patience: Some(50)"),
            (
                "pulse",
                "atomic: true, words: [[1, 1, 0, 0], [8, 16, 39, 0]",
            ),
            ("whole_request", "whole: true"),
        ],
    );
}
