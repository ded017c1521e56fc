//! The thirteen requests of the port object, and the routines that it gives.

use ntsim::{CANARY, NtStatus};
use parscan_models::{Peripheral1284, PortDevice, Width};
use parscan_tests::{
    MS, Setup, check,
    client::{Callback, Client, DISPATCH, PASSIVE, PORT, Request, Slot, on_port, with_client},
    modes::{Chip, Failures, ModesPc, pc, pc_with},
    parallel_h::{
        CHIP_MODE, COMMAND, INTERRUPT_SERVICE_ROUTINE, IOCTL_INTERNAL_DESELECT_DEVICE,
        IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO, IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO,
        IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, IOCTL_INTERNAL_INIT_1284_3_BUS,
        IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        IOCTL_INTERNAL_PARALLEL_PORT_FREE, IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE,
        IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO, IOCTL_INTERNAL_SELECT_DEVICE,
        MORE_PORT_INFORMATION, MorePortInformation, PNP_INFORMATION, PORT_INFORMATION,
        capabilities, chip_mode, chip_mode_of, command, command_flags,
    },
    port_programs::{
        IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_RELEASE, IOCTL_PARSCAN_RUN, RESULT, control, data,
        request,
    },
};

const SUCCESS: NtStatus = NtStatus::SUCCESS;
const INVALID_DEVICE_STATE: NtStatus = NtStatus::INVALID_DEVICE_STATE;
const NO_SUCH_DEVICE: NtStatus = NtStatus::NO_SUCH_DEVICE;
const INVALID_PARAMETER: NtStatus = NtStatus::INVALID_PARAMETER;

/// At the end of the chain, for a caller that does not have the port.
const END: [u8; 8] = command(0, command_flags::END_OF_CHAIN_DEVICE);
/// The same for one that has it, and keeps it.
const END_KEEP: [u8; 8] = command(
    0,
    command_flags::END_OF_CHAIN_DEVICE | command_flags::HAVE_PORT_KEEP_PORT,
);

fn plain_pc() -> ModesPc {
    pc(Chip::EcpEpp, &Peripheral1284::new())
}

fn allocate() -> Request<'static> {
    Request::internal(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, &[], 0)
}

#[test]
fn short_buffers_are_refused_and_long_ones_served() {
    let pc = plain_pc();
    let client = Client::load(&pc);
    let port = client.open(PORT);
    let mut failures = Failures::default();
    // Code, lengths of input and output that are needed.
    let cases = [
        (IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, 0, PORT_INFORMATION),
        (
            IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO,
            0,
            MORE_PORT_INFORMATION,
        ),
        (IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO, 0, PNP_INFORMATION),
        (IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, CHIP_MODE, 0),
        (IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, CHIP_MODE, 0),
        (IOCTL_INTERNAL_SELECT_DEVICE, COMMAND, 0),
        (IOCTL_INTERNAL_DESELECT_DEVICE, COMMAND, 0),
    ];
    for (code, input, output) in cases {
        for short in 0..input.max(output) {
            let (input, output) = (input.min(short), output.min(short));
            let bytes = vec![0; input];
            let before = pc.machine.port_accesses();
            let result = port.irp(&Request::internal(code, &bytes, output));
            let what = || format!("{code:#x} with {input} and {output} bytes: {result:?}");
            failures.expect(result.status == NtStatus::BUFFER_TOO_SMALL, what);
            failures.expect(result.information == 0, what);
            let untouched = result.output.iter().skip(input).all(|byte| *byte == CANARY);
            failures.expect(untouched, what);
            failures.expect(pc.machine.port_accesses() == before, what);
        }
        if output > 0 {
            let result = port.internal(code, &[], 4096);
            let what = || format!("{code:#x} with 4096 bytes: {result:?}");
            failures.expect(result.status == SUCCESS, what);
            failures.expect(result.information == output, what);
            let rest = result.output.iter().skip(output);
            failures.expect(rest.copied().all(|byte| byte == CANARY), what);
        }
    }
    for code in [
        IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO,
        IOCTL_INTERNAL_INIT_1284_3_BUS,
    ] {
        let result = port.irp(&Request::internal(code, &[], 0));
        let right = result.outcome() == (SUCCESS, 0);
        failures.expect(right, || format!("{code:#x}: {result:?}"));
    }
    port.close();
    client.unload();
    assert_eq!(pc.not_at_rest(), [""; 0]);
    pc.finish();
    failures.end();
}

