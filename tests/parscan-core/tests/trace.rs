//! What the driver tells an administrator: identity, format and completeness of its events.

use parscan_core::{
    ioctl::Status,
    trace::{
        Cause, KINDS, Label, PROVIDER, PROVIDER_GUID, Payload, Step, TRAITS, TraceEvent,
        status_letters, usb_remedy,
    },
};

tracelogging::define_provider!(MICROSOFTS, "Parscan");

const STATUS: Status = Status::IO_DEVICE_ERROR;
const CAUSES: [Cause; 6] = [
    Cause::NotIeee1284,
    Cause::NoAnswer,
    Cause::Epp,
    Cause::WriteTime,
    Cause::ReadTime,
    Cause::Usb,
];

/// The longest of each kind.
fn events() -> Vec<TraceEvent> {
    let mut events = vec![
        TraceEvent::Started,
        TraceEvent::PortTaken { by_client: true },
        TraceEvent::PortBusy { waited: u32::MAX },
        TraceEvent::Power { works: false },
        TraceEvent::PowerRefused,
    ];
    events.extend(Step::ALL.map(|step| TraceEvent::StartFailed {
        step,
        status: STATUS,
    }));
    events.extend(CAUSES.map(|cause| TraceEvent::TimedOut {
        cause,
        mode: "USB bulk or interrupt transfer",
        event: 255,
    }));
    let statuses = [
        0xC000_0004,
        0xC000_0011,
        0xC000_0008,
        0xC000_7000,
        0x8000_0000,
    ];
    events.extend(statuses.map(|usbd_status| TraceEvent::UsbError {
        pipe: 255,
        function: 0x17,
        usbd_status,
        status: STATUS,
    }));
    events
}

#[test]
fn the_provider_is_what_tools_make_of_its_name() {
    let guid = tracelogging::Guid::from_name(PROVIDER);
    let (data1, data2, data3, data4) = PROVIDER_GUID;
    let ours = tracelogging::Guid::from_fields(data1, data2, data3, data4.to_be_bytes());
    assert_eq!(ours.to_utf8_bytes(), guid.to_utf8_bytes());
    assert_eq!(MICROSOFTS.id().to_utf8_bytes(), guid.to_utf8_bytes());
    assert_eq!(TRAITS, *MICROSOFTS.raw_meta());
}

#[test]
fn every_event_has_room_for_all_of_its_values() {
    for event in events() {
        let payload = event.payload(Label::scanner(255), 0x1234);
        let bytes = payload.as_bytes();
        assert!(bytes.len() < Payload::ROOM, "{event:?}");
        // The last value is whole.
        assert!(bytes.ends_with(&[0x34, 0x12]), "{event:?}");
        assert!(bytes.starts_with(b"Usbscan255\0"), "{event:?}");
    }
}

#[test]
fn every_kind_has_a_place_and_a_keyword_of_its_own_metadata() {
    let mut names: Vec<&[u8]> = Vec::new();
    for event in events() {
        let kind = event.kind();
        assert!(kind.index < KINDS && kind.keyword != 0);
        let metadata = kind.metadata;
        let stated = u16::from_le_bytes([metadata[0], metadata[1]]);
        assert_eq!(usize::from(stated), metadata.len());
        let name = metadata[3..].split(|byte| *byte == 0).next().unwrap();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    assert_eq!(names.len(), KINDS);
}

#[test]
fn every_failure_says_what_to_do() {
    let remedies = Step::ALL
        .map(Step::remedy)
        .into_iter()
        .chain(CAUSES.map(Cause::remedy))
        .chain([0xC000_0004, 0xC000_0001, 0xC000_000C, 0xC000_7000, 0].map(usb_remedy));
    for remedy in remedies {
        assert!(remedy.ends_with('.') && remedy.len() > 40, "{remedy}");
        assert!(remedy.is_ascii(), "{remedy}");
    }
}

/// The message table is one block.
#[test]
fn the_codes_of_the_event_log_follow_one_another() {
    for (step, code) in Step::ALL.into_iter().zip(0xE000_0001..) {
        assert_eq!(step.error_code(), code, "{step:?}");
    }
}

#[test]
fn names_of_devices_and_statuses_are_written_out() {
    for (label, text) in [
        (Label::NEW, "new device"),
        (Label::port(1), "LPT1"),
        (Label::port(10), "LPT10"),
        (Label::port(255), "LPT255"),
        (Label::scanner(0), "Usbscan0"),
        (Label::scanner(100), "Usbscan100"),
    ] {
        let mut letters = Vec::new();
        label.letters(|letter| letters.push(letter));
        assert_eq!(String::from_utf8(letters).unwrap(), text);
    }
    assert_eq!(
        &status_letters(Status::DEVICE_CONFIGURATION_ERROR),
        b"0xC0000182"
    );
}
