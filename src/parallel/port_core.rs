//! How a port is shared: one owner at a time, chip modes, the IEEE 1284.3 chain.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};

use super::{Hardware, PortNumber, edges::EdgeWatch, lines::LinesState};
use crate::{
    DeviceRole,
    ieee1284::{Before, Capabilities, Ecr, daisy},
    ioctl::{
        Status,
        parallel::{
            ChipMode, InterruptInformation, InterruptServiceRoutine, MoreParallelPortInformation,
            ParallelPnpInformation, ParallelPortInformation, PortRequest, SelectCommand,
        },
    },
    kernel::{
        Accepts, AcquireTimeout, Device, Disposition, FileId, Interrupt, InterruptOwner, Irp, Key,
        Owner, Passive, PhysicalDevice, PortArbiter, PortCallbacks, PowerSupply, Rundown,
        RundownGuard, Shared, SpinLock, Waiter, Waits, Wide, event, port_routines,
    },
    trace::Event,
};

/// `REG_DWORD` in the hardware key of a port: how long a request of a device object waits for the
/// port, in milliseconds.
const PORT_TIMEOUT: &str = "ParscanPortTimeout";
/// The time without it.
const DEFAULT_TIMEOUT_MS: u32 = 5000;
/// `REG_DWORD` in the hardware key of a port: not 0 lets kernel clients connect to its interrupt.
const CONNECT_INTERRUPT: &str = "EnableConnectInterruptIoctl";

/// `REG_DWORD` in the hardware key of a port: 0 leaves the lines alone until a program uses the port,
/// so that Windows does not learn what is on it.
const PROBE: &str = "ParscanProbe";

/// No device of the chain is selected.
const NONE: u8 = u8::MAX;

/// It was not found out.
const UNKNOWN: u8 = u8::MAX;

/// What everybody shares who uses a port: its device objects, their requests, and the kernel
/// clients that have the port object open, for as long as one of them is there.
pub(crate) struct PortCore {
    number: PortNumber,
    pdo: PhysicalDevice,
    hardware: Rundown<Hardware>,
    /// What was found at the last start, which a sleep does not change. Nothing while the port is
    /// stopped.
    found: SpinLock<Option<Hardware>>,
    power: Shared<PowerSupply>,
    /// The port should have power, and was refused it.
    lost: Waiter,
    arbiter: PortArbiter,
    /// For waits of the driver itself: they end when the port vanishes.
    waiter: Waiter,
    /// The port is the system's, now or next, for its power went.
    sleeps: AtomicBool,
    /// How often the port was put at rest after its power came back.
    wakes: AtomicU32,
    /// A look at the devices on the port did not find out who is there.
    unknown: AtomicBool,
    /// How long a request waits for the port, in milliseconds.
    acquire_timeout: AtomicU32,
    /// Registers answer behind the resources.
    present: AtomicBool,
    /// Peripherals may be asked who they are.
    probes: AtomicBool,
    /// The chain was looked for.
    surveyed: AtomicBool,
    /// Whether the data lines can be read, as far as it was found out: [`UNKNOWN`], 0 or 1.
    byte: AtomicU8,
    /// The device object that has left EPP connected, while it does not have the port; 0: none.
    held: AtomicUsize,
    /// The lines before the power went.
    lines: SpinLock<Option<Before>>,
    /// Lines that programs set.
    raw: LinesState,
    /// Edges that a program watches.
    edges: EdgeWatch,
    /// The ECR value that a client has set; 0: none.
    chip_mode: AtomicU8,
    /// For whoever writes it to the chip.
    chip: SpinLock<()>,
    /// Devices in the IEEE 1284.3 chain.
    chain: AtomicU8,
    /// The one that is selected.
    selected: AtomicU8,
    /// Opens of the port object.
    opens: AtomicU32,
    /// Connections of class drivers (`IOCTL_INTERNAL_PARCLASS_CONNECT`).
    connections: AtomicU32,
    interrupt: Interrupt,
    interrupt_allowed: AtomicBool,
    /// The symbolic link's name, whose address clients are told, and a NUL.
    link: Wide<32>,
}