#[test]
fn routines_without_their_context_answer_without_an_access() {
    on_port(plain_pc(), |pc, _, port| {
        let _ = (port.port_information(), port.pnp_information());
        let before = pc.machine.port_accesses();
        let call = |callback| port.call_without_context(callback, PASSIVE);
        assert!(!call(Callback::TryAllocatePort).boolean());
        assert_eq!(call(Callback::QueryNumWaiters).value & 0xFFFF_FFFF, 0);
        let _ = call(Callback::FreePort);
        for callback in [
            Callback::TrySetChipMode(chip_mode::ECP),
            Callback::ClearChipMode(chip_mode::ECP),
            Callback::TrySelectDevice(END),
            Callback::DeselectDevice(END),
        ] {
            let status = call(callback).status();
            assert_eq!(status, NtStatus::INVALID_PARAMETER, "{callback:?}");
        }
        assert_eq!(pc.machine.port_accesses(), before);
    });
}

#[test]
fn information_is_the_hardwares() {
    for chip in Chip::ALL {
        let setup = Setup::default().with_interrupt();
        on_port(
            pc_with(chip, &Peripheral1284::new(), setup),
            |pc, _, port| {
                let has_fifo = matches!(chip, Chip::Ecp | Chip::EcpEpp);

                let table = port.port_information();
                assert_eq!(table.original_controller, 0x378, "{chip:?}");
                assert_eq!(table.controller, 0x378, "{chip:?}");
                assert_eq!(table.span_of_controller, 8, "{chip:?}");
                let image = port.image();
                for routine in table.routines {
                    assert!(image.contains(&routine), "{chip:?}: {routine:#x}");
                }
                assert!(table.context != 0 && !image.contains(&table.context));

                let result = port.internal(
                    IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO,
                    &[],
                    MORE_PORT_INFORMATION,
                );
                let more = MorePortInformation::parse(&result);
                assert_eq!(more.bus_number, 0, "{chip:?}");
                assert_eq!(more.interrupt_level, 7, "{chip:?}");
                assert_eq!(more.interrupt_vector, 0x37, "{chip:?}");
                assert_eq!(more.interrupt_affinity, 1, "{chip:?}");
                assert_eq!(more.interrupt_mode, 1, "{chip:?}: latched");

                let table = port.pnp_information();
                let (base, span) = if has_fifo { (0x778, 3) } else { (0, 0) };
                assert_eq!(table.original_ecp_controller, base, "{chip:?}");
                assert_eq!(table.ecp_controller, base, "{chip:?}");
                assert_eq!(table.span_of_ecp_controller, span, "{chip:?}");
                let fifo = if has_fifo { [16, 8] } else { [0, 0] };
                assert_eq!(table.fifo, fifo, "{chip:?}");
                assert_eq!(table.hardware_capabilities, hardware(chip), "{chip:?}");
                assert_eq!(table.device_count, 0, "{chip:?}");
                assert_eq!(table.current_mode, 0, "{chip:?}");
                for routine in table.routines {
                    assert!(image.contains(&routine), "{chip:?}: {routine:#x}");
                }
                assert!(table.context != 0 && !image.contains(&table.context));
                assert_eq!(
                    text_at(pc, table.port_name),
                    r"\DosDevices\LPT1",
                    "{chip:?}"
                );
            },
        );
    }
}

/// A NUL-terminated string in the driver's memory.
fn text_at(pc: &ModesPc, address: u64) -> String {
    let address = usize::try_from(address).expect("an address");
    let units: Vec<u16> = (0..64)
        .map(|unit| check(pc.machine.read_memory(address + 2 * unit, 2)))
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).expect("UTF-16")
}

