//! Sleep, wake-up and shutdown.

use std::{cell::Cell, rc::Rc};

use ntsim::{
    Bugcheck, Caller, Config, DevNode, DriverId, Handle, Machine, Nanos, NodeState, NtStatus,
    Pending, PowerUp, Resource, When,
};
use parscan_models::{Condition, DaisyChain, Peripheral1284, PortDevice, Spp, Width};
use parscan_tests::{
    MS, Pc, SECOND, Setup, check,
    client::{Callback, Client, DEVICE, PASSIVE, PORT, on_port},
    modes::{Chip, channel, pattern, pc, pc_with},
    ntddpar::{IOCTL_PAR_QUERY_INFORMATION, IOCTL_PAR_SET_INFORMATION, PARALLEL_INIT, modes},
    parallel_h::{
        IOCTL_INTERNAL_DESELECT_DEVICE, IOCTL_INTERNAL_DISCONNECT_IDLE,
        IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO, IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO,
        IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, IOCTL_INTERNAL_LOCK_PORT,
        IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE,
        IOCTL_INTERNAL_PARALLEL_PORT_FREE, IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE,
        IOCTL_INTERNAL_SELECT_DEVICE, chip_mode, chip_mode_of, command, command_flags,
    },
    port_programs::{IOCTL_PARSCAN_CLAIM, IOCTL_PARSCAN_RUN, data, delay_us, request},
    scanner::{BULK_IN, BULK_OUT, Opened, ScannerPc, ScannerSetup},
    usbscan_h::{ALL_PIPE, IOCTL_RESET_PIPE, pipe_type},
};

/// The control register of LPT1, and what it holds at rest: nInit and nSelectIn.
const DCR: u16 = 2;
const IDLE: u8 = 0x0C;
/// Seeds decide at which level and from where power requests come.
const SEEDS: std::ops::Range<u64> = 0..6;

fn config(seed: u64) -> Config {
    Config {
        seed,
        preempt_per_mille: 300,
        force_pending: seed % 3 == 2,
        ..Config::default()
    }
}

fn port(seed: u64) -> Pc {
    Setup::with_config(config(seed)).started()
}

fn scanner(seed: u64) -> ScannerPc {
    ScannerSetup::with_config(config(seed)).started()
}

/// A test of a port, for every seed.
fn on_ports(test: impl Fn(&Pc, Handle)) {
    for seed in SEEDS {
        port(seed).with_open(&test);
    }
}

/// A test of a scanner, for every seed.
fn on_scanners(test: impl Fn(&ScannerPc, Opened)) {
    for seed in SEEDS {
        scanner(seed).with_open(&test);
    }
}

/// A port that sleeps, and is pulled out in the test, for every seed.
fn pulled_out_ports(test: impl Fn(&Pc, Handle)) {
    for seed in SEEDS {
        let pc = port(seed);
        let lpt1 = pc.open();
        sleep(&pc.machine);
        test(&pc, lpt1);
        end_without_device(&pc, lpt1);
    }
}

/// The same of a scanner, which sleeps when the test lets it.
fn pulled_out_scanners(test: impl Fn(&ScannerPc, Opened)) {
    for seed in SEEDS {
        let pc = scanner(seed);
        let file = pc.open();
        test(&pc, file);
        end_without_scanner(&pc, file);
    }
}

/// The end of a port that was pulled out.
#[track_caller]
fn end_without_device(pc: &Pc, lpt1: Handle) {
    check(pc.machine.close(lpt1));
    check(pc.machine.run_until_idle());
    pc.unload();
}

/// The end of a scanner that was pulled out.
#[track_caller]
fn end_without_scanner(pc: &ScannerPc, file: Opened) {
    pc.close(file);
    check(pc.machine.run_until_idle());
    pc.unload();
}

#[track_caller]
fn sleep(machine: &Machine) {
    assert_eq!(check(machine.sleep()), NtStatus::SUCCESS);
}

/// To S0, and until the devices have full power, too.
#[track_caller]
fn wake(machine: &Machine) {
    check(machine.wake());
    check(machine.settle());
}

/// Nothing accesses a port for a time.
#[track_caller]
fn assert_left_alone(machine: &Machine, time: Nanos) {
    let accesses = machine.port_accesses();
    check(machine.run_for(time));
    assert_eq!(machine.port_accesses(), accesses, "the port is left alone");
}

/// How long a nap takes: longer than a request waits for a port that another client has.
const NAP: u64 = 8 * SECOND;

/// A short sleep.
#[track_caller]
fn nap(machine: &Machine) {
    sleep(machine);
    check(machine.run_for(NAP));
    wake(machine);
}

/// One that comes before anything else is done.
#[track_caller]
fn nap_unasked(machine: &Machine) {
    assert_eq!(check(machine.sleep_unasked()), NtStatus::SUCCESS);
    check(machine.run_for(NAP));
    wake(machine);
}

/// A sleep after which the port is refused its power.
#[track_caller]
fn wake_without_power<C, P>(pc: &Pc<C, P>) {
    sleep(&pc.machine);
    let refused = PowerUp {
        refused: Some(NtStatus::NOT_SUPPORTED),
        ..PowerUp::default()
    };
    pc.machine.set_power_up(pc.node, refused);
    wake(&pc.machine);
}

/// `IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE` in a thread of its own: its status, when there is one.
fn start_allocation(machine: &Machine, port: Handle) -> Rc<Cell<Option<NtStatus>>> {
    let granted = Rc::new(Cell::new(None));
    let told = granted.clone();
    machine.at(When::Time(machine.now()), move |machine| {
        let code = IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE;
        let allocate = machine.internal_device_control(port, code, &[], 0);
        told.set(Some(check(allocate).status));
    });
    granted
}

fn document() -> Vec<u8> {
    (0..2000u32).map(|n| n.to_le_bytes()[0]).collect()
}

/// A program that prints does not notice the sleep, whenever it comes: nothing is lost and nothing comes
/// twice. The port is left alone meanwhile: the machine watches that.
#[test]
fn a_print_goes_on_after_the_sleep() {
    let mut slept = 0;
    for step in 0..60u64 {
        port(step).with_open(|pc, lpt1| {
            pc.at_access(1 + step * 190, |machine| nap(machine));
            let print = check(pc.machine.write(lpt1, &document()));
            slept += u64::from(print.took > NAP);
            assert_eq!(
                print.outcome(),
                (NtStatus::SUCCESS, document().len()),
                "{step}"
            );
            assert!(pc.printer.received() == document(), "{step}");
        });
    }
    assert!(slept > 30, "{slept}");
}

/// In every mode; the mode is connected anew after the sleep.
#[test]
fn transfers_in_every_mode_go_on_after_the_sleep() {
    let data = pattern(300);
    let (mut early, mut slept) = (0, 0);
    for chip in Chip::ALL {
        for (mode, name) in modes::ALL {
            for step in [3, 60, 150, 400, 900] {
                for (write, has) in [(true, chip.write_modes()), (false, chip.read_modes())] {
                    if has & mode != 0 {
                        let during = sleep_in_transfer(chip, mode, write, step, &data, name);
                        early += u32::from(step == 3);
                        slept += u32::from(step == 3 && during);
                    }
                }
            }
        }
    }
    // The first accesses come in any case. A transfer of some hundred microseconds may be over before
    // the processor is another thread's.
    assert!(slept * 10 > early * 8, "{slept} of {early}");
}

