//! Resetting a peripheral, and reading its condition.

use super::{
    Capabilities, Condition, Dcr, Dsr, Ecr, Interrupted, Port, Register, quiet::steady_lines,
};

/// How long nInit is held low, in microseconds. Printers ask for 50 at least (Linux's lp waits
/// that long, and so does the EPP exit); twice that is on the safe side.
const RESET_LOW_US: u32 = 100;
/// One busy-wait of it.
const RESET_STEP_US: u32 = 25;
/// How often the lines are looked at while the peripheral comes back, in milliseconds.
const POLL_MS: u32 = 10;
/// How long a reset peripheral may take to come back, in milliseconds. Printers need from some
/// hundred milliseconds to some seconds.
const READY_LIMIT_MS: u64 = 5000;
/// How long the lines must look unattended before no peripheral is believed there, in milliseconds.
const ABSENT_LIMIT_MS: u64 = 500;

/// Resets and initialises the peripheral (`IOCTL_PAR_SET_INFORMATION`): nInit low for 100 us with
/// nSelectIn low, then a wait of at most five seconds until it is ready, then its condition.
///
/// The wait ends early where there is nothing to wait for: when the lines show no peripheral for
/// half a second, and when a peripheral that is not busy stays off-line or without paper.
///
/// # Errors
/// [`Interrupted`]: the wait ended early. The lines are idle then, too.
pub fn initialize(
    port: &mut impl Port,
    capabilities: &Capabilities,
) -> Result<Condition, Interrupted> {
    if capabilities.ecr {
        port.write(Register::Ecr, Ecr::SPP.bits());
    }
    port.write(Register::Dcr, Dcr::RESET.bits());
    let mut held = 0;
    while held < RESET_LOW_US {
        port.stall(RESET_STEP_US);
        held += RESET_STEP_US;
    }
    port.write(Register::Dcr, Dcr::IDLE.bits());

    let start = port.now();
    let mut absent_since = None;
    loop {
        // Before the first look: a peripheral takes a moment to raise Busy.
        port.sleep(POLL_MS)?;
        let lines = lines(port);
        let condition = Condition::of(lines);
        let now = port.now();
        if condition.is_absent() {
            let since = *absent_since.get_or_insert(now);
            if now.saturating_sub(since) >= ABSENT_LIMIT_MS {
                break;
            }
        } else {
            absent_since = None;
            if lines.contains(Dsr::NOT_BUSY) {
                break;
            }
        }
        if now.saturating_sub(start) >= READY_LIMIT_MS {
            break;
        }
    }
    read_condition(port)
}

/// Reads the condition of the peripheral. Two looks a millisecond apart must agree, and neither
/// may fall into an acknowledge pulse; lines that never agree are taken as they are.
///
/// # Errors
/// [`Interrupted`]: the wait ended early.
pub fn read_condition(port: &mut impl Port) -> Result<Condition, Interrupted> {
    steady_lines(port).map(Condition::of)
}