const fn hardware(chip: Chip) -> u32 {
    let byte = capabilities::BYTE_PRESENT;
    match chip {
        Chip::Spp => 0,
        Chip::Ps2 => byte,
        Chip::Epp => byte | capabilities::EPP_PRESENT,
        Chip::Ecp => byte | capabilities::ECP_PRESENT,
        Chip::EcpEpp => byte | capabilities::ECP_PRESENT | capabilities::EPP_PRESENT,
    }
}

/// As Windows' own components ask, while another has the port.
#[test]
fn information_does_not_wait_for_the_port() {
    on_port(plain_pc(), |_, client, owner| {
        owner.allocate();
        for _ in 0..2 {
            let other = client.open(PORT);
            for (code, length) in [
                (IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO, PNP_INFORMATION),
                (IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, PORT_INFORMATION),
                (
                    IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO,
                    MORE_PORT_INFORMATION,
                ),
                (IOCTL_INTERNAL_RELEASE_PARALLEL_PORT_INFO, 0),
            ] {
                let request = other.start(&Request::internal(code, &[], length));
                assert_eq!(request.dispatched, SUCCESS, "{code:#x}");
                assert_eq!(request.finish().information, length, "{code:#x}");
            }
            other.close();
        }
        owner.free();
    });
}

/// How chip modes are set and cleared: by request, or by routine.
#[derive(Clone, Copy, Debug)]
enum By {
    Request,
    Routine,
    RoutineAtDispatch,
}

impl By {
    const ALL: [Self; 3] = [Self::Request, Self::Routine, Self::RoutineAtDispatch];

    fn set(self, port: &Slot<'_>, mode: u8) -> NtStatus {
        let request = IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE;
        self.ask(port, request, Callback::TrySetChipMode(mode), mode)
    }

    fn clear(self, port: &Slot<'_>, mode: u8) -> NtStatus {
        let request = IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE;
        self.ask(port, request, Callback::ClearChipMode(mode), mode)
    }

    fn ask(self, port: &Slot<'_>, code: u32, routine: Callback<'_>, mode: u8) -> NtStatus {
        match self {
            Self::Request => port.internal(code, &chip_mode_of(mode), 0).status,
            Self::Routine => port.call(routine, PASSIVE).status(),
            Self::RoutineAtDispatch => port.call(routine, DISPATCH).status(),
        }
    }
}

#[test]
fn chip_modes_are_those_of_the_chip() {
    // They are modes of the ECR: a chip without one has none, whatever else it can do.
    let has = |chip, needs| matches!(chip, Chip::Ecp | Chip::EcpEpp) && hardware(chip) & needs != 0;
    let modes = [
        (chip_mode::BYTE, capabilities::BYTE_PRESENT),
        (chip_mode::FAST_CENTRONICS, capabilities::ECP_PRESENT),
        (chip_mode::ECP, capabilities::ECP_PRESENT),
        (chip_mode::EPP, capabilities::EPP_PRESENT),
        // Modes for no client: there is no capability for them.
        (0, 0),
        (0xA0, 0),
        (chip_mode::TEST, 0),
        (chip_mode::CONFIGURATION, 0),
    ];
    for chip in Chip::ALL {
        for by in By::ALL {
            let pc = pc(chip, &Peripheral1284::new());
            let client = Client::load(&pc);
            let port = client.open(PORT);
            port.pnp_information();
            let without_port = by.set(&port, chip_mode::BYTE);
            assert!(without_port.is_error(), "{chip:?}, {by:?}: {without_port}");
            port.allocate();
            let current = || port.pnp_information().current_mode & 0xE0;
            for (mode, needs) in modes {
                let what = format!("{chip:?}, {by:?}, {mode:#x}");
                let before = pc.machine.port_accesses();
                if !has(chip, needs) {
                    assert_eq!(by.set(&port, mode), NO_SUCH_DEVICE, "{what}");
                    assert_eq!(current(), 0, "{what}");
                    assert_eq!(pc.machine.port_accesses(), before, "{what}");
                    continue;
                }
                let other = if mode == chip_mode::BYTE {
                    chip_mode::EPP
                } else {
                    chip_mode::BYTE
                };
                assert_eq!(by.clear(&port, mode), INVALID_DEVICE_STATE, "{what}");
                assert_eq!(by.set(&port, mode), SUCCESS, "{what}");
                assert_eq!(current(), u32::from(mode), "{what}");
                assert_eq!(by.set(&port, mode), INVALID_DEVICE_STATE, "{what}");
                assert_eq!(by.clear(&port, other), INVALID_DEVICE_STATE, "{what}");
                assert_eq!(current(), u32::from(mode), "{what}");
                assert_eq!(by.clear(&port, mode), SUCCESS, "{what}");
                assert_eq!(current(), 0, "{what}");
                // The option bits of the ECR are not looked at.
                assert_eq!(by.set(&port, mode | 0x14), SUCCESS, "{what}");
                assert_eq!(by.clear(&port, mode), SUCCESS, "{what}");
            }
            port.free();
            port.close();
            client.unload();
            assert_eq!(pc.not_at_rest(), [""; 0], "{chip:?}, {by:?}");
            pc.finish();
        }
    }
}