/// Whether the sleep came before the end of the transfer.
fn sleep_in_transfer(
    chip: Chip,
    mode: u16,
    write: bool,
    step: u64,
    data: &[u8],
    name: &str,
) -> bool {
    let what = format!("{name} on {chip:?}, write {write}, access {step}");
    let peripheral = Peripheral1284::new();
    let pc = pc(chip, &peripheral);
    let lpt1 = pc.open();
    if write {
        pc.choose(lpt1, 0, mode);
    } else {
        pc.choose(lpt1, mode, 0);
        peripheral.give(data);
    }
    let at = pc.machine.port_accesses() + step;
    pc.machine
        .at(When::PortAccess(at), |machine| nap_unasked(machine));
    let since = pc.machine.now();
    if write {
        let written = check(pc.machine.write(lpt1, data));
        assert_eq!(written.outcome(), (NtStatus::SUCCESS, data.len()), "{what}");
        assert!(peripheral.received_on(channel(mode)) == data, "{what}");
    } else {
        let received = pc.read_until(lpt1, data.len(), |left| left, &what);
        assert!(received == data, "{what}");
    }
    let slept = pc.machine.now() - since > NAP;
    check(pc.machine.close(lpt1));
    check(pc.machine.run_until_idle());
    pc.remove();
    slept
}

#[test]
fn every_request_of_the_port_survives_a_sleep() {
    for seed in SEEDS {
        for after in [1, 2, 5, 9] {
            port(seed).with_open(|pc, lpt1| {
                pc.at_access(after, |machine| nap(machine));
                assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
            });
        }
    }
}

/// A print that a busy printer has held up for a second.
fn stuck_print(pc: &Pc, lpt1: Handle) -> Pending {
    pc.printer.set_condition(Condition::Busy);
    let print = pc.machine.start_write(lpt1, b"hello");
    check(pc.machine.run_for(SECOND));
    print
}

/// A stuck printer holds up a print, but no sleep.
#[test]
fn a_print_that_waits_for_the_printer_waits_through_the_sleep() {
    on_ports(|pc, lpt1| {
        let print = stuck_print(pc, lpt1);
        assert!(!pc.machine.is_done(&print));
        nap(&pc.machine);
        check(pc.machine.run_for(SECOND));
        assert!(!pc.machine.is_done(&print));
        pc.printer.set_condition(Condition::Ready);
        let print = check(pc.machine.finish(&print));
        assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(pc.printer.received(), b"hello");
    });
}

#[test]
fn requests_wait_while_the_port_sleeps_and_can_be_cancelled() {
    on_ports(|pc, lpt1| {
        sleep(&pc.machine);
        let accesses = pc.machine.port_accesses();
        let print = pc.machine.start_write(lpt1, b"hello");
        let reset = pc.start_initialize(lpt1);
        check(pc.machine.run_for(100 * SECOND));
        assert!(!pc.machine.is_done(&print) && !pc.machine.is_done(&reset));
        check(pc.machine.cancel(&reset));
        let reset = check(pc.machine.finish(&reset));
        assert_eq!(reset.status, NtStatus::CANCELLED);
        assert_eq!(pc.machine.port_accesses(), accesses);
        wake(&pc.machine);
        let print = check(pc.machine.finish(&print));
        assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(pc.printer.received(), b"hello");
    });
}

#[test]
fn after_the_sleep_the_lines_are_at_rest() {
    for seed in SEEDS {
        let pc = Setup {
            config: config(seed),
            ecp: true,
            resources: vec![
                parscan_tests::LPT1_REGISTERS,
                Resource::Port {
                    base: 0x778,
                    len: 3,
                },
            ],
            ..Setup::default()
        }
        .started();
        for _ in 0..2 {
            sleep(&pc.machine);
            // The firmware that gives the port its power back leaves it as it likes.
            forget(&pc);
            wake(&pc.machine);
            assert_eq!(register(&pc, DCR) & 0x3F, IDLE);
            assert_eq!(register(&pc, 0), 0);
        }
        let lpt1 = pc.open();
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        pc.close_and_finish(lpt1);
    }
}

fn register(pc: &Pc, offset: u16) -> u8 {
    let now = pc.machine.now();
    let value = pc.chip.borrow_mut().read(now, 0, offset, Width::Byte);
    value.to_le_bytes()[0]
}

fn forget(pc: &Pc) {
    let now = pc.machine.now();
    for (offset, value) in [(DCR, 0x0E), (0, 0xA5)] {
        pc.chip
            .borrow_mut()
            .write(now, 0, offset, Width::Byte, value);
    }
}

/// Two events, a read and a write that wait for the device.
fn waiting(pc: &ScannerPc, file: Opened) -> Vec<Pending> {
    pc.scanner.set_silent(BULK_OUT, true);
    let requests = vec![
        pc.wait_on_event(file, 8),
        pc.wait_on_event(file, 8),
        pc.machine.start_read(file.handle, 100_000),
        pc.machine.start_write(file.handle, &vec![1; 100_000]),
    ];
    check(pc.machine.run_for(10 * MS));
    requests
}

#[track_caller]
fn end_cancelled(pc: &ScannerPc, requests: &[Pending]) {
    for request in requests {
        let result = pc.finish_request(request);
        assert_eq!(result.outcome(), (NtStatus::CANCELLED, 0));
    }
}

/// Documented: a sleep ends the requests, and the program begins them again when the system works.
/// That may be before the device has its power.
#[test]
fn a_scanner_sleeps_and_wakes_up() {
    on_scanners(|pc, file| {
        for _ in 0..2 {
            let requests = waiting(pc, file);
            sleep(&pc.machine);
            end_cancelled(pc, &requests);
            let urbs = pc.machine.urb_count();
            assert_eq!(pc.read(file, 64).status, NtStatus::DEVICE_NOT_READY);
            check(pc.machine.run_for(100 * SECOND));
            assert_eq!(pc.machine.urb_count(), urbs);
            pc.scanner.set_silent(BULK_OUT, false);
            check(pc.machine.wake());
            let event = pc.wait_on_event(file, 8);
            let registers = pc.read_registers(file, 0, 4);
            assert_eq!(registers.status, NtStatus::SUCCESS);
            let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0);
            // It ends the wait, too.
            assert_eq!(reset.status, NtStatus::SUCCESS);
            end_cancelled(pc, &[event]);
            let event = pc.wait_on_event(file, 8);
            pc.scanner.press(&[1]);
            assert_eq!(pc.finish_request(&event).status, NtStatus::SUCCESS);
            pc.scanner.send(BULK_IN, b"again", false);
            assert_eq!(pc.read(file, 64).information, 5);
            check(pc.machine.settle());
        }
    });
}

