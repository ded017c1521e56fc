//! Whether a device that no program uses is suspended.

/// The suspension of a device while no program uses it. Its methods run under one lock.
///
/// A device that is not used for a while is offered to its bus driver with an idle request. While
/// that is out, nothing goes to the device. The bus driver may have it powered down meanwhile; who
/// wants to use the device has the request cancelled, and power is asked for when it is back.
#[allow(clippy::struct_excessive_bools, reason = "independent of each other")]
pub struct Idle {
    /// The device may be suspended.
    enabled: bool,
    /// It was started, and neither stopped nor removed.
    started: bool,
    /// It has full power, and keeps it for now.
    powered: bool,
    /// The system falls asleep: power that comes now goes again.
    asleep: bool,
    /// Those who may use it.
    users: u32,
    stage: IdleStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IdleStage {
    /// The device works, or sleeps for another reason.
    Awake,
    /// No program uses it, and the timer runs.
    Counting,
    /// The time is over, and the idle request is to be made.
    Due,
    /// The idle request is made, and not back.
    Asked,
    /// Likewise, and the device was powered down.
    Down,
}

/// What is to be done when an idle request is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The device has kept its power: it goes on.
    GoOn,
    /// It wants its power back.
    WantsPower,
    /// Nothing: the device is stopped, removed, or sleeps with the system.
    Stay,
}

impl Idle {
    /// Of a device that was not started yet.
    pub const STOPPED: Self = Self {
        enabled: false,
        started: false,
        powered: false,
        asleep: false,
        users: 0,
        stage: IdleStage::Awake,
    };

    /// Whether the timer is to be started.
    fn count(&mut self) -> bool {
        let counts =
            self.enabled && self.powered && self.users == 0 && self.stage == IdleStage::Awake;
        if counts {
            self.stage = IdleStage::Counting;
        }
        counts
    }

    /// The device was started. Whether the timer is to be started.
    pub fn start(&mut self, enabled: bool) -> bool {
        self.enabled = enabled;
        self.started = true;
        self.asleep = false;
        self.woken()
    }

    /// The device has full power. Whether the timer is to be started.
    pub fn woken(&mut self) -> bool {
        self.powered = self.started && !self.asleep;
        self.count()
    }

    /// The system works again, and the device is about to.
    pub const fn system_works(&mut self) {
        self.asleep = false;
    }

    /// As [`Idle::halt`], until the next start.
    pub fn stop(&mut self) -> bool {
        self.started = false;
        self.halt()
    }

    /// It will be suspended no more, before its next start.
    pub const fn give_up(&mut self) {
        self.enabled = false;
    }

    /// The device falls asleep with the system. Whether an idle request is out, which is to be
    /// cancelled.
    pub fn halt(&mut self) -> bool {
        self.asleep = true;
        self.powered = false;
        self.interrupt()
    }

    /// No idle request is made. Whether one is out.
    fn interrupt(&mut self) -> bool {
        if matches!(self.stage, IdleStage::Counting | IdleStage::Due) {
            self.stage = IdleStage::Awake;
        }
        self.is_out()
    }

    /// Whether the device has full power, and keeps it for now.
    #[must_use]
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Whether the bus driver has the device powered down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.stage == IdleStage::Down
    }

    /// Whether an idle request is out.
    #[must_use]
    pub const fn is_out(&self) -> bool {
        matches!(self.stage, IdleStage::Asked | IdleStage::Down)
    }

    /// One more uses the device. Whether an idle request is out, which is to be cancelled.
    pub fn enter(&mut self) -> bool {
        self.users = self.users.saturating_add(1);
        self.interrupt()
    }

    /// One uses it no more. Whether the timer is to be started.
    pub fn leave(&mut self) -> bool {
        self.users = self.users.saturating_sub(1);
        self.count()
    }

    /// The timer has run out. Whether the idle request is to be made.
    pub fn time_over(&mut self) -> bool {
        let due = self.stage == IdleStage::Counting;
        if due {
            self.stage = IdleStage::Due;
        }
        due
    }

    /// Whether the idle request is to be made still. It counts as made then.
    pub fn ask(&mut self) -> bool {
        let asks = self.stage == IdleStage::Due;
        if asks {
            self.stage = IdleStage::Asked;
        }
        asks
    }

    /// The bus driver has the device powered down.
    pub const fn power_down(&mut self) {
        self.stage = IdleStage::Down;
    }

    /// It keeps its power: it could not be asked for less.
    pub const fn keep_power(&mut self) {
        self.stage = IdleStage::Asked;
    }

    /// The idle request is back, or was not made.
    pub fn returned(&mut self) -> Returned {
        let was_down = self.stage == IdleStage::Down;
        self.stage = IdleStage::Awake;
        if !self.powered {
            return Returned::Stay;
        }
        if !was_down {
            return Returned::GoOn;
        }
        // Until it has it again.
        self.powered = false;
        Returned::WantsPower
    }

    /// After [`Returned::GoOn`]: whether the timer is to be started again.
    pub fn again(&mut self) -> bool {
        self.count()
    }
}

#[cfg(test)]
mod tests {
    use super::{Idle, Returned};

    /// A device that may be suspended, whose idle request is out.
    fn asked() -> Idle {
        let mut idle = Idle::STOPPED;
        assert!(idle.start(true), "the timer runs");
        assert!(idle.time_over() && idle.ask() && idle.is_out());
        idle
    }

    #[test]
    fn a_device_is_suspended_and_comes_back() {
        let mut idle = asked();
        idle.power_down();
        assert!(idle.is_down());
        assert!(idle.enter(), "the request is to be cancelled");
        assert_eq!(idle.returned(), Returned::WantsPower);
        assert!(!idle.is_powered() && !idle.is_out());
        assert!(!idle.woken(), "it is used");
        assert!(idle.is_powered());
        assert!(idle.leave());
        assert!(!idle.ask(), "the time is not over");
    }

    #[test]
    fn who_comes_in_time_keeps_it_awake() {
        let mut idle = Idle::STOPPED;
        assert!(idle.start(true));
        assert!(!idle.enter());
        assert!(!idle.time_over());
        assert!(!idle.enter() && !idle.leave() && idle.leave());
        assert!(idle.time_over());
        // Between the timer and the request.
        assert!(!idle.enter());
        assert!(!idle.ask());
        // And before the bus driver has called back.
        let mut idle = asked();
        assert!(idle.enter());
        assert_eq!(idle.returned(), Returned::GoOn);
        assert!(!idle.again());
    }

    #[test]
    fn a_device_that_stops_or_sleeps_is_left_alone() {
        for stops in [true, false] {
            for is_down in [true, false] {
                let mut idle = asked();
                if is_down {
                    idle.power_down();
                }
                assert!(if stops { idle.stop() } else { idle.halt() });
                assert_eq!(idle.returned(), Returned::Stay);
                assert!(!idle.leave() && !idle.time_over());
                // Power that was on its way comes, and goes again.
                assert!(!idle.woken() && !idle.is_powered());
                idle.system_works();
                // Power comes; to a stopped device it means nothing.
                assert_eq!(idle.woken(), !stops);
                assert!(!stops || idle.start(true));
            }
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_asked_for() {
        let mut idle = Idle::STOPPED;
        assert!(!idle.start(false) && !idle.time_over() && !idle.ask());
        let mut idle = asked();
        idle.power_down();
        // There was no memory for it.
        idle.keep_power();
        idle.give_up();
        assert_eq!(idle.returned(), Returned::GoOn);
        assert!(!idle.again());
    }
}
