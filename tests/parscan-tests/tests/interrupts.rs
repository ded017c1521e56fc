//! The port's interrupt, with `EnableConnectInterruptIoctl`: who is called, in which order, and
//! what may be done there.

use std::{cell::Cell, rc::Rc};

use ntsim::{Machine, NtStatus, RegValue, Resource, When};
use parscan_models::Peripheral1284;
use parscan_tests::{
    LPT1_REGISTERS, MS, Setup, check,
    client::{
        Asynchronous, Callback, Client, DISPATCH, PASSIVE, PORT, Request, Slot, on_port,
        puppet::{Note, isr},
    },
    modes::{Chip, ModesPc, pc_with},
    ntddpar::{
        IOCTL_PAR_IS_PORT_FREE as IS_PORT_FREE, IOCTL_PAR_SET_INFORMATION as SET_INFORMATION,
    },
    parallel_h::{
        INTERRUPT_INFORMATION, INTERRUPT_SERVICE_ROUTINE,
        IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO, IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        InterruptInformation,
    },
};

const SUCCESS: NtStatus = NtStatus::SUCCESS;
/// The interrupt of LPT1, as Windows translates it on this machine.
const LEVEL: u8 = 7;
const VECTOR: u32 = 0x37;

fn machine() -> ModesPc {
    machine_with(LEVEL.into())
}

/// The same with an interrupt of this level.
fn machine_with(level: u16) -> ModesPc {
    let setup = Setup {
        hardware_key: vec![("EnableConnectInterruptIoctl".into(), RegValue::Dword(1))],
        resources: vec![
            LPT1_REGISTERS,
            Resource::Interrupt {
                level,
                vector: VECTOR,
                latched: true,
            },
        ],
        ..Setup::default()
    };
    pc_with(Chip::Ps2, &Peripheral1284::new(), setup)
}

/// Pulls the port's interrupt line: whether a routine said that it was its own. DPCs have run
/// afterwards.
fn raise(machine: &Machine) -> bool {
    let claimed = check(machine.interrupt(VECTOR));
    check(machine.run_for(1000));
    claimed
}

#[track_caller]
fn connect(port: &Slot<'_>, client: usize, options: u64) -> InterruptInformation {
    InterruptInformation::parse(&port.interrupt(
        IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
        client,
        options,
    ))
}

/// A client of the port object that may call its routines, and what a test does with it.
fn on_interrupts(test: impl FnOnce(&ModesPc, &Client, &Slot<'_>)) {
    on_port(machine(), |pc, client, port| {
        port.port_information();
        test(pc, client, port);
    });
}

/// A request that waited for the port has it, and gives it back.
#[track_caller]
fn assert_granted(waiting: Asynchronous<'_>, port: &Slot<'_>) {
    assert_eq!(waiting.finish().status, SUCCESS);
    port.free();
}

#[test]
fn short_buffers_are_refused() {
    on_port(machine(), |pc, _, port| {
        for (input, output) in (0..INTERRUPT_SERVICE_ROUTINE)
            .map(|short| (short, INTERRUPT_INFORMATION))
            .chain((0..INTERRUPT_INFORMATION).map(|short| (INTERRUPT_SERVICE_ROUTINE, short)))
        {
            let request = Request::internal(
                IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
                &[0; 32][..input],
                output,
            );
            let result = port.irp(&request);
            let expected = (NtStatus::BUFFER_TOO_SMALL, 0);
            let what = (input, output);
            assert_eq!(result.outcome(), expected, "{what:?}");
        }
        for input in 0..INTERRUPT_SERVICE_ROUTINE {
            let request = Request::internal(
                IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT,
                &[0; 32][..input],
                0,
            );
            let status = port.irp(&request).status;
            assert_eq!(status, NtStatus::BUFFER_TOO_SMALL, "{input}");
        }
        assert!(!raise(&pc.machine), "no routine is connected");
    });
}

#[test]
fn routines_are_called_in_the_order_of_their_connection() {
    on_port(machine(), |pc, client, port| {
        let image = port.image();
        for number in [4, 1, 6] {
            let table = connect(port, number, isr::CLAIM);
            assert_ne!(table.interrupt_object, 0);
            for routine in table.routines {
                assert!(image.contains(&routine), "{routine:#x}");
            }
            assert!(table.context != 0 && !image.contains(&table.context));
        }
        let called = |clients: &[usize]| -> Vec<_> {
            let note = |client: &usize| (Note::Isr, *client, LEVEL);
            clients.iter().map(note).collect()
        };
        let _ = client.notes();
        assert!(raise(&pc.machine));
        assert_eq!(client.notes(), called(&[4, 1, 6]));
        // The one in the middle goes; one that is not there cannot.
        assert_eq!(port.disconnect_interrupt(1), SUCCESS);
        let again = port.interrupt(IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, 1, 0);
        assert_eq!(again.status, NtStatus::INVALID_PARAMETER);
        assert_eq!(again.information, 0);
        assert!(raise(&pc.machine));
        assert_eq!(client.notes(), called(&[4, 6]));
        for number in [4, 6] {
            assert_eq!(port.disconnect_interrupt(number), SUCCESS);
        }
        raise(&pc.machine);
        assert_eq!(client.notes(), []);
    });
}

#[test]
fn an_interrupt_of_nobody_is_nobodys() {
    on_port(machine(), |pc, client, port| {
        connect(port, 0, 0);
        assert!(!raise(&pc.machine), "the routine did not claim it");
        let _ = client.notes();
        assert_eq!(port.disconnect_interrupt(0), SUCCESS);
    });
}

#[test]
fn the_port_is_taken_and_freed_in_the_interrupt() {
    on_interrupts(|pc, client, port| {
        let options = isr::CLAIM | isr::TRY | isr::FREE | isr::NO_DEFERRED;
        connect(port, 2, options);
        let tried = |result| vec![(Note::Isr, 2, LEVEL), (Note::Tried, 2, result)];
        raise(&pc.machine);
        assert_eq!(client.notes(), tried(1), "a free port");
        assert_eq!(
            port.order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE),
            SUCCESS,
            "it was freed again"
        );
        raise(&pc.machine);
        assert_eq!(client.notes(), tried(0), "a taken port");
        // A request that came while the port was held gets it.
        let waiting = port.wait_for_port();
        raise(&pc.machine);
        assert_eq!(client.notes(), tried(0));
        port.free();
        assert_granted(waiting, port);
        assert_eq!(port.disconnect_interrupt(2), SUCCESS);
    });
}