/// The first request after the system works is not refused, however long the device takes.
#[test]
fn a_request_waits_for_a_scanner_that_wakes_up() {
    for seed in 0..20 {
        let pc = ScannerSetup::with_config(Config {
            force_pending: true,
            seed,
            ..Config::default()
        })
        .started();
        let file = pc.open();
        sleep(&pc.machine);
        check(pc.machine.wake());
        // A reset, too, though it is no transfer.
        let reset = pc.control(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0);
        assert_eq!(reset.status, NtStatus::SUCCESS);
        check(pc.machine.settle());
        sleep(&pc.machine);
        check(pc.machine.wake());
        let write = pc.machine.start_write(file.handle, &[1; 100]);
        let registers = pc.read_registers(file, 0, 4);
        assert_eq!(registers.status, NtStatus::SUCCESS);
        assert_eq!(pc.finish_request(&write).information, 100);
        check(pc.machine.settle());
        pc.close_and_finish(file);
    }
}

/// At each URB of a session.
#[test]
fn a_scanner_can_fall_asleep_at_every_urb() {
    for k in 1..=14 {
        for seed in 0..3 {
            let pc = scanner(seed);
            let at = pc.machine.urb_count() + k;
            let woken = Rc::new(Cell::new(false));
            let done = woken.clone();
            pc.machine.at(When::Urb(at), move |machine| {
                nap(machine);
                done.set(true);
            });
            let file = pc.open();
            pc.scanner.send(BULK_IN, &vec![7; 200_000], false);
            let requests = [
                pc.machine.start_read(file.handle, 150_000),
                pc.machine.start_write(file.handle, &[1; 1000]),
                pc.start(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0),
            ];
            for request in &requests {
                let result = pc.finish_request(request);
                assert!(
                    matches!(
                        result.status,
                        NtStatus::SUCCESS | NtStatus::CANCELLED | NtStatus::DEVICE_NOT_READY
                    ),
                    "URB {k}, seed {seed}: {}",
                    result.status
                );
            }
            while !woken.get() {
                let _ = pc.write(file, &[1; 100]);
                check(pc.machine.run_for(SECOND));
            }
            assert_eq!(pc.write(file, &[1; 100]).information, 100);
            pc.close_and_finish(file);
        }
    }
}

/// A reset that the scanner does not answer holds up no sleep.
#[test]
fn an_unanswered_reset_ends_with_the_sleep() {
    on_scanners(|pc, file| {
        pc.scanner.set_silent(0, true);
        let reset = pc.start(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0);
        check(pc.machine.run_for(SECOND));
        assert!(!pc.machine.is_done(&reset));
        sleep(&pc.machine);
        assert!(!pc.finish_request(&reset).status.is_success());
        pc.scanner.set_silent(0, false);
        wake(&pc.machine);
        assert_eq!(pc.write(file, &[1; 100]).information, 100);
    });
}

/// A sleep in which the k-th call of the driver that may fail fails; there are three of them.
#[track_caller]
fn sleep_without_memory(machine: &Machine, driver: DriverId, k: u64) {
    machine.inject_into(driver);
    machine.inject_failure(k);
    sleep(machine);
    check(machine.run_for(SECOND));
    wake(machine);
    let failed = machine.failed_calls();
    assert_eq!(failed.len(), usize::from(k <= 3), "{failed:?}");
}

/// Without memory for a power request the system sleeps and wakes up all the same, and so does
/// what works on the device.
#[test]
fn a_sleep_that_finds_no_memory() {
    for k in 1..=4 {
        on_ports(|pc, lpt1| {
            sleep_without_memory(&pc.machine, pc.driver, k);
            let print = check(pc.machine.write(lpt1, b"hello"));
            assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
        });
    }
}

#[test]
fn a_sleep_of_a_scanner_that_finds_no_memory() {
    for k in 1..=4 {
        on_scanners(|pc, file| {
            sleep_without_memory(&pc.machine, pc.driver, k);
            assert_eq!(pc.write(file, &[1; 100]).information, 100);
        });
    }
}

/// A device that is pulled out of a sleeping system is gone when it works again.
#[test]
fn removal_of_a_port_that_sleeps() {
    pulled_out_ports(|pc, lpt1| {
        let print = pc.machine.start_write(lpt1, b"hello");
        check(pc.machine.run_for(SECOND));
        check(pc.machine.unplug(pc.node));
        let print = check(pc.machine.finish(&print));
        assert!(!print.status.is_success(), "{}", print.status);
        check(pc.machine.wake());
    });
}

#[test]
fn removal_of_a_scanner_that_sleeps() {
    pulled_out_scanners(|pc, file| {
        let requests = waiting(pc, file);
        sleep(&pc.machine);
        check(pc.machine.unplug(pc.node));
        end_cancelled(pc, &requests);
        check(pc.machine.wake());
        assert_eq!(pc.read(file, 64).status, NtStatus::DELETE_PENDING);
    });
}

/// The bus finds no device to give power to, and the removal comes a moment later.
#[test]
fn a_port_that_is_gone_does_not_wake_up() {
    pulled_out_ports(|pc, lpt1| {
        pc.machine.disconnect(pc.node);
        let print = pc.machine.start_write(lpt1, b"hello");
        wake(&pc.machine);
        check(pc.machine.run_for(SECOND));
        assert_eq!(ended(&pc.machine, &print), NtStatus::DEVICE_NOT_READY);
        check(pc.machine.unplug(pc.node));
    });
}

#[test]
fn a_scanner_that_is_gone_does_not_wake_up() {
    pulled_out_scanners(|pc, file| {
        sleep(&pc.machine);
        pc.machine.disconnect(pc.node);
        check(pc.machine.wake());
        let event = pc.wait_on_event(file, 8);
        check(pc.machine.settle());
        let event = pc.finish_request(&event);
        assert!(!event.status.is_success(), "{}", event.status);
        assert_eq!(pc.read(file, 64).status, NtStatus::DEVICE_NOT_READY);
        check(pc.machine.unplug(pc.node));
    });
}

/// Removal at each step of a wake-up that the system does not wait for.
#[test]
fn removal_while_waking_up() {
    for step in 0..40 {
        let pc = scanner(step);
        let file = pc.open();
        sleep(&pc.machine);
        let node = pc.node;
        let at = pc.machine.kernel_calls() + 1 + step;
        pc.machine.at(When::KernelCall(at), move |machine| {
            removed(machine.unplug(node));
        });
        check(pc.machine.wake());
        let event = pc.wait_on_event(file, 8);
        check(pc.machine.settle());
        check(pc.machine.run_for(SECOND));
        if !pc.machine.is_done(&event) {
            check(pc.machine.unplug(pc.node));
        }
        let _ = pc.finish_request(&event);
        end_without_scanner(&pc, file);
    }
}

fn removed(result: Result<NtStatus, Bugcheck>) {
    check(result);
}

#[test]
fn shutdown_of_a_port() {
    for seed in SEEDS {
        let pc = port(seed);
        let lpt1 = pc.open();
        let print = stuck_print(&pc, lpt1);
        assert_eq!(check(pc.machine.shut_down()), NtStatus::SUCCESS);
        assert_left_alone(&pc.machine, SECOND);
        assert!(!pc.machine.is_done(&print));
        check(pc.machine.cancel(&print));
        let print = check(pc.machine.finish(&print));
        assert_eq!(print.status, NtStatus::CANCELLED);
        check(pc.machine.close(lpt1));
        pc.remove();
    }
}

