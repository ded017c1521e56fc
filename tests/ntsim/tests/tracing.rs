//! Events are read as Microsoft's own crate writes them.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::{Bench, code, opened_on};
use ntsim::{Config, Handle, NtStatus, etw::EtwValue};

/// A started device on a machine whose trace session has this level, and who has it open.
fn traced(level: u8) -> (Bench, Handle) {
    let config = Config {
        etw_level: Some(level),
        ..Config::default()
    };
    opened_on(config, 0).unwrap()
}

#[test]
fn an_event_of_microsofts_crate_is_read_as_it_was_written() {
    let (b, handle) = traced(4);
    let m = &b.machine;
    let result = m.device_io_control(handle, code(0x80C), &[], 0).unwrap();
    assert_eq!(result.status, NtStatus::SUCCESS);
    let events = m.etw_events();
    let [event] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (
            event.provider.as_str(),
            event.name.as_str(),
            event.level,
            event.keyword
        ),
        ("Misbehave", "Everything", 3, 0x20)
    );
    let text = |text: &str| EtwValue::Text(text.to_owned());
    let expected = [
        ("Text", text("eight")),
        ("Ended", text("nine")),
        ("Byte", EtwValue::Number(0x12)),
        ("Word", EtwValue::Number(0x3456)),
        ("Number", EtwValue::Number(0x789A_BCDE)),
        ("Hex", EtwValue::Number(0xC000_0004)),
        ("Status", EtwValue::Number(0xFFFF_FFFF)),
        ("Long", EtwValue::Number(0x0123_4567_89AB_CDEF)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(event.fields, expected);
    b.down(handle).unwrap();
}

#[test]
fn nobody_listens_to_a_higher_level() {
    let (b, handle) = traced(2);
    b.machine
        .device_io_control(handle, code(0x80C), &[], 0)
        .unwrap();
    assert_eq!(b.machine.etw_events(), []);
    assert_eq!(b.machine.etw_writes(), 0);
}
