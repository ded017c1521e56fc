//! A class driver transfers through `ParallelWrite` and `ParallelRead`: the same bytes in every
//! mode on every chip as a program, for the same accesses to the port.

use ntsim::NtStatus;
use parscan_models::Peripheral1284;
use parscan_tests::{
    check,
    client::{Callback, Client, DEVICE, PASSIVE, Slot, puppet::Step, with_client},
    modes::{Chip, Failures, ModesPc, channel, pattern, pc},
    ntddpar::modes,
    parallel_h::IOCTL_INTERNAL_DISCONNECT_IDLE,
};

/// How much goes each way.
const AMOUNT: usize = 64 << 10;

/// A transfer in one mode on one chip, in one direction.
#[derive(Clone, Copy)]
struct Case {
    chip: Chip,
    mode: u16,
    name: &'static str,
}

/// Every mode for writing, or for reading, of every chip.
fn cases(of: impl Fn(Chip) -> u16) -> Vec<Case> {
    let mut cases = Vec::new();
    for chip in Chip::ALL {
        for (mode, name) in modes::ALL {
            if of(chip) & mode != 0 {
                cases.push(Case { chip, mode, name });
            }
        }
    }
    cases
}

impl Case {
    fn what(self) -> String {
        format!("{:?} {}", self.chip, self.name)
    }

    /// Runs `work` as a program that has chosen the mode; gives the accesses.
    fn by_program(self, reading: bool, peripheral: &Peripheral1284, data: &[u8]) -> u64 {
        let pc = pc(self.chip, peripheral);
        let lpt1 = pc.open();
        if reading {
            pc.choose(lpt1, self.mode, 0);
            peripheral.give(data);
        } else {
            pc.choose(lpt1, 0, self.mode);
        }
        let before = pc.machine.port_accesses();
        let mut moved = 0;
        while moved < data.len() {
            let result = if reading {
                check(pc.machine.read(lpt1, data.len() - moved))
            } else {
                check(pc.machine.write(lpt1, data))
            };
            assert_eq!(result.status, NtStatus::SUCCESS, "{}", self.what());
            assert_ne!(result.information, 0, "{} after {moved}", self.what());
            moved += result.information;
        }
        let accesses = pc.machine.port_accesses() - before;
        pc.close_and_finish(lpt1);
        accesses
    }

    /// Runs `work` in a class driver that has the port locked and the mode chosen; gives the
    /// accesses.
    fn by_driver(
        self,
        reading: bool,
        peripheral: &Peripheral1284,
        work: impl FnOnce(&Slot<'_>),
    ) -> u64 {
        let pc = pc(self.chip, peripheral);
        let client = Client::load(&pc);
        let device = client.open_locked();
        if reading {
            device.choose(self.mode, 0);
        } else {
            device.choose(0, self.mode);
        }
        let before = pc.machine.port_accesses();
        work(&device);
        let accesses = pc.machine.port_accesses() - before;
        device.unlock();
        device.close();
        client.unload();
        assert_eq!(pc.not_at_rest(), [""; 0], "{}", self.what());
        pc.finish();
        accesses
    }
}

impl Case {
    /// A class driver ends its mode itself. So does every request of a program, but in EPP, which
    /// ends when the program closes the device.
    fn is_same_price(&self, driver: u64, program: u64) -> bool {
        /// The chip's mode, nInit low and high, and the mode again.
        const EPP_END: u64 = 4;
        let end = if self.mode & (modes::EPP_HW | modes::EPP_SW) == 0 {
            0
        } else {
            EPP_END
        };
        (program..=program + end).contains(&driver)
    }