impl PortCore {
    /// # Errors
    /// `STATUS_INSUFFICIENT_RESOURCES`
    pub(super) fn try_new(
        device: Device<'_, DeviceRole>,
        pdo: PhysicalDevice,
        number: PortNumber,
        power: Shared<PowerSupply>,
        passive: Passive,
    ) -> Result<Self, Status> {
        Ok(Self {
            number,
            pdo,
            hardware: Rundown::try_closed(passive)?,
            found: SpinLock::new(None),
            power,
            lost: Waiter::try_new()?,
            arbiter: PortArbiter::try_new(device)?,
            waiter: Waiter::try_new()?,
            sleeps: AtomicBool::new(false),
            wakes: AtomicU32::new(0),
            unknown: AtomicBool::new(false),
            acquire_timeout: AtomicU32::new(DEFAULT_TIMEOUT_MS),
            present: AtomicBool::new(true),
            probes: AtomicBool::new(true),
            surveyed: AtomicBool::new(false),
            byte: AtomicU8::new(UNKNOWN),
            held: AtomicUsize::new(0),
            lines: SpinLock::new(None),
            raw: LinesState::new(),
            edges: EdgeWatch::new(),
            chip_mode: AtomicU8::new(0),
            chip: SpinLock::new(()),
            chain: AtomicU8::new(0),
            selected: AtomicU8::new(NONE),
            opens: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            interrupt: Interrupt::try_new(passive)?,
            interrupt_allowed: AtomicBool::new(false),
            link: number.link_name().push("\0"),
        })
    }

    pub(super) const fn number(&self) -> PortNumber {
        self.number
    }

    /// The physical device object below the port object.
    pub(super) const fn pdo(&self) -> PhysicalDevice {
        self.pdo
    }

    /// The lines that programs set.
    pub(super) const fn raw(&self) -> &LinesState {
        &self.raw
    }

    /// The watch on edges.
    pub(super) const fn edges(&self) -> &EdgeWatch {
        &self.edges
    }

    /// The interrupt line.
    pub(super) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// The data lines may be turned round from now on, until the port is freed: on a chip with an
    /// ECR its mode allows it. No line moves.
    pub(super) fn set_direction_mode(&self, hardware: &Hardware) {
        if hardware.capabilities().ecr {
            self.chip_mode.store(Ecr::PS2.bits(), Ordering::SeqCst);
            self.show_chip_mode();
        }
    }

    /// The devices of the chain.
    pub(super) fn chain(&self) -> u8 {
        self.chain.load(Ordering::Acquire)
    }

    /// The waits of something that the driver does for itself.
    pub(super) fn waits<'a>(&'a self, passive: Passive<'a>) -> Waits<'a> {
        Waits::new(&self.waiter, passive.blocking())
    }

    // Plug and Play.

    /// The hardware is there.
    pub(super) fn start(&self, hardware: Hardware, passive: Passive) {
        let key = Key::of_device(self.pdo, false, passive).ok();
        let value = |name| key.as_ref().and_then(|key| key.dword(&Wide::new(name)));
        let acquire_timeout = value(PORT_TIMEOUT).unwrap_or(DEFAULT_TIMEOUT_MS);
        self.acquire_timeout
            .store(acquire_timeout, Ordering::Relaxed);
        let allowed = value(CONNECT_INTERRUPT).is_some_and(|value| value != 0);
        self.interrupt_allowed.store(allowed, Ordering::Relaxed);
        self.edges
            .set_allowed(key.as_ref().is_some_and(EdgeWatch::is_wanted));
        self.probes
            .store(value(PROBE) != Some(0), Ordering::Relaxed);
        let present = hardware.capabilities().spp;
        self.present.store(present, Ordering::Relaxed);
        self.surveyed.store(false, Ordering::Relaxed);
        self.byte.store(UNKNOWN, Ordering::Relaxed);
        self.held.store(0, Ordering::Relaxed);
        self.hardware.open(hardware, passive);
        self.found.with(move |found| *found = Some(hardware));
        self.watch_again(&hardware, passive);
        // Its lines are at rest.
        self.wakes.fetch_add(1, Ordering::AcqRel);
        self.resume_requests();
        if self.sleeps.swap(false, Ordering::AcqRel) {
            self.arbiter.end_reservation();
        }
        self.give_back();
    }

    /// Whether kernel clients may connect to the port's interrupt, or programs wait for its edges,
    /// as the hardware key says now.
    pub(super) fn uses_interrupt(&self, passive: Passive) -> bool {
        Key::of_device(self.pdo, false, passive).is_ok_and(|key| {
            let clients = key.dword(&Wide::new(CONNECT_INTERRUPT));
            clients.is_some_and(|value| value != 0) || EdgeWatch::is_wanted(&key)
        })
    }

    /// Whether the port may be stopped now. It may not while a kernel client knows where its
    /// registers are, or somebody uses it.
    ///
    /// # Errors
    /// `STATUS_UNSUCCESSFUL`
    pub(super) fn query_stop(&self) -> Result<(), Status> {
        let known = self.opens.load(Ordering::Acquire) != 0
            || self.connections.load(Ordering::Acquire) != 0;
        if known || !self.arbiter.try_acquire(Owner::System) {
            return Err(Status::UNSUCCESSFUL);
        }
        self.settle(0);
        Ok(())
    }