#[test]
fn shutdown_of_a_scanner() {
    on_scanners(|pc, file| {
        let requests = waiting(pc, file);
        assert_eq!(check(pc.machine.shut_down()), NtStatus::SUCCESS);
        end_cancelled(pc, &requests);
    });
}

/// A kernel client that wants the port gets it after the sleep, whether it was free or became so.
#[test]
fn a_free_port_is_nobodys_while_it_sleeps() {
    for seed in SEEDS {
        for owned in [false, true] {
            let pc = port(seed);
            let open = || check(pc.machine.open(r"\Device\ParallelPort0", Caller::Kernel)).unwrap();
            let (owner, other) = (open(), open());
            let order = |code| {
                let result = pc.machine.internal_device_control(owner, code, &[], 0);
                assert_eq!(check(result).status, NtStatus::SUCCESS);
            };
            if owned {
                order(IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE);
            }
            sleep(&pc.machine);
            let granted = start_allocation(&pc.machine, other);
            check(pc.machine.run_for(SECOND));
            if owned {
                order(IOCTL_INTERNAL_PARALLEL_PORT_FREE);
            }
            check(pc.machine.run_for(NAP));
            assert_eq!(granted.get(), None);
            wake(&pc.machine);
            check(pc.machine.run_for(SECOND));
            assert_eq!(granted.get(), Some(NtStatus::SUCCESS));
            check(pc.machine.close(owner));
            pc.close_and_finish(other);
        }
    }
}

/// A class driver that has locked the port and connected a mode keeps the lock. The mode is over,
/// and so is a call that was under way.
#[test]
fn a_class_driver_connects_its_mode_anew() {
    for (read, mode) in [(false, modes::ECP_HW_NOIRQ), (true, modes::ECP_HW_NOIRQ)] {
        for step in [0, 1, 5, 40, 100] {
            let data = pattern(100);
            let peripheral = Peripheral1284::new();
            let pc = pc(Chip::EcpEpp, &peripheral);
            let client = Client::load(&pc);
            let device = client.open_locked();
            let choose = || {
                if read {
                    device.choose(mode, 0);
                } else {
                    device.choose(0, mode);
                }
            };
            choose();
            let transfer = || {
                if read {
                    peripheral.give(&data);
                    device.call(Callback::ParallelRead(data.len()), PASSIVE)
                } else {
                    peripheral.clear_received();
                    device.call(Callback::ParallelWrite(&data), PASSIVE)
                }
            };
            assert_eq!(transfer().status(), NtStatus::SUCCESS);
            if step == 0 {
                nap(&pc.machine);
            } else {
                pc.at_access(step, |machine| nap(machine));
                let cut = transfer().status();
                assert!(
                    matches!(cut, NtStatus::SUCCESS | NtStatus::POWER_STATE_INVALID),
                    "{cut}"
                );
                check(pc.machine.run_for(60 * SECOND));
            }
            choose();
            // What a cut transfer did not move comes first.
            let again = transfer();
            assert_eq!(again.status(), NtStatus::SUCCESS);
            assert_eq!(again.count as usize, data.len());
            if !read {
                let received = peripheral.received_on(channel(mode));
                assert!(received.ends_with(&data), "step {step}");
            }
            device.unlock();
            device.close();
            client.unload();
            assert_eq!(pc.not_at_rest(), [""; 0]);
            pc.remove();
        }
    }
}

/// A chain whose power went, too, gets its addresses again, and who has locked a device of it still
/// speaks to that one.
#[test]
fn the_devices_of_a_chain_are_selected_as_before() {
    for step in [0, 1, 20, 40] {
        let devices = [Peripheral1284::new(), Peripheral1284::new()];
        let chain = DaisyChain::new(Peripheral1284::new())
            .with_device(devices[0].clone())
            .with_device(devices[1].clone());
        let chip = Spp::new(Box::new(chain.clone()));
        let pc = Setup::default().started_with(chip, chain.clone());
        let lpt = pc.try_open(r"\Device\Parallel0.0").expect("opened");
        if step == 0 {
            nap(&pc.machine);
        } else {
            pc.at_access(step, |machine| nap(machine));
        }
        let written = check(pc.machine.write(lpt, &document()[..100]));
        assert_eq!(written.outcome(), (NtStatus::SUCCESS, 100));
        assert!(devices[0].received() == document()[..100]);
        check(pc.machine.close(lpt));

        let client = Client::load(&pc);
        let device = client.open(r"\Device\Parallel0.1");
        device.connect();
        device.lock();
        nap(&pc.machine);
        assert_eq!(chain.selected(), Some(1));
        let written = device.call(Callback::ParallelWrite(b"class"), PASSIVE);
        assert_eq!((written.status(), written.count), (NtStatus::SUCCESS, 5));
        assert_eq!(devices[1].received(), b"class");
        device.unlock();
        device.close();
        client.unload();
        assert_eq!(chain.violations(), []);
        pc.remove();
    }
}

/// A client that has chosen a mode of the chip finds it again.
#[test]
fn the_chip_keeps_the_mode_that_its_owner_chose() {
    on_port(pc(Chip::EcpEpp, &Peripheral1284::new()), |pc, _, port| {
        port.allocate();
        let ecp = chip_mode_of(chip_mode::ECP);
        // In the ECP block.
        let ecr = || {
            let now = pc.machine.now();
            let ecr = pc.chip.borrow_mut().read(now, 1, 2, Width::Byte);
            ecr.to_le_bytes()[0]
        };
        let set = port.internal(IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, &ecp, 0);
        assert_eq!(set.status, NtStatus::SUCCESS);
        assert_eq!(ecr() & 0xE0, chip_mode::ECP);
        nap(&pc.machine);
        assert_eq!(ecr() & 0xE0, chip_mode::ECP);
        let clear = port.internal(IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, &ecp, 0);
        assert_eq!(clear.status, NtStatus::SUCCESS);
        port.free();
    });
}

/// A look at the devices on the port that a sleep cuts short finds no device gone.
#[test]
fn a_device_sleeps_in_a_look_at_its_bus() {
    for step in [1, 10, 50, 200, 400] {
        let printer = Peripheral1284::new();
        let chip = Spp::new(Box::new(printer.clone()));
        let pc = Setup::default().started_with(chip, printer);
        let before = pc.machine.children(pc.node);
        assert_eq!(before.len(), 2);
        let (machine, node) = (pc.machine.clone(), pc.node);
        pc.machine.at(When::Time(pc.machine.now()), move |_| {
            check(machine.enumerate(node));
        });
        // By itself: the system does not go to sleep in the middle of an enumeration.
        let at = pc.machine.port_accesses() + step;
        pc.at_access(step, move |machine| {
            set_device_power(machine, node, 4);
            set_device_power(machine, node, 1);
        });
        check(pc.machine.run_until_idle());
        assert!(pc.machine.port_accesses() >= at, "{step}");
        assert_eq!(pc.machine.children(pc.node), before, "{step}");
        pc.finish();
    }
}

