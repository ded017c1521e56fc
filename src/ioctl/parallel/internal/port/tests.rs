//! Codes, lengths and offsets of the port object's requests.

use super::*;

#[test]
fn codes_and_lengths() {
    let input = [0; 256];
    for (code, least_input, least_output) in [
        (0x0016_002C, 0, 0),
        (0x0016_0030, 0, 56),
        (0x0016_0034, 32, 32),
        (0x0016_0038, 32, 0),
        (0x0016_003C, 0, 0),
        (0x0016_0044, 0, 32),
        (0x0016_004C, 2, 0),
        (0x0016_0050, 2, 0),
        (0x0016_0054, 0, 112),
        (0x0016_0058, 0, 0),
        (0x0016_005C, 8, 0),
        (0x0016_0060, 8, 0),
        (0x0016_00A0, 0, 0),
    ] {
        for length in 0..256 {
            let parsed = PortRequest::parse(code, &input[..length], 256);
            let expected = (length < least_input).then_some(Status::BUFFER_TOO_SMALL);
            assert_eq!(parsed.err(), expected, "{code:#x}, input {length}");
            let parsed = PortRequest::parse(code, &input, length);
            let expected = (length < least_output).then_some(Status::BUFFER_TOO_SMALL);
            assert_eq!(parsed.err(), expected, "{code:#x}, output {length}");
        }
    }
}

#[test]
fn other_codes_are_invalid_parameters() {
    // Of the device, of user mode, reserved ones, none at all.
    for code in [
        0x0016_0078,
        0x0016_0094,
        0x0016_0004,
        0x0016_0048,
        0x0016_0074,
        0x0016_00A4,
        0x0016_00DC,
        0,
        u32::MAX,
    ] {
        assert_eq!(
            PortRequest::parse(code, &[0; 256], 256),
            Err(Status::INVALID_PARAMETER),
            "{code:#x}"
        );
    }
}

#[test]
fn chip_modes_are_the_upper_bits() {
    for (ecr, mode) in [
        (0x20, Some(ChipMode::Byte)),
        (0x34, Some(ChipMode::Byte)),
        (0x40, Some(ChipMode::FastCentronics)),
        (0x74, Some(ChipMode::Ecp)),
        (0x94, Some(ChipMode::Epp)),
        (0x00, None),
        (0x14, None),
        (0xA0, None),
        (0xC0, None),
        (0xE0, None),
    ] {
        assert_eq!(ChipMode::of(ecr), mode, "{ecr:#x}");
    }
}

/// The eight bytes at an offset.
fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(*bytes[offset..].first_chunk().unwrap())
}

fn routines() -> PortRoutines {
    PortRoutines {
        try_allocate: 1,
        free: 2,
        waiters: 3,
        set_chip_mode: 4,
        clear_chip_mode: 5,
        try_select: 6,
        deselect: 7,
        try_allocate_at_interrupt: 8,
        free_from_interrupt: 9,
        context: 10,
    }
}

#[test]
fn members_lie_where_the_header_has_them() {
    let information = ParallelPortInformation {
        original_controller: 0x378,
        controller: 0x379,
        span_of_controller: 8,
        routines: routines(),
    }
    .to_bytes();
    let words: Vec<_> = (0..56)
        .step_by(8)
        .map(|at| word(&information, at))
        .collect();
    assert_eq!(words, [0x378, 0x379, 8, 1, 2, 3, 10]);

    let more = MoreParallelPortInformation {
        interface_type: 1,
        bus_number: 2,
        interrupt_level: 3,
        interrupt_vector: 4,
        interrupt_affinity: 5,
        interrupt_mode: 6,
    }
    .to_bytes();
    let words: Vec<_> = (0..32).step_by(8).map(|at| word(&more, at)).collect();
    assert_eq!(words, [0x2_0000_0001, 0x4_0000_0003, 5, 6]);

    let pnp = ParallelPnpInformation {
        original_ecp_controller: 0x778,
        ecp_controller: 0x779,
        span_of_ecp_controller: 3,
        hardware_capabilities: 9,
        fifo_depth: 16,
        fifo_width: 8,
        chain_devices: 2,
        current_mode: 0x74,
        port_name: 0xFFFF,
        routines: routines(),
    }
    .to_bytes();
    let words: Vec<_> = (0..112).step_by(8).map(|at| word(&pnp, at)).collect();
    assert_eq!(
        words,
        [
            0x778,
            0x779,
            3,
            9,
            4,
            5,
            0x8_0000_0010,
            0,
            0x2_0000_0000,
            6,
            7,
            10,
            0x74,
            0xFFFF
        ]
    );

    let interrupt = InterruptInformation {
        interrupt_object: 0x1000,
        routines: routines(),
    }
    .to_bytes();
    let words: Vec<_> = (0..32).step_by(8).map(|at| word(&interrupt, at)).collect();
    assert_eq!(words, [0x1000, 8, 9, 10]);
}

#[test]
fn an_interrupt_service_routine_is_read_whole() {
    let mut input = [0; 32];
    for (index, place) in input.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *place = (index as u64 + 1).to_le_bytes();
    }
    assert_eq!(
        PortRequest::parse(0x0016_0034, &input, 32),
        Ok(PortRequest::Immediate(
            ImmediatePortRequest::ConnectInterrupt(InterruptServiceRoutine {
                routine: 1,
                context: 2,
                deferred_routine: 3,
                deferred_context: 4,
            })
        ))
    );
}
