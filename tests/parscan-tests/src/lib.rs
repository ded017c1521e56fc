//! A PC with the driver in it, for tests and for the demo.
//!
//! [`Pc`] is a simulated machine with an ACPI printer port, the shipping `parscan.sys` and a
//! printer; [`ntddpar`] has the requests as a program knows them. [`client`] is a second driver in
//! it that uses parscan's ports as a class driver does, and [`parallel_h`] what it knows them by.
//! [`scanner`] and [`usbscan_h`] are a PC with a USB scanner, and its requests.
//! Tests say what they want of the machine with [`Setup`], do what a program or Windows would do,
//! and look at what comes back and at the lines of the port.

use std::{
    cell::RefCell,
    env,
    path::{Path, PathBuf},
    rc::Rc,
};

use ntsim::{
    Bugcheck, Caller, Config, DevNode, DeviceSpec, DriverId, Handle, IoResult, Machine, NtStatus,
    Pending, RegValue, Resource, SharedPort, When,
};
use parscan_models::{PortDevice, Printer, Spp};

pub mod client;
pub mod fork;
mod header;
pub mod modes;
pub mod negotiation;
pub mod ntddpar;
pub mod observed;
pub mod parallel_h;
pub mod port_programs;
pub mod register_write;
pub mod scanner;
pub mod symbols;
pub mod trigger;
pub mod usbscan_h;

use observed::Observed;

/// One millisecond of virtual time.
pub const MS: u64 = 1_000_000;
/// One second of virtual time.
pub const SECOND: u64 = 1000 * MS;
/// One microsecond of virtual time.
pub const US: u64 = 1000;

/// Where the driver's image is: `PARSCAN_SYS`, or where `cargo xtask build` puts it.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn driver_image() -> PathBuf {
    image(
        "PARSCAN_SYS",
        "parscan/parscan.sys",
        "run `cargo xtask build`",
    )
}

/// Where an image is: what a variable says, or where it is built below `target`.
///
/// # Panics
/// If there is none.
fn image(variable: &str, place: &str, hint: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")).join(place),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "no image at {}: {hint}, or name it in {variable}",
        path.display()
    );
    path
}

/// What a machine shall be like.
#[derive(Clone)]
pub struct Setup {
    /// How the simulation behaves.
    pub config: Config,
    /// Values in the hardware key of the port.
    pub hardware_key: Vec<(String, RegValue)>,
    /// Values in the `Parameters` key of the service; the INF sets `Role`.
    pub parameters: Vec<(&'static str, RegValue)>,
    /// What Windows assigns to the port.
    pub resources: Vec<Resource>,
    /// Whether the chip has an ECP block.
    pub ecp: bool,
    /// Setup class of the port's devnode.
    pub class_guid: &'static str,
    /// Bus of the port's devnode.
    pub enumerator: &'static str,
}

/// `GUID_DEVCLASS_PORTS`.
pub const PORTS_CLASS: &str = "{4D36E978-E325-11CE-BFC1-08002BE10318}";

/// The registers of LPT1 on a PC.
pub const LPT1_REGISTERS: Resource = Resource::Port {
    base: 0x378,
    len: 8,
};

impl Default for Setup {
    fn default() -> Self {
        Self::with_config(Config::default())
    }
}

impl Setup {
    /// The usual port on a machine that behaves so.
    #[must_use]
    pub fn with_config(config: Config) -> Self {
        Self {
            config,
            hardware_key: Vec::new(),
            parameters: vec![("Role", RegValue::Dword(1))],
            resources: vec![LPT1_REGISTERS],
            ecp: false,
            class_guid: PORTS_CLASS,
            enumerator: "ACPI",
        }
    }

    /// The same with an interrupt, as LPT1 has it on a PC: edge-triggered, its vector 0x37.
    #[must_use]
    pub fn with_interrupt(mut self) -> Self {
        self.resources.push(Resource::Interrupt {
            level: 7,
            vector: 0x37,
            latched: true,
        });
        self
    }

