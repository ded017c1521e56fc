//! The machine, as a test has it in its hands: boot, drivers, ports. What it can be told is in the
//! modules below, by what it is about.

mod devices;
mod faults;
mod requests;
mod sleep;
mod time;
mod view;

use core::fmt;
use std::path::Path;
use std::rc::Rc;

use crate::bugcheck::{Bugcheck, LoadError};
use crate::config::Config;
use crate::left_behind::after_unload;
use crate::mem::{self, Va, poke, poke_bytes};
use crate::nt::types::{DRIVER_EXTENSION_SIZE, DRIVER_NAME, DRIVER_SIZE, Drv, SERVICE_KEY_NAME};
use crate::state::{self, Core, Driver, Kernel, Site, fail, status_of, with};
use crate::{
    DriverId, NtStatus, RegValue, Registry, SharedPort, count, cpu, etw, image, iomgr, nt, pnp,
    ports, power, rules, sched, usb, user,
};

pub use faults::SeenStacks;
pub use requests::{Answer, Caller, Handle, IoResult, Pending};
pub(crate) use requests::{Slot, request_methods};
pub use time::Times;
pub use view::{DeviceInfo, Held};

/// What came of an IRP: its status and Information, or the rule that was broken.
pub type IrpResult = Result<(NtStatus, usize), Bugcheck>;

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Machine {
    core: Rc<Core>,
}

impl Machine {
    /// Makes a machine on the calling host thread.
    ///
    /// # Panics
    /// If the thread already has one.
    #[must_use]
    pub fn boot(config: Config) -> Self {
        cpu::install();
        cpu::reset();
        count::reset();
        let kernel = Kernel {
            rng: state::Rng::new(config.seed),
            mem: mem::Mem::new(config.keep_paged),
            sched: sched::Sched::new(config.measure_stacks),
            etw: etw::Etw::new(config.etw_level),
            config,
            now: 0,
            cpu_time: 0,
            ports: ports::Ports::default(),
            registry: Registry::default(),
            trace: Vec::new(),
            bugcheck: None,
            drivers: Vec::new(),
            devices: std::collections::BTreeMap::new(),
            links: std::collections::BTreeMap::new(),
            handles: std::collections::BTreeMap::new(),
            next_handle: 0,
            interfaces: Vec::new(),
            io: iomgr::Io::default(),
            pnp: pnp::Pnp::default(),
            po: power::Po::default(),
            usb: usb::Usb::default(),
            ke: nt::ke::Ke::default(),
            mdls: std::collections::BTreeMap::new(),
            user: user::UserMemory::default(),
            calls: 0,
            remove_locks: std::collections::BTreeMap::new(),
            work_items: std::collections::BTreeMap::new(),
            refs: std::collections::BTreeMap::new(),
            failable: 0,
            fail_at: Vec::new(),
            failed_calls: Vec::new(),
            inject: false,
            inject_into: None,
            panic: None,
            seen_stacks: None,
            points: None,
            #[cfg(target_arch = "x86_64")]
            coverage: None,
            data_exports: std::collections::HashMap::new(),
            counting: None,
        };
        let core = Rc::new(Core::new(kernel));
        core.enter();
        with(|k| {
            k.ke.cancel_lock = k.system_alloc(8, "the cancel spin lock");
            k.data_exports = nt::data_exports(k);
            let processes = [
                k.system_alloc(64, "the system process"),
                k.system_alloc(64, "a process"),
                k.system_alloc(64, "a 32-bit process"),
            ];
            k.io.set_processes(processes[0], processes[1], processes[2]);
            k.io.default_dispatch = iomgr::invalid_device_request as *const () as usize;
            for key in [
                r"\Registry\Machine\System\CurrentControlSet\Services",
                r"\Registry\Machine\System\CurrentControlSet\Enum",
                r"\Registry\Machine\System\CurrentControlSet\Control\Class",
            ] {
                k.registry.create(key);
            }
            k.pnp.bus = internal_driver(k, "ACPI", pnp::bus_dispatch as *const () as usize);
            k.usb.bus = internal_driver(k, "USBHUB3", usb::dispatch as *const () as usize);
            k.pnp.filter = internal_driver(
                k,
                "VerifierFilter",
                pnp::filter_dispatch as *const () as usize,
            );
        });
        Self { core }
    }

    /// The machine of the calling host thread, for hooks.
    pub(crate) fn current() -> Self {
        let core = state::current_core();
        // SAFETY: hooks run while a machine is alive; it lives in an `Rc`.
        unsafe { Rc::increment_strong_count(core) };
        // SAFETY: the count was raised just now.
        let core = unsafe { Rc::from_raw(core) };
        Self { core }
    }

    /// Puts a model behind I/O ports. `block` is what the model gets as its block number.
    pub fn map_ports(&self, base: u16, len: u16, block: usize, device: SharedPort) {
        self.with(|k| k.ports.map(base, len, block, device));
    }

    /// Takes away the range that starts at `base`: no device answers there any more.
    pub fn unmap_ports(&self, base: u16) {
        self.with(|k| k.ports.unmap(base));
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        debug_assert!(core::ptr::eq(Rc::as_ptr(&self.core), state::current_core()));
        with(f)
    }

