//! The devices of the IEEE 1284.3 chain, and what the port's hardware can do.

use core::sync::atomic::Ordering;

use super::{super::Hardware, NONE, PortCore, UNKNOWN};
use crate::{
    ieee1284::{Before, Capabilities, daisy},
    ioctl::{Status, parallel::SelectCommand},
    kernel::{FileId, Owner, Owners, RundownGuard},
};

impl PortCore {
    /// The devices of the chain.
    pub(in crate::parallel) fn chain(&self) -> u8 {
        self.chain.load(Ordering::Acquire)
    }

    /// Whether registers answer behind the resources of the last start.
    pub(in crate::parallel) fn is_present(&self) -> bool {
        self.present.load(Ordering::Relaxed)
    }

    /// Whether peripherals may be asked who they are.
    pub(in crate::parallel) fn probes(&self) -> bool {
        self.probes.load(Ordering::Relaxed) && self.is_present()
    }

    /// Looks for the devices of the chain, once after a start. The port is the caller's, and a
    /// peripheral at rest is on it.
    pub(in crate::parallel) fn survey(&self, hardware: &Hardware) {
        if !self.surveyed.swap(true, Ordering::AcqRel) {
            self.assign_addresses(hardware);
        }
    }

    /// Looks for the devices of the chain; the data lines are as they were afterwards. The port is
    /// the caller's.
    pub(super) fn assign_addresses(&self, hardware: &Hardware) {
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
    #[inline]
    pub(in crate::parallel) fn capabilities(&self, hardware: &Hardware) -> Capabilities {
        let capabilities = hardware.capabilities();
        match self.byte.load(Ordering::Relaxed) {
            UNKNOWN => capabilities,
            byte => capabilities.with_byte(byte != 0),
        }
    }

    /// A session may have found more out.
    pub(in crate::parallel) fn learn(&self, capabilities: &Capabilities) {
        if let Some(byte) = capabilities.byte {
            self.byte.store(u8::from(byte), Ordering::Relaxed);
        }
    }

    /// The device that a command names; `None` is the end of the chain.
    ///
    /// # Errors
    /// `STATUS_INVALID_PARAMETER`
    pub(in crate::parallel) fn device_of(
        &self,
        command: SelectCommand,
    ) -> Result<Option<u8>, Status> {
        command.device(self.chain())
    }

    /// Selects a device of the chain, or the one at its end. The port is the caller's.
    /// `STATUS_UNSUCCESSFUL`: the device did not answer.
    pub(in crate::parallel) fn select(&self, device: Option<u8>) -> Status {
        let inside = self.hardware.enter();
        let hardware = inside.as_ref().map(RundownGuard::value);
        self.select_on(hardware.as_ref(), device)
    }

    /// Whether a device of the chain is selected, or the one at its end. The port is the caller's.
    pub(in crate::parallel) fn is_selected(&self, device: Option<u8>) -> bool {
        self.selected.load(Ordering::Acquire) == device.unwrap_or(NONE)
    }

    /// As [`PortCore::select`], on the hardware that was entered, if it is there.
    pub(in crate::parallel) fn select_on(
        &self,
        hardware: Option<&Hardware>,
        device: Option<u8>,
    ) -> Status {
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

    /// `IOCTL_INTERNAL_INIT_1284_3_BUS`, which asks for no port: it takes a free one.
    pub(super) fn initialize_chain(&self, file: FileId) -> Status {
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
            self.free_if(Owners::Only(Owner::Caller));
        }
        if self.chain() != before {
            self.pdo.children_changed();
        }
        status
    }

    pub(super) fn deselect_of(&self, command: SelectCommand, file: FileId) -> Status {
        if let Err(status) = self.device_of(command) {
            return status;
        }
        if !self.has_client(file) {
            return Status::INVALID_DEVICE_STATE;
        }
        let status = self.select(None);
        if !command.keeps_port() {
            self.free_if(Owners::Client(file));
        }
        status
    }

    /// The `PPT_*` bits of the port with its chain.
    #[inline]
    pub(in crate::parallel) fn ppt(&self, hardware: &Hardware) -> u32 {
        /// `PPT_1284_3_PRESENT`
        const CHAIN_PRESENT: u32 = 0x10;
        let chain = if self.chain() == 0 { 0 } else { CHAIN_PRESENT };
        self.capabilities(hardware).ppt() | chain
    }
}