#[test]
fn the_port_is_tried_freed_and_counted_at_dispatch_level_too() {
    for irql in [PASSIVE, DISPATCH] {
        with_client(plain_pc(), |_, client| {
            let (port, other) = (client.open(PORT), client.open(PORT));
            port.port_information();
            other.port_information();
            let waiters = || port.call(Callback::QueryNumWaiters, irql).long();
            let try_it = |slot: &Slot<'_>| slot.call(Callback::TryAllocatePort, irql).boolean();
            assert_eq!(waiters(), 0);
            assert!(try_it(&port));
            assert!(!try_it(&other), "taken");
            assert_eq!(waiters(), 0, "a refused try does not queue");
            let queued = [other.start(&allocate()), other.start(&allocate())];
            let select = other.start(&Request::internal(IOCTL_INTERNAL_SELECT_DEVICE, &END, 0));
            for request in queued.iter().chain([&select]) {
                assert_eq!(request.dispatched, NtStatus::PENDING);
            }
            assert_eq!(waiters(), 3);
            // In the order of their arrival, each at once.
            for (left, request) in queued.iter().enumerate() {
                port.call(Callback::FreePort, irql);
                let result = request.poll().expect("granted");
                assert_eq!(result.outcome(), (SUCCESS, 0));
                assert_eq!(waiters() as usize, 2 - left);
                assert!(!try_it(&port));
            }
            port.call(Callback::FreePort, irql);
            assert_eq!(select.finish().status, SUCCESS);
            assert_eq!(waiters(), 0);
            assert!(!try_it(&port), "SELECT_DEVICE takes the port");
            assert_eq!(
                other
                    .internal(IOCTL_INTERNAL_DESELECT_DEVICE, &END, 0)
                    .status,
                SUCCESS
            );
            assert!(try_it(&port), "DESELECT_DEVICE frees it");
            port.free();
            assert!(try_it(&other));
            other.call(Callback::FreePort, irql);
            port.close();
            other.close();
        });
    }
}

#[test]
fn allocations_are_granted_at_dispatch_level() {
    on_port(plain_pc(), |pc, _, port| {
        let at_dispatch = Request {
            irql: DISPATCH,
            ..allocate()
        };
        let first = port.start(&at_dispatch);
        assert_eq!(first.finish().status, SUCCESS);
        let second = port.start(&at_dispatch);
        assert_eq!(second.dispatched, NtStatus::PENDING);
        check(pc.machine.run_for(MS));
        let free = port.start(&Request {
            irql: DISPATCH,
            ..Request::internal(IOCTL_INTERNAL_PARALLEL_PORT_FREE, &[], 0)
        });
        assert_eq!(free.finish().status, SUCCESS);
        assert_eq!(second.finish().status, SUCCESS);
        port.free();
    });
}

