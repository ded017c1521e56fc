//! The mode of the chip, the upper bits of its ECR, as the port's owner has chosen it.

use core::sync::atomic::{Ordering, fence};

use super::{super::Hardware, PortCore, clients::ANY};
use crate::{
    ieee1284::Ecr,
    ioctl::{Status, parallel::ChipMode},
    kernel::FileId,
};

/// The upper three bits of the ECR, its mode.
const CHIP_MODE: u8 = 0xE0;

impl PortCore {
    /// The data lines may be turned round from now on, until the port is freed: on a chip with an
    /// ECR its mode allows it. No line moves.
    pub(in crate::parallel) fn set_direction_mode(&self, hardware: &Hardware) {
        if hardware.capabilities().ecr {
            self.chip_mode.store(Ecr::PS2.bits(), Ordering::SeqCst);
            self.show_chip_mode();
        }
    }

    /// Puts the chip into the mode that its owner has chosen. If the port sleeps, that is done when
    /// its power is back.
    pub(super) fn show_chip_mode(&self) {
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

    pub(super) fn change_chip_mode(
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

    /// `IOCTL_INTERNAL_PARALLEL_SET_CHIP_MODE` and `TrySetChipMode`.
    pub(super) fn set_client_mode(&self, mode: u8) -> Status {
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

    /// `IOCTL_INTERNAL_PARALLEL_CLEAR_CHIP_MODE` and `ClearChipMode`.
    pub(super) fn clear_client_mode(&self, mode: u8) -> Status {
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
}