/// A client that keeps the port beyond its routine frees it later, and the queue is served.
#[test]
fn the_port_taken_in_the_interrupt_is_freed_later() {
    on_interrupts(|pc, client, port| {
        connect(port, 2, isr::CLAIM | isr::TRY | isr::NO_DEFERRED);
        raise(&pc.machine);
        let got = [(Note::Isr, 2, LEVEL), (Note::Tried, 2, 1)];
        assert_eq!(client.notes(), got);
        let waiting = port.wait_for_port();
        port.call(Callback::FreePort, DISPATCH);
        assert_granted(waiting, port);
        assert_eq!(port.disconnect_interrupt(2), SUCCESS);
    });
}

/// Deferred routines are called when the port is freed and no request waits for it.
#[test]
fn a_free_port_is_told_to_the_deferred_routines() {
    on_interrupts(|pc, client, port| {
        connect(port, 3, 0);
        connect(port, 5, isr::NO_DEFERRED);
        connect(port, 0, 0);
        let deferred = |notes: Vec<(Note, usize, u8)>| -> Vec<usize> {
            for (kind, client, irql) in &notes {
                assert_eq!(*kind, Note::Deferred, "{client}");
                assert!(*irql <= DISPATCH, "{client} at {irql}");
            }
            notes.into_iter().map(|(_, client, _)| client).collect()
        };
        let _ = client.notes();
        port.allocate();
        let waiting = port.start_order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE);
        port.call(Callback::FreePort, PASSIVE);
        assert_eq!(waiting.finish().status, SUCCESS);
        assert_eq!(deferred(client.notes()), [0; 0], "a request waited");
        port.call(Callback::FreePort, PASSIVE);
        check(pc.machine.run_for(1000));
        assert_eq!(deferred(client.notes()), [3, 0], "in order of connection");
        port.allocate();
        port.free();
        check(pc.machine.run_for(1000));
        assert_eq!(deferred(client.notes()), [3, 0], "freed by request");
        for number in [0, 3, 5] {
            assert_eq!(port.disconnect_interrupt(number), SUCCESS);
        }
    });
}

/// Each free is told, also one that comes while the routines are being called: by another program, or
/// by one of the routines. A routine that always takes the port is called again, without recursion.
#[test]
fn a_port_freed_while_the_routines_are_called_is_told_again() {
    on_interrupts(|pc, client, port| {
        connect(port, 3, 0);
        connect(port, 0, isr::TAKE);
        let _ = client.notes();
        port.allocate();
        port.call(Callback::FreePort, PASSIVE);
        check(pc.machine.run_for(MS));
        let told: Vec<usize> = client
            .notes()
            .into_iter()
            .map(|(_, told, _)| told)
            .collect();
        let rounds = usize::try_from(isr::TAKES).unwrap() + 1;
        assert_eq!(told, [3, 0].repeat(rounds));
        for number in [0, 3] {
            assert_eq!(port.disconnect_interrupt(number), SUCCESS);
        }
    });
}