#[test]
fn devices_that_are_not_there_cannot_be_selected() {
    on_port(plain_pc(), |_, _, port| {
        port.pnp_information();
        port.port_information();
        for id in [0, 1, 2, 4, 7, 255] {
            for flags in [0, command_flags::HAVE_PORT_KEEP_PORT] {
                let input = command(id, flags);
                for code in [IOCTL_INTERNAL_SELECT_DEVICE, IOCTL_INTERNAL_DESELECT_DEVICE] {
                    let result = port.irp(&Request::internal(code, &input, 0));
                    let expected = (INVALID_PARAMETER, 0);
                    assert_eq!(result.outcome(), expected, "{id}");
                }
                for routine in [
                    Callback::TrySelectDevice(input),
                    Callback::DeselectDevice(input),
                ] {
                    let status = port.call(routine, PASSIVE).status();
                    assert_eq!(status, INVALID_PARAMETER, "{routine:?}");
                }
            }
        }
        // Nothing was allocated on the way.
        assert!(port.call(Callback::TryAllocatePort, PASSIVE).boolean());
        port.call(Callback::FreePort, PASSIVE);
    });
}

#[test]
fn the_end_of_the_chain_is_selected_with_the_port_and_without() {
    with_client(plain_pc(), |pc, client| {
        let (port, other) = (client.open(PORT), client.open(PORT));
        for slot in [&port, &other] {
            slot.pnp_information();
            slot.port_information();
        }
        let select = |slot: &Slot<'_>, input| {
            slot.call(Callback::TrySelectDevice(input), PASSIVE)
                .status()
        };
        let deselect =
            |slot: &Slot<'_>, input| slot.call(Callback::DeselectDevice(input), PASSIVE).status();
        let is_free = || {
            let free = other.call(Callback::TryAllocatePort, PASSIVE).boolean();
            if free {
                other.call(Callback::FreePort, PASSIVE);
            }
            free
        };
        // With the port.
        assert_eq!(select(&port, END), SUCCESS);
        assert!(!is_free());
        let refused = select(&other, END);
        assert_eq!(refused, NtStatus::PENDING, "a refusal: nothing is queued");
        assert_eq!(port.call(Callback::QueryNumWaiters, PASSIVE).long(), 0);
        assert_eq!(deselect(&port, END), SUCCESS);
        assert!(is_free(), "and no client that was refused has it");
        // Keeping it.
        port.allocate();
        assert_eq!(select(&port, END_KEEP), SUCCESS);
        assert_eq!(deselect(&port, END_KEEP), SUCCESS);
        assert!(!is_free());
        let request = |input| port.internal(IOCTL_INTERNAL_SELECT_DEVICE, input, 0).status;
        assert_eq!(request(&END_KEEP), SUCCESS);
        let request = |input| {
            port.internal(IOCTL_INTERNAL_DESELECT_DEVICE, input, 0)
                .status
        };
        assert_eq!(request(&END_KEEP), SUCCESS);
        assert!(!is_free());
        assert_eq!(request(&END), SUCCESS);
        assert!(is_free());
        port.close();
        other.close();
        assert_eq!(pc.not_at_rest(), [""; 0]);
    });
}

