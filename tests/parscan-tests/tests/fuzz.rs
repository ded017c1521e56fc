//! A moment of what `cargo xtask fuzz` does for as long as one wants: its targets, on inputs by
//! chance.

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

#[test]
fn any_request_is_parsed() {
    some(&pattern(100_000), fuzz::request::run);
}

#[test]
fn any_device_id_is_read() {
    some(&pattern(60_000), fuzz::device_id::run);
}

#[test]
fn a_port_without_sense_is_left_at_rest() {
    some(&pattern(100_000), fuzz::engine::run);
}

#[test]
fn a_peripheral_without_manners_is_left_at_rest() {
    some(&pattern(60_000), fuzz::peripheral::run);
}

#[test]
fn any_usbscan_request_is_parsed() {
    some(&pattern(100_000), fuzz::usbscan_request::run);
}

#[test]
fn any_descriptors_are_read() {
    some(&pattern(100_000), fuzz::descriptors::run);
}

#[test]
fn any_port_program_is_refused_or_bounded() {
    some(&pattern(60_000), fuzz::port_program::run);
}
