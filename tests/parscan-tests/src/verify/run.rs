//! A scenario, once undisturbed, and from each of its points on once with each disturbance.
//!
//! The scenario is played once. At every point the process forks, for each disturbance that the point
//! can have; in the child the disturbance comes, the scenario goes on to its end, and what must hold
//! then is looked at. So a point costs what comes after it.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use ntsim::{Choice, Config, DevNode, DriverId, IoResult, Machine, NodeState, NtStatus, Point};
use parscan_tests::{MS, assert_nothing_left, check, fork};

/// What comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disturbance {
    /// The call fails.
    Fault,
    /// The device is pulled out.
    Unplug,
    /// Every request that the driver has is cancelled.
    Cancel,
    /// The system sleeps and wakes up.
    Sleep,
}

impl Disturbance {
    pub(crate) const ALL: [Self; 4] = [Self::Fault, Self::Unplug, Self::Cancel, Self::Sleep];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Unplug => "unplug",
            Self::Cancel => "cancel",
            Self::Sleep => "sleep",
        }
    }

    /// Whether it can come at such a point.
    const fn is_at(self, point: Point) -> bool {
        matches!(self, Self::Fault) == matches!(point, Point::Call)
    }

    /// What a request may end with.
    fn ends(self) -> &'static [NtStatus] {
        match self {
            Self::Fault => &[NtStatus::INSUFFICIENT_RESOURCES, NtStatus::NO_SUCH_DEVICE],
            Self::Unplug => &[
                NtStatus::DELETE_PENDING,
                NtStatus::DEVICE_REMOVED,
                NtStatus::NO_SUCH_DEVICE,
                NtStatus::DEVICE_NOT_CONNECTED,
                NtStatus::CANCELLED,
            ],
            Self::Cancel => &[NtStatus::CANCELLED],
            Self::Sleep => &[
                NtStatus::CANCELLED,
                NtStatus::DEVICE_NOT_READY,
                NtStatus::POWER_STATE_INVALID,
                NtStatus::TIMEOUT,
                NtStatus::IO_TIMEOUT,
            ],
        }
    }
}

pub(crate) const fn point_name(point: Point) -> &'static str {
    match point {
        Point::Call => "call",
        Point::Port => "port",
        Point::Urb => "urb",
        Point::Irp => "irp",
    }
}

/// One point, to replay it: `unplug:port:17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Only {
    disturbance: Disturbance,
    point: String,
    number: u64,
}

impl Only {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let (name, point, number) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            disturbance: Disturbance::ALL.into_iter().find(|it| it.name() == name)?,
            point: point.to_owned(),
            number: number.parse().ok()?,
        })
    }
}

/// What is disturbed.
#[derive(Clone, Copy)]
struct Target {
    node: DevNode,
    driver: DriverId,
}

/// How far a disturbance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hit {
    None,
    /// It has begun.
    Begun(Disturbance),
    /// It is over, and so are the requests that it met.
    Over(Disturbance),
}

/// One time through a scenario.
pub(crate) struct Run {
    forker: fork::Shared,
    only: Option<Only>,
    quick: bool,
    target: Rc<Cell<Option<Target>>>,
    hit: Rc<Cell<Hit>>,
    /// What the disturbance does has been done.
    done: Rc<Cell<bool>>,
    /// What does not come.
    without: Cell<Option<Disturbance>>,
}

/// Of the points of one kind of a scenario, those that the quick form tries: every call, and some of
/// the others.
fn is_in_quick(point: Point, number: u64) -> bool {
    match point {
        Point::Call => true,
        Point::Irp => number.is_multiple_of(3),
        Point::Urb => number <= 3 || number.is_multiple_of(7),
        Point::Port => number.is_multiple_of(61) || number == 1,
    }
}

impl Run {
    pub(crate) fn new(forker: &fork::Shared, only: Option<&Only>, quick: bool) -> Self {
        Self {
            forker: Rc::clone(forker),
            only: only.cloned(),
            quick,
            target: Rc::default(),
            hit: Rc::new(Cell::new(Hit::None)),
            done: Rc::new(Cell::new(false)),
            without: Cell::new(None),
        }
    }

    /// This does not come; before [`Run::begin`].
    pub(crate) fn without(&self, disturbance: Disturbance) {
        self.without.set(Some(disturbance));
    }

    pub(crate) fn config(&self) -> Config {
        let replay = self.only.is_some();
        Config {
            preempt_per_mille: 0,
            trace_ports: replay,
            trace_calls: replay,
            echo: replay,
            trace_limit: if replay { 200_000 } else { 0 },
            ..Config::default()
        }
    }

