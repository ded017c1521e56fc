//! USB as a test uses it.

use std::cell::RefCell;
use std::rc::Rc;

use super::layout::IOCTL_INTERNAL_USB_SUBMIT_URB;
use super::{SharedFunction, Urb};
use crate::iomgr::{self, INTERNAL_DEVICE_CONTROL};
use crate::mem::Kind;
use crate::nt::{PASSIVE, ke};
use crate::sched::ThreadKind;
use crate::state::{Site, with};
use crate::{DevNode, DeviceSpec, IoResult, Machine, Pending, Slot};

impl DeviceSpec {
    /// A USB device of setup class Image, as the hub driver reports it.
    #[must_use]
    pub fn usb_image(vendor: u16, product: u16, release: u16, instance: &str) -> Self {
        let device_id = format!("VID_{vendor:04X}&PID_{product:04X}");
        Self {
            enumerator: "USB".into(),
            hardware_ids: vec![
                format!(r"USB\{device_id}&REV_{release:04X}"),
                format!(r"USB\{device_id}"),
            ],
            compatible_ids: vec![
                r"USB\Class_06&SubClass_01&Prot_01".into(),
                r"USB\Class_06&SubClass_01".into(),
                r"USB\Class_06".into(),
            ],
            device_id,
            instance: instance.into(),
            class: "Image".into(),
            class_guid: "{6bdd1fc6-810f-11d0-bec7-08002be2092f}".into(),
            // FILE_DEVICE_UNKNOWN
            device_type: 0x22,
            power_pagable: true,
            ..Self::default()
        }
    }
}

impl Machine {
    /// Plugs in a USB device with a model behind it.
    #[must_use]
    pub fn plug_usb(&self, spec: DeviceSpec, function: SharedFunction) -> DevNode {
        self.with(|k| super::plug(k, spec, function))
    }

    /// Pulls a USB device off its cable: its URBs end, and no driver knows yet.
    /// [`Machine::unplug`] is this and what the PnP manager does then.
    pub fn pull(&self, node: DevNode) {
        self.with(|k| {
            let pdo = k.pnp.nodes[node.0].pdo;
            super::disconnect(k, pdo);
        });
    }

    /// Whether a cancelled URB still gets the transaction that is on the bus: a host controller takes
    /// a transfer out of its schedule when that is over. It may be done by then, and succeeds.
    pub fn cancel_late(&self, late: bool) {
        self.with(|k| k.usb.cancels_late = late);
    }

    /// Whether the bus driver tells the pipes of a selected configuration in another order than the
    /// descriptors have them.
    pub fn reverse_pipes(&self, reverses: bool) {
        self.with(|k| k.usb.reverses = reverses);
    }

    /// Whether the USB stack maps the pages of transfers, as that of a host controller without DMA
    /// does.
    pub fn map_transfers(&self, maps: bool) {
        self.with(|k| k.usb.maps = maps);
    }

    /// The next control transfer, or the next one from a device, breaks off before a byte has come, and
    /// ends with this `USBD_STATUS`: what host controllers say of a bad cable, and of devices that err.
    pub fn break_transfer(&self, status: u32) {
        self.with(|k| k.usb.breaks_with = Some(status));
    }

    /// The node that replaced this one after `IOCTL_INTERNAL_USB_CYCLE_PORT`.
    #[must_use]
    pub fn replugged(&self, node: DevNode) -> Option<DevNode> {
        self.with(|k| {
            let list = &k.usb.replugged;
            list.iter()
                .find(|(old, _)| *old == node)
                .map(|(_, new)| *new)
        })
    }

    /// How many URBs were submitted since boot.
    #[must_use]
    pub fn urb_count(&self) -> u64 {
        self.with(|k| k.usb.count)
    }

    /// Every URB since boot, up to [`Config::trace_limit`](crate::Config::trace_limit).
    #[must_use]
    pub fn urbs(&self) -> Vec<Urb> {
        self.with(|k| k.usb.log.clone())
    }

    /// Sends a URB to a USB device's stack as a kernel component at this IRQL, and comes back at
    /// once, as [`Machine::start_io_control`].
    #[must_use]
    pub fn start_urb(&self, node: DevNode, urb: usize, irql: u8) -> Pending {
        self.start_usb_request(node, IOCTL_INTERNAL_USB_SUBMIT_URB, urb, irql)
    }

    /// Sends any internal request with `Parameters.Others.Argument1`; see [`Machine::start_urb`].
    #[must_use]
    pub fn start_usb_request(
        &self,
        node: DevNode,
        code: u32,
        argument: usize,
        irql: u8,
    ) -> Pending {
        let slot = Rc::new(RefCell::new(Slot {
            irp: None,
            result: None,
        }));
        let out = Rc::clone(&slot);
        let body = Box::new(move || {
            let (pdo, start) = with(|k| (k.pnp.nodes[node.0].pdo, k.now));
            let (irp, top) = iomgr::prepare(pdo, |_, sl| {
                sl.set_major(INTERNAL_DEVICE_CONTROL);
                sl.set_arg1(argument);
                sl.set_arg3(code as usize);
            });
            out.borrow_mut().irp = Some(irp.0);
            ke::set_irql(irql);
            let (status, information) = iomgr::send(irp, top);
            ke::set_irql(PASSIVE);
            out.borrow_mut().result = Some(IoResult {
                status,
                information,
                output: Vec::new(),
                took: with(|k| k.now) - start,
            });
        });
        self.with(|k| {
            if !k.sched.inside() {
                k.sched.steps = 0;
            }
            k.sched.spawn("USB client", ThreadKind::Caller, 0, body)
        });
        Pending(slot)
    }

    /// Allocates zeroed pool as a driver does, for [`Machine::free_pool`].
    #[must_use]
    pub fn allocate_pool(&self, size: usize, paged: bool) -> usize {
        let tag = Kind::Pool(u32::from_le_bytes(*b"Test"));
        self.with(|k| k.mem.alloc(size, tag, paged, None, Site::default(), || 0))
    }

    /// Frees what [`Machine::allocate_pool`] gave: a late touch is a broken rule.
    pub fn free_pool(&self, address: usize) {
        self.with(|k| k.mem.free(address, Site::default()));
    }
}