fn lines(port: &mut impl Port) -> Dsr {
    Dsr::from_bits_retain(port.read(Register::Dsr)) & Dsr::LINES
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;
    use crate::ioctl::Status;

    /// A port with a scripted peripheral: the DSR is a function of the time since nInit rose.
    struct Script<F> {
        dsr: F,
        us: u64,
        risen: u64,
        writes: Vec<(u64, Register, u8)>,
        interrupt_at: Option<u64>,
        ecp: bool,
    }

    impl<F: FnMut(u64) -> u8> Script<F> {
        fn new(dsr: F) -> Self {
            Self {
                dsr,
                us: 0,
                risen: 0,
                writes: vec![],
                interrupt_at: None,
                ecp: false,
            }
        }
    }

    impl<F: FnMut(u64) -> u8> Port for Script<F> {
        fn read(&mut self, register: Register) -> u8 {
            assert_eq!(register, Register::Dsr);
            (self.dsr)((self.us - self.risen) / 1000)
        }
        fn write(&mut self, register: Register, value: u8) {
            self.writes.push((self.us, register, value));
            self.risen = self.us;
        }
        fn stall(&mut self, microseconds: u32) {
            assert!(microseconds <= 50);
            self.us += u64::from(microseconds);
        }
        fn sleep(&mut self, milliseconds: u32) -> Result<(), Interrupted> {
            if self.interrupt_at.is_some_and(|at| self.us / 1000 >= at) {
                return Err(Interrupted);
            }
            self.us += u64::from(milliseconds) * 1000;
            Ok(())
        }
        fn now(&mut self) -> u64 {
            self.us / 1000
        }
        fn has_ecp(&self) -> bool {
            self.ecp
        }
        fn has_epp(&self) -> bool {
            false
        }
        fn yield_now(&mut self) -> Result<(), Interrupted> {
            self.sleep(0)
        }
    }

    #[test]
    fn the_pulse_is_long_enough_and_nothing_else_moves() {
        let mut port = Script::new(|_| 0xD8);
        assert_eq!(
            initialize(&mut port, &Capabilities::SPP).map(Condition::status),
            Ok(Status::SUCCESS)
        );
        let [(low, Register::Dcr, 0x08), (high, Register::Dcr, 0x0C)] = port.writes[..] else {
            panic!("{:?}", port.writes);
        };
        assert!(high - low >= 50, "{} us", high - low);
    }

    #[test]
    fn an_ecp_port_is_put_into_spp_mode_first() {
        let mut port = Script::new(|_| 0xD8);
        port.ecp = true;
        let ecp = Capabilities {
            ecr: true,
            ..Capabilities::SPP
        };
        initialize(&mut port, &ecp).unwrap();
        assert_eq!(port.writes[0].1, Register::Ecr);
        assert_eq!(port.writes[0].2 >> 5, 0, "mode 000");
    }

    #[test]
    fn a_slow_printer_is_waited_for() {
        let mut port = Script::new(|ms| if ms < 2500 { 0x58 } else { 0xD8 });
        let condition = initialize(&mut port, &Capabilities::SPP).unwrap();
        assert!(condition.is_ready());
        assert!((2500..2600).contains(&(port.us / 1000)), "{} us", port.us);
    }

    #[test]
    fn a_busy_printer_is_a_success_after_five_seconds() {
        let mut port = Script::new(|_| 0x58);
        assert_eq!(
            initialize(&mut port, &Capabilities::SPP).map(Condition::status),
            Ok(Status::SUCCESS)
        );
        assert!((5000..5100).contains(&(port.us / 1000)), "{} us", port.us);
    }

    #[test]
    fn nobody_there_is_told_after_half_a_second() {
        for (dsr, status) in [
            (0x78, Status::DEVICE_NOT_CONNECTED),
            (0xFF, Status::DEVICE_NOT_CONNECTED),
            (0x00, Status::DEVICE_POWERED_OFF),
        ] {
            let mut port = Script::new(|_| dsr);
            assert_eq!(
                initialize(&mut port, &Capabilities::SPP).map(Condition::status),
                Ok(status)
            );
            assert!((500..700).contains(&(port.us / 1000)), "{} us", port.us);
        }
    }

    #[test]
    fn an_acknowledge_pulse_is_looked_past() {
        let mut looks = 0;
        let mut port = Script::new(|_| {
            looks += 1;
            if looks < 3 { 0x98 } else { 0xD8 }
        });
        assert!(read_condition(&mut port).unwrap().is_ready());
    }

    #[test]
    fn lines_that_never_agree_end_the_look_all_the_same() {
        let mut look = 0u8;
        let mut port = Script::new(|_| {
            look = look.wrapping_add(1);
            if look.is_multiple_of(2) { 0xD8 } else { 0x58 }
        });
        assert_eq!(
            read_condition(&mut port).map(Condition::status),
            Ok(Status::SUCCESS)
        );
        assert!(port.us <= 20_000);
    }

    #[test]
    fn an_interrupted_wait_leaves_the_lines_idle() {
        for at in [0, 1, 10, 100, 4000] {
            let mut port = Script::new(|_| 0x58);
            port.interrupt_at = Some(at);
            assert_eq!(initialize(&mut port, &Capabilities::SPP), Err(Interrupted));
            assert_eq!(port.writes.last().map(|w| w.2), Some(0x0C));
        }
    }
}