#[test]
fn nothing_is_served_after_the_port_is_gone() {
    let pc = plain_pc();
    let client = Client::load(&pc);
    let (owner, port) = (client.open(PORT), client.open(PORT));
    port.port_information();
    port.pnp_information();
    owner.allocate();
    let waiting = port.start(&allocate());
    assert_eq!(check(pc.machine.unplug(pc.node)), SUCCESS);
    let gone = [NtStatus::DELETE_PENDING, NtStatus::DEVICE_REMOVED];
    let result = waiting.finish();
    assert!(gone.contains(&result.status), "{}", result.status);
    assert_eq!(result.information, 0);
    let before = pc.machine.port_accesses();
    for (code, input, output) in [
        (IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, 0, 0),
        (IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, 0, PORT_INFORMATION),
        (IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO, 0, PNP_INFORMATION),
        (IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, CHIP_MODE, 0),
        (IOCTL_INTERNAL_SELECT_DEVICE, COMMAND, 0),
        (
            IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
            INTERRUPT_SERVICE_ROUTINE,
            32,
        ),
    ] {
        let result = port.irp(&Request::internal(code, &vec![0; input], output));
        assert!(
            gone.contains(&result.status),
            "{code:#x}: {}",
            result.status
        );
        assert_eq!(result.information, 0, "{code:#x}");
    }
    for irql in [PASSIVE, DISPATCH] {
        assert!(!port.call(Callback::TryAllocatePort, irql).boolean());
        let status = port.call(Callback::TrySetChipMode(chip_mode::ECP), irql);
        assert!(status.status().is_error(), "{status:?}");
        for callback in [
            Callback::ClearChipMode(chip_mode::ECP),
            Callback::TrySelectDevice(END),
        ] {
            let status = port.call(callback, irql).status();
            assert!(status != SUCCESS, "{callback:?} at {irql}: {status}");
        }
        // The owner gives it back all the same.
        let _ = port.call(Callback::QueryNumWaiters, irql);
    }
    port.call(Callback::FreePort, DISPATCH);
    assert_eq!(pc.machine.port_accesses(), before);
    owner.close();
    port.close();
    client.unload();
    pc.unload();
}

#[test]
fn interrupts_are_not_for_clients_unless_the_registry_says_so() {
    let setup = Setup::default().with_interrupt();
    on_port(
        pc_with(Chip::Ps2, &Peripheral1284::new(), setup),
        |_, _, port| {
            for code in [
                IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
                IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT,
            ] {
                let result = port.interrupt(code, 0, 0);
                assert!(
                    result.status == NtStatus::UNSUCCESSFUL
                // Nothing is connected that could be disconnected.
                || code == IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT && result.status == INVALID_PARAMETER,
                    "{code:#x}: {}",
                    result.status
                );
                assert_eq!(result.information, 0, "{code:#x}");
            }
        },
    );
}

/// A program has left lines, and the next client of the port chooses a mode of the chip: no line moves
/// before the client moves it, and the next program finds the port at rest.
#[test]
fn a_chip_mode_moves_no_line_that_a_program_has_left() {
    with_client(plain_pc(), |pc, client| {
        let lpt1 = pc.open();
        let claimed = pc.control(lpt1, IOCTL_PARSCAN_CLAIM, &[0; 4], 0);
        assert_eq!(claimed.status, SUCCESS);
        let lines = request(&[data(0xA5), control(0x05, 0x0F)], &[], false);
        let ran = pc.control(lpt1, IOCTL_PARSCAN_RUN, &lines, RESULT);
        assert_eq!(ran.status, SUCCESS);
        let released = pc.control(lpt1, IOCTL_PARSCAN_RELEASE, &[0; 4], 0);
        assert_eq!(released.status, SUCCESS);
        let registers = || {
            let now = pc.machine.now();
            let mut chip = pc.chip.borrow_mut();
            let mut read = |offset| chip.read(now, 0, offset, Width::Byte);
            // Bits 6 and 7 of the control register have no meaning.
            [read(0), read(2) & 0x2F]
        };
        assert_eq!(registers(), [0xA5, 0x05]);
        let port = client.open(PORT);
        port.allocate();
        for mode in [chip_mode::BYTE, chip_mode::EPP] {
            let input = chip_mode_of(mode);
            let set = port.internal(IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, &input, 0);
            assert_eq!(set.status, SUCCESS);
            let cleared = port.internal(IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, &input, 0);
            assert_eq!(cleared.status, SUCCESS);
            assert_eq!(registers()[0], 0xA5, "{mode:#x}");
        }
        port.free();
        port.close();
        let written = check(pc.machine.write(lpt1, b"text"));
        assert_eq!(written.outcome(), (SUCCESS, 4));
        assert_eq!(pc.printer.received(), b"text");
        check(pc.machine.close(lpt1));
        assert_eq!(pc.not_at_rest(), [""; 0]);
    });
}