/// A program takes the port and gives it back while the routines are called for another free.
#[test]
fn a_free_beside_the_calls_of_the_routines_is_not_lost() {
    let mut freed_meanwhile = 0;
    for call in 8..26 {
        on_interrupts(|pc, client, port| {
            connect(port, 3, 0);
            connect(port, 0, 0);
            let lpt1 = pc.open();
            let _ = client.notes();
            port.allocate();
            let at = pc.machine.kernel_calls() + call;
            let frees = Rc::new(Cell::new(1));
            let count = Rc::clone(&frees);
            pc.machine.at(When::KernelCall(at), move |machine| {
                let is_free =
                    || check(machine.device_io_control(lpt1, IS_PORT_FREE, &[], 1)).output;
                if is_free() == [1] {
                    let reset = check(machine.device_io_control(lpt1, SET_INFORMATION, &[1], 0));
                    count.set(count.get() + usize::from(reset.status == SUCCESS));
                }
            });
            port.call(Callback::FreePort, PASSIVE);
            check(pc.machine.run_for(20_000 * MS));
            let notes = client.notes().into_iter();
            let told: Vec<usize> = notes.map(|(_, told, _)| told).collect();
            // Frees that come together may be told together, but each client after the last one.
            assert!(told.ends_with(&[3, 0]), "{call}: {told:?}");
            assert!(
                told.len() >= 2 && told.len() <= 2 * frees.get(),
                "{call}: {told:?}"
            );
            freed_meanwhile += frees.get() - 1;
            check(pc.machine.close(lpt1));
            for number in [0, 3] {
                let _ = port.disconnect_interrupt(number);
            }
        });
    }
    assert!(freed_meanwhile > 3, "{freed_meanwhile}");
}

#[test]
fn routines_end_with_the_port() {
    let pc = machine();
    let client = Client::load(&pc);
    let port = client.open(PORT);
    connect(&port, 1, isr::CLAIM);
    assert_eq!(check(pc.machine.unplug(pc.node)), SUCCESS);
    let _ = client.notes();
    assert!(!raise(&pc.machine));
    assert_eq!(client.notes(), []);
    port.close();
    client.unload();
    pc.unload();
}

/// A machine with many processors has them in groups, and an interrupt is of one of these.
#[test]
fn an_interrupt_of_another_group_of_processors() {
    // CM_PARTIAL_RESOURCE_DESCRIPTOR: an interrupt, exclusive, latched; level and group, vector,
    // affinity.
    let mut interrupt = [0; 20];
    interrupt[..4].copy_from_slice(&[2, 1, 1, 0]);
    interrupt[4..8].copy_from_slice(&[LEVEL, 0, 1, 0]);
    interrupt[8..12].copy_from_slice(&VECTOR.to_le_bytes());
    interrupt[12] = 0b11;
    let setup = Setup {
        hardware_key: vec![("EnableConnectInterruptIoctl".into(), RegValue::Dword(1))],
        resources: vec![LPT1_REGISTERS, Resource::Raw(interrupt)],
        ..Setup::default()
    };
    on_port(
        pc_with(Chip::Ps2, &Peripheral1284::new(), setup),
        |pc, _, port| {
            let more = port.internal(IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO, &[], 32);
            assert_eq!(more.status, SUCCESS);
            assert_eq!(more.output[8..12], u32::from(LEVEL).to_le_bytes());
            connect(port, 1, isr::CLAIM);
            assert!(raise(&pc.machine));
            let disconnected =
                port.interrupt(IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT, 1, isr::CLAIM);
            assert_eq!(disconnected.status, SUCCESS);
            assert!(!raise(&pc.machine));
        },
    );
}

/// A routine that is none, and an interrupt of a level that no PC has.
#[test]
fn routines_and_levels_that_are_none_are_refused() {
    on_port(machine(), |_, _, port| {
        for code in [
            IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT,
            IOCTL_INTERNAL_PARALLEL_DISCONNECT_INTERRUPT,
        ] {
            let refused = port.internal(code, &[0; 32], 32);
            assert_eq!(
                refused.outcome(),
                (NtStatus::INVALID_PARAMETER, 0),
                "{code:#x}"
            );
        }
    });
    on_port(machine_with(300), |_, _, port| {
        let refused = port.interrupt(IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT, 0, 0);
        assert!(refused.status.is_error(), "{}", refused.status);
        assert_eq!(refused.information, 0);
        assert_eq!(port.disconnect_interrupt(0), NtStatus::INVALID_PARAMETER);
    });
}