    /// The end of what [`PortCore::query_stop`] began.
    pub(super) fn give_back(&self) {
        self.free_if(&|owner| owner == Owner::System);
    }

    /// The hardware goes away, and comes back with the next start.
    pub(super) fn stop(&self, passive: Passive) {
        self.found.with(|found| *found = None);
        // In this order: who connects a routine is inside the gate, so none is connected afterwards.
        self.hardware.close(passive);
        self.forget_edges();
        self.interrupt.end(passive);
    }

    /// The power of the hardware goes. Operations end with `STATUS_POWER_STATE_INVALID`. Who has
    /// the port keeps it; nobody else gets it, and nobody who waits runs out of time once it is free.
    pub(super) fn sleep(&self, passive: Passive) {
        if !self.sleeps.swap(true, Ordering::SeqCst) {
            self.arbiter.reserve();
        }
        self.hardware.suspend(
            |hardware| {
                if self.held.swap(0, Ordering::AcqRel) != 0 {
                    hardware.end_epp();
                }
                self.disable_edges(hardware);
                let lines = hardware.lines();
                // What an owner has connected ends with the power.
                let owned = self.arbiter.is_owned_by(&|owner| owner != Owner::System);
                let lines = if owned { lines.at_rest() } else { lines };
                self.lines.with(|it| *it = Some(lines));
            },
            passive,
        );
    }

    /// The hardware has power again: what its owner and the chain need is set up as it was.
    pub(super) fn wake(&self, passive: Passive) {
        let before = self.chain();
        let mut chip_mode = 0;
        self.hardware.resume(
            |hardware| {
                let lines = self.lines.with(Option::take);
                if self.raw.is_claimed() {
                    // Nothing but what the program asked for; the direction needs its mode.
                    chip_mode = self.chip_mode.load(Ordering::SeqCst);
                    if chip_mode != 0 {
                        hardware.set_ecr(chip_mode);
                    }
                    self.raw.wake(hardware);
                    self.enable_edges(hardware);
                    self.wakes.fetch_add(1, Ordering::AcqRel);
                    return;
                }
                self.raw.wake(hardware);
                if let Some(lines) = lines {
                    hardware.restore(lines);
                }
                let selected = self.selected.load(Ordering::Acquire);
                if before != 0 {
                    self.assign_addresses(hardware);
                }
                if selected < self.chain() && daisy::select(&mut hardware.non_blocking(), selected)
                {
                    self.selected.store(selected, Ordering::Release);
                }
                chip_mode = self.chip_mode.load(Ordering::SeqCst);
                if chip_mode != 0 {
                    hardware.set_ecr(chip_mode);
                }
                self.wakes.fetch_add(1, Ordering::AcqRel);
            },
            passive,
        );
        // Who changed it meanwhile did not reach the chip.
        fence(Ordering::SeqCst);
        if self.chip_mode.load(Ordering::SeqCst) != chip_mode {
            self.show_chip_mode();
        }
        self.resume_requests();
        if self.sleeps.swap(false, Ordering::SeqCst) && self.arbiter.end_reservation() {
            self.give_back();
        }
        if self.unknown.swap(false, Ordering::SeqCst) || self.chain() != before {
            self.pdo.children_changed();
        }
    }

    /// Power is asked for: whoever needs the port waits for it. At <= `DISPATCH_LEVEL`.
    pub(super) fn resume_requests(&self) {
        self.lost.resume();
        self.arbiter.open_again(Status::DEVICE_NOT_READY);
    }

    /// The port, which sleeps, gets no power: whoever needs it is told. At <= `DISPATCH_LEVEL`.
    pub(super) fn lost(&self) {
        self.lost.stop(Status::DEVICE_NOT_READY);
        self.arbiter.close_for_now(Status::DEVICE_NOT_READY);
    }

    /// Whether it is worth while to wait for hardware that is not there: it will be, or the wait
    /// ends otherwise. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the port was refused its power.
    pub(super) fn check_power(&self) -> Result<(), Status> {
        self.power.request();
        self.lost.check()
    }

    /// How often the port was put at rest after its power came back: then no mode is connected.
    pub(super) fn wakes(&self) -> u32 {
        self.wakes.load(Ordering::Acquire)
    }

    /// Whether the port sleeps, or will in a moment.
    pub(super) fn is_asleep(&self) -> bool {
        self.sleeps.load(Ordering::SeqCst)
    }

    /// A look at the devices on the port did not find out who is there, for the hardware was not:
    /// it is done again when it is, or now, if it has come back meanwhile.
    pub(super) fn look_again(&self) {
        self.unknown.store(true, Ordering::SeqCst);
        if !self.is_asleep() && self.unknown.swap(false, Ordering::SeqCst) {
            self.pdo.children_changed();
        }
    }