    /// Loads a driver: maps it, makes its service key with the values of `Parameters`, runs
    /// DriverEntry.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load_driver(
        &self,
        path: impl AsRef<Path>,
        service: &str,
        parameters: &[(&str, RegValue)],
    ) -> Result<DriverId, LoadError> {
        let image = self.with(|k| {
            let data = k.data_exports.clone();
            let number = k.drivers.len();
            image::Image::load(
                path.as_ref(),
                &mut k.rng,
                &|name| data.get(name).copied(),
                number,
                k.config.patch_ports,
            )
        });
        let image = image.map_err(|e| match e {
            image::ImageError::Unreadable(what) => LoadError::Image(what),
            image::ImageError::UnknownImports(list) => LoadError::UnknownImports(list),
        })?;
        let entry = image.entry;
        #[cfg(target_arch = "x86_64")]
        if let Some(coverage) = self
            .with(|k| k.coverage)
            .or_else(crate::Coverage::of_environment)
        {
            coverage.arm(path.as_ref(), image.base);
        }
        let (id, object, path) = self.with(|k| {
            let key = format!(r"\Registry\Machine\System\CurrentControlSet\Services\{service}");
            k.registry.create(&key);
            k.registry.set(&key, "Type", &RegValue::Dword(1));
            k.registry.create(&format!(r"{key}\Parameters"));
            for (name, value) in parameters {
                k.registry.set(&format!(r"{key}\Parameters"), name, value);
            }
            let object = driver_object(k, service);
            Drv(object).set_start(image.base);
            Drv(object).set_size(u32::try_from(image.size).unwrap_or(0));
            Drv(object).set_init(entry);
            for section in &image.paged {
                k.mem.add_section(*section);
            }
            let path = unicode_string(k, &key);
            k.drivers.push(Driver {
                name: service.to_owned(),
                object,
                image: Some(image),
                loaded: true,
                service_key: key,
            });
            k.note(format!("driver {service}"));
            (DriverId(k.drivers.len() - 1), object, path)
        });
        let status = sched::call("DriverEntry", move || {
            let check = nt::Entry::now();
            let status = status_of(nt::guest(entry, &[object, path]));
            check.check("DriverEntry");
            // The registry path's string is gone after DriverEntry.
            with(|k| {
                let text: Va = mem::peek(path + 8);
                k.mem.free(text, Site::default());
                k.mem.free(path, Site::default());
            });
            status
        })?;
        if status.is_success() {
            // The I/O manager makes the devices that DriverEntry made ready to be opened.
            self.with(|k| {
                for d in k.devices.values().filter(|d| d.driver == id && !d.deleted) {
                    let dev = nt::types::Dev(d.va);
                    dev.set_flags(dev.flags() & !nt::types::DO_DEVICE_INITIALIZING);
                }
            });
            return Ok(id);
        }
        sched::call("unload", move || after_unload(id))?;
        Err(LoadError::EntryFailed(status))
    }

    /// Unloads the driver: `DriverUnload`, then everything it left behind is a broken rule. As on
    /// Windows that waits until no client has one of the driver's devices open.
    ///
    /// # Errors
    /// A broken rule; [`rules::HANG`] if a device stays open.
    pub fn unload(&self, driver: DriverId) -> Result<(), Bugcheck> {
        sched::call("unload", move || {
            // Queued PnP work first.
            pnp::exclusive(|| ());
            let closed = move |k: &Kernel| {
                k.devices
                    .values()
                    .all(|d| d.driver != driver || d.opens == 0)
            };
            if !with(|k| closed(k)) {
                sched::wait("the last handle to the driver's devices", None, closed);
            }
            let (object, name) = with(|k| (k.driver(driver).object, k.driver(driver).name.clone()));
            let routine = Drv(object).unload();
            if routine == 0 {
                fail(rules::NO_DISPATCH, format!("{name} has no DriverUnload"));
            }
            let entry = nt::Entry::now();
            nt::guest(routine, &[object]);
            entry.check("DriverUnload");
            after_unload(driver);
        })
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

fn unicode_string(k: &mut Kernel, text: &str) -> Va {
    let units = nt::types::wide(text);
    let buffer = k.system_alloc(units.len(), "a string");
    poke_bytes(buffer, &units);
    let string = k.system_alloc(16, "a UNICODE_STRING");
    nt::types::set_unicode(string, buffer, units.len() - 2, units.len());
    string
}

fn driver_object(k: &mut Kernel, name: &str) -> Va {
    let object = k.system_alloc(DRIVER_SIZE, "a driver object");
    let extension = k.system_alloc(DRIVER_EXTENSION_SIZE, "a driver extension");
    let drv = Drv(object);
    drv.set_kind(4);
    poke(object + 2, u16::try_from(DRIVER_SIZE).unwrap_or(0));
    drv.set_extension(extension);
    poke(extension, object);
    for (at, text) in [
        (object + DRIVER_NAME, format!(r"\Driver\{name}")),
        (extension + SERVICE_KEY_NAME, name.to_owned()),
    ] {
        let units = nt::types::wide(&text);
        let buffer = k.system_alloc(units.len(), "a string");
        poke_bytes(buffer, &units);
        nt::types::set_unicode(at, buffer, units.len() - 2, units.len());
    }
    for major in 0..28 {
        drv.set_major(major, k.io.default_dispatch);
    }
    object
}

fn internal_driver(k: &mut Kernel, name: &str, dispatch: Va) -> usize {
    let object = driver_object(k, name);
    for major in 0..28 {
        Drv(object).set_major(major, dispatch);
    }
    k.drivers.push(Driver {
        name: name.to_owned(),
        object,
        image: None,
        loaded: true,
        service_key: String::new(),
    });
    k.drivers.len() - 1
}