    /// The devnode of the port.
    #[must_use]
    pub fn device(&self) -> DeviceSpec {
        DeviceSpec {
            enumerator: self.enumerator.into(),
            device_id: "PNP0400".into(),
            instance: "1".into(),
            hardware_ids: vec![r"ACPI\VEN_PNP&DEV_0400".into(), r"ACPI\PNP0400".into()],
            compatible_ids: vec!["*PNP0400".into()],
            class: "Ports".into(),
            class_guid: self.class_guid.into(),
            hardware_key: self.hardware_key.clone(),
            ..DeviceSpec::default()
        }
        .with_resources(&self.resources)
    }

    /// A machine with the driver loaded and the port plugged in, not yet added or started.
    ///
    /// # Panics
    /// If the driver does not load.
    #[must_use]
    pub fn loaded(self) -> Pc {
        let printer = Printer::new();
        let chip = Spp::new(Box::new(printer.clone()));
        let chip = if self.ecp {
            chip.with_ecp_block()
        } else {
            chip
        };
        self.loaded_with(chip, printer)
    }

    /// As [`Setup::loaded`], with another chip and what is attached to it.
    ///
    /// # Panics
    /// If the driver does not load.
    #[must_use]
    pub fn loaded_with<C: PortDevice + 'static, P>(self, chip: C, printer: P) -> Pc<C, P> {
        let chip = Rc::new(RefCell::new(chip));
        self.loaded_on(chip.clone(), printer, chip)
    }

    fn loaded_on<C, P>(self, port: SharedPort, printer: P, chip: Rc<RefCell<C>>) -> Pc<C, P> {
        let machine = Machine::boot(self.config.clone());
        machine.map_ports(0x378, 8, 0, port.clone());
        if self.ecp {
            machine.map_ports(0x778, 3, 1, port);
        }
        let driver = machine
            .load_driver(driver_image(), "ParscanPort", &self.parameters)
            .unwrap_or_else(|error| panic!("{error}"));
        let node = machine.plug(self.device());
        Pc {
            machine,
            printer,
            chip,
            driver,
            node,
        }
    }

    /// A machine with a started port.
    ///
    /// # Panics
    /// If the port does not start.
    #[must_use]
    pub fn started(self) -> Pc {
        self.loaded().start()
    }

    /// As [`Setup::started`], with another chip and what is attached to it.
    ///
    /// # Panics
    /// If the port does not start.
    #[must_use]
    pub fn started_with<C: PortDevice + 'static, P>(self, chip: C, printer: P) -> Pc<C, P> {
        self.loaded_with(chip, printer).start()
    }

    /// A machine with a started port that has `port` in place of the model. The model and its
    /// printer are there, but attached to nothing.
    ///
    /// # Panics
    /// If the port does not start.
    #[must_use]
    pub fn started_on(self, port: SharedPort) -> Pc {
        let printer = Printer::new();
        let chip = Rc::new(RefCell::new(Spp::new(Box::new(printer.clone()))));
        self.loaded_on(port, printer, chip).start()
    }
}

/// A simulated PC.
pub struct Pc<C = Spp, P = Printer> {
    /// The machine.
    pub machine: Machine,
    /// What is attached to the port.
    pub printer: P,
    /// The port's chip.
    pub chip: Rc<RefCell<C>>,
    /// parscan.
    pub driver: DriverId,
    /// The port's devnode.
    pub node: DevNode,
}

/// A result of the machine, which stops the test if the driver broke a rule.
///
/// # Panics
/// If it did.
#[track_caller]
pub fn check<T>(result: Result<T, Bugcheck>) -> T {
    match result {
        Ok(value) => value,
        Err(bugcheck) => panic!("the driver broke a rule: {bugcheck}"),
    }
}

/// There is a symbolic link that ends so, to this device.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn assert_link(machine: &Machine, end: &str, device: &str) {
    let links = machine.links();
    assert!(
        links
            .iter()
            .any(|(name, target)| name.ends_with(end) && target == device),
        "{links:?}"
    );
}

/// After the last driver is unloaded.
///
/// # Panics
/// If a link, a thread, an IRP or an enabled interface is left.
#[track_caller]
pub fn assert_nothing_left(machine: &Machine) {
    assert_eq!(machine.links(), vec![], "links");
    assert_eq!(machine.threads(), 0, "threads");
    assert_eq!(machine.live_irps(), 0, "IRPs");
    let enabled = machine.interfaces().into_iter().filter(|i| i.2).count();
    assert_eq!(enabled, 0, "interfaces");
}