/// `IRP_MN_SET_POWER` to a `DEVICE_POWER_STATE`.
#[track_caller]
fn set_device_power(machine: &Machine, node: DevNode, state: usize) {
    const SET_POWER: u8 = 2;
    const DEVICE_STATE: usize = 1;
    let arguments = [0, DEVICE_STATE, state, 0];
    let (status, _) = check(machine.send_power_irp(node, SET_POWER, arguments));
    assert_eq!(status, NtStatus::SUCCESS, "D{}", state - 1);
}

/// Device power requests, in any order; a stop, a start and a removal meanwhile.
#[test]
fn device_power_requests_in_any_order() {
    for seed in SEEDS {
        let pc = port(seed);
        let set = |state| set_device_power(&pc.machine, pc.node, state);
        let lpt1 = pc.open();
        for state in [1, 1, 2, 3, 4, 4, 2, 1] {
            set(state);
        }
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        // A device that sleeps is not asked to stop; one that was asked may sleep.
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        set(4);
        set(1);
        assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
        set(4);
        set(1);
        assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        set(4);
        pc.close_and_finish(lpt1);
    }
}

/// Those of a child, of whose hardware it has no power of its own.
#[test]
fn device_power_requests_of_a_child_are_agreed_to() {
    for seed in SEEDS {
        let pc = port(seed);
        let lpt1 = pc.open();
        let accesses = pc.machine.port_accesses();
        for (child, _) in pc.machine.children(pc.node) {
            for state in [1, 4, 1, 2, 3, 4, 4, 1] {
                set_device_power(&pc.machine, child, state);
            }
        }
        assert_eq!(pc.machine.port_accesses(), accesses);
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        pc.close_and_finish(lpt1);
    }
}

/// Removal at each step of a port that falls asleep and wakes up.
#[test]
fn removal_of_a_port_that_changes_its_power() {
    for step in 0..60 {
        let pc = port(step);
        let lpt1 = pc.open();
        let print = pc.machine.start_write(lpt1, &document());
        check(pc.machine.run_for(MS));
        let node = pc.node;
        let at = pc.machine.kernel_calls() + 1 + 3 * step;
        pc.machine.at(When::KernelCall(at), move |machine| {
            removed(machine.unplug(node));
        });
        // The devices that are left.
        check(pc.machine.sleep());
        check(pc.machine.wake());
        check(pc.machine.settle());
        check(pc.machine.run_for(SECOND));
        let _ = check(pc.machine.finish(&print));
        check(pc.machine.close(lpt1));
        check(pc.machine.run_until_idle());
        if pc.machine.node_state(pc.node) == NodeState::Started {
            check(pc.machine.unplug(pc.node));
        }
        pc.unload();
    }
}

// Power that fails, or comes late.

/// How a request ended, which it has.
#[track_caller]
fn ended(machine: &Machine, request: &Pending) -> NtStatus {
    assert!(machine.is_done(request), "it still waits");
    check(machine.finish(request)).status
}

/// A request ended as those to a device without power do.
#[track_caller]
fn assert_not_ready(machine: &Machine, request: &Pending, what: &str) {
    let status = ended(machine, request);
    assert_eq!(status, NtStatus::DEVICE_NOT_READY, "{what}");
}

/// The ways in which a device is refused its power: by its bus or by a driver above, within the
/// request for it, soon, or late.
fn refusals() -> Vec<PowerUp> {
    let mut all = Vec::new();
    for (after, inside) in [(0, true), (0, false), (500 * MS, true), (500 * MS, false)] {
        for (above, status) in [
            (false, NtStatus::NOT_SUPPORTED),
            (true, NtStatus::UNSUCCESSFUL),
        ] {
            all.push(PowerUp {
                refused: Some(status),
                above,
                after,
                inside,
            });
        }
    }
    all
}

/// A test of every refusal and every seed.
fn for_refusals(test: impl Fn(PowerUp, u64, &str)) {
    for up in refusals() {
        for seed in SEEDS {
            test(up, seed, &format!("{up:?}, seed {seed}"));
        }
    }
}

/// What a program can ask of a port.
fn port_requests(machine: &Machine, lpt1: Handle) -> [Pending; 3] {
    [
        machine.start_io_control(lpt1, IOCTL_PAR_QUERY_INFORMATION, &[], 1),
        machine.start_io_control(lpt1, IOCTL_PAR_SET_INFORMATION, &[PARALLEL_INIT], 0),
        machine.start_write(lpt1, b"hello"),
    ]
}

#[test]
fn a_port_without_power_answers_and_comes_back() {
    for_refusals(|up, seed, what| {
        let pc = port(seed);
        let lpt1 = pc.open();
        let port = check(pc.machine.open(r"\Device\ParallelPort0", Caller::Kernel)).unwrap();
        sleep(&pc.machine);
        let waiting = port_requests(&pc.machine, lpt1);
        let granted = start_allocation(&pc.machine, port);
        check(pc.machine.run_for(SECOND));
        pc.machine.set_power_up(pc.node, up);
        wake(&pc.machine);
        check(pc.machine.run_for(SECOND / 2));
        let accesses = pc.machine.port_accesses();
        // What waits is told, and what comes is refused.
        for request in &waiting {
            assert_not_ready(&pc.machine, request, what);
        }
        assert_eq!(granted.get(), Some(NtStatus::DEVICE_NOT_READY), "{what}");
        for request in port_requests(&pc.machine, lpt1) {
            check(pc.machine.run_for(2 * SECOND));
            assert_not_ready(&pc.machine, &request, what);
        }
        let allocate =
            pc.machine
                .internal_device_control(port, IOCTL_INTERNAL_PARALLEL_PORT_ALLOCATE, &[], 0);
        assert_eq!(check(allocate).status, NtStatus::DEVICE_NOT_READY, "{what}");
        // The devices on the port are as they were.
        assert_eq!(check(pc.machine.enumerate(pc.node)), (), "{what}");
        assert_eq!(pc.machine.children(pc.node).len(), 1, "{what}");
        assert_eq!(pc.machine.port_accesses(), accesses, "{what}");
        // The next request asks again.
        pc.machine.set_power_up(pc.node, PowerUp::default());
        check(pc.machine.run_for(SECOND));
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS, "{what}");
        let print = check(pc.machine.write(lpt1, b"again"));
        assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(pc.printer.received(), b"again", "{what}");
        nap(&pc.machine);
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS, "{what}");
        check(pc.machine.close(port));
        pc.close_and_finish(lpt1);
    });
}

