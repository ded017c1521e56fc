//! Devices that come, start, stop and go.

use super::{IrpResult, Machine};
use crate::bugcheck::Bugcheck;
use crate::hardware::{DeviceSpec, Resource};
use crate::{DevNode, DeviceIds, DriverId, NodeState, NtStatus, iomgr, pnp, sched};

/// What the PnP manager does about a device.
macro_rules! pnp_manager {
    ($($(#[$doc:meta])* $name:ident($what:literal) -> $result:ty = $act:expr;)*) => {
        impl Machine { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// A broken rule.
            pub fn $name(&self, node: DevNode) -> Result<$result, Bugcheck> {
                let act: fn(DevNode) -> $result = $act;
                sched::call($what, move || pnp::exclusive(|| act(node)))
            }
        )* }
    };
}

pnp_manager! {
    /// Starts the device with its resources; then capabilities, state and children. After a failed
    /// start the device gets its REMOVE.
    start("START_DEVICE") -> NtStatus = pnp::start;
    /// Asks for the device's children again.
    enumerate("enumeration") -> () = pnp::enumerate;
    /// `IRP_MN_QUERY_STOP_DEVICE`, children first. After a refusal each device that was asked gets
    /// `IRP_MN_CANCEL_STOP_DEVICE`.
    query_stop("QUERY_STOP") -> NtStatus = pnp::query_stop;
    /// `IRP_MN_STOP_DEVICE`. [`Machine::start`] starts the device again.
    stop("STOP") -> NtStatus = pnp::stop;
    /// `IRP_MN_CANCEL_STOP_DEVICE`.
    cancel_stop("CANCEL_STOP") -> NtStatus = |node| pnp::simple(node, 6);
    /// `IRP_MN_QUERY_REMOVE_DEVICE`, children first; refused without asking while a handle is open.
    /// After a refusal each device that was asked gets `IRP_MN_CANCEL_REMOVE_DEVICE`.
    query_remove("QUERY_REMOVE") -> NtStatus = pnp::query_remove;
    /// `IRP_MN_CANCEL_REMOVE_DEVICE`.
    cancel_remove("CANCEL_REMOVE") -> NtStatus = |node| pnp::simple(node, 3);
    /// The device disappears: `IRP_MN_SURPRISE_REMOVAL` for its children and itself, then REMOVE;
    /// REMOVE waits until the last handle is closed.
    unplug("surprise removal") -> NtStatus = pnp::unplug;
    /// `IRP_MN_REMOVE_DEVICE` for children and device, as after a granted query or a disable. The
    /// device stays on the bus and can be added again.
    remove("REMOVE") -> NtStatus = pnp::remove;
}

impl Machine {
    /// Asks for the device's children, after a driver above it put the device `other` into the list.
    /// Whether that is still there.
    ///
    /// # Errors
    /// A broken rule.
    pub fn enumerate_beside(&self, node: DevNode, other: DevNode) -> Result<bool, Bugcheck> {
        sched::call("enumeration", move || {
            pnp::exclusive(|| pnp::enumerate_beside(node, other))
        })
    }

    /// Changes the resources that the next [`Machine::start`] gives the device.
    pub fn set_resources(&self, node: DevNode, raw: &[Resource], translated: &[Resource]) {
        self.with(|k| {
            let spec = &mut k.pnp.nodes[node.0].spec;
            spec.raw = raw.to_vec();
            spec.translated = translated.to_vec();
        });
    }

    /// Other devices have these resources.
    pub fn occupy(&self, resources: &[Resource]) {
        self.with(|k| k.pnp.occupied.extend_from_slice(resources));
    }

    /// What the device was assigned last.
    #[must_use]
    pub fn assigned(&self, node: DevNode) -> Vec<Resource> {
        self.with(|k| k.pnp.nodes[node.0].spec.translated.clone())
    }

    /// `IRP_MN_FILTER_RESOURCE_REQUIREMENTS` with an `IO_RESOURCE_REQUIREMENTS_LIST` as bytes
    /// (empty = none). Gives the status and the list that came back.
    ///
    /// # Errors
    /// A broken rule.
    pub fn filter_resource_requirements(
        &self,
        node: DevNode,
        list: &[u8],
    ) -> Result<(NtStatus, Vec<u8>), Bugcheck> {
        let list = list.to_vec();
        sched::call("FILTER_RESOURCE_REQUIREMENTS", move || {
            pnp::exclusive(|| pnp::filter_requirements(node, &list))
        })
    }

    /// Plugs a device into the machine's bus.
    #[must_use]
    pub fn plug(&self, spec: DeviceSpec) -> DevNode {
        self.with(|k| pnp::plug(k, spec))
    }

    /// Calls the driver's AddDevice for the device.
    ///
    /// # Errors
    /// A broken rule.
    pub fn add_device(&self, node: DevNode, driver: DriverId) -> Result<NtStatus, Bugcheck> {
        sched::call("AddDevice", move || {
            pnp::exclusive(|| pnp::add_device(node, driver))
        })
    }

    /// Sends any PnP IRP, also one with a minor that does not exist. `arguments` are
    /// `Parameters.Others`. The device's state does not change.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_pnp_irp(&self, node: DevNode, minor: u8, arguments: [usize; 4]) -> IrpResult {
        self.send_irp(node, iomgr::PNP, minor, arguments)
    }

    /// The same as a filter above sends it that has set a status.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_answered_pnp_irp(&self, node: DevNode, minor: u8, status: NtStatus) -> IrpResult {
        sched::call("an IRP", move || {
            pnp::send(node, iomgr::PNP, minor, status, 0, |_| ())
        })
    }

    /// The device is off its bus, and its drivers have not noticed: what needs it fails. Its
    /// [`Machine::unplug`] is to follow.
    pub fn disconnect(&self, node: DevNode) {
        self.with(|k| pnp::disconnect(k, node));
    }

    /// Sends an `IRP_MJ_SYSTEM_CONTROL`; see [`Machine::send_pnp_irp`].
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_wmi_irp(&self, node: DevNode, minor: u8, arguments: [usize; 4]) -> IrpResult {
        self.send_irp(node, iomgr::SYSTEM_CONTROL, minor, arguments)
    }

    /// `TargetDeviceRelation`, as the PnP manager asks who is notified of a device: the status, and
    /// whether the list has the device itself and no other.
    ///
    /// # Errors
    /// A broken rule.
    pub fn target_relation(&self, node: DevNode) -> Result<(NtStatus, bool), Bugcheck> {
        sched::call("TargetDeviceRelation", move || {
            pnp::exclusive(|| pnp::query_target(node))
        })
    }

    /// Sends an IRP of a program's kind, as a driver does that has no open of the device. `arguments`
    /// are `Parameters.Others`.
    ///
    /// # Errors
    /// A broken rule.
    pub fn send_request_irp(&self, node: DevNode, major: u8, arguments: [usize; 4]) -> IrpResult {
        self.send_irp(node, major, 0, arguments)
    }

    #[allow(clippy::unused_self, reason = "every operation takes the machine")]
    fn send_irp(&self, node: DevNode, major: u8, minor: u8, arguments: [usize; 4]) -> IrpResult {
        sched::call("an IRP", move || {
            pnp::send(node, major, minor, NtStatus::NOT_SUPPORTED, 0, |sl| {
                sl.set_arg1(arguments[0]);
                sl.set_arg2(arguments[1]);
                sl.set_arg3(arguments[2]);
                sl.set_arg4(arguments[3]);
            })
        })
    }

    /// The device's state.
    #[must_use]
    pub fn node_state(&self, node: DevNode) -> NodeState {
        self.with(|k| k.pnp.nodes[node.0].state)
    }

    /// The device's children that are there, with `Enumerator\Device\Instance`.
    #[must_use]
    pub fn children(&self, node: DevNode) -> Vec<(DevNode, String)> {
        self.with(|k| {
            k.pnp.nodes[node.0]
                .children
                .iter()
                .filter_map(|c| Some((*c, pnp::instance_path(k, k.pnp.nodes[c.0].pdo)?)))
                .collect()
        })
    }

    /// What the device says of itself: ids, text, capabilities.
    #[must_use]
    pub fn device_ids(&self, node: DevNode) -> DeviceIds {
        self.with(|k| pnp::device_ids(k, node))
    }
}