    /// From now on the machine's points are counted, and disturbed.
    pub(crate) fn begin(&self, machine: &Machine) {
        let mut numbers: BTreeMap<Point, u64> = BTreeMap::new();
        let (forker, only, quick) = (Rc::clone(&self.forker), self.only.clone(), self.quick);
        let without = self.without.get();
        let (target, hit, done) = (
            Rc::clone(&self.target),
            Rc::clone(&self.hit),
            Rc::clone(&self.done),
        );
        machine.at_points(move |point| {
            if hit.get() != Hit::None {
                return Choice::Go;
            }
            let number = numbers.entry(point).or_default();
            *number += 1;
            let number = *number;
            let comes = |it: &Disturbance| it.is_at(point) && without != Some(*it);
            for disturbance in Disturbance::ALL.into_iter().filter(comes) {
                if disturbance != Disturbance::Fault && target.get().is_none() {
                    continue;
                }
                let here = match &only {
                    Some(only) => {
                        only.disturbance == disturbance
                            && only.point == point_name(point)
                            && only.number == number
                    }
                    None if quick && !is_in_quick(point, number) => {
                        forker.borrow_mut().report.count("left out");
                        false
                    }
                    None => {
                        let name = point_name(point);
                        let text = format!("{}:{name}:{number}", disturbance.name());
                        let mut forker = forker.borrow_mut();
                        forker.report.count(disturbance.name());
                        let is_child = forker.fork(&text);
                        if is_child {
                            ntsim::after_fork();
                        }
                        is_child
                    }
                };
                if here {
                    hit.set(Hit::Begun(disturbance));
                    return act(disturbance, target.get(), &done);
                }
            }
            Choice::Go
        });
    }

    /// The device that is disturbed is plugged in.
    pub(crate) fn set_target(&self, node: DevNode, driver: DriverId) {
        self.target.set(Some(Target { node, driver }));
    }

    pub(crate) fn is_disturbed(&self) -> bool {
        self.hit.get() != Hit::None
    }

    fn is(&self, disturbance: Disturbance) -> bool {
        let hit = self.hit.get();
        hit == Hit::Begun(disturbance) || hit == Hit::Over(disturbance)
    }

    /// Whether a status is what it would be undisturbed, or what the disturbance excuses.
    #[track_caller]
    pub(crate) fn expect(&self, what: &str, status: NtStatus, undisturbed: NtStatus) {
        let excused = match self.hit.get() {
            Hit::Begun(it) => it.ends().contains(&status),
            Hit::Over(Disturbance::Unplug) => Disturbance::Unplug.ends().contains(&status),
            Hit::Over(_) | Hit::None => false,
        };
        assert!(
            status == undisturbed || excused,
            "{what}: {status}, {:?}",
            self.hit.get()
        );
    }

    /// The same of a request, which tells no more than there was room for.
    #[track_caller]
    pub(crate) fn expect_result(&self, what: &str, result: &IoResult, room: usize) {
        self.expect(what, result.status, NtStatus::SUCCESS);
        assert!(
            result.information <= room,
            "{what}: {} of {room}",
            result.information
        );
    }

    /// Whether a step of the PnP manager's went well; only a disturbance excuses that it did not.
    #[track_caller]
    pub(crate) fn succeeded(&self, what: &str, status: NtStatus) -> bool {
        let fine = status.is_success();
        assert!(fine || self.is_disturbed(), "{what}: {status}");
        fine
    }

    /// Lets the disturbance come to its end. Gives whether there was one after which the device is
    /// to work as before.
    pub(crate) fn calm(&self, machine: &Machine) -> bool {
        let Hit::Begun(disturbance) = self.hit.get() else {
            return false;
        };
        for _ in 0..6000 {
            if self.done.get() {
                break;
            }
            check(machine.run_for(10 * MS));
        }
        assert!(
            self.done.get(),
            "{disturbance:?} does not end: {}",
            machine.waits()
        );
        check(machine.settle());
        self.hit.set(Hit::Over(disturbance));
        disturbance != Disturbance::Unplug
    }

    /// The end: the device goes, if it has not yet, its driver is unloaded, and nothing is left.
    pub(crate) fn end(&self, machine: &Machine, was_added: bool) {
        let Some(target) = self.target.get() else {
            return;
        };
        if was_added && !self.is(Disturbance::Unplug) {
            let status = check(machine.remove(target.node));
            assert_eq!(status, NtStatus::SUCCESS, "IRP_MN_REMOVE_DEVICE");
        }
        self.calm(machine);
        check(machine.run_until_idle());
        if self.is(Disturbance::Unplug) {
            let state = machine.node_state(target.node);
            let gone = [NodeState::Removed, NodeState::Found].contains(&state);
            assert!(gone, "pulled out, and {state:?}");
        }
        check(machine.unload(target.driver));
        assert_nothing_left(machine);
    }
}

fn act(disturbance: Disturbance, target: Option<Target>, done: &Rc<Cell<bool>>) -> Choice {
    let Some(target) = target.filter(|_| disturbance != Disturbance::Fault) else {
        done.set(true);
        return Choice::Fail;
    };
    let done = Rc::clone(done);
    Choice::Act(Box::new(move |machine| {
        match disturbance {
            Disturbance::Unplug => {
                check(machine.unplug(target.node));
            }
            Disturbance::Cancel => {
                check(machine.cancel_all(target.driver));
            }
            Disturbance::Sleep => {
                if check(machine.sleep()).is_success() {
                    check(machine.wake());
                    check(machine.settle());
                }
            }
            Disturbance::Fault => {}
        }
        done.set(true);
    }))
}