#[test]
fn a_scanner_without_power_answers_and_comes_back() {
    for_refusals(|up, seed, what| {
        let pc = scanner(seed);
        let file = pc.open();
        sleep(&pc.machine);
        pc.machine.set_power_up(pc.node, up);
        check(pc.machine.wake());
        let early = pc.machine.start_read(file.handle, 64);
        check(pc.machine.settle());
        check(pc.machine.run_for(SECOND / 2));
        assert_not_ready(&pc.machine, &early, what);
        let urbs = pc.machine.urb_count();
        for request in [
            pc.machine.start_read(file.handle, 64),
            pc.machine.start_write(file.handle, &[1; 100]),
            pc.wait_on_event(file, 8),
            pc.start(file, IOCTL_RESET_PIPE, &pipe_type(ALL_PIPE), 0),
        ] {
            check(pc.machine.run_for(SECOND));
            assert_not_ready(&pc.machine, &request, what);
        }
        assert_eq!(pc.machine.urb_count(), urbs, "{what}");
        // The next request asks again.
        pc.machine.set_power_up(pc.node, PowerUp::default());
        check(pc.machine.run_for(SECOND));
        assert_eq!(pc.write(file, &[1; 100]).information, 100, "{what}");
        nap(&pc.machine);
        assert_eq!(pc.write(file, &[1; 100]).information, 100, "{what}");
        pc.close_and_finish(file);
    });
}

/// A device that takes its time: a request that needs it waits, and the system waits for a device with
/// children, but for no other.
#[test]
fn power_that_comes_late() {
    for after in [500 * MS, 3 * SECOND] {
        for inside in [false, true] {
            for seed in SEEDS {
                let up = PowerUp {
                    after,
                    inside,
                    ..PowerUp::default()
                };
                let pc = port(seed);
                let lpt1 = pc.open();
                sleep(&pc.machine);
                let print = pc.machine.start_write(lpt1, b"hello");
                pc.machine.set_power_up(pc.node, up);
                let since = pc.machine.now();
                check(pc.machine.wake());
                assert!(pc.machine.now() - since >= after, "{up:?}");
                check(pc.machine.settle());
                let print = check(pc.machine.finish(&print));
                assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
                pc.close_and_finish(lpt1);

                scanner(seed).with_open(|pc, file| {
                    sleep(&pc.machine);
                    pc.machine.set_power_up(
                        pc.node,
                        PowerUp {
                            inside: false,
                            ..up
                        },
                    );
                    let since = pc.machine.now();
                    check(pc.machine.wake());
                    assert!(pc.machine.now() - since < 100 * MS, "{up:?}");
                    assert_eq!(pc.write(file, &[1; 100]).information, 100);
                    check(pc.machine.settle());
                });
            }
        }
    }
}

/// No memory for the request for full power, for seconds: it is asked for until there is.
#[test]
fn memory_that_comes_late() {
    for seed in SEEDS {
        for short in [1500 * MS, 4 * SECOND, 60 * SECOND] {
            port(seed).with_open(|pc, lpt1| {
                sleep(&pc.machine);
                forget(pc);
                let print = pc.machine.start_write(lpt1, b"hello");
                pc.machine.set_power_memory(false);
                let since = pc.machine.now();
                check(pc.machine.wake());
                assert!(pc.machine.now() - since < 100 * MS, "the system waits");
                check(pc.machine.run_for(short));
                // A request waits for five seconds.
                assert_eq!(pc.machine.is_done(&print), short > 10 * SECOND);
                if short > 10 * SECOND {
                    assert_eq!(ended(&pc.machine, &print), NtStatus::DEVICE_NOT_READY);
                }
                pc.machine.set_power_memory(true);
                // By itself.
                check(pc.machine.run_for(10 * SECOND));
                assert_eq!(register(pc, DCR) & 0x3F, IDLE);
                if short < 10 * SECOND {
                    assert_eq!(ended(&pc.machine, &print), NtStatus::SUCCESS);
                }
                assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
                check(pc.machine.run_until_idle());
                // And no more.
                assert_rests(&pc.machine);
            });
        }
    }
}

/// The driver does nothing for ten minutes.
#[track_caller]
fn assert_rests(machine: &Machine) {
    let calls = machine.kernel_calls();
    check(machine.run_for(600 * SECOND));
    assert_eq!(machine.kernel_calls(), calls);
}

#[test]
fn memory_that_comes_late_for_a_scanner() {
    on_scanners(|pc, file| {
        sleep(&pc.machine);
        pc.machine.set_power_memory(false);
        check(pc.machine.wake());
        let early = pc.machine.start_write(file.handle, &[1; 100]);
        check(pc.machine.run_for(3 * SECOND));
        assert!(!pc.machine.is_done(&early));
        check(pc.machine.run_for(3 * SECOND));
        assert_eq!(ended(&pc.machine, &early), NtStatus::DEVICE_NOT_READY);
        assert_eq!(pc.read(file, 64).status, NtStatus::DEVICE_NOT_READY);
        check(pc.machine.run_for(60 * SECOND));
        pc.machine.set_power_memory(true);
        // A request does not wait until the next time that the driver asks by itself.
        let since = pc.machine.now();
        assert_eq!(pc.write(file, &[1; 100]).information, 100);
        assert!(pc.machine.now() - since < 100 * MS);
        check(pc.machine.run_until_idle());
        assert_rests(&pc.machine);
    });
}

/// A device that waits for memory can be removed, and the system can go to sleep again.
#[test]
fn removal_and_sleep_while_there_is_no_memory() {
    for seed in SEEDS {
        for pulled in [false, true] {
            let pc = port(seed);
            let lpt1 = pc.open();
            for _ in 0..2 {
                sleep(&pc.machine);
                pc.machine.set_power_memory(false);
                check(pc.machine.wake());
                check(pc.machine.run_for(SECOND));
                pc.machine.set_power_memory(true);
            }
            sleep(&pc.machine);
            assert_left_alone(&pc.machine, 100 * SECOND);
            pc.machine.set_power_memory(false);
            check(pc.machine.wake());
            check(pc.machine.close(lpt1));
            if pulled {
                check(pc.machine.unplug(pc.node));
            } else {
                assert_eq!(check(pc.machine.remove(pc.node)), NtStatus::SUCCESS);
            }
            pc.machine.set_power_memory(true);
            check(pc.machine.run_for(100 * SECOND));
            pc.unload();
        }
    }
}

/// A sleep of which no device can be told: there is no memory for the requests.
#[track_caller]
fn sleep_untold(machine: &Machine) {
    machine.set_power_memory(false);
    sleep(machine);
}

/// The device was not told to sleep, and its power went with that of the system.
#[test]
fn a_port_that_was_not_put_to_sleep_is_put_at_rest() {
    on_ports(|pc, lpt1| {
        let print = stuck_print(pc, lpt1);
        sleep_untold(&pc.machine);
        assert_left_alone(&pc.machine, SECOND);
        forget(pc);
        pc.printer.set_condition(Condition::Ready);
        pc.machine.set_power_memory(true);
        wake(&pc.machine);
        let print = check(pc.machine.finish(&print));
        assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5));
        assert_eq!(register(pc, DCR) & 0x3F, IDLE);
    });
}

#[test]
fn a_scanner_that_was_not_put_to_sleep() {
    on_scanners(|pc, file| {
        let requests = waiting(pc, file);
        sleep_untold(&pc.machine);
        end_cancelled(pc, &requests);
        pc.scanner.set_silent(BULK_OUT, false);
        pc.machine.set_power_memory(true);
        check(pc.machine.wake());
        assert_eq!(pc.write(file, &[1; 100]).information, 100);
        check(pc.machine.settle());
    });
}