impl Pc {
    /// A PC with a started port LPT1.
    #[must_use]
    pub fn new() -> Self {
        Setup::default().started()
    }
}

impl<C, P> Pc<C, P> {
    /// `AddDevice` and `START_DEVICE`.
    fn start(self) -> Self {
        let added = check(self.machine.add_device(self.node, self.driver));
        assert_eq!(added, NtStatus::SUCCESS, "AddDevice");
        let started = check(self.machine.start(self.node));
        assert_eq!(started, NtStatus::SUCCESS, "START_DEVICE");
        self
    }

    /// Opens `\\.\LPT1` as a program does.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open(&self) -> Handle {
        self.try_open(r"\\.\LPT1")
            .unwrap_or_else(|status| panic!("LPT1: {status:?}"))
    }

    /// Opens a device by name.
    ///
    /// # Errors
    /// The status of the open.
    pub fn try_open(&self, name: &str) -> Result<Handle, NtStatus> {
        check(self.machine.open(name, Caller::User64))
    }

    /// `DeviceIoControl`.
    #[must_use]
    pub fn control(&self, handle: Handle, code: u32, input: &[u8], output: usize) -> IoResult {
        check(self.machine.device_io_control(handle, code, input, output))
    }

    /// Does this just before the k-th access to a port from now on.
    pub fn at_access(&self, k: u64, act: impl FnOnce(&Machine) + 'static) {
        let access = self.machine.port_accesses() + k;
        self.machine.at(When::PortAccess(access), act);
    }

    /// Starts an `IOCTL_PAR_SET_INFORMATION` with `PARALLEL_INIT` and lets it reach the driver.
    #[must_use]
    pub fn start_initialize(&self, handle: Handle) -> Pending {
        let code = ntddpar::IOCTL_PAR_SET_INFORMATION;
        let init = [ntddpar::PARALLEL_INIT];
        let request = self.machine.start_io_control(handle, code, &init, 0);
        check(self.machine.run_for(US));
        request
    }

    /// `IOCTL_PAR_SET_INFORMATION` with `PARALLEL_INIT`.
    #[must_use]
    pub fn initialize(&self, handle: Handle) -> IoResult {
        self.control(
            handle,
            ntddpar::IOCTL_PAR_SET_INFORMATION,
            &[ntddpar::PARALLEL_INIT],
            0,
        )
    }

    /// The end: closes nothing, removes the port, unloads the driver, and sees that nothing is
    /// left, and that nothing was done that the hardware objects to.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn finish(self)
    where
        C: Observed,
        P: Observed,
    {
        self.remove();
        let seen = self.printer.observed(&self.machine);
        assert_eq!(seen, [""; 0], "what the peripheral saw");
        let seen = self.chip.borrow().observed(&self.machine);
        assert_eq!(seen, [""; 0], "what the chip saw");
    }

    /// What a test does with an open of LPT1; then the end of both.
    ///
    /// # Panics
    /// As [`Pc::finish`].
    #[track_caller]
    pub fn with_open(self, test: impl FnOnce(&Self, Handle))
    where
        C: Observed,
        P: Observed,
    {
        let lpt1 = self.open();
        test(&self, lpt1);
        self.close_and_finish(lpt1);
    }

    /// Closes the last handle, and [`Pc::finish`].
    ///
    /// # Panics
    /// As [`Pc::finish`].
    #[track_caller]
    pub fn close_and_finish(self, handle: Handle)
    where
        C: Observed,
        P: Observed,
    {
        check(self.machine.close(handle));
        self.finish();
    }

    /// As [`Pc::finish`], whatever the hardware objects to: for hardware that breaks the rules
    /// itself.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn remove(&self) {
        assert_eq!(check(self.machine.remove(self.node)), NtStatus::SUCCESS);
        self.unload();
    }

    /// Unloads the driver of a port that is gone, and sees that nothing is left.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn unload(&self) {
        check(self.machine.unload(self.driver));
        assert_nothing_left(&self.machine);
    }
}

impl Default for Pc {
    fn default() -> Self {
        Self::new()
    }
}