    /// What the driver and a program pay is told.
    fn compare_prices(self, driver: u64, program: u64, failures: &mut Failures) {
        let told = format!("{}: {driver} accesses, {program} by a program", self.what());
        println!("{told}");
        failures.expect(self.is_same_price(driver, program), || told);
    }
}

/// Each case with a device of its own, and what is to go to it or to come from it.
fn for_cases(has: fn(Chip) -> u16, test: impl Fn(Case, &Peripheral1284, &[u8], &mut Failures)) {
    let data = pattern(AMOUNT);
    let mut failures = Failures::default();
    for case in cases(has) {
        test(case, &Peripheral1284::new(), &data, &mut failures);
    }
    failures.end();
}

fn terminate(device: &Slot<'_>) {
    let ended = device.call(Callback::TerminateIeeeMode, PASSIVE);
    assert_eq!(ended.status(), NtStatus::SUCCESS, "TerminateIeeeMode");
}

#[test]
fn writes_arrive_for_the_price_of_a_program() {
    for_cases(Chip::write_modes, |case, peripheral, data, failures| {
        let what = case.what();
        let driver = case.by_driver(false, peripheral, |device| {
            let written = device.call(Callback::ParallelWrite(data), PASSIVE);
            assert_eq!(written.status(), NtStatus::SUCCESS, "{what}");
            assert_eq!(written.count as usize, data.len(), "{what}");
            assert!(written.data == data, "{what}: the buffer was changed");
            terminate(device);
        });
        let arrived = peripheral.received_on(channel(case.mode));
        failures.expect(arrived == data, || {
            format!("{what}: {} bytes arrived", arrived.len())
        });
        let program = case.by_program(false, &Peripheral1284::new(), data);
        case.compare_prices(driver, program, failures);
    });
}

#[test]
fn reads_get_everything_for_the_price_of_a_program() {
    for_cases(Chip::read_modes, |case, peripheral, data, failures| {
        let what = case.what();
        let mut got = Vec::new();
        let driver = case.by_driver(true, peripheral, |device| {
            peripheral.give(data);
            while got.len() < data.len() {
                let left = data.len() - got.len();
                let read = device.call(Callback::ParallelRead(left), PASSIVE);
                assert_eq!(read.status(), NtStatus::SUCCESS, "{what}");
                assert_ne!(read.count, 0, "{what} after {}", got.len());
                got.extend_from_slice(&read.data[..read.count as usize]);
                // As every ReadFile ends.
                terminate(device);
            }
        });
        failures.expect(got == data, || format!("{what}: other bytes"));
        let program = case.by_program(true, &Peripheral1284::new(), data);
        case.compare_prices(driver, program, failures);
    });
}

/// The order of the documentation, with `NegotiateIeeeMode` instead of a program's request: both
/// directions of one family, or what every device has.
#[test]
fn a_whole_day_of_a_class_driver() {
    let (out, back) = (pattern(AMOUNT), pattern(300));
    let both = modes::EPP_HW | modes::EPP_SW | modes::ECP_HW_NOIRQ | modes::ECP_SW;
    for case in cases(|chip| chip.write_modes() | chip.read_modes()) {
        let what = case.what();
        let [forward, reverse] = match case.mode {
            mode if mode & both != 0 => [mode, mode],
            mode if case.chip.write_modes() & mode != 0 => [mode, modes::NIBBLE],
            mode => [modes::CENTRONICS, mode],
        };
        let peripheral = Peripheral1284::new();
        peripheral.give(&back);
        let pc: ModesPc = pc(case.chip, &peripheral);
        let client = Client::load(&pc);
        let day = client.transfer(DEVICE, [forward, reverse], &out, back.len());
        assert_eq!(
            day.statuses,
            [NtStatus::SUCCESS; Step::COUNT],
            "{what}: open, connect, lock, negotiate, write, reverse, read, terminate, unlock, \
             disconnect, close"
        );
        assert_eq!(day.written as usize, out.len(), "{what}");
        assert!(
            peripheral.received_on(channel(forward)) == out,
            "{what}: other bytes arrived"
        );
        assert_ne!(day.read, 0, "{what}");
        let read = &day.data[..day.read as usize];
        assert!(back.starts_with(read), "{what}: other bytes were read");
        client.unload();
        assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
        pc.finish();
    }
}

/// `IOCTL_INTERNAL_DISCONNECT_IDLE` ends the mode that is connected, of the client that has the port.
#[test]
fn a_request_ends_the_mode_too() {
    for case in cases(|chip| chip.write_modes() & modes::ECP_SW) {
        let peripheral = Peripheral1284::new();
        let pc: ModesPc = pc(case.chip, &peripheral);
        let client = Client::load(&pc);
        let device = client.open(DEVICE);
        device.connect();
        let end = || device.order(IOCTL_INTERNAL_DISCONNECT_IDLE);
        assert_eq!(end(), NtStatus::INVALID_DEVICE_STATE, "without the port");
        device.lock();
        device.choose(0, case.mode);
        let data = [0x5A; 3];
        let written = device.call(Callback::ParallelWrite(&data), PASSIVE);
        assert_eq!(written.status(), NtStatus::SUCCESS, "{}", case.what());
        assert_ne!(pc.not_at_rest(), [""; 0], "{}", case.what());
        assert_eq!(end(), NtStatus::SUCCESS, "{}", case.what());
        assert_eq!(pc.not_at_rest(), [""; 0], "{}", case.what());
        device.unlock();
        device.close();
        client.unload();
        pc.finish();
    }
}

/// The port goes to and fro, and the bytes of both directions keep their order.
#[test]
fn turning_the_port_around_loses_nothing() {
    for case in cases(Chip::read_modes) {
        let what = case.what();
        let write_modes = case.chip.write_modes();
        let forward = if write_modes & case.mode == 0 {
            modes::CENTRONICS
        } else {
            case.mode
        };
        let peripheral = Peripheral1284::new();
        with_client(pc(case.chip, &peripheral), |pc, client| {
            let device = client.open_locked();
            let negotiate = Callback::NegotiateIeeeMode {
                forward,
                reverse: case.mode,
                safety: 0,
                is_forward: true,
            };
            let expect = |callback: Callback<'_>, name| {
                let answer = device.call(callback, PASSIVE);
                assert_eq!(answer.status(), NtStatus::SUCCESS, "{what}: {name}");
                answer
            };
            expect(negotiate, "NegotiateIeeeMode");
            let (mut sent, mut given, mut got) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..8_u8 {
                let data = [round, 0x55, round ^ 0xFF];
                let written = expect(Callback::ParallelWrite(&data), "ParallelWrite");
                assert_eq!(written.count, 3, "{what}");
                sent.extend_from_slice(&data);
                let answer = [round | 0x80, 0xAA];
                peripheral.give(&answer);
                given.extend_from_slice(&answer);
                expect(Callback::IeeeFwdToRevMode, "IeeeFwdToRevMode");
                // Being there already, it comes back at once.
                let accesses = pc.machine.port_accesses();
                expect(Callback::IeeeFwdToRevMode, "IeeeFwdToRevMode again");
                assert_eq!(pc.machine.port_accesses(), accesses, "{what}");
                let read = expect(Callback::ParallelRead(2), "ParallelRead");
                got.extend_from_slice(&read.data[..read.count as usize]);
                expect(Callback::IeeeRevToFwdMode, "IeeeRevToFwdMode");
                let accesses = pc.machine.port_accesses();
                expect(Callback::IeeeRevToFwdMode, "IeeeRevToFwdMode again");
                assert_eq!(pc.machine.port_accesses(), accesses, "{what}");
            }
            assert_eq!(got, given, "{what}");
            assert_eq!(peripheral.received_on(channel(forward)), sent, "{what}");
            terminate(&device);
            device.unlock();
            device.close();
            assert_eq!(pc.not_at_rest(), [""; 0], "{what}");
        });
    }
}