/// A port that has no power, and no word of when it comes: who is on it is not found out, and
/// no request waits.
#[test]
fn a_look_at_a_port_that_sleeps_waits_for_nothing() {
    for seed in SEEDS {
        let printer = Peripheral1284::new();
        let chip = Spp::new(Box::new(printer.clone()));
        let pc = Setup::with_config(config(seed)).started_with(chip, printer);
        let before = pc.machine.children(pc.node);
        assert_eq!(before.len(), 2);
        set_device_power(&pc.machine, pc.node, 4);
        let since = pc.machine.now();
        check(pc.machine.enumerate(pc.node));
        assert!(pc.machine.now() - since < 3 * SECOND);
        assert_eq!(pc.machine.children(pc.node), before);
        let accesses = pc.machine.port_accesses();
        set_device_power(&pc.machine, pc.node, 1);
        check(pc.machine.run_until_idle());
        assert!(pc.machine.port_accesses() > accesses + 20, "looked again");
        assert_eq!(pc.machine.children(pc.node), before);
        pc.finish();
    }
}

/// A class driver that is told that the device was removed gives it up. A port that sleeps is not
/// removed: what was found at its start is so still, and the chip gets its mode when it has power.
#[test]
fn a_port_that_sleeps_is_not_removed() {
    for seed in SEEDS {
        let setup = Setup::with_config(config(seed));
        on_port(
            pc_with(Chip::EcpEpp, &Peripheral1284::new(), setup),
            |pc, client, port| {
                let device = client.open(DEVICE);
                let facts = || {
                    [
                        (IOCTL_INTERNAL_GET_PARALLEL_PORT_INFO, 56),
                        (IOCTL_INTERNAL_GET_MORE_PARALLEL_PORT_INFO, 32),
                        (IOCTL_INTERNAL_GET_PARALLEL_PNP_INFO, 112),
                    ]
                    .map(|(code, size)| {
                        let result = port.internal(code, &[], size);
                        assert_eq!(result.status, NtStatus::SUCCESS);
                        result.output
                    })
                };
                let ecr = || {
                    let now = pc.machine.now();
                    let ecr = pc.chip.borrow_mut().read(now, 1, 2, Width::Byte);
                    ecr.to_le_bytes()[0] & 0xE0
                };
                let before = facts();
                port.port_information();
                port.pnp_information();
                port.allocate();
                sleep(&pc.machine);
                let accesses = pc.machine.port_accesses();
                assert_eq!(facts(), before);
                let connected = device.connect();
                assert_eq!(connected.controller, 0x378);
                let ecp = chip_mode_of(chip_mode::ECP);
                let set = port.internal(IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, &ecp, 0);
                assert_eq!(set.status, NtStatus::SUCCESS);
                let clear = port.call(Callback::ClearChipMode(chip_mode::ECP), PASSIVE);
                assert_eq!(clear.status(), NtStatus::SUCCESS);
                let clear = port.internal(IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE, &ecp, 0);
                assert_eq!(clear.status, NtStatus::INVALID_DEVICE_STATE);
                let set = port.call(Callback::TrySetChipMode(chip_mode::ECP), PASSIVE);
                assert_eq!(set.status(), NtStatus::SUCCESS);
                assert_eq!(pc.machine.port_accesses(), accesses);
                wake(&pc.machine);
                assert_eq!(ecr(), chip_mode::ECP);
                sleep(&pc.machine);
                // Who frees the port gives its mode back, too.
                port.free();
                wake(&pc.machine);
                assert_eq!(ecr(), 0);
                port.allocate();
                // Without power there is no word of when it comes.
                wake_without_power(pc);
                assert_eq!(facts(), before);
                let set = port.call(Callback::TrySetChipMode(chip_mode::ECP), PASSIVE);
                assert_eq!(set.status(), NtStatus::DEVICE_NOT_READY);
                let set = port.internal(IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE, &ecp, 0);
                assert_eq!(set.status, NtStatus::DEVICE_NOT_READY);
                let clear = port.call(Callback::ClearChipMode(chip_mode::ECP), PASSIVE);
                assert_eq!(clear.status(), NtStatus::DEVICE_NOT_READY);
                pc.machine.set_power_up(pc.node, PowerUp::default());
                nap(&pc.machine);
                port.free();
                device.close();
            },
        );
    }
}

/// A port with a chain, whose power does not come back: what a class driver calls and sends is refused,
/// and no line moves; then it works as before.
#[test]
fn clients_of_a_port_without_power_are_refused() {
    for seed in SEEDS {
        let devices = [Peripheral1284::new(), Peripheral1284::new()];
        let chain = DaisyChain::new(Peripheral1284::new())
            .with_device(devices[0].clone())
            .with_device(devices[1].clone());
        let chip = Spp::new(Box::new(chain.clone()));
        let pc = Setup::with_config(config(seed)).started_with(chip, chain.clone());
        let client = Client::load(&pc);
        let (class, other) = (client.open_locked(), client.open(r"\Device\Parallel0.1"));
        wake_without_power(&pc);
        let accesses = pc.machine.port_accesses();
        let first = command(0, command_flags::HAVE_PORT_KEEP_PORT);
        for callback in [
            Callback::ParallelWrite(b"text"),
            Callback::ParallelRead(4),
            Callback::IeeeRevToFwdMode,
            Callback::ParallelTryselect(first),
        ] {
            let status = class.call(callback, PASSIVE).status();
            assert_eq!(status, NtStatus::DEVICE_NOT_READY, "{callback:?}");
        }
        let idle = class.order(IOCTL_INTERNAL_DISCONNECT_IDLE);
        assert_eq!(idle, NtStatus::DEVICE_NOT_READY);
        class.unlock();
        assert_eq!(
            class.order(IOCTL_INTERNAL_LOCK_PORT),
            NtStatus::DEVICE_NOT_READY
        );
        assert_eq!(
            other.order(IOCTL_INTERNAL_LOCK_PORT),
            NtStatus::DEVICE_NOT_READY
        );
        for device in [&class, &other] {
            let state = device.plain(IOCTL_PAR_QUERY_INFORMATION, &[], 1);
            assert_eq!(state.outcome(), (NtStatus::DEVICE_NOT_READY, 0));
        }
        let claim = class.plain(IOCTL_PARSCAN_CLAIM, &[0; 4], 0);
        assert_eq!(claim.outcome(), (NtStatus::DEVICE_NOT_READY, 0));
        let code = [data(1), delay_us(1000)];
        let run = class.plain(IOCTL_PARSCAN_RUN, &request(&code, &[], false), 32);
        assert_eq!(run.outcome(), (NtStatus::DEVICE_NOT_READY, 0));
        assert_eq!(pc.machine.port_accesses(), accesses);
        pc.machine.set_power_up(pc.node, PowerUp::default());
        nap(&pc.machine);
        class.lock();
        let written = class.call(Callback::ParallelWrite(b"text"), PASSIVE);
        assert_eq!((written.status(), written.count), (NtStatus::SUCCESS, 4));
        class.unlock();
        for slot in [class, other] {
            slot.close();
        }
        client.unload();
        pc.remove();
    }
}