    /// The hardware has gone for good.
    pub(super) fn disconnect_hardware(&self, passive: Passive) {
        self.waiter.stop(Status::DEVICE_REMOVED);
        self.arbiter.close(Status::DELETE_PENDING);
        self.found.with(|found| *found = None);
        // As in `stop`.
        self.hardware.evict(passive);
        self.forget_edges();
        self.interrupt.end(passive);
    }

    /// What was found at the start, also while the port sleeps. At <= `DISPATCH_LEVEL`.
    ///
    /// # Errors
    /// `STATUS_DEVICE_NOT_READY`: the port is stopped. `STATUS_DEVICE_REMOVED`: it is gone.
    pub(super) fn found(&self) -> Result<Hardware, Status> {
        self.found
            .with(|found| *found)
            .ok_or_else(|| self.absence())
    }

    /// What a request is told that needs hardware which is not there.
    fn absence(&self) -> Status {
        if self.waiter.check().is_err() {
            Status::DEVICE_REMOVED
        } else {
            Status::DEVICE_NOT_READY
        }
    }

    /// Enters the hardware, if it is there.
    pub(super) fn enter(&self) -> Option<RundownGuard<'_, Hardware>> {
        self.hardware.enter()
    }

    /// Enters the hardware as soon as it is there: a port is stopped for a moment when Windows gives
    /// it other resources.
    ///
    /// # Errors
    /// As [`Waits::check`].
    pub(super) fn enter_when_there(
        &self,
        waits: &Waits<'_>,
    ) -> Result<RundownGuard<'_, Hardware>, Status> {
        if let Some(inside) = self.hardware.enter() {
            return Ok(inside);
        }
        self.check_power()?;
        waits.enter(&self.hardware, &self.lost)
    }

    // Who has the port.

    /// Whether nobody has the port.
    pub(super) fn is_free(&self) -> bool {
        self.arbiter.is_free()
    }

    /// Waits for the port.
    ///
    /// # Errors
    /// `STATUS_DEVICE_BUSY`: somebody else kept it for too long. `STATUS_DELETE_PENDING`: it has
    /// vanished. `STATUS_DEVICE_NOT_READY`: it was refused its power. As [`Waits::check`].
    pub(super) fn take(&self, owner: Owner, waits: &Waits<'_>) -> Result<(), Status> {
        self.power.request();
        let acquire_timeout = AcquireTimeout::Awake(self.acquire_timeout.load(Ordering::Relaxed));
        let entered = self.arbiter.acquire(owner, waits, acquire_timeout);
        if let (Err(Status::DEVICE_BUSY), AcquireTimeout::Awake(waited)) =
            (entered, acquire_timeout)
        {
            event(self.number.label(), &Event::PortBusy { waited });
        }
        entered?;
        self.taken(false);
        self.settle(owner_address(owner));
        Ok(())
    }

    /// Takes the port for the driver itself, unless somebody, or the system, has it for longer than
    /// `milliseconds`. Its end is [`PortCore::free_if`].
    ///
    /// # Errors
    /// As [`PortCore::take`].
    pub(super) fn take_within(
        &self,
        owner: Owner,
        waits: &Waits<'_>,
        milliseconds: u32,
    ) -> Result<(), Status> {
        self.arbiter
            .acquire(owner, waits, AcquireTimeout::InAll(milliseconds))?;
        self.settle(owner_address(owner));
        Ok(())
    }

    /// Takes the port if it is free.
    pub(super) fn try_take(&self, owner: Owner) -> bool {
        let taken = self.arbiter.try_acquire(owner);
        if taken {
            self.settle(owner_address(owner));
        }
        taken
    }

    /// Leaves EPP connected until another owner has the port. The port is the caller's, who is about
    /// to free it.
    pub(super) fn hold_epp(&self, device: usize) {
        self.held.store(device, Ordering::Release);
    }

    /// Whether EPP is connected on behalf of this device, which has the port again.
    pub(super) fn take_held_epp(&self, device: usize) -> bool {
        self.held
            .compare_exchange(device, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends EPP that is connected on behalf of this device. The port is the caller's.
    pub(super) fn end_held_epp(&self, device: usize) {
        if self.take_held_epp(device)
            && let Some(inside) = self.hardware.enter()
        {
            inside.value().end_epp();
        }
    }

    /// Whether EPP is connected, and its device does not have the port at this moment.
    pub(super) fn holds_epp(&self) -> bool {
        self.held.load(Ordering::Acquire) != 0
    }

    /// The port has a new owner: EPP ends, unless it is connected on behalf of that one, and edges do
    /// not count, unless that one watches them. At <= `DISPATCH_LEVEL`.
    fn settle(&self, device: usize) {
        self.disable_edges_of_others(device);
        let held = self.held.load(Ordering::Acquire);
        if held == 0 || held == device {
            return;
        }
        self.held.store(0, Ordering::Release);
        if let Some(inside) = self.hardware.enter() {
            inside.value().end_epp();
        }
    }

    /// Frees the port, if its owner is one that `is` accepts: with the chip in compatibility mode
    /// and the end of the chain selected, it goes to whoever waits longest. Whether it was so. At <=
    /// `DISPATCH_LEVEL`.
    pub(super) fn free_if(&self, is: Accepts<'_>) -> bool {
        if !self.arbiter.is_owned_by(is) {
            return false;
        }
        self.restore();
        let freed = self.arbiter.release(is, &|irp| self.grant(irp));
        if freed && self.arbiter.is_free() {
            self.interrupt.call_deferred();
        }
        freed
    }

    /// Undoes what an owner did to the chip and the chain.
    fn restore(&self) {
        let mode = self.chip_mode.swap(0, Ordering::SeqCst);
        let selected = self.selected.swap(NONE, Ordering::AcqRel);
        if (mode, selected) != (0, NONE) {
            self.restore_chip(mode, selected);
        }
        self.enable_edges_if_there();
    }

    fn restore_chip(&self, mode: u8, selected: u8) {
        // In SPP mode data lines would be driven that a program has left turned round.
        if mode != 0 && !self.raw.is_reversed() {
            self.show_chip_mode();
        }
        if selected != NONE
            && let Some(inside) = self.hardware.enter()
        {
            daisy::deselect_all(&mut inside.value().non_blocking());
        }
    }

    /// Puts the chip into the mode that its owner has chosen. If the port sleeps, that is done when
    /// its power is back.
    fn show_chip_mode(&self) {
        fence(Ordering::SeqCst);
        // One at a time, so that the last one writes what is chosen last.
        self.chip.with(|()| {
            if let Some(inside) = self.hardware.enter() {
                let mode = self.chip_mode.load(Ordering::SeqCst);
                let ecr = if mode == 0 { Ecr::SPP.bits() } else { mode };
                inside.value().set_ecr(ecr);
            }
        });
    }

    fn taken(&self, by_client: bool) {
        event(self.number.label(), &Event::PortTaken { by_client });
    }

    /// A request that waited for the port has it. What it asked for besides is done now.
    fn grant(&self, irp: Irp) -> Disposition {
        self.taken(true);
        self.settle(0);
        let request = PortRequest::parse(irp.code(), irp.input(), irp.output_length());
        let status = match request {
            Ok(PortRequest::Select(command)) => self
                .device_of(command)
                .map_or_else(|why| why, |device| self.select(device)),
            _ => Status::SUCCESS,
        };
        if !status.is_success() {
            let owner = Owner::Open(irp.file());
            self.free_if(&|other| other == owner);
        }
        irp.complete(status)
    }

    // The chain.

    /// Whether registers answer behind the resources of the last start.
    pub(super) fn is_present(&self) -> bool {
        self.present.load(Ordering::Relaxed)
    }

    /// Whether peripherals may be asked who they are.
    pub(super) fn probes(&self) -> bool {
        self.probes.load(Ordering::Relaxed) && self.is_present()
    }

    /// Looks for the devices of the chain, once after a start. The port is the caller's, and a
    /// peripheral at rest is on it.
    pub(super) fn survey(&self, hardware: &Hardware) {
        if !self.surveyed.swap(true, Ordering::AcqRel) {
            self.assign_addresses(hardware);
        }
    }

    /// Looks for the devices of the chain; the data lines are as they were afterwards. The port is
    /// the caller's.
    fn assign_addresses(&self, hardware: &Hardware) {
        self.selected.store(NONE, Ordering::Release);
        let devices = if hardware.capabilities().spp {
            let mut port = hardware.non_blocking();
            let before = Before::of(&mut port);
            let devices = daisy::assign(&mut port);
            before.restore(&mut port);
            devices
        } else {
            0
        };
        self.chain.store(devices, Ordering::Release);
    }

    /// What the port's hardware can do, with what was found out since the start.
    pub(super) fn capabilities(&self, hardware: &Hardware) -> Capabilities {
        let capabilities = hardware.capabilities();
        match self.byte.load(Ordering::Relaxed) {
            UNKNOWN => capabilities,
            byte => capabilities.with_byte(byte != 0),
        }
    }

    /// A session may have found more out.
    pub(super) fn learn(&self, capabilities: &Capabilities) {
        if let Some(byte) = capabilities.byte {
            self.byte.store(u8::from(byte), Ordering::Relaxed);
        }
    }

    /// The device that a command names; `None` is the end of the chain.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`
    pub(super) fn device_of(&self, command: SelectCommand) -> Result<Option<u8>, Status> {
        command.device(self.chain())
    }

    /// Selects a device of the chain, or the one at its end. The port is the caller's.
    /// `STATUS_UNSUCCESSFUL`: the device did not answer.
    pub(super) fn select(&self, device: Option<u8>) -> Status {
        let inside = self.hardware.enter();
        let hardware = inside.as_ref().map(RundownGuard::value);
        self.select_on(hardware.as_ref(), device)
    }

    /// As [`PortCore::select`], on the hardware that was entered, if it is there.
    pub(super) fn select_on(&self, hardware: Option<&Hardware>, device: Option<u8>) -> Status {
        let wanted = device.unwrap_or(NONE);
        let before = self.selected.swap(NONE, Ordering::AcqRel);
        if before == wanted {
            self.selected.store(wanted, Ordering::Release);
            return Status::SUCCESS;
        }
        let Some(hardware) = hardware else {
            return match (self.absence(), device) {
                // A chain that wakes up has no device selected but the one that it is told to.
                (Status::DEVICE_NOT_READY, None) => Status::SUCCESS,
                (absence, _) => {
                    self.selected.store(before, Ordering::Release);
                    absence
                }
            };
        };
        let mut port = hardware.non_blocking();
        let Some(device) = device else {
            daisy::deselect_all(&mut port);
            return Status::SUCCESS;
        };
        // Deselects the others first.
        if !daisy::select(&mut port, device) {
            return Status::UNSUCCESSFUL;
        }
        self.selected.store(device, Ordering::Release);
        Status::SUCCESS
    }

    // Class drivers.

    /// A class driver was told where the registers are.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    /// It does not use them any more.
    pub(super) fn disconnected(&self, connections: u32) {
        self.connections.fetch_sub(connections, Ordering::AcqRel);
    }

    // Kernel clients of the port object.

    /// `IRP_MJ_CREATE`
    pub(super) fn opened(&self) {
        self.opens.fetch_add(1, Ordering::AcqRel);
    }

    /// `IRP_MJ_CLEANUP`: ends what the open waits for, and frees the port if it has it.
    pub(super) fn clean_up(&self, file: FileId) {
        self.arbiter.clean_up(file);
        self.free_if(&|owner| owner == Owner::Open(file));
    }

    /// `IRP_MJ_CLOSE`. A client that has the port, or the interrupt, and did not say through which
    /// open is gone with the last one.
    pub(super) fn closed(&self, file: FileId, passive: Passive) {
        self.clean_up(file);
        self.interrupt.clean_up(file, passive);
        if self.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.interrupt.clear(passive);
            self.free();
        }
    }

    /// Whether the port is a kernel client's; that of `file`, if both are known.
    fn is_client_of(file: FileId) -> impl Fn(Owner) -> bool + Sync {
        move |owner| match owner {
            Owner::Open(other) => file == other || file.is_none() || other.is_none(),
            Owner::Caller => true,
            _ => false,
        }
    }

    fn has_client(&self, file: FileId) -> bool {
        self.arbiter.is_owned_by(&Self::is_client_of(file))
    }

    /// An internal request, at <= `DISPATCH_LEVEL`.
    pub(super) fn request(&self, irp: Irp, code: u32, passive: Option<Passive<'_>>) -> Disposition {
        let request = match PortRequest::parse(code, irp.input(), irp.output_length()) {
            Ok(request) => request,
            Err(status) => return irp.complete(status),
        };
        self.power.request();
        let file = irp.file();
        let status = match request {
            PortRequest::Allocate => {
                return self.arbiter.acquire_for_irp(irp, &|irp| self.grant(irp));
            }
            PortRequest::Free => {
                if self.free_if(&Self::is_client_of(file)) {
                    Status::SUCCESS
                } else {
                    Status::INVALID_DEVICE_STATE
                }
            }
            PortRequest::ReleasePortInformation => Status::SUCCESS,
            PortRequest::GetPortInformation => match self.port_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            PortRequest::GetMorePortInformation => match self.more_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            PortRequest::GetPnpInformation => match self.pnp_information() {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            PortRequest::SetChipMode(mode) => {
                self.change_chip_mode(mode, file, Self::set_chip_mode)
            }
            PortRequest::ClearChipMode(mode) => {
                self.change_chip_mode(mode, file, Self::clear_chip_mode)
            }
            PortRequest::InitializeChain => self.initialize_chain(file),
            PortRequest::Select(command) => match self.device_of(command) {
                Ok(device) if command.keeps_port() => {
                    if self.has_client(file) {
                        self.select(device)
                    } else {
                        Status::INVALID_DEVICE_STATE
                    }
                }
                Ok(_) => return self.arbiter.acquire_for_irp(irp, &|irp| self.grant(irp)),
                Err(status) => status,
            },
            PortRequest::Deselect(command) => self.deselect_of(command, file),
            PortRequest::ConnectInterrupt(routine) => match self.connect(routine, file, passive) {
                Ok(information) => return irp.answer(&information.to_bytes()),
                Err(status) => status,
            },
            PortRequest::DisconnectInterrupt(routine) => match passive {
                Some(passive) => self
                    .interrupt
                    .remove(routine, passive)
                    .map_or_else(|why| why, |()| Status::SUCCESS),
                None => Status::INVALID_DEVICE_STATE,
            },
        };
        irp.complete(status)
    }

    fn port_information(&self) -> Result<ParallelPortInformation, Status> {
        let hardware = self.found()?;
        let (controller, span) = hardware.addresses().registers;
        Ok(ParallelPortInformation {
            original_controller: hardware.original_addresses().registers.0,
            controller,
            span_of_controller: span,
            routines: port_routines(self),
        })
    }

    fn more_information(&self) -> Result<MoreParallelPortInformation, Status> {
        let hardware = self.found()?;
        let bus = hardware.bus();
        let mut information = MoreParallelPortInformation {
            interface_type: bus.interface_type,
            bus_number: bus.number,
            ..MoreParallelPortInformation::default()
        };
        if let Some(interrupt) = hardware.interrupt() {
            information.interrupt_level = interrupt.level;
            information.interrupt_vector = interrupt.vector;
            information.interrupt_affinity = interrupt.affinity;
            information.interrupt_mode = u32::from(interrupt.latched);
        }
        Ok(information)
    }

    fn pnp_information(&self) -> Result<ParallelPnpInformation, Status> {
        let hardware = self.found()?;
        let capabilities = hardware.capabilities();
        let (ecp_controller, span) = hardware.addresses().ecp;
        let fifo = capabilities.fifo;
        Ok(ParallelPnpInformation {
            original_ecp_controller: hardware.original_addresses().ecp.0,
            ecp_controller,
            span_of_ecp_controller: span,
            hardware_capabilities: self.ppt(&hardware),
            fifo_depth: fifo.map_or(0, |fifo| u32::from(fifo.depth)),
            fifo_width: fifo.map_or(0, |fifo| u32::from(fifo.width)),
            chain_devices: u32::from(self.chain()),
            current_mode: u32::from(self.chip_mode.load(Ordering::Acquire)),
            port_name: self.link.address(),
            routines: port_routines(self),
        })
    }

    /// The `PPT_*` bits of the port with its chain.
    pub(super) fn ppt(&self, hardware: &Hardware) -> u32 {
        /// `PPT_1284_3_PRESENT`
        const CHAIN_PRESENT: u32 = 0x10;
        let chain = if self.chain() == 0 { 0 } else { CHAIN_PRESENT };
        self.capabilities(hardware).ppt() | chain
    }

    fn change_chip_mode(
        &self,
        mode: u8,
        file: FileId,
        change: impl FnOnce(&Self, u8) -> Status,
    ) -> Status {
        if self.has_client(file) {
            change(self, mode)
        } else {
            Status::INVALID_DEVICE_STATE
        }
    }

    /// `IOCTL_INTERNAL_INIT_1284_3_BUS`, which asks for no port: it takes a free one.
    fn initialize_chain(&self, file: FileId) -> Status {
        let owned = self.has_client(file);
        if !owned && !self.try_take(Owner::Caller) {
            return Status::DEVICE_BUSY;
        }
        let before = self.chain();
        let status = match self.hardware.enter() {
            Some(inside) => {
                self.assign_addresses(&inside.value());
                Status::SUCCESS
            }
            None => Status::DEVICE_NOT_READY,
        };
        if !owned {
            self.free_if(&|owner| owner == Owner::Caller);
        }
        if self.chain() != before {
            self.pdo.children_changed();
        }
        status
    }

    fn deselect_of(&self, command: SelectCommand, file: FileId) -> Status {
        if let Err(status) = self.device_of(command) {
            return status;
        }
        if !self.has_client(file) {
            return Status::INVALID_DEVICE_STATE;
        }
        let status = self.select(None);
        if !command.keeps_port() {
            self.free_if(&Self::is_client_of(file));
        }
        status
    }

    /// `IOCTL_INTERNAL_PARALLEL_CONNECT_INTERRUPT`
    fn connect(
        &self,
        routine: InterruptServiceRoutine,
        file: FileId,
        passive: Option<Passive<'_>>,
    ) -> Result<InterruptInformation, Status> {
        if !self.interrupt_allowed.load(Ordering::Relaxed) {
            return Err(Status::UNSUCCESSFUL);
        }
        let passive = passive.ok_or(Status::INVALID_DEVICE_STATE)?;
        let inside = self.hardware.enter().ok_or(Status::DEVICE_NOT_READY)?;
        let resource = inside.value().interrupt().ok_or(Status::UNSUCCESSFUL)?;
        let object = self
            .interrupt
            .add(self, self.pdo, resource, file, routine, passive)?;
        Ok(InterruptInformation {
            interrupt_object: object,
            routines: port_routines(self),
        })
    }
}

/// The address of a device object that owns the port; 0 for others.
const fn owner_address(owner: Owner) -> usize {
    match owner {
        Owner::Device(address) => address,
        _ => 0,
    }
}

/// The client that calls is not known: it is one that has the port without an open, or any.
const ANY: FileId = FileId::NONE;

impl PortCallbacks for PortCore {
    fn try_allocate(&self) -> bool {
        self.try_take(Owner::Caller)
    }

    fn free(&self) {
        if !self.free_if(&Self::is_client_of(ANY)) {
            // What an interrupt service routine took, its DPC may free.
            self.later();
        }
    }

    fn waiters(&self) -> u32 {
        self.arbiter.waiting_requests()
    }

    fn set_chip_mode(&self, mode: u8) -> Status {
        let hardware = match self.check_power().and_then(|()| self.found()) {
            Ok(hardware) => hardware,
            Err(status) => return status,
        };
        let capabilities = hardware.capabilities();
        let possible = match ChipMode::of(mode) {
            Some(ChipMode::Byte) => capabilities.byte == Some(true),
            Some(ChipMode::FastCentronics | ChipMode::Ecp) => capabilities.fifo.is_some(),
            Some(ChipMode::Epp) => capabilities.epp,
            None => false,
        };
        if !possible || !capabilities.ecr {
            return Status::NO_SUCH_DEVICE;
        }
        if !self.has_client(ANY) {
            return Status::INVALID_DEVICE_STATE;
        }
        let ecr = mode & CHIP_MODE | Ecr::SPP.bits();
        let free = self
            .chip_mode
            .compare_exchange(0, ecr, Ordering::SeqCst, Ordering::Acquire)
            .is_ok();
        if !free {
            return Status::INVALID_DEVICE_STATE;
        }
        // The lines are the client's from now on.
        let _ = self.raw.used();
        self.show_chip_mode();
        Status::SUCCESS
    }

    fn clear_chip_mode(&self, mode: u8) -> Status {
        if let Err(status) = self.check_power().and_then(|()| self.found()) {
            return status;
        }
        let current = self.chip_mode.load(Ordering::Acquire);
        if current == 0 || current & CHIP_MODE != mode & CHIP_MODE || !self.has_client(ANY) {
            return Status::INVALID_DEVICE_STATE;
        }
        self.chip_mode.store(0, Ordering::SeqCst);
        self.show_chip_mode();
        Status::SUCCESS
    }

    fn try_select(&self, command: SelectCommand) -> Status {
        let device = match self.device_of(command) {
            Ok(device) => device,
            Err(status) => return status,
        };
        let held = if command.keeps_port() {
            self.has_client(ANY)
        } else {
            self.try_take(Owner::Caller)
        };
        match (held, command.keeps_port()) {
            (true, _) => self.select(device),
            // Nothing is queued: so the page says that the port is taken.
            (false, false) => Status::PENDING,
            (false, true) => Status::INVALID_DEVICE_STATE,
        }
    }

    fn deselect(&self, command: SelectCommand) -> Status {
        self.deselect_of(command, ANY)
    }

    fn try_allocate_at_interrupt(&self) -> bool {
        // The end of EPP takes too long for an interrupt, and that of edges a lock.
        !self.holds_epp()
            && self.edges.control_bit() == 0
            && self.arbiter.try_acquire_at_interrupt()
    }

    fn free_from_interrupt(&self) {
        self.interrupt.request_later();
    }
}

/// The upper three bits of the ECR, its mode.
const CHIP_MODE: u8 = 0xE0;

impl InterruptOwner for PortCore {
    fn later(&self) {
        self.interrupt.call_deferred_later();
        if self.arbiter.claim_for_interrupt() {
            self.free_if(&|owner| owner == Owner::InterruptService);
        }
    }

    fn edges_came(&self) {
        self.tell_edges();
    }
}