/// Who has the port of a chain may deselect in a sleep, which deselects all. A selection has to wait
/// for the power: the one before stays.
#[test]
fn a_selection_in_a_sleep_is_refused() {
    let chain = DaisyChain::new(Peripheral1284::new())
        .with_device(Peripheral1284::new())
        .with_device(Peripheral1284::new());
    let chip = Spp::new(Box::new(chain.clone()));
    let pc = Setup::default().started_with(chip, chain.clone());
    let client = Client::load(&pc);
    let port = client.open(PORT);
    port.allocate();
    let select = |device| {
        let input = command(device, command_flags::HAVE_PORT_KEEP_PORT);
        port.internal(IOCTL_INTERNAL_SELECT_DEVICE, &input, 0)
            .status
    };
    let deselect = || {
        let input = command(
            0,
            command_flags::END_OF_CHAIN_DEVICE | command_flags::HAVE_PORT_KEEP_PORT,
        );
        port.internal(IOCTL_INTERNAL_DESELECT_DEVICE, &input, 0)
            .status
    };
    assert_eq!(select(0), NtStatus::SUCCESS);
    sleep(&pc.machine);
    assert_eq!(select(0), NtStatus::SUCCESS, "it is");
    assert_eq!(select(1), NtStatus::DEVICE_NOT_READY);
    wake(&pc.machine);
    check(pc.machine.settle());
    assert_eq!(chain.selected(), Some(0));
    sleep(&pc.machine);
    assert_eq!(deselect(), NtStatus::SUCCESS);
    wake(&pc.machine);
    check(pc.machine.settle());
    assert_eq!(chain.selected(), None);
    assert_eq!(select(1), NtStatus::SUCCESS);
    assert_eq!(chain.selected(), Some(1));
    port.free();
    assert_eq!(chain.selected(), None);
    port.close();
    client.unload();
    pc.remove();
}

/// The port is another client's when Windows looks for devices, and loses its power before the look
/// gives up: nothing has gone, and the look is done again.
#[test]
fn a_look_that_waits_for_the_port_sleeps_with_it() {
    let printer = Peripheral1284::new();
    let chip = Spp::new(Box::new(printer.clone()));
    let pc = Setup::default().started_with(chip, printer.clone());
    let before = pc.machine.children(pc.node);
    assert_eq!(before.len(), 2);
    let client = Client::load(&pc);
    let port = client.open(PORT);
    port.allocate();
    for after in [1, 20, 100] {
        let node = pc.node;
        let at = When::Time(pc.machine.now() + after * MS);
        pc.machine
            .at(at, move |machine| set_device_power(machine, node, 4));
        let accesses = pc.machine.port_accesses();
        check(pc.machine.enumerate(pc.node));
        check(pc.machine.run_for(3 * SECOND));
        assert_eq!(pc.machine.children(pc.node), before, "{after} ms");
        set_device_power(&pc.machine, pc.node, 1);
        check(pc.machine.run_until_idle());
        assert_eq!(pc.machine.children(pc.node), before, "{after} ms");
        assert!(pc.machine.port_accesses() >= accesses);
    }
    port.free();
    printer.set_condition(Condition::Unplugged);
    for _ in 0..2 {
        check(pc.machine.enumerate(pc.node));
        check(pc.machine.run_until_idle());
    }
    assert_eq!(
        pc.machine.children(pc.node).len(),
        1,
        "looks find what is there"
    );
    port.close();
    client.unload();
    pc.remove();
}

/// Whether a state of a kind that no driver knows would be fine: it changes nothing.
#[test]
fn a_power_query_of_an_unknown_kind_changes_nothing() {
    const QUERY_POWER: u8 = 3;
    const UNKNOWN_KIND: usize = 2;
    let pc = port(0);
    let lpt1 = pc.open();
    for (node, _) in pc
        .machine
        .children(pc.node)
        .into_iter()
        .chain([(pc.node, String::new())])
    {
        for state in [1, 4] {
            let arguments = [0, UNKNOWN_KIND, state, 0];
            let _ = check(pc.machine.send_power_irp(node, QUERY_POWER, arguments));
        }
    }
    assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
    pc.close_and_finish(lpt1);
}

/// A bus may refuse power to a port that has it: then it has none, as after a sleep, until a request
/// asks for it.
#[test]
fn an_order_for_power_that_is_there_may_be_refused() {
    const SET_POWER: u8 = 2;
    for_refusals(|up, seed, what| {
        let pc = port(seed);
        let lpt1 = pc.open();
        pc.machine.set_power_up(pc.node, up);
        let to_d0 = [0, 1, 1, 0];
        let (status, _) = check(pc.machine.send_power_irp(pc.node, SET_POWER, to_d0));
        // A driver above refuses what the power manager orders.
        assert!(up.above || status.is_error(), "{what}: {status}");
        check(pc.machine.run_for(SECOND));
        pc.machine.set_power_up(pc.node, PowerUp::default());
        nap(&pc.machine);
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS, "{what}");
        let print = check(pc.machine.write(lpt1, b"again"));
        assert_eq!(print.outcome(), (NtStatus::SUCCESS, 5), "{what}");
        pc.close_and_finish(lpt1);
    });
}

/// The second half of a rebalance: the port has agreed to stop.
#[track_caller]
fn restart<C, P>(pc: &Pc<C, P>) {
    assert_eq!(check(pc.machine.stop(pc.node)), NtStatus::SUCCESS);
    assert_eq!(check(pc.machine.start(pc.node)), NtStatus::SUCCESS);
}

/// A start brings full power: what asked for memory in vain to get it stops asking.
#[test]
fn a_start_ends_the_wait_for_memory() {
    for seed in SEEDS {
        let pc = port(seed);
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        sleep(&pc.machine);
        pc.machine.set_power_memory(false);
        check(pc.machine.wake());
        check(pc.machine.run_for(SECOND));
        restart(&pc);
        pc.machine.set_power_memory(true);
        check(pc.machine.run_for(10 * SECOND));
        assert_rests(&pc.machine);
        let lpt1 = pc.open();
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        pc.close_and_finish(lpt1);
    }
}

/// A port that was asked to stop and sleeps then has power with its start, and its clients have it.
#[test]
fn a_start_wakes_a_port_that_sleeps() {
    for seed in SEEDS {
        let pc = port(seed);
        assert_eq!(check(pc.machine.query_stop(pc.node)), NtStatus::SUCCESS);
        set_device_power(&pc.machine, pc.node, 4);
        restart(&pc);
        let lpt1 = pc.open();
        assert_eq!(pc.initialize(lpt1).status, NtStatus::SUCCESS);
        let port = check(pc.machine.open(r"\Device\ParallelPort0", Caller::Kernel)).unwrap();
        let granted = start_allocation(&pc.machine, port);
        check(pc.machine.run_for(SECOND));
        assert_eq!(granted.get(), Some(NtStatus::SUCCESS));
        check(pc.machine.close(port));
        pc.close_and_finish(lpt1);
    }
}
